"""Holes: the parts of what should be there that a plan is to fill, and whether rows may be in their place. Pure."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import date
from itertools import groupby

import msgspec

from sluice.coverage import Cell, CellStatus
from sluice.records import Window
from sluice.windows import add_months

# What --only takes, and what each means. Rows that nobody recorded are no hole: they are adopted, or rebuilt on purpose.
ONLY: Mapping[str, Collection[CellStatus]] = {
    "gaps": ["never_run", "empty"],
    "failed": ["failed"],
    "stale": ["stale"],
}


class Hole(msgspec.Struct, array_like=True, frozen=True):
    """Neighbouring months of one batch's window; `start` and `end` None: a model that is built as a whole.

    `rewrites`: rows may be there, and those of the batch must take their place.
    """

    model: str
    stage: str
    start: date | None
    end: date | None
    rewrites: bool

    @property
    def window(self) -> Window | None:
        return Window(self.start, self.end) if self.start and self.end else None


def holes(
    cells: Iterable[Cell], wanted: Collection[CellStatus], *, carried: Mapping[str, bool] | None = None
) -> list[Hole]:
    """The holes among the cells with a wanted status, in the cells' order; each such cell lies in exactly one.

    `carried` are models whose months are computed from the months before, so that all after a hole belong to it: in all
    stages where they feed each other (True), else in the hole's own.
    """
    cells = list(cells)
    first = _first(cells, wanted, carried or {})
    return [
        hole
        for _, batch in groupby(cells, key=lambda cell: (cell.model, cell.stage, cell.window))
        for hole in _runs([cell for cell in batch if cell.status in wanted or _is_carried(cell, first)])
    ]


def encoded(found: Iterable[Hole]) -> str:
    """As JSON, for a plan's request."""
    return msgspec.json.encode(list(found)).decode()


def decoded(found: str) -> list[Hole]:
    """What `encoded` made."""
    return msgspec.json.decode(found, type=list[Hole])


_Key = tuple[str, str | None]


def _first(cells: list[Cell], wanted: Collection[CellStatus], carried: Mapping[str, bool]) -> dict[_Key, date]:
    """The first month to do again of each model that is carried on, and stage (None: of all of them)."""
    first: dict[_Key, date] = {}
    for cell in cells:
        if cell.model in carried and cell.month is not None and cell.status in wanted:
            key = (cell.model, None if carried[cell.model] else cell.stage)
            first[key] = min(cell.month, first.get(key, cell.month))
    return first


def _is_carried(cell: Cell, first: Mapping[_Key, date]) -> bool:
    starts = [month for stage in (None, cell.stage) if (month := first.get((cell.model, stage)))]
    return cell.month is not None and any(cell.month >= start for start in starts)


def _runs(cells: list[Cell]) -> Iterator[Hole]:
    """Months that follow one another, together."""
    run: list[Cell] = []
    for cell in cells:
        if run and cell.month != add_months(run[-1].month or date.min, 1):
            yield _hole(run)
            run = []
        run.append(cell)
    if run:
        yield _hole(run)


def _hole(run: list[Cell]) -> Hole:
    first, last = run[0], run[-1]
    if first.month is None or last.month is None:
        record = first.record
        anew = first.status == "stale" or (first.status == "failed" and record is not None and record.replaces)
        return Hole(first.model, first.stage, None, None, anew)
    return Hole(first.model, first.stage, first.month, add_months(last.month, 1), any(cell.rows != 0 for cell in run))
