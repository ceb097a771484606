"""Coverage: what should be there, what the records say and what the tables hold, as one cell a model, stage and month. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Literal, get_args

from sluice.records import Batch, PlannedModel, Window
from sluice.windows import add_months, month_start

# ok; nothing was ever recorded or found; the last attempt did not end well; recorded as done, and there are no rows, though
# their source has some or nobody can say; rows that nobody recorded; done by code, macros or config that have changed since.
CellStatus = Literal["ok", "never_run", "failed", "empty", "unrecorded", "stale"]
STATUSES: tuple[CellStatus, ...] = get_args(CellStatus)
DEFAULT = "default"

# Rows by first day of the month, of a model (unique_id) and stage, as guards.facts counts them; what was not counted is not in it.
Observed = Mapping[tuple[str, str], Mapping[date, int]]


@dataclass(frozen=True)
class Expected:
    """A batch that the config asks for. `window` is None for a model that is built as a whole; `checksum` is its code's now."""

    model: str
    stage: str
    window: Window | None
    checksum: str


@dataclass(frozen=True)
class Recorded:
    """A row of batch_log. `at` is RFC 3339, UTC; `status` is a batch's, or unknown; `checksum` that of its plan, None: not kept.

    `replaces`: it began its model's table anew.
    """

    model: str
    stage: str
    window: Window | None
    replaces: bool
    status: str
    at: str
    seq: int = 0
    run_id: str = ""
    batch_id: str = ""
    attempt: int = 1
    duration_s: float | None = None
    message: str | None = None
    checksum: str | None = None


@dataclass(frozen=True)
class Cell:
    """`month` is its first day, `window` that of the batch which would build it; both None for a model built as a whole.

    `rows` are those in the table, None where they were not counted. `record` is the last that still counts.
    `code_changed` also where the status says something worse.
    """

    model: str
    stage: str
    month: date | None
    window: Window | None
    status: CellStatus
    code_changed: bool = False
    rows: int | None = None
    record: Recorded | None = None


def expected(batches: Iterable[Batch], models: Iterable[PlannedModel]) -> list[Expected]:
    """What a planner's plan says should be there, in its order."""
    checksums = {model.unique_id: model.checksum for model in models}
    return [
        Expected(batch.model, batch.stage, batch.window, checksums[batch.model])
        for batch in batches
        if batch.model in checksums
    ]


def recorded(rows: Iterable[Mapping[str, Any]], checksums: Mapping[tuple[str, str], str]) -> Iterator[Recorded]:
    """Rows of batch_log, without those that were skipped. `checksums` are by run_id and model, from the runs' plans."""
    for row in rows:
        model, run_id = row["model_name"], str(row["run_id"])
        if model is None or row["status"] == "skipped":
            continue
        start, end = row["window_start"], row["window_end"]
        yield Recorded(
            model=model, stage=row["stage"],
            window=Window(date.fromisoformat(str(start)), date.fromisoformat(str(end))) if start else None,
            replaces=bool(row["full_refresh"]), status=row["status"], at=str(row["at"]), seq=row["batch_seq"], run_id=run_id,
            batch_id=str(row["batch_id"]), attempt=row["attempt"], duration_s=row["duration_seconds"], message=row["message"],
            checksum=checksums.get((run_id, model)),
        )  # fmt: skip


def cells(meant: Iterable[Expected], records: Iterable[Recorded], observed: Observed) -> list[Cell]:
    """A cell for each month of each expected window, in order.

    The latest record of a cell counts. One that replaces its model's table undoes all before it, whatever became of
    it. One of no stage that the model has (a refill's) counts for all of them; one without a window for the month in which
    it ran, and for all before that when it replaces the table.
    """
    meant = list(meant)
    stages: dict[str, set[str]] = {}
    for one in meant:
        stages.setdefault(one.model, set()).add(one.stage)
    standing = _standing(records, stages)
    return [
        _cell(one, month, standing[one.model].of(one.stage, month), observed)
        for one in meant
        for month in _months(one.window)
    ]


def settled(found: Iterable[Cell], of_source: Observed) -> list[Cell]:
    """Nothing is missing where a batch was done, left no rows, and the source has none of that month either."""
    return [
        replace(cell, status="stale" if cell.code_changed else "ok")
        if cell.status == "empty"
        and cell.month is not None
        and _has_none(of_source.get((cell.model, cell.stage)), cell.month)
        else cell
        for cell in found
    ]


def months_of(window: Window) -> list[date]:
    """The first days of its months."""
    months = [month_start(window.start)]
    while (following := add_months(months[-1], 1)) < window.end:
        months.append(following)
    return months


def counts(cells: Iterable[Cell]) -> dict[CellStatus, int]:
    """How many cells have each status; those with none at 0."""
    found = dict.fromkeys(STATUSES, 0)
    for cell in cells:
        found[cell.status] += 1
    return found


def _has_none(counted: Mapping[date, int] | None, month: date) -> bool:
    return counted is not None and not counted.get(month)


class _Standing:
    """The records of one model that later ones have not undone."""

    def __init__(self) -> None:
        self._cells: dict[tuple[str, date | None], Recorded] = {}
        self._whole: Recorded | None = None

    def add(self, record: Recorded, stages: set[str]) -> None:
        if record.replaces:
            self._cells, self._whole = {}, None
        if record.window is None and record.replaces:
            self._whole = record
        months = [*_months(record.window), *([] if record.window else [_ran_in(record)])]
        for stage in [record.stage] if record.stage in stages or record.stage != DEFAULT else stages:
            for month in months:
                self._cells[stage, month] = record

    def of(self, stage: str, month: date | None) -> Recorded | None:
        found = self._cells.get((stage, month))
        if found is None and self._whole is not None and month is not None and month <= _ran_in(self._whole):
            return self._whole
        return found


def _standing(records: Iterable[Recorded], stages: Mapping[str, set[str]]) -> dict[str, _Standing]:
    found = {model: _Standing() for model in stages}
    for record in sorted(records, key=lambda one: (one.at, one.seq)):
        if record.model in found and record.status != "skipped":
            found[record.model].add(record, stages[record.model])
    return found


def _months(window: Window | None) -> list[date | None]:
    return [*months_of(window)] if window else [None]


def _ran_in(record: Recorded) -> date:
    return month_start(date.fromisoformat(record.at[:10]))


def _cell(one: Expected, month: date | None, record: Recorded | None, observed: Observed) -> Cell:
    known = observed.get((one.model, one.stage))
    rows = None if known is None or month is None else known.get(month, 0)
    changed = record is not None and record.checksum is not None and record.checksum != one.checksum
    status: CellStatus = "ok"
    if record is None:
        status = "unrecorded" if rows else "never_run"
    elif record.status != "ok":
        status = "failed"
    elif rows == 0:
        status = "empty"
    elif changed:
        status = "stale"
    return Cell(one.model, one.stage, month, one.window, status, changed, rows, record)
