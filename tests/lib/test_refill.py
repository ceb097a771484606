"""The arithmetic and the waves of a refill."""

from datetime import date, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice import manifest, plan_refill, refill
from sluice.errors import SluiceError
from sluice.windows import add_months, month_start

MONTHS = refill.Gap(date(2026, 3, 30), date(2026, 4, 27), 1).months


def a_manifest(tmp_path, models: dict[str, dict]) -> manifest.Manifest:
    """`models`: name -> {on: [names], sql, materialized, meta}."""
    nodes = {
        f"model.shop.{name}": {
            "unique_id": f"model.shop.{name}", "name": name, "resource_type": "model", "package_name": "shop",
            "path": f"{name}.sql", "original_file_path": f"models/{name}.sql", "fqn": ["shop", name],
            "config": {"materialized": model.get("materialized", "incremental"), "meta": model.get("meta", {})},
            "depends_on": {"nodes": [f"model.shop.{up}" for up in model.get("on", [])]}, "raw_code": model.get("sql", "select 1"),
        }
        for name, model in models.items()
    }  # fmt: skip
    metadata = {"dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v12.json", "adapter_type": "duckdb"}
    path = tmp_path / "manifest.json"
    path.write_bytes(msgspec.json.encode({"metadata": metadata, "nodes": nodes, "macros": {}, "sources": {}}))
    return manifest.load(path)


def uids(*names: str) -> list[str]:
    return [f"model.shop.{name}" for name in names]


def waves(steps: list[refill.Step]) -> dict[tuple[str, str | None], int]:
    return {(step.node.name, step.window.start.strftime("%m") if step.window else None): step.wave for step in steps}


@pytest.mark.parametrize(
    ("first", "days", "lookback", "months"),
    [
        ("2026-04-17", 10, 12, ["2026-04-01"]),
        ("2026-03-30", 28, 30, ["2026-03-01", "2026-04-01"]),
        ("2026-04-27", 0, 2, ["2026-04-01"]),
    ],
)
def test_the_worked_example(first: str, days: int, lookback: int, months: list[str]):
    gap = refill.gap_from(
        from_date=date.fromisoformat(first), lookback_days=None, buffer_days=1, today=date(2026, 4, 27)
    )
    assert (gap.days, gap.lookback_days) == (days, lookback)
    assert [str(month.start) for month in gap.months] == months
    assert refill.gap_from(from_date=None, lookback_days=lookback, buffer_days=1, today=gap.today) == gap


@given(today=st.dates(date(1990, 1, 1), date(2100, 1, 1)), back=st.integers(0, 2000), buffer=st.integers(0, 30))
def test_the_months_cover_each_day_of_the_gap_once_and_no_other_month(today: date, back: int, buffer: int):
    gap = refill.Gap(today - timedelta(days=back), today, buffer)
    days = {gap.first + timedelta(days=i) for i in range(back + 1)}
    assert {month.start for month in gap.months} == {month_start(day) for day in days}
    assert all(month.end == add_months(month.start, 1) for month in gap.months)
    assert gap.canary_since == gap.months[0].start - timedelta(days=3)


@pytest.mark.parametrize(
    ("given_", "code"),
    [
        ((None, None), "refill_which_gap"),
        ((date(2026, 4, 1), 3), "refill_which_gap"),
        ((date(2026, 4, 28), None), "refill_future"),
        ((None, 1), "refill_future"),
    ],
)
def test_a_gap_that_cannot_be_is_refused(given_, code: str):
    with pytest.raises(SluiceError) as refusal:
        refill.gap_from(from_date=given_[0], lookback_days=given_[1], buffer_days=1, today=date(2026, 4, 27))
    assert (refusal.value.exit_code, refusal.value.code) == (2, code)


def test_a_reader_comes_in_a_later_wave_than_every_append_to_what_it_reads(tmp_path):
    known = a_manifest(tmp_path, {"a": {}, "b": {"on": ["a"]}, "c": {"on": ["b"]}})
    assert waves(refill.rewrite(known, uids("a", "b", "c"), MONTHS)) == {
        ("a", "03"): 1, ("a", "04"): 1, ("b", "03"): 2, ("b", "04"): 2, ("c", "03"): 3, ("c", "04"): 3,
    }  # fmt: skip


def test_a_cumulative_model_goes_month_after_month_and_its_reader_waits_for_the_last(tmp_path):
    known = a_manifest(
        tmp_path,
        {"a": {"sql": "select * from {{ this }}"}, "v": {"on": ["a"], "materialized": "view"}, "b": {"on": ["v"]}},
    )
    assert waves(refill.rewrite(known, uids("a", "b"), MONTHS)) == {
        ("a", "03"): 1,
        ("a", "04"): 2,
        ("b", "03"): 3,
        ("b", "04"): 3,
    }


def test_a_table_between_members_of_the_cohort_is_refused(tmp_path):
    known = a_manifest(tmp_path, {"a": {}, "t": {"on": ["a"], "materialized": "table"}, "b": {"on": ["t"]}})
    with pytest.raises(SluiceError, match="t lies between members of the cohort"):
        refill.rewrite(known, uids("a", "b"), MONTHS)
    assert refill.rewrite(known, uids("a"), MONTHS)


@pytest.mark.parametrize(
    ("sql", "meta", "cumulative"),
    [
        ("select * from {{ this }} where day < x", {}, True),
        ("{% if is_incremental() %} where day > (select max(day) from {{this}}) {% endif %}", {}, False),
        ("where day > (select coalesce(max(t.block_day), date '1970-01-01') from {{ this }} as t)", {}, False),
        ("{% set last = run_query('select max(loaded_at) from ' ~ this) %}", {}, False),
        ("where day > (select max(day) from {{ this }}) union all select * from {{ this }}", {}, True),
        ("where n > (select max(balance) from {{ this }})", {}, True),
        ("select max(day), (select 1) from (select * from {{ this }})", {}, True),
        ("select 1 -- from {{ this }}", {}, False),
        ("select 1 {# {{ this }} #}", {}, False),
        ("select this from y", {}, False),
        ("select * from {{ this }}", {"cumulative": False}, False),
        ("select 1", {"cumulative": True}, True),
    ],
)
def test_what_makes_a_model_cumulative(tmp_path, sql: str, meta: dict, cumulative: bool):
    known = a_manifest(tmp_path, {"a": {"sql": sql, "meta": meta}})
    assert refill.reads_itself(known.nodes["model.shop.a"]) is cumulative


def test_downstream_each_model_comes_once_consumers_widened_incrementals_by_month_or_anew(tmp_path):
    block = {"full_refresh": {"start_date": "2024-01-01"}}
    models = {
        "src": {}, "prices": {"on": ["src"]}, "usd": {"on": ["prices"], "meta": block}, "mix": {"on": ["prices"]},
        "fct": {"on": ["usd"], "materialized": "table"}, "api": {"on": ["fct"], "materialized": "view"},
    }  # fmt: skip
    known = a_manifest(tmp_path, models)
    steps = refill.downstream(
        known, uids("prices", "usd", "mix", "fct", "api"), set(uids("prices")), MONTHS, first_wave=4
    )
    assert waves(steps) == {
        ("prices", None): 4, ("usd", "03"): 5, ("usd", "04"): 5, ("mix", None): 5, ("fct", None): 6, ("api", None): 7,
    }  # fmt: skip
    assert {step.node.name: step.phase for step in steps} == {
        "prices": "consumers", "usd": "rebuild", "mix": "rebuild", "fct": "rebuild", "api": "rebuild",
    }  # fmt: skip
    assert {step.node.name for step in steps if step.full_refresh} == {"mix"}


def vars_of(tmp_path, adapter: str, *, window: bool = True, passes: refill.Passes = "one", vars: str = "{}") -> dict:
    request = plan_refill.Request("2026-03-30", 1, "tag:refill_append", None, "back_days", False, False, passes, vars)
    step = refill.Step(
        a_manifest(tmp_path, {"a": {}}).nodes["model.shop.a"], 1, "rewrite", MONTHS[0] if window else None
    )
    gap = refill.Gap(date(2026, 3, 30), date(2026, 4, 27), 1)
    return plan_refill._batch(step, request, gap, adapter, depends_on=[]).vars


def test_on_clickhouse_a_month_exchanges_its_partitions_unless_told_not_to(tmp_path):
    month = {"start_month": "2026-03-01", "end_month": "2026-03-01"}
    assert vars_of(tmp_path, "clickhouse") == {**month, "replace_partitions": True}
    assert vars_of(tmp_path, "clickhouse", vars='{"replace_partitions": false}')["replace_partitions"] is False
    assert vars_of(tmp_path, "clickhouse", passes="two") == month
    assert vars_of(tmp_path, "duckdb") == vars_of(tmp_path, "postgres") == month
    assert vars_of(tmp_path, "clickhouse", window=False) == {}


LATER = [month for month in refill.Gap(date(2026, 3, 30), date(2026, 6, 15), 1).months if month not in MONTHS]
CHAIN = {
    "a": {}, "b": {"on": ["a"], "sql": "select * from {{ this }}"}, "c": {"on": ["b"]},
    "t": {"on": ["c"], "materialized": "table"}, "d": {"on": ["a"]},
}  # fmt: skip


def test_a_cumulative_model_and_what_is_built_on_it_go_on_to_the_current_month(tmp_path):
    known = a_manifest(tmp_path, CHAIN)
    later = refill.Later(refill.carried(known, uids(*CHAIN)), LATER)
    assert later.models == set(uids("b", "c", "t"))
    found = waves(refill.rewrite(known, uids("a", "b", "c", "d"), MONTHS, later=later))
    assert [month for name, month in found if name == "a"] == ["03", "04"]
    assert [month for name, month in found if name == "d"] == ["03", "04"]
    assert [found["b", month] for month in ("03", "04", "05", "06")] == [2, 3, 4, 5]
    assert [found["c", month] for month in ("03", "04", "05", "06")] == [6, 6, 6, 6]


@pytest.mark.parametrize(
    ("to", "months"), [("2026-04-27", ["03", "04", "05", "06"]), ("2026-06-15", ["03", "04", "05", "06"])]
)
def test_plan_refill_extends_them_by_itself_and_says_so(
    tmp_path, own_settings, monkeypatch, heard, to: str, months: list[str]
):
    from contextlib import nullcontext
    from datetime import UTC, datetime

    from builders import FakeContext

    from sluice import plan_refill, selectors
    from sluice.dbt_engine.wire import ProjectInfo
    from sluice.errors import unavailable

    class Project:
        manifest = a_manifest(tmp_path, CHAIN)
        info = ProjectInfo("shop", "dev", "duckdb", None, "main", "1.11", "")

        def select(self, select, exclude, selector):
            return self.manifest.order(selectors.select(self.manifest, select, exclude, project_dir=tmp_path))

        def connect(self, tag):
            raise unavailable("there is no file", code="warehouse_missing")

    Project.manifest.metadata.dbt_version = "1.11.16"
    monkeypatch.setattr(plan_refill, "Project", lambda config, vars: nullcontext(Project()))
    request = plan_refill.Request("2026-03-30", 1, "a b c d", None, "days", False, False, "one", "{}")
    for model in CHAIN:
        Project.manifest.nodes[f"model.shop.{model}"].config["unique_key"] = "id"
    context = FakeContext(own_settings, now=datetime(2026, 6, 15, tzinfo=UTC))
    plan, *batches = plan_refill.plan_refill(
        context, request, today=date.fromisoformat(to), resume=False, accept_drift=False
    )
    own = [b.window.start.strftime("%m") for b in batches if getattr(b, "model", None) == "model.shop.b"]
    assert own == months
    assert ("so they go on to 2026-06" in heard.text) == (to == "2026-04-27")
    assert plan.to == date.fromisoformat(to)
