"""What is too big, cut smaller: windows into months, weeks and days, then a stage's list or range in two. Pure.

Every cut covers what it cuts exactly once. How small pieces have to be is a Fit, learned from those that were too big.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import get_args

from sluice.records import Batch, Fit, Part, Vars, Ways, Window, WindowUnit
from sluice.windows import add_months, month_start, window_vars

UNITS: tuple[WindowUnit, ...] = get_args(WindowUnit)  # from coarse to fine
AS_PLANNED = Fit()
GROW_AFTER = 2  # larger pieces' worth of clean neighbours before one is tried; twice that each time it was too soon
MOST_GROW_AFTER = 32
_PIECES: dict[WindowUnit, int] = {"day": 7, "week": 5, "month": 3, "planned": 1}  # that make one of the next larger
# A range without an end is cut at twice its start, and at least here: below lie few rows for the effort of a batch.
LEAST_OPEN_CUT = 65_536


@dataclass(frozen=True)
class Piece:
    """A window and the vars of a batch for it; `slices` is how often its stage was cut in two, as a power of two."""

    window: Window
    vars: Vars
    slices: int = 1

    @property
    def fit(self) -> Fit:
        """What would have pieces cut as small as this one."""
        return Fit(unit_of(self.window), self.slices)


def unit_of(window: Window) -> WindowUnit:
    """What a window counts as; several months are as planned."""
    days = (window.end - window.start).days
    if days <= 7:
        return "day" if days == 1 else "week"
    return "month" if window.end <= add_months(window.start, 1) else "planned"


def cut(piece: Piece, ways: Ways, shortest: WindowUnit = "day") -> list[Piece]:
    """The next smaller pieces, in the order in which they must run; empty at the floor.

    Time is cut first, down to `shortest` or to what the model's `ways` allow, since a model may be computed from its
    own days before; then the stage.
    """
    unit = _finer(piece.window, _finest(ways, shortest))
    if unit is not None:
        return [
            replace(piece, window=window, vars={**piece.vars, **window_vars(window)})
            for window in _windows(piece.window, unit)
        ]
    for name in ways.slices:
        if halves := _halves(piece.vars, name):
            return [replace(piece, vars=piece.vars | half, slices=piece.slices * 2) for half in halves]
    return []


def is_small_enough(piece: Piece, fit: Fit, ways: Ways, shortest: WindowUnit = "day") -> bool:
    """Whether a piece is as small as `fit` asks for; windows are no shorter than they may be."""
    finest = _finest(ways, shortest)

    def size(one: Fit) -> tuple[int, int]:
        return min(UNITS.index(one.window), finest), one.slices

    return size(piece.fit) >= size(fit)


def _finest(ways: Ways, shortest: WindowUnit) -> int:
    return min(UNITS.index(ways.window), UNITS.index(shortest))


def _finer(window: Window, finest: int) -> WindowUnit | None:
    """The unit into which a window is cut next."""
    finer = UNITS.index(unit_of(window)) + 1
    return UNITS[finer] if finer <= finest else None


def _windows(window: Window, unit: WindowUnit) -> Iterator[Window]:
    """A window in months of the calendar, in seven days each from its first on, or in days."""
    start = window.start
    while start < window.end:
        if unit == "month":
            end = add_months(month_start(start), 1)
        else:
            end = start + timedelta(days=7 if unit == "week" else 1)
        yield Window(start, min(end, window.end))
        start = end


def _halves(vars: Vars, name: str) -> list[Vars]:
    """What the var `name`, or the range of `name`_start and `name`_end, becomes in each half; [] when it is one value.

    Read as the macros symbol_filter and index_range_filter of sql/dbt read them.
    """
    given = vars.get(name)
    if given is not None:
        values = given if isinstance(given, list) else [one for one in str(given).split(",") if one.strip()]
        values = list({str(value).strip(): value for value in values if str(value).strip()}.values())
        middle = len(values) // 2
        halves = [values[:middle], values[middle:]]
        if not middle:
            return []
        return [{name: half if isinstance(given, list) else ",".join(map(str, half))} for half in halves]
    start, end = (f"{name}_start", f"{name}_end")
    if vars.get(start) is None and vars.get(end) is None:
        return []
    first = int(str(vars.get(start) or 0))
    if vars.get(end) is None:
        middle = max(2 * first, LEAST_OPEN_CUT)
        return [{start: first, end: middle}, {start: middle}] if middle < 10**18 else []
    last = int(str(vars[end]))
    middle = (first + last) // 2
    return [{start: first, end: middle}, {start: middle, end: last}] if middle > first else []


# -- what was learned -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Learned:
    """How small the pieces of a model's stage have to be, and how many in a row have fit since that changed.

    `grow_after` is counted in larger pieces, `has_grown` that the size was last changed by growing.
    """

    fit: Fit = AS_PLANNED
    clean: int = 0
    grow_after: int = GROW_AFTER
    has_grown: bool = False

    def too_big(self, parts: Fit) -> "Learned":
        """After a piece was too big, and has been cut into `parts`."""
        later = min(self.grow_after * 2, MOST_GROW_AFTER) if self.has_grown else self.grow_after
        return Learned(max(self.fit, parts, key=_size), 0, later, False)

    def ran(self, fit: Fit) -> "Learned":
        """After a piece of this size went well."""
        if self.fit == AS_PLANNED or _size(fit) > _size(self.fit):
            return self
        pieces = 2 if self.fit.slices > 1 else _PIECES[self.fit.window]
        if self.clean + 1 < self.grow_after * pieces:
            return replace(self, clean=self.clean + 1)
        return Learned(_coarser(self.fit), 0, self.grow_after, True)


def size_of(parts: list[Part]) -> Fit:
    """How small the parts of a batch are; its last window may be a shorter one."""
    return Fit(unit_of(parts[0].window), parts[0].slices)


def learn(events: Iterable[tuple[Fit, Fit | None]], start: Learned | None = None) -> Learned:
    """What follows from pieces that ran, (their size, None), or were too big, (their size, that of their parts)."""
    learned = start or Learned()
    for fit, parts in events:
        learned = learned.too_big(parts) if parts else learned.ran(fit)
    return learned


def recall(sizes: Mapping[tuple[str, str], list[tuple[Fit, Fit | None]]], batches: Iterable[Batch]) -> None:
    """Tell the batches of a plan what was learned of their models and stages. `sizes`: what ran and what was too big."""
    learned = {key: learn(events).fit for key, events in sizes.items()}
    for batch in batches:
        fit = learned.get((batch.model or "", batch.stage), AS_PLANNED)
        if batch.window is not None and fit != AS_PLANNED:
            batch.fit = fit


def _size(fit: Fit) -> tuple[int, int]:
    """The greater, the smaller."""
    return UNITS.index(fit.window), fit.slices


def _coarser(fit: Fit) -> Fit:
    if fit.slices > 1:
        return Fit(fit.window, fit.slices // 2)
    return Fit(UNITS[max(UNITS.index(fit.window) - 1, 0)])
