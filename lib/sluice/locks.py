"""Run locks: one flock per run, freed by the kernel however its owner dies, so nobody is judged dead by a pid."""

import fcntl
import os
from pathlib import Path


class RunLock:
    """The flock of one run. Held until `release` or the end of the process; never inherited by children."""

    def __init__(self, folder: Path, run_id: str):
        self._path = folder / f"{run_id}.lock"
        self._fd: int | None = None

    def acquire(self) -> bool:
        """Take the lock without waiting. False when another process holds it."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                return False
            if self._is_current(fd):
                self._fd = fd
                return True
            os.close(fd)  # its last owner removed the file between our open and our flock

    def release(self) -> None:
        """Free the lock and remove its file. Calling it again does nothing."""
        if self._fd is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = None

    def _is_current(self, fd: int) -> bool:
        try:
            return os.stat(self._path).st_ino == os.fstat(fd).st_ino
        except FileNotFoundError:
            return False


def is_held(folder: Path, run_id: str) -> bool:
    """Whether the owner of this run is alive."""
    if not (folder / f"{run_id}.lock").exists():
        return False
    lock = RunLock(folder, run_id)
    if lock.acquire():
        lock.release()
        return False
    return True
