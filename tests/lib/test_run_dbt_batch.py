"""The run of a plan, on a warehouse in memory."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from builders import ORDERS, TOTALS, FakeContext, FakeEngine, a_batch, a_plan, copy, months_of

from sluice import attempts, run_dbt_batch
from sluice.attempts import PATIENCE, Patience
from sluice.config import Config, load
from sluice.dbt_engine.wire import ProjectInfo
from sluice.errors import BAD_STREAM, BUSY, CONFIG, REFUSED, SluiceError
from sluice.jobs import Wait
from sluice.records import Batch, BatchResult, Plan, Record, Ways
from sluice.run_dbt_batch import Options
from sluice.signals import Interrupted
from sluice.state import State
from sluice.view import Screen

BROKEN = "Binder Error: no such column"


@dataclass
class Stand:
    """A run of Sluice on a fake warehouse: what it yielded, how it ended, what is in the state."""

    config: Config
    engine: FakeEngine = field(default_factory=FakeEngine)
    results: list[BatchResult] = field(default_factory=list)
    code: int | None = None
    kept: list[Record] = field(default_factory=list)
    told: list[Record] = field(default_factory=list)

    def run(
        self,
        plan: Plan,
        batches: list[Batch],
        *,
        delay_s: float | None = None,
        max_failures: int | None = 1,
        dry_run: bool = False,
        stream: list[Record] | None = None,
    ) -> list[str]:
        """The statuses of the results, in order. `code` is the exit code that the command asks for."""
        self.results = []
        context = FakeContext(self.config, stream if stream is not None else [plan, *batches], dry_run=dry_run)
        running = run_dbt_batch.run_dbt_batch(context, Options(delay_s, max_failures, "fake"))
        try:
            while True:
                record = next(running)
                (self.results if isinstance(record, BatchResult) else self.told).append(record)
        except StopIteration as end:
            self.code = end.value
        finally:
            running.close()
            self.kept = context.kept
        return [result.status for result in self.results]

    @property
    def state(self) -> State:
        return State.open(self.config.state_url)

    def run_status(self, run_id: str = "run-1") -> str:
        return self.state.run(run_id).run_status


@pytest.fixture
def stand(own_settings: Config, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    stand = Stand(own_settings)
    monkeypatch.setattr(run_dbt_batch, "_engine", lambda *_: stand.engine)
    monkeypatch.setattr(attempts, "PATIENCE", {name: Patience(p.retries, 0, 0) for name, p in PATIENCE.items()})
    return stand


def two_models() -> list[Batch]:
    """Three months of orders, then three of totals, which depend on orders; then one of something else."""
    return [*months_of(), *months_of(TOTALS, depends_on=[ORDERS]), a_batch("model.shop.other", full_refresh=True)]


def test_a_plan_is_carried_out_in_order(stand: Stand) -> None:
    plan, batches = a_plan(two_models())
    assert stand.run(plan, batches) == ["ok"] * 7
    assert stand.engine.ran == [batch.batch_id for batch in batches]
    assert [result.seq for result in stand.results] == [1, 2, 3, 4, 5, 6, 7]
    assert (stand.code, stand.run_status(), stand.engine.closed) == (None, "SUCCESS", 1)
    run = stand.state.run("run-1")
    assert (run.models_run, run.models_failed) == (3, 0)
    assert stand.kept == [plan]


def test_its_models_are_free_when_a_run_has_ended(stand: Stand) -> None:
    stand.run(*a_plan())
    assert stand.state.store.db.execute("SELECT count(*) FROM model_lock").fetchone() == (0,)
    assert list((stand.config.state_dir / "locks").iterdir()) == []
    assert stand.run(*a_plan(run_id="run-2")) == ["ok"] * 3


def test_the_first_failure_stops_the_rest_and_says_so(stand: Stand) -> None:
    plan, batches = a_plan(two_models())
    stand.engine.steps[batches[1].batch_id] = [BROKEN]
    assert stand.run(plan, batches) == ["ok", "failed"] + ["skipped"] * 5
    assert stand.results[1].error == BROKEN
    assert stand.results[2].error == f"{ORDERS} failed in batch 2"
    assert stand.results[3].error == f"{ORDERS} failed in batch 2"
    assert stand.results[6].error == "stopped after 1 failure"
    assert (stand.code, stand.run_status()) == (1, "FAILED")
    run = stand.state.run("run-1")
    assert (run.models_run, run.models_failed) == (1, 1)


def test_only_what_depends_on_a_failure_is_skipped_when_told_to_go_on(stand: Stand) -> None:
    plan, batches = a_plan(two_models())
    stand.engine.steps[batches[1].batch_id] = [BROKEN]
    assert stand.run(plan, batches, max_failures=None) == ["ok", "failed"] + ["skipped"] * 4 + ["ok"]
    assert (stand.code, stand.run_status()) == (1, "FAILED")


def test_as_many_failures_are_borne_as_told(stand: Stand) -> None:
    plan, batches = a_plan([a_batch(f"model.shop.m{n}") for n in range(5)])
    for batch in batches:
        stand.engine.steps[batch.batch_id] = [BROKEN]
    assert stand.run(plan, batches, max_failures=2) == ["failed", "failed", "skipped", "skipped", "skipped"]
    assert stand.results[2].error == "stopped after 2 failures"


def test_a_failed_run_is_resumed_with_what_is_left(stand: Stand) -> None:
    plan, batches = a_plan(two_models())
    stand.engine.steps[batches[4].batch_id] = [BROKEN]
    stand.run(plan, batches)
    again, rest = a_plan(two_models(), run_id="run-2", root_run_id="run-1", attempt=2, pending=3)
    assert stand.run(again, rest[4:]) == ["ok"] * 3
    assert stand.run_status("run-2") == "SUCCESS"
    assert stand.state.unfinished() == []
    assert set(stand.engine.rows.values()) == {1}


def test_the_same_stream_again_only_tells_what_is_done(stand: Stand) -> None:
    plan, batches = a_plan()
    stand.run(plan, batches)
    before = stand.results
    assert stand.run(plan, batches) == ["ok"] * 3
    assert stand.results == before
    assert len(stand.engine.ran) == 3


def test_the_same_stream_again_does_what_failed(stand: Stand) -> None:
    plan, batches = a_plan()
    stand.engine.steps[batches[1].batch_id] = [BROKEN]
    assert stand.run(plan, batches) == ["ok", "failed", "skipped"]
    assert stand.run(plan, batches) == ["ok", "ok", "ok"]
    assert stand.engine.ran == [batches[n].batch_id for n in (0, 1, 1, 2)]
    assert (stand.run_status(), [r.attempt for r in stand.results]) == ("SUCCESS", [1, 2, 1])


def test_a_rehearsal_touches_nothing(stand: Stand) -> None:
    for plan, dry_run in ((a_plan()[0], True), (a_plan(dry_run=True)[0], False)):
        assert stand.run(plan, a_plan()[1], dry_run=dry_run) == ["dry_run"] * 3
    assert (stand.engine.ran, stand.code, stand.kept) == ([], None, [])
    assert not stand.config.state_dir.exists()
    assert not stand.config.log_dir.exists()


def test_what_is_too_big_is_told_and_counts_as_one_batch(stand: Stand, capfd: pytest.CaptureFixture) -> None:
    plan, batches = a_plan(months_of(ways=Ways("day")))
    stand.engine.steps[batches[0].batch_id] = ["Out of Memory Error: could not allocate block"]
    assert stand.run(plan, batches) == ["ok"] * 3
    assert [result.in_parts for result in stand.results] == [5, 5, 5]
    assert (stand.run_status(), len(stand.engine.ran), set(stand.engine.rows.values())) == ("SUCCESS", 16, {1})
    for record in (*stand.told, *stand.results):
        Screen(1).write(record)
    seen = capfd.readouterr().out
    assert "[1/3] too big   orders  2024-01  → 5 parts, from 2024-01-01 → 2024-01-07 on" in seen
    assert "[2/3] in parts  orders" in seen
    assert "in 5 parts" in seen.splitlines()[-1]
    again, rest = a_plan(months_of(ways=Ways("day")), run_id="run-2")
    assert stand.run(again, rest) == ["ok"] * 3, "another plan is not told of the parts of this one"


def test_a_wave_that_ran_in_parts_leaves_the_run_open_for_the_next(stand: Stand) -> None:
    plan, batches = a_plan(months_of(ways=Ways("day")))
    stand.engine.steps[batches[0].batch_id] = ["Out of Memory Error: could not allocate block"]
    stand.run(plan, batches[:1])
    assert stand.run_status() == "RUNNING"
    assert stand.run(plan, batches) == ["ok"] * 3
    assert (stand.run_status(), stand.results[0].in_parts, stand.results[0].parts) == ("SUCCESS", 5, [])


def test_an_empty_plan_succeeds(stand: Stand) -> None:
    assert stand.run(*a_plan([])) == []
    assert (stand.code, stand.run_status()) == (None, "SUCCESS")


def test_without_a_plan_there_is_nothing_to_do(stand: Stand) -> None:
    assert stand.run(*a_plan(), stream=[]) == []
    assert stand.code is None
    assert not stand.config.state_dir.exists()


def test_a_wave_leaves_the_run_open_for_the_next(stand: Stand) -> None:
    plan, batches = a_plan()
    assert stand.run(plan, batches[:2]) == ["ok", "ok"]
    assert stand.run_status() == "RUNNING"
    assert stand.run(plan, batches[:1]) == ["ok"]
    assert stand.run_status() == "RUNNING"
    assert stand.run(plan, batches) == ["ok"] * 3
    assert stand.run_status() == "SUCCESS"
    assert len(stand.engine.ran) == 3


def test_the_last_wave_ends_the_run(stand: Stand) -> None:
    plan, batches = a_plan()
    stand.run(plan, batches[:2])
    stand.run(plan, batches[2:])
    assert stand.run_status() == "SUCCESS"


def test_the_last_wave_ends_a_refill_that_was_resumed_too(stand: Stand) -> None:
    """Its batches all come by again, each in the process of its own wave: those of an earlier run count as done."""
    plan, batches = a_plan(intent="refill")
    stand.run(plan, batches[:1])
    assert stand.run_status() == "RUNNING"
    again, batches = a_plan(intent="refill", run_id="run-2", root_run_id="run-1", attempt=2)
    for batch in batches:
        assert stand.run(again, [batch]) == ["ok"]
    assert len(stand.engine.ran) == 3
    assert stand.state.unfinished() == []


# -- what is refused ------------------------------------------------------------------------------------------


def refused(stand: Stand, exit_code: int, stream: list[Record]) -> SluiceError:
    with pytest.raises(SluiceError) as caught:
        stand.run(*a_plan(), stream=stream)
    assert caught.value.exit_code == exit_code
    return caught.value


@pytest.mark.parametrize(
    "change",
    [
        {"vars": {"x": 1}},
        {"model": TOTALS},
        {"stage": "usdc"},
        {"window": None},
        {"expect": [ORDERS, TOTALS]},
        {"full_refresh": True},
    ],
)
def test_a_batch_that_was_changed_on_the_way_is_refused(stand: Stand, change: dict[str, Any]) -> None:
    plan, batches = a_plan()
    changed = msgspec.structs.replace(batches[1], **change)
    said = refused(stand, REFUSED, [plan, batches[0], changed])
    assert "line 3" in said.message
    assert batches[1].batch_id in said.message
    assert stand.engine.ran == [batches[0].batch_id]
    assert stand.run_status() == "FAILED"


def test_a_batch_of_another_plan_is_refused(stand: Stand) -> None:
    stranger = a_plan(months_of(TOTALS))[1][0]
    said = refused(stand, BAD_STREAM, [a_plan()[0], stranger])
    assert (said.line, stand.engine.ran) == (2, [])
    assert "belongs to plan" in said.message


def test_a_batch_before_its_plan_is_refused(stand: Stand) -> None:
    assert "before its plan" in refused(stand, BAD_STREAM, [a_plan()[1][0]]).message


def test_a_second_plan_is_refused(stand: Stand) -> None:
    plan, batches = a_plan()
    assert refused(stand, BAD_STREAM, [plan, *batches, copy(plan)]).line == 5


def test_a_batch_that_comes_twice_is_run_once(stand: Stand, heard: pytest.LogCaptureFixture) -> None:
    plan, batches = a_plan()
    assert stand.run(plan, [*batches, batches[1]]) == ["ok"] * 3
    assert f"line 5: batch {batches[1].batch_id} is already done by line 3" in heard.text
    assert stand.run_status() == "SUCCESS"


def test_a_second_run_over_the_same_models_is_told_who_is_at_work(stand: Stand) -> None:
    plan, batches = a_plan()
    running = run_dbt_batch.run_dbt_batch(FakeContext(stand.config, [plan, *batches]), Options(None, 1, "fake"))
    next(running)
    said = refused(stand, BUSY, [a_plan(run_id="run-2")[0]])
    assert "orders" in said.message
    assert "run-1" in said.message
    running.close()
    assert stand.run_status() == "CANCELLED"


def test_the_models_of_an_unfinished_plan_are_refused(stand: Stand) -> None:
    plan, batches = a_plan()
    stand.engine.steps[batches[1].batch_id] = [BROKEN]
    stand.run(plan, batches)
    daily, _ = a_plan([a_batch()], run_id="run-2", intent="daily")
    assert "left at 1 of 3 batches" in refused(stand, REFUSED, [daily]).message
    assert [run.run_id for run in stand.state.runs()] == ["run-1"]


def test_a_failing_start_of_dbt_leaves_no_run_and_no_claim(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise SluiceError("dbt cannot load it", code="dbt_configuration", exit_code=78)

    with monkeypatch.context() as patched:
        patched.setattr(run_dbt_batch, "_engine", fail)
        refused(stand, 78, [a_plan()[0]])
    assert stand.state.runs() == []
    assert stand.run(*a_plan(run_id="run-2")) == ["ok"] * 3


# -- how a run ends ---------------------------------------------------------------------------------------------


def test_a_signal_ends_the_run_as_cancelled_and_tells_what_was_in_flight(stand: Stand) -> None:
    plan, batches = a_plan()
    stand.engine.steps[batches[1].batch_id] = ["interrupted before"]
    with pytest.raises(Interrupted):
        stand.run(plan, batches)
    assert [result.status for result in stand.results] == ["ok", "cancelled"]
    assert (stand.run_status(), stand.engine.cancelled, stand.engine.closed) == ("CANCELLED", 1, 1)
    assert len(stand.engine.ran) == 2


def test_a_reader_that_leaves_cancels_the_run_after_the_batch_in_flight(stand: Stand) -> None:
    plan, batches = a_plan()
    running = run_dbt_batch.run_dbt_batch(FakeContext(stand.config, [plan, *batches]), Options(None, 1, "fake"))
    assert next(running).status == "ok"
    running.close()
    assert (stand.run_status(), len(stand.engine.ran), stand.engine.closed) == ("CANCELLED", 1, 1)
    assert len(stand.state.done("run-1")) == 1


def test_a_broken_stream_ends_the_run_as_failed_and_keeps_what_is_done(stand: Stand) -> None:
    plan, batches = a_plan()

    def breaks() -> Iterator[Record]:
        yield plan
        yield batches[0]
        raise SluiceError("line 3: empty", code="stream_bad_line", exit_code=BAD_STREAM)

    refused(stand, BAD_STREAM, breaks())
    assert stand.run_status() == "FAILED"
    assert stand.state.store.db.execute("SELECT message FROM run_event WHERE event = 'ended'").fetchone() == (
        "line 3: empty",
    )
    assert len(stand.state.done("run-1")) == 1


def test_a_bug_ends_the_run_as_failed(stand: Stand) -> None:
    plan, batches = a_plan()

    def explode() -> Any:
        raise ZeroDivisionError

    stand.engine.steps[batches[1].batch_id] = [explode]
    with pytest.raises(ZeroDivisionError):
        stand.run(plan, batches)
    assert (stand.run_status(), stand.engine.closed) == ("FAILED", 1)
    assert len(stand.state.done("run-1")) == 1


def test_a_locked_warehouse_ends_the_run_as_busy(stand: Stand) -> None:
    plan, batches = a_plan()
    stand.engine.steps[batches[0].batch_id] = ["IO Error: Could not set lock on file"] * 3
    with pytest.raises(SluiceError) as caught:
        stand.run(plan, batches)
    assert (caught.value.exit_code, stand.run_status()) == (BUSY, "FAILED")


def test_whoever_is_left_with_an_unfinished_refresh_is_told_how_to_go_on(
    stand: Stand, heard: pytest.LogCaptureFixture
) -> None:
    plan, batches = a_plan()
    stand.engine.steps[batches[1].batch_id] = [BROKEN]
    stand.run(plan, batches)
    assert f"batch 2 of 3: {ORDERS}, stage default: {BROKEN}" in heard.text
    assert "failed after 1 of 3 batches; go on with: plan-batches --resume | run-dbt-batch" in heard.text


@pytest.mark.parametrize(("plans", "given", "waits"), [(0.0, None, 0), (2.5, None, 2), (2.5, 0.0, 0), (0.0, 7.0, 2)])
def test_the_delay_is_kept_between_batches_and_not_before_the_first(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, plans: float, given: float | None, waits: int
) -> None:
    slept: list[float] = []

    def wait(*, most_s: float) -> Wait:
        slept.append(most_s)
        return Wait(most_s=0.0)

    monkeypatch.setattr(run_dbt_batch, "Wait", wait)
    plan, batches = a_plan(delay_s=plans)
    stand.run(plan, batches, delay_s=given)
    assert slept == [plans if given is None else given] * waits


# -- which dbt ------------------------------------------------------------------------------------------------


@pytest.fixture
def warm(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """The warm session, which finds the project `shop`."""
    engine = FakeEngine()
    monkeypatch.setattr(run_dbt_batch, "start_engine", lambda *_: engine)
    found = ProjectInfo("shop", "dev", "duckdb", None, "main", "1.11", "")
    monkeypatch.setattr(run_dbt_batch, "parse", lambda *_: found)
    return engine


def carried_out(config: Config, plan: Plan, command: str | None = None) -> list[Record]:
    context = FakeContext(config, [plan])
    return list(run_dbt_batch.run_dbt_batch(context, Options(None, 1, command)))


def test_a_plan_for_another_project_is_refused(own_settings: Config, warm: FakeEngine) -> None:
    with pytest.raises(SluiceError, match=r"the plan is for project mart, .* holds shop") as caught:
        carried_out(own_settings, a_plan([], project="mart")[0])
    assert (caught.value.exit_code, warm.closed) == (REFUSED, 1)
    assert carried_out(own_settings, a_plan([])[0]) == []


def test_a_plan_for_another_target_is_refused(
    own_settings: Config, warm: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBT_TARGET", "prod")
    with pytest.raises(
        SluiceError, match=r"target dev, this command's is prod .DBT_TARGET, set in the environment"
    ) as caught:
        carried_out(load(), a_plan([])[0])
    assert caught.value.exit_code == REFUSED
    assert carried_out(load(), a_plan([], target="prod")[0]) == []


def test_without_a_project_there_is_no_run(own_settings: Config, warm: FakeEngine, tmp_path: Path) -> None:
    with pytest.raises(SluiceError, match=r"no dbt_project.yml") as caught:
        carried_out(replace(own_settings, project_dir=tmp_path), a_plan([])[0])
    assert caught.value.exit_code == CONFIG


def test_any_dbt_needs_no_project_here(own_settings: Config, tmp_path: Path) -> None:
    assert carried_out(replace(own_settings, project_dir=tmp_path), a_plan([])[0], "docker exec dbt dbt") == []
