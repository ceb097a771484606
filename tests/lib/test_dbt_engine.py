"""The engine on real dbt and DuckDB: batches, markers, and what happens when processes die."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import duckdb
import pytest

from sluice.dbt_engine.client import Engine, EngineError, Outcome
from sluice.errors import SluiceError

INCREMENTAL = "{{ config(materialized='incremental', incremental_strategy='append') }}\n"
MONTH = INCREMENTAL + "select '{{ var('start_month', 'never') }}' as month"


class Project:
    """A dbt project on a DuckDB file below `root`; `models` are {name: SQL}."""

    def __init__(
        self,
        root: Path,
        models: dict[str, str],
        *,
        macros: dict[str, str] | None = None,
        files: dict[str, str] | None = None,
        settings: str = "",
        name: str = "shop",
    ):
        self.root, self.name, self.database = root, name, root / "warehouse.duckdb"
        self.files({f"models/{model}.sql": sql for model, sql in models.items()})
        self.files({f"macros/{macro}.sql": sql for macro, sql in (macros or {}).items()})
        self.files(
            {
                "dbt_project.yml": f"name: {name}\nversion: '1.0.0'\nprofile: engine\n{settings}\n",
                "profiles.yml": "engine:\n  target: dev\n  outputs:\n    dev:\n      type: duckdb\n"
                f"      path: {self.database}\n      schema: main\n      threads: 2\n",
                **(files or {}),
            }
        )

    def files(self, files: dict[str, str]) -> None:
        for path, text in files.items():
            path = self.root / path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def engine(self, **settings: Any) -> Engine:
        options = {
            "project_dir": self.root,
            "profiles_dir": self.root,
            "target": None,
            "cache_dir": self.root / "cache",
        }
        return Engine(**(options | settings))

    def run(self, engine: Engine, *names: str, **options: Any) -> Outcome:
        """Run models by name, or by unique_id where the name has a dot."""
        expect = [name if "." in name else f"model.{self.name}.{name}" for name in names]
        defaults = {"batch_id": names[0], "vars": {}, "full_refresh": False, "models": expect, "marker": None}
        log_path = self.root / "logs" / f"{options.get('batch_id', names[0])}.log"
        return engine.run(**(defaults | {"expect": expect, "log_path": log_path} | options))

    def query(self, sql: str) -> list[tuple]:
        with duckdb.connect(self.database) as connection:
            return connection.execute(sql).fetchall()


def tables(project: Project) -> dict[str, Any]:
    """{schema.table: (type, columns, sorted rows)} of all that is in the warehouse, but for the table of commits."""
    found = project.query("select table_schema, table_name, table_type from information_schema.tables")
    with duckdb.connect(project.database) as connection:
        content = {}
        for schema, table, kind in found:
            if table == "sluice_commit":
                continue
            rows = connection.execute(f'select * from "{schema}"."{table}"')
            columns = [column[0] for column in rows.description]
            content[f"{schema}.{table}"] = (kind, columns, sorted(rows.fetchall(), key=repr))
    return content


SHOP = {
    "month": MONTH,
    "twice": INCREMENTAL + "select 2 as two",
    "after_month": INCREMENTAL + "select *, 1 as one from {{ ref('month') }}",
    "full": INCREMENTAL + "select {{ flags.FULL_REFRESH }} as flag, {{ is_incremental() }} as incremental",
    "prints": INCREMENTAL + "{{ print('printed by jinja') }}{{ log('logged by jinja', info=true) }} select 1 as one",
    "notes": INCREMENTAL + "{{ log('sluice note: 3 ids are stale', info=true) }} select range as n from range(7)",
    "whole": "{{ config(materialized='table') }} select range as n from range(5)",
    "broken": INCREMENTAL + "select * from {{ 'nowhere' if var('break', true) else '(select 1 as one)' }}",
    "of_broken": INCREMENTAL + "select * from {{ ref('broken') }}",
    "hook_inside": "{{ config(materialized='incremental', post_hook='{{ maybe_fail() }}') }} select 1 as one",
    "hook_after": "{{ config(materialized='incremental', post_hook=after_commit('{{ maybe_fail() }}')) }} select 1 i",
    "slow": INCREMENTAL
    + "select count(*) as n from range(100000) a, range(10000000) b where a.range * b.range % 7 = 3",
}
SHOP_FILES = {
    "models/tagged/one.sql": "{{ config(tags=['nightly']) }} select 1 as one",
    "models/tagged/two.sql": "{{ config(tags=['nightly', 'big']) }} select * from {{ ref('one') }}",
    "seeds/seed.csv": "id\n1\n",
    "selectors.yml": "selectors: [{name: night, definition: {method: tag, value: nightly}}]",
}
MAYBE_FAIL = (
    "{% macro maybe_fail() %}select * from {{ 'nowhere' if var('fail', false) else '(select 1)' }}{% endmacro %}"
)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("shop"), SHOP, files=SHOP_FILES, macros={"maybe_fail": MAYBE_FAIL})


@pytest.fixture(scope="module")
def engine(shop: Project) -> Any:
    with shop.engine() as engine:
        yield engine


def rows(shop: Project, engine: Engine, table: str) -> int:
    """How many rows a table has, once the session has let go of the file."""
    engine.cancel()
    found = shop.query(f"select count(*) from information_schema.tables where table_name = '{table}'")
    return shop.query(f"select count(*) from {table}")[0][0] if found[0][0] else 0


def mark(batch_id: str, attempt: int = 1) -> dict:
    return {"root_run_id": "run-1", "batch_id": batch_id, "attempt": attempt}


def descendants(pid: int) -> list[int]:
    """Live processes in the loader's group, but for the loader."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != pid:
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == pid and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def wait_for(condition: Any, timeout_s: float = 10.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)
    return value


def caller(script: str, **options: Any) -> subprocess.Popen:
    """A process of its own that uses the engine."""
    path = os.pathsep.join([*sys.path, str(Path(__file__).parent)])
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment, **options)


def test_project_info_and_manifest(shop: Project, engine: Engine) -> None:
    info = engine.parse(write_manifest=True)
    assert (info.project_name, info.target, info.adapter) == ("shop", "dev", "duckdb")
    assert (info.database, info.schema) == ("warehouse", "main")
    assert '"model.shop.month"' in Path(info.manifest_path).read_text()
    written = os.stat(info.manifest_path).st_mtime_ns
    engine.parse(write_manifest=True)
    assert os.stat(info.manifest_path).st_mtime_ns == written
    assert not (shop.root / "target").exists()
    assert not (shop.root / "logs" / "dbt.log").exists()


@pytest.mark.parametrize(
    ("select", "exclude", "selector"),
    [
        ([], [], None),
        (["month"], [], None),
        (["month+"], [], None),
        (["+of_broken", "two"], [], None),
        (["tag:nightly"], ["tag:big"], None),
        (["tag:nightly,tag:big"], [], None),
        (["path:models/tagged"], [], None),
        (["shop.tagged.*"], [], None),
        (["1+two"], [], None),
        (["@one"], [], None),
        (["config.materialized:incremental"], ["slow", "b*"], None),
        ([], [], "night"),
        (["nothing_like_it"], [], None),
    ],
)
def test_ls_is_what_dbt_ls_lists(
    shop: Project, engine: Engine, dbt_ls: Any, select: list, exclude: list, selector: str
) -> None:
    assert engine.ls(select, exclude, selector) == dbt_ls(select, exclude, selector)


@pytest.fixture(scope="module")
def dbt_ls(shop: Project) -> Any:
    """`dbt ls` in one process that has dbt imported; {arguments} to sorted unique_ids."""
    code = (
        "import json, os, sys; from dbt.cli.main import dbtRunner\n"
        "out = os.fdopen(os.dup(1), 'w'); os.dup2(2, 1)\n"
        "for line in sys.stdin:\n"
        "    result = dbtRunner().invoke(json.loads(line))\n"
        "    print(json.dumps(sorted(json.loads(one)['unique_id'] for one in result.result)), file=out, flush=True)\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([sys.executable, "-c", code], text=True, cwd=shop.root, **pipes)

    def ls(select: list, exclude: list, selector: str | None) -> list[str]:
        line = ["ls", "--resource-type", "model", "--output", "json", "--output-keys", "unique_id"]
        line += ["--project-dir", str(shop.root), "--profiles-dir", str(shop.root), "--target-path", "ls-target"]
        for flag, values in (
            ("--select", select),
            ("--exclude", exclude),
            ("--selector", [selector] if selector else []),
        ):
            line += [flag, *values] if values else []
        print(json.dumps(line), file=process.stdin, flush=True)
        return json.loads(process.stdout.readline())

    yield ls
    process.stdin.close()
    process.wait()


@pytest.mark.parametrize(("select", "selector"), [(["nomethod:x"], None), ([], "nonesuch"), (["--inject"], None)])
def test_a_bad_selector_is_a_selection_error(engine: Engine, select: list, selector: str | None) -> None:
    if select == ["--inject"]:
        assert engine.ls(select, [], None) == []
        return
    with pytest.raises(EngineError) as raised:
        engine.ls(select, [], selector)
    assert raised.value.kind == "selection"


def test_full_refresh_is_per_batch(shop: Project, engine: Engine) -> None:
    for full_refresh in (True, False, True, False):
        assert shop.run(engine, "full", full_refresh=full_refresh).status == "ok"
    engine.cancel()
    assert shop.query("select * from main.full order by 1") == [(False, True), (True, False)]


def test_several_nodes_run_in_their_order(shop: Project, engine: Engine) -> None:
    outcome = shop.run(engine, "after_month", "twice", "month", vars={"start_month": "2024-01-01"})
    assert outcome.status == "ok"
    assert outcome.engine == "warm"
    ran = [node.unique_id for node in outcome.nodes]
    assert sorted(ran) == ["model.shop.after_month", "model.shop.month", "model.shop.twice"]
    assert ran.index("model.shop.month") < ran.index("model.shop.after_month")


def test_a_failure_names_its_cause_and_the_next_batch_runs(shop: Project, engine: Engine) -> None:
    outcome = shop.run(engine, "of_broken", "broken", "twice")
    status = {node.unique_id.split(".")[-1]: node.status for node in outcome.nodes}
    assert (outcome.status, status) == ("failed", {"broken": "failed", "of_broken": "skipped", "twice": "ok"})
    assert "nowhere does not exist" in outcome.error
    assert "nowhere does not exist" in (shop.root / "logs" / "of_broken.log").read_text()
    assert shop.run(engine, "of_broken", "broken", vars={"break": False}).status == "ok"


def test_output_goes_to_the_log_only(shop: Project, engine: Engine, capfd: pytest.CaptureFixture) -> None:
    assert shop.run(engine, "prints").status == "ok"
    log = shop.root / "logs" / "prints.log"
    assert capfd.readouterr() == ("", "")
    text = log.read_text()
    for part in (
        "printed by jinja",
        "logged by jinja",
        "create  table",
        "OK created sql incremental model main.prints",
    ):
        assert part in text
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_marker_commits_with_the_rows(shop: Project, engine: Engine) -> None:
    assert engine.committed(mark("m")) is False
    assert shop.run(engine, "month", "twice", marker=mark("m")).status == "ok"
    assert engine.committed(mark("m")) is True
    assert engine.committed(mark("other")) is False
    engine.cancel()
    written = shop.query("select unique_id, attempt, nodes from main.sluice_commit where batch_id = 'm' order by 1")
    assert written == [("model.shop.month", 1, 2), ("model.shop.twice", 1, 2)]


def test_what_was_written_is_counted_and_what_macros_note_is_heard(shop: Project, engine: Engine) -> None:
    for _ in range(2):
        outcome = shop.run(engine, "notes")
        assert ([node.rows for node in outcome.nodes], outcome.notes) == ([7], ["3 ids are stale"])
    whole = shop.run(engine, "whole", "prints")
    assert sorted(node.rows or 0 for node in whole.nodes) == [1, 5]
    assert whole.notes == [], "neither those of the batch before nor what is only logged"


def test_a_batch_committed_in_part_cannot_be_told(shop: Project, engine: Engine) -> None:
    outcome = shop.run(engine, "broken", "twice", marker=mark("partly"))
    assert (outcome.status, outcome.committed) == ("failed", "1 of its 2 nodes are committed")


@pytest.mark.parametrize(("model", "committed"), [("hook_inside", False), ("hook_after", True)])
def test_failing_hooks_and_the_marker(shop: Project, engine: Engine, model: str, committed: bool) -> None:
    assert shop.run(engine, model).status == "ok"
    before = rows(shop, engine, model)
    outcome = shop.run(engine, model, vars={"fail": True}, marker=mark(model))
    assert (outcome.status, outcome.committed) == ("failed", committed)
    assert engine.committed(mark(model)) is committed
    assert rows(shop, engine, model) == before + committed
    assert shop.run(engine, model).status == "ok"
    assert rows(shop, engine, model) == before + committed + 1


def test_a_killed_worker_is_a_lost_batch(shop: Project, engine: Engine) -> None:
    def kill() -> None:
        log = shop.root / "logs" / "killed.log"
        wait_for(lambda: log.exists() and "range(10000000)" in log.read_text())
        (worker,) = descendants(engine.pid)
        os.kill(worker, signal.SIGKILL)

    threading.Thread(target=kill).start()
    outcome = shop.run(engine, "slow", batch_id="killed", marker=mark("killed"))
    assert (outcome.status, "SIGKILL" in outcome.error) == ("lost", True)
    assert engine.committed(mark("killed")) is False
    assert shop.run(engine, "month").status == "ok"


def test_a_killed_loader_is_no_bug_of_ours(shop: Project) -> None:
    with shop.engine() as engine:
        engine.parse()
        os.kill(engine.pid, signal.SIGKILL)
        os.waitid(os.P_PID, engine.pid, os.WEXITED | os.WNOWAIT)
        for ask in (
            lambda: shop.run(engine, "month"),
            lambda: engine.committed(mark("m")),
            lambda: engine.ls([], [], None),
        ):
            with pytest.raises(SluiceError) as raised:
                ask()
            assert (raised.value.code, raised.value.exit_code) == ("dbt_gone", 69)


def test_cancel_stops_a_query_and_frees_the_file(shop: Project, engine: Engine) -> None:
    engine.cancel()
    script = (
        "import signal, sys, time; from pathlib import Path; from sluice import signals; signals.install()\n"
        "from test_dbt_engine import Project; shop = Project.__new__(Project)\n"
        f"shop.root, shop.name = Path({str(shop.root)!r}), 'shop'\n"
        "engine = shop.engine(cache_dir=shop.root / 'cache-2')\n"
        "try: shop.run(engine, 'slow', batch_id='cancelled')\n"
        "except signals.Interrupted:\n"
        "    began = time.monotonic(); engine.cancel(3.0); print(time.monotonic() - began)\n"
        "    print(engine.committed({'root_run_id': 'r', 'batch_id': 'b', 'attempt': 1}))\n"
        "    engine.close()\n"
    )
    shop_log = shop.root / "logs" / "cancelled.log"
    process = caller(script)
    wait_for(lambda: shop_log.exists() and "range(10000000)" in shop_log.read_text(), 60)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=30)[0].split()
    assert float(output[0]) < 3.0
    assert output[1] == b"False"
    assert process.returncode == 0
    shop.query("select 1")  # raises when another process has the file


def test_nothing_outlives_a_killed_caller(shop: Project, engine: Engine) -> None:
    engine.cancel()
    script = (
        "import sys; from pathlib import Path; from test_dbt_engine import Project; shop = Project.__new__(Project)\n"
        f"shop.root, shop.name = Path({str(shop.root)!r}), 'shop'\n"
        "engine = shop.engine(cache_dir=shop.root / 'cache-2'); print(engine.pid, flush=True)\n"
        "shop.run(engine, 'slow', batch_id='orphaned')\n"
    )
    log = shop.root / "logs" / "orphaned.log"
    process = caller(script)
    loader = int(process.stdout.readline())
    wait_for(lambda: log.exists() and "range(10000000)" in log.read_text(), 60)
    workers = descendants(loader)
    assert workers
    process.kill()
    process.wait()
    wait_for(lambda: not descendants(loader) and not Path(f"/proc/{loader}").exists(), 3)
    shop.query("select 1")


def test_a_locked_file_is_a_failed_batch_with_the_message(shop: Project, engine: Engine) -> None:
    engine.cancel()
    script = f"import duckdb; c = duckdb.connect({str(shop.database)!r}); print(1, flush=True); input()"
    holder = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    holder.stdout.readline()
    outcome = shop.run(engine, "month")
    assert outcome.status == "failed"
    assert "Could not set lock on file" in outcome.error
    assert "Could not set lock on file" in engine.committed(mark("m"))
    holder.communicate(b"\n")
    assert shop.run(engine, "month").status == "ok"


@pytest.mark.long
def test_sessions_are_recycled_and_memory_stays_flat(shop: Project, engine: Engine) -> None:
    def memory(pid: int) -> int:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096

    assert rows(shop, engine, "twice") >= 0
    workers, after_20, after_90 = [], 0, 0
    before = rows(shop, engine, "twice")
    for number in range(105):
        assert shop.run(engine, "twice", marker=mark(f"flat-{number}"), batch_id="flat").status == "ok"
        if number < 100:
            worker = descendants(engine.pid)
            if number in (20, 90):
                workers.append(worker)
                after_20, after_90 = (memory(worker[0]), 0) if number == 20 else (after_20, memory(worker[0]))
    assert workers[0] == workers[1] != descendants(engine.pid)
    assert after_90 - after_20 < 20 * 1024 * 1024
    assert rows(shop, engine, "twice") == before + 105


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"models/month.sql": "{{ config( }} select 1"}, "models/month.sql"),
        ({"models/schema.yml": "models: [{name: month"}, "schema.yml"),
        ({"models/month.sql": "select * from {{ ref('nonesuch') }}"}, "nonesuch"),
        ({"dbt_project.yml": "name: shop\n"}, "profile"),
        ({"profiles.yml": "engine: {target: dev, outputs: {prod: {type: duckdb}}}"}, "dev"),
    ],
    ids=["sql", "yaml", "ref", "project", "profile"],
)
def test_what_dbt_cannot_parse_is_a_configuration_error(broken: Any, files: dict, named: str) -> None:
    with pytest.raises(EngineError) as raised:
        broken(files)
    assert raised.value.kind == "configuration"
    assert named in str(raised.value)
    assert "Traceback" not in str(raised.value)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Parses a good project with some files replaced, again and again in one engine."""
    project = Project(tmp_path_factory.mktemp("broken"), {"month": MONTH})
    good = {path: (project.root / path).read_text() for path in ("dbt_project.yml", "profiles.yml", "models/month.sql")}
    with project.engine() as engine:

        def parse(files: dict) -> None:
            project.files({**good, "models/schema.yml": "", **files})
            engine.parse()

        yield parse
