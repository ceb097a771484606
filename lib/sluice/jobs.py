"""Jobs: generators that yield what they wait for, so that one thread carries on several side by side.

Between two waits a job has the process to itself: what it reads and writes there needs no lock.
"""

import select
import time
from collections.abc import Generator, Hashable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from sluice.signals import Interrupted, interruptible

T = TypeVar("T")
Name = TypeVar("Name", bound=Hashable)


class HasFileno(Protocol):
    def fileno(self) -> int: ...


@dataclass(frozen=True)
class Wait:
    """Until `on` has something to read, at most `most_s` seconds; None: for nothing to read, for however long."""

    on: HasFileno | None = None
    most_s: float | None = None


Job = Generator[Wait, None, T]


def through(job: Job[T]) -> T:
    """Carry on one job alone. A stop signal raises Interrupted inside it, where it waits, and is raised when it has ended."""
    jobs: Jobs[str, T] = Jobs()
    jobs.start("it", job)
    try:
        return jobs.ended()[1]
    except JobFailed as failed:
        raise failed.problem from None
    except Interrupted as stop:
        jobs.interrupt(stop)
        raise


def to_end(job: Job[T]) -> T:
    """Carry on one job alone, whatever signal comes."""
    try:
        while True:
            wait = next(job)
            select.select([] if wait.on is None else [wait.on], [], [], wait.most_s)
    except StopIteration as end:
        return end.value


@dataclass
class _Running(Generic[T]):
    job: Job[T]
    on: HasFileno | None = None
    until: float | None = None  # as of time.monotonic


@dataclass
class Jobs(Generic[Name, T]):
    """Jobs in progress, each under a name of its own. `done` are those that have ended and were not handed back."""

    running: dict[Name, _Running[T]] = field(default_factory=dict)
    done: list[tuple[Name, T | BaseException]] = field(default_factory=list)

    def __len__(self) -> int:
        """How many have been started and not been handed back."""
        return len(self.running) + len(self.done)

    def start(self, name: Name, job: Job[T]) -> None:
        """Carry a job on to its first wait."""
        self.running[name] = _Running(job)
        self._go_on(name)

    def ended(self) -> tuple[Name, T]:
        """Wait for the next job to end. Raises JobFailed for one that raised, Interrupted for a stop signal."""
        while not self.done:
            self._wait(interruptible())
        name, result = self.done.pop(0)
        if isinstance(result, Interrupted):
            raise result
        if isinstance(result, BaseException):
            raise JobFailed(name, result) from result
        return name, result

    def interrupt(self, stop: Interrupted) -> None:
        """Raise `stop` inside each that waits; returns when all have ended. What they return or raise then is lost."""
        for name in list(self.running):
            self._go_on(name, stop)
        while self.running:
            self._wait(nullcontext())
        self.done.clear()

    def _wait(self, around: AbstractContextManager) -> None:
        waiting = {one.on for one in self.running.values() if one.on is not None}
        deadlines = [one.until for one in self.running.values() if one.until is not None]
        timeout_s = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
        with around:
            readable = select.select(waiting, [], [], timeout_s)[0]
        now = time.monotonic()
        for name, one in list(self.running.items()):
            if one.on in readable or (one.until is not None and one.until <= now):
                self._go_on(name)

    def _go_on(self, name: Name, stop: Interrupted | None = None) -> None:
        one = self.running[name]
        try:
            wait = next(one.job) if stop is None else one.job.throw(stop)
        except StopIteration as end:
            self._end(name, end.value)
        except BaseException as problem:
            self._end(name, problem)
        else:
            one.on = wait.on
            one.until = None if wait.most_s is None else time.monotonic() + wait.most_s

    def _end(self, name: Name, result: T | BaseException) -> None:
        del self.running[name]
        self.done.append((name, result))


class JobFailed(Exception):
    """The job `name` raised `problem`."""

    def __init__(self, name: Hashable, problem: BaseException):
        super().__init__(name)
        self.name, self.problem = name, problem
