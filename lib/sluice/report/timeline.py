"""The timeline: each attempt at a batch as a bar on its run's, wave's and worker's line, and the waits between attempts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Bar:
    """One attempt, or several in a row, or a wait for the next attempt. Times are seconds since the run began.

    `status` is that of a batch, unknown, or wait; `worker` counts from 1, as few as could have done the work. `what` is the
    cell in words; `batches` is more than 1 where bars were joined, `models` are theirs.
    """

    run_id: str
    wave: int
    worker: int
    start_s: float
    end_s: float
    status: str
    models: tuple[str, ...]
    what: str = ""
    attempt: int = 1
    batches: int = 1
    message: str | None = None


@dataclass(frozen=True)
class Timeline:
    """`joined` is how many attempts became one bar at most, 1 where each has its own."""

    bars: list[Bar] = field(default_factory=list)
    joined: int = 1


def timeline(
    began: Mapping[str, str], rows: Iterable[Row], waves: Mapping[tuple[str, str], int], *, most: int
) -> Timeline:
    """The bars of runs, of which `began` says by run_id when they began.

    `rows` are those of batch_event in the order of writing, `waves` by run_id and batch_id. Where there are more than
    `most` bars, those of one status that lie next to each other on a line are joined.
    """
    by_run: dict[str, list[Row]] = {run_id: [] for run_id in began}
    for row in rows:
        if row["run_id"] in by_run:
            by_run[row["run_id"]].append(row)
    bars = [bar for run_id, own in by_run.items() for bar in _of_run(_moment(began[run_id]), own, waves)]
    joined = _joined(bars, most) if len(bars) > most else bars
    return Timeline(joined, max((bar.batches for bar in joined), default=1))


def _of_run(began: float, rows: Sequence[Row], waves: Mapping[tuple[str, str], int]) -> list[Bar]:
    """The bars of one run: an intent with its outcome, and what lies between an attempt and the next at the same batch."""
    began = min([began, *(_moment(row["at"]) for row in rows[:1])])  # a refill begins anew with each of its waves
    open_since: dict[tuple[str, int], Row] = {}
    bars: list[Bar] = []
    ended: dict[str, float] = {}
    wave = 1
    for row in rows:
        at, key = _moment(row["at"]) - began, (row["batch_id"], row["attempt"])
        wave = waves.get((row["run_id"], row["batch_id"]), wave)
        if row["event"] == "intent":
            open_since[key] = row
            if row["batch_id"] in ended:
                bars.append(_bar(row, wave, ended.pop(row["batch_id"]), at, "wait"))
        elif row["event"] == "outcome" and key in open_since:
            intent = open_since.pop(key)
            bars.append(_bar(row, wave, _moment(intent["at"]) - began, at, row["status"]))
            ended[row["batch_id"]] = at
    for row in open_since.values():
        at = _moment(row["at"]) - began
        bars.append(_bar(row, waves.get((row["run_id"], row["batch_id"]), wave), at, at, "unknown"))
    return _on_lines(bars)


def _bar(row: Row, wave: int, start_s: float, end_s: float, status: str) -> Bar:
    return Bar(
        run_id=row["run_id"], wave=wave, worker=0, start_s=round(start_s, 3), end_s=round(end_s, 3), status=status,
        models=(row["model_name"] or "",), what=cell(row), attempt=row["attempt"], message=row["message"],
    )  # fmt: skip


def cell(row: Row) -> str:
    """`default, 2024-01-01 to 2024-02-01`: the stage and the window of a row, in words."""
    window = f"{row['window_start']} to {row['window_end']}" if row["window_start"] else "whole"
    return f"{row['stage']}, {window}"


def _on_lines(bars: list[Bar]) -> list[Bar]:
    """Each bar on the first line of its wave that is free by then."""
    busy_until: dict[int, list[float]] = {}
    placed = []
    for bar in sorted(bars, key=lambda one: (one.wave, one.start_s, one.end_s)):
        lines = busy_until.setdefault(bar.wave, [])
        free = next((number for number, until in enumerate(lines) if until <= bar.start_s), len(lines))
        lines[free : free + 1] = [bar.end_s]
        placed.append(replace(bar, worker=free + 1))
    return placed


def _joined(bars: list[Bar], most: int) -> list[Bar]:
    """Bars of one status that begin in the same slot of their line as one; lines have as many slots as `most` allows."""
    lines: dict[tuple[str, int, int], list[Bar]] = {}
    for bar in bars:
        lines.setdefault((bar.run_id, bar.wave, bar.worker), []).append(bar)
    slots = max(1, most // (len(lines) * len({bar.status for bar in bars})))
    found: dict[tuple, Bar] = {}
    for line, own in lines.items():
        start_s = min(bar.start_s for bar in own)
        slot_s = (max(bar.end_s for bar in own) - start_s) / slots or 1.0
        for bar in own:
            key = (*line, bar.status, min(slots - 1, int((bar.start_s - start_s) / slot_s)))
            found[key] = _both(found[key], bar) if key in found else bar
    return list(found.values())


def _both(one: Bar, other: Bar) -> Bar:
    models = one.models if other.models[0] in one.models else one.models + other.models
    start_s, end_s = min(one.start_s, other.start_s), max(one.end_s, other.end_s)
    return replace(one, start_s=start_s, end_s=end_s, batches=one.batches + 1, models=models)


def _moment(at: str) -> float:
    return datetime.fromisoformat(str(at)).timestamp()
