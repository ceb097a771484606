"""What a session does once instead of once per batch, and what it must leave alone."""

import os
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_dbt_engine import INCREMENTAL, MONTH, Project, mark

from sluice.dbt_engine import wire

HOOKS = """
on-run-start: "create table if not exists hooks (noted varchar)"
on-run-end: "insert into hooks values ('{{ results | length }} results')"
"""


@pytest.mark.usefixtures("lent_loader")
def test_on_run_hooks_run_once_per_session(tmp_path: Path) -> None:
    project = Project(tmp_path, {"month": MONTH}, settings=HOOKS)
    with project.engine() as engine:
        for month in range(3):
            outcome = project.run(engine, "month", vars={"start_month": month}, marker=mark(str(month)))
            assert (outcome.status, outcome.engine) == ("ok", "warm"), outcome
    assert project.query("select * from hooks") == [("3 results",)]
    assert not project.database.with_name("warehouse.duckdb.wal").exists()


@pytest.mark.usefixtures("lent_loader")
def test_a_hook_that_reads_a_var_runs_for_each_batch(tmp_path: Path) -> None:
    start = (
        "create table if not exists hooks as select '' as noted where false; insert into hooks values ('{{ month() }}')"
    )
    month = "{% macro month() %}{{ var('start_month', 'never') }}{% endmacro %}"
    project = Project(tmp_path, {"month": MONTH}, macros={"month": month}, settings=f'on-run-start: "{start}"')
    with project.engine() as engine:
        outcomes = [project.run(engine, "month", vars={"start_month": one}, marker=mark(one)) for one in ("1", "2")]
        assert engine.committed(mark("1")) is True
    assert [(one.status, one.engine) for one in outcomes] == [("ok", "fresh")] * 2
    assert project.query("select * from hooks") == [("1",), ("2",)]


@pytest.mark.usefixtures("lent_loader")
def test_a_failing_start_hook_stops_the_batch(tmp_path: Path) -> None:
    project = Project(tmp_path, {"month": MONTH}, settings='on-run-start: "select * from nowhere"')
    with project.engine() as engine:
        outcome = project.run(engine, "month")
    assert (outcome.status, outcome.nodes[0].status) == ("failed", "skipped")
    assert "nowhere does not exist" in outcome.error


def test_relative_paths_are_the_projects_and_base_vars_apply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = "engine: {target: dev, outputs: {dev: {type: duckdb, path: warehouse.duckdb, schema: main}}}"
    project = Project(tmp_path / "project", {"month": MONTH}, files={"profiles.yml": profile})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.delenv("SLUICE_LENT_LOADER", raising=False)  # which is in another folder
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "dbt_planted.py").write_text("raise SystemExit('imported from the working directory')")
    settings = {"project_dir": Path("../project"), "profiles_dir": None, "cache_dir": Path("cache")}
    with project.engine(**settings, base_vars={"start_month": "base"}) as engine:
        assert project.run(engine, "month").status == "ok"
        assert project.run(engine, "month", vars={"start_month": "own"}).status == "ok"
    assert project.query("select month from month order by 1") == [("base",), ("own",)]
    assert sorted(path.name for path in (tmp_path / "elsewhere").iterdir()) == ["cache", "dbt_planted.py"]
    assert "target" not in os.listdir(project.root)
    assert "dbt.log" not in os.listdir(project.root)


def test_secrets_stay_out_of_messages_and_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLUICE_LENT_LOADER", raising=False)  # it has the environment of whoever lends it
    monkeypatch.setenv("DBT_ENV_SECRET_KEY", "hunter2-hunter2")
    project = Project(tmp_path, {"leaks": INCREMENTAL + "select hunter2-hunter2"})
    with project.engine() as engine:
        outcome = project.run(engine, "leaks")
    assert outcome.status == "failed"
    assert "hunter2-hunter2" not in str(outcome) + (tmp_path / "logs" / "leaks.log").read_text()


@pytest.mark.long
@pytest.mark.usefixtures("lent_loader")
def test_python_and_microbatch_models_run_fresh(tmp_path: Path) -> None:
    microbatch = (
        "{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='day', begin='2024-01-01',"
        " batch_size='year', full_refresh=false) }} select date '2024-01-01' as day"
    )
    python = (
        "def model(dbt, session):\n    dbt.config(materialized='table')\n    return session.sql('select 1 as one')\n"
    )
    project = Project(tmp_path, {"micro": microbatch}, files={"models/snake.py": python})
    with project.engine() as engine:
        snake = project.run(engine, "snake")
        micro = project.run(engine, "micro", marker=mark("micro"))
        assert (snake.status, snake.engine) == ("ok", "fresh"), snake
        assert (micro.status, micro.engine) == ("ok", "fresh"), micro
        assert engine.committed(mark("micro")) == "not all of its nodes commit with their marker"


def test_a_session_whose_end_fails_is_over(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """Its connection may have gone: it must not wait for a request that never comes."""
    from sluice.dbt_engine import session

    def end() -> None:
        raise RuntimeError("connection reset")

    def invoke(*_: object, **__: object) -> None:
        requests = session.dbt_run.RunTask.keywords["requests"]
        session.Session._serve(SimpleNamespace(_requests=requests, _started=True, _end=end))

    monkeypatch.setattr(session.dbt_run, "RunTask", None)  # serve puts its own there
    monkeypatch.setattr(session.invocation, "invoke", invoke)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(5)
        wire.Channel(ours).send(wire.Finish())
        session.serve(wire.Settings("", None, None, "", {}), None, wire.Channel(theirs))
    assert "dbt: at the end: RuntimeError: connection reset" in capsys.readouterr().err
