"""The hooks of the dbt package: what a plain dbt run leaves in the warehouse's own log, on each engine, in how many statements."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from plain_dbt import PlainDbt
from servers import LONG_ENGINES
from test_dbt_package import PACKAGE, User, output

from sluice.past_runs import Past, last_dbt_run, with_dbt_run
from sluice.profiles import Credentials
from sluice.restart import Job, Outcome, PastRun, Policy, decide
from sluice.warehouse import connect

pytest_plugins = ["servers"]
TESTS = {"models": [{"name": "orders", "columns": [{"name": "id", "data_tests": ["not_null"]}]}]}


class Audited(User):
    """Three models with a test, one of them broken on demand; their schema of audit tables is the test's own."""

    def __init__(self, folder: Path, target: Credentials):
        self.project, self.target = folder / "user", target
        self.audit = f"audit_{target.schema}"
        where = {"clickhouse": {"+order_by": "id"}}.get(target.adapter, {})
        for name, content in {
            "dbt_project.yml": yaml.safe_dump({
                "name": "shop", "version": "1.0.0", "profile": "shop", "flags": {"send_anonymous_usage_stats": False},
                "on-run-start": "{{ sluice.audit_on_run_start() }}", "on-run-end": "{{ sluice.audit_on_run_end(results) }}",
                "vars": {"sluice_audit_schema": self.audit}, "models": {"shop": {"+materialized": "table", **where}},
            }),
            "profiles.yml": yaml.safe_dump({"shop": {"outputs": {target.target: output(target)}, "target": target.target}}),
            "models/orders.sql": "select 1 as id",
            "models/broken.sql": "select {{ 'no_such_column' if var('break', false) else 'id' }} as id from {{ ref('orders') }}",
            "models/reader.sql": "select id from {{ ref('broken') }}",
            "models/schema.yml": yaml.safe_dump(TESTS),
        }.items():  # fmt: skip
            path = self.project / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        (self.project / "dbt_packages").mkdir()
        (self.project / "dbt_packages" / "sluice").symlink_to(PACKAGE)

    @property
    def at(self) -> str:
        return f"{self.target.database}.{self.audit}" if self.target.adapter == "duckdb" else self.audit


@pytest.fixture
def audited(tmp_path: Path, target: Credentials, request: pytest.FixtureRequest):
    made = Audited(tmp_path, target)
    yield made
    if target.adapter != "duckdb":
        drop = {"postgres": "drop schema if exists {} cascade", "clickhouse": "DROP DATABASE IF EXISTS {} SYNC"}
        request.getfixturevalue(target.adapter).query(drop[target.adapter].format(made.audit))


@pytest.mark.parametrize("target", ["duckdb", *LONG_ENGINES], indirect=True)
def test_a_plain_dbt_run_is_in_the_log_with_what_became_of_each_node(audited: Audited) -> None:
    audited.dbt(["build", "--vars", json.dumps({"break": True, "o'k": "it's"})], ["run", "--select", "orders"])
    runs: list[Any] = audited.query(
        f"select run_status, models_run, models_failed, intent, argv, vars, project_name, environment from {audited.at}.run_log "
        "order by run_started_at"
    )
    (failed, *rest), (good, *_) = runs
    assert (failed, good) == ("FAILED", "SUCCESS")
    assert tuple(rest[:3]) == (3, 1, "dbt")
    assert json.loads(rest[3])["which"] == "build"
    assert json.loads(rest[4]) == {"break": True, "o'k": "it's"}
    assert tuple(rest[5:]) == ("shop", audited.target.target)
    nodes = audited.query(
        f"select model_name, status, materialization, schema_name, message is not null, duration_seconds >= 0 from "
        f"{audited.at}.model_log order by log_id"
    )
    by_name = {name: (status, *more) for name, status, *more in nodes if not name.startswith("not_null")}
    assert by_name["broken"] == ("ERROR", "table", audited.target.schema, True, True)
    assert by_name["reader"][0] == "SKIPPED"
    assert {status for name, status, *_ in nodes if name in ("orders", "not_null_orders_id")} == {"SUCCESS"}
    assert len(nodes) == 5  # orders, its test, broken, reader; and orders again

    # and plan-daily --history warehouse decides by it: the later run, of orders alone, is another job
    uids = [f"model.shop.{name}" for name in ("orders", "broken", "reader")]
    (test,) = [
        uid for (uid,) in audited.query(f"select unique_id from {audited.at}.model_log") if uid.startswith("test.")
    ]
    with connect(audited.target, tag="test", read_only=True) as warehouse:
        run = last_dbt_run(warehouse, audited.audit, "shop", uids, {})
        assert last_dbt_run(warehouse, audited.audit, "shop", [*uids, "model.shop.new"], {}) is None
        assert last_dbt_run(warehouse, audited.audit, "mart", uids, {}) is None
        assert last_dbt_run(warehouse, "nowhere", "shop", uids, {}) is None
        assert last_dbt_run(warehouse, audited.audit, "shop", [uids[0]], {test: [uids[0]]}).status == "SUCCESS"
    assert run.vars == {"break": True, "o'k": "it's"}
    job = Job(dict.fromkeys(uids, "c0de"), {uids[0]: set(uids[1:]), uids[1]: {uids[2]}})
    decision, chosen = decide([run], job, Policy(), now=datetime.now(UTC))
    assert (decision.action, decision.retry_of, decision.failed, chosen) == ("retry", run.run_id, [uids[1]], uids[1:])


def a_dbt_run(run_id: str = "dbt-1", *, minutes_ago: float = 60) -> PastRun:
    began = datetime.now(UTC) - timedelta(minutes=minutes_ago)
    return PastRun(run_id, began, "FAILED", checksums={"m": None}, outcomes={"m": Outcome("failed", "boom")})


@pytest.mark.parametrize("history", ["warehouse", "both"])
def test_our_retries_of_a_run_of_dbt_are_counted(history: str) -> None:
    dbt, job = a_dbt_run(), Job({"m": "c0de"}, {})
    failure: list[PastRun] = []
    for number in (1, 2, 3):
        past = with_dbt_run(Past(failure=failure), dbt, history)
        decision, _ = decide(past.failure, job, Policy(), now=datetime.now(UTC))
        assert (decision.action, decision.retry, decision.retry_of) == ("retry", number, "dbt-1")
        failure = [*failure, replace(a_dbt_run(f"r{number}", minutes_ago=50 - number), retry_of="dbt-1")]
    past = with_dbt_run(Past(failure=failure), dbt, history)
    assert decide(past.failure, job, Policy(), now=datetime.now(UTC))[0].action == "full"


def test_of_both_histories_the_later_run_decides() -> None:
    ours, theirs = a_dbt_run("ours", minutes_ago=30), a_dbt_run("theirs", minutes_ago=60)
    assert with_dbt_run(Past(failure=[ours]), theirs, "both").failure == [ours]
    assert with_dbt_run(Past(failure=[ours]), theirs, "warehouse").failure == [theirs]
    assert with_dbt_run(Past(failure=[theirs]), ours, "both").failure == [ours]
    assert with_dbt_run(Past(failure=[ours]), None, "both").failure == [ours]
    assert with_dbt_run(Past(failure=[ours]), None, "warehouse").failure == []


def test_dbt_that_sluice_started_leaves_nothing_there(tmp_path: Path, duckdb_target: Credentials) -> None:
    audited = Audited(tmp_path, duckdb_target)
    with PlainDbt(audited.project, audited.target.target, SLUICE_STARTED_DBT="1") as plain_dbt:
        assert plain_dbt.invoke(["run", "--select", "orders"]) == [None]
    assert audited.query("select table_name from information_schema.tables") == [("orders",)]
