"""The runner at each of its system calls that could be its last: killed there, or told that the disk is full or broken.

strace makes the N-th call of the runner's own process end so. Then it is resumed, and what it leaves is what an
uninterrupted run leaves: nothing is lost, nothing is there twice.
"""

import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from lengths import EVERYTHING, SEED, figure, many
from test_kill_and_resume import LEDGER, ROOT, tables

from sluice.state import State

FAULTS = {"killed": "signal=SIGKILL", "disk full": "error=ENOSPC", "disk broken": "error=EIO"}
# write: stdout and logs; pwrite64 and fdatasync: the state; sendto: what dbt is asked.
CALLS = ["write", "pwrite64", "fdatasync", "sendto"]
PLAN = ["--to", "2022-04-30"]


class Ledger:
    """A small project of its own, whose plan is made once."""

    def __init__(self, folder: Path, env: dict[str, str]):
        project = shutil.copytree(LEDGER, folder / "ledger")
        self.folder = folder
        self.env = env | {
            "DBT_PROJECT_DIR": str(project), "SLUICE_DUCKDB_PATH": str(folder / "ledger.duckdb"),
            "SLUICE_STATE_DIR": str(folder / "state"), "SLUICE_LOG_DIR": str(folder / "logs"),
        }  # fmt: skip

    def planned(self, *flags: str) -> Path:
        """The plan as a file: the planner is not what is hit."""
        out = subprocess.run(
            [ROOT / "bin/plan-batches", *(flags or PLAN)], env=self.env, capture_output=True, timeout=120, check=True
        ).stdout
        path = self.folder / "plan"
        path.write_bytes(out)
        return path

    def has_begun(self) -> bool:
        """Whether the state knows of a run; one that was ended too early for that is planned anew."""
        path = self.folder / "state" / "state.sqlite"
        state = State.open_existing(f"sqlite:{path}")
        return state is not None and bool(state.runs())

    def run(self, plan: Path, *tracer: str) -> subprocess.CompletedProcess:
        with plan.open("rb") as stdin:
            return subprocess.run(
                [*tracer, ROOT / "bin/run-dbt-batch"], env=self.env, stdin=stdin, capture_output=True, timeout=180
            )


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    import os

    return {k: v for k, v in os.environ.items() if not k.startswith(("SLUICE_", "DBT_"))}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, env: dict[str, str]) -> tuple[dict, dict[str, int]]:
    """What an uninterrupted run leaves, and how often it makes each call."""
    ledger = Ledger(tmp_path_factory.mktemp("whole"), env)
    counts = ledger.folder / "counts"
    done = ledger.run(ledger.planned(), "strace", "-c", "-U", "name,calls", "-o", str(counts))
    assert done.returncode == 0, done.stderr.decode()
    made = dict(re.findall(r"^(\w+)\s+(\d+)\s*$", counts.read_text(), re.MULTILINE))
    return tables(ledger.env), {call: int(made.get(call, 0)) for call in CALLS}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("fault", FAULTS)
def test_whichever_call_is_the_last(call: str, fault: str, whole: tuple, env: dict, tmp_path: Path) -> None:
    left, counts = whole
    assert counts[call] >= 5, f"the runner makes {counts[call]} calls of {call}"
    chance = random.Random(f"{SEED} {call} {fault}")
    points = sorted(chance.sample(range(1, counts[call] + 1), min(counts[call], many(1, 6))))
    hit = 0
    for point in points:
        ledger = Ledger(tmp_path / str(point), env)
        inject = ["strace", "-o", "/dev/null", "-e", f"trace={call}"]
        inject += ["-e", f"inject={call}:{FAULTS[fault]}:when={point}"]
        struck = ledger.run(ledger.planned(), *inject)
        said = struck.stderr.decode()
        assert "Traceback" not in said, (point, said)
        assert struck.returncode in (0, 1, 69, 78, -9, 137), (point, struck.returncode, said)
        hit += struck.returncode != 0
        for _ in range(3):  # a batch whose outcome could not be written is told, and asked for once more
            flags = ["--resume"] if ledger.has_begun() else PLAN
            again = ledger.run(ledger.planned(*flags))
            assert "Traceback" not in again.stderr.decode(), (point, again.stderr.decode())
            if again.returncode == 0:
                break
        assert again.returncode == 0, (point, said, again.stderr.decode())
        assert tables(ledger.env) == left, (call, fault, point)
    figure("system calls", call=call, fault=fault, points=len(points), stopped=hit)
    if EVERYTHING and fault == "killed":
        assert hit == len(points)
