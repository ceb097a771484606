"""Progress on stderr for whoever watches a long command; silence for cron, pipes and -q.

A terminal has room for one bar. In a pipe each command shows its own once it has read what comes before it; of a tap and
its loader, which work at the same time, the loader shows.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from sluice.records import Batch, BatchResult, Plan

_is_quiet = False
_is_drawn = False


def be_quiet(quiet: bool) -> None:
    """For all of this process: it has one stderr."""
    global _is_quiet
    _is_quiet = quiet


class Count:
    """What is told while it is counted; here it shows nothing."""

    def now(self, *what: str) -> None:
        """What is worked on, by each worker."""

    def add(self, done: int = 1, *, failed: bool = False) -> None:
        """So much more is done."""


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """A spinner beside `what`, and the seconds, for work whose length nobody knows."""
    with counting(what):
        yield


@contextmanager
def counting(what: str, total: int | None = None, *, done: int = 0) -> Iterator[Count]:
    """Done of `total`, failures, rate and time left; without a `total` what is done, and the seconds.

    `done` were so many before: they say nothing of the rate. Inside of another count only that one is seen.
    """
    global _is_drawn
    if not sys.stderr.isatty() or _is_quiet or _is_drawn:
        yield Count()
        return
    from sluice.progress_bar import Bar

    with Bar(what, total, done) as bar:
        _is_drawn = True
        try:
            yield bar
        finally:
            _is_drawn = False


class Batches:
    """The batches of a plan, counted: what each worker is at, and what has come to its end, each once."""

    def __init__(self, count: Count, done: Iterable[str] = ()):
        self._count = count
        self._done = set(done)
        self._at_work: dict[str, str] = {}  # by batch_id

    def starts(self, batch: Batch) -> None:
        """A worker begins with a batch."""
        from sluice.view import months_of, short_name

        stage = f" {batch.stage}" if batch.stage != "default" else ""
        self._at_work[batch.batch_id] = f"{short_name(batch.model or 'selection')}{stage} {months_of(batch)}"
        self._count.now(*self._at_work.values())

    def advance(self, result: BatchResult) -> None:
        """A batch is over. The one that ended last stays in sight until another begins."""
        if self._at_work.pop(result.batch_id, None) and self._at_work:
            self._count.now(*self._at_work.values())
        if result.batch_id not in self._done:
            self._done.add(result.batch_id)
            self._count.add(failed=result.status == "failed")


@contextmanager
def watch(plan: Plan, done: Iterable[str] = ()) -> Iterator[Batches]:
    """A bar over all batches of a plan. `done` are the ids of those to come that are done already, or of earlier waves."""
    before = set(done)
    with counting("starting dbt", plan.total, done=plan.total - plan.pending + len(before)) as count:
        yield Batches(count, before)
