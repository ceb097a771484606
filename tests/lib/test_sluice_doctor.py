"""The doctor: each check seen well and ill, on real servers, and none of them able to bring it down."""

import os
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest
from builders import FakeContext, a_plan
from test_delivery import TOKEN, BotApi
from test_guards import Project as Models

from sluice import config, sluice_doctor
from sluice.config import Config
from sluice.doctor import connection, last_success, machine, models, setup, store
from sluice.doctor.visit import Found, Visit
from sluice.errors import CONFIG, RED, SluiceError, misconfigured
from sluice.guards import ignored_vars
from sluice.profiles import Credentials
from sluice.records import SetupCheck
from sluice.sluice_doctor import CHECKS, Check
from sluice.state import State
from sluice.warehouse import connect

pytest_plugins = ["servers"]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def api() -> Iterator[BotApi]:
    api = BotApi()
    yield api
    api.close()


def visit(settings: Config, **parts: Any) -> Visit:
    """A visit some of whose parts are given."""
    found = Visit(FakeContext(settings, now=datetime.now(UTC)), timeout_s=5)
    found.__dict__ |= parts
    return found


def verdicts(look: Any, visit: Visit) -> list[str]:
    return [found.verdict for found in look(visit)]


def examined(settings: Config, *only: str, **options: Any) -> tuple[list[SetupCheck], int]:
    """The lines of these checks, and the exit code."""
    ctx = FakeContext(settings, now=datetime.now(UTC))
    given = {"all_targets": False, "timeout_s": 5.0} | options
    running, lines = sluice_doctor.sluice_doctor(ctx, only=list(only), **given), []
    while True:
        try:
            lines.append(next(running))
        except StopIteration as end:
            return lines, end.value


# -- the doctor itself --------------------------------------------------------------------------------------------


def raising(problem: Exception) -> Any:
    def look(_: Visit) -> Iterator[Found]:
        yield Found("ok", "so far")
        raise problem

    return look


@pytest.mark.parametrize(
    ("problem", "verdict", "says"),
    [
        (RuntimeError("boom"), "fail", "the check itself failed: RuntimeError('boom')"),
        (misconfigured("no such profile", code="x", hint="try this"), "fail", "no such profile"),
        (KeyError("bot123456:AAAAAA-secret"), "fail", "bot***"),
    ],
)
def test_a_check_that_breaks_is_a_line_and_the_others_go_on(
    own_settings: Config, monkeypatch: pytest.MonkeyPatch, problem: Exception, verdict: str, says: str
) -> None:
    monkeypatch.setattr(sluice_doctor, "CHECKS", {"broken": Check(raising(problem)), "python": CHECKS["python"]})
    lines, code = examined(own_settings)
    assert [(line.check, line.verdict) for line in lines] == [("broken", "ok"), ("broken", verdict), ("python", "ok")]
    assert says in lines[1].found
    assert lines[1].next
    assert code == RED


def test_a_broken_set_up_is_78_a_warning_0(own_settings: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def says(verdict: Any) -> Any:
        return lambda _: iter([Found(verdict, "x")])

    for checks, wanted in [
        ({"a": Check(says("warn"))}, 0),
        ({"a": Check(says("fail"))}, RED),
        ({"a": Check(says("fail")), "b": Check(says("fail"), CONFIG)}, CONFIG),
    ]:
        monkeypatch.setattr(sluice_doctor, "CHECKS", checks)
        assert examined(own_settings)[1] == wanted


def test_what_is_not_there_is_told_once(own_settings: Config, tmp_path: Path) -> None:
    settings = replace(own_settings, project_dir=tmp_path)
    lines, code = examined(settings, "project", "profile", "parse", "rights", "guards")
    assert [line.verdict for line in lines] == ["fail", "fail", "fail", "warn", "warn"]
    assert "no dbt_project.yml" in lines[0].found
    assert "see above" in lines[3].found
    assert code == CONFIG


def test_an_unknown_check_is_refused_with_the_known_ones(own_settings: Config) -> None:
    with pytest.raises(SluiceError, match="did you mean 'guards'"):
        examined(own_settings, "gards")


# -- packages -------------------------------------------------------------------------------------------------------


def test_packages_that_are_not_the_locks_are_named(
    own_settings: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(config, "ROOT", tmp_path)
    lock = (ROOT / "requirements.txt").read_text()
    (tmp_path / "requirements.txt").write_text(lock)
    (found,) = setup.lock(visit(own_settings))
    assert found.verdict == "ok", found.what
    assert f"all {lock.count(chr(10) + '    --hash') and len(setup.locked(lock))} packages" in found.what
    (tmp_path / "requirements.txt").write_text(lock + "nobody-has-this==1.0\nrich==0.1 \\\n    --hash=sha256:0\n")
    (found,) = setup.lock(visit(own_settings))
    assert found.verdict == "fail"
    assert "nobody-has-this is missing" in found.what
    assert "instead of 0.1" in found.what


def test_every_line_of_the_lock_is_read() -> None:
    text = 'a==1 \\\n    --hash=sha256:1\n# b==2\nc==3 ; python_version < "3"\nd[x]==4 ; python_version >= "3"\n'
    assert setup.locked(text) == {"a": "1", "d": "4"}


# -- the warehouse --------------------------------------------------------------------------------------------------


def test_a_target_that_answers(own_settings: Config, target: Credentials) -> None:
    own = visit(own_settings, credentials=target)
    (answer,), (right,) = connection.connection(own), connection.rights(own)
    assert (answer.verdict, right.verdict) == ("ok", "ok"), (answer, right)
    assert target.adapter in answer.what


def test_a_warehouse_that_is_away_fails_once_and_shows_no_password(own_settings: Config) -> None:
    fields = {"host": "127.0.0.1", "port": 9, "user": "somebody", "password": "hunter2-secret"}
    for adapter in ("postgres", "clickhouse"):
        database = "db" if adapter == "postgres" else None
        away = visit(own_settings, credentials=Credentials(adapter, "shop", adapter, database, "s", fields=fields))
        (found,) = connection.connection(away)
        assert found.verdict == "fail"
        assert "hunter2" not in f"{found}"
        lines = list(sluice_doctor._lines("rights", connection.rights, away))
        assert [line.verdict for line in lines] == ["warn"]


def test_a_duckdb_file_that_is_to_come_is_well_and_a_folder_that_is_not_there_is_not(
    own_settings: Config, tmp_path: Path
) -> None:
    for path, verdict in [(tmp_path / "new.duckdb", "ok"), (tmp_path / "no" / "new.duckdb", "fail")]:
        own = visit(
            own_settings, credentials=Credentials("duckdb", "shop", "dev", "new", "main", fields={"path": str(path)})
        )
        assert verdicts(connection.connection, own) == ["ok"]
        assert verdicts(connection.rights, own) == [verdict]
        lines = list(
            sluice_doctor._lines(
                "never-seeded",
                lambda v: models.never_filled(v),
                visit(own_settings, project=project_of({}), credentials=own.credentials),
            )
        )
        assert [line.verdict for line in lines] == ["ok"]
    assert not (tmp_path / "new.duckdb").exists()


def project_of(nodes: dict) -> Any:
    return SimpleNamespace(manifest=SimpleNamespace(nodes=nodes), select=lambda *_: list(nodes))


def test_a_user_who_may_only_read_in_postgres(
    own_settings: Config, postgres: Any, postgres_target: Credentials
) -> None:
    schema = postgres_target.schema
    postgres.query(f"create role reader_{schema} login")
    reader = replace(postgres_target, fields={**postgres_target.fields, "user": f"reader_{schema}"})
    (found,) = connection.rights(visit(own_settings, credentials=reader))
    assert (found.verdict, found.next) == ("fail", f'GRANT USAGE, CREATE ON SCHEMA "{schema}" TO "reader_{schema}"')
    postgres.query(str(found.next))  # what it says to type is what helps
    assert verdicts(connection.rights, visit(own_settings, credentials=reader)) == ["ok"]
    new = replace(reader, schema="not_there_yet")
    (found,) = connection.rights(visit(own_settings, credentials=new))
    assert (found.verdict, "GRANT CREATE ON DATABASE" in str(found.next)) == ("fail", True)
    postgres.query(f"drop owned by reader_{schema}")
    postgres.query(f"drop role reader_{schema}")


def test_a_user_who_may_only_read_in_clickhouse(own_settings: Config, clickhouse_target: Credentials) -> None:
    reader = replace(clickhouse_target, fields={**clickhouse_target.fields, "user": "reader", "password": "reader"})
    (found,) = connection.rights(visit(own_settings, credentials=reader))
    assert found.verdict == "fail"
    assert "readonly" in found.what


def test_a_poisoned_mutation_is_named_with_what_kills_it(own_settings: Config, clickhouse_target: Credentials) -> None:
    own = visit(own_settings, credentials=clickhouse_target, project=project_of({}))
    own.project.manifest.of_type = lambda _: {}
    assert verdicts(connection.mutations, own) == ["ok"]
    with connect(clickhouse_target, tag="test") as warehouse:
        table = warehouse.relation(None, clickhouse_target.schema, "prices")
        warehouse.execute(f"create table {table} (n Int32) engine = MergeTree order by n")
        warehouse.execute(f"insert into {table} values (7)")
        poison = f"alter table {table} delete where throwIf(n = 7, 'poison')"
        warehouse.execute(poison, settings={"mutations_sync": 0})
        for _ in range(300):
            if warehouse.value(
                "select count() from system.mutations where latest_fail_reason != '' and database = $s",
                {"s": clickhouse_target.schema},
            ):
                break
    (found,) = connection.mutations(own)
    assert found.verdict == "fail"
    assert "prices: mutation" in found.what
    assert "KILL MUTATION WHERE" in str(found.next)


# -- the models -----------------------------------------------------------------------------------------------------

USES = "select day, symbol from x where {{ month_filter('day') }} and {{ symbol_filter('symbol') }}"
STAGES = {"stages": [{"name": "a", "vars": {"symbol": "A"}}, {"name": "b", "vars": {"symbol_exclude": "A"}}]}


@pytest.mark.parametrize(
    ("sql", "block", "ignored"),
    [
        ("select 1", {}, ["start_month", "end_month"]),
        ("select {{ var('start_month') }}, {{ var(\"end_month\") }}", {}, []),
        ("select '{{ var('start_month') }}' -- 'end_month'", {}, ["end_month"]),
        ("select {{ var('start_month') ~ var('end_month') }} from x", STAGES, ["symbol", "symbol_exclude"]),
        ("select {{ var('start_month') ~ var('end_month') ~ var('symbol') }} from x", STAGES, []),
        (
            "select {{ var('start_month') ~ var('end_month') }} where {{ index_range_filter('validator_index') }}",
            {"stages": [{"name": "a", "vars": {"validator_index_start": 0}}, {"name": "b", "vars": {"other": 1}}]},
            ["other"],
        ),
        ("select {{ var('start_month') ~ var('end_month') }}", {"stages": [{"name": "a", "vars": {"symbol": "A"}}]}, []),
    ],
)  # fmt: skip
def test_vars_that_are_passed_and_not_read(tmp_path: Path, sql: str, block: dict, ignored: list[str]) -> None:
    project = Models(tmp_path, {"m": {"sql": sql, "block": block, "filters": False}})
    uid = "model.shop.m"
    assert ignored_vars.VarUse(project.manifest).ignored(project.manifest.nodes[uid], project.blocks[uid]) == ignored


def test_a_var_that_a_macro_reads_is_read_and_a_computed_name_is_not_judged(tmp_path: Path) -> None:
    macro = {
        "unique_id": "macro.shop.window",
        "name": "window",
        "package_name": "shop",
        "macro_sql": "{% macro window() %}{{ var('start_month') }}{{ var('end_month') }}{% endmacro %}",
    }
    own = {"m": "select 1 where {{ window() }}", "c": "{{ var(name) }}"}
    models = {name: {"sql": sql, "block": {}, "filters": False} for name, sql in own.items()}
    project = Models(tmp_path, models, macros={"macro.shop.window": macro})
    use, nodes = ignored_vars.VarUse(project.manifest), project.manifest.nodes
    assert [use.ignored(nodes[uid], project.blocks[uid]) for uid in project.models] == [[], []]


FILES = {
    "dbt_project.yml": "name: shop\nprofile: shop\nmodel-paths: [models]\n",
    "profiles.yml": "shop: {target: dev, outputs: {dev: {type: duckdb, path: shop.duckdb}, far: {type: postgres, host: 127.0.0.1, port: 9, user: u, dbname: d, schema: s}}}\n",
    "models/well.sql": "{{ config(materialized='incremental', meta={'full_refresh': {'start_date': '2024-01-01'}}) }}\n"
    "select date '2024-01-01' as day where '{{ var('start_month', '') }}' != '{{ var('end_month', '-') }}'",
    "models/deaf.sql": "{{ config(materialized='incremental', meta={'full_refresh': {'start_date': '2024-01-01'}}) }}\nselect date '2024-01-01' as day",
    "models/flat.sql": "{{ config(materialized='table', meta={'full_refresh': {'start_date': '2024-01-01'}}) }}\n"
    "select '{{ var('start_month', '') }}{{ var('end_month', '') }}' as m",
    "models/wrong.sql": "{{ config(meta={'full_refresh': {'start_dat': '2024-01-01'}}) }}\nselect 1 as n",
    "models/never.sql": "{{ config(materialized='incremental') }}\nselect 1 as n\n"
    "{% if is_incremental() %}where 1 > (select max(n) from {{ this }}){% endif %}",
}  # fmt: skip


def test_a_project_with_a_model_of_each_illness(own_settings: Config, tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as database:
        database.execute("create table never (n integer); create table well as select date '2024-01-01' as day")
    settings = replace(own_settings, project_dir=tmp_path, profiles_dir=tmp_path)
    before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*.sql"))
    lines, code = examined(
        settings, "project", "profile", "parse", "connection", "macros", "ignored-vars", "guards", "never-seeded",
        "stale-code", "state", "locks", all_targets=True,
    )  # fmt: skip
    told: dict[str, list[tuple[str, str]]] = {}
    for line in lines:
        told.setdefault(line.check, []).append((line.verdict, line.found))
    assert all(
        verdict == "ok" for name in ("project", "profile", "parse", "connection") for verdict, _ in told[name]
    ), told
    assert [verdict for verdict, _ in told["other-targets"]] == ["warn"]
    assert told["macros"][0][0] == "warn"
    (deaf,) = told["ignored-vars"]
    assert deaf[0] == "fail"
    assert "model deaf ignores start_month, end_month" in deaf[1]
    guards = " ".join(found for _, found in told["guards"])
    assert "start_dat" in guards
    assert "G01 table-batched: models/flat.sql: model flat" in guards
    ((verdict, found),) = told["never-seeded"]
    assert (verdict, "never is empty and its SELECT is not" in found) == ("fail", True)
    assert [told[name][0][0] for name in ("stale-code", "state", "locks")] == ["ok"] * 3
    assert code == RED
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as database:
        assert database.execute("select count(*) from never").fetchall() == [(0,)]
    assert not (tmp_path / "target").exists()
    assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*.sql")) == before
    assert not (settings.state_dir / "state.sqlite").exists()


def test_a_model_that_changed_since_it_was_built(own_settings: Config, tmp_path: Path) -> None:
    known = Models(tmp_path, {"a": {}, "b": {}}).manifest
    built = {
        uid: SimpleNamespace(checksum=known.code_checksum(uid)[:16], last_at="x")
        for uid in ("model.shop.a", "model.shop.b")
    }
    state = SimpleNamespace(built=lambda project, target: built)
    info = SimpleNamespace(project_name="shop", target="dev")
    for sql, verdict in [("select symbol, day from x", "ok"), ("select 2", "warn")]:
        now = Models(tmp_path, {"a": {}, "b": {"sql": sql}}).manifest
        (found,) = models.changed_code(
            visit(own_settings, state=state, project=SimpleNamespace(manifest=now, info=info))
        )
        assert found.verdict == verdict
    assert (found.what.endswith(": b"), found.next) == (True, "plan-batches --select b | run-dbt-batch")


def test_the_bundled_project_has_the_package_and_a_changed_macro_is_seen(tmp_path: Path) -> None:
    package = tmp_path / "package"
    (package / "macros").mkdir(parents=True)
    for name, body in [("one", "select 1"), ("two", "select 2"), ("three", "select 3")]:
        (package / "macros" / f"{name}.sql").write_text(
            f"{{#- why -#}}\n{{% macro {name}() %}}{body}{{% endmacro %}}\n"
        )
    there = {
        "one": "{% macro one() %}select 1{% endmacro %}",
        "two": "{% macro two() %}select 22{% endmacro %}",
    }
    macros = {
        f"macro.sluice.{name}": {
            "unique_id": f"macro.sluice.{name}",
            "name": name,
            "package_name": "sluice",
            "macro_sql": sql,
        }
        for name, sql in there.items()
    }
    assert setup.compared(Models(tmp_path, {}, macros=macros).manifest, package) == (["three"], ["two"])


# -- the state store ------------------------------------------------------------------------------------------------


def test_a_store_of_an_older_schema_is_not_upgraded_by_looking(own_settings: Config) -> None:
    path = own_settings.state_dir / "state.sqlite"
    State.open(own_settings.state_url).close()
    assert verdicts(store.state_store, visit(own_settings)) == ["ok"]
    with sqlite3.connect(path) as database:
        database.execute("UPDATE schema_version SET version = 1")
    database.close()
    (found,) = store.state_store(visit(own_settings))
    assert (found.verdict, "has schema 1" in found.what) == ("warn", True)
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT version FROM schema_version").fetchall() == [(1,)]
    database.close()
    path.write_bytes(b"no database at all" * 100)
    ((line,), code) = examined(own_settings, "state")
    assert (line.verdict, "damaged" in line.found, code) == ("fail", True, RED)


def test_locks_of_the_living_and_of_the_dead(own_settings: Config) -> None:
    state = State.open(own_settings.state_url)
    plan, _ = a_plan()
    lock = state.store.lock(plan.run_id)
    state.claim(plan, lock)
    state.begin_run(plan, plan.run_id)
    (found,) = store.locks(visit(own_settings))
    assert (found.verdict, f"pid {os.getpid()}" in found.what) == ("ok", True)
    lock.release()  # as when the process dies: its rows stay
    (found,) = store.locks(visit(own_settings))
    assert (found.verdict, found.next) == ("warn", "plan-batches --resume | run-dbt-batch")
    state.close()


@pytest.mark.parametrize(("age_h", "max_age_h", "code"), [(None, 1, RED), (2, 1, RED), (1, 26, 0), (-5, 1, 0)])
def test_whether_a_run_succeeded_lately(own_settings: Config, age_h: int | None, max_age_h: int, code: int) -> None:
    ctx = FakeContext(own_settings, now=datetime.now(UTC) + timedelta(hours=age_h or 0, seconds=9))
    if age_h is not None:
        state = State.open(own_settings.state_url)
        plan, _ = a_plan()
        state.begin_run(plan, plan.run_id)
        state.end_run(plan, plan.run_id, "SUCCESS", models_run=1, models_failed=0)
        state.close()
    running = last_success.judged(ctx, timedelta(hours=max_age_h))
    line = next(running)
    with pytest.raises(StopIteration) as end:
        next(running)
    assert (end.value.value, line.verdict) == (code, "fail" if code else "ok")


def test_a_store_that_cannot_be_read_is_no_success(own_settings: Config) -> None:
    own_settings.state_dir.mkdir()
    (own_settings.state_dir / "state.sqlite").write_bytes(b"no database at all" * 100)
    line = next(last_success.judged(FakeContext(own_settings), timedelta(days=9)))
    assert (line.verdict, "damaged" in line.found) == ("fail", True)


# -- Telegram, disk, clock --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "verdict", "says"),
    [
        (None, "ok", "sends as @sluice_bot to 2 chats"),
        ((401, "Unauthorized", None), "fail", "TELEGRAM_BOT_TOKEN is wrong"),
        ("away", "warn", "cannot be reached"),
    ],
)
def test_telegram_is_asked_who_we_are_and_the_token_is_never_shown(
    own_settings: Config,
    api: BotApi,
    monkeypatch: pytest.MonkeyPatch,
    heard: Any,
    capfd: Any,
    answer: Any,
    verdict: str,
    says: str,
) -> None:
    monkeypatch.setenv("TELEGRAM_BOT_TOKEN", TOKEN)
    monkeypatch.setenv("TELEGRAM_CHAT_ID", "7,8")
    settings = replace(own_settings, telegram_api="http://127.0.0.1:9" if answer == "away" else api.url)
    api.answers = [answer] if isinstance(answer, tuple) else []
    ((line,), _) = examined(settings, "telegram")
    assert (line.verdict, says in line.found) == (verdict, True), line
    assert "secret" not in f"{line}{heard.text}{capfd.readouterr()}"
    assert api.texts == []


def test_without_telegram_there_is_a_warning(own_settings: Config) -> None:
    ((line,), code) = examined(own_settings, "telegram")
    assert (line.verdict, code) == ("warn", 0)


@pytest.mark.parametrize(("free", "wanted"), [(10**12, "ok"), (10**9, "warn"), (10**8, "fail")])
def test_free_space(own_settings: Config, monkeypatch: pytest.MonkeyPatch, free: int, wanted: str) -> None:
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    file = Credentials("duckdb", "shop", "dev", "x", "main", fields={"path": str(own_settings.log_dir / "x.duckdb")})
    assert verdicts(machine.disk, visit(own_settings, credentials=file)) == [wanted] * 3


def test_a_clock_that_is_behind_what_was_recorded(own_settings: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    state = State.open(own_settings.state_url)
    file = Credentials("duckdb", "shop", "dev", "x", "main", fields={"path": ":memory:"})
    assert verdicts(machine.clock, visit(own_settings, credentials=file, state=state)) == ["ok"]
    monkeypatch.setattr("sluice.state.timestamp", lambda: "2999-01-01T00:00:00.000Z")
    plan, _ = a_plan()
    state.begin_run(plan, plan.run_id)
    (found,) = machine.clock(visit(own_settings, credentials=file, state=state))
    assert (found.verdict, "2999-01-01" in found.what) == ("fail", True)
    state.close()


@pytest.mark.parametrize(("ahead_s", "verdict"), [(0, "ok"), (120, "warn"), (4000, "fail")])
def test_the_clock_is_compared_with_the_warehouses(
    own_settings: Config, postgres_target: Credentials, monkeypatch: pytest.MonkeyPatch, ahead_s: int, verdict: str
) -> None:
    own = visit(own_settings, credentials=postgres_target, state=None)
    monkeypatch.setitem(machine._NOW, "postgres", f"{machine._NOW['postgres']} + {ahead_s}")
    assert verdicts(machine.clock, own) == [verdict]
