"""The gate on real servers: what cannot be proved good is red, and says in which way; what is good is green."""

import json
import math
import os
import subprocess
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from builders import FakeContext, a_batch, a_plan, a_result, months_of

from sluice import canary_check, gates, profiles
from sluice.canary_check import Options
from sluice.errors import RED, REFUSED, SluiceError
from sluice.manifest import Node
from sluice.profiles import Credentials
from sluice.records import CheckResult, Decision, Gate, PartitionResult, Record
from sluice.warehouse import Warehouse, connect
from sluice.warehouse.clickhouse import ClickHouse
from sluice.warehouse.duckdb import DuckDB
from sluice.warehouse.postgres import Postgres

pytest_plugins = ["servers"]

ROOT = Path(__file__).resolve().parents[2]
SINCE, TO = date(2026, 3, 29), date(2026, 4, 27)
DAYS = [SINCE + timedelta(days=i) for i in range((TO - SINCE).days + 1)]
BAD_DAY = date(2026, 4, 10)
SUPPLY = "model.shop.supply"
CANARY = {"metric": "supply", "by": "token", "date_column": "day"}
TYPES = {
    "duckdb": ("varchar", "date", "double", ""),
    "postgres": ("text", "date", "double precision", ""),
    "clickhouse": ("String", "Date", "Nullable(Float64)", "engine = MergeTree order by tuple()"),
}
Rows = list[tuple[str, date, float | None]]


@dataclass
class Ctx(FakeContext):
    name: str = "canary-check"
    run_id: str = "run-1"
    now: datetime = datetime(2026, 4, 27, 12, tzinfo=UTC)


class Shop:
    """One target, the models of its project, and the command upon them."""

    def __init__(self, target: Credentials, monkeypatch: pytest.MonkeyPatch, settings: Any):
        self.target, self.settings = target, settings
        self.nodes: dict[str, Node] = {}
        self.code: int | None = None
        self.asked: list[str] = []
        monkeypatch.setattr(gates, "Project", self._project)
        monkeypatch.setattr(profiles, "load", lambda config, vars: self.target)
        monkeypatch.setattr(gates, "connect", self._connect)

    def _connect(self, credentials: Credentials, **more: Any) -> Any:
        assert more["read_only"]
        self.asked.append(more["tag"])
        return connect(credentials, **more)

    def _project(self, config: Any, vars: Any) -> Any:
        manifest = SimpleNamespace(nodes=self.nodes, ancestors=lambda uid: set(self.nodes[uid].depends_on.nodes))
        return nullcontext(SimpleNamespace(manifest=manifest, info=SimpleNamespace(target="dev"), select=self._select))

    def _select(self, select: list[str], *_: Any) -> list[str]:
        """The models of these names; the supply for all else."""
        return [f"model.shop.{name}" for name in select if f"model.shop.{name}" in self.nodes] or [SUPPLY]

    def execute(self, sql: str) -> None:
        with connect(self.target, tag="test") as warehouse:
            warehouse.execute(sql)

    def model(self, name: str = "supply", **meta: Any) -> str:
        self.nodes[f"model.shop.{name}"] = Node(
            unique_id=f"model.shop.{name}", name=name, alias=name, resource_type="model", package_name="shop", path="", fqn=[],
            original_file_path="models/supply.sql", schema=self.target.schema, database=self.target.database, meta=meta,
        )  # fmt: skip
        return self.dialect.relation(self.target.database, self.target.schema, name)

    @property
    def dialect(self) -> Warehouse:
        """What quotes names, without a connection."""
        kind: Any = {"duckdb": DuckDB, "postgres": Postgres, "clickhouse": ClickHouse}[self.target.adapter]
        return kind.__new__(kind)

    def table(
        self, rows: Rows, name: str = "supply", columns: tuple[str, str, str] = ("token", "day", "supply"), **meta: Any
    ) -> None:
        """A model with these rows."""
        relation = self.model(name, **meta)
        text, day, number, engine = TYPES[self.target.adapter]
        with connect(self.target, tag="test") as warehouse:
            names = [warehouse.quote(column) for column in columns]
            warehouse.execute(
                f"create table {relation} ({names[0]} {text}, {names[1]} {day}, {names[2]} {number}) {engine}"
            )
            for at in range(0, len(rows), 500):
                values = ", ".join(
                    f"({_text(token)}, '{at_day}', {self._number(value)})"
                    for token, at_day, value in rows[at : at + 500]
                )
                warehouse.execute(f"insert into {relation} values {values}")

    def _number(self, value: float | None) -> str:
        if value is None:
            return "null"
        if math.isfinite(value):
            return repr(value)
        word = "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
        return word if self.target.adapter == "clickhouse" else f"cast('{word}' as double precision)"

    def run(self, *stream: Record, options: Options | None = None, **more: Any) -> list[CheckResult]:
        ctx = Ctx(self.settings, stream=stream or [a_gate(*self.nodes)], **more)
        running = canary_check.canary_check(ctx, options or Options())  # type: ignore[arg-type]
        results = []
        while True:
            try:
                results.append(next(running))
            except StopIteration as end:
                self.code = end.value
                return results  # type: ignore[return-value]

    def one(self, **more: Any) -> CheckResult:
        [result] = self.run(**more)
        return result


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def a_gate(*models: str, gate: str = "canary") -> Gate:
    return Gate(plan_id="plan", wave=2, gate=gate, models=list(models) or [SUPPLY], since=SINCE, to=TO)


def good() -> Rows:
    """Two tokens, each growing by one percent a day."""
    return [
        (token, day, start * 1.01**i) for token, start in (("WETH", 100.0), ("it's", 7e9)) for i, day in enumerate(DAYS)
    ]


def with_value(value: float | None) -> Rows:
    return [(token, day, value if (token, day) == ("WETH", BAD_DAY) else x) for token, day, x in good()]


@pytest.fixture
def shop(target: Credentials, monkeypatch: pytest.MonkeyPatch, own_settings: Any) -> Shop:
    return Shop(target, monkeypatch, own_settings)


@pytest.fixture
def duck(duckdb_target: Credentials, monkeypatch: pytest.MonkeyPatch, own_settings: Any) -> Shop:
    return Shop(duckdb_target, monkeypatch, own_settings)


# -- The canary, on all three ---------------------------------------------------------------------------------


def test_good_data_is_green(shop: Shop):
    shop.table(good(), canary=CANARY)
    result = shop.one()
    assert (result.check, result.subject, result.severity, result.status, result.error) == (
        "canary",
        SUPPLY,
        "ERROR",
        "ok",
        None,
    )
    assert result.observed == pytest.approx(1.01)
    assert (result.threshold, result.unit, result.violation_rows, result.sample) == (1.5, "ratio", 0, [])
    assert shop.code == 0


DEGENERATE: dict[str, Callable[[], Rows]] = {
    "empty": list,
    "NULL": lambda: with_value(None),
    "NaN": lambda: with_value(math.nan),
    "infinity": lambda: with_value(math.inf),
    "zero": lambda: with_value(0.0),
    "negative": lambda: with_value(-101.0),
    "missing day": lambda: [row for row in good() if row[:2] != ("WETH", BAD_DAY)],
    "no baseline": lambda: [row for row in good() if row[0] != "WETH" or row[1] >= date(2026, 4, 1)],
}


@pytest.mark.parametrize("what", DEGENERATE)
def test_what_cannot_be_compared_is_red_and_says_which(shop: Shop, what: str):
    shop.table(DEGENERATE[what](), canary=CANARY)
    result = shop.one()
    assert (result.status, shop.code) == ("failed", RED)
    reasons = {str(shown["reason"]) for shown in result.sample} or {"empty"}
    assert reasons == {what}
    assert what in (result.error or "")
    if what != "empty":
        assert result.violation_rows == 1
        assert result.sample[0]["token"] == "WETH"
    assert shop.one(options=Options(first_run=True)).status == ("ok" if what == "no baseline" else "failed")


@pytest.mark.parametrize("value", [math.nan, -math.inf, 0.0, None])
@pytest.mark.parametrize("when", [SINCE, TO])
def test_the_edges_of_the_scan_are_looked_at(duck: Shop, value: float | None, when: date):
    duck.table([(token, day, value if day == when else x) for token, day, x in good()], canary=CANARY)
    assert duck.one().violation_rows == 2


def test_one_bad_row_among_many_of_a_day_is_not_summed_away(shop: Shop):
    """min() knows no NaN where it is the greatest number, sum() skips NULL."""
    for i, aggregate in enumerate(["sum", "min", "max", "avg"]):
        for j, value in enumerate([None, math.nan]):
            shop.table(
                [*good(), ("WETH", BAD_DAY, value)], name=f"supply_{i}_{j}", canary={**CANARY, "aggregate": aggregate}
            )
    results = shop.run()
    assert [result.status for result in results] == ["failed"] * 8
    assert {str(result.sample[0]["reason"]) for result in results} == {"NULL", "NaN"}


def test_a_jump_at_the_edge_of_a_month_is_found(shop: Shop):
    shop.table([(token, day, x * (2 if day >= date(2026, 4, 1) else 1)) for token, day, x in good()], canary=CANARY)
    result = shop.one()
    assert result.violation_rows == 2
    assert result.observed == pytest.approx(2.02)
    assert (result.threshold, result.sample[0]["reason"], result.sample[0]["day"]) == (1.5, "jump", "2026-04-01")
    assert "2 × jump" in (result.error or "")
    within = [Gate(plan_id="plan", wave=2, gate="canary", models=[SUPPLY], since=date(2026, 4, 1), to=TO)]
    assert shop.run(*within)[0].status == "ok"  # a scan that begins with the month cannot see it


def test_a_fall_is_a_jump_too_and_both_bounds_are_the_users(duck: Shop):
    half = [(token, day, x * (0.5 if day >= BAD_DAY else 1)) for token, day, x in good()]
    duck.table(half, canary=CANARY)
    result = duck.one()
    assert (result.status, result.threshold) == ("failed", pytest.approx(1 / 1.5))
    assert result.observed == pytest.approx(0.505)
    duck.model(canary={**CANARY, "min_ratio": 0.5})
    assert duck.one().status == "ok"
    duck.model(canary={**CANARY, "min_ratio": 0.5, "max_ratio": 1.005})
    assert duck.one().violation_rows == len(DAYS) * 2 - 2 - 2


def test_an_error_that_is_the_same_on_all_days_is_found_by_recompute(shop: Shop):
    holdings = [(token, day, x / 4) for token, day, x in good() for _ in range(4)]
    shop.table(holdings, name="balances", columns=("token", "day", "balance"))
    shop.table(
        [(token, day, x * 2) for token, day, x in good()],
        canary={**CANARY, "recompute": {"source": "balances", "metric": "balance"}},
    )
    assert shop.run()[0].status == "ok"
    canary, again = shop.run(options=Options(recompute=True))
    assert (canary.check, canary.status) == ("canary", "ok")
    assert (again.check, again.status, again.violation_rows, len(again.sample), shop.code) == (
        "recompute",
        "failed",
        20,
        5,
        RED,
    )
    assert again.observed == pytest.approx(2)
    assert "20 × difference" in (again.error or "")
    shop.execute(f"drop table {shop.model()}")
    shop.table(good(), canary={**CANARY, "recompute": {"source": "balances", "metric": "balance", "pairs": 60}})
    _, again = shop.run(options=Options(recompute=True))
    assert (again.status, again.error, shop.code) == ("ok", None, 0)


def test_recompute_of_what_adds_up_and_by_other_names(shop: Shop):
    changes = [(token, SINCE - timedelta(days=40), 60.0) for token in ("WETH", "it's")]
    changes += [(token, day, 1.0) for token in ("WETH", "it's") for day in DAYS]
    shop.table(changes, name="changes", columns=("coin", "at", "delta"))
    again = {"source": "changes", "metric": "delta", "by": "coin", "date_column": "at", "cumulative": True, "pairs": 60}
    meta = {**CANARY, "recompute": again}
    shop.table([(token, day, 61.0 + i) for token in ("WETH", "it's") for i, day in enumerate(DAYS)], canary=meta)
    _, result = shop.run(options=Options(recompute=True))
    assert (result.status, result.error) == ("ok", None)
    shop.model(canary={**meta, "recompute": {**again, "cumulative": False}})
    _, result = shop.run(options=Options(recompute=True))
    assert result.violation_rows == 60


def test_recompute_from_a_source_that_has_nothing_is_red(shop: Shop):
    shop.table([], name="balances", columns=("token", "day", "balance"))
    shop.table(good(), canary={**CANARY, "recompute": {"source": "balances", "metric": "balance"}})
    _, result = shop.run(options=Options(recompute=True))
    assert result.sample[0]["reason"] == "NULL"


def test_hostile_names_do_no_harm(shop: Shop):
    columns = ("to\"k`en\\'; drop--", "d$since %s {x}", "su'pply\"`")
    name = 'hostile"; drop table x; --`\\'
    shop.table([("'); drop table x; --", day, 5.0) for day in DAYS], name=name, columns=columns)
    metric = shop.dialect.quote(columns[2])
    duplicates = {"check": "no_duplicate", "key": [columns[0], columns[1]], "date_column": columns[1]}
    meta = {"canary": {"metric": metric, "by": columns[0], "date_column": columns[1]}, "checks": [duplicates]}
    shop.model(name, **meta)
    results = shop.run()
    assert [(r.status, r.error) for r in results] == [("ok", None)] * 2
    shop.execute(f"insert into {shop.model(name, **meta)} values ('''); drop table x; --', '2026-04-10', 50)")
    canary, duplicate = shop.run()
    assert canary.sample[0][columns[0]] == "'); drop table x; --"
    assert duplicate.sample == [{columns[0]: "'); drop table x; --", columns[1]: "2026-04-10", "copies": 2}]


# -- Which days must be there -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("last", "lag_days", "status"), [
    (TO, 0, "ok"), (TO - timedelta(days=1), 0, "failed"), (TO - timedelta(days=1), 1, "ok"), (TO - timedelta(days=2), 1, "failed"),
    (TO - timedelta(days=3), 3, "ok"),
])  # fmt: skip
def test_the_last_days_must_be_there_but_for_the_lag(duck: Shop, last: date, lag_days: int, status: str):
    duck.table([row for row in good() if row[1] <= last], canary={**CANARY, "lag_days": lag_days})
    assert duck.one().status == status


def test_an_entity_that_ends_is_red_also_when_others_go_on(duck: Shop):
    duck.table([row for row in good() if row[0] != "WETH" or row[1] < BAD_DAY], canary=CANARY)
    assert duck.one().sample[0]["reason"] == "missing day"
    duck.model(canary={**CANARY, "where": "token <> 'WETH'"})
    assert duck.one().status == "ok"


def test_new_entities_are_for_the_model_to_allow(duck: Shop):
    duck.table([row for row in good() if row[0] != "WETH" or row[1] > BAD_DAY], canary={**CANARY, "new_entities": True})
    assert duck.one().status == "ok"


def test_a_single_day_has_nothing_to_be_compared_with(duck: Shop):
    duck.table([row for row in good() if row[1] == SINCE], canary=CANARY)
    gate = Gate(plan_id="plan", wave=1, gate="canary", models=[SUPPLY], since=SINCE, to=SINCE)
    [result] = duck.run(gate)
    assert result.sample[0]["reason"] == "no baseline"


def test_rows_without_a_day_are_not_overlooked(duck: Shop):
    duck.table(good(), canary=CANARY)
    duck.execute(f"insert into {duck.model(canary=CANARY)} values ('WETH', null, 1)")
    assert duck.one().sample[0]["reason"] == "no day"


def test_times_are_days(shop: Shop):
    shop.table(good())
    kind = {"duckdb": "timestamp", "postgres": "timestamptz", "clickhouse": "DateTime"}[shop.target.adapter]
    engine = TYPES[shop.target.adapter][3]
    relation = shop.model("timed", canary=CANARY)
    shop.execute(
        f"create table {relation} {engine} as select token, cast(day as {kind}) + interval '23' hour as day, supply from {shop.model()}"
    )
    assert [(result.status, result.error) for result in shop.run(a_gate("model.shop.timed"))] == [("ok", None)]


def test_a_table_without_entities_and_an_expression(shop: Shop):
    shop.table(good(), canary={"metric": "supply * 2 + 0", "date_column": "day"})
    assert shop.one().observed == pytest.approx(1.01)


# -- Other checks, on all three -----------------------------------------------------------------------------------


def checks(shop: Shop, *entries: dict[str, Any]) -> list[tuple[str, str]]:
    shop.model(checks=[{"name": f"n{i}", **entry} for i, entry in enumerate(entries)])
    return [(result.status, result.error or "") for result in shop.run()]


TABLE_CHECKS: list[dict[str, Any]] = [
    {"check": "row_count"},
    {"check": "row_count", "date_column": "day"},
    {"check": "no_duplicate", "key": ["token", "day"]},
    {"check": "null_ratio", "column": "supply"},
    {"check": "no_gap", "date_column": "day", "by": ["token"]},
    {"check": "freshness", "date_column": "day", "max_age_hours": 36},
    {"check": "sql", "file": "never_negative", "columns": {"subject": "token", "amount": "supply", "day": "day"}},
]


def test_the_other_checks_are_green_on_good_data(shop: Shop):
    shop.table(good())
    assert checks(shop, *TABLE_CHECKS) == [("ok", "")] * len(TABLE_CHECKS)


def test_the_other_checks_are_red_on_nothing(shop: Shop):
    shop.table([])
    results = checks(shop, *TABLE_CHECKS)
    assert [status for status, _ in results] == ["failed"] * len(TABLE_CHECKS)
    assert all("empty" in error for _, error in results), results


def test_the_other_checks_are_red_on_what_they_are_for(shop: Shop):
    shop.table(
        [row for row in with_value(None) if row[1] != date(2026, 4, 12)]
        + [("it's", BAD_DAY, -1.0), ("it's", BAD_DAY, -2.0)]
    )
    results = checks(
        shop,
        {"check": "row_count", "min": 61},
        {"check": "row_count", "max": 50, "date_column": "day"},
        *TABLE_CHECKS[2:5],
        TABLE_CHECKS[6],
    )
    assert [status for status, _ in results] == ["failed"] * 6
    said = [error for _, error in results]
    assert "60 rows, at least 61" in said[0]
    assert "60 rows, at most 50" in said[1]
    assert "2 of 60 rows share" in said[2]
    assert "NULL in 1 of 60" in said[3]
    assert "2 × missing day" in said[4]
    assert "3 rows violate never_negative" in said[5]


@pytest.mark.parametrize(("age", "status", "says"), [
    (timedelta(hours=1), "ok", ""),
    (timedelta(hours=37), "failed", "stale"),
    (timedelta(minutes=-9), "ok", ""),
    (timedelta(minutes=-11), "failed", "ahead of the clock"),
])  # fmt: skip
@pytest.mark.parametrize("aware", [True, False])
def test_freshness_is_by_the_clock_with_a_zone_or_without(
    shop: Shop, age: timedelta, status: str, says: str, aware: bool
):
    kinds = {
        "duckdb": ("timestamp", "timestamptz"),
        "postgres": ("timestamp", "timestamptz"),
        "clickhouse": ("DateTime('UTC')", "DateTime('Asia/Tokyo')"),
    }
    kind = kinds[shop.target.adapter][aware]
    relation = shop.model(checks=[{"check": "freshness", "date_column": "loaded_at", "max_age_hours": 36}])
    at = f"{Ctx.now - age:%Y-%m-%d %H:%M:%S}"
    if aware:
        value = f"toDateTime('{at}', 'UTC')" if shop.target.adapter == "clickhouse" else f"timestamptz '{at}+00'"
    else:
        value = f"'{at}'"
    shop.execute(f"create table {relation} (loaded_at {kind}) {TYPES[shop.target.adapter][3]}")
    shop.execute(f"insert into {relation} values ({value})")
    result = shop.one()
    assert (result.status, result.unit) == (status, "hours")
    assert says in (result.error or "")
    assert result.observed == pytest.approx(age.total_seconds() / 3600, abs=0.01)


def test_a_file_of_ones_own(duck: Shop, tmp_path: Path):
    duck.table(good())
    (tmp_path / "checks").mkdir()
    own = tmp_path / "checks" / "too_much.sql"
    own.write_text(
        "-- {nothing}\nselect token as subject, supply as observed, $most as threshold from {relation} where not supply <= $most;\n"
    )
    duck.settings = SimpleNamespace(**{**vars(duck.settings), "project_dir": tmp_path})
    [(status, error)] = checks(duck, {"check": "sql", "file": "too_much", "params": {"most": 200}})
    assert status == "failed"
    assert "30 rows violate too_much; such as it's" in error
    assert "threshold 200" in error
    assert checks(duck, {"check": "sql", "file": "too_much", "params": {"most": 1e11}}) == [("ok", "")]
    assert "no $least" in checks(duck, {"check": "sql", "file": "too_much", "params": {"most": 1, "least": 2}})[0][1]
    own.write_text("select {what} as subject")
    assert "{what}" in checks(duck, {"check": "sql", "file": "too_much"})[0][1]
    assert "there is no other.sql" in checks(duck, {"check": "sql", "file": "other"})[0][1]


# -- Failing closed -----------------------------------------------------------------------------------------------


def test_a_query_that_fails_is_red_and_the_others_have_their_turn(shop: Shop):
    shop.table(good(), canary=[{**CANARY, "metric": "no_such_column", "name": "bad"}, {**CANARY, "name": "good"}])
    shop.model("absent", canary=CANARY)
    bad, fine, absent = shop.run()
    assert (bad.check, bad.status, fine.status, absent.status, shop.code) == (
        "canary:bad",
        "failed",
        "ok",
        "failed",
        RED,
    )
    assert "the query failed" in (bad.error or "")
    assert "no_such_column" in (bad.error or "")


SLOW = {
    "duckdb": "(select count(*) from range(100000) a, range(100000) b where a.range <> b.range)",
    "postgres": "(select 1.0 from pg_sleep(20))",
    "clickhouse": "(select count() from numbers(100000000000) where sipHash64(number) = 1)",
}


def test_a_query_that_takes_too_long_is_red(shop: Shop):
    shop.table(good(), canary={**CANARY, "metric": f"supply + {SLOW[shop.target.adapter]}"})
    result = shop.one(options=Options(timeout_s=0.5))
    assert (result.status, shop.code) == ("failed", RED)
    assert "the query took too long" in (result.error or "") or "timeout" in (result.error or "")
    assert result.duration_s < 8


def test_zero_checks_is_not_green(duck: Shop):
    duck.table(good())
    result = duck.one()
    assert (result.check, result.subject, result.status, duck.code) == ("gate", "canary", "failed", RED)
    assert "zero checks is not green" in (result.error or "")
    assert duck.run(options=Options(allow_empty=True)) == []
    assert duck.code == 0
    with pytest.raises(SluiceError) as caught:
        duck.run(options=Options(select=["supply"], since=SINCE, to=TO))
    assert (caught.value.code, caught.value.exit_code) == ("check_none", REFUSED)
    duck.model(canary=CANARY)
    assert duck.one().status == "ok"
    assert "recompute" in (duck.one(options=Options(recompute=True)).error or "")


@pytest.mark.parametrize("trouble", ["batch failed", "batch cancelled", "batch skipped", "partition failed", "exit"])
def test_what_failed_before_the_gate_makes_it_red_without_asking(duck: Shop, trouble: str):
    duck.table(good(), canary=CANARY)
    plan, batches = a_plan(months_of())
    what, _, status = trouble.partition(" ")
    before: list[Record] = [a_result(batches[0])]
    before += (
        [a_result(batches[1], status)]
        if what == "batch"
        else [PartitionResult(table="t", partition=None, status=status)]
        if status
        else []
    )  # type: ignore[arg-type]
    [result] = duck.run(plan, *before, a_gate(), upstream_exit=1 if what == "exit" else 0)
    assert (result.check, result.status, duck.code, duck.asked) == ("gate", "failed", RED, [])
    assert "not asked" in (result.error or "")


def test_what_fails_after_the_gate_is_not_its_concern(duck: Shop):
    duck.table(good(), canary=CANARY)
    plan, batches = a_plan(months_of())
    [result] = duck.run(plan, a_result(batches[0]), a_gate(), a_result(batches[1], "failed"))
    assert (result.check, result.status, duck.code) == ("canary", "ok", 0)


def test_a_gate_that_nobody_knows_and_a_model_that_is_gone_are_red(duck: Shop):
    duck.table(good(), canary=CANARY)
    assert "'mine'" in (duck.run(a_gate(gate="mine"))[0].error or "")
    assert "model.shop.gone" in (duck.run(a_gate(SUPPLY, "model.shop.gone"))[0].error or "")
    assert duck.code == RED


def test_warn_only_tells_and_goes_on(duck: Shop, heard: pytest.LogCaptureFixture):
    duck.table(with_value(0.0), canary=CANARY)
    assert (duck.one(options=Options(warn_only=True)).status, duck.code) == ("failed", 0)
    [told] = [record for record in heard.records if record.levelname == "WARNING"]
    assert "zero" in told.getMessage()


def test_a_warning_stops_nothing(duck: Shop):
    duck.table(with_value(0.0), canary={**CANARY, "severity": "warning"})
    result = duck.one()
    assert (result.severity, result.status, duck.code) == ("WARNING", "failed", 0)


def test_a_rehearsal_asks_nothing(duck: Shop, heard: pytest.LogCaptureFixture):
    duck.table(with_value(0.0), canary=CANARY, checks=[{"check": "row_count"}])
    assert [(r.check, r.status) for r in duck.run(dry_run=True)] == [("canary", "dry_run"), ("row_count", "dry_run")]
    plan, _ = a_plan(months_of(), dry_run=True)
    assert [r.status for r in duck.run(plan, a_gate())] == ["dry_run", "dry_run"]
    assert (duck.asked, duck.code) == ([], 0)
    duck.model()
    [result] = duck.run(dry_run=True)
    assert (result.status, duck.code) == ("dry_run", 0)
    assert "would be red: zero checks" in heard.text


def test_another_target_is_refused(duck: Shop):
    duck.table(good(), canary=CANARY)
    plan, _ = a_plan(months_of(), target="production")
    with pytest.raises(SluiceError) as caught:
        duck.run(plan, a_gate())
    assert caught.value.code == "plan_other_target"


# -- What is declared ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("meta", "says"), [
    ({"canary": {**CANARY, "max_ration": 2}}, "meta.canary.max_ration is not known; did you mean 'max_ratio'?"),
    ({"canary": {"metric": "x"}}, "meta.canary.date_column is missing"),
    ({"canary": None}, "meta.canary is not a mapping"),
    ({"canary": [CANARY, 3]}, "meta.canary[1] is not a mapping"),
    ({"canary": {**CANARY, "max_ratio": float("nan")}}, "meta.canary.max_ratio is nan"),
    ({"canary": {**CANARY, "max_ratio": 0.9}}, "greater than or equal to 1"),
    ({"canary": {**CANARY, "max_ratio": "2"}}, "meta.canary.max_ratio is '2'"),
    ({"canary": {**CANARY, "metric": "1) --"}}, "not one SQL expression"),
    ({"canary": {**CANARY, "where": "true; drop table x"}}, "meta.canary.where"),
    ({"canary": {**CANARY, "by": ["a", "a"]}}, "names a column twice"),
    ({"canary": [CANARY, CANARY]}, "two checks called 'canary'"),
    ({"canary": {**CANARY, "recompute": {"source": "suply", "metric": "x", "form": 1}}}, "meta.canary.recompute.form is not known"),
    ({"canary": {**CANARY, "recompute": {"source": "suply", "metric": "x"}}}, "'suply', which no model or source is called; did you mean 'supply'?"),
    ({"canary": {**CANARY, "recompute": {"source": "supply", "metric": "x", "by": ["a", "b"]}}}, "2 in recompute.by"),
    ({"checks": {"check": "row_count"}}, "meta.checks is not a list"),
    ({"checks": ["row_count"]}, "meta.checks[0] is not a mapping"),
    ({"checks": [{"check": "rowcount"}]}, "meta.checks[0].check is 'rowcount'; did you mean 'row_count'?"),
    ({"checks": [{"check": "freshness", "date_column": "d", "max_age_hours": 1, "severity": "fatal"}]}, "meta.checks[0].severity is 'FATAL'"),
    ({"checks": [{"check": "sql", "file": "../x"}]}, "meta.checks[0].file"),
    ({"checks": [{"check": "sql", "file": "x", "params": {"a b": 1}}]}, "meta.checks[0].params"),
])  # fmt: skip
def test_a_wrong_declaration_is_refused_by_file_model_and_key(duck: Shop, meta: dict, says: str):
    duck.model(**meta)
    with pytest.raises(SluiceError) as caught:
        duck.run(options=Options(recompute=True))
    assert (caught.value.code, caught.value.exit_code) == ("check_bad_config", REFUSED)
    assert says in caught.value.message
    assert "models/supply.sql: model supply:" in caught.value.message
    assert duck.asked == []


def test_every_problem_is_told_at_once(duck: Shop):
    duck.model(canary={"metric": "x", "maxratio": 1}, checks=[{"check": "row_count", "min": 0}])
    with pytest.raises(SluiceError) as caught:
        duck.run()
    assert caught.value.message.count("\n") == 3


# -- As a command --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dbt project with one checked model, on DuckDB."""
    import duckdb

    folder = tmp_path_factory.mktemp("project")
    (folder / "models").mkdir()
    (folder / "dbt_project.yml").write_text("name: shop\nprofile: shop\n")
    (folder / "profiles.yml").write_text(
        f"shop: {{target: dev, outputs: {{dev: {{type: duckdb, path: '{folder}/shop.duckdb'}}}}}}"
    )
    (folder / "models" / "supply.sql").write_text("select 1 as token")
    meta = json.dumps({"canary": CANARY})
    (folder / "models" / "supply.yml").write_text(f"models: [{{name: supply, config: {{meta: {meta}}}}}]")
    with duckdb.connect(f"{folder}/shop.duckdb") as connection:
        connection.execute(
            "create table supply as select 'WETH' as token, day::date as day, 1.0 as supply from range(date '2026-03-29', date '2026-04-28', interval 1 day) t(day)"
        )
    return folder


def command(project: Path, *arguments: str, stream: list[str] | None = None) -> tuple[int, list[str], str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DBT_", "SLUICE_"))}
    environment |= {
        "SLUICE_STATE_DIR": f"{project}/state",
        "SLUICE_LOG_DIR": f"{project}/logs",
        "DBT_PROJECT_DIR": str(project),
        "DBT_PROFILES_DIR": str(project),
    }
    done = subprocess.run(
        [ROOT / "bin" / "canary-check", *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False,
        **({"input": "".join(line + "\n" for line in stream)} if stream is not None else {"stdin": subprocess.DEVNULL}),
    )  # fmt: skip
    return done.returncode, done.stdout.splitlines(), done.stderr


@pytest.mark.long
def test_red_exits_3_and_what_comes_after_the_gate_passes(project: Path):
    import duckdb

    gate = json.dumps(
        {
            "type": "gate",
            "v": 1,
            "run_id": "r",
            "plan_id": "p",
            "wave": 2,
            "gate": "canary",
            "models": [SUPPLY],
            "since": str(SINCE),
            "to": "2026-04-20",
        }
    )
    stranger, ending = '{"type": "stranger",  "run_id": "r"}', '{"type":"summary","run_id":"r","command":"x"}'
    code, lines, err = command(project, stream=[gate, stranger, ending])
    assert (code, err) == (0, "")
    assert lines[0] == stranger
    assert [json.loads(line)["type"] for line in lines[1:]] == ["summary", "check_result", "summary"]
    assert json.loads(lines[2])["status"] == "ok"

    with duckdb.connect(f"{project}/shop.duckdb") as connection:
        connection.execute("update supply set supply = 3 where day = '2026-04-10'")
    try:
        code, lines, err = command(project, stream=[gate, stranger, ending])
        assert code == 3
        assert lines[0] == stranger
        assert (json.loads(lines[2])["status"], json.loads(lines[2])["run_id"]) == ("failed", "r")
        assert json.loads(lines[-1])["exit_code"] == 3
        assert "canary of model.shop.supply is red: 2 × jump" in err
        code, lines, err = command(project, "--warn-only", stream=[gate, ending])
        assert (code, json.loads(lines[1])["status"]) == (0, "failed")
        assert "is red" in err
    finally:
        with duckdb.connect(f"{project}/shop.duckdb") as connection:
            connection.execute("update supply set supply = 1")


def test_alone_it_reads_nothing(project: Path):
    code, lines, err = command(project, "--select", "supply", "--since", "2026-03-29", "--to", "2026-04-20")
    assert (code, err) == (0, "")
    assert [json.loads(line)["type"] for line in lines] == ["check_result", "summary"]
    assert command(project, "--select", "supply")[0] == 2
    assert command(project, "--since=2026-03-29", stream=[])[0] == 2
    code, _, err = command(project, "-ssupply", "--since", "2026-04-20", "--to", "2026-04-19")
    assert code == 2
    assert "lies after" in err


def test_a_stream_that_was_cut_off_is_no_gate(project: Path):
    code, lines, _ = command(
        project,
        stream=[
            json.dumps(
                {
                    "type": "gate",
                    "plan_id": "p",
                    "wave": 1,
                    "gate": "canary",
                    "models": [SUPPLY],
                    "since": "2026-03-29",
                    "to": "2026-04-20",
                }
            )
        ],
    )
    assert (code, [json.loads(line)["type"] for line in lines]) == (65, ["error", "summary"])


def test_with_days_it_checks_what_the_plan_asked_for_but_not_what_was_not_built_nor_what_reads_that(duck: Shop):
    for name in ("supply", "totals", "reads_totals", "untouched"):
        duck.table([*good()[:-3]], name, canary={**CANARY, "name": name})
    duck.nodes["model.shop.reads_totals"].depends_on.nodes.append("model.shop.totals")
    duck.model("plain")
    plan, batches = a_plan([a_batch(f"model.shop.{name}") for name in ("supply", "totals", "plain")])
    plan.request = {"select": ["supply", "totals", "reads_totals", "untouched", "plain"], "exclude": []}
    stream = [plan, a_result(batches[0]), a_result(batches[1], "failed", error="boom"), a_result(batches[2])]
    results = duck.run(*stream, options=Options(to=TO, days=20), upstream_exit=1)
    assert [(result.check, result.status) for result in results] == [
        ("canary:supply", "failed"),
        ("canary:untouched", "failed"),
    ]
    assert duck.code == RED
    assert "missing day" in (results[0].error or "")

    plan.request = {"components": ["totals", "plain"]}
    assert duck.run(*stream, options=Options(to=TO, days=20), upstream_exit=1) == [], "nothing that can be checked"
    assert duck.code == 1, "the exit code of the command before"
    assert duck.run(Decision(action="none", reason="in vain"), options=Options(to=TO, days=20)) == []


def test_a_check_of_its_own_knows_when_the_run_began_and_may_look_at_an_empty_table(duck: Shop, tmp_path: Path):
    check = {"check": "sql", "file": "loaded", "may_be_empty": True}
    (tmp_path / "checks").mkdir()
    (tmp_path / "checks" / "loaded.sql").write_text(
        "select token as subject, null as observed, null as threshold from {relation} where day >= $began order by day"
    )
    duck.settings = SimpleNamespace(**{**vars(duck.settings), "project_dir": tmp_path})
    duck.table([], "supply", checks=[check])
    plan, batches = a_plan([a_batch(SUPPLY)], at="2026-04-20T23:30:00.000Z")
    stream = [plan, a_result(batches[0])]
    assert [result.status for result in duck.run(*stream, options=Options(to=TO, days=20))] == ["ok"]
    duck.execute(f"insert into {duck.dialect.relation(duck.target.database, duck.target.schema, 'supply')} values"
                 " ('old', '2026-04-20', 1), ('new', '2026-04-21', 1), ('newer', '2026-04-22', 1)")  # fmt: skip
    (result,) = duck.run(*stream, options=Options(to=TO, days=20))
    assert (result.status, result.violation_rows) == ("failed", 2)
    assert result.error == "2 rows violate loaded; such as new; newer"


@pytest.mark.parametrize("engine", ["duckdb", "postgres"])
def test_the_markets_own_checks_name_what_the_run_has_loaded(engine, request, monkeypatch, own_settings):
    shop = Shop(request.getfixturevalue(f"{engine}_target"), monkeypatch, own_settings)
    shop.settings = SimpleNamespace(**{**vars(own_settings), "project_dir": ROOT / "warehouse"})
    checks = [{"check": "sql", "name": name, "file": f"loaded_{name}"} for name in ("gaps", "repairs", "rejects")]
    relation = shop.model("supply", checks=checks)
    shop.execute(
        f"create table {relation} as select 7 as id, cast('2026-04-21' as date) as day, true as is_missing_days, 3 as count_missing_days,"
        " true as is_repaired_time_high, false as is_repaired_time_low, 'nonpositive' as reason,"
        " cast('2026-04-21 06:00' as timestamp) as loaded_at"
    )
    shop.execute(
        f"insert into {relation} select id, day - 1, true, 1, true, true, reason, loaded_at - interval '1 hour' from {relation}"
    )
    plan, batches = a_plan([a_batch(SUPPLY)], at="2026-04-21T05:30:00.000Z")
    results = shop.run(plan, a_result(batches[0]), options=Options(to=TO, days=20))
    assert [result.error for result in results] == [
        "1 row violates loaded_gaps; such as id 7 before 2026-04-21: 3, threshold 0",
        "1 row violates loaded_repairs; such as id 7, 2026-04-21: time_high",
        "1 row violates loaded_rejects; such as id 7, 2026-04-21: nonpositive",
    ]
