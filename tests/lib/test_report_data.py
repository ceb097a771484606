"""What the figures of the report are made of: plain functions from rows and records to plain data."""

import itertools
import os
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from builders import ORDERS, TOTALS, a_plan
from hypothesis import given
from hypothesis import strategies as st

from sluice.coverage import Cell
from sluice.records import CheckResult, PartitionResult, PlannedGap, SyncState, Window
from sluice.report import kept
from sluice.report.canaries import canaries, number
from sluice.report.coverage_map import coverage_map, worst_first
from sluice.report.history import history
from sluice.report.partitions import partitions
from sluice.report.slowest import slowest
from sluice.report.syncs import syncs
from sluice.report.timeline import Bar, timeline
from sluice.state import Run

JAN, MAR = date(2024, 1, 1), date(2024, 3, 1)


def at(second: float) -> str:
    return f"2024-05-01T10:{int(second) // 60:02}:{second % 60:06.3f}Z"


def a_run(run_id: str = "run-1", *, began_at: str = at(0), intent: str = "daily", **fields: Any) -> Run:
    plan, _ = a_plan(run_id=run_id, intent=intent, **fields.pop("plan", {}))
    given_fields = {
        "run_id": run_id, "root_run_id": run_id, "plan": plan, "run_started_at": began_at, "run_ended_at": None,
        "run_duration_seconds": 5.0, "run_status": "SUCCESS", "models_run": 1, "models_failed": 0, "attempt": 1, "host": "h",
        "pid": 1, "is_discarded": False,
    }  # fmt: skip
    return Run(**(given_fields | fields))


# -- coverage -----------------------------------------------------------------------------------------------------------


def a_cell(model: str, stage: str, month: date | None, status: Any = "ok") -> Cell:
    return Cell(model, stage, month, Window(month, month) if month else None, status)


def test_a_map_has_a_row_for_each_stage_and_no_gap_between_months() -> None:
    cells = [
        a_cell(ORDERS, "eu", JAN),
        a_cell(ORDERS, "eu", MAR, "failed"),
        a_cell(TOTALS, "default", MAR),
        a_cell("model.shop.accounts", "default", None, "never_run"),
    ]
    found = coverage_map(cells)
    assert found.rows == [(ORDERS, "eu"), (TOTALS, "default")]
    assert found.months == [JAN, date(2024, 2, 1), MAR]
    assert found.cells == [[cells[0], None, cells[1]], [None, None, cells[2]]]
    assert found.models[ORDERS]["failed"] == found.models["model.shop.accounts"]["never_run"] == 1
    assert worst_first(found.models) == [ORDERS, "model.shop.accounts", TOTALS]
    assert coverage_map([]).months == []


# -- the timeline -------------------------------------------------------------------------------------------------------


def event(kind: str, batch: str, second: float, *, attempt: int = 1, run_id: str = "run-1", **fields: Any) -> dict:
    return {
        "event": kind, "batch_id": batch, "at": at(second), "attempt": attempt, "run_id": run_id, "model_name": ORDERS,
        "stage": "default", "window_start": None, "window_end": None, "status": "ok" if kind == "outcome" else None,
        "message": None,
    } | fields  # fmt: skip


def bars(*rows: dict, waves: dict | None = None, most: int = 100) -> list[Bar]:
    return timeline({"run-1": at(0)}, rows, waves or {}, most=most).bars


def test_an_attempt_is_a_bar_and_what_lies_between_two_a_wait() -> None:
    found = bars(
        event("intent", "a", 1), event("outcome", "a", 3, status="failed", message="reset"),
        event("intent", "a", 7.5, attempt=2), event("outcome", "a", 9, attempt=2),
    )  # fmt: skip
    assert [(bar.status, bar.start_s, bar.end_s, bar.attempt, bar.worker) for bar in found] == [
        ("failed", 1, 3, 1, 1), ("wait", 3, 7.5, 2, 1), ("ok", 7.5, 9, 2, 1),
    ]  # fmt: skip
    assert found[0].message == "reset"


def test_bars_at_the_same_time_have_lines_of_their_own_in_each_wave() -> None:
    rows = [event("intent", "a", 0), event("intent", "b", 1), event("outcome", "a", 2), event("intent", "c", 2)]
    rows += [event("outcome", "b", 3), event("outcome", "c", 4), event("intent", "d", 5), event("outcome", "d", 6)]
    waves = {("run-1", batch): wave for batch, wave in [("a", 1), ("b", 1), ("c", 1), ("d", 2)]}
    assert [(bar.start_s, bar.wave, bar.worker) for bar in bars(*rows, waves=waves)] == [
        (0, 1, 1), (1, 1, 2), (2, 1, 1), (5, 2, 1),
    ]  # fmt: skip


def test_what_was_begun_and_never_ended_is_unknown_what_was_skipped_is_none() -> None:
    found = bars(event("intent", "a", 1), event("outcome", "b", 2, status="skipped"))
    assert [(bar.status, bar.start_s, bar.end_s) for bar in found] == [("unknown", 1, 1)]


def test_a_refill_that_began_anew_with_a_wave_counts_from_its_first_batch() -> None:
    found = timeline({"run-1": at(50)}, [event("intent", "a", 40), event("outcome", "a", 42)], {}, most=9).bars
    assert (found[0].start_s, found[0].end_s) == (0, 2)


def test_too_many_bars_are_joined_but_never_good_with_bad() -> None:
    rows = []
    for second in range(50):
        status = "failed" if second == 20 else "ok"
        model = ORDERS if second % 2 else TOTALS
        rows += [event("intent", f"b{second}", second, model_name=model)]
        rows += [event("outcome", f"b{second}", second + 0.5, status=status, model_name=model)]
    found = timeline({"run-1": at(0)}, rows, {}, most=10)
    assert len(found.bars) == 6
    assert found.joined == 10
    assert sum(bar.batches for bar in found.bars) == 50
    assert [(bar.start_s, bar.batches) for bar in found.bars if bar.status == "failed"] == [(20, 1)]
    assert set(found.bars[0].models) == {ORDERS, TOTALS}
    assert (found.bars[0].start_s, found.bars[0].end_s) == (0, 9.5)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9)), max_size=15))
def test_bars_on_one_line_never_overlap(spans: list[tuple[int, int]]) -> None:
    events = [(begin, "intent", n) for n, (begin, _) in enumerate(spans)]
    events += [(begin + took, "outcome", n) for n, (begin, took) in enumerate(spans)]
    found = bars(*[event(kind, f"b{n}", second) for second, kind, n in sorted(events)])
    assert len(found) == len(spans)
    busiest = max((sum(b.start_s <= bar.start_s < b.end_s for b in found) for bar in found), default=0)
    assert max((bar.worker for bar in found), default=0) == busiest  # as few lines as can be
    for worker in {bar.worker for bar in found}:
        own = sorted((bar.start_s, bar.end_s) for bar in found if bar.worker == worker)
        assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(own))


# -- history and what is slow -------------------------------------------------------------------------------------------


def test_history_is_the_last_runs_and_what_their_retries_saved() -> None:
    runs = [
        a_run("run-1", began_at=at(0)),
        a_run("run-2", began_at=at(9)),
        a_run("run-3", began_at=at(5), plan={"retry_of": "run-1", "saved_s": 12.5}),
    ]
    found = history(runs, most=2)
    assert [point.run_id for point in found.points] == ["run-3", "run-2"]
    assert (found.retries, found.saved_s, found.left_out) == (1, 12.5, 1)
    assert found.points[0].models == (ORDERS,)


def batch(
    day: int, took_s: float | None, *, model: str = ORDERS, month: str = "2024-01-01", status: str = "ok"
) -> dict:
    return {
        "at": f"2024-05-{day:02}T10:00:00.000Z", "duration_seconds": took_s, "model_name": model, "status": status,
        "stage": "default", "window_start": month, "window_end": "x",
    }  # fmt: skip


def test_the_slowest_have_their_trend() -> None:
    rows = [batch(1, 2), batch(1, 4), batch(2, 6), batch(3, 9, month="2024-02-01"), batch(1, 1, model=TOTALS)]
    rows += [batch(4, 99, status="failed"), batch(4, None)]
    found = slowest(rows, most_models=9, most_batches=2)
    orders, totals = found.models
    assert (orders.model, orders.total_s, orders.batches) == (ORDERS, 21, 4)
    assert orders.days == [("2024-05-01", 3), ("2024-05-02", 6), ("2024-05-03", 9)]
    assert orders.trend_ratio == 2.5  # the median of 6 and 9 to 3
    assert totals.trend_ratio is None
    first, second = found.batches
    assert (first.last_s, first.before_s, first.trend_ratio) == (9, None, None)
    assert (second.last_s, second.before_s, second.trend_ratio) == (6, 3, 2)
    assert slowest(rows, most_models=1, most_batches=9).models == [orders]


# -- checks, syncs, partitions ------------------------------------------------------------------------------------------


def a_check(
    second: float, observed: Any = 1.0, *, run_id: str = "r", status: str = "ok", check: str = "canary"
) -> CheckResult:
    return CheckResult(
        run_id=run_id, at=at(second), check=check, severity="ERROR", subject=ORDERS, status=status, observed=observed, threshold=1.5,  # type: ignore[arg-type]
    )  # fmt: skip


def a_refill(run_id: str, second: float) -> Run:
    gap = PlannedGap(first=date(2024, 4, 17), days=1, buffer_days=0, lookback_days=2, months=[], planned_on=JAN)
    return a_run(run_id, began_at=at(second), run_ended_at=at(second + 9), intent="refill", plan={"gap": gap})


def test_checks_are_those_of_the_last_refill_with_what_they_saw_before_and_after() -> None:
    checks = [
        a_check(3, 9.0, status="failed"),
        a_check(22, 1.1, run_id="refill"),
        a_check(50, 1.2),
        a_check(5, check="row_count"),
    ]
    checks += [a_check(6, status="dry_run"), a_check(7, check="gate")]
    found = canaries(checks, [a_run(), a_refill("older", 10), a_refill("refill", 20)], most=9)
    assert found.refill == (at(20), at(29))
    assert found.first_wrong_day == "2024-04-17"
    (series,) = found.series
    assert (series.model, series.check, series.threshold) == (ORDERS, "canary", 1.5)
    assert [(one.observed, one.is_red) for one in series.seen] == [(9.0, True), (1.1, False), (1.2, False)]


def test_without_a_refill_all_checks_are_shown_the_red_ones_first() -> None:
    found = canaries([a_check(1), a_check(2, check="b", status="failed")], [a_run()], most=9)
    assert [series.check for series in found.series] == ["b", "canary"]
    assert found.refill is None
    assert len(canaries([a_check(1), a_check(2, check="b")], [], most=1).series) == 1


@pytest.mark.parametrize(("value", "found"), [(1, 1.0), (2.5, 2.5), ("nan", None), (None, None), (True, None)])
def test_only_finite_numbers_are_drawn(value: Any, found: float | None) -> None:
    assert number(value) == found


def test_syncs_are_by_source_and_day() -> None:
    states = [
        SyncState(
            source=name, sync_status="success", last_sync_ts=None, last_txid=None, updated_at=at(0), sync_count=1, failed_count=0,
            lag_s=None, received_rows=1, inserted_rows=1, updated_rows=0, rejected_rows=0, mean_s=None, saved_ratio=None,
        ) for name in ("b", "a")
    ]  # fmt: skip
    late, early = datetime(2024, 5, 2, 12, tzinfo=UTC), datetime(2024, 5, 2, 10, tzinfo=UTC)
    rows = [
        ("a", date(2024, 5, 2), 3, 1, early, late),
        ("a", date(2024, 5, 1), 1, 0, None, early),
        ("gone", JAN, 1, 1, None, late),
    ]
    first, second = syncs(states, rows)
    assert (first.name, second.name, second.days) == ("a", "b", [])
    assert [(day.day.day, day.inserted_rows, day.updated_rows, day.lag_s) for day in first.days] == [
        (1, 1, 0, None),
        (2, 3, 1, 7200),
    ]


def test_partitions_are_the_last_of_each_and_those_with_the_most_to_merge() -> None:
    def one(partition: str, second: float, parts: int, status: Any = "ok") -> PartitionResult:
        return PartitionResult(at=at(second), table="t", partition=partition, status=status, parts_before=parts)

    found = partitions(
        [one("2", 1, 9), one("2", 2, 3), one("1", 1, 5), one("3", 1, 1), one("4", 1, 99, "dry_run")], most=2
    )
    assert [(result.partition, result.parts_before) for result in found] == [("1", 5), ("2", 3)]


# -- records in the log folder ------------------------------------------------------------------------------------------


def test_checks_and_partitions_are_read_from_the_records_that_were_kept(tmp_path: Path) -> None:
    folder = tmp_path / "records"
    folder.mkdir()
    partition = PartitionResult(at=at(9), table="t", partition="p", status="ok")
    lines = [
        msgspec.json.encode(record)
        for record in (a_check(8), partition, a_check(2), replace_at(a_check(1), "2024-04-30T00:00:00.000Z"))
    ]
    lines += [
        b'{"type":"batch_result","v":1',
        b'{"type":"check_result","v":1,"ch',
        b'{"type":"check_result"}',
        b"\xff",
        b"",
    ]
    (folder / "a.jsonl").write_bytes(b"\n".join(lines))
    (folder / "old.jsonl").write_bytes(lines[0])
    os.utime(folder / "old.jsonl", (0, 0))
    (folder / "b.jsonl").mkdir()
    found = kept.read(tmp_path, datetime(2024, 5, 1, tzinfo=UTC))
    assert [check.at for check in found.checks] == [at(2), at(8)]
    assert found.partitions == [partition]
    assert found.broken == 3
    assert kept.read(tmp_path / "none", datetime(2024, 5, 1, tzinfo=UTC)) == kept.Kept()


def replace_at(check: CheckResult, moment: str) -> CheckResult:
    return msgspec.structs.replace(check, at=moment)
