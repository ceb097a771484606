"""The roles of sql/grants/clickhouse.sql: each may what its work needs, and nothing else; asked of a real ClickHouse."""

import re
from collections.abc import Callable, Iterator

import pytest
from builders import a_plan, a_result
from test_grants import EVENTS, GRANTS, VIEWS

from sluice.clickhouse_server import ClickHouseServer, User
from sluice.errors import SluiceError
from sluice.state import State

NAMES = re.compile(
    rf"\b(FROM|INTO|TABLE|VIEW) ({'|'.join((*EVENTS, *VIEWS, 'model_lock', 'schema_version', 'mine'))})\b"
)
ROLES = ("runner", "optimizer", "observer", "audit")
READS = [f"SELECT * FROM {name}" for name in (*EVENTS, *VIEWS, "model_lock", "schema_version")]
ADDS = {name: f"INSERT INTO {name} SELECT * FROM {name} WHERE 0" for name in (*EVENTS, "model_lock", "schema_version")}
CHANGES = [
    *(f"{change} {name}" for name in EVENTS for change in ("TRUNCATE TABLE", "DROP TABLE")),
    *(f"ALTER TABLE {name} {how}" for name in (*EVENTS, "model_lock")
      for how in ("DELETE WHERE 1", "UPDATE run_id = 'x' WHERE 1", "ADD COLUMN x Int8", "DROP PARTITION tuple()")),
    *(f"DELETE FROM {name} WHERE 1" for name in EVENTS),
    "DROP DATABASE sluice", "CREATE TABLE mine (x Int8) ENGINE = Memory", "DROP VIEW run_log", "CREATE USER somebody",
    "CREATE OR REPLACE VIEW run_log AS SELECT 1", "GRANT SELECT ON sluice.* TO default", ADDS["schema_version"],
]  # fmt: skip


SCRIPT = [
    part.strip()
    for part in re.sub(r"--.*", "", GRANTS.with_name("clickhouse.sql").read_text()).split(";")
    if part.strip()
]


def rights(role: str) -> list[str]:
    """What the script grants to a role, each without TO: as the server takes it from its list of users."""
    granted = [re.fullmatch(r"(GRANT .* ON \S+) TO (.*)", part, re.DOTALL) for part in SCRIPT]
    return [grant[1] for grant in granted if grant and f"sluice_{role}" in grant[2].split(", ")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseServer]:
    """A ClickHouse with a store, the script carried out on its views, and for each role a user with its rights alone."""
    users = {"default": User(), **{role: User(role, grants=rights(role)) for role in ROLES}}
    with ClickHouseServer(tmp_path_factory.mktemp("clickhouse"), users=users) as server:
        owner = State.open(f"clickhouse://default@127.0.0.1:{server.http_port}/sluice")
        plan, batches = a_plan(run_id="run-0", models=["model.shop.another"])
        owner.begin_run(plan, "run-0")
        owner.record("run-0", batches[0], a_result(batches[0], run_id="run-0"), "shop")
        owner.close()
        for part in SCRIPT * 2:  # idempotent
            server.query(
                part if part.startswith("ALTER") else f"EXPLAIN AST {part}"
            )  # a server that keeps no roles can only read the others
        yield server


@pytest.fixture(scope="module")
def may(server: ClickHouseServer) -> Callable[..., list[str]]:
    """may(role, *statements): those that somebody with the role's rights may carry out."""

    def allowed(role: str, *statements: str) -> list[str]:
        found = []
        for statement in statements:
            try:
                server.query(NAMES.sub(r"\1 sluice.\2", statement), user=role)
                found.append(statement)
            except SluiceError as problem:
                if "ACCESS_DENIED" not in problem.message:
                    raise
        return found

    return allowed


def test_a_runner_does_all_of_a_run_and_cannot_rewrite_what_happened(may, server: ClickHouseServer) -> None:
    state = State.open(f"clickhouse://runner:runner@127.0.0.1:{server.http_port}/sluice")
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
    adds = [ADDS[name] for name in (*EVENTS, "model_lock")]
    assert may("runner", *READS, *adds) == [*READS, *adds]
    assert may("runner", *CHANGES) == []


def test_an_optimizer_reads_and_writes_nothing(may) -> None:
    assert may("optimizer", *READS) == READS
    assert may("optimizer", *CHANGES, *ADDS.values()) == []


def test_an_observer_sees_the_views_without_what_was_typed(may) -> None:
    seen = [f"SELECT * FROM {name}" for name in ("batch_log", "model_log", "auto_restart_history")]
    assert may("observer", *READS) == seen
    plain = "SELECT run_id, run_status, decision FROM run_log"
    assert may("observer", plain, *(f"SELECT {secret} FROM run_log" for secret in ("argv", "vars", "plan"))) == [plain]
    assert may("observer", *CHANGES, *ADDS.values()) == []


def test_an_audit_hook_adds_and_reads_the_log_alone(may) -> None:
    seen = [f"SELECT * FROM {name}" for name in ("run_log", "model_log", "schema_version")]
    assert may("audit", *READS) == seen
    assert may("audit", *CHANGES) == []
    values = {
        "run_event": "(event, at, run_id, root_run_id, plan_id, project_name, environment, intent, attempt) VALUES "
        "('began', now64(3), 'r', 'r', 'p', 'shop', 'dev', 'dbt', 1)",
        "model_event": "(at, run_id, project_name, model_name, unique_id, batch_id, status, duration_seconds) VALUES "
        "(now64(3), 'r', 'shop', 'm', 'model.shop.m', 'b', 'SUCCESS', 1)",
        "batch_event": "(event, at) VALUES ('intent', now64(3))",
        "model_lock": "(owner) VALUES ('x')",
    }
    inserts = [f"INSERT INTO {name} {row}" for name, row in values.items()]
    assert may("audit", *inserts) == inserts[:2]
