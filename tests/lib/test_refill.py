"""The arithmetic and the waves of a refill."""

import dataclasses
from contextlib import nullcontext
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from builders import FakeContext, a_result
from hypothesis import given
from hypothesis import strategies as st

from sluice import manifest, plan_refill, refill, selectors
from sluice.config import Config
from sluice.dbt_engine.wire import ProjectInfo
from sluice.errors import SluiceError, refused, unavailable
from sluice.records import Batch, Gate, Plan
from sluice.state import State
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


class Chain:
    """CHAIN as a project; `plan` is asked on 15 June."""

    def __init__(self, folder: Path, config: Config):
        self.folder, self.config = folder, config
        self.manifest = a_manifest(folder, CHAIN)
        self.manifest.metadata.dbt_version = "1.11.16"
        self.info = ProjectInfo("shop", "dev", "duckdb", None, "main", "1.11", "")
        for model in CHAIN:
            self.config_of(model)["unique_key"] = "id"

    def config_of(self, name: str) -> dict:
        return self.manifest.nodes[f"model.shop.{name}"].config

    def select(self, select, exclude, selector):
        found = selectors.select(self.manifest, select, exclude, project_dir=self.folder)
        if not found:
            raise refused("the selection is empty", code="plan_empty_selection", hint="select another")
        return self.manifest.order(found)

    def connect(self, tag):
        raise unavailable("there is no file", code="warehouse_missing")

    def plan(
        self, cohort: str = "a b c d", *, to: str = "2026-06-15", on: str = "2026-06-15", **asked: Any
    ) -> list[Any]:
        options = {name: asked.pop(name, False) for name in ("resume", "accept_drift", "only_impact")}
        request = plan_refill.Request(
            "2026-03-30", 1, cohort, None, "days", asked.pop("skip_rewrite", False), False, "one", "{}", **asked
        )
        context = FakeContext(self.config, now=datetime.fromisoformat(f"{on}T06:00:00Z"))
        return list(plan_refill.plan_refill(context, request, today=date.fromisoformat(to), **options))

    def resume(self, request: plan_refill.Request | None = None, *, on: str = "2026-07-02") -> list[Any]:
        context = FakeContext(self.config, now=datetime.fromisoformat(f"{on}T06:00:00Z"))
        today = date.fromisoformat(on)
        return list(plan_refill.plan_refill(context, request, today=today, resume=True, accept_drift=False))

    def begin(self, plan: Plan, *done: Batch) -> State:
        """The plan is begun, and left after these batches."""
        plan.run_id = "run-1"
        state = State.open(self.config.state_url)
        state.begin_run(plan, plan.run_id)
        for batch in done:
            attempt = state.intend(plan.run_id, plan.run_id, batch)
            state.record(plan.run_id, batch, a_result(batch, attempt=attempt), plan.project)
        return state


@pytest.fixture
def chain(tmp_path, own_settings, monkeypatch) -> Chain:
    made = Chain(tmp_path, own_settings)
    monkeypatch.setattr(plan_refill, "Project", lambda config, vars: nullcontext(made))
    return made


def months_of_b(records: list[Any]) -> list[str]:
    return [f"{one.window.start:%m}" for one in records if getattr(one, "model", None) == "model.shop.b"]


@pytest.mark.parametrize("to", ["2026-04-27", "2026-06-15"])
def test_plan_refill_extends_them_by_itself_and_says_so(chain: Chain, heard, to: str):
    plan, *batches = chain.plan(to=to)
    assert months_of_b(batches) == ["03", "04", "05", "06"]
    assert ("so they go on to 2026-06" in heard.text) == (to == "2026-04-27")
    assert plan.to == date.fromisoformat(to)
    assert months_of_b(chain.plan(to=to, allow=["G05"])) == ["03", "04", *(["05", "06"] if to == "2026-06-15" else [])]


# -- what is asked for -----------------------------------------------------------------------------------------------


REST: dict[str, Any] = {
    "cohort": "tag:refill_append", "consumers": None, "lookback_var": "days", "skip_rewrite": False, "skip_consumers": False,
    "passes": "one", "vars": "{}",
}  # fmt: skip


def test_a_resume_may_leave_out_which_gap_it_was():
    today, none = date(2026, 4, 27), {"from_date": None, "lookback_days": None, "buffer_days": 1}
    assert plan_refill.asked(today, True, **none, **REST) is None
    with pytest.raises(SluiceError, match="neither --from-date nor --lookback-days"):
        plan_refill.asked(today, False, **none, **REST)
    said = none | {"lookback_days": 12}
    for resume in (False, True):
        request = plan_refill.asked(today, resume, **said, **REST)
        assert request == plan_refill.Request("2026-04-17", 1, **REST)


@pytest.mark.parametrize("asked", [{}, {"source": "raw.prices", "resume": True}])
def test_the_impact_is_a_sources_and_no_resumes(chain: Chain, asked: dict):
    with pytest.raises(SluiceError) as caught:
        chain.plan(only_impact=True, **asked)
    assert caught.value.code == "refill_impact"


def test_two_passes_append_everything_and_then_again(tmp_path):
    known = a_manifest(tmp_path, {"a": {}, "b": {"on": ["a"]}})
    steps = refill.rewrite(known, uids("a", "b"), MONTHS, first_wave=3, passes="two")
    once = [("a", "03"), ("a", "04"), ("b", "03"), ("b", "04")]
    assert [(step.wave, step.node.name, f"{step.window.start:%m}") for step in steps if step.window] == [
        *((3, *one) for one in once), *((4, *one) for one in once),
    ]  # fmt: skip


def test_the_gate_comes_when_the_cohort_is_written_also_where_nothing_is_built_on_it(chain: Chain, heard):
    *_, last = chain.plan("d")
    assert isinstance(last, Gate)
    assert (last.models, last.gate) == (uids("d"), "canary")
    assert "no model of d declares a check" in heard.text
    _, *records = chain.plan("b c")
    (place,) = [place for place, one in enumerate(records) if isinstance(one, Gate)]
    assert {one.model for one in records[:place]} == set(uids("b", "c"))
    assert [one.model for one in records[place + 1 :]] == uids("t")


def test_of_a_cohort_that_declares_a_check_nothing_is_said(chain: Chain, heard):
    chain.config_of("d")["meta"] = {"canary": {"metric": "x", "date_column": "day"}}
    assert isinstance(chain.plan("d")[-1], Gate)
    assert "declares a check" not in heard.text


def test_without_the_rewrite_only_what_is_built_on_the_cohort_is_planned_and_nothing_asked(chain: Chain):
    _, *records = chain.plan("b c", skip_rewrite=True)
    assert [one.model for one in records] == uids("t")
    with pytest.raises(SluiceError) as caught:
        chain.plan("d", skip_rewrite=True)
    assert caught.value.code == "refill_empty"


def test_a_cohort_of_nothing_is_refused_with_what_a_cohort_is(chain: Chain, monkeypatch):
    def select(*_: object):
        raise refused("no such method", code="plan_bad_selection")

    with pytest.raises(SluiceError) as caught:
        chain.plan("tag:refill_append")
    assert "tag them refill_append; select another" in (caught.value.hint or "")
    monkeypatch.setattr(Chain, "select", select)
    with pytest.raises(SluiceError) as caught:
        chain.plan("no_such_method:x")
    assert caught.value.hint is None


# -- going on --------------------------------------------------------------------------------------------------------


def test_a_refill_that_was_left_is_gone_on_with_as_it_was_planned_then(chain: Chain, heard):
    assert chain.resume() == []
    assert "nothing to resume" in heard.text
    plan, *records = chain.plan(to="2026-04-27")
    batches = [one for one in records if isinstance(one, Batch)]
    chain.begin(plan, *batches[:2])
    with pytest.raises(SluiceError) as caught:
        chain.plan("d")
    assert (caught.value.code, "plan-refill --resume" in (caught.value.hint or "")) == ("state_unfinished_plan", True)

    again, *rest = chain.resume()  # in July, and it ends with June all the same
    assert (again.plan_id, again.root_run_id, again.attempt) == (plan.plan_id, "run-1", plan.attempt + 1)
    assert (again.to, again.gap) == (plan.to, plan.gap)
    assert [one.batch_id for one in rest if isinstance(one, Batch)] == [batch.batch_id for batch in batches]
    meant = plan_refill.Request(**plan.request)
    assert chain.resume(dataclasses.replace(meant, allow=["G03"]))[0].plan_id == plan.plan_id
    assert chain.resume(dataclasses.replace(meant, cohort="d")) == []


def test_a_refill_that_did_not_note_when_it_was_planned_goes_on_to_the_current_month(chain: Chain):
    """As those of an older Sluice."""
    plan, *_ = chain.plan("d")
    plan.gap = None
    chain.begin(plan)
    again, *_ = chain.resume()
    assert again.plan_id == plan.plan_id
    assert again.gap.planned_on == date(2026, 7, 2)
