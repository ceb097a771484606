"""Looking into the state store, and deciding about what was left unfinished."""

from typing import Any

import pytest
from builders import FakeContext, a_plan, a_result

from sluice.config import Config
from sluice.errors import BUSY, REFUSED, SluiceError
from sluice.records import BatchResult, Record, RunState
from sluice.sluice_state import look
from sluice.state import State


def looked(
    config: Config, action: str, run: str | None = None, batch: str | None = None, **options: Any
) -> list[Record]:
    """What `sluice-state ACTION` yields."""
    dry_run = options.pop("dry_run", False)
    given = {"limit": 20, "rows_are_there": False} | options
    return list(look(FakeContext(config, dry_run=dry_run), action, run, batch, **given))


@pytest.fixture
def state(own_settings: Config) -> State:
    """Two runs: one of three batches, killed in its second; a daily one that went well."""
    state = State.open(own_settings.state_url)
    plan, batches = a_plan()
    state.begin_run(plan, "run-1")
    attempt = state.intend("run-1", "run-1", batches[0])
    state.record("run-1", batches[0], a_result(batches[0], attempt=attempt, duration_s=0.5), "shop")
    state.intend("run-1", "run-1", batches[1])
    daily, _ = a_plan(run_id="run-2", intent="daily")
    state.begin_run(daily, "run-2")
    state.end_run(daily, "run-2", "SUCCESS", models_run=1, models_failed=0)
    return state


def test_without_a_store_there_is_nothing_to_see_and_none_is_made(
    own_settings: Config, heard: pytest.LogCaptureFixture
) -> None:
    assert looked(own_settings, "runs") == looked(own_settings, "pending") == []
    assert "no run yet" in heard.text
    with pytest.raises(SluiceError, match="no run yet") as caught:
        looked(own_settings, "show", "run-1")
    assert caught.value.exit_code == REFUSED
    assert not own_settings.state_dir.exists()


def test_runs_are_listed_with_the_way_on(own_settings: Config, state: State) -> None:
    runs = {run.run_id: run for run in looked(own_settings, "runs")}
    killed, daily = runs["run-1"], runs["run-2"]
    assert (killed.run_status, killed.is_alive, killed.done, killed.total) == ("RUNNING", False, 1, 3)
    assert killed.resume == "plan-batches --resume | run-dbt-batch"
    assert (daily.run_status, daily.resume, daily.is_discarded) == ("SUCCESS", None, False)
    assert len(looked(own_settings, "runs", limit=1)) == 1
    assert [run.run_id for run in looked(own_settings, "pending")] == ["run-1"]


def test_of_several_attempts_at_a_plan_only_the_latest_can_be_gone_on_with(own_settings: Config, state: State) -> None:
    again, _ = a_plan(run_id="run-3")
    state.begin_run(again, "run-1")
    state.end_run(again, "run-3", "CANCELLED", models_run=0, models_failed=0)
    resume = {run.run_id: run.resume for run in looked(own_settings, "runs")}
    assert resume == {"run-1": None, "run-2": None, "run-3": "plan-batches --resume | run-dbt-batch"}
    last, _ = a_plan(run_id="run-4")
    state.begin_run(last, "run-1")
    state.end_run(last, "run-4", "SUCCESS", models_run=1, models_failed=0)
    assert {run.resume for run in looked(own_settings, "runs")} == {None}


def test_a_run_at_work_is_said_to_be_alive(own_settings: Config, state: State) -> None:
    lock = state.store.lock("run-1")
    lock.acquire()
    (run,) = looked(own_settings, "pending")
    assert (run.is_alive, run.resume) == (True, None)
    with pytest.raises(SluiceError) as caught:
        looked(own_settings, "discard", "run-1")
    assert caught.value.exit_code == BUSY
    lock.release()


def test_a_run_is_shown_with_its_batches(own_settings: Config, state: State) -> None:
    run, first, second = looked(own_settings, "show", "run-1")
    assert isinstance(run, RunState)
    assert isinstance(second, BatchResult)
    assert (first.seq, first.status, first.duration_s, first.error) == (1, "ok", 0.5, None)
    assert (second.seq, second.status, second.error) == (2, "cancelled", "begun, and its outcome was never recorded")
    assert str(second.window.start) == "2024-02-01"


def test_a_plan_is_discarded(own_settings: Config, state: State) -> None:
    (rehearsed,) = looked(own_settings, "discard", "run-1", dry_run=True)
    assert not rehearsed.is_discarded
    (run,) = looked(own_settings, "discard", "run-1")
    assert (run.is_discarded, run.resume) == (True, None)
    assert looked(own_settings, "pending") == []


@pytest.mark.parametrize(("rows_are_there", "done"), [(True, 2), (False, 1)])
def test_a_person_resolves_what_nobody_else_can_know(
    own_settings: Config, state: State, rows_are_there: bool, done: int
) -> None:
    batch = a_plan()[1][1].batch_id
    looked(own_settings, "resolve", "run-1", batch, rows_are_there=True, dry_run=True)
    assert len(state.done("run-1")) == 1
    run, *_ = looked(own_settings, "resolve", "run-1", batch, rows_are_there=rows_are_there)
    assert run.done == len(state.done("run-1")) == done


@pytest.mark.parametrize("action", ["show", "discard", "resolve"])
def test_an_unknown_run_is_refused(own_settings: Config, state: State, action: str) -> None:
    with pytest.raises(SluiceError) as caught:
        looked(own_settings, action, "nope", "batch")
    assert caught.value.exit_code == REFUSED
