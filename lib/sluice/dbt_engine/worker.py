"""A forked process that serves requests until it is told to finish, dies, or its parent does."""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable

from sluice.dbt_engine import process, wire

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Worker:
    """The loader's hold on a worker."""

    def __init__(self, pid: int, channel: wire.Channel):
        self.channel = channel
        self.batches = 0
        self._process = process.Handle(pid)
        self._pid = pid

    @property
    def pid(self) -> int:
        return self._pid

    def stop(self, grace_s: float) -> None:
        """Ask it to stop what it runs, kill it after `grace_s` seconds; returns when it is gone."""
        self._process.send(signal.SIGTERM)
        if not self._process.gone(grace_s):
            self._process.send(signal.SIGKILL)
        self.reap()

    def has_ended(self, within_s: float) -> bool:
        return self._process.gone(within_s)

    def is_gone(self, *, unless: wire.Channel) -> bool:
        """Wait until it has ended (True) or there is something to read, unless a line lies there already (False)."""
        others = [] if unless.has_line() else [unless]
        return self._process in select.select([self._process, *others], [], [])[0]

    def reap(self) -> int:
        """Wait until it is gone: only then has DuckDB's file no lock. Returns its exit code, -N for signal N."""
        self._process.gone(None)
        _, status = os.waitpid(self._pid, 0)
        self._process.close()
        self.channel.close()
        return os.waitstatus_to_exitcode(status)


def fork(serve: Callable[[wire.Channel], None], inherited: list[wire.Channel]) -> Worker:
    """Fork a process that does `serve(channel)` and exits.

    `inherited` are the loader's channels to its other workers: a copy here would keep their ends open.
    """
    ours, theirs = socket.socketpair()
    # What the loader holds (dbt, the manifest) is as good as immortal; a collection must not walk and copy it.
    gc.collect()
    gc.freeze()
    loader_pid = os.getpid()
    pid = os.fork()
    if pid:
        theirs.close()
        return Worker(pid, wire.Channel(ours))
    code = 1
    try:
        process.die_with(loader_pid)
        ours.close()
        for channel in inherited:
            channel.close()
        serve(wire.Channel(theirs))
        code = 0
    except EOFError:
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class StopSignal:
    """Turns a stop signal into `interrupt()`, called from a thread until this process exits.

    A thread, because the main one sits inside the database's client, which may or may not look for signals.
    """

    def __init__(self, interrupt: Callable[[], None]):
        self._interrupt = interrupt
        self.arrived = False
        # Blocked before the thread exists: it and all later ones inherit the mask, so only sigwait gets them.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
        threading.Thread(target=self._watch, name="stop-signal", daemon=True).start()

    def _watch(self) -> None:
        signal.sigwait(_STOPPING)
        self.arrived = True
        while True:
            # Again and again: the statement after the interrupted one is not wanted either.
            try:
                self._interrupt()
            except Exception:
                traceback.print_exc()
            time.sleep(0.05)
