"""Cuts cover what they cut exactly once, however they are nested, and sizes grow back; nothing here runs anything."""

from collections import Counter
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.guards.slices import Range, slice_of
from sluice.records import Fit, Vars, Ways, Window
from sluice.splitting import AS_PLANNED, GROW_AFTER, LEAST_OPEN_CUT, Piece, cut, is_small_enough, learn
from sluice.windows import add_months, is_whole_months, window_vars

UNITS = ["planned", "month", "week", "day"]
SYMBOLS = list("abcdefg")
windows = st.builds(
    lambda year, month, months: Window(date(year, month, 1), add_months(date(year, month, 1), months)),
    st.integers(2000, 2030), st.integers(1, 12), st.integers(1, 4),
)  # fmt: skip
stages = st.one_of(
    st.lists(st.sampled_from(SYMBOLS), min_size=1, unique=True).map(
        lambda some: {"symbol": some, "symbol_exclude": "x"}
    ),
    st.lists(st.sampled_from(SYMBOLS), min_size=1).map(lambda some: {"symbol": ", ".join(some)}),
    st.tuples(st.integers(0, 50), st.integers(1, 50)).map(lambda s: {"index_start": s[0], "index_end": str(sum(s))}),
    st.just({"index_start": 7}),
    st.just({}),
)


def piece(window: Window, stage: Vars) -> Piece:
    return Piece(window, {**stage, **window_vars(window)})


def covered(one: Piece) -> tuple[date, date]:
    """The days that the macro month_window reads from a piece's vars: months, narrowed by days."""
    first, last = (date.fromisoformat(str(one.vars[name])) for name in ("start_month", "end_month"))
    end = add_months(last, 1)
    if "start_date" in one.vars:
        day, final = (date.fromisoformat(str(one.vars[name])) for name in ("start_date", "end_date"))
        assert first <= day <= final < end
        return day, final + timedelta(days=1)
    return first, end


def values(stage: dict[str, Any]) -> set[Any]:
    """What a stage takes of the values that there are."""
    for taken in slice_of({k: v for k, v in stage.items() if not k.endswith(("_month", "_date"))}).values():
        if isinstance(taken, Range):
            end = taken.span.end
            return {n for n in [*range(200), 10**6, 10**15] if n >= taken.span.start and (end is None or n < end)}
        return {s for s in SYMBOLS if taken.takes(s)}
    return {"all"}


@given(windows, stages, st.sampled_from(UNITS), st.sampled_from(UNITS[1:]), st.data())
def test_the_leaves_of_any_tree_of_cuts_cover_each_day_and_value_once(window, stage, unit, shortest, data) -> None:
    whole = piece(window, stage)
    ways = Ways(unit, ["index", "symbol"])
    leaves, todo = [], [whole]
    while todo:
        one = todo.pop(0)
        parts = cut(one, ways, shortest) if len(leaves) < 100 and data.draw(st.booleans()) else []
        assert len(parts) != 1
        todo[:0] = parts
        leaves += [] if parts else [one]
    seen: Counter = Counter()
    for leaf in leaves:
        start, end = covered(leaf)
        assert (start, end) == (leaf.window.start, leaf.window.end)
        finest = min(UNITS.index(unit), UNITS.index(shortest))
        assert leaf.window == window or is_whole_months(leaf.window) or finest >= 2
        for value in values(leaf.vars):
            seen.update((start + timedelta(days=n), value) for n in range((end - start).days))
    days = (window.end - window.start).days
    assert seen == Counter((window.start + timedelta(days=n), value) for n in range(days) for value in values(stage))
    assert [leaf.window.start for leaf in leaves] == sorted(leaf.window.start for leaf in leaves), (
        "in the order of time"
    )


@given(windows, stages, st.sampled_from(UNITS), st.sampled_from(UNITS[1:]))
def test_cutting_ends_at_a_floor_where_nothing_can_be_halved(window, stage, unit, shortest) -> None:
    one, depth = piece(window, stage), 0
    while parts := cut(one, Ways(unit, ["index", "symbol"]), shortest):
        one, depth = parts[-1], depth + 1
        assert depth < 64
    assert len(values(one.vars)) <= 1 or "index_start" in one.vars
    assert (one.window.end - one.window.start).days == 1 or "day" not in (unit,) or shortest != "day"


def test_a_range_without_an_end_is_cut_ever_higher() -> None:
    month = Window(date(2024, 1, 1), date(2024, 2, 1))
    low, high = cut(piece(month, {"index_start": 100_000}), Ways("month", ["index"]))
    assert (low.vars["index_start"], low.vars["index_end"], high.vars["index_start"]) == (100_000, 200_000, 200_000)
    assert "index_end" not in high.vars
    assert cut(piece(month, {"index_start": 0}), Ways("month", ["index"]))[0].vars["index_end"] == LEAST_OPEN_CUT


@pytest.mark.parametrize(
    ("fit", "unit", "pieces"),
    [
        (Fit("month"), "day", 1), (Fit("week"), "day", 5), (Fit("day"), "day", 31), (Fit("day", 2), "day", 62),
        (Fit("day"), "month", 1), (Fit("month", 4), "month", 4), (Fit("week", 2), "planned", 2), (AS_PLANNED, "day", 1),
    ],
)  # fmt: skip
def test_what_was_learned_cuts_beforehand_as_far_as_the_model_allows(fit: Fit, unit: Any, pieces: int) -> None:
    ways, todo, found = (
        Ways(unit, ["symbol"]),
        [piece(Window(date(2024, 1, 1), date(2024, 2, 1)), {"symbol": "a,b,c,d"})],
        0,
    )
    while todo:
        one = todo.pop()
        if is_small_enough(one, fit, ways):
            found += 1
        else:
            todo += cut(one, ways)
    assert found == pieces


def test_sizes_shrink_at_once_and_grow_back_after_clean_neighbours() -> None:
    month, week, day = Fit("month"), Fit("week"), Fit("day")
    shrunk = learn([(month, week), (week, day)])
    assert shrunk.fit == day
    fortnight = [(day, None)] * 7 * GROW_AFTER
    assert learn(fortnight[1:], shrunk).fit == day
    grown = learn(fortnight, shrunk)
    assert (grown.fit, grown.clean) == (week, 0)
    assert learn([(day, None)] * 99, grown).fit == week, "only pieces of that size say something about it"
    too_soon = learn([(week, day)], grown)
    assert learn(fortnight, too_soon).fit == day, "twice as many, since it was too soon"
    assert learn(fortnight * 2, too_soon).fit == week
    assert learn([(week, None)] * 5 * GROW_AFTER + [(month, None)] * 3 * GROW_AFTER, grown).fit == AS_PLANNED


def test_slices_grow_back_before_windows() -> None:
    learned = learn([(Fit("month"), Fit("month", 2)), (Fit("month", 2), Fit("month", 4))])
    assert learned.fit == Fit("month", 4)
    for expected in (Fit("month", 2), Fit("month", 1)):
        learned = learn([(learned.fit, None)] * 2 * GROW_AFTER, learned)
        assert learned.fit == expected
