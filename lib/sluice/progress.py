"""Progress on stderr for whoever watches a long command; silence for cron, pipes and -q.

A terminal has room for one bar. In a pipe each command shows its own once it has read what comes before it; of a tap and
its loader, which work at the same time, the loader shows.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sluice.records import Batch, BatchResult, Plan

_is_quiet = False


def be_quiet(quiet: bool) -> None:
    """For all of this process: it has one stderr."""
    global _is_quiet
    _is_quiet = quiet


def _is_watched() -> bool:
    return sys.stderr.isatty() and not _is_quiet


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """A spinner beside `what`, and the seconds, for work whose length nobody knows."""
    with counting(what):
        yield


@contextmanager
def counting(what: str, total: int | None = None) -> Iterator["Count"]:
    """Done of `total`, failures, rate and time left; without a `total` what is done, and the seconds."""
    if not _is_watched():
        yield Count()
        return
    bar = _bar(total)
    with bar:
        yield Count(bar, bar.add_task("", total=total, now=_plain(what), failed="", rate=""))


class Count:
    """What is told while it is counted; without a bar nothing is shown."""

    def __init__(self, bar: Any = None, task: Any = None):
        self._bar, self._task = bar, task
        self._failed = 0

    def now(self, what: str) -> None:
        """What is worked on."""
        if self._bar is not None:
            self._bar.update(self._task, now=_plain(what))

    def add(self, done: int = 1, *, failed: bool = False) -> None:
        """So much more is done."""
        if self._bar is None:
            return
        self._failed += failed
        self._bar.update(self._task, advance=done, **_failures(self._failed))
        self._bar.update(self._task, rate=_rate(self._bar))


class Progress:
    """Shows nothing. A context manager."""

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None: ...

    def starts(self, batch: Batch) -> None:
        """A batch is about to run."""

    def advance(self, result: BatchResult) -> None:
        """A batch is over."""


def watch(plan: Plan) -> Progress:
    """A bar over the batches of a plan."""
    return Bar(plan) if _is_watched() else Progress()


class Bar(Progress):
    """What runs now, done of total, failures, rate, time left."""

    def __init__(self, plan: Plan):
        self._failed = 0
        self._done: int = -1
        self._at_work: dict[str, str] = {}  # by batch_id
        self._now: list[str] = []
        self._bar = _bar(plan.total)
        self._task = self._bar.add_task(
            "batches", total=plan.total, completed=plan.total - plan.pending, now="starting dbt", failed="", rate=""
        )

    def __enter__(self) -> "Bar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def starts(self, batch: Batch) -> None:
        from sluice.view import months_of, short_name

        self._begin_at(batch.seq)
        stage = f" {batch.stage}" if batch.stage != "default" else ""
        self._at_work[batch.batch_id] = _plain(f"{short_name(batch.model or 'selection')}{stage} {months_of(batch)}")
        self._show()

    def advance(self, result: BatchResult) -> None:
        self._begin_at(result.seq)
        self._done += 1
        self._failed += result.status == "failed"
        self._at_work.pop(result.batch_id, None)
        self._show()

    def _begin_at(self, seq: int) -> None:
        if self._done < 0:  # a wave begins in mid plan
            self._done = seq - 1

    def _show(self) -> None:
        """What runs now, a line for each worker; the one that ended last stays until another begins."""
        self._now = list(self._at_work.values()) or self._now
        self._bar.update(
            self._task,
            now="\n".join(self._now),
            completed=self._done,
            rate=_rate(self._bar),
            **_failures(self._failed),
        )


def _bar(total: int | None) -> Any:
    from rich import progress
    from rich.console import Console

    left = [progress.TextColumn("left", style="dim"), progress.TimeRemainingColumn()]
    return progress.Progress(
        *([progress.SpinnerColumn()] if total is None else []),
        progress.TextColumn("{task.fields[now]}"),
        *([progress.BarColumn(bar_width=30), progress.MofNCompleteColumn()] if total is not None else []),
        progress.TextColumn("{task.fields[failed]}", style="red"),
        progress.TextColumn("{task.fields[rate]}", style="dim"),
        progress.TimeElapsedColumn(),
        *(left if total is not None else []),
        console=Console(stderr=True),
        transient=True,
    )


def _plain(text: str) -> str:
    """A name must neither be markup nor steer the terminal."""
    from rich.markup import escape

    from sluice.log import one_line

    return escape(one_line(text))


def _failures(count: int) -> dict[str, str]:
    return {"failed": f"{count} failed" if count else ""}


def _rate(bar: Any) -> str:
    task = bar.tasks[0]
    done = "" if task.total is not None or not task.completed else f"{int(task.completed):,} done  "
    return done + (f"{task.speed:,.1f}/s" if task.speed else "")
