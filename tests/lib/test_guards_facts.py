"""What the guards ask of the warehouse, on a real DuckDB: rows, first days and values that are there; what cannot be known is left out."""

from collections.abc import Iterator
from contextlib import nullcontext
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from test_guards import TO, Project, staged

from sluice.guards import check, facts
from sluice.guards.case import Case
from sluice.profiles import Credentials
from sluice.warehouse import Warehouse, connect

pytest_plugins = ["servers"]
JANUARY, MARCH = date(2024, 1, 1), date(2024, 3, 1)
TWO = staged({"symbol": "A"}, {"symbol_exclude": "A"})
SOURCE: dict[str, Any] = {"materialized": "table"}
FILTER = "{{ sluice.apply_monthly_incremental_filter('born') }}"


@pytest.fixture
def warehouse(duckdb_target: Credentials) -> Iterator[Warehouse]:
    with connect(duckdb_target, tag="test") as opened:
        yield opened


class Shop:
    """The warehouse, and cases of models whose tables are in it."""

    def __init__(self, folder: Path, warehouse: Warehouse):
        self.folder, self.warehouse = folder, warehouse

    def table(self, name: str, columns: str, *rows: str) -> None:
        self.warehouse.execute(f"create table shop.shop.{name} ({columns})")
        for row in rows:
            self.warehouse.execute(f"insert into shop.shop.{name} values ({row})")

    def case(self, models: dict[str, dict[str, Any]], *, replace: bool = False, **fields: Any) -> Case:
        project = Project(self.folder, models)
        nodes = project.manifest.nodes
        nodes.update(
            {uid: msgspec.structs.replace(node, database="shop", schema="shop") for uid, node in nodes.items()}
        )
        given = {"intent": "full_refresh", "to": TO, "today": TO} | fields
        batches = project.batches(replace=replace)
        return Case(project.manifest, "duckdb", batches=batches, blocks=project.blocks, **given)

    def gather(self, models: dict[str, dict[str, Any]], **fields: Any) -> facts.Facts:
        return facts.gather(self.case(models, **fields), self.warehouse)

    def source_months(self, models: dict[str, dict[str, Any]], **more: bool) -> dict[str, dict[date, int]]:
        """By stage of m."""
        case = self.case(models)
        stages = [(uid, stage) for uid in ("model.shop.m", "model.shop.gone") for stage in ("s0", "s1")]
        return {stage: rows for (_, stage), rows in facts.source_months(case, self.warehouse, stages, **more).items()}


@pytest.fixture
def shop(tmp_path: Path, warehouse: Warehouse) -> Shop:
    return Shop(tmp_path, warehouse)


# -- what a planner makes of them ---------------------------------------------------------------------------------------


def test_a_plan_is_judged_by_what_is_there_under_the_configs_that_dbt_gives(
    shop: Shop, duckdb_target: Credentials
) -> None:
    shop.table("m", "symbol varchar, day date", "'A', '2024-01-15'")
    sql = "{{ config(incremental_strategy='append' if var('symbol', none) else 'delete+insert') }} select symbol from x"
    case = shop.case({"m": {"block": TWO, "sql": sql, "unique_key": "id", "incremental_strategy": "delete+insert"}})
    asked: list[Any] = []

    def moved(questions: list[Any]) -> list[dict[str, Any]]:
        asked.extend(questions)
        return [{"incremental_strategy": "append"}, *[{}] * (len(questions) - 1)]

    project: Any = SimpleNamespace(
        manifest=case.manifest, info=SimpleNamespace(yaml_vars={}), moved_configs=moved,
        connect=lambda tag: nullcontext(shop.warehouse),
    )  # fmt: skip
    plan: Any = SimpleNamespace(adapter="duckdb", intent="full_refresh", to=TO)
    (found,) = check.findings(project, plan, case.batches, today=TO, base_vars={}, grown=case.blocks)
    assert (found.code, found.stage, found.window and found.window.start) == ("G03", "s0", JANUARY)
    assert len(asked) == 6, "of the stage that sets the var"
    shop.warehouse.execute("delete from shop.shop.m")
    assert check.findings(project, plan, case.batches, today=TO, base_vars={}, grown=case.blocks) == []


# -- the table itself ----------------------------------------------------------------------------------------------------


def test_rows_are_counted_by_month_and_stage(shop: Shop) -> None:
    shop.table(
        "m", "symbol varchar, day date", "'A', '2024-01-15'", "'A', '2024-01-16'", "'B', '2024-03-01'", "'B', null"
    )
    found = shop.gather({"m": {"block": TWO}})
    assert found.months == {("model.shop.m", "s0"): {JANUARY: 2}, ("model.shop.m", "s1"): {MARCH: 1}}
    assert found.absent == []
    assert shop.gather({"m": {"block": TWO}}, replace=True).months == {}, "what is made anew is not asked about"


def test_a_table_that_is_not_there_has_no_rows_and_is_said_to_be_absent(shop: Shop) -> None:
    found = shop.gather({"m": {"block": {}}})
    assert (found.months, found.absent) == ({("model.shop.m", "default"): {}}, ["model.shop.m"])


def test_ranges_are_counted_from_their_start_to_before_their_end(shop: Shop) -> None:
    shop.table("m", "idx integer, day date", "9, '2024-01-15'", "10, '2024-01-15'", "99, '2024-01-16'")
    block = staged({"idx_end": 10}, {"idx_start": 10})
    found = shop.gather({"m": {"block": block, "sql": "select idx, day from x"}})
    assert found.months == {("model.shop.m", "s0"): {JANUARY: 1}, ("model.shop.m", "s1"): {JANUARY: 2}}


@pytest.mark.parametrize(
    ("columns", "model", "day"),
    [
        ("day date, dt date", {"block": {"date_column": "dt"}}, "dt"),
        ("day date", {"block": {"date_column": "gone"}}, None),
        ("day date, dt date", {"meta": {"canary": {"date_column": "dt"}}}, "dt"),
        ("dt date, born date, day date", {"partition_by": "(symbol, toYYYYMM(born))"}, "born"),
        ("dt date, day date", {"partition_by": "toYYYYMM(gone)"}, "day"),
        ("n integer, born timestamp", {}, "born"),
        ("born date, died date", {}, None),  # who knows by which
        ("n integer", {}, None),
    ],
)
def test_which_column_months_go_by(shop: Shop, columns: str, model: dict, day: str | None) -> None:
    shop.table("m", columns)
    (asked,) = shop.case({"m": {"block": {}} | model}).blocks.values()
    node = shop.case({"m": {"block": {}} | model}).node("model.shop.m")
    there = dict(tuple(column.split()) for column in columns.split(", "))
    assert facts.date_column(node, asked, there) == day
    assert shop.gather({"m": {"block": {}} | model}).months == ({("model.shop.m", "default"): {}} if day else {})


@pytest.mark.parametrize("stages", [[{"symbol": " , "}], [{"mode": "old"}]])
def test_of_a_stage_whose_rows_cannot_be_told_nothing_is_known(shop: Shop, stages: list[dict]) -> None:
    shop.table("m", "symbol varchar, day date", "'A', '2024-01-15'")
    shop.table("src", "symbol varchar, day date", "'A', '2024-01-15'")
    found = shop.gather({"src": SOURCE, "m": {"block": staged(*stages), "on": ["src"]}})
    assert (found.months, found.first_days, found.values) == ({}, {}, {})


def test_whole_models_with_rows(shop: Shop) -> None:
    shop.table("filled", "n integer", "1")
    shop.table("empty", "n integer")
    shop.warehouse.execute("create view shop.shop.seen as select 1 as n where 1 = 0")
    whole = {name: {"materialized": "table"} for name in ("filled", "empty", "gone")}
    case = shop.case(whole | {"seen": {"materialized": "view"}, "m": {"block": {}}})
    assert facts.whole_with_rows(case, shop.warehouse) == {"model.shop.filled", "model.shop.seen"}


# -- what it is made from -----------------------------------------------------------------------------------------------


def test_the_first_day_of_a_stage_is_that_of_its_earliest_source(shop: Shop) -> None:
    shop.table("src", "symbol varchar, born date", "'A', '2024-02-10'", "'A', '2024-03-10'")
    shop.table("older", "symbol varchar, born timestamp", "'A', '2023-05-06 10:00'", "'B', '2022-01-01 00:00'")
    shop.table("undated", "symbol varchar, day date", "'A', '2020-01-01'")  # its filter goes by another column
    shop.table("unsliced", "born date", "'2020-01-01'")
    models = {name: SOURCE for name in ("src", "older", "undated", "unsliced", "empty")}
    shop.table("empty", "symbol varchar, born date")
    block = staged({"symbol": "A"}, {"symbol": "C"})
    m = {"block": block, "on": [*models], "sql": f"select symbol, born from x {FILTER}"}
    found = shop.gather(models | {"m": m})
    assert found.first_days == {("model.shop.m", "s0"): (date(2023, 5, 6), "older")}
    named = shop.gather(models | {"m": m | {"block": block | {"source": "src"}}})
    assert named.first_days == {("model.shop.m", "s0"): (date(2024, 2, 10), "src")}
    assert shop.gather(models | {"m": m}, intent="refill").first_days == {}


def test_the_values_of_all_sources_that_have_them_are_put_together(shop: Shop) -> None:
    shop.table("one", "symbol varchar, idx integer", "'A', 3", "'B', 9")
    shop.table("two", "symbol varchar, idx bigint", "'B', 0", "null, 4")
    shop.table("none", "symbol varchar, idx integer")
    shop.table("other", "n integer", "1")
    models = {name: SOURCE for name in ("one", "two", "none", "other")}
    block = staged({"symbol": "A", "idx_end": 5, "mode": "x"}, {"symbol_exclude": "A", "idx_start": 5, "gone": "y"})
    found = shop.gather(models | {"m": {"block": block, "on": [*models], "sql": "select symbol, idx, mode from x"}})
    assert found.values.keys() == {"model.shop.m"}
    values = found.values["model.shop.m"]
    assert values.keys() == {"symbol", "idx"}
    assert sorted(values["symbol"], key=str) == ["A", "B", None]
    assert len(values["symbol"]) == 3
    assert values["idx"] == [(0, 9)]


def test_more_values_than_can_be_looked_at_are_not_known(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "MOST_VALUES", 2)
    shop.table("src", "symbol varchar", "'A'", "'B'")
    models = {"src": SOURCE, "m": {"block": TWO, "on": ["src"]}}
    assert sorted(shop.gather(models).values["model.shop.m"]["symbol"]) == ["A", "B"]
    shop.warehouse.execute("insert into shop.shop.src values ('C')")
    assert shop.gather(models).values == {}


def test_rows_of_sources_by_month_with_all_of_them_or_with_those_that_can_be_counted(shop: Shop) -> None:
    shop.table("one", "symbol varchar, day date", "'A', '2024-01-15'", "'B', '2024-03-01'")
    shop.table("two", "symbol varchar, day date", "'A', '2024-01-20'", "'A', '2024-03-01'")
    shop.table("unsliced", "day date", "'2024-01-01'")
    shop.table("undated", "symbol varchar", "'A'")
    names = ["one", "two", "undated", "unsliced"]
    models = {name: SOURCE for name in names}
    counted = {"s0": {JANUARY: 2, MARCH: 1}, "s1": {MARCH: 1}}
    assert shop.source_months(models | {"m": {"block": TWO, "on": names[:3]}}, all_of_them=True) == counted
    assert shop.source_months(models | {"m": {"block": TWO, "on": names}}) == counted
    assert shop.source_months(models | {"m": {"block": TWO, "on": names}}, all_of_them=True) == {}
    assert shop.source_months(models | {"m": {"block": TWO, "on": ["undated"]}}) == {}


def test_rows_of_parents_unless_one_is_a_view_or_cannot_be_counted(shop: Shop) -> None:
    shop.table("one", "n integer", "1", "2")
    shop.table("two", "n integer", "1")
    shop.warehouse.execute("create view shop.shop.seen as select 1 as n")
    of = {"m": ["one", "two"], "seeing": ["one", "seen"], "lost": ["one", "gone"], "failing": ["broken"], "own": []}
    parents = dict.fromkeys(["one", "two", "gone", "broken"], SOURCE) | {"seen": {"materialized": "view"}}
    models = parents | {name: SOURCE | {"on": on} for name, on in of.items()}
    shop.warehouse.execute("create view shop.shop.broken as select n from range(3) t(n) where ('x' || n)::integer > 0")
    found = facts.rows_of_parents(shop.case(models), shop.warehouse, [f"model.shop.{name}" for name in of])
    assert {uid.rpartition(".")[2]: rows for uid, rows in found.items()} == {"m": 3, "own": 0}


def test_a_source_is_read_where_dbt_says_it_is(shop: Shop) -> None:
    shop.table("entries", "n integer", "1", "2")
    case = shop.case({"m": SOURCE})
    source = msgspec.structs.replace(
        case.node("model.shop.m"), unique_id="source.shop.raw.entries", name="entries", resource_type="source",
        database="named_otherwise", relation_name='"shop"."shop"."entries"',
    )  # fmt: skip
    case.manifest.nodes[source.unique_id] = source
    case.manifest.parents["model.shop.m"] = [source.unique_id]
    assert facts.rows_of_parents(case, shop.warehouse, ["model.shop.m"]) == {"model.shop.m": 2}


# -- how it is asked ----------------------------------------------------------------------------------------------------


def test_a_question_that_fails_is_left_unanswered_and_the_others_are_not(
    shop: Shop, heard: pytest.LogCaptureFixture
) -> None:
    shop.table("m", "symbol varchar, day varchar", "'A', 'soon'")
    shop.table("n", "symbol varchar, day date", "'A', '2024-01-15'")
    found = shop.gather({"m": {"block": {}}, "n": {"block": {}}})
    assert found.months == {("model.shop.n", "default"): {JANUARY: 1}}
    assert "a guard could not ask the warehouse" in heard.text


def test_when_the_time_is_over_nothing_more_is_asked(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, heard: pytest.LogCaptureFixture
) -> None:
    shop.table("m", "symbol varchar, day date", "'A', '2024-01-15'")
    shop.table("src", "symbol varchar, day date", "'A', '2024-01-15'")
    monkeypatch.setattr(facts, "TIMEOUT_S", 0)
    models = {"src": SOURCE, "m": {"block": TWO, "on": ["src"]}}
    assert shop.gather(models) == facts.Facts(absent=[])
    assert "could not ask" not in heard.text, "it was not even tried"
    assert facts.months(shop.case(models), shop.warehouse) == {}
    assert facts.rows_of_parents(shop.case(models), shop.warehouse, ["model.shop.m"]) == {}
