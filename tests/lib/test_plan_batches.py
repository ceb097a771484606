"""The planners, on a manifest made by hand: what is planned, what is refused, and how an unfinished plan goes on."""

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from builders import FakeContext, a_batch, a_result

from sluice import manifest, plan_batches, plan_daily
from sluice.config import Config
from sluice.dbt_engine.wire import ProjectInfo
from sluice.errors import BUSY, REFUSED, SluiceError, unavailable
from sluice.plan_batches import Request
from sluice.records import Batch, Gate, Part, Plan
from sluice.state import State

BALANCES = {
    "start_date": "2024-01-15",
    "stages": [
        {"name": "legacy", "vars": {"symbol_exclude": "USDC"}},
        {"name": "usdc", "start_date": "2024-02-01", "batch_months": 2, "vars": {"symbol": "USDC"}},
    ],
}
Change = Callable[[], Any]


class Shop:
    """A project: stg_transfers → balances (staged) → supply; `models` may be changed between two plans."""

    def __init__(self, config: Config, folder: Path):
        self.config, self.folder = config, folder
        self.models: dict[str, dict[str, Any]] = {
            "supply": {"parents": ["balances"], "materialized": "table"},
            "balances": {"parents": ["stg_transfers"], "meta": {"full_refresh": BALANCES}},
            "stg_transfers": {"materialized": "view"},
            "accounts": {"materialized": "table"},
        }
        self.target = "dev"
        self.opened_with: list[dict] = []

    def manifest(self) -> manifest.Manifest:
        nodes = {
            f"model.shop.{name}": {
                "unique_id": f"model.shop.{name}",
                "name": name,
                "resource_type": "model",
                "package_name": "shop",
                "path": f"{name}.sql",
                "original_file_path": f"models/{name}.sql",
                "fqn": ["shop", name],
                "patch_path": f"shop://models/_{name}.yml",
                "depends_on": {"nodes": [f"model.shop.{up}" for up in model.get("parents", [])]},
                "raw_code": model.get("code", "select 1"),
                "config": {
                    "materialized": "incremental",
                    **{k: v for k, v in model.items() if k not in ("parents", "code")},
                },
            }
            for name, model in self.models.items()
        }
        path = self.folder / "manifest.json"
        version = "https://schemas.getdbt.com/dbt/manifest/v12.json"
        path.write_text(
            json.dumps({"metadata": {"dbt_schema_version": version, "adapter_type": "duckdb"}, "nodes": nodes})
        )
        return manifest.load(path)

    def __call__(self, _config: Config, base_vars: dict) -> "Shop._Open":
        self.opened_with.append(base_vars)
        return Shop._Open(self)

    class _Open:
        def __init__(self, shop: "Shop"):
            self.manifest = shop.manifest()
            self.info = ProjectInfo("shop", shop.target, "duckdb", None, "main", "1.11", "")

        def __enter__(self) -> "Shop._Open":
            return self

        def __exit__(self, *_: object) -> None: ...

        def connect(self, tag: str) -> None:
            raise unavailable("there is no file", code="warehouse_missing")

        def select(self, select: list[str], exclude: list[str], selector: str | None) -> list[str]:
            names = select or [node.name for node in self.manifest.nodes.values()]
            return self.manifest.order(f"model.shop.{name}" for name in names if name not in exclude)

    # -- what is asked of it ----------------------------------------------------------------------------

    def plan(
        self,
        select: tuple[str, ...] = (),
        *,
        exclude: tuple[str, ...] = (),
        stages: tuple[str, ...] = (),
        incremental_only: bool = False,
        variables: str = "{}",
        to: str | None = "2024-03-31",
        resume: bool = False,
        accept_drift: bool = False,
        dry_run: bool = False,
        run_id: str = "run-1",
        now: date | None = None,
        **more: Any,
    ) -> tuple[Plan | None, list[Batch]]:
        request = Request(list(select), list(exclude), None, list(stages), incremental_only, variables, **more)
        context = FakeContext(self.config, dry_run=dry_run)
        yielded = list(
            plan_batches.plan_batches(
                context,
                request,
                to=date.fromisoformat(to) if to else None,
                resume=resume,
                accept_drift=accept_drift,
                delay_s=1.5,
            )
        )
        if not yielded:
            return None, []
        plan, *batches = yielded
        plan.run_id = run_id
        return plan, batches

    def resume(self, **options: Any) -> tuple[Plan | None, list[Batch]]:
        return self.plan(**({"to": None, "resume": True, "run_id": "run-2"} | options))

    def daily(self, select: tuple[str, ...] = (), **options: Any) -> tuple[Plan, list[Batch]]:
        request = plan_daily.Request(list(select), [], [], '{"a": 1}')
        _, plan, *batches = plan_daily.plan_daily(FakeContext(self.config, **options), request, plan_daily.Policy())
        return plan, batches

    def carry_out(self, plan: Plan, batches: list[Batch], *statuses: str) -> State:
        """Begin the plan and leave it after the batches that have a status; "unknown" is one that was killed."""
        state = State.open(self.config.state_url)
        root = plan.root_run_id or plan.run_id
        state.begin_run(plan, root)
        for batch, status in zip(batches, statuses, strict=False):
            attempt = state.intend(plan.run_id, root, batch)
            if status != "unknown":
                state.record(root, batch, a_result(batch, status, run_id=plan.run_id, attempt=attempt), plan.project)
        return state


@pytest.fixture
def shop(own_settings: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    made = Shop(own_settings, tmp_path)
    monkeypatch.setattr(plan_batches, "Project", made)
    monkeypatch.setattr(plan_daily, "Project", made)
    return made


def told(batches: list[Batch]) -> list[str]:
    """Each batch as `balances/usdc 2024-02..2024-04 R`, R where the table is replaced."""
    return [
        f"{(b.model or '').rsplit('.', 1)[-1]}/{b.stage}"
        + (f" {b.window.start:%Y-%m}..{b.window.end:%Y-%m}" if b.window else "")
        + (" R" if b.full_refresh else "")
        for b in batches
    ]


def refusal(exit_code: int, act: Change) -> SluiceError:
    with pytest.raises(SluiceError) as caught:
        act()
    assert caught.value.exit_code == exit_code
    return caught.value


ALL = [
    "accounts/default R",
    "stg_transfers/default R",
    "balances/legacy 2024-01..2024-02 R",
    "balances/legacy 2024-02..2024-03",
    "balances/legacy 2024-03..2024-04",
    "balances/usdc 2024-02..2024-04",
    "supply/default R",
]


def test_models_come_in_dependency_order_and_stages_in_their_own(shop: Shop) -> None:
    plan, batches = shop.plan()
    assert plan is not None
    assert told(batches) == ALL
    assert [b.seq for b in batches] == list(range(1, 8))
    assert [(m.unique_id.rsplit(".", 1)[-1], m.mode, m.batches, m.stages) for m in plan.models] == [
        ("accounts", "whole", 1, []),
        ("stg_transfers", "whole", 1, []),
        ("balances", "replace", 4, ["legacy", "usdc"]),
        ("supply", "whole", 1, []),
    ]
    assert (plan.project, plan.target, plan.adapter, plan.intent, plan.delay_s, str(plan.to)) == (
        "shop",
        "dev",
        "duckdb",
        "full_refresh",
        1.5,
        "2024-03-31",
    )


def test_a_batch_says_exactly_what_to_run(shop: Shop) -> None:
    usdc = shop.plan(variables='{"chain": 1}')[1][5]
    assert (usdc.select, usdc.expect, usdc.model) == (["balances"], ["model.shop.balances"], "model.shop.balances")
    assert usdc.vars == {"chain": 1, "symbol": "USDC", "start_month": "2024-02-01", "end_month": "2024-03-01"}
    assert usdc.depends_on == ["model.shop.stg_transfers"]
    assert usdc.reason == "full_refresh"
    whole = shop.plan(variables='{"chain": 1}')[1][6]
    assert whole.vars == {"chain": 1}
    assert whole.depends_on == ["model.shop.balances", "model.shop.stg_transfers"]


def test_only_planned_models_are_depended_on(shop: Shop) -> None:
    assert shop.plan(("supply", "stg_transfers"))[1][1].depends_on == ["model.shop.stg_transfers"]


def test_the_last_day_is_today_unless_said(shop: Shop) -> None:
    plan, batches = shop.plan(("balances",), to=None)
    assert plan is not None
    assert str(plan.to) == "2024-12-31"
    assert told(batches)[11] == "balances/legacy 2024-12..2025-01"


def test_incremental_only_replaces_nothing(shop: Shop) -> None:
    plan, batches = shop.plan(incremental_only=True)
    assert plan is not None
    assert not any(batch.full_refresh for batch in batches)
    assert [model.mode for model in plan.models] == ["whole", "whole", "append", "whole"]


def test_a_stage_alone_is_appended_and_models_without_it_stay_out(shop: Shop) -> None:
    plan, batches = shop.plan(stages=("usdc",))
    assert plan is not None
    assert told(batches) == ["balances/usdc 2024-02..2024-04"]
    assert [(model.mode, model.stages) for model in plan.models] == [("append", ["usdc"])]
    assert batches[0].reason == "stage"


def test_an_unknown_stage_is_refused_with_those_there_are(shop: Shop) -> None:
    said = refusal(REFUSED, lambda: shop.plan(stages=("usdc", "usdt")))
    assert "--stage usdt: no selected model has it; did you mean 'usdc'?" in said.message
    assert said.hint == "--stage with some of: legacy, usdc"
    assert "select a model" in (refusal(REFUSED, lambda: shop.plan(("supply",), stages=("usdc",))).hint or "")


def test_vars_that_contradict_a_stage_are_refused(shop: Shop) -> None:
    said = refusal(REFUSED, lambda: shop.plan(variables='{"symbol": "DAI"}'))
    assert said.message == "var symbol: --vars says 'DAI', stage usdc of balances says 'USDC'"
    assert len(shop.plan(variables='{"symbol": "USDC"}')[1]) == 7


@pytest.mark.parametrize("materialized", ["table", "view", "materialized_view"])
def test_a_table_is_not_batched(shop: Shop, materialized: str) -> None:
    shop.models["balances"]["materialized"] = materialized
    for options in ({}, {"incremental_only": True}, {"stages": ("usdc",)}):
        said = refusal(REFUSED, lambda options=options: shop.plan(**options))
        assert said.code == "guard_g01"
        assert "models/_balances.yml: model balances" in said.message
        assert f"it is a {materialized}: each of its batches would replace the ones before" in said.message
    assert len(shop.plan(exclude=("balances",))[1]) == 3


def test_a_model_that_refuses_full_refreshes_is_not_rebuilt(shop: Shop) -> None:
    shop.models["accounts"]["full_refresh"] = False
    said = refusal(REFUSED, shop.plan)
    assert (said.code, said.hint) == ("plan_full_refresh_off", "plan-batches --exclude accounts, or --incremental-only")
    assert len(shop.plan(incremental_only=True)[1]) == 7
    assert len(shop.plan(exclude=("accounts",))[1]) == 6


def test_a_bad_block_is_refused_with_its_file(shop: Shop) -> None:
    shop.models["balances"]["meta"] = {"full_refresh": BALANCES | {"batch_months": 0}}
    said = refusal(REFUSED, shop.plan)
    assert said.message.startswith("models/_balances.yml: model balances:\nmeta.full_refresh.batch_months 0")


def test_where_stages_feed_each_other_months_come_before_stages(shop: Shop) -> None:
    stages = [{"name": "legacy", "vars": {"symbol_exclude": "USDC"}}, {"name": "usdc", "vars": {"symbol": "USDC"}}]
    shop.models["balances"] |= {
        "code": "select * from {{ this }}",
        "meta": {"full_refresh": {"start_date": "2024-01-15", "stages": stages}},
    }
    assert told(shop.plan(("balances",), to="2024-02-29")[1]) == [
        "balances/legacy 2024-01..2024-02 R", "balances/usdc 2024-01..2024-02",
        "balances/legacy 2024-02..2024-03", "balances/usdc 2024-02..2024-03",
    ]  # fmt: skip


def test_a_model_that_starts_in_the_future_has_nothing_to_do(shop: Shop, heard: pytest.LogCaptureFixture) -> None:
    plan, batches = shop.plan(("balances",), to="2023-12-31")
    assert plan is not None
    assert (plan.total, batches) == (0, [])
    assert "balances: every stage starts after 2023-12-31: nothing to do for it" in heard.text
    _, batches = shop.plan(("balances",), to="2024-01-31")
    assert told(batches) == ["balances/legacy 2024-01..2024-02 R"]


def test_the_first_batch_of_a_model_replaces_even_when_its_first_stage_is_empty(shop: Shop) -> None:
    stages = [
        {"name": "late", "start_date": "2030-01-01", "vars": {"symbol": "USDC"}},
        {"name": "early", "start_date": "2024-03-01", "vars": {"symbol_exclude": "USDC"}},
    ]
    shop.models["balances"]["meta"] = {"full_refresh": {"stages": stages}}
    assert told(shop.plan(("balances",))[1]) == ["balances/early 2024-03..2024-04 R"]


@pytest.mark.parametrize("day", ["9999-12-31", "9999-12-01"])
def test_a_day_after_which_there_is_none_is_refused(shop: Shop, day: str) -> None:
    assert "--to 9999-12" in refusal(REFUSED, lambda: shop.plan(to=day)).message


def test_planning_writes_nothing(shop: Shop) -> None:
    shop.plan()
    shop.daily()
    assert not shop.config.state_dir.exists()


def test_the_same_request_gives_the_same_plan_whoever_asks(shop: Shop) -> None:
    first, batches = shop.plan()
    again, same = shop.plan(dry_run=True)
    assert first is not None
    assert again is not None
    assert (again.plan_id, [b.batch_id for b in same]) == (first.plan_id, [b.batch_id for b in batches])
    assert again.dry_run


# -- an unfinished plan ------------------------------------------------------------------------------------------


def test_a_second_start_says_that_the_plan_is_unfinished(shop: Shop) -> None:
    shop.carry_out(*shop.plan(), "ok", "ok", "ok", "failed")
    for again in (shop.plan, lambda: shop.plan(("supply",)), lambda: shop.daily(("supply",))):
        said = refusal(REFUSED, again)
        assert "left at 3 of 7 batches (run run-1, RUNNING)" in said.message
        assert "--resume" in (said.hint or "")


def test_while_it_is_at_work_everybody_else_is_told_so(shop: Shop) -> None:
    state = shop.carry_out(*shop.plan(), "ok")
    lock = state.store.lock("run-1")
    lock.acquire()
    for act in (shop.plan, shop.resume, lambda: shop.daily(("supply",))):
        assert "run-1 is at work" in refusal(BUSY, act).message
    lock.release()


def test_resume_goes_on_with_what_is_left(shop: Shop) -> None:
    shop.carry_out(*shop.plan(variables='{"chain": 1}'), "ok", "ok", "ok", "failed")
    plan, batches = shop.resume()
    assert plan is not None
    assert told(batches) == ALL[3:]
    assert [(b.seq, b.total) for b in batches] == [(4, 7), (5, 7), (6, 7), (7, 7)]
    assert (plan.root_run_id, plan.attempt, plan.total, plan.pending, plan.drift_from) == ("run-1", 2, 7, 4, None)
    assert str(plan.to) == "2024-03-31"  # what was asked then, not today
    assert batches[0].vars["chain"] == 1
    assert shop.opened_with[-1] == {"chain": 1}


def test_a_batch_with_an_unknown_outcome_is_still_to_do(shop: Shop) -> None:
    shop.carry_out(*shop.plan(), "ok", "ok", "ok", "unknown")
    assert told(shop.resume()[1]) == ALL[3:]


def test_a_model_is_rebuilt_from_its_start_when_its_replacement_failed(shop: Shop) -> None:
    shop.carry_out(*shop.plan(), "ok", "ok", "failed")
    assert told(shop.resume()[1]) == ALL[2:]


def test_a_resumed_plan_can_be_resumed(shop: Shop) -> None:
    shop.carry_out(*shop.plan(), "ok", "ok")
    plan, batches = shop.resume()
    assert plan is not None
    shop.carry_out(plan, batches, "ok", "ok")
    again, rest = shop.resume(run_id="run-3")
    assert again is not None
    assert told(rest) == ALL[4:]
    assert (again.root_run_id, again.attempt) == ("run-1", 3)


def test_a_finished_plan_is_not_resumed(shop: Shop, heard: pytest.LogCaptureFixture) -> None:
    plan, batches = shop.plan()
    assert plan is not None
    state = shop.carry_out(plan, batches, *["ok"] * 7)
    state.end_run(plan, "run-1", "SUCCESS", models_run=4, models_failed=0)
    assert shop.resume() == (None, [])
    assert "nothing to resume" in heard.text
    assert len(shop.plan()[1]) == 7


def test_nothing_was_ever_begun(shop: Shop, heard: pytest.LogCaptureFixture) -> None:
    assert shop.resume() == (None, [])
    assert "nothing to resume" in heard.text


def test_of_several_unfinished_plans_the_one_meant_must_be_said(shop: Shop) -> None:
    shop.carry_out(*shop.plan(("accounts",)))
    shop.carry_out(*shop.plan(("supply",), run_id="run-2"))
    said = refusal(REFUSED, lambda: shop.resume(run_id="run-3"))
    assert "could mean 2 plans" in said.message
    assert "run-1: accounts" in said.message
    assert "run-2: supply" in said.message
    assert told(shop.resume(select=("supply",), run_id="run-3")[1]) == ["supply/default R"]
    assert shop.resume(select=("balances",), run_id="run-3") == (None, [])


def test_plans_of_another_target_are_not_resumed(shop: Shop) -> None:
    shop.carry_out(*shop.plan())
    shop.target = "prod"
    assert shop.resume() == (None, [])
    assert len(shop.plan(run_id="run-2")[1]) == 7


# -- drift -----------------------------------------------------------------------------------------------------------


def test_changed_code_is_drift_until_it_is_accepted(shop: Shop) -> None:
    begun, batches = shop.plan()
    assert begun is not None
    shop.carry_out(begun, batches, "ok", "ok", "ok", "ok")
    shop.models["balances"]["code"] = "select 2"
    said = refusal(REFUSED, shop.resume)
    assert said.code == "plan_drift"
    assert said.message.split("\n")[1:] == ["model.shop.balances: its code or configuration changed"]
    assert "--accept-drift" in (said.hint or "")
    assert "sluice-state discard run-1" in (said.hint or "")
    plan, rest = shop.resume(accept_drift=True)
    assert plan is not None
    assert plan.drift_from == begun.plan_id
    assert told(rest) == ALL[4:]


def test_a_new_model_is_drift(shop: Shop) -> None:
    shop.carry_out(*shop.plan())
    shop.models["new"] = {}
    del shop.models["accounts"]
    said = refusal(REFUSED, shop.resume).message
    assert "model.shop.accounts: no longer in the plan" in said
    assert "model.shop.new: new in the plan" in said


def change_balances(shop: Shop, **changes: Any) -> None:
    shop.models["balances"]["meta"] = {"full_refresh": BALANCES | changes}


def test_a_model_whose_first_window_moved_is_rebuilt(shop: Shop) -> None:
    shop.carry_out(*shop.plan(), *["ok"] * 6)
    change_balances(shop, start_date="2023-12-01")
    plan, rest = shop.resume(accept_drift=True)
    assert plan is not None
    assert told(rest) == ["balances/legacy 2023-12..2024-01 R", "balances/legacy 2024-01..2024-02", *ALL[3:]]

    shop.carry_out(plan, rest, "ok", "ok", "failed")  # its replacement wiped out what the first run had done
    assert told(shop.resume(run_id="run-3")[1]) == ALL[3:]


def test_rows_of_batches_that_left_the_plan_are_replaced(shop: Shop) -> None:
    """Otherwise the months of the old windows would be there twice."""
    shop.carry_out(*shop.plan(), *["ok"] * 6)
    legacy, usdc = BALANCES["stages"]
    change_balances(shop, stages=[legacy, usdc | {"batch_months": 1}])
    _, rest = shop.resume(accept_drift=True)
    assert told(rest) == [*ALL[2:5], "balances/usdc 2024-02..2024-03", "balances/usdc 2024-03..2024-04", ALL[6]]


def cut(shop: Shop, plan: Plan, batch: Batch) -> None:
    """The batch was too big, and the first part of it ran."""
    state = State.open(shop.config.state_url)
    part = Part(batch_id="part", window=batch.window, vars={})
    state.intend(plan.run_id, plan.run_id, batch)
    state.record(plan.run_id, batch, a_result(batch, "failed", run_id=plan.run_id, attempt=1, parts=[part]), "shop")
    of_it = a_batch("model.shop.balances", batch_id="part", plan_id=plan.plan_id, seq=batch.seq, window=batch.window)
    state.intend(plan.run_id, plan.run_id, of_it)
    state.record(plan.run_id, of_it, a_result(of_it, run_id=plan.run_id, attempt=1, part_of=batch.batch_id), "shop")


def test_rows_of_a_part_belong_to_the_batch_that_was_cut(shop: Shop) -> None:
    plan, batches = shop.plan()
    assert plan is not None
    shop.carry_out(plan, batches, *["ok"] * 5)
    cut(shop, plan, batches[5])
    assert told(shop.resume()[1]) == ALL[5:]


def test_rows_of_a_part_are_nobodys_when_its_batch_left_the_plan(shop: Shop) -> None:
    plan, batches = shop.plan()
    assert plan is not None
    shop.carry_out(plan, batches, *["ok"] * 5)
    cut(shop, plan, batches[5])
    legacy, usdc = BALANCES["stages"]
    change_balances(shop, stages=[legacy, usdc | {"batch_months": 1}])
    assert told(shop.resume(accept_drift=True)[1])[0] == ALL[2], "its model is rebuilt from its start"


@pytest.mark.parametrize("left", ["ok", "unknown", "failed"])
def test_rows_that_nothing_can_replace_are_not_doubled(shop: Shop, left: str) -> None:
    shop.carry_out(*shop.plan(stages=("usdc",)), left)
    legacy, usdc = BALANCES["stages"]
    change_balances(shop, stages=[legacy, usdc | {"batch_months": 1}])
    said = refusal(REFUSED, lambda: shop.resume(accept_drift=True))
    assert said.code == "plan_drift_rows"
    assert "model.shop.balances" in said.message


# -- what is missing, and what is built aside --------------------------------------------------------------------------


@pytest.fixture
def keyed(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """The shop, where balances may write a month again; its warehouse is away."""

    def away(*_: object) -> None:
        raise unavailable("nobody answers", code="warehouse_away")

    shop.models["balances"] |= {"unique_key": ["symbol", "day"], "incremental_strategy": "delete+insert"}
    monkeypatch.setattr(Shop._Open, "connect", away)
    return shop


def finished(shop: Shop, plan: Plan | None, batches: list[Batch]) -> State:
    assert plan is not None
    state = shop.carry_out(plan, batches, *["ok"] * len(batches))
    state.end_run(plan, plan.run_id, "SUCCESS", models_run=len(plan.models), models_failed=0)
    return state


def test_only_what_is_missing_is_planned_and_then_nothing(keyed: Shop, heard: pytest.LogCaptureFixture) -> None:
    both = ("balances", "supply")
    finished(keyed, *keyed.plan(both, to="2024-02-29"))
    plan, batches = keyed.plan(both, only=["gaps"], run_id="run-2")
    assert told(batches) == ["balances/legacy 2024-03..2024-04", "balances/usdc 2024-03..2024-04"]
    assert {batch.reason for batch in batches} == {"gap"}
    assert "only the records say what is there: nobody answers" in heard.text
    finished(keyed, plan, batches)
    assert keyed.plan(both, only=["gaps"], run_id="run-3") == (None, [])
    assert "nothing to plan: none of what should be there is gaps" in heard.text


def test_what_is_stale_is_replaced_a_model_without_windows_as_a_whole(shop: Shop) -> None:
    finished(shop, *shop.plan(("supply",)))
    shop.models["supply"]["code"] = "select 2"
    assert told(shop.plan(("supply", "accounts"), only=["stale"], run_id="run-2")[1]) == ["supply/default R"]


def test_a_plan_of_gaps_goes_on_with_what_was_missing_then(keyed: Shop) -> None:
    plan, batches = keyed.plan(("balances",), only=["gaps"], run_id="run-1")
    assert plan is not None
    keyed.carry_out(plan, batches, "ok")
    assert told(keyed.resume()[1]) == told(batches)[1:]


def test_a_gap_of_a_model_that_goes_on_from_its_own_rows_reaches_to_the_end(keyed: Shop) -> None:
    keyed.models["balances"] |= {
        "code": "select * from {{ this }}",
        "meta": {"full_refresh": {"start_date": "2024-01-15"}},
    }
    state = keyed.carry_out(*keyed.plan(("balances",)), "ok", "failed", "ok")
    state.discard(state.run("run-1"))
    _, batches = keyed.plan(("balances",), to=None, only=["failed"], run_id="run-2")
    assert told(batches)[:2] == ["balances/default 2024-02..2024-03", "balances/default 2024-03..2024-04"]
    assert told(batches)[-1] == "balances/default 2024-12..2025-01"


def test_what_is_built_aside_is_asked_about_its_rows_before_it_is_published(shop: Shop) -> None:
    shop.models["supply"]["meta"] = {"canary": {"metric": "supply", "date_column": "day"}}
    plan, (*batches, gate) = shop.plan(("balances", "supply"), aside=True)
    assert plan is not None
    assert [(model.table_name, model.aside_name) for model in plan.models] == [
        ("balances", "balances__sluice_aside"), ("supply", "supply__sluice_aside"),
    ]  # fmt: skip
    assert {batch.phase for batch in batches} == {"aside"}
    assert isinstance(gate, Gate)
    assert (gate.models, str(gate.since), str(gate.to)) == (["model.shop.supply"], "2024-02-29", "2024-03-31")
    _, silent = shop.plan(("balances",), aside=True)
    assert all(isinstance(one, Batch) for one in silent), "of models that declare nothing nothing is asked"


@pytest.mark.parametrize(
    ("partial", "flag"), [({"stages": ("usdc",)}, "--stage"), ({"only": ["gaps"]}, "--only"), ({"incremental_only": True}, "--incremental-only")]
)  # fmt: skip
def test_a_part_of_a_table_is_not_built_aside(shop: Shop, partial: dict, flag: str) -> None:
    said = refusal(REFUSED, lambda: shop.plan(aside=True, **partial))
    assert (said.code, f"--aside with {flag}:" in said.message) == ("plan_aside_partial", True)


# -- daily -------------------------------------------------------------------------------------------------------------


def test_a_daily_plan_runs_every_model_once_and_replaces_nothing(shop: Shop) -> None:
    plan, batches = shop.daily()
    assert told(batches) == ["accounts/default", "stg_transfers/default", "balances/default", "supply/default"]
    assert [(b.reason, b.vars, b.expect) for b in batches][2] == ("daily", {"a": 1}, ["model.shop.balances"])
    assert batches[3].depends_on == ["model.shop.balances", "model.shop.stg_transfers"]
    assert (plan.intent, str(plan.to), plan.total, plan.dry_run) == ("daily", "2024-12-31", 4, False)
    assert shop.daily(dry_run=True)[0].dry_run


def test_a_daily_run_keeps_off_models_that_a_refresh_left_half_done(shop: Shop) -> None:
    state = shop.carry_out(*shop.plan(("balances",)), "ok")
    assert "another plan for balances" in refusal(REFUSED, shop.daily).message
    assert len(shop.daily(("supply",))[1]) == 1
    state.discard(state.run("run-1"))
    assert len(shop.daily()[1]) == 4
