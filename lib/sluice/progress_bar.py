"""The bar of a long command as a person sees it: one line and never more, whatever runs.

Every command of a pipe may have something to say while one of them draws, and clears the line on which the cursor is. Of a
bar of two lines one would stay behind, and the next drawing would wipe out what was said.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from rich.console import Console, RenderableType
from rich.constrain import Constrain
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Column
from rich.text import Text

from sluice.forecast import rate_spelled
from sluice.log import one_line
from sluice.progress import Count

WIDE = 110  # columns of a terminal that has room for a long bar


class Bar(Count):
    """Done of `total`, failures, rate, time gone and left, and what each worker is at. A context manager."""

    def __init__(self, what: str, total: int | None, done: int = 0):
        """`done` were done before the bar began: they say nothing of the rate."""
        self._failed = 0
        console = Console(stderr=True)
        self._bar = _OneLine(*_columns(total, console.width), console=console)
        self._task = self._bar.add_task("", total=total, completed=done, before=done, failed="", now="")
        self.now(what)

    def __enter__(self) -> "Bar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def now(self, *what: str) -> None:
        self._bar.update(self._task, now=", ".join(escape(one_line(one)) for one in what))

    def add(self, done: int = 1, *, failed: bool = False) -> None:
        self._failed += failed
        self._bar.update(self._task, advance=done, failed=f"{self._failed} failed" if self._failed else "")


class _OneLine(Progress):
    """Leaves room for the `^C` that a terminal writes behind it: in the next line it would hold the bar there for good."""

    def __init__(self, *columns: ProgressColumn, console: Console):
        self._terminal = console
        super().__init__(*columns, console=console, expand=True, transient=True)

    def get_renderables(self) -> Iterator[RenderableType]:
        yield Constrain(self.make_tasks_table(self.tasks), max(1, self._terminal.width - 3))


def _columns(total: int | None, width: int) -> list[ProgressColumn]:
    """What runs comes last, and is cut off where the terminal ends."""
    cut = Column(ratio=1, no_wrap=True, overflow="ellipsis")
    now = TextColumn("{task.fields[now]}", table_column=cut)
    if total is None:
        return [SpinnerColumn(), _Done(), _Rate(), TimeElapsedColumn(), now]
    failed = TextColumn("{task.fields[failed]}", style="red")
    long = 24 if width >= WIDE else 8
    return [BarColumn(bar_width=long), MofNCompleteColumn(), failed, _Rate(), TimeElapsedColumn(), _Left(), now]


class _Dim(ProgressColumn):
    """A figure that stays on its line."""

    def __init__(self) -> None:
        super().__init__(Column(no_wrap=True))

    def render(self, task: Task) -> Text:
        return Text(self.figure(task, _per_s(task)), style="dim")

    def figure(self, task: Task, per_s: float) -> str:
        raise NotImplementedError


class _Done(_Dim):
    def figure(self, task: Task, per_s: float) -> str:
        return f"{int(task.completed):,} done" if task.completed else ""


class _Rate(_Dim):
    def figure(self, task: Task, per_s: float) -> str:
        return rate_spelled(per_s) if per_s else ""


class _Left(_Dim):
    def figure(self, task: Task, per_s: float) -> str:
        left: Any = timedelta(seconds=round((task.remaining or 0) / per_s)) if per_s else "-:--:--"
        return f"{left} left"


def _per_s(task: Task) -> float:
    """Since the bar began. rich's own rate looks back for half a minute, and knows none of batches that take longer."""
    done = task.completed - task.fields["before"]
    return done / task.elapsed if task.elapsed else 0.0
