"""Killed with -9 at random moments and resumed each time, a refresh leaves what an uninterrupted one leaves."""

import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import duckdb
import msgspec
import pytest
from history import effects, events, wrong
from lengths import figure

from sluice.profiles import Credentials
from sluice.state import State
from sluice.warehouse import connect

ROOT = Path(__file__).resolve().parents[2]
LEDGER = ROOT / "tests" / "fixtures" / "ledger"
TABLES = ("entries", "balances", "totals")
KILLS = int(os.environ.get("SLUICE_TEST_KILLS", "1"))  # 20 in `make test-faults`
TO = "2023-09-30"  # 21 + 11 + 21 + 21 = 74 batches


@pytest.fixture
def ledger(tmp_path: Path) -> dict[str, str]:
    """The environment in which the commands work on a ledger project of their own."""
    project = shutil.copytree(LEDGER, tmp_path / "ledger")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("SLUICE_", "DBT_"))}
    return clean | {
        "DBT_PROJECT_DIR": str(project),
        "SLUICE_DUCKDB_PATH": str(tmp_path / "ledger.duckdb"),
        "SLUICE_STATE_DIR": str(tmp_path / "state"),
        "SLUICE_LOG_DIR": str(tmp_path / "logs"),
    }


def planned(env: dict[str, str], *flags: str) -> bytes:
    return subprocess.run(
        [ROOT / "bin/plan-batches", "--to", TO, *flags], env=env, capture_output=True, check=True, timeout=120
    ).stdout


def start(env: dict[str, str], *flags: str) -> subprocess.Popen:
    plan = planned(env, *flags)
    with tempfile.TemporaryFile() as stdin:
        stdin.write(plan)
        stdin.seek(0)
        return subprocess.Popen(
            [ROOT / "bin/run-dbt-batch"], env=env, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )


def results(lines: bytes) -> list[dict]:
    return [r for r in map(msgspec.json.decode, lines.splitlines()) if r["type"] == "batch_result"]


def tables(env: dict[str, str]) -> dict[str, list[tuple]]:
    with duckdb.connect(env["SLUICE_DUCKDB_PATH"], read_only=True) as connection:
        return {table: connection.execute(f"SELECT * FROM {table} ORDER BY ALL").fetchall() for table in TABLES}


def processes_below(pid: int) -> list[int]:
    """The process and its descendants, eldest first."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += map(int, task.read_text().split())
            except OSError:
                pass
    return found


@pytest.mark.sized
def test_a_refresh_that_is_killed_over_and_over_ends_in_the_same_tables(ledger: dict[str, str], tmp_path: Path):
    other = {"SLUICE_STATE_DIR": str(tmp_path / "other")}
    killed_over_and_over(ledger, other, f"sqlite:{ledger['SLUICE_STATE_DIR']}/state.sqlite", tmp_path)


def killed_over_and_over(ledger: dict[str, str], other: dict[str, str], state_url: str, tmp_path: Path) -> None:
    """Kill a refresh KILLS times, resume it each time; its tables must be those of one that keeps its state in `other` and is left alone."""
    whole = ledger | {
        "SLUICE_DUCKDB_PATH": str(tmp_path / "whole" / "ledger.duckdb"),
        **other,
    }
    (tmp_path / "whole").mkdir()
    batches = [record for record in map(msgspec.json.decode, planned(whole).splitlines()) if record["type"] == "batch"]
    uninterrupted = start(whole)
    out, err = uninterrupted.communicate(timeout=180)
    assert uninterrupted.returncode == 0, err.decode()
    total = len(results(out))
    assert total >= 60

    chance = random.Random(20261121)
    kills, done = 0, 0
    flags: list[str] = []
    for _ in range(KILLS * 3):
        runner = start(ledger, *flags)
        flags = ["--resume"]
        seen = b""
        if kills < KILLS:
            assert runner.stdout
            for _ in range(chance.randint(0, max(1, 2 * (total - done) // (KILLS - kills + 1) - 1))):
                line = runner.stdout.readline()
                seen += line
                if b'"summary"' in line or not line:
                    break
            time.sleep(chance.uniform(0, 0.06))
            victim = chance.choice(processes_below(runner.pid))
            try:
                os.kill(victim, signal.SIGKILL)
                kills += 1
            except ProcessLookupError:
                pass
        rest, err = runner.communicate(timeout=180)
        done += sum(result["status"] == "ok" for result in results((seen + rest).rpartition(b"\n")[0]))
        assert b"Traceback" not in err, err.decode()
        if runner.returncode == 0:
            break
        state = State.open_existing(state_url)
        if state is None or not state.runs():
            flags = []  # killed before it began: there is nothing to resume
    assert runner.returncode == 0, err.decode()
    assert kills >= min(KILLS, 10)
    assert tables(ledger) == tables(whole)
    state = State.open_existing(state_url)
    assert state is not None
    path = {"path": ledger["SLUICE_DUCKDB_PATH"]}
    with connect(Credentials("duckdb", "ledger", "dev", "ledger", "main", fields=path), tag="judge") as warehouse:
        assert wrong(events(state), effects(warehouse, "ledger", "main"), batches) == []
    state.close()
    figure("kills of a refresh", state=state_url.partition(":")[0], kills=kills, batches=total, wrong=0, wrong_tables=0)


@pytest.mark.long
def test_a_batch_that_ran_twice_would_show(ledger: dict[str, str]):
    """The fixture itself: without the state store a second run of an appending batch doubles its rows."""
    runner = start(ledger)
    _, err = runner.communicate(timeout=180)
    assert runner.returncode == 0, err.decode()
    before = tables(ledger)
    runner = start(ledger, "--incremental-only", "--select", "totals", "--allow", "G03")
    _, err = runner.communicate(timeout=180)
    assert runner.returncode == 0, err.decode()
    assert len(tables(ledger)["totals"]) == 2 * len(before["totals"])
