"""Coverage: one cell for each model, stage and month, from what is meant, what is recorded and what is there."""

from datetime import date
from typing import Any

import pytest
from builders import ORDERS, a_batch, a_plan, months_of, window
from hypothesis import given
from hypothesis import strategies as st

from sluice.coverage import Cell, Expected, Recorded, cells, counts, expected, recorded, settled
from sluice.records import Window

JAN, FEB, MAR = (date(2024, month, 1) for month in (1, 2, 3))
MEANT = [Expected(ORDERS, "default", window("2024-01-01", "2024-04-01"), "new")]


def a_record(start: str | None = None, end: str | None = None, **fields: Any) -> Recorded:
    """An outcome of one window, ok and of the code as it is now, unless said otherwise."""
    given_fields = {"model": ORDERS, "stage": "default", "replaces": False, "status": "ok", "checksum": "new"}
    at = {"at": "2024-03-31T10:00:00.000Z", "window": window(start, end) if start and end else None}
    return Recorded(**(given_fields | at | fields))


def seen(records: list[Recorded], rows: dict[date, int] | None = None, meant: list[Expected] = MEANT) -> list[str]:
    """The cells' words, in order."""
    observed = {} if rows is None else {(ORDERS, "default"): rows}
    return [cell.status for cell in cells(meant, records, observed)]


def test_a_plan_says_what_is_expected() -> None:
    plan, batches = a_plan([*months_of(months=2), a_batch("model.shop.totals")])
    assert [(one.model, one.window and one.window.start, one.checksum) for one in expected(batches, plan.models)] == [
        (ORDERS, JAN, "c0ffee"), (ORDERS, FEB, "c0ffee"), ("model.shop.totals", None, "c0ffee"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "checksum", "rows", "found"),
    [
        (None, None, None, "never_run"),
        (None, None, 0, "never_run"),
        (None, None, 5, "unrecorded"),
        ("failed", "new", 5, "failed"),
        ("cancelled", "new", None, "failed"),
        ("unknown", "new", None, "failed"),
        ("failed", "old", 0, "failed"),
        ("skipped", "new", None, "never_run"),
        ("ok", "new", None, "ok"),
        ("ok", "new", 5, "ok"),
        ("ok", "new", 0, "empty"),
        ("ok", "old", 0, "empty"),
        ("ok", "old", 5, "stale"),
        ("ok", "old", None, "stale"),
        ("ok", None, 5, "ok"),
    ],
)
def test_what_a_cell_is(status: str | None, checksum: str | None, rows: int | None, found: str) -> None:
    records = [a_record("2024-02-01", "2024-03-01", status=status, checksum=checksum)] if status else []
    counted = None if rows is None else {JAN: 0, FEB: rows} if rows else {}
    assert seen(records, counted)[1] == found
    cell = cells(MEANT, records, {} if counted is None else {(ORDERS, "default"): counted})[1]
    assert (cell.rows, cell.month, cell.window) == (rows, FEB, MEANT[0].window)
    assert cell.code_changed is (checksum == "old")


def test_a_window_of_several_months_counts_for_each_of_them() -> None:
    assert seen([a_record("2024-01-01", "2024-03-01")]) == ["ok", "ok", "never_run"]


def test_the_latest_record_counts_whatever_the_order_in_which_they_come() -> None:
    early = a_record("2024-01-01", "2024-02-01", status="failed", at="2024-03-01T00:00:00.000Z")
    late = a_record("2024-01-01", "2024-02-01", at="2024-03-01T00:00:00.001Z")
    assert seen([late, early])[0] == seen([early, late])[0] == "ok"
    skipped = a_record("2024-01-01", "2024-02-01", status="skipped", at="2024-03-02T00:00:00.000Z")
    assert seen([late, skipped])[0] == "ok"


@pytest.mark.parametrize("status", ["ok", "failed", "unknown"])
def test_what_replaces_the_table_undoes_what_was_there(status: str) -> None:
    before = a_record("2024-01-01", "2024-04-01", at="2024-03-01T00:00:00.000Z")
    anew = a_record("2024-01-01", "2024-02-01", replaces=True, status=status, at="2024-03-02T00:00:00.000Z", seq=1)
    after = a_record("2024-02-01", "2024-03-01", at="2024-03-02T00:00:00.000Z", seq=2)
    first = "ok" if status == "ok" else "failed"
    assert seen([after, anew, before]) == [first, "ok", "never_run"]
    assert seen([after, anew, before], {MAR: 3})[2] == "unrecorded"


def test_a_run_without_a_window_counts_for_its_own_month() -> None:
    assert seen([a_record(at="2024-02-10T00:00:00.000Z")]) == ["never_run", "ok", "never_run"]


def test_a_whole_rebuild_counts_for_every_month_until_then_and_what_follows_goes_above_it() -> None:
    whole = a_record(replaces=True, at="2024-02-10T00:00:00.000Z")
    assert seen([whole]) == ["ok", "ok", "never_run"]
    failed = a_record("2024-01-01", "2024-02-01", status="failed", at="2024-02-11T00:00:00.000Z")
    assert seen([whole, failed]) == ["failed", "ok", "never_run"]


def test_a_refill_counts_for_all_stages_and_a_stage_for_itself_alone() -> None:
    meant = [Expected(ORDERS, stage, window("2024-01-01", "2024-02-01"), "new") for stage in ("eu", "us")]
    assert seen([a_record("2024-01-01", "2024-02-01")], meant=meant) == ["ok", "ok"]
    assert seen([a_record("2024-01-01", "2024-02-01", stage="us")], meant=meant) == ["never_run", "ok"]
    assert seen([a_record("2024-01-01", "2024-02-01", stage="gone")], meant=meant) == ["never_run", "never_run"]


@pytest.mark.parametrize(
    ("source", "found"),
    [({}, "ok"), ({FEB: 0, MAR: 3}, "ok"), ({FEB: 1}, "empty"), (None, "empty")],
)
def test_without_rows_in_the_source_none_are_missing(source: dict[date, int] | None, found: str) -> None:
    counted = {} if source is None else {(ORDERS, "default"): source}
    done = [a_record("2024-02-01", "2024-03-01")]
    before = cells(MEANT, done, {(ORDERS, "default"): {}})
    assert [cell.status for cell in settled(before, counted)] == ["never_run", found, "never_run"]
    assert (
        settled(
            cells(MEANT, [a_record("2024-02-01", "2024-03-01", checksum="old")], {(ORDERS, "default"): {}}),
            {(ORDERS, "default"): {}},
        )[1].status
        == "stale"
    )


def test_a_model_built_as_a_whole_has_one_cell() -> None:
    meant = [Expected(ORDERS, "default", None, "new")]
    assert seen([], meant=meant) == ["never_run"]
    assert seen([a_record()], meant=meant) == ["ok"]
    assert seen([a_record(checksum="old")], meant=meant) == ["stale"]
    assert seen([a_record(), a_record(status="failed", at="2024-04-01T00:00:00.000Z")], meant=meant) == ["failed"]


def test_rows_of_the_log_become_records() -> None:
    row = {
        "model_name": ORDERS, "stage": "eu", "window_start": "2024-01-01", "window_end": "2024-02-01", "full_refresh": 1,
        "status": "ok", "at": "2024-03-01T00:00:00.000Z", "batch_seq": 3, "run_id": "r", "batch_id": "b", "attempt": 2,
        "duration_seconds": 1.5, "message": None,
    }  # fmt: skip
    rows = [row, row | {"status": "skipped"}, row | {"model_name": None}, row | {"window_start": None, "run_id": "s"}]
    first, second = recorded(rows, {("r", ORDERS): "c0ffee"})
    assert first == a_record(
        "2024-01-01", "2024-02-01", stage="eu", replaces=True, at=row["at"], seq=3, run_id="r", batch_id="b", attempt=2,
        duration_s=1.5, checksum="c0ffee",
    )  # fmt: skip
    assert (second.window, second.checksum) == (None, None)


def test_statuses_are_counted() -> None:
    found = cells(MEANT, [a_record("2024-01-01", "2024-02-01")], {})
    assert counts(found) == {"ok": 1, "never_run": 2, "failed": 0, "empty": 0, "unrecorded": 0, "stale": 0}


@st.composite
def histories(draw: st.DrawFn) -> list[Recorded]:
    found = []
    for number in range(draw(st.integers(0, 8))):
        first = draw(st.integers(1, 3))
        last = draw(st.integers(first, 3))
        found.append(
            a_record(
                f"2024-{first:02}-01", f"2024-{last + 1:02}-01", replaces=draw(st.booleans()), seq=number,
                status=draw(st.sampled_from(["ok", "failed"])), at=f"2024-03-{number + 1:02}T00:00:00.000Z",
            )
        )  # fmt: skip
    return found


@given(histories())
def test_cells_are_what_a_table_would_hold(history: list[Recorded]) -> None:
    """An oracle that plays the records, oldest first, on a table of months."""
    table: dict[int, str] = {}
    for record in history:
        if record.replaces:
            table.clear()
        assert record.window is not None
        for month in range(record.window.start.month, record.window.end.month):
            table[month] = record.status
    assert seen(list(reversed(history))) == [table.get(month, "never_run") for month in (1, 2, 3)]


def test_every_month_of_every_window_has_its_cell() -> None:
    meant = [Expected(ORDERS, "default", Window(date(2023, 11, 1), date(2024, 3, 1)), "new")]
    found: list[Cell] = cells(meant, [], {})
    assert [cell.month for cell in found] == [date(2023, 11, 1), date(2023, 12, 1), JAN, FEB]
