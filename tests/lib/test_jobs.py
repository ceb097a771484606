"""Jobs side by side in one thread: pipes to wait for, deadlines, failures and stop signals."""

import os
import time
from collections.abc import Iterator

import pytest

from sluice import jobs, signals
from sluice.jobs import Job, JobFailed, Jobs, Wait, through
from sluice.signals import Interrupted


class Pipe:
    """Something to wait for."""

    def __init__(self) -> None:
        self.end, self._other = os.pipe()

    def fileno(self) -> int:
        return self.end

    def write(self) -> None:
        os.write(self._other, b"x")


@pytest.fixture
def pipes() -> Iterator[list[Pipe]]:
    made = [Pipe(), Pipe(), Pipe()]
    yield made
    for pipe in made:
        os.close(pipe.end)
        os.close(pipe._other)


def reads(pipe: Pipe, times: int = 1, log: list | None = None) -> Job[str]:
    for _ in range(times):
        try:
            yield Wait(pipe)
        except Interrupted:
            if log is not None:
                log.append("stopped")
                yield Wait(most_s=0.01)  # to clean up takes time, too
                log.append("cleaned")
            raise
        os.read(pipe.fileno(), 1)
    return "read"


def test_jobs_end_in_the_order_in_which_what_they_wait_for_comes(pipes: list[Pipe]) -> None:
    running: Jobs[int, str] = Jobs()
    for number, pipe in enumerate(pipes):
        running.start(number, reads(pipe))
    ended = []
    for number in (2, 0, 1):
        pipes[number].write()
        ended.append(running.ended())
    assert ended == [(2, "read"), (0, "read"), (1, "read")]
    assert len(running) == 0


def test_those_that_are_ready_at_once_are_all_carried_on(pipes: list[Pipe]) -> None:
    running: Jobs[int, str] = Jobs()
    for number, pipe in enumerate(pipes):
        running.start(number, reads(pipe, times=2))
        pipe.write()
        pipe.write()
    assert sorted(running.ended()[0] for _ in pipes) == [0, 1, 2]


def test_a_deadline_is_kept_while_others_wait_for_ever(pipes: list[Pipe]) -> None:
    def sleeps(most_s: float) -> Job[float]:
        began = time.monotonic()
        yield Wait(most_s=most_s)
        return time.monotonic() - began

    running: Jobs[str, object] = Jobs()
    running.start("reader", reads(pipes[0]))
    running.start("long", sleeps(0.05))
    running.start("short", sleeps(0.01))
    assert [running.ended()[0] for _ in range(2)] == ["short", "long"]
    assert len(running) == 1


def test_one_that_ends_at_once_is_handed_back() -> None:
    def at_once() -> Job[int]:
        return 7
        yield

    assert through(at_once()) == 7


def test_a_failure_is_that_of_its_job_alone(pipes: list[Pipe]) -> None:
    def fails() -> Job[str]:
        raise ZeroDivisionError
        yield

    running: Jobs[str, str] = Jobs()
    running.start("good", reads(pipes[0]))
    running.start("bad", fails())
    with pytest.raises(JobFailed) as caught:
        running.ended()
    assert (caught.value.name, type(caught.value.problem)) == ("bad", ZeroDivisionError)
    pipes[0].write()
    assert running.ended() == ("good", "read")
    with pytest.raises(ZeroDivisionError):
        through(fails())


def test_a_stop_signal_reaches_all_of_them_before_any_is_waited_for(
    pipes: list[Pipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []
    running: Jobs[int, str] = Jobs()
    for number, pipe in enumerate(pipes):
        running.start(number, reads(pipe, log=log))
    monkeypatch.setattr(signals, "_pending", 15)
    with pytest.raises(Interrupted) as stop:
        running.ended()
    running.interrupt(stop.value)
    assert log == ["stopped"] * 3 + ["cleaned"] * 3
    assert len(running) == 0


def test_one_job_alone_is_stopped_like_several(pipes: list[Pipe], monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    monkeypatch.setattr(signals, "_pending", 2)
    with pytest.raises(Interrupted):
        through(reads(pipes[0], log=log))
    assert log == ["stopped", "cleaned"]


def test_what_must_come_to_its_end_does_so_in_spite_of_a_signal(
    pipes: list[Pipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "_pending", 2)
    pipes[0].write()
    assert jobs.to_end(reads(pipes[0])) == "read"
