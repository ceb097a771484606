"""Progress: a bar on stderr for whoever watches a long command; silence for everybody else."""

import sys

from sluice.records import Batch, BatchResult, Plan


class Progress:
    """Shows nothing: for cron, pipes and -q. A context manager."""

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None: ...

    def starts(self, batch: Batch) -> None:
        """A batch is about to run."""

    def advance(self, result: BatchResult) -> None:
        """A batch is over."""


def watch(plan: Plan, *, quiet: bool) -> Progress:
    """A bar when stderr is a terminal, else silence."""
    return Bar(plan) if sys.stderr.isatty() and not quiet else Progress()


class Bar(Progress):
    """What runs now, done of total, failures, rate, time left."""

    def __init__(self, plan: Plan):
        from rich import progress
        from rich.console import Console

        self._failed = 0
        self._done: int = -1
        self._at_work: dict[str, str] = {}  # by batch_id
        self._now: list[str] = []
        self._bar = progress.Progress(
            progress.TextColumn("{task.fields[now]}"),
            progress.BarColumn(bar_width=30),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[failed]}", style="red"),
            progress.TextColumn("{task.fields[rate]}", style="dim"),
            progress.TimeElapsedColumn(),
            progress.TextColumn("left", style="dim"),
            progress.TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task(
            "batches", total=plan.total, completed=plan.total - plan.pending, now="starting dbt", failed="", rate=""
        )

    def __enter__(self) -> "Bar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def starts(self, batch: Batch) -> None:
        from rich.markup import escape

        from sluice.view import months_of, short_name

        self._begin_at(batch.seq)
        self._at_work[batch.batch_id] = escape(
            f"{short_name(batch.model or 'selection')} {batch.stage} {months_of(batch)}"
        )
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
        speed = self._bar.tasks[0].speed
        self._bar.update(
            self._task,
            now="\n".join(self._now),
            completed=self._done,
            failed=f"{self._failed} failed" if self._failed else "",
            rate=f"{speed:.1f}/s" if speed else "",
        )
