"""Holes: what is planned of what should be there, each cell exactly once."""

from collections import Counter
from datetime import date

from builders import ORDERS, TOTALS
from hypothesis import given
from hypothesis import strategies as st

from sluice.coverage import STATUSES, Cell, CellStatus, Recorded, months_of
from sluice.holes import ONLY, Hole, decoded, encoded, holes
from sluice.records import Window
from sluice.windows import monthly_windows

JAN, FEB, MAR, APR = (date(2024, month, 1) for month in (1, 2, 3, 4))
QUARTER = Window(JAN, APR)


def a_cell(month: date | None, status: CellStatus, *, window: Window | None = QUARTER, **fields) -> Cell:
    return Cell(fields.pop("model", ORDERS), fields.pop("stage", "default"), month, window, status, **fields)


def test_neighbours_in_one_window_are_one_hole_and_windows_are_not_joined() -> None:
    cells = [a_cell(JAN, "failed"), a_cell(FEB, "failed"), a_cell(MAR, "ok"), a_cell(APR, "failed", window=Window(APR, date(2024, 5, 1)))]  # fmt: skip
    assert [(hole.start, hole.end) for hole in holes(cells, ["failed"])] == [(JAN, MAR), (APR, date(2024, 5, 1))]
    cells = [a_cell(JAN, "failed"), a_cell(FEB, "ok"), a_cell(MAR, "failed")]
    assert [(hole.start, hole.end) for hole in holes(cells, ["failed"])] == [(JAN, FEB), (MAR, APR)]


def test_only_where_it_is_known_that_there_are_no_rows_nothing_is_replaced() -> None:
    for rows, rewrites in ((0, False), (3, True), (None, True)):
        (hole,) = holes([a_cell(JAN, "failed", rows=rows)], ["failed"])
        assert hole.rewrites is rewrites


def test_a_whole_model_begins_anew_only_where_its_own_last_attempt_did_or_its_code_changed() -> None:
    def whole(status: CellStatus, *, replaces: bool) -> Hole:
        record = Recorded(ORDERS, "default", None, replaces, "failed", "2024-01-01")
        (hole,) = holes([a_cell(None, status, window=None, record=record)], [status])
        assert hole.window is None
        return hole

    assert not whole("failed", replaces=False).rewrites
    assert whole("failed", replaces=True).rewrites
    assert whole("stale", replaces=False).rewrites
    (never,) = holes([a_cell(None, "never_run", window=None)], ["never_run"])
    assert not never.rewrites


def test_what_is_computed_from_the_months_before_is_carried_on() -> None:
    cells = [
        a_cell(month, "failed" if (month, stage) == (FEB, "a") else "ok", stage=stage)
        for stage in "ab"
        for month in (JAN, FEB, MAR)
    ]
    found = holes(cells, ["failed"], carried={ORDERS: False})
    assert [(hole.stage, hole.start, hole.end) for hole in found] == [("a", FEB, APR)]
    found = holes(cells, ["failed"], carried={ORDERS: True})
    assert [(hole.stage, hole.start, hole.end) for hole in found] == [("a", FEB, APR), ("b", FEB, APR)]


def test_rows_without_a_record_are_no_hole() -> None:
    assert not any("unrecorded" in wanted or "ok" in wanted for wanted in ONLY.values())


def test_holes_are_kept_as_text() -> None:
    found = [Hole(ORDERS, "default", JAN, APR, True), Hole(TOTALS, "default", None, None, False)]
    assert decoded(encoded(found)) == found
    assert "{{" not in encoded(found)  # what a record may not hold


@st.composite
def tables(draw: st.DrawFn) -> list[Cell]:
    """All cells of some models, in order, each of any status."""
    cells = []
    for model in draw(st.lists(st.sampled_from(["a", "b", "c"]), unique=True)):
        if draw(st.booleans()):
            cells.append(a_cell(None, draw(st.sampled_from(STATUSES)), window=None, model=model))
            continue
        for stage in draw(st.lists(st.sampled_from(["x", "y"]), min_size=1, unique=True)):
            last = date(2024, draw(st.integers(1, 12)), 1)
            for window in monthly_windows(JAN, last, draw(st.integers(1, 4))):
                cells += [
                    a_cell(month, draw(st.sampled_from(STATUSES)), window=window, model=model, stage=stage)
                    for month in months_of(window)
                ]
    return cells


@given(tables(), st.sets(st.sampled_from(sorted(ONLY)), min_size=1))
def test_planned_and_covered_are_all_that_should_be_there_each_once(cells: list[Cell], only: set[str]) -> None:
    wanted = {status for name in only for status in ONLY[name]}
    planned = Counter(
        (hole.model, hole.stage, month)
        for hole in holes(cells, wanted)
        for month in ([None] if hole.window is None else months_of(hole.window))
    )
    covered = Counter((cell.model, cell.stage, cell.month) for cell in cells if cell.status not in wanted)
    assert planned + covered == Counter((cell.model, cell.stage, cell.month) for cell in cells)
    assert set((planned + covered).values()) <= {1}
