"""The roles of sql/grants: each may what its work needs, and nothing else; asked of a real Postgres."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
from builders import a_plan, a_result

from sluice.state import State

pytest_plugins = ["servers"]
GRANTS = Path(__file__).parents[2] / "sql" / "grants" / "postgres.sql"
EVENTS = ("run_event", "batch_event", "model_event")
VIEWS = ("run_log", "batch_log", "model_log", "auto_restart_history")


@pytest.fixture(scope="module")
def granted(postgres) -> Iterator[dict[str, str]]:
    """The URL of a member of each role, in a database whose store the roles were granted on."""
    database, suffix = f"grants_{uuid.uuid4().hex[:8]}", uuid.uuid4().hex[:8]
    postgres.query(f"create database {database}")
    at = f"@127.0.0.1:{postgres.port}/{database}?sslmode=disable"
    owner = State.open(f"postgresql://test{at}")
    plan, batches = a_plan(run_id="run-0", models=["model.shop.another"])
    owner.begin_run(plan, "run-0")
    owner.record("run-0", batches[0], a_result(batches[0], run_id="run-0"), "shop")
    with psycopg2.connect(host="127.0.0.1", port=postgres.port, user="test", dbname=database) as connection:
        for _ in range(2):  # idempotent
            connection.cursor().execute(GRANTS.read_text())
    connection.close()
    roles = ("runner", "optimizer", "observer", "audit")
    for role in roles:
        postgres.query(f"create role {role}_{suffix} login in role sluice_{role}")
    yield {role: f"postgresql://{role}_{suffix}{at}" for role in roles}
    owner.close()
    postgres.query(f"drop database {database} with (force)")
    for role in roles:
        postgres.query(f"drop role {role}_{suffix}")
        postgres.query(f"drop role sluice_{role}")


def allowed(url: str, *statements: str) -> list[str]:
    """The statements that this user may carry out; none of them leaves anything."""
    connection = psycopg2.connect(url.replace("?sslmode=disable", "?options=-csearch_path%3Dsluice"))
    may = []
    for statement in statements:
        try:
            connection.cursor().execute(statement)
            may.append(statement)
        except psycopg2.errors.InsufficientPrivilege:
            pass
        connection.rollback()
    connection.close()
    return may


READS = [f"SELECT * FROM {name}" for name in (*EVENTS, *VIEWS, "model_lock", "schema_version")]
CHANGES = [
    *(f"{change} {name}" for name in EVENTS for change in ("DELETE FROM", "TRUNCATE", "DROP TABLE")),
    *(f"UPDATE {name} SET run_id = 'x'" for name in EVENTS),
    "UPDATE schema_version SET version = 99", "DELETE FROM schema_version", "DROP SCHEMA sluice CASCADE",
    "CREATE TABLE sluice.mine (x int)", "DROP VIEW run_log", "ALTER TABLE run_event ADD COLUMN x int",
    "CREATE ROLE somebody", "ALTER TABLE run_event DISABLE TRIGGER ALL",
]  # fmt: skip
ADD_RUN = """INSERT INTO run_event (event, at, run_id, root_run_id, plan_id, project_name, environment, intent, attempt)
             VALUES ('began', now(), 'r', 'r', 'p', 'shop', 'dev', 'daily', 1)"""
ADD_MODEL = """INSERT INTO model_event (at, run_id, project_name, model_name, unique_id, batch_id, status, duration_seconds)
               VALUES (now(), 'r', 'shop', 'm', 'model.shop.m', 'b', 'SUCCESS', 1)"""
ADD_BATCH = """INSERT INTO batch_event (event, at, run_id, root_run_id, plan_id, batch_id, batch_seq, stage, full_refresh, attempt)
               VALUES ('intent', now(), 'r', 'r', 'p', 'b', 1, 'default', false, 1)"""
FREE = "DELETE FROM model_lock"


def test_a_runner_does_all_of_a_run_and_cannot_rewrite_what_happened(granted: dict[str, str]) -> None:
    state = State.open(granted["runner"])
    plan, batches = a_plan(run_id="run-1", intent="daily")
    lock = state.store.lock("run-1")
    root = state.claim(plan, lock)
    state.begin_run(plan, root)
    attempt = state.intend("run-1", root, batches[0])
    state.record(root, batches[0], a_result(batches[0], attempt=attempt), "shop")
    state.end_run(plan, root, "SUCCESS", models_run=1, models_failed=0)
    state.release(plan)
    lock.release()
    assert [run["run_id"] for run in state.daily_history()] == ["run-1"]
    state.close()
    everything = [*READS, ADD_RUN, ADD_MODEL, ADD_BATCH, FREE]
    assert allowed(granted["runner"], *everything) == everything
    assert allowed(granted["runner"], *CHANGES) == []


def test_an_optimizer_reads_and_writes_nothing(granted: dict[str, str]) -> None:
    assert allowed(granted["optimizer"], *READS) == READS
    assert allowed(granted["optimizer"], *CHANGES, ADD_RUN, ADD_MODEL, ADD_BATCH, FREE) == []


def test_an_observer_sees_the_views_without_what_was_typed(granted: dict[str, str]) -> None:
    may = ["SELECT * FROM batch_log", "SELECT * FROM model_log", "SELECT * FROM auto_restart_history"]
    assert allowed(granted["observer"], *READS) == may
    assert allowed(granted["observer"], "SELECT run_id, run_status, decision FROM run_log") != []
    for secret in ("argv", "vars", "plan"):
        assert allowed(granted["observer"], f"SELECT {secret} FROM run_log") == []
    assert allowed(granted["observer"], *CHANGES, ADD_RUN, ADD_MODEL, ADD_BATCH, FREE) == []


def test_an_audit_hook_adds_and_reads_the_log_alone(granted: dict[str, str]) -> None:
    may = [*(f"SELECT * FROM {name}" for name in ("run_log", "model_log", "schema_version")), ADD_RUN, ADD_MODEL]
    assert allowed(granted["audit"], *READS, ADD_RUN, ADD_MODEL, ADD_BATCH, FREE) == may
    assert allowed(granted["audit"], *CHANGES) == []
