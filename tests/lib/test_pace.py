"""Pace: what the rules find on real servers, when a run waits, for how long, and how many workers are advisable."""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice import pace
from sluice.clickhouse_server import ClickHouseServer
from sluice.errors import unavailable
from sluice.pace import Pace, Reading, Rule, advisable_workers
from sluice.profiles import Credentials
from sluice.signals import Interrupted
from sluice.warehouse import connect

pytest_plugins = ["servers"]

RULE = Rule("fake", "parts of a partition", "parts", "select", 0.5, 0.8, "inserts are slowed down")


class FakeWarehouse:
    """Answers each look with the next of `observed`, the last again and again."""

    credentials = Credentials("fake", "shop", "dev", None, "shop")

    def __init__(self, *observed: Any):
        self.observed, self.looks, self.closed = [*observed], 0, 0

    def rows(self, *_: Any, **__: Any) -> list[tuple]:
        self.looks += 1
        answer = self.observed.pop(0) if len(self.observed) > 1 else self.observed[0]
        if isinstance(answer, Exception):
            raise answer
        return [(answer, 100)]

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr(pace.time, "sleep", slept.append)
    return slept


def paced(warehouse: FakeWarehouse, slept: list[float], connect: Callable | None = None) -> Pace:
    return Pace(connect or (lambda: warehouse), [RULE], poll_s=10, most_wait_s=60, clock=lambda: sum(slept))  # type: ignore[arg-type,return-value]


def test_it_waits_while_a_rule_is_full_and_says_why_once(slept: list[float], heard: pytest.LogCaptureFixture) -> None:
    warehouse = FakeWarehouse(90, 85, 80, 79)
    with paced(warehouse, slept) as one:
        assert [str(reading.observed) for reading in one.wait()] == ["79.0"]
    assert (slept, warehouse.closed) == ([10, 10, 10], 1)
    said = [record.getMessage() for record in heard.records if record.levelno == logging.WARNING]
    assert said == [
        "waiting for the warehouse: parts of a partition: 90 of 100 parts (90%, waiting from 80% on): inserts are slowed down",
        "the warehouse is free again after 30 s",
    ]


def test_it_does_not_wait_for_ever(slept: list[float], heard: pytest.LogCaptureFixture) -> None:
    paced(FakeWarehouse(95), slept).wait()
    assert sum(slept) == 60
    assert "going on after 60 s, although the warehouse is still full: parts of a partition" in heard.text


def test_a_free_warehouse_costs_one_look(slept: list[float], heard: pytest.LogCaptureFixture) -> None:
    warehouse = FakeWarehouse(10)
    paced(warehouse, slept).wait()
    assert (slept, warehouse.looks, heard.text) == ([], 1, "")


def test_a_stop_signal_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(_: float) -> None:
        raise Interrupted(15)

    monkeypatch.setattr(pace.time, "sleep", stopped)
    with pytest.raises(Interrupted):
        paced(FakeWarehouse(95), []).wait()


@pytest.mark.parametrize("answer", [None, unavailable("not allowed", code="warehouse_error")])
def test_what_cannot_be_asked_holds_nobody_back(slept: list[float], answer: Any) -> None:
    warehouse = FakeWarehouse(answer)
    assert paced(warehouse, slept).wait() == []
    assert (slept, warehouse.closed) == ([], 1), "the next look is on a connection of its own"


def test_a_warehouse_that_is_away_holds_nobody_back(slept: list[float], heard: pytest.LogCaptureFixture) -> None:
    def away() -> None:
        raise unavailable("nobody there", code="warehouse_away")

    assert paced(FakeWarehouse(1), slept, away).wait() == []
    assert "--pace cannot look at the warehouse: nobody there" in heard.text


@given(st.lists(st.floats(0, 2)), st.integers(1, 64))
def test_workers_are_fewer_the_fuller_it_is(ratios: list[float], most: int) -> None:
    readings = [Reading(RULE, ratio * 100, 100) for ratio in ratios]
    found = advisable_workers(readings, most)
    worst = max(ratios, default=0.0)
    assert (found == 0) == any(one.is_full for one in readings)
    assert found == most or worst > 0.5
    assert 0 <= found <= most
    assert found <= advisable_workers(readings[1:], most)
    assert found <= advisable_workers(readings, most + 1)


def test_every_rule_is_answered_by_a_real_server(
    clickhouse: ClickHouseServer, clickhouse_target: Credentials, postgres_target: Credentials
) -> None:
    schema = clickhouse_target.schema
    clickhouse.query(
        f"create table {schema}.crowded (n UInt32) engine = MergeTree order by n settings parts_to_delay_insert = 5"
    )
    clickhouse.query(f"create table {schema}.empty (n UInt32) engine = MergeTree order by n")
    clickhouse.query(f"system stop merges {schema}.crowded")
    for n in range(4):
        clickhouse.query(f"insert into {schema}.crowded values ({n})")
    for target in (clickhouse_target, postgres_target):
        rules = pace.load(target.adapter)
        with connect(target, tag="test", read_only=True) as warehouse:
            readings = pace.look(warehouse, rules)
        assert len(readings) == len(rules), [one.rule.name for one in readings]
        found = {one.rule.name: (one.observed, one.limit, one.is_full) for one in readings}
        assert all(limit > 0 and observed >= 0 for observed, limit, _ in found.values())
        if target.adapter == "clickhouse":
            assert found["parts of a partition"] == (4, 5, True), "the table's own limit"
        else:
            assert found["connections"][0] >= 1


def waited(target: Credentials, rule: str, free: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> list[Reading]:
    """What a run finds that waits for a real server, which is freed while it sleeps."""
    monkeypatch.setattr(pace.time, "sleep", lambda _: free())
    rules = [one for one in pace.load(target.adapter) if one.name == rule]
    with Pace(lambda: connect(target, tag="test", read_only=True), rules, most_wait_s=20) as one:
        return one.wait()


@pytest.mark.long
def test_it_waits_until_a_real_clickhouse_has_merged_its_parts(
    clickhouse: ClickHouseServer,
    clickhouse_target: Credentials,
    monkeypatch: pytest.MonkeyPatch,
    heard: pytest.LogCaptureFixture,
) -> None:
    table = f"{clickhouse_target.schema}.crowded"
    clickhouse.query(
        f"create table {table} (n UInt32) engine = MergeTree order by n settings parts_to_delay_insert = 5"
    )
    clickhouse.query(f"system stop merges {table}")
    for n in range(4):
        clickhouse.query(f"insert into {table} values ({n})")

    def merge() -> None:
        clickhouse.query(f"system start merges {table}")
        clickhouse.query(f"optimize table {table} final")

    (found,) = waited(clickhouse_target, "parts of a partition", merge, monkeypatch)
    assert not found.is_full
    assert "waiting for the warehouse: parts of a partition: 4 of 5 parts (80%" in heard.text


@pytest.mark.long
def test_it_waits_until_a_real_postgres_has_connections_again(
    postgres_target: Credentials, monkeypatch: pytest.MonkeyPatch, heard: pytest.LogCaptureFixture
) -> None:
    with ExitStack() as others:
        for _ in range(34):
            others.enter_context(connect(postgres_target, tag="other")).rows("select 1")
        (found,) = waited(postgres_target, "connections", others.close, monkeypatch)
    assert not found.is_full
    assert "waiting for the warehouse: connections: 3" in heard.text


def test_there_is_nothing_to_look_at_on_duckdb() -> None:
    assert pace.load("duckdb") == []
