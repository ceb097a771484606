"""Every other script at each of its system calls that could be its last: killed there, or told that the disk is full or broken.

Each has work that would show if it were lost, or done twice. It is struck in a copy of a folder that was made for it, and started
again as a person would; then all is as if nothing had been.
"""

import itertools
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from faults.forks import Commands
from faults.strace import CALLS, FAULTS, counted, counting, striking
from faults.works import FILES, WORKS, Work, World
from lengths import SEED, figure, many

MOST = {"pwrite64": 4}  # of the many at which the same is done again; else each, up to 10, or 4 of what changes nothing


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its database is beside it, in the folder `world`: the loader that all are lent knows no other place."""
    folder = tmp_path_factory.mktemp("scripts") / "project"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def beside() -> Iterator[ExitStack]:
    """For servers."""
    with ExitStack() as servers:
        yield servers


@pytest.mark.parametrize("prepare", WORKS, ids=lambda one: one.__name__.replace("_", "-"))
def test_whichever_call_is_the_last(
    prepare: Callable[[World, ExitStack], Work], project: Path, commands: Commands, beside: ExitStack, tmp_path: Path
) -> None:
    folder, made = project.parent / "world", tmp_path / "made"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    world = World(folder, project, commands)
    world.query("create table given (n int)")
    work = prepare(world, beside)
    world = replace(world, settings=work.settings)
    shutil.copytree(folder, made)

    def struck_by(*tracer: str) -> subprocess.CompletedProcess[bytes]:
        shutil.rmtree(folder)
        shutil.copytree(made, folder)
        ended = world.run(*work.command, given=work.given, tracer=tracer)
        work.read(world, ended.stdout)
        return ended

    counts = tmp_path / "counts"
    assert struck_by(*counting(counts)).returncode == work.ends
    assert work.holds(world)
    found = counted(counts)
    calls = {call: found[call] for call in [*CALLS, "fsync"] if call in found}
    chance = random.Random(f"{SEED} {work.command[0]}")
    tried, stopped = 0, 0
    for call, fault in itertools.product(calls, FAULTS):
        most = MOST.get(call, 10 if work.changes else 4)
        for point in sorted(chance.sample(range(1, calls[call] + 1), min(calls[call], many(1, most)))):
            struck = struck_by(*striking(call, fault, point))
            said = (call, fault, point, struck.returncode, struck.stderr.decode())
            assert "Traceback" not in said[-1], said
            assert struck.returncode in (0, 1, 3, 65, 69, 75, 78, -9, 137), said
            tried, stopped = tried + 1, stopped + (struck.returncode != work.ends)
            for _ in range(3):  # what is locked by one who is just dying, is not soon after
                code = work.again(world) if work.again else world.run(*work.command, given=work.given).returncode
                if code == work.ends:
                    break
            assert code == work.ends, (code, *said)
            assert work.holds(world), said
    figure("system calls of a script", script=work.command[0], calls=calls, struck=tried, stopped=stopped)
    assert stopped
