"""How a batch may be cut when it is too big: what its SQL and its strategy allow, and what is said where they do not."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from test_guards import TO, Project

from sluice.guards import cuts
from sluice.guards.case import Case
from sluice.pipe import refuse_jinja
from sluice.records import Ways

APPEND: dict[str, Any] = {"incremental_strategy": "append", "block": {}}
KEYED = {"incremental_strategy": "delete+insert", "unique_key": ["symbol", "day"], "block": {}}
FILTER = "{{ sluice.apply_monthly_incremental_filter('day') }}"
PLAIN = f"select symbol, day, amount from x {FILTER} and {{{{ sluice.symbol_filter('symbol') }}}}"
STAGES = {"stages": [{"name": "some", "vars": {"symbol": "A,B"}}, {"name": "rest", "vars": {"symbol_exclude": "A,B"}}]}
INDEXES = {"stages": [{"name": "low", "vars": {"validator_index_start": 0, "validator_index_end": 9}}]}
BLOCKS = {"stages": [{"name": "low", "vars": {"block_start": 0, "block_end": 9}}]}
SUMS = f"select symbol, day, sum(amount) as amount from x {FILTER} group by symbol, day"
BY_HAND = "select day from x where day >= '{{ var(\"start_month\") }}'"


def macro(name: str, sql: str, package: str = "sluice") -> dict[str, Any]:
    uid = f"macro.{package}.{name}"
    return {uid: {"unique_id": uid, "name": name, "package_name": package, "macro_sql": sql}}


PACKAGE = macro("month_window", "return(sluice.days_of(months))")


def ways(
    folder: Path, sql: str, *, macros: dict | None = None, adapter: str = "duckdb", vars: dict | None = None,
    calls: tuple[str, ...] = (), **config: Any,
) -> Ways:  # fmt: skip
    project = Project(folder, {"m": {"sql": sql, **config}}, macros={**PACKAGE, **(macros or {})})
    project.manifest.nodes["model.shop.m"].depends_on.macros = list(calls)
    batches = project.batches()
    for batch in batches:
        batch.vars = {**batch.vars, **(vars or {})}
    case = Case(
        project.manifest, adapter, intent="full_refresh", batches=batches, to=TO, today=TO, blocks=project.blocks
    )
    found = cuts.ways(case, batches[0])
    assert found is not None
    refuse_jinja(found.but)  # it travels in the plan
    assert list(cuts.of_plan(case, batches)) == [cuts.ways(case, batch) for batch in batches]
    return found


@pytest.mark.parametrize(
    ("sql", "config", "window", "slices"),
    [
        (PLAIN, APPEND, "day", []),
        (PLAIN, KEYED, "day", []),
        (PLAIN, APPEND | {"block": STAGES}, "day", ["symbol"]),
        (SUMS, KEYED, "day", []),
        (SUMS, APPEND | {"unique_key": ["symbol", "block_date"]}, "day", []),
        (f"select * from x {FILTER} and {{{{ sluice.index_range_filter('i') }}}}", APPEND | {"block": INDEXES}, "day", ["validator_index"]),
        (f"select * from x {FILTER} and {{{{ sluice.index_range_filter('i', var_name='block') }}}}", APPEND | {"block": BLOCKS}, "day", ["block"]),
        (f"select * from x {FILTER} and {{{{ sluice.index_range_filter('i') }}}}", APPEND | {"block": BLOCKS}, "day", []),
        (PLAIN.replace("('symbol')", "('symbol', include=['A'])"), APPEND | {"block": STAGES}, "day", []),
        (f"select day, lag(x) over (order by day), {{{{ sluice.window_start() }}}} from x {FILTER}", APPEND, "day", []),
        (f"{{{{ config(partition_by='toStartOfMonth(day)', s=('append' if var('start_month', none) else 'x')) }}}} {PLAIN}", APPEND, "day", []),
        (f"select day, sum(x) over (partition by day, symbol order by x) from x {FILTER}", APPEND | {"unique_key": "day"}, "day", []),
        (f"select date_trunc('month', day) from x {FILTER}", APPEND | {"block": {"min_window": "week"}}, "week", []),
    ],
)  # fmt: skip
def test_what_may_be_cut(tmp_path: Path, sql: str, config: dict, window: str, slices: list[str]) -> None:
    found = ways(tmp_path, sql, **config)
    assert (found.window, found.slices, found.but) == (window, slices, "")


@pytest.mark.parametrize(
    ("sql", "config", "said"),
    [
        ("select day from x", APPEND, "does not filter by the days"),
        (f"select day from x -- {FILTER}", APPEND, "does not filter by the days"),
        (f"{BY_HAND} {FILTER}", APPEND, "reads start_month or end_month itself"),
        (PLAIN + " and day > '{{ var('start_date') }}'", APPEND, "start_date and end_date mean something else"),
        (PLAIN, APPEND | {"vars": {"start_date": "2019-01-01"}}, "start_date and end_date mean something else"),
        (PLAIN, APPEND | {"block": {"min_window": "month"}}, "min_window: month"),
        (PLAIN, APPEND | {"macros": macro("month_window", "as of old")}, "knows no days: dbt deps"),
    ],
)  # fmt: skip
def test_where_days_do_not_reach_the_sql_months_are_the_shortest(
    tmp_path: Path, sql: str, config: dict, said: str
) -> None:
    found = ways(tmp_path, sql, **config)
    assert found.window == "month"
    assert said in found.but


@pytest.mark.parametrize(
    ("sql", "config", "said"),
    [
        (f"select toStartOfMonth(day), amount from x {FILTER}", APPEND, "of a whole week or month"),
        (f"select date_trunc('week', day), amount from x {FILTER}", APPEND, "of a whole week or month"),
        (f"select extract(month from day) from x {FILTER}", APPEND, "of a whole week or month"),
        (f"select day, lag(x) over (order by day) from x {FILTER}", APPEND, "a window function"),
        (f"select symbol, sum(amount) from x {FILTER} group by symbol", APPEND, "its unique_key has no day"),
        (SUMS, APPEND, "its unique_key has no day"),
        (SUMS, APPEND | {"unique_key": ["symbol", "month"]}, "its unique_key has no day"),
        (f"select symbol from x {FILTER} and b > (select max(b) from {{{{ this }}}})", APPEND | {"meta": {"cumulative": True}}, "goes on from its own days"),
    ],
)  # fmt: skip
def test_where_shorter_windows_may_leave_other_rows_time_is_not_cut(
    tmp_path: Path, sql: str, config: dict, said: str
) -> None:
    found = ways(tmp_path, sql, **config)
    assert found.window == "planned"
    assert said in found.but
    assert "min_window: day" in found.but


@pytest.mark.parametrize(
    ("select", "key", "is_apart"),
    [
        ("symbol, day, amount", [], True),
        ("symbol, day, sum(amount)", ["symbol", "day"], True),
        ("day, sum(amount)", ["day"], False),
        ("symbol, day, amount / sum(amount) over (partition by day)", ["symbol", "day"], False),
        ("symbol, day, amount / sum(amount) over (partition by (day), x.symbol order by a)", ["symbol", "day"], True),
        ("symbol, day, row_number() over (order by amount)", ["symbol", "day"], False),
    ],
)
def test_a_stage_is_cut_only_where_its_values_have_nothing_to_do_with_each_other(
    tmp_path: Path, select: str, key: list[str], is_apart: bool
) -> None:
    found = ways(tmp_path, PLAIN.replace("symbol, day, amount", select), block=STAGES, unique_key=key)
    assert (found.slices == ["symbol"]) == is_apart


def test_a_stage_that_takes_no_row_is_not_cut_by_its_values(tmp_path: Path) -> None:
    assert ways(tmp_path, PLAIN, vars={"symbol": " , "}, **APPEND | {"block": STAGES}).slices == []


def test_what_the_projects_own_macros_compute_counts_as_the_models(tmp_path: Path) -> None:
    own = macro("by_month", "toStartOfMonth(day)", package="shop")
    outer = macro("outer", "{{ by_month() }}", package="shop")
    outer["macro.shop.outer"]["depends_on"] = {"macros": list(own)}
    for called in ("by_month", "outer"):  # straight, or by another
        found = ways(tmp_path, PLAIN, macros=own | outer, calls=(f"macro.shop.{called}",), **APPEND)
        assert "of a whole week or month" in found.but


OVER = {"incremental_strategy": "insert_overwrite", "block": STAGES}


@pytest.mark.parametrize(
    ("partition_by", "window", "slices"),
    [
        ("toStartOfMonth(day)", "month", []), ("toDate(day)", "day", []), ("(symbol, toDate(day))", "day", ["symbol"]),
        ("(symbol, toYYYYMM(day))", "month", ["symbol"]), ("toMonday(day)", "planned", []), ("toYear(day)", "planned", []),
        ("chain", "planned", []), (None, "planned", []),
    ],
)  # fmt: skip
def test_a_part_never_overwrites_the_partition_of_its_siblings(
    tmp_path: Path, partition_by: Any, window: str, slices: list[str]
) -> None:
    found = ways(tmp_path, PLAIN, adapter="clickhouse", partition_by=partition_by, **OVER)
    assert (found.window, found.slices) == (window, slices)
    assert ("each part would wipe out" in found.but) == (window != "day")


@pytest.mark.parametrize(
    ("sql", "key", "window"),
    [
        ("delete from t where {{ sluice.window_filter('day') }}", [], "day"),
        ("delete from t where day >= '{{ var('start_month') }}'", [], "planned"),
        ("delete from t where day >= '{{ var('start_month') }}'", ["symbol", "day"], "planned"),
        ("truncate table t", [], "planned"),
        ("delete from t where id in (select id from tmp)", ["symbol", "day"], "day"),
    ],
)
def test_a_delete_of_ones_own_must_go_by_the_window(tmp_path: Path, sql: str, key: list[str], window: str) -> None:
    own = macro("default__get_delete_insert_merge_sql", sql, package="shop")
    found = ways(tmp_path, PLAIN, macros=own, incremental_strategy="delete+insert", unique_key=key, block=STAGES)
    assert (found.window, bool(found.slices)) == (window, window == "day")
    assert ("delete what the others wrote" in found.but) == (window != "day")


def test_an_unknown_materialization_and_a_table_are_not_cut(tmp_path: Path) -> None:
    for kind in ("table", "my_own"):
        found = ways(tmp_path, PLAIN, materialized=kind, block=STAGES)
        assert (found.window, found.slices) == ("planned", [])
        assert found.but


def test_a_batch_without_a_window_has_no_ways(tmp_path: Path) -> None:
    project = Project(tmp_path, {"m": {"materialized": "table"}})
    batches = project.batches()
    case = Case(project.manifest, "duckdb", intent="full_refresh", batches=batches, to=TO, today=TO)
    assert cuts.ways(case, batches[0]) is None
    assert b'"ways":null' in msgspec.json.encode(batches[0])
