"""Signals: they stop a command where it waits and nowhere else."""

import os
import signal
import time
from collections.abc import Iterator

import pytest

from sluice import signals
from sluice.signals import STOPPING, Interrupted, interruptible


@pytest.fixture(autouse=True)
def _installed() -> Iterator[None]:
    before = {signum: signal.getsignal(signum) for signum in (*STOPPING, signal.SIGPIPE)}
    signals.install()
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


def wait_for(signum: int) -> None:
    with interruptible():
        os.kill(os.getpid(), signum)
        time.sleep(30)


@pytest.mark.parametrize("signum", STOPPING)
def test_a_wait_is_cut_short_at_once(signum: int) -> None:
    began = time.monotonic()
    with pytest.raises(Interrupted) as caught:
        wait_for(signum)
    assert caught.value.signum == signum
    assert time.monotonic() - began < 5
    assert signals.pending() == signum


def test_work_is_finished_first_and_the_next_wait_does_not_begin() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.01)
    assert signals.pending() == signal.SIGTERM
    for _ in range(2):
        with pytest.raises(Interrupted), interruptible():
            pytest.fail("waited")


def test_no_handler_of_failures_takes_a_signal_for_one() -> None:
    assert not issubclass(Interrupted, Exception)


def test_a_wait_that_failed_is_over() -> None:
    with pytest.raises(KeyError), interruptible():
        raise KeyError
    os.kill(os.getpid(), signal.SIGTERM)  # would raise here if the wait were not over
    assert signals.pending() == signal.SIGTERM


def test_a_reader_that_left_kills_nobody() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with pytest.raises(BrokenPipeError):
        os.write(write_end, b"x")
    os.close(write_end)
