"""Run locks: the kernel knows who lives."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sluice.locks import RunLock, is_held

fork = multiprocessing.get_context("fork")


def test_a_lock_is_held_until_it_is_released(tmp_path: Path) -> None:
    lock, rival = RunLock(tmp_path / "locks", "r"), RunLock(tmp_path / "locks", "r")
    assert not is_held(tmp_path / "locks", "r")
    assert lock.acquire()
    assert is_held(tmp_path / "locks", "r")
    assert not rival.acquire()
    lock.release()
    lock.release()
    assert not is_held(tmp_path / "locks", "r")
    assert os.listdir(tmp_path / "locks") == []
    assert rival.acquire()
    rival.release()


def test_runs_do_not_share_locks(tmp_path: Path) -> None:
    one, other = RunLock(tmp_path, "one"), RunLock(tmp_path, "other")
    assert one.acquire()
    assert other.acquire()
    one.release()
    assert is_held(tmp_path, "other")
    other.release()


def test_to_ask_takes_nothing_away(tmp_path: Path) -> None:
    lock = RunLock(tmp_path, "r")
    assert lock.acquire()
    for _ in range(3):
        assert is_held(tmp_path, "r")
    lock.release()


def hold(folder: Path, then) -> multiprocessing.Process:
    """A process that holds the lock of run r when this returns."""
    holds = fork.Event()

    def body() -> None:
        lock = RunLock(folder, "r")
        lock.acquire()
        then(holds.set)
        time.sleep(60)

    process = fork.Process(target=body)
    process.start()
    assert holds.wait(30)
    return process


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    owner = hold(tmp_path, lambda ready: ready())
    assert is_held(tmp_path, "r")
    os.kill(owner.pid, signal.SIGKILL)
    owner.join(30)
    assert (tmp_path / "r.lock").exists()
    assert not is_held(tmp_path, "r")
    lock = RunLock(tmp_path, "r")
    assert lock.acquire()
    lock.release()


def test_a_stopped_process_keeps_its_lock(tmp_path: Path) -> None:
    owner = hold(tmp_path, lambda ready: ready())
    os.kill(owner.pid, signal.SIGSTOP)
    assert is_held(tmp_path, "r")
    os.kill(owner.pid, signal.SIGKILL)
    owner.join(30)


def test_an_owner_whose_pid_nobody_here_sees_is_not_judged_dead_by_it(tmp_path: Path) -> None:
    """In a namespace of pids of its own, as in a container with the state on a shared volume: here its pid is another's, or nobody's."""
    program = (
        "import os, sys, time; sys.path.insert(0, sys.argv[1]); from pathlib import Path; from sluice.locks import RunLock\n"
        "assert RunLock(Path(sys.argv[2]), 'r').acquire(); print(os.getpid(), flush=True); time.sleep(60)"
    )
    alone = ["unshare", "--map-root-user", "--pid", "--fork", "--kill-child"]
    library = Path(__file__).resolve().parents[2] / "lib"
    owner = subprocess.Popen(
        [*alone, sys.executable, "-c", program, library, tmp_path], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout
    assert owner.stdout.readline() == "1\n", "the first of its namespace"
    assert is_held(tmp_path, "r")
    assert not RunLock(tmp_path, "r").acquire()
    owner.kill()
    owner.wait(30)
    deadline = time.monotonic() + 1
    while is_held(tmp_path, "r"):
        assert time.monotonic() < deadline, "free within a second of its owner's death"


def test_children_do_not_inherit_a_lock(tmp_path: Path) -> None:
    child = tmp_path / "child.pid"

    def start_a_child(ready) -> None:
        process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], close_fds=False)
        child.write_text(str(process.pid))
        ready()

    owner = hold(tmp_path, start_a_child)
    os.kill(owner.pid, signal.SIGKILL)
    owner.join(30)
    try:
        assert not is_held(tmp_path, "r")
    finally:
        os.kill(int(child.read_text()), signal.SIGKILL)


def test_a_lock_file_removed_under_the_lock_is_not_taken_for_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last owner removed it between our open and our flock: what we locked is no longer there to be seen."""
    import fcntl

    flock, calls = fcntl.flock, []

    def late(fd: int, operation: int) -> None:
        calls.append(fd)
        if len(calls) == 1:
            (tmp_path / "r.lock").unlink()
        if len(calls) == 2:
            (tmp_path / "r.lock").unlink()
            (tmp_path / "r.lock").touch()  # and somebody made it anew
        flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    lock = RunLock(tmp_path, "r")
    assert lock.acquire()
    assert len(calls) == 3
    monkeypatch.undo()
    assert is_held(tmp_path, "r")
    lock.release()


def test_a_symlink_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        RunLock(tmp_path, "r").acquire()
    assert not (tmp_path / "elsewhere").exists()


def test_among_many_takers_there_is_never_more_than_one_owner(tmp_path: Path) -> None:
    inside, most, wins = fork.Value("i", 0), fork.Value("i", 0), fork.Value("i", 0)

    def take_and_give() -> None:
        while wins.value < 150:
            lock = RunLock(tmp_path, "r")
            if not lock.acquire():
                continue
            with inside.get_lock():
                inside.value += 1
                most.value = max(most.value, inside.value)
                wins.value += 1
            time.sleep(0.0002)
            with inside.get_lock():
                inside.value -= 1
            lock.release()

    takers = [fork.Process(target=take_and_give) for _ in range(6)]
    for taker in takers:
        taker.start()
    for taker in takers:
        taker.join(60)
        assert taker.exitcode == 0
    assert (most.value, inside.value) == (1, 0)
    assert wins.value >= 150
