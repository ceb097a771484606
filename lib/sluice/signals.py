"""Signals: SIGINT, SIGTERM and SIGHUP stop a command only where it waits, never in the middle of a state write."""

import signal
from contextlib import contextmanager

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_pending: int | None = None
_waiting = False


class Interrupted(BaseException):
    """A stop signal arrived while the command waited. `signum` tells which; the exit code is 128 + signum.

    A BaseException, so that no `except Exception` around a unit of work takes it for a failure of that unit.
    """

    def __init__(self, signum: int):
        super().__init__(signum)
        self.signum = signum


def _on_signal(signum: int, _frame: object) -> None:
    global _pending
    _pending = signum
    if _waiting:
        raise Interrupted(signum)


def install() -> None:
    """Take over the stop signals and ignore SIGPIPE: its default would kill a process that holds connections."""
    for signum in STOPPING:
        signal.signal(signum, _on_signal)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)


def pending() -> int | None:
    """The stop signal that has arrived, or None."""
    return _pending


@contextmanager
def interruptible():
    """Wrap every wait (a read, a sleep, a poll): only inside does a stop signal raise Interrupted, at once."""
    global _waiting
    try:
        _waiting = True
        if _pending is not None:
            raise Interrupted(_pending)
        yield
    finally:
        _waiting = False
