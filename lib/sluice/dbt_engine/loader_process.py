"""Where a client's loader comes from: a process of its own, or one that several commands in a row are lent.

dbt takes seconds to import and to parse a project. Commands that are started again and again (each-wave) leave both to one
loader. It serves one client after another; between two of them it has no worker, so no connection and no lock.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LIB = str(Path(__file__).resolve().parents[2])
_LENT = "SLUICE_LENT_LOADER"  # number and inode of an inherited socket, over which a loader takes its clients' sockets

_borrowed = False  # by this process, at this moment
_ahead: tuple[subprocess.Popen | None, socket.socket] | None = None  # started, and nobody's yet


def connect() -> tuple[subprocess.Popen | None, socket.socket]:
    """A loader, and the end to talk to it: a lent one, which is None, the one started ahead, or a new one.

    What is not lent dies with the thread that started it.
    """
    global _ahead
    if _ahead is not None:
        taken, _ahead = _ahead, None
        return taken
    ours, theirs = socket.socketpair()
    with theirs:
        return None if _borrow(theirs) else _start("--client", theirs), ours


@contextmanager
def ahead(wanted: bool) -> Iterator[None]:
    """When `wanted`, and none is lent, a loader imports dbt from now on; `connect` takes it. One that nobody took ends here."""
    global _ahead
    if wanted and _LENT not in os.environ:
        _ahead = connect()
    try:
        yield
    finally:
        if _ahead is not None:
            loader, end = _ahead
            _ahead = None
            end.close()
            assert loader is not None  # none was lent
            loader.kill()
            loader.wait()


def _borrow(client: socket.socket) -> bool:
    """Hand the client's end to the loader that this process was lent; False when there is none, or it is in use here.

    It would serve a second client of this process only after the first, which waits for both.
    """
    global _borrowed
    if _borrowed:
        return False
    lent = os.environ.get(_LENT, "")
    try:
        fd = int(lent.partition(":")[0])
        if _name(fd) != lent:  # a command in between did not hand it on, and the number is something else's
            return False
        with socket.socket(fileno=os.dup(fd)) as clients:
            socket.send_fds(clients, [b"c"], [client.fileno()])
    except (ValueError, OSError):
        return False
    _borrowed = True
    return True


def give_back() -> None:
    """The borrowed loader's client is gone."""
    global _borrowed
    _borrowed = False


def _name(fd: int) -> str:
    return f"{fd}:{os.fstat(fd).st_ino}"


class Lender:
    """A loader for the commands that are started with `pass_fds` and `environment`. A context manager."""

    def __init__(self) -> None:
        self._clients, theirs = socket.socketpair()
        with theirs:
            self._loader = _start("--lent", theirs)
        self.pass_fds = [self._clients.fileno()]
        self.environment = {**os.environ, _LENT: _name(self._clients.fileno())}

    def __enter__(self) -> Lender:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._clients.close()
        self._loader.kill()  # it serves nobody
        self._loader.wait()


def _start(how: str, end: socket.socket) -> subprocess.Popen:
    # Its own session: a Ctrl-C on the terminal must reach the caller only, who decides what to cancel.
    # -P: the folder that the caller happens to be in is no place to import from.
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "sluice.dbt_engine.loader", how, str(end.fileno()), str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=2,
        pass_fds=[end.fileno()],
        start_new_session=True,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [_LIB, os.environ.get("PYTHONPATH")])),
            "SLUICE_STARTED_DBT": "1",  # whose runs are in the state store: the package's audit hooks leave them out
        },
    )
