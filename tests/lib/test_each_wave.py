"""Waves: barriers, order, failure, and a pipe that is no shell."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from sluice.each_wave import split_pipe
from sluice.errors import SluiceError

ROOT = Path(__file__).resolve().parents[2]
RECORDER = """
import sys, time, json
lines = [json.loads(line) for line in sys.stdin]
log = open({log!r}, "a")
batches = [line for line in lines if line["type"] == "batch"]
for batch in batches:
    print(f"begin {{batch['seq']}}", file=log, flush=True)
    time.sleep(0.05)
    print(f"end {{batch['seq']}}", file=log, flush=True)
    if batch["seq"] == {fail_at}:
        sys.exit(7)
for line in lines:
    print(json.dumps(line), flush=True)
"""


def plan_of(waves: list[int]) -> bytes:
    head = {
        "type": "plan", "plan_id": "p", "intent": "refill", "project": "shop", "target": "dev", "adapter": "duckdb",
        "to": "2026-04-27", "total": len(waves), "pending": len(waves), "models": [], "request": {}, "run_id": "r", "at": "x",
    }  # fmt: skip
    batches = [
        {"type": "batch", "batch_id": f"b{i}", "plan_id": "p", "seq": i, "total": len(waves), "wave": wave, "reason": "refill",
         "select": [], "expect": [], "run_id": "r", "at": "x"}
        for i, wave in enumerate(waves, 1)
    ]  # fmt: skip
    ending = {"type": "summary", "command": "planner", "run_id": "r", "at": "x"}
    return b"".join(msgspec.json.encode(record) + b"\n" for record in [head, *batches, ending])


def run(
    tmp_path: Path, waves: list[int], fail_at: int = 0, stages: int = 2
) -> tuple[subprocess.CompletedProcess, list[str]]:
    log = tmp_path / "log"
    log.touch()
    script = tmp_path / "recorder.py"
    script.write_text(RECORDER.format(log=str(log), fail_at=fail_at))
    copier = tmp_path / "copier.py"
    copier.write_text("import sys\nfor line in sys.stdin: print(line, end='', flush=True)\n")
    command = f"'{sys.executable}' '{script}'" + f" | '{sys.executable}' '{copier}'" * (stages - 1)
    env = os.environ | {"SLUICE_STATE_DIR": str(tmp_path / "state"), "SLUICE_LOG_DIR": str(tmp_path / "logs")}
    done = subprocess.run(
        [ROOT / "bin/each-wave", command], input=plan_of(waves), capture_output=True, env=env, timeout=60
    )
    return done, log.read_text().splitlines()


def test_nothing_of_a_wave_starts_before_the_one_before_has_ended(tmp_path: Path):
    done, log = run(tmp_path, [1, 1, 2, 2, 5])
    assert done.returncode == 0, done.stderr.decode()
    assert log == [f"{what} {seq}" for seq in range(1, 6) for what in ("begin", "end")]
    types = [msgspec.json.decode(line)["type"] for line in done.stdout.splitlines()]
    assert types.count("plan") == 1
    assert types.count("batch") == 5
    assert types[-1] == "summary"


def test_it_stops_at_the_first_wave_that_fails_with_its_code(tmp_path: Path):
    done, log = run(tmp_path, [1, 2, 2, 3], fail_at=2, stages=1)
    assert done.returncode == 7
    assert log == ["begin 1", "end 1", "begin 2", "end 2"]
    assert b"1 records of later waves were not started" in done.stderr


def test_the_command_that_fails_may_stand_before_one_that_does_not(tmp_path: Path):
    done, _ = run(tmp_path, [1, 2], fail_at=1, stages=3)
    assert done.returncode == 7


def test_a_signal_reaches_what_runs_and_ends_it(tmp_path: Path):
    sleeper = tmp_path / "sleeper.py"
    sleeper.write_text('import time, sys\nprint(\'{"type":"up"}\', flush=True)\ntime.sleep(60)\n')
    env = os.environ | {"SLUICE_STATE_DIR": str(tmp_path / "state"), "SLUICE_LOG_DIR": str(tmp_path / "logs")}
    command = [ROOT / "bin/each-wave", f"'{sys.executable}' '{sleeper}'"]
    wave = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
    assert wave.stdin and wave.stdout
    wave.stdin.write(plan_of([1, 2]))
    wave.stdin.close()
    assert any(b'"up"' in line for line in iter(wave.stdout.readline, b""))
    began = time.monotonic()
    wave.send_signal(signal.SIGTERM)
    assert wave.wait(10) == 143
    assert time.monotonic() - began < 5
    assert not subprocess.run(["pgrep", "-f", str(sleeper)], capture_output=True).stdout


@pytest.mark.parametrize("text", ["", "|", "cat |", "| cat", "cat || cat", "cat 'x", "no-such-command-here"])
def test_a_pipe_that_cannot_be_is_refused(text: str):
    with pytest.raises(SluiceError) as refusal:
        split_pipe(text)
    assert refusal.value.exit_code == 2


def test_the_pipe_is_no_shell():
    commands = split_pipe("run-dbt-batch --dbt 'docker exec dbt dbt' | cat $(touch x) ; `y` > z && w")
    assert commands[0] == [str(ROOT / "bin/run-dbt-batch"), "--dbt", "docker exec dbt dbt"]
    assert commands[1][1:] == ["$(touch", "x)", ";", "`y`", ">", "z", "&&", "w"]
