"""The guards as pure functions: what they find, what they let through, and that accepted stages cover each value once."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import jinja2
import msgspec
import pytest
from builders import a_batch
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice import full_refresh, manifest, planning
from sluice.errors import REFUSED, SluiceError
from sluice.full_refresh import FullRefresh
from sluice.guards import check, coverage
from sluice.guards.case import NAMES, Case, Finding
from sluice.guards.facts import Facts, of_no_warehouse
from sluice.guards.hooks import projected
from sluice.guards.ignored_vars import passed
from sluice.guards.partitions import Part, columns, parts, spans
from sluice.guards.rendered import ConfigReads, questions
from sluice.guards.slices import covering, slice_of
from sluice.records import Batch
from sluice.windows import month_vars, monthly_windows

ROOT = Path(__file__).resolve().parents[2]
START, TO = date(2024, 1, 1), date(2024, 6, 30)


class Project:
    """Models by hand: name -> {on: [names], sql, block, filters, and config}; all but those of `filters` False read the vars of
    their batches; `batches` are what plan-batches would plan of them."""

    def __init__(self, folder: Path, models: dict[str, dict[str, Any]], **more: Any):
        self.blocks: dict[str, FullRefresh] = {}
        nodes = {}
        for name, one in models.items():
            own = {"on": [], "sql": "select symbol, day from x", "block": None} | one

            uid = f"model.shop.{name}"
            if own["block"] is not None:
                block = {"start_date": str(START)} | own["block"]
                self.blocks[uid] = full_refresh.parse(block, file="f.yml", model=name)
                if one.get("filters", True):
                    own["sql"] += f" -- {{{{ {passed(self.blocks[uid])} }}}}"
            config = {
                "materialized": "incremental",
                **{k: v for k, v in one.items() if k not in ("on", "sql", "block", "filters")},
            }
            nodes[uid] = {
                "unique_id": uid, "name": name, "resource_type": "model", "package_name": "shop", "path": f"{name}.sql",
                "original_file_path": f"models/{name}.sql", "fqn": ["shop", name], "config": config, "raw_code": own["sql"],
                "depends_on": {"nodes": [f"model.shop.{up}" for up in own["on"]]},
            }  # fmt: skip
        nodes |= more.pop("nodes", {})
        metadata = {"dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v12.json", "adapter_type": "duckdb"}
        path = folder / "manifest.json"
        path.write_bytes(msgspec.json.encode({"metadata": metadata, "nodes": nodes, **more}))
        self.manifest = manifest.load(path)
        self.models = [f"model.shop.{name}" for name in models]

    def batches(self, *, replace: bool = True, wave: int = 1, **fields: Any) -> list[Batch]:
        batches = []
        for uid in self.models:
            stages = full_refresh.resolved(self.blocks[uid]) if uid in self.blocks else None
            own = [
                a_batch(uid, stage=s.name, window=w, vars=s.vars | month_vars(w), wave=wave, **fields)
                for s in stages or []
                for w in monthly_windows(s.start_date, TO, s.batch_months)
            ] or [a_batch(uid, wave=wave, **fields)]
            own[0].full_refresh = replace
            batches += own
        return planning.build(
            batches, [], intent="full_refresh", project="shop", target="dev", adapter="duckdb", to=TO, request={}
        )[1]

    def judge(self, *, adapter: str = "duckdb", batches: list[Batch] | None = None, **fields: Any) -> list[Finding]:
        given = {"intent": "full_refresh", "to": TO, "today": TO} | fields
        planned = self.batches() if batches is None else batches
        return check.judge(Case(self.manifest, adapter, batches=planned, blocks=self.blocks, **given))


def codes(found: list[Finding]) -> list[str]:
    return [f"{one.code}{'?' if one.severity == 'warn' else ''}" for one in found]


def one(folder: Path, block: dict | None = None, **config: Any) -> Project:
    return Project(folder, {"m": {"block": block or {}} | config})


# -- replaced, layout ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"materialized": "table"}, ["G01"]),
        ({"materialized": "view"}, ["G01"]),
        ({"materialized": "materialized_view"}, ["G01"]),
        ({"full_refresh": True}, ["G01"]),
        ({}, []),
        ({"materialized": "my_own"}, []),
        ({"materialized": "table", "block": None}, []),
    ],
)
def test_g01(tmp_path: Path, config: dict, found: list[str]) -> None:
    assert codes(Project(tmp_path, {"m": {"block": {}} | config}).judge()) == found


OVER = {"incremental_strategy": "insert_overwrite"}
TWO = {"stages": [{"name": "a", "vars": {"symbol": "A"}}, {"name": "b", "vars": {"symbol_exclude": "A"}}]}


@pytest.mark.parametrize(
    ("adapter", "partition_by", "block", "found"),
    [
        ("clickhouse", "toStartOfMonth(day)", {}, []),
        ("clickhouse", "toYYYYMM(day)", {"batch_months": 5}, []),
        ("clickhouse", "toDate(day)", {}, []),
        ("clickhouse", "day", {}, []),
        ("clickhouse", "toYear(day)", {}, ["G02"]),
        ("clickhouse", "toYear(day)", {"batch_months": 12}, []),
        ("clickhouse", "toYear(day)", {"batch_months": 12, "start_date": "2022-04-01"}, ["G02"]),
        ("clickhouse", "toStartOfQuarter(day)", {}, ["G02"]),
        ("clickhouse", "toStartOfQuarter(day)", {"batch_months": 3}, []),
        ("clickhouse", "dateTrunc('quarter', day)", {"batch_months": 6}, []),
        ("clickhouse", "toMonday(day)", {}, ["G02"]),
        ("clickhouse", "toMonth(day)", {}, ["G02"]),
        ("clickhouse", "chain", {}, ["G02"]),
        ("clickhouse", None, {}, ["G02"]),
        ("clickhouse", "toStartOfMonth(day)", TWO, ["G02"]),
        ("clickhouse", ["toStartOfMonth(day)", "symbol"], TWO, []),
        ("clickhouse", "(symbol, toYYYYMM(day))", TWO, []),
        ("clickhouse", "(chain, toYYYYMM(day))", TWO, ["G02"]),
        ("bigquery", {"field": "day", "data_type": "date", "granularity": "month"}, {}, []),
        ("bigquery", {"field": "day", "data_type": "date", "granularity": "year"}, {}, ["G02"]),
        ("bigquery", {"field": "day", "data_type": "date"}, {}, []),
        ("spark", ["day"], {}, []),
        ("spark", ["chain"], {}, ["G02"]),
        ("snowflake", None, {}, ["G02"]),
    ],
)
def test_g02(tmp_path: Path, adapter: str, partition_by: Any, block: dict, found: list[str]) -> None:
    assert codes(one(tmp_path, block, partition_by=partition_by, **OVER).judge(adapter=adapter)) == found


def test_g02_a_model_that_declares_no_stages_divides_no_column(tmp_path: Path) -> None:
    months = [a_batch("model.shop.m", window=month, vars=month_vars(month)) for month in monthly_windows(START, TO, 1)]
    for partition_by, found in (("toStartOfMonth(day)", []), ("toStartOfYear(day)", ["G02"])):
        project = one(tmp_path, None, incremental_strategy="insert_overwrite", partition_by=partition_by)
        project.blocks.clear()
        assert codes(project.judge(adapter="clickhouse", batches=months, intent="refill")) == found


def test_g02_and_g01_are_judged_under_the_batchs_own_vars(tmp_path: Path) -> None:
    project = one(tmp_path, partition_by="toYear(day)")
    batches = project.batches()
    moved = {batches[2].batch_id: project.manifest.nodes["model.shop.m"].config | OVER}
    (finding,) = project.judge(adapter="clickhouse", batches=batches, configs=moved)
    assert str(finding).startswith("G02 overwrite-narrow: models/m.sql: model m, 2024-03: insert_overwrite replaces")
    moved = {batches[1].batch_id: project.manifest.nodes["model.shop.m"].config | {"materialized": "table"}}
    assert codes(project.judge(batches=batches, configs=moved)) == ["G01"]


@pytest.mark.parametrize(
    ("partition_by", "block", "config", "found"),
    [
        ("day", {"batch_months": 6}, {}, ["G09"]),
        ("day", {"batch_months": 3}, {}, []),
        ("toStartOfMonth(day)", {"start_date": "2000-01-01", "batch_months": 100}, {}, []),
        ("toStartOfMonth(day)", {"start_date": "2000-01-01", "batch_months": 101}, {}, ["G09"]),
        ("toMonday(day)", {"start_date": "2022-01-01", "batch_months": 30}, {}, ["G09"]),
        ("(toStartOfMonth(day), cityHash64(id) % 64)", {"batch_months": 2}, {}, ["G09"]),
        ("(toStartOfMonth(day), cityHash64(id) % 64)", {}, {}, []),
        ("toStartOfHour(at)", {}, {}, ["G09"]),
        ("day", {"batch_months": 6}, {"query_settings": {"max_partitions_per_insert_block": "many"}}, ["G09"]),
        ("day", {"batch_months": 6}, {"query_settings": {"max_partitions_per_insert_block": 0}}, []),
        ("day", {"batch_months": 6}, {"query_settings": {"max_partitions_per_insert_block": "200"}}, []),
    ],
)
def test_g09(tmp_path: Path, partition_by: str, block: dict, config: dict, found: list[str]) -> None:
    assert codes(one(tmp_path, block, partition_by=partition_by, **config).judge(adapter="clickhouse")) == found
    assert codes(one(tmp_path, block, partition_by=partition_by, **config).judge(adapter="duckdb")) == []


def test_g09_counts_the_values_that_there_are(tmp_path: Path) -> None:
    project = one(tmp_path, staged({"symbol_exclude": "A"}, {"symbol": "A"}), partition_by="(toYYYYMM(day), symbol)")
    for count, found in ((101, []), (102, ["G09"])):
        symbols = ["A", *(f"S{n}" for n in range(count - 1))]
        facts = Facts(values={"model.shop.m": {"symbol": symbols}})
        assert codes(project.judge(adapter="clickhouse", facts=facts)) == found


def test_g09_leaves_a_stage_that_takes_no_row_to_g06(tmp_path: Path) -> None:
    block = {"stages": [{"name": "none", "vars": {"symbol": " , "}}, {"name": "rest", "vars": {"symbol_exclude": "A"}}]}
    assert codes(one(tmp_path, block, partition_by="(toYYYYMM(day), symbol)").judge(adapter="clickhouse")) == ["G06"]


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"engine": "ReplacingMergeTree()", "order_by": "id", "partition_by": "toYYYYMM(day)"}, ["G10"]),
        ({"engine": "ReplicatedReplacingMergeTree(v)", "order_by": ["id"], "partition_by": ["day", "id"]}, ["G10"]),
        ({"engine": "ReplacingMergeTree()", "order_by": "(id, day)", "partition_by": "toYYYYMM(day)"}, []),
        ({"engine": "ReplacingMergeTree()", "order_by": "(id, `day`)", "partition_by": "toYYYYMM(day)"}, []),
        ({"engine": "ReplacingMergeTree()", "order_by": "id", "partition_by": "id % 8"}, []),
        ({"engine": "ReplacingMergeTree()", "order_by": "id"}, []),
        ({"engine": "MergeTree()", "order_by": "id", "partition_by": "toYYYYMM(day)"}, []),
        ({"order_by": "id", "partition_by": "toYYYYMM(day)"}, []),
    ],
)
def test_g10(tmp_path: Path, config: dict, found: list[str]) -> None:
    project = one(tmp_path, **config)
    assert codes(project.judge(adapter="clickhouse")) == found
    assert codes(project.judge(adapter="clickhouse", intent="daily")) == [f"{code}?" for code in found]


def test_what_a_partition_key_is_made_of() -> None:
    assert parts("(toStartOfMonth(day), symbol, cityHash64(a, b) % 16)") == [
        Part("toStartOfMonth(day)", "month"),
        Part("symbol", None, "symbol"),
        Part("cityHash64(a, b) % 16", buckets=16),
    ]
    assert parts("date_trunc('week', day)") == [Part("date_trunc('week', day)", "week")]
    assert parts("timestamp_trunc(day, YEAR)") == [Part("timestamp_trunc(day, YEAR)", "year")]
    assert parts("(toYYYYMM(day))") == [Part("toYYYYMM(day)", "month")]
    assert parts("(toYYYYMM(day)") == [Part("(toYYYYMM(day)")]  # no time that anybody could read
    assert parts({"field": "id", "range": {"start": 0, "end": 9, "interval": 1}}) == [Part("id")]
    assert parts("tuple()") == parts("") == parts(None) == []
    assert columns("(toDate('2020-01-01'), lower(\"Name\"), `b c`, id DESC)") == {"Name", "b c", "id"}


@given(
    st.dates(date(2000, 1, 1), date(2030, 1, 1)),
    st.integers(1, 40),
    st.sampled_from(["hour", "day", "week", "month", "year"]),
)
def test_spans_are_counted_as_the_calendar_counts_them(start: date, months: int, unit: Any) -> None:
    from datetime import timedelta

    window = monthly_windows(start, start, 1)[0]
    window = type(window)(window.start, monthly_windows(window.start, date(2040, 1, 1), months)[0].end)
    days: list[Any] = [window.start + timedelta(n) for n in range((window.end - window.start).days)]
    if unit == "hour":
        days = [(day, hour) for day in days for hour in range(24)]
    keys = {
        "hour": lambda hour: hour,
        "day": lambda d: d,
        "week": lambda d: d.isocalendar()[:2],
        "month": lambda d: (d.year, d.month),
        "year": lambda d: d.year,
    }
    assert spans(unit, window) == len(set(map(keys[unit], days)))


# -- populated ------------------------------------------------------------------------------------------------

FULL = Facts(months={("model.shop.m", "default"): {START: 7}})
EMPTY = Facts(months={("model.shop.m", "default"): {}})


@pytest.mark.parametrize(
    ("config", "adapter", "facts", "found"),
    [
        ({"incremental_strategy": "append"}, "duckdb", FULL, ["G03"]),
        ({"incremental_strategy": "append"}, "duckdb", EMPTY, []),
        ({"incremental_strategy": "append"}, "duckdb", None, ["G03?"]),
        ({"incremental_strategy": "append", "unique_key": "id"}, "duckdb", FULL, ["G03"]),
        ({}, "duckdb", FULL, ["G03"]),  # without a key dbt has nothing to delete by
        ({"unique_key": "id"}, "duckdb", FULL, []),
        ({"incremental_strategy": "merge", "unique_key": "id"}, "postgres", FULL, []),
        ({"incremental_strategy": "merge"}, "postgres", FULL, ["G03"]),
        ({"engine": "MergeTree()"}, "clickhouse", FULL, ["G03"]),
        ({"engine": "MergeTree()", "unique_key": "id", "inserts_only": True}, "clickhouse", FULL, ["G03"]),
        ({"engine": "ReplacingMergeTree()", "incremental_strategy": "append"}, "clickhouse", FULL, []),
        ({"engine": "SummingMergeTree()", "incremental_strategy": "append"}, "clickhouse", FULL, ["G03"]),
    ],
)
def test_g03(tmp_path: Path, config: dict, adapter: str, facts: Facts | None, found: list[str]) -> None:
    project = one(tmp_path, **config)
    assert codes(project.judge(adapter=adapter, batches=project.batches(replace=False), facts=facts)) == found
    assert codes(project.judge(adapter=adapter, facts=facts)) == []  # the plan begins the table anew


def test_g03_a_refill_writes_again_what_is_there(tmp_path: Path) -> None:
    project = one(tmp_path, incremental_strategy="append")
    assert codes(project.judge(batches=project.batches(replace=False), intent="refill")) == ["G03"]
    project = one(tmp_path, incremental_strategy="append", unique_key=["id"])
    assert codes(project.judge(batches=project.batches(replace=False), intent="refill")) == []


def test_g13_a_refill_makes_no_table(tmp_path: Path) -> None:
    project, absent = one(tmp_path, unique_key="id"), Facts(absent=["model.shop.m"])
    batches = project.batches(replace=False)
    assert codes(project.judge(batches=batches, facts=absent, intent="refill")) == ["G13"]
    assert codes(project.judge(batches=batches, facts=Facts(absent=["model.shop.n"]), intent="refill")) == []
    assert codes(project.judge(batches=batches, facts=absent)) == []


def test_g08_asks_for_the_first_day_of_each_stage(tmp_path: Path) -> None:
    block = {"stages": [TWO["stages"][0], TWO["stages"][1] | {"start_date": "2024-03-15"}]}
    project = one(tmp_path, block)
    assert codes(project.judge()) == []

    def first(day: str) -> Facts:
        return Facts(
            first_days={("model.shop.m", "b"): (date.fromisoformat(day), "raw"), ("model.shop.m", "a"): (TO, "raw")}
        )

    assert codes(project.judge(facts=first("2024-03-01"))) == []  # the window begins with the month
    (finding,) = project.judge(facts=first("2024-02-29"))
    assert (finding.code, finding.stage, finding.fix) == ("G08", "b", "start_date: '2024-02-29'")


# -- order ----------------------------------------------------------------------------------------------------

APPEND = {"incremental_strategy": "append", "engine": "ReplacingMergeTree()"}


def readers(folder: Path, sql: str, **reader: Any) -> Project:
    view = {"materialized": "view", "on": ["m"], "sql": "select * from m"}
    return Project(
        folder, {"m": {"block": {}} | APPEND, "v": view, "r": {"sql": sql, "on": ["v"], "block": {}} | APPEND | reader}
    )


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("select sum(x) from v", ["G04"]),
        ("select count(*) from v", ["G04"]),
        ("select avg (x) from v", ["G04"]),
        ("select sumIf(x, y) from v", ["G04"]),
        ("select max(x) from v", []),
        ("select * from v", []),
        ("select * from v -- sum(x)", []),
        ("select summary(x) from v", []),
    ],
)
def test_g04_whoever_adds_up_must_wait_for_the_merge(tmp_path: Path, sql: str, found: list[str]) -> None:
    project = readers(tmp_path, sql)
    batches = project.batches(replace=False)
    facts = Facts(months={("model.shop.m", "default"): {START: 7}, ("model.shop.r", "default"): {}})
    assert codes(project.judge(adapter="clickhouse", batches=batches, facts=facts)) == found
    assert codes(project.judge(adapter="clickhouse", batches=batches)) == [f"{code}?" for code in found]
    assert codes(project.judge(adapter="clickhouse", batches=batches, intent="refill")) == found
    for batch in batches:
        batch.wave = 2 if batch.model == "model.shop.r" else 1
    assert codes(project.judge(adapter="clickhouse", batches=batches, facts=facts)) == []
    for batch in batches:
        batch.wave = 3
    assert codes(project.judge(adapter="clickhouse", batches=batches, facts=facts)) == found
    assert codes(project.judge(adapter="clickhouse")) == []  # all tables anew: there is no second copy


def test_g04_nothing_is_doubled_in_a_table_that_is_not_there_yet(tmp_path: Path) -> None:
    models = {
        "m": {"incremental_strategy": "append", "engine": "ReplacingMergeTree()"},
        "total": {"on": ["m"], "sql": "select sum(x) from m", "materialized": "table"},
    }
    project = Project(tmp_path, models)
    batches = project.batches(replace=False)
    nothing = of_no_warehouse(Case(project.manifest, "clickhouse", "full_refresh", batches, to=TO, today=TO))
    assert codes(project.judge(adapter="clickhouse", batches=batches, facts=nothing)) == []
    assert codes(project.judge(adapter="clickhouse", batches=batches)) == ["G04?"]


def test_g04_tells_once_of_a_table_that_is_read_by_two_ways(tmp_path: Path) -> None:
    view = {"materialized": "view", "sql": "select x from y"}
    models = {
        "m": {"block": {}, "incremental_strategy": "append", "engine": "ReplacingMergeTree()"},
        "both": view | {"on": ["m"]}, "left": view | {"on": ["both"]}, "right": view | {"on": ["both"]},
        "total": {"on": ["left", "right"], "sql": "select sum(x) from y", "materialized": "table"},
    }  # fmt: skip
    project = Project(tmp_path, models)
    assert codes(project.judge(adapter="clickhouse", batches=project.batches(replace=False), intent="refill")) == [
        "G04"
    ]


def test_g04_sees_a_sum_in_a_view_between(tmp_path: Path) -> None:
    project = readers(tmp_path, "select * from v")
    project.manifest.nodes["model.shop.v"].raw_code = "select sum(x) from m"
    assert codes(project.judge(adapter="clickhouse", batches=project.batches(replace=False), intent="refill")) == [
        "G04"
    ]


RUNNING = "select x + (select max_by(t.x, t.day) from {{ this }} t where t.day < y.day) from y"


def test_g05_a_cumulative_model_goes_on_to_the_current_month(tmp_path: Path) -> None:
    project = one(tmp_path, unique_key="id", sql=RUNNING)
    short = project.batches(replace=False)[:3]
    (finding,) = project.judge(batches=short)
    assert (finding.code, str(finding.window and finding.window.start)) == ("G05", "2024-03-01")
    assert codes(project.judge(batches=short, today=date(2024, 3, 31))) == []
    assert codes(project.judge(batches=project.batches(replace=False))) == []
    assert codes(project.judge(batches=project.batches()[:3])) == []  # the table ends there
    nothing_after = Facts(months={("model.shop.m", "default"): {START: 7}})
    assert codes(project.judge(batches=short, facts=nothing_after)) == []
    assert codes(one(tmp_path, unique_key="id", sql="select 1").judge(batches=short)) == []


def test_g05_windows_out_of_order(tmp_path: Path) -> None:
    project = one(tmp_path, unique_key="id", sql=RUNNING)
    assert codes(project.judge(batches=project.batches()[::-1])) == ["G05"]


@pytest.mark.parametrize(
    ("block", "sql", "found"),
    [
        ({}, RUNNING, ["G05"]),  # nothing tells the stages apart, and stages come before months
        ({}, RUNNING.replace("where", "where t.symbol = y.symbol and"), []),
        ({}, RUNNING.replace("where", "where {{ sluice.symbol_filter('coin') }} and"), []),
        ({"partition_of": "coin"}, RUNNING.replace("where", "where t.coin = y.coin and"), []),
        ({"stages_feed": False}, RUNNING, []),
        ({"stages_feed": True}, RUNNING.replace("where", "where t.symbol = y.symbol and"), ["G05"]),
    ],
)
def test_g05_stages_that_feed_each_other(tmp_path: Path, block: dict, sql: str, found: list[str]) -> None:
    project = one(tmp_path, TWO | block, unique_key="id", sql=sql)
    assert codes(project.judge()) == found
    by_month = sorted(project.batches(), key=lambda batch: batch.window.start)  # type: ignore[union-attr]
    assert codes(project.judge(batches=by_month)) == []


def test_g05_of_a_model_that_says_it_is_cumulative_nobody_knows_what_it_reads_of_itself(tmp_path: Path) -> None:
    for feed, found in ((None, ["G05"]), (False, [])):
        block = TWO | ({} if feed is None else {"stages_feed": feed})
        project = one(tmp_path, block, unique_key="id", sql="select symbol from x", meta={"cumulative": True})
        assert codes(project.judge()) == found


# -- coverage ---------------------------------------------------------------------------------------------------


def staged(*given_vars: dict[str, Any]) -> dict[str, Any]:
    return {"stages": [{"name": f"s{place}", "vars": one} for place, one in enumerate(given_vars)]}


@pytest.mark.parametrize(
    ("stages", "found"),
    [
        ([{"symbol_exclude": "A,B"}, {"symbol": "A"}, {"symbol": ["B"]}], []),
        ([{"symbol_exclude": "A, B"}, {"symbol": " B ,A"}], []),
        ([{"symbol_exclude": "A,B"}, {"symbol": "A"}], ["G06"]),
        ([{"symbol": "A"}, {"symbol": "B"}], ["G06?"]),
        ([{"symbol_exclude": "A"}, {"symbol": "a"}], ["G06", "G07"]),
        ([{"symbol_exclude": "A"}, {"symbol": "A"}, {"symbol": "A"}], ["G07"]),
        ([{}, {"symbol": "A"}], ["G07"]),
        ([{}], []),
        ([{}, {}], ["G07"]),
        ([{"symbol": " , "}, {"symbol_exclude": "A"}], ["G06"]),
        ([{"idx_start": 0, "idx_end": 10}, {"idx_start": 10}], []),
        ([{"idx_end": 10}, {"idx_start": "10"}], []),
        ([{"idx_start": 0, "idx_end": 10}, {"idx_start": 11}], ["G06"]),
        ([{"idx_start": 0, "idx_end": 11}, {"idx_start": 10}], ["G07"]),
        ([{"idx_start": 0, "idx_end": 10}, {"idx_start": 10, "idx_end": 20}], ["G06?"]),
        ([{"idx_start": 5, "idx_end": 10}, {"idx_start": 10}], ["G06?"]),
        ([{"idx_start": 10, "idx_end": 10}, {"idx_start": 0}], ["G06"]),
        ([{"idx_start": "x"}], ["G06"]),
        ([{"mode": "old"}, {"mode": "new"}], []),  # nobody knows what it divides
        ([{"symbol": "A", "idx_end": 5}, {"symbol": "A", "idx_start": 5}, {"symbol_exclude": "A"}], []),
        ([{"symbol": "A", "idx_end": 5}, {"symbol": "A", "idx_start": 6}, {"symbol_exclude": "A"}], ["G06"]),
        ([{"symbol": "A", "idx_end": 5}, {"symbol": "A"}, {"symbol_exclude": "A"}], ["G07"]),
    ],
)
def test_g06_and_g07(tmp_path: Path, stages: list[dict], found: list[str]) -> None:
    project = one(tmp_path, staged(*stages), sql="select symbol, idx from x")
    assert codes(project.judge()) == found
    alone = [batch for batch in project.batches() if batch.stage == "s0"]
    assert codes(project.judge(batches=alone)) == found  # a stage alone is not right when they are wrong together


@pytest.mark.parametrize(
    ("stages", "known", "found"),
    [
        ([{"symbol": "A"}, {"symbol": "B"}], {"symbol": ["A", "B"]}, []),
        ([{"symbol": "A"}, {"symbol": "B"}], {"symbol": ["A", "B", "C"]}, ["G06"]),
        ([{"symbol": "A"}, {"symbol_exclude": "A"}], {"symbol": ["A", None]}, ["G06"]),
        ([{"symbol": "A"}, {"symbol_exclude": "A,B"}], {"symbol": ["A", "C"]}, []),
        ([{"idx_end": 10}, {"idx_start": 10, "idx_end": 20}], {"idx": [(0, 19)]}, []),
        ([{"idx_end": 10}, {"idx_start": 10, "idx_end": 20}], {"idx": [(0, 20)]}, ["G06"]),
        ([{"idx_start": 5, "idx_end": 10}, {"idx_start": 10}], {"idx": [(5, 20)]}, []),
        ([{"idx_start": 5, "idx_end": 10}, {"idx_start": 10}], {"idx": [(4, 20)]}, ["G06"]),
    ],
)
def test_g06_looks_at_the_values_that_there_are(
    tmp_path: Path, stages: list[dict], known: dict, found: list[str]
) -> None:
    project = one(tmp_path, staged(*stages), sql="select symbol, idx from x")
    assert codes(project.judge(facts=Facts(values={"model.shop.m": known}))) == found


def test_g06_stages_that_are_too_many_to_compare_are_said_to_be(tmp_path: Path) -> None:
    many = {name: [f"{name}{n}" for n in range(200)] for name in ("symbol", "chain", "venue")}
    (finding,) = one(tmp_path, staged(many), sql="select symbol, chain, venue from x").judge()
    assert (finding.code, finding.severity) == ("G06", "warn")
    assert "too many to tell" in finding.what


# -- accepted stages, against the macros themselves and DuckDB -----------------------------------------------------


class _Returned(Exception):
    pass


class Macros:
    """The package's macros as dbt would call them, in plain Jinja."""

    def __init__(self) -> None:
        import re
        from types import SimpleNamespace

        self.vars: dict[str, Any] = {}
        environment = jinja2.Environment(extensions=["jinja2.ext.do"])

        def call(name: str) -> Any:
            def called(*arguments: Any, **named: Any) -> Any:
                try:
                    return getattr(module, name)(*arguments, **named)
                except _Returned as returned:
                    return returned.args[0]

            return called

        def returns(value: Any) -> None:
            raise _Returned(value)

        def fails(message: str) -> None:
            raise ValueError(message)

        names = ("symbol_filter", "index_range_filter", "text_list", "whole_number", "quoted")
        sluice = SimpleNamespace(**{name: call(name) for name in names})
        files = [
            ROOT / f"sql/dbt/macros/{place}.sql" for place in (*(f"slice/{n}" for n in names[:4]), "dialect/quoted")
        ]
        environment.globals |= {
            "sluice": sluice, "return": returns, "modules": SimpleNamespace(re=re),
            "var": lambda name, default=None: self.vars.get(name, default),
            "adapter": SimpleNamespace(dispatch=lambda name, _package: call(f"default__{name}")),
            "exceptions": SimpleNamespace(raise_compiler_error=fails),
        }  # fmt: skip
        module = environment.from_string("\n".join(path.read_text() for path in files)).module
        self._macros = sluice

    def predicate(self, vars: dict[str, Any]) -> str:
        self.vars = vars
        return f"{self._macros.symbol_filter('symbol')} and {self._macros.index_range_filter('idx', var_name='idx')}"


MACROS = Macros()
SYMBOLS = ["A", "B", "C", "a", "it's", "D"]
spelled = st.lists(st.sampled_from(SYMBOLS), min_size=1, max_size=4, unique=True).flatmap(
    lambda values: st.sampled_from([values, ",".join(values), " , ".join([*values, ""])])
)
by_symbol = st.lists(st.sampled_from([{"symbol": ...}, {"symbol_exclude": ...}]), min_size=1, max_size=3).flatmap(
    lambda kinds: st.tuples(*(spelled.map(lambda v, k=next(iter(kind)): {k: v}) for kind in kinds)).map(list)
)
edge = st.integers(0, 9) | st.integers(0, 9).map(str)
by_range = st.lists(st.fixed_dictionaries({}, optional={"idx_start": edge, "idx_end": edge}), min_size=1, max_size=4)


@st.composite
def right_stages(draw: Any) -> list[dict[str, Any]]:
    """Stages that divide the symbols, or an index, or the one inside of a part of the other; mostly right ones."""
    named = draw(st.lists(st.sampled_from(SYMBOLS), max_size=5, unique=True))
    cuts = sorted(draw(st.sets(st.integers(0, max(0, len(named))), max_size=2)))
    groups = [g for g in (named[i:j] for i, j in zip([0, *cuts], [*cuts, len(named)], strict=True)) if g]
    stages: list[dict[str, Any]] = [{"symbol": ",".join(group)} for group in groups]
    stages.append({"symbol_exclude": named} if named else {})
    edges = sorted(draw(st.sets(st.integers(1, 9), max_size=3)))
    if edges and draw(st.booleans()):
        ranges = [{"idx_start": i, "idx_end": j} for i, j in zip([0, *edges], edges, strict=False)] + [
            {"idx_start": edges[-1]}
        ]
        place = draw(st.integers(0, len(stages) - 1))
        stages[place : place + 1] = [stages[place] | one for one in ranges]
    if draw(st.integers(0, 3)) == 0:
        del stages[draw(st.integers(0, len(stages) - 1))]
    return draw(st.permutations(stages)) if stages else [{}]


@pytest.fixture(scope="module")
def every_row() -> Iterator[duckdb.DuckDBPyConnection]:
    """A table `rows` of each symbol with each index."""
    with duckdb.connect() as connection:
        symbols = "(values ('A'), ('B'), ('C'), ('a'), ('D'), ('it''s'), ('new')) symbols(symbol)"
        connection.execute(f"create table rows as select * from {symbols}, range(12) indexes(idx)")
        yield connection


def test_accepted_stages_take_each_value_exactly_once(tmp_path: Path, every_row: duckdb.DuckDBPyConnection) -> None:
    """2,000 configs: whatever the guards accept, the macros' own SQL on DuckDB takes each row in exactly one stage."""
    accepted: list[Any] = []
    refused: list[Any] = []
    known = {"symbol": ["A", "B", "it's"], "idx": [(0, 6)]}

    @settings(max_examples=2000)
    @given(right_stages() | by_symbol | by_range, st.booleans())
    def covers(stages: list[dict[str, Any]], looked: bool) -> None:
        project.blocks["model.shop.m"] = full_refresh.parse(
            {"start_date": str(START)} | staged(*stages), file="", model="m"
        )
        facts = Facts(values={"model.shop.m": known}) if looked else None
        case = Case(project.manifest, "duckdb", "full_refresh", batches, TO, TO, project.blocks, facts=facts)
        if [*coverage.stage_hole(case), *coverage.stage_overlap(case)]:
            refused.append(stages)
            return
        accepted.append(stages)
        taken = " + ".join(f"({MACROS.predicate(one)})::int" for one in stages)
        where = "where symbol in ('A', 'B', 'it''s') and idx <= 6" if looked else ""
        assert every_row.execute(f"select distinct {taken} from rows {where}").fetchall() == [(1,)]

    project = one(tmp_path, staged({"symbol": "A"}), sql="select symbol, idx from x")
    batches = project.batches()[:1]
    covers()
    assert len(accepted) > 300
    assert len(refused) > 300


def test_a_certain_hole_or_overlap_shows_in_some_row(every_row: duckdb.DuckDBPyConnection) -> None:
    @settings(max_examples=200)
    @given(right_stages() | by_symbol | by_range)
    def no_false_alarm(stages: list[dict[str, Any]]) -> None:
        try:
            slices = [slice_of(one) for one in stages]
        except ValueError:
            return
        found = covering(slices)
        assert found is not None
        taken = " + ".join(f"({MACROS.predicate(one)})::int" for one in stages)
        counts = {count for (count,) in every_row.execute(f"select distinct {taken} from rows").fetchall()}
        assert (counts == {1}) == all(len(takers) == 1 for _, takers in found[1])

    no_false_alarm()


# -- what the batches' vars decide ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "reads"),
    [
        ("{{ config(materialized='incremental', tags=['var']) }}", set()),
        ("{{ config(x='append' if var('start_month', none) else 'merge') }}", {"start_month"}),
        ("{{ config(x=('a' if target.type == 'clickhouse' and var('end_month', none) else 'b')) }}", {"end_month"}),
        ("{{ config(x='a' if target.type == 'duckdb' else 'b') }} select '{{ var('symbol') }}'", set()),
        ("{{ config(post_hook=\"select '{{ var('symbol') }}'\") }}", set()),
        ("{% set s = var('symbol') %}{{ config(x=s) }}", {"symbol"}),
        ("{{ config(x=var(name)) }}", {"*"}),
        ("{{ config(a='(') }}{{ config(x=var('end_month')) }}", {"end_month"}),
        ("{{ config(x=var('end_month') }}", set()),  # which dbt refuses
        ("select 1", set()),
    ],
)
def test_which_vars_decide_on_a_config(tmp_path: Path, sql: str, reads: set[str]) -> None:
    known = one(tmp_path, sql=sql).manifest
    assert ConfigReads(known).of(known.nodes["model.shop.m"]) == reads


def a_macro(name: str, package: str, sql: str) -> dict[str, Any]:
    uid = f"macro.{package}.{name}"
    return {uid: {"unique_id": uid, "name": name, "package_name": package, "macro_sql": sql}}


def test_a_var_that_a_macro_of_the_project_reads_decides_too(tmp_path: Path) -> None:
    macros = a_macro("chosen", "shop", "{{ var('mode') }}") | a_macro("ref", "dbt", "{{ var('of_dbt') }}")
    sql = "{{ config(x=chosen()) }} select * from {{ ref('y') }}"
    known = Project(tmp_path, {"m": {"sql": sql}}, macros=macros).manifest
    assert ConfigReads(known).of(known.nodes["model.shop.m"]) == {"mode"}


def test_dbt_is_asked_only_where_a_batchs_vars_decide(tmp_path: Path) -> None:
    decides = "{{ config(x='append' if var('symbol', none) else 'merge') }}"
    project = Project(tmp_path, {"m": {"sql": decides, "block": TWO}, "n": {"block": {}}})
    asked = questions(project.manifest, project.batches(), {})
    assert {one.model for one in asked.values()} == {"model.shop.m"}
    assert len(asked) == 6  # of the stage that sets it
    assert {str(one.matter) for one in asked.values()} == {"{'symbol': 'A'}"}
    assert questions(project.manifest, project.batches(), {"symbol": "A"}) == {}


def test_a_batch_of_no_one_model_is_nobodys(tmp_path: Path) -> None:
    project = one(tmp_path, unique_key="id", incremental_strategy="merge", sql="{{ config(x=var('symbol')) }}")
    of_none = msgspec.structs.replace(project.batches()[0], model=None, vars={"symbol": "A"})
    assert questions(project.manifest, [of_none], {}) == {}
    assert project.judge(batches=[of_none]) == []


def test_a_block_that_cannot_be_read_is_left_to_the_planner(tmp_path: Path) -> None:
    metas = {"good": {"start_date": "2024-01-01"}, "bad": {"start_date": "soon"}}
    models: dict[str, dict[str, Any]] = {name: {"meta": {"full_refresh": block}} for name, block in metas.items()}
    project = Project(tmp_path, models | {"plain": {}})
    assert check.blocks(project.manifest, [*project.models, "model.shop.gone"]).keys() == {"model.shop.good"}


def test_g11(tmp_path: Path) -> None:
    project = one(tmp_path)
    assert codes(project.judge(yaml_vars={"start_month": "models/m.yml"})) == ["G11"]
    assert codes(project.judge(yaml_vars={"*": "shop: dbt_project.yml"})) == ["G11"]
    assert codes(project.judge(yaml_vars={"other": "models/m.yml"})) == []
    assert codes(project.judge(yaml_vars={"end_month": "shop: shop-on-run-end-0"})) == ["G11?"]
    same = [batch for batch in project.batches() if batch.vars["start_month"] == "2024-01-01"]
    assert (
        codes(project.judge(batches=same, yaml_vars={"start_month": "m.yml"}, base_vars={"start_month": "2024-01-01"}))
        == []
    )


def test_g12(tmp_path: Path) -> None:
    hook = {
        "unique_id": "operation.shop.shop-on-run-end-0", "name": "shop-on-run-end-0", "resource_type": "operation",
        "package_name": "shop", "path": "", "original_file_path": "dbt_project.yml", "fqn": [],
    }  # fmt: skip
    long = {"start_date": "2000-01-01"}
    assert codes(Project(tmp_path, {"m": {"block": long}}, nodes={hook["unique_id"]: hook}).judge()) == ["G12?"]
    assert codes(Project(tmp_path, {"m": {"block": {}}}, nodes={hook["unique_id"]: hook}).judge()) == []
    assert codes(one(tmp_path, long).judge()) == []
    assert projected(30.0, 60.0, 299) == (
        "G12 hook-tax: on-run hooks took 30.00 of 60.0 s of a batch; 299 more would pay 149.5 min for them"
    )
    assert projected(0.01, 60.0, 299) is None


# -- what a planner does with findings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "found"),
    [
        ({}, ["G14?"]),
        ({"sql": "select {{ var('start_month') }}"}, ["G14?"]),
        ({"sql": "select {{ var('start_month') }} {{ var('end_month') }}"}, []),
        ({"sql": "select start_month, end_month"}, ["G14?"]),
        ({"sql": "select {{ var(name) }}"}, []),
        ({"sql": "select {{ var('start_month') }} {{ var('end_month') }}", "block": TWO}, ["G14?"]),
        ({"unique_key": "id", "incremental_strategy": "delete+insert"}, ["G14?"]),
        ({"materialized": "table"}, ["G01"]),
        ({"block": {"start_date": "2024-06-01"}}, []),  # one batch
        ({"block": None}, []),
    ],
)
def test_g14_batches_that_are_all_alike(tmp_path: Path, model: dict, found: list[str]) -> None:
    judged = Project(tmp_path, {"m": {"block": {}, "filters": False} | model}).judge()
    assert [code for code in codes(judged) if code not in ("G06", "G06?", "G07", "G07?")] == found


def test_g14_a_macro_of_the_project_may_read_what_the_model_does_not(tmp_path: Path) -> None:
    sql = "{{ var('start_month') }} {{ var('end_month') }}"
    for package, found in (("shop", []), ("dbt", ["G14?"])):
        models = {"m": {"block": {}, "filters": False, "sql": "select {{ months() }}"}}
        assert codes(Project(tmp_path, models, macros=a_macro("months", package, sql)).judge()) == found


def test_all_refusals_are_told_at_once_and_each_can_be_allowed(heard: pytest.LogCaptureFixture) -> None:
    findings = [
        Finding("G01", "model a", "x", "do y"),
        Finding("G06", "model b", "x", "do z", "warn"),
        Finding("G09", "model c", "x", "do w"),
    ]
    with pytest.raises(SluiceError) as caught:
        check.enforce(findings, [])
    assert (caught.value.exit_code, caught.value.code) == (REFUSED, "guard_g01")
    assert caught.value.message == "G01 table-batched: model a: x\nG09 partition-cap: model c: x\n  do w"
    assert caught.value.hint == "do y; docs/guards.md says more; --allow G01 --allow G09 to go on all the same"
    assert "G06 stage-hole: model b: x; try: do z" in heard.text
    check.enforce(findings, ["G01", "G09"])
    assert "allowed: G09 partition-cap: model c: x" in heard.text


def test_a_guard_that_there_is_not_cannot_be_allowed() -> None:
    with pytest.raises(SluiceError) as caught:
        check.refuse_unknown(["G01", "G33"])
    assert (caught.value.exit_code, caught.value.code) == (REFUSED, "guard_unknown")


def test_every_guard_has_a_page() -> None:
    pages = (ROOT / "docs/guards.md").read_text().split("\n## ")[1:]
    assert [page.split("\n")[0] for page in pages if page.startswith("G")] == [
        f"{code} {name}" for code, name in NAMES.items()
    ]
    for page in pages:
        if page.startswith("G"):
            assert all(f"**{word}" in page for word in ("Symptom.", "Cause.", "See it.", "Do.")), page
