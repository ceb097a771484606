"""Processes that never outlive the one that started them."""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def die_with(parent_pid: int) -> None:
    """Ask the kernel to kill this process when `parent_pid`, its parent, dies; exit if that has already happened.

    The kernel watches the parent's *thread* that forked: start engines from a thread that stays.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)


@contextmanager
def one_at_a_time(folder: str) -> Iterator[None]:
    """Keep other processes that share `folder` waiting; the kernel lets go for one that dies.

    `create … if not exists` fails in Postgres when two sessions come to it at once.
    """
    fd = os.open(Path(folder, "creating.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


class Handle:
    """A process that can be waited for without mistaking it for a later one of the same id."""

    def __init__(self, pid: int):
        self.pid = pid
        self._fd = os.pidfd_open(pid)

    def fileno(self) -> int:
        return self._fd

    def send(self, signum: int) -> None:
        try:
            signal.pidfd_send_signal(self._fd, signum)
        except ProcessLookupError:
            pass

    def gone(self, timeout_s: float | None) -> bool:
        """Whether it has ended within `timeout_s` seconds (None: wait for ever)."""
        return bool(select.select([self._fd], [], [], timeout_s)[0])

    def close(self) -> None:
        os.close(self._fd)
