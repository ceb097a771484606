"""How long batches will take, from how long such batches took; what nobody measured is unknown, never guessed. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, timedelta
from itertools import combinations
from statistics import median

import msgspec

from sluice.coverage import Recorded, months_of
from sluice.records import Batch, Estimate

# Rows of a model's source by first day of the month, by model and stage; what was not counted is not in it.
SourceRows = Mapping[tuple[str, str], Mapping[date, int]]


class Sources(msgspec.Struct, frozen=True):
    """What the models read: rows by month of those in windows, all rows of those that are built as a whole; and the views."""

    by_month: SourceRows = {}
    whole: Mapping[str, int] = {}
    views: Collection[str] = ()


LATEST = 20  # older runs of the same say less about the next one
_Kind = tuple[str, bool | None]
_Measured = tuple[int, float]  # rows of the source, seconds


class History:
    """What was measured. Of a model that is built as a whole, a rebuild and an addition are different work.

    `rows_then` are those of the source when a batch ran, by its run_id and batch_id, where they were counted; elsewhere it is
    taken to have had the rows of today.
    """

    def __init__(self, records: Iterable[Recorded], sources: Sources, rows_then: Mapping[tuple[str, str], int] = {}):
        self._sources = sources
        self._rows_then = rows_then
        self._same: dict[tuple, list[float]] = {}
        self._same_by_row: dict[tuple, list[_Measured]] = {}
        self._by_month: dict[_Kind, list[float]] = {}
        self._by_row: dict[_Kind, list[_Measured]] = {}
        self._any_by_row: list[_Measured] = []
        self._views: list[float] = []
        measured = [one for one in records if one.status == "ok" and one.duration_s]
        for one in sorted(measured, key=lambda one: (one.at, one.seq)):
            self._learn(one, one.duration_s or 0.0)

    def estimate(self, batch: Batch) -> Estimate | None:
        """Of the same cell, by source rows where they were known then and are now; else of its model, by source rows where
        they are known and by months where not; else of any model, by source rows, and of a view what views took; else None.
        """
        if batch.model is None:
            return None
        kind = _kind(batch.model, batch.window is None, batch.full_refresh)
        cell = (*kind, batch.stage, batch.window)
        rows = self.rows(batch)
        if rows and (by_row := self._same_by_row.get(cell)):
            return _of_rows(by_row, rows, "cell, by source rows", like=self._by_row.get(kind, ()))
        if same := self._same.get(cell):
            return _of(same, "cell")
        if batch.model in self._sources.views:
            return _of(self._views, "all views") if self._views else None
        if rows and (by_row := self._by_row.get(kind)):
            return _of_rows(by_row, rows, "model, by source rows")
        if batch.window is not None and (by_month := self._by_month.get(kind)):
            return _of([one * len(months_of(batch.window)) for one in by_month], "model, by months")
        return _of_rows(self._any_by_row, rows, "all models, by source rows") if rows and self._any_by_row else None

    def _learn(self, one: Recorded, seconds: float) -> None:
        kind = _kind(one.model, one.window is None, one.replaces)
        cell = (*kind, one.stage, one.window)
        self._same.setdefault(cell, []).append(seconds)
        then = self._rows_then.get((one.run_id, one.batch_id))
        if then:
            self._same_by_row.setdefault(cell, []).append((then, seconds))
        if one.model in self._sources.views:
            self._views.append(seconds)
        if one.window is None:
            return
        self._by_month.setdefault(kind, []).append(seconds / len(months_of(one.window)))
        if rows := then or self.rows(one):
            self._by_row.setdefault(kind, []).append((rows, seconds))
            self._any_by_row.append((rows, seconds))

    def rows(self, one: Batch | Recorded) -> int | None:
        """The rows of today of what it reads; None where they are not known."""
        if one.window is None:
            return self._sources.whole.get(one.model or "")
        counted = self._sources.by_month.get((one.model or "", one.stage))
        if counted is None:
            return None
        return sum(counted.get(month, 0) for month in months_of(one.window))


def within(estimates: Sequence[Estimate | None], budget_s: float, *, delay_s: float = 0.0) -> int:
    """How many of the first batches end within the budget nine times in ten. One that is unknown ends the promise."""
    spent = 0.0
    for number, estimate in enumerate(estimates):
        if estimate is None:
            return number
        spent += estimate.p90_s + (delay_s if number else 0.0)
        if spent > budget_s:
            return number
    return len(estimates)


def total(estimates: Sequence[Estimate | None], *, delay_s: float = 0.0) -> tuple[float, float] | None:
    """Seconds of all batches one after the other: median, and as if all were slow at once. None when one is unknown."""
    known = [one for one in estimates if one is not None]
    if len(known) < len(estimates) or not known:
        return None
    waits = delay_s * (len(known) - 1)
    return sum(one.p50_s for one in known) + waits, sum(one.p90_s for one in known) + waits


def error_ratio(told: Iterable[tuple[Estimate | None, float]]) -> float | None:
    """Measured by forecast seconds, less one, of the batches that had a forecast: 0.25 is a quarter longer. None without any."""
    foretold_s, measured_s = _sums(told)
    return measured_s / foretold_s - 1 if foretold_s else None


def error_in_words(told: Iterable[tuple[Estimate | None, float]]) -> str | None:
    """How far a run was from its forecast; None when it had none."""
    foretold_s, measured_s = _sums(told)
    if not foretold_s:
        return None
    error = measured_s / foretold_s - 1
    return f"the forecast was {spelled(foretold_s)}, it took {spelled(measured_s)} ({error * 100:+.0f} %)"


def _sums(told: Iterable[tuple[Estimate | None, float]]) -> tuple[float, float]:
    """Seconds that were foretold and that were measured, of the batches that had a forecast."""
    both = [(estimate.p50_s, measured) for estimate, measured in told if estimate is not None]
    return sum(foretold for foretold, _ in both), sum(measured for _, measured in both)


def spelled(seconds: float) -> str:
    """`12.3 s`, `1:05:00`; what is no such time as it stands."""
    try:
        return f"{seconds:.1f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))
    except OverflowError:
        return f"{seconds} s"


def rate_spelled(per_s: float) -> str:
    """`2.5/s`, `30.0/min`, `7.2/h`"""
    unit, length_s = ("s", 1) if per_s >= 1 else ("min", 60) if per_s * 60 >= 1 else ("h", 3600)
    return f"{per_s * length_s:,.1f}/{unit}"


def _kind(model: str, is_whole: bool, replaces: bool) -> _Kind:
    return (model, replaces if is_whole else None)


def _of_rows(samples: Sequence[_Measured], rows: int, basis: str, *, like: Sequence[_Measured] = ()) -> Estimate:
    """What was measured, moved to so many rows. A batch costs something whatever its rows are, so what a row adds is seen
    from pairs of batches of different size, of these or else of those that are like them; where all had the same it is their
    share of the whole.
    """
    latest = samples[-LATEST:]
    of_sizes = next((some for some in (latest, like[-LATEST:]) if len({few for few, _ in some}) > 1), ())
    added = [(there - here) / (more - few) for (few, here), (more, there) in combinations(of_sizes, 2) if few != more]
    a_row = max(median(added), 0.0) if added else median(seconds / few for few, seconds in latest)
    quickest = min((seconds for _, seconds in of_sizes), default=0.0)
    return _of([max(seconds + a_row * (rows - few), quickest) for few, seconds in latest], basis)


def _of(samples: Sequence[float], basis: str) -> Estimate:
    latest = sorted(samples[-LATEST:])
    ninth = latest[-(-9 * len(latest) // 10) - 1]  # nearest rank: a time that was really measured
    return Estimate(
        p50_s=round(median(latest), 3), p90_s=round(max(ninth, median(latest)), 3),
        basis=basis, samples=len(latest),
    )  # fmt: skip
