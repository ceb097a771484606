"""Attempts at one batch: again when the warehouse hiccuped, never twice into the same rows."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import ORDERS, FakeEngine, Step, a_plan, months_of

from sluice import attempts, error_classes
from sluice.attempts import PATIENCE, Attempts, Failed, Patience, _Backoff, result_of
from sluice.dbt_engine.wire import NodeResult, Outcome
from sluice.errors import BUSY, SluiceError, unavailable
from sluice.records import Batch, BatchResult
from sluice.signals import Interrupted
from sluice.state import State

TRANSIENT = "Connection refused"
VICTIM = "Code: 241. DB::Exception: Memory limit (total) exceeded"
TOO_BIG = "Code: 241. DB::Exception: Memory limit (for query) exceeded"
BUSY_FILE = "IO Error: Could not set lock on file"


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    opened = State.open(f"sqlite:{tmp_path / 'state.sqlite'}")
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def _instant_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "PATIENCE", {name: Patience(p.retries, 0, 0) for name, p in PATIENCE.items()})


class Runs:
    """One plan of three months, begun; `on` is what each run of it works with."""

    def __init__(self, state: State, tmp_path: Path, *, adapter: str = "duckdb", replace: bool = False):
        self.state, self.log_dir, self.adapter, self.replace = state, tmp_path / "logs", adapter, replace
        self.number = 0

    def on(self, engine: FakeEngine, **options: Any) -> tuple[Attempts, list[Batch]]:
        """The next run of the plan, as after a kill: nothing is known but what is in the state."""
        self.number += 1
        plan, batches = a_plan(
            months_of(replace=self.replace), run_id=f"run-{self.number}", adapter=self.adapter, attempt=self.number
        )
        self.state.begin_run(plan, "run-1")
        given = {"lock_wait_s": 0.0, "attempted": self.state.attempted("run-1")}
        return Attempts(
            engine, self.state, plan, "run-1", self.log_dir, rules=error_classes.load(), **(given | options)
        ), batches

    def status(self, batch: Batch) -> str | None:
        return {row["batch_id"]: row["status"] for row in self.state.batches("run-1")}.get(batch.batch_id)


@pytest.fixture
def runs(state: State, tmp_path: Path) -> Runs:
    return Runs(state, tmp_path)


def first_batch(runs: Runs, *steps: Step, **options: Any) -> tuple[FakeEngine, BatchResult]:
    """What becomes of the first batch when its attempts go like this."""
    engine = FakeEngine(**options)
    work, batches = runs.on(engine)
    engine.steps[batches[0].batch_id] = list(steps)
    return engine, work.carry_out(batches[0])


@pytest.mark.parametrize(
    ("steps", "ran", "status"),
    [
        (["ok"], 1, "ok"),
        ([TRANSIENT, "ok"], 2, "ok"),
        ([TRANSIENT] * 3 + ["ok"], 4, "ok"),
        ([TRANSIENT] * 4 + ["ok"], 4, "failed"),
        ([VICTIM] * 5 + ["ok"], 6, "ok"),
        ([VICTIM] * 6 + ["ok"], 6, "failed"),
        ([TRANSIENT, VICTIM] * 3 + ["ok"], 7, "ok"),  # each class has its own patience
        ([TOO_BIG, "ok"], 1, "failed"),
        (["Binder Error: no such column", "ok"], 1, "failed"),
        ([TRANSIENT, "Binder Error", "ok"], 2, "failed"),
        (["lost before", "ok"], 2, "ok"),
        (["lost before"] * 4 + ["ok"], 4, "failed"),
    ],
)
def test_each_class_of_error_has_its_patience(
    state: State, tmp_path: Path, steps: list[Step], ran: int, status: str
) -> None:
    adapter = "clickhouse" if any("Code:" in str(step) for step in steps) else "duckdb"
    engine, result = first_batch(Runs(state, tmp_path, adapter=adapter), *steps)
    assert (result.status, len(engine.ran)) == (status, ran)
    assert list(engine.rows.values()) == ([1] if status == "ok" else [])


def test_the_result_is_in_the_state_before_it_is_told(runs: Runs, state: State) -> None:
    _, result = first_batch(runs, TRANSIENT, "ok")
    assert state.done("run-1") == {result.batch_id: result}
    assert (result.attempt, result.run_id, result.recovered) == (2, "run-1", False)
    assert result.began_at is not None
    assert result.ended_at is not None
    assert result.began_at <= result.ended_at
    assert [node.unique_id for node in result.nodes] == [ORDERS]


def test_the_intent_is_in_the_state_before_dbt_starts(runs: Runs, state: State) -> None:
    seen = []

    def look() -> Outcome:
        seen.extend(state.attempted("run-1").values())
        return Outcome(status="ok")

    first_batch(runs, look)
    assert [one.status for one in seen] == [None]


def test_a_failure_tells_its_reason_once(runs: Runs) -> None:
    _, result = first_batch(runs, "Binder Error: no such column")
    assert result.error == "Binder Error: no such column"
    assert [(node.status, node.message) for node in result.nodes] == [("failed", "Binder Error: no such column")]


def test_a_failure_without_a_reason_says_so(runs: Runs) -> None:
    assert first_batch(runs, Outcome(status="failed"))[1].error == "dbt gave no reason"


def test_secrets_in_what_dbt_says_are_kept_back(runs: Runs, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAREHOUSE_PASSWORD", "hunter2hunter2")
    said = "cannot connect to postgres://me:hunter2hunter2@host"
    _, result = first_batch(runs, Outcome("failed", [NodeResult(ORDERS, "failed", 0.1, message=said)], error=said))
    assert "hunter2" not in repr(result)
    assert "hunter2" not in repr(state.store.db.execute("SELECT * FROM batch_event").fetchall())
    assert "hunter2" not in repr(state.store.db.execute("SELECT * FROM model_event").fetchall())


# -- rows that are there already ------------------------------------------------------------------------------


def test_rows_of_a_lost_attempt_are_not_added_again(runs: Runs, state: State) -> None:
    engine, result = first_batch(runs, "lost after")
    assert (result.status, result.recovered, len(engine.ran)) == ("ok", True, 1)
    assert list(engine.rows.values()) == [1]
    assert result.batch_id in state.done("run-1")


def test_a_hook_that_fails_after_the_commit_adds_no_rows_twice(runs: Runs) -> None:
    """The node failed on its connection, but its rows were committed: the next attempt must see that."""
    engine, result = first_batch(runs, f"{TRANSIENT} after")
    assert (result.status, result.recovered, list(engine.rows.values())) == ("ok", True, [1])


@pytest.mark.parametrize("there", [True, False])
def test_a_resumed_run_finds_out_what_a_killed_one_left(runs: Runs, there: bool) -> None:
    engine = FakeEngine()
    work, (batch, *_) = runs.on(engine)
    attempt = work.state.intend("run-1", "run-1", batch)
    if there:
        engine._commit(batch.batch_id, ORDERS, work._marker(batch, attempt), False)
    work, _ = runs.on(engine)
    result = work.carry_out(batch)
    assert (result.status, result.recovered, len(engine.ran)) == ("ok", there, 0 if there else 1)
    assert list(engine.rows.values()) == [1]


def test_what_nobody_can_know_is_refused_with_the_way_out(runs: Runs, state: State) -> None:
    engine = FakeEngine(knows_commits=False)
    work, (batch, *_) = runs.on(engine)
    state.intend("run-1", "run-1", batch)
    work, _ = runs.on(engine)
    result = work.carry_out(batch)
    assert (result.status, engine.ran) == ("failed", [])
    assert f"sluice-state resolve run-2 {batch.batch_id} --rows-are-there or --do-again" in (result.error or "")
    assert "2024-01-01 to 2024-02-01" in (result.error or "")
    assert runs.status(batch) == "unknown"  # the refusal is no outcome: it stays so until somebody has looked

    state.resolve(state.run("run-1"), batch.batch_id, rows_are_there=False)
    work, _ = runs.on(engine)
    assert work.carry_out(batch).status == "ok"
    assert list(engine.rows.values()) == [1]


@pytest.mark.parametrize(
    ("adapter", "status", "runs_again"),
    [
        ("duckdb", "failed", True),  # rolled back
        ("postgres", "failed", True),
        ("clickhouse", "failed", False),
        ("duckdb", "cancelled", False),
        ("duckdb", "ok", False),
    ],
)
def test_without_markers_only_what_was_rolled_back_runs_again(
    state: State, tmp_path: Path, adapter: str, status: Any, runs_again: bool
) -> None:
    runs = Runs(state, tmp_path, adapter=adapter)
    engine = FakeEngine(knows_commits=False)
    work, (batch, *_) = runs.on(engine)
    attempt = state.intend("run-1", "run-1", batch)
    work.record(batch, result_of(work.plan, batch, status, attempt=attempt))
    work, _ = runs.on(engine)
    assert bool(work.carry_out(batch).status == "ok") is runs_again
    assert bool(engine.ran) is runs_again


def test_a_stop_signal_that_took_dbt_along_is_still_a_cancelled_batch(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> bool:
        raise unavailable("killed", code="dbt_gone")

    engine = FakeEngine()
    work, (batch, *_) = runs.on(engine)
    engine.steps[batch.batch_id] = ["interrupted after"]
    with monkeypatch.context() as patched:
        patched.setattr(engine, "committed", gone)
        with pytest.raises(Interrupted):
            work.carry_out(batch)
    assert runs.status(batch) == "cancelled"
    work, _ = runs.on(engine)
    assert work.carry_out(batch).recovered, "the next run looks, before it does anything"
    assert list(engine.rows.values()) == [1]


def test_a_lost_attempt_without_markers_is_not_tried_again(runs: Runs) -> None:
    engine, result = first_batch(runs, "lost after", knows_commits=False)
    assert (result.status, len(engine.ran)) == ("failed", 1)
    assert "sluice-state resolve" in (result.error or "")


def test_a_batch_that_replaces_its_table_is_simply_run_again(state: State, tmp_path: Path) -> None:
    engine, result = first_batch(Runs(state, tmp_path, replace=True), "lost after", "ok", knows_commits=False)
    assert (result.status, result.recovered, len(engine.ran)) == ("ok", False, 2)
    assert (list(engine.rows.values()), engine.asked) == ([1], [])


def test_batches_of_a_table_that_was_replaced_are_run_again(state: State, tmp_path: Path) -> None:
    """Their markers are still in the warehouse, their rows went with the old table."""
    runs, engine = Runs(state, tmp_path, replace=True), FakeEngine()
    for _ in range(2):
        work, batches = runs.on(engine)
        assert [work.carry_out(batch).recovered for batch in batches] == [False, False, False]
    assert list(engine.rows.values()) == [1, 1, 1]

    work, batches = runs.on(engine)
    work.carry_out(batches[0])
    attempt = state.intend("run-3", "run-1", batches[1])  # killed before its rows were committed
    assert attempt == 3
    work, _ = runs.on(engine)
    assert not work.carry_out(batches[1]).recovered
    assert engine.rows[batches[1].batch_id] == 1


# -- locks and signals ----------------------------------------------------------------------------------------


def test_a_file_that_stays_locked_is_busy(runs: Runs, state: State) -> None:
    engine = FakeEngine()
    work, (batch, *_) = runs.on(engine)
    engine.steps[batch.batch_id] = [BUSY_FILE] * 9
    with pytest.raises(SluiceError, match="Could not set lock") as caught:
        work.carry_out(batch)
    assert (caught.value.exit_code, caught.value.code, len(engine.ran)) == (BUSY, "warehouse_locked", 1)
    assert runs.status(batch) == "failed"


def test_a_file_that_is_free_in_time_is_waited_for(runs: Runs) -> None:
    engine = FakeEngine()
    work, (batch, *_) = runs.on(engine, lock_wait_s=20.0)
    engine.steps[batch.batch_id] = [BUSY_FILE, "ok"]
    began = time.monotonic()
    assert work.carry_out(batch).status == "ok"
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("lock_wait_s", [20.0, 0.0])
def test_whether_rows_were_left_is_asked_again_when_somebody_reads_the_file(runs: Runs, lock_wait_s: float) -> None:
    engine = FakeEngine()
    work, (batch, *_) = runs.on(engine)
    engine.steps[batch.batch_id] = ["interrupted after"]
    with pytest.raises(Interrupted):
        work.carry_out(batch)
    engine.unsure = [BUSY_FILE] * 2
    work, _ = runs.on(engine, lock_wait_s=lock_wait_s)
    if lock_wait_s:
        assert (work.carry_out(batch).status, len(engine.ran)) == ("ok", 1)
        return
    with pytest.raises(SluiceError, match="Could not set lock") as caught:
        work.carry_out(batch)
    assert (caught.value.exit_code, caught.value.code, len(engine.ran)) == (BUSY, "warehouse_locked", 1)


@pytest.mark.parametrize("there", [False, True])
def test_a_signal_cancels_the_batch_in_flight_and_tells_what_it_left(runs: Runs, there: bool) -> None:
    engine = FakeEngine()
    work, (batch, *_) = runs.on(engine)
    engine.steps[batch.batch_id] = ["interrupted after" if there else "interrupted before"]
    with pytest.raises(Interrupted):
        work.carry_out(batch)
    assert (engine.cancelled, len(engine.ran)) == (1, 1)
    assert work.interrupted is not None
    assert (work.interrupted.status, work.interrupted.recovered) == (("ok", True) if there else ("cancelled", False))
    assert runs.status(batch) == work.interrupted.status

    work, _ = runs.on(engine)
    assert work.carry_out(batch).status == "ok"
    assert list(engine.rows.values()) == [1]


def test_a_cancelled_replacement_is_not_asked_about(state: State, tmp_path: Path) -> None:
    runs, engine = Runs(state, tmp_path, replace=True), FakeEngine()
    work, (batch, *_) = runs.on(engine)
    engine.steps[batch.batch_id] = ["interrupted after"]
    with pytest.raises(Interrupted):
        work.carry_out(batch)
    assert work.interrupted is not None
    assert (work.interrupted.status, engine.asked) == ("cancelled", [])


def test_a_signal_ends_the_back_off(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    import signal
    import threading

    from sluice import signals

    handlers = {signum: signal.getsignal(signum) for signum in (*signals.STOPPING, signal.SIGPIPE)}
    signals.install()
    monkeypatch.setattr(attempts, "PATIENCE", {"transient": Patience(3, 60, 60)})
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    began = time.monotonic()
    try:
        with pytest.raises(Interrupted):
            first_batch(runs, TRANSIENT)
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
    assert time.monotonic() - began < 10


def test_waits_double_with_jitter_and_never_exceed_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "PATIENCE", PATIENCE)
    plan, (batch, *_) = a_plan()
    for name, longest in (("transient", [1, 2, 4]), ("victim", [15, 30, 60, 120, 120])):
        back_off = _Backoff(0.0)
        failure = Failed(result_of(plan, batch, "failed"), name, "why")
        for most in longest:
            assert most / 2 <= back_off(failure) <= most
        assert back_off(failure) is False
    assert _Backoff(0.0)(Failed(result_of(plan, batch, "failed"), "permanent", "")) is False
    assert _Backoff(0.0)(ValueError("not ours")) is False


def test_an_error_of_the_engine_itself_is_not_tried_again(runs: Runs) -> None:
    def explode() -> Outcome:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        first_batch(runs, explode, "ok")


def test_every_batch_has_a_log_of_its_own_whatever_its_names_are(runs: Runs) -> None:
    work, batches = runs.on(FakeEngine())
    batches[0].stage = "../../évil/" + "名" * 300
    path = Path(work.carry_out(batches[0]).log_path or "")
    assert path.parent == runs.log_dir / "run-1"
    assert path.name.startswith("0001-orders-.._.._")
    assert path.name.endswith("-2024-01-01.log")
    assert len(path.name.encode()) < 255
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_skipped_batch_says_why_and_is_not_run(runs: Runs) -> None:
    engine = FakeEngine()
    work, (batch, *_) = runs.on(engine)
    result = work.skip(batch, "because")
    assert (result.status, result.error, engine.ran) == ("skipped", "because", [])
    assert runs.status(batch) == "skipped"
    assert work.attempted == {}


def test_why_a_batch_was_slower_than_its_neighbours_is_told(runs: Runs, heard: pytest.LogCaptureFixture) -> None:
    first_batch(runs, Outcome(status="ok", engine="fresh", fresh_reason="a var is read in dbt_project.yml"))
    assert "batch 1 of 3 had dbt parse anew: a var is read in dbt_project.yml" in heard.text
