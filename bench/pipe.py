"""Claims: a command passes 200,000 records a second on; a pipe of six commands starts in under 0.6 s; --help takes under 0.15 s.

Next to them what one would do without: a loop that reads each line with json and prints it, and a python that only starts.
What comes out must be, byte for byte, what went in.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import ROOT, environment, write

RECORDS, TIMES = 1_000_000, 7
LOOP = "import json, sys\nfor line in sys.stdin: print(json.dumps(json.loads(line), separators=(',', ':')))"
SIX = ["notify", "run-dbt-batch", "optimize-partitions", "canary-check", "notify", "notify"]
ENDING = {"type": "summary", "v": 1, "run_id": "r", "at": "2024-01-01T00:00:00.000Z", "command": "before"}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        env = environment(Path(folder), PATH=f"{ROOT}/bin:{ROOT}/.venv/bin:{os.environ['PATH']}")
        lines = b"".join(_line(number) for number in range(RECORDS))
        given = Path(folder, "given")
        given.write_bytes(lines + json.dumps(ENDING).encode() + b"\n")
        passed_s, out = through([ROOT / "bin/canary-check"], given, env)
        assert out[: len(lines)] == lines, "what was passed on is not what came in"
        loop_s, out = through([sys.executable, "-c", LOOP], given, env)
        assert out[: len(lines)] == lines
        helps_s = {command.name: median(lambda c=command: run([c, "--help"], env)) for command in commands()}
        bare_s = median(lambda: run([sys.executable, "-c", ""], env))
        none = Path(folder, "none")
        none.write_text(json.dumps(ENDING) + "\n")
        six_s = median(lambda: six(none, env))
    slowest = max(helps_s, key=lambda name: helps_s[name])
    figures = {
        "records": RECORDS,
        "passed on, records/s": round(RECORDS / passed_s),
        "json loop, records/s": round(RECORDS / loop_s),
        "passed on ÷ json loop": round(loop_s / passed_s, 2),
        "six commands, start to end, s": round(six_s, 3),
        f"slowest --help ({slowest}), s": round(helps_s[slowest], 3),
        "median --help, s": round(statistics.median(helps_s.values()), 3),
        "python that does nothing, s": round(bare_s, 3),
    }
    for what, value in figures.items():
        print(f"{what:44} {value}", file=sys.stderr)
    write("pipe", "The pipe itself", (__doc__ or "").split("\n\n")[0], figures)


def commands() -> list[Path]:
    return sorted(path for path in (ROOT / "bin").iterdir() if os.access(path, os.X_OK) and path.is_file())


def through(command: list, given: Path, env: dict[str, str]) -> tuple[float, bytes]:
    """Seconds from start to end, the start of the process included, and what came out."""
    with given.open("rb") as stdin:
        began = time.monotonic()
        done = subprocess.run(command, stdin=stdin, stdout=subprocess.PIPE, env=env, check=True)
        return time.monotonic() - began, done.stdout


def six(stream: Path, env: dict[str, str]) -> None:
    """Six commands side by side, each with a pipe of its own, on a stream without a plan: starting is all that they do."""

    with stream.open("rb") as stdin:
        processes: list[subprocess.Popen] = []
        source = stdin
        for command in SIX:
            processes.append(
                subprocess.Popen(command, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env)
            )
            source = processes[-1].stdout
        assert processes[-1].stdout
        processes[-1].stdout.read()
        assert not [process.wait() for process in processes if process.wait()]


def run(command: list, env: dict[str, str]) -> None:
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env, check=True)


def median(work) -> float:
    work()  # caches of the file system, and bytecode
    seconds = []
    for _ in range(TIMES):
        began = time.monotonic()
        work()
        seconds.append(time.monotonic() - began)
    return statistics.median(seconds)


def _line(number: int) -> bytes:
    return (
        f'{{"type":"observation","v":1,"run_id":"0193f0aa","number":{number},"model":"model.shop.orders","status":"ok",'
        f'"rows":{number * 7 % 1000},"duration_s":0.031,"at":"2026-01-01T00:00:00.000Z"}}\n'
    ).encode()


if __name__ == "__main__":
    main()
