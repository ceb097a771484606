"""`make refill` from end to end: killed and resumed, it leaves what a build from scratch leaves. All engines: tests/faults."""

import random
from datetime import date

import pytest
from gaps import Gap

pytest_plugins = ["servers", "gaps"]

DAY = date(2022, 6, 5)
KILL_WITHIN_S = 15


def order_of(records: list[dict]) -> list[str]:
    """What ran and what was asked, in order: names of models, `canary`, `recompute`."""
    names = []
    for record in records:
        if record["type"] == "batch_result":
            names.append(record["model"].rpartition(".")[2])
        elif record["type"] == "check_result":
            names.append(record["check"])
    return names


def refill_with_a_kill(gap: Gap) -> list[dict]:
    """Killed at a point that is the same for an engine, and resumed; the records of what was left."""
    gap.refill_killed_at(random.Random(gap.warehouse.target), KILL_WITHIN_S)
    records = gap.refill(**({"RESUME": "1"} if gap.was_begun else {}))
    assert not gap.was_begun, "nothing is left to resume"
    return records


def assert_gate_stood_between(records: list[dict]) -> None:
    order = order_of(records)
    assert order.index("int_supply_holders_daily") < order.index("canary") < order.index("recompute")
    assert order.index("recompute") < order.index("int_prices_daily")
    checks = [record for record in records if record["type"] == "check_result"]
    assert [check["status"] for check in checks] == ["ok", "ok"]


@pytest.mark.long
def test_a_refill_that_was_killed_and_resumed_leaves_what_a_build_from_scratch_leaves(open_gap):
    gap: Gap = open_gap("duckdb", DAY)
    gap.spoil()
    gap.fill()
    spoiled = gap.relations()
    records = refill_with_a_kill(gap)
    assert gap.zeros() == 0
    refilled = gap.relations()
    assert refilled == gap.rebuilt()
    wrong = {name for name, rows in refilled.items() if spoiled[name] != rows}
    assert {"int_balances_daily", "int_balances_usd_daily", "fct_token_metrics_daily", "api_tokens"} <= wrong
    assert_gate_stood_between(records)


@pytest.mark.long
def test_on_clickhouse_an_append_keeps_what_its_source_has_lost_the_gate_sees_it_and_an_exchange_mends_it(open_gap):
    gap: Gap = open_gap("clickhouse", DAY)
    gap.spoil()
    gap.fill()
    spoiled = gap.relations()
    records = gap.refill(exit_code=3, VARS='{"replace_partitions": false}')
    red = [(record["check"], record["status"]) for record in records if record["type"] == "check_result"]
    assert red == [("canary", "ok"), ("recompute", "failed")]
    assert "int_prices_daily" not in order_of(records)
    [told] = [record for record in records if record["type"] == "notify_result"]
    assert told["severity"] == "ERROR"
    assert any(line.startswith("red  recompute of model.sluice_warehouse.int_supply") for line in told["digest"])
    appended = gap.relations()
    for name in ("int_prices_daily", "int_balances_usd_daily", "fct_token_metrics_daily", "api_tokens"):
        assert appended[name] == spoiled[name], "nothing behind the gate is touched"

    gap.discard()
    records = refill_with_a_kill(gap)
    assert gap.zeros() == 0
    assert gap.relations() == gap.rebuilt()
    assert_gate_stood_between(records)
