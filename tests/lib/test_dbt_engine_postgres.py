"""Markers, kills and cancellations on a real Postgres, whose server lives on when its client dies."""

import os
import pwd
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from test_dbt_engine import INCREMENTAL, Project, descendants, mark, wait_for
from test_kill_and_resume import processes_below

BIN = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
pytestmark = pytest.mark.skipif(BIN is None, reason="no Postgres server is installed")

SLEEPING = "query like '%pg_sleep(60)%' and pid <> pg_backend_pid()"
MODELS = {
    "plain": INCREMENTAL + "select 1 as one",
    "made": INCREMENTAL + "select 1 as one",
    "slow": INCREMENTAL + "select 1 as one from pg_sleep(60)",
    "hook_inside": "{{ config(materialized='incremental',"
    " post_hook='select 1 / {{ var(\"by\", 1) }}') }} select 1 as one",
    "hook_after": "{{ config(materialized='incremental',"
    " post_hook=after_commit('select 1 / {{ var(\"by\", 1) }}')) }} select 1 as one",
}


class Postgres:
    """A private server on a socket below a folder of its own."""

    def __init__(self, folder: Path):
        self.folder, self._as_owner = folder, {}
        folder.mkdir(mode=0o755)
        if os.geteuid() == 0:  # the server refuses to run as root
            owner = pwd.getpwnam("postgres")
            os.chown(folder, owner.pw_uid, owner.pw_gid)
            self._as_owner = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        self._call("initdb", "-U", "test", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C")
        options = f"-c listen_addresses= -k {folder} -c fsync=off -c shared_buffers=32MB"
        self._call("pg_ctl", "-w", "-s", "-l", str(folder / "log"), "-o", options, "start")

    def _call(self, program: str, *arguments: str) -> None:
        command = [BIN / program, "-D", self.folder / "data", *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self.folder, **self._as_owner)

    def query(self, sql: str) -> list[tuple]:
        with psycopg2.connect(host=str(self.folder), user="test", dbname="postgres") as connection:
            cursor = connection.cursor()
            cursor.execute(sql)
            return cursor.fetchall()

    def stop(self) -> None:
        self._call("pg_ctl", "-m", "immediate", "-s", "stop")


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    # Not below pytest's folder: a socket's path is short, and the server's user must be able to enter.
    folder = Path("/tmp", f"engine-pg-{os.getpid()}")
    server = Postgres(folder)
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def project(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Project:
    profile = (
        "engine: {target: dev, outputs: {dev: {type: postgres, user: test, password: '', port: 5432,"
        f" host: {postgres.folder}, dbname: postgres, schema: shop, threads: 2}}}}}}"
    )
    return Project(tmp_path_factory.mktemp("shop"), MODELS, files={"profiles.yml": profile})


@pytest.fixture(scope="module")
def engine(project: Project) -> Any:
    with project.engine() as engine:
        yield engine


def sleeping(postgres: Postgres) -> bool:
    return bool(postgres.query(f"select 1 from pg_stat_activity where {SLEEPING}"))


def test_a_marker_commits_with_the_rows(postgres: Postgres, project: Project, engine: Any) -> None:
    assert engine.committed(mark("p")) is False
    for attempt in (1, 2):
        assert project.run(engine, "plain", marker=mark("p", attempt)).status == "ok"
    assert engine.committed(mark("p")) is True
    assert postgres.query("select count(*) from shop.plain") == [(2,)]
    assert postgres.query("select attempt, committed_at is null from shop.sluice_commit order by 1") == [
        (1, False),
        (2, False),
    ]


@pytest.mark.parametrize(("model", "committed"), [("hook_inside", False), ("hook_after", True)])
def test_failing_hooks_and_the_marker(
    postgres: Postgres, project: Project, engine: Any, model: str, committed: bool
) -> None:
    assert project.run(engine, model).status == "ok"
    outcome = project.run(engine, model, vars={"by": 0}, marker=mark(model))
    assert (outcome.status, outcome.committed) == ("failed", committed)
    assert "division by zero" in outcome.error
    assert postgres.query(f"select count(*) from shop.{model}") == [(1 + committed,)]


def test_a_killed_worker_leaves_no_marker(postgres: Postgres, project: Project, engine: Any) -> None:
    def kill() -> None:
        wait_for(lambda: sleeping(postgres))
        os.kill(descendants(engine.pid)[0], signal.SIGKILL)

    threading.Thread(target=kill).start()
    assert project.run(engine, "slow", marker=mark("slow")).status == "lost"
    assert engine.committed(mark("slow")) is False


def test_cancel_ends_the_statement_on_the_server(postgres: Postgres, project: Project, engine: Any) -> None:
    postgres.query(f"select pg_terminate_backend(pid) from pg_stat_activity where {SLEEPING}")
    outcomes: list[Any] = []
    runner = threading.Thread(target=lambda: outcomes.append(project.run(engine, "slow", batch_id="cancelled")))
    runner.start()
    wait_for(lambda: sleeping(postgres))
    (worker,) = descendants(engine.pid)
    os.kill(worker, signal.SIGTERM)
    runner.join(3)
    assert outcomes[0].status == "lost"
    assert not sleeping(postgres)


@pytest.mark.long
def test_twins_run_at_the_same_time_and_one_that_dies_leaves_the_other(postgres: Postgres, project: Project) -> None:
    with project.engine() as engine, engine.twin() as twin:
        outcomes: list[Any] = []
        runner = threading.Thread(target=lambda: outcomes.append(project.run(twin, "slow", batch_id="of_the_twin")))
        runner.start()
        wait_for(lambda: sleeping(postgres), 30)
        loader, of_the_twin, worker = processes_below(engine.pid or 0)
        assert project.run(engine, "plain", marker=mark("beside")).status == "ok"
        assert sleeping(postgres), "the twin's batch is still running"
        assert len(processes_below(loader)) == 4, "each has a worker of its own"
        assert processes_below(of_the_twin) == [of_the_twin, worker]
        os.kill(worker, signal.SIGKILL)
        runner.join(10)
        assert outcomes[0].status == "lost"
        assert project.run(twin, "plain", marker=mark("after")).status == "ok"
        assert twin.committed(mark("beside")) is True
        assert project.run(engine, "made").status == "ok"  # a table that the twin's session does not know
        assert project.run(twin, "made", look_again=True).status == "ok"
        assert postgres.query("select count(*) from shop.made") == [(2,)]
    assert not Path(f"/proc/{of_the_twin}").exists()
