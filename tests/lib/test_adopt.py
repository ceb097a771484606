"""Coverage, holes and adoption on real engines with real dbt: what is there is left alone, what is missing is filled, once."""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import FakeContext
from servers import LONG_ENGINES
from test_guards_on_engines import APPEND, MONTHS, ONCE, SPLIT, TODAY, Shop, model

from sluice import holes, sluice_state
from sluice.adopt import adopt
from sluice.errors import REFUSED, SluiceError
from sluice.forecasting import Asked, foretold
from sluice.plan_batches import Request, plan_batches
from sluice.profiles import Credentials
from sluice.records import Batch, BatchResult, Coverage, Plan, Record
from sluice.run_dbt_batch import Options, run_dbt_batch
from sluice.state import State
from sluice.warehouse import connect

pytest_plugins = ["servers"]
pytestmark = pytest.mark.usefixtures("lent_loader")

TABLE = {"engine": "MergeTree()", "order_by": "(symbol, day)"}  # of ClickHouse; the others know of no such thing
REPLACEABLE = model(incremental_strategy="X", unique_key=["symbol", "day"], block={"stages": SPLIT}, **TABLE).replace(
    "'X'", "'delete+insert' if var('replace_partitions', false) else 'append'"
)
MODELS = {
    "replaceable": REPLACEABLE,
    "appended": model(**APPEND, **TABLE, block={"stages": SPLIT}),
    "latest": "{{ config(materialized='view') }} select max(day) as day from {{ source('raw', 'entries') }}",
    "whole": "{{ config(materialized='table') }} select count(*) as n from {{ source('raw', 'entries') }}",
}
ALL = {("rest", month) for month in MONTHS} | {("usdc", month) for month in MONTHS}


class Covered(Shop):
    """The shop of the guards' tests on one of the engines, with its state store."""

    def __init__(self, root: Path, target: Credentials):
        self.target = dataclasses.replace(target, schema="main") if target.adapter == "duckdb" else target
        schema = self.target.schema
        output = {**target.fields, "type": target.adapter, "schema": schema, "threads": 1}
        output |= {"postgres": {"dbname": target.database}, "clickhouse": {"use_lw_deletes": True}}.get(
            target.adapter, {}
        )
        sources = {"models/sources.yml": f"sources: [{{name: raw, schema: {schema}, tables: [{{name: entries}}]}}]"}
        super().__init__(root, MODELS, json.dumps(output), **sources)
        engine = " engine = MergeTree order by day" if target.adapter == "clickhouse" else ""
        self.execute(f"create table {schema}.entries (symbol varchar(9), day date, amount integer){engine}")
        rows = ", ".join(f"('{symbol}', '{month}-10', 1)" for month, symbol in ONCE)
        self.execute(f"insert into {schema}.entries values {rows}")

    def execute(self, sql: str) -> None:
        self.let_go()
        with connect(self.target, tag="test") as warehouse:
            warehouse.execute(sql)

    def query(self, sql: str) -> list[tuple]:
        self.let_go()
        with connect(self.target, tag="test") as warehouse:
            return warehouse.rows(sql)

    def of(self, table: str) -> str:
        return f"{self.target.schema}.{table}"

    def rows(self, table: str) -> dict[tuple[str, str], int]:
        """Rows by month and symbol."""
        found = self.query(f"select day, symbol, count(*) from {self.of(table)} group by day, symbol")
        return {(f"{day:%Y-%m}", symbol): count for day, symbol, count in found}

    def context(self, **options: Any) -> FakeContext:
        self.let_go()
        return FakeContext(self.config, now=TODAY, **options)

    def only(self, select: str, *what: str) -> list[Record]:
        request = Request([select], [], None, [], False, "{}", only=[*what])
        return list(
            plan_batches(self.context(), request, to=None, resume=False, accept_drift=False, delay_s=0, most_added=5)
        )

    def bases(self, *select: str) -> dict[tuple[str, str], set[str | None]]:
        """By model and stage what the forecasts of a full refresh rest on."""
        planner = foretold(plan_batches, Asked(estimate=True))
        request = Request([*select], [], None, [], False, "{}")
        options = {"to": None, "resume": False, "accept_drift": False, "delay_s": 0}
        found: dict[tuple[str, str], set[str | None]] = {}
        for batch in planner(self.context(), request=request, **options):
            if isinstance(batch, Batch):
                model = (batch.model or "").rpartition(".")[2]
                found.setdefault((model, batch.stage), set()).add(batch.estimate and batch.estimate.basis)
        return found

    def carry_out(self, records: list[Record], run_id: str) -> list[BatchResult]:
        plan = records[0]
        assert isinstance(plan, Plan)
        plan.run_id = run_id
        results = run_dbt_batch(self.context(stream=records), Options(None, None, None))
        return [record for record in results if isinstance(record, BatchResult)]

    def adopt(self, *select: str, dry_run: bool = False) -> list[BatchResult]:
        records = adopt(self.context(dry_run=dry_run), [*select], [])
        return [record for record in records if isinstance(record, BatchResult)]

    def coverage(self, name: str) -> dict[tuple[str, str], str]:
        records = sluice_state.coverage(self.context(), [name], [])
        found = {}
        for record in records:
            assert isinstance(record, Coverage)
            found |= {(record.stage, f"{cell.month:%Y-%m}" if cell.month else ""): cell.status for cell in record.cells}
        return found


@pytest.fixture(params=["duckdb", *LONG_ENGINES])
def shop(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Covered]:
    made = Covered(tmp_path, request.getfixturevalue(f"{request.param}_target"))
    yield made
    made.let_go()


def cells_of(records: list[Record]) -> list[tuple[str, str]]:
    """Stage and first month of each batch."""
    batches = [record for record in records if isinstance(record, Batch)]
    return [(batch.stage, f"{batch.window.start:%Y-%m}") for batch in batches if batch.window]


@pytest.mark.long
def test_what_another_tool_built_is_adopted_and_then_only_its_hole_is_filled(shop: Covered) -> None:
    shop.build("replaceable", "whole")  # through dbt, past the state store
    shop.execute(f"delete from {shop.of('replaceable')} where day = '2024-03-10' and symbol = 'USDC'")
    assert set(shop.coverage("replaceable").values()) == {"unrecorded", "never_run"}

    rehearsed = shop.adopt(dry_run=True)
    assert {(one.model, one.status) for one in rehearsed if one.stage != "default"} >= {
        ("model.shop.replaceable", "dry_run"), ("model.shop.replaceable", "skipped"),
    }  # fmt: skip
    assert State.open_existing(shop.config.state_url) is None

    adopted = shop.adopt("replaceable", "whole")
    assert [(one.stage, str(one.window.start)) for one in adopted if one.status == "skipped" and one.window] == [
        ("usdc", "2024-03-01")
    ]
    assert shop.coverage("whole") == {("default", ""): "ok"}
    covered = shop.coverage("replaceable")
    assert {cell for cell, status in covered.items() if status == "ok"} == ALL - {("usdc", "2024-03")}

    before = shop.rows("replaceable")
    planned = shop.only("replaceable", "gaps")
    assert cells_of(planned) == [("usdc", "2024-03")]
    batch = planned[1]
    assert isinstance(batch, Batch)
    assert (batch.full_refresh, batch.reason, "replace_partitions" in batch.vars) == (False, "gap", False)
    assert [one.status for one in shop.carry_out(planned, "filling")] == ["ok"]
    assert shop.rows("replaceable") == ONCE != before
    assert set(shop.coverage("replaceable").values()) == {"ok"}
    assert shop.only("replaceable", "gaps", "failed", "stale") == []


@pytest.mark.long
def test_a_month_of_which_the_source_has_nothing_is_run_once_and_is_no_hole_any_more(shop: Covered) -> None:
    shop.execute(f"delete from {shop.of('entries')} where symbol = 'USDC' and day < '2024-04-01'")
    months = [("usdc", month) for month in MONTHS[:3]]
    shop.carry_out(shop.only("replaceable", "gaps"), "first")
    assert set(shop.coverage("replaceable").values()) == {"ok"}
    assert shop.only("replaceable", "gaps") == []
    shop.execute(f"insert into {shop.of('entries')} values ('USDC', '2024-02-10', 1)")  # which came late
    assert cells_of(shop.only("replaceable", "gaps")) == [months[1]]


@pytest.mark.long
def test_a_forecast_rests_on_what_was_measured_and_on_rows_that_the_engine_counts(shop: Covered) -> None:
    assert shop.bases("replaceable", "whole") == {
        ("replaceable", "rest"): {None}, ("replaceable", "usdc"): {None}, ("whole", "default"): {None},
    }  # fmt: skip
    request = Request(["replaceable"], [], None, ["rest"], False, "{}")
    options = {"to": None, "resume": False, "accept_drift": False, "delay_s": 0}
    one_stage = list(foretold(plan_batches, Asked(estimate=True))(shop.context(), request=request, **options))
    there: Counter[str] = Counter()
    for (month, symbol), rows in shop.rows("entries").items():
        there[month] += rows if symbol != "USDC" else 0
    counted = {
        f"{one.window.start:%Y-%m}": one.source_rows for one in one_stage if isinstance(one, Batch) and one.window
    }
    assert counted == there
    shop.carry_out(one_stage, "first")
    assert shop.bases("replaceable", "appended", "whole", "latest") == {
        ("replaceable", "rest"): {"cell, by source rows"},
        ("replaceable", "usdc"): {"model, by source rows"},
        ("appended", "rest"): {"all models, by source rows"},
        ("appended", "usdc"): {"all models, by source rows"},
        ("whole", "default"): {"all models, by source rows"},
        ("latest", "default"): {None},  # a view costs nothing by row
    }


@pytest.mark.long
def test_what_was_adopted_can_be_taken_back(shop: Covered) -> None:
    shop.build("replaceable")
    (run_id,) = {one.run_id for one in shop.adopt("replaceable")}
    with pytest.raises(SluiceError) as caught:
        shop.adopt("replaceable")
    assert (caught.value.exit_code, caught.value.code) == (REFUSED, "adopt_nothing")
    list(sluice_state.look(shop.context(), "discard", run_id, None, limit=1, rows_are_there=False))
    assert set(shop.coverage("replaceable").values()) == {"unrecorded"}
    assert shop.rows("replaceable") == ONCE


@pytest.mark.long
def test_stale_rows_are_replaced_and_refused_where_the_model_can_only_append(shop: Covered) -> None:
    shop.build("replaceable", "appended")
    shop.adopt("replaceable", "appended")
    for name in ("replaceable", "appended"):
        path = shop.root / f"models/{name}.sql"
        path.write_text(path.read_text().replace("day, amount from", "day, amount + 1 as amount from"))
    assert set(shop.coverage("replaceable").values()) == {"stale"}
    planned = shop.only("replaceable", "stale")
    assert sorted(cells_of(planned)) == sorted(ALL)
    assert not any(isinstance(one, Batch) and one.full_refresh for one in planned)
    assert {one.status for one in shop.carry_out(planned, "again")} == {"ok"}
    assert shop.rows("replaceable") == ONCE
    assert shop.query(f"select distinct amount from {shop.of('replaceable')}") == [(2,)]
    with pytest.raises(SluiceError, match="append to a month that holds") as caught:
        shop.only("appended", "stale")
    assert caught.value.code == "guard_g03"


@pytest.mark.long
def test_a_plan_of_holes_goes_on_with_what_was_found_then(shop: Covered) -> None:
    planned = shop.only("appended", "gaps")
    assert sorted(cells_of(planned)) == sorted(ALL)
    assert isinstance(planned[0], Plan)
    assert len(holes.decoded(str(planned[0].request["holes"]))) == len(ALL)
    shop.carry_out(planned[:3], "first")  # its first two batches
    request = Request(["appended"], [], None, [], False, "{}", only=["gaps"])
    rest = list(
        plan_batches(shop.context(), request, to=None, resume=True, accept_drift=False, delay_s=0, most_added=5)
    )
    assert [*cells_of(planned[:3]), *cells_of(rest)] == cells_of(planned)
    shop.carry_out(rest, "second")
    assert shop.rows("appended") == ONCE
