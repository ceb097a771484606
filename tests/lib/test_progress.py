"""Progress on a terminal, a real one: what it tells, and that nobody else ever sees it."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from builders import ORDERS, TOTALS, a_plan, a_result, months_of

from sluice.progress import Bar

ROOT = Path(__file__).resolve().parents[2]
HEAD = "import logging, sys, time; from sluice import log, progress\n"
COUNTED = (
    HEAD
    + """
with progress.counting("checks", 3) as count:
    count.now("[red]key\\x1b[2J of balances")
    count.add(); count.add(failed=True)
    time.sleep(0.3)
"""
)
UNCOUNTED = (
    HEAD
    + """
with progress.counting("lines of shop") as count:
    count.add(4000); count.add(4000)
    time.sleep(0.3)
"""
)
PARSING = (
    HEAD
    + """
with progress.waiting("dbt reads jaffle"):
    time.sleep(0.3)
"""
)
WARNED = (
    HEAD
    + """
from datetime import UTC, datetime
from sluice.config import load
log.setup("x", load(), verbose=False, quiet=False, keep=False, now=datetime.now(UTC))
with progress.counting("checks", 3):
    time.sleep(0.2)
    logging.getLogger("sluice").warning("a word in between")
"""
)


def on_a_terminal(code: str) -> str:
    """What a person sees on stderr; stdout is a pipe, and stays empty."""
    ours, theirs = pty.openpty()
    world = {**os.environ, "PYTHONPATH": str(ROOT / "lib"), "TERM": "xterm-256color", "COLUMNS": "120"}
    for name in ("NO_COLOR", "FORCE_COLOR"):
        world.pop(name, None)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=theirs, env=world) as process:
        os.close(theirs)
        seen = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:
                break
            seen += part
        assert process.stdout is not None
        assert process.stdout.read() == b""
    os.close(ours)
    assert process.returncode == 0, seen
    return seen.decode()


def test_a_count_tells_what_is_done_of_how_many_what_failed_and_what_runs() -> None:
    seen = on_a_terminal(COUNTED)
    assert "[red]key\\x1b[2J of balances" in seen  # a name is neither markup nor a command to the terminal
    assert "2/3" in seen
    assert "1 failed" in seen
    assert "left" in seen


def test_what_nobody_knows_the_length_of_tells_what_is_done_and_how_fast() -> None:
    seen = on_a_terminal(UNCOUNTED)
    assert "lines of shop" in seen
    assert "8,000 done" in seen
    assert "left" not in seen


def test_dbts_parse_is_told() -> None:
    assert "dbt reads jaffle" in on_a_terminal(PARSING)


def test_a_warning_stands_on_a_line_of_its_own_above_the_bar() -> None:
    lines = on_a_terminal(WARNED).replace("\r", "\n").split("\n")
    assert any(line.removeprefix("\x1b[2K") == "x: a word in between" for line in lines), lines


@pytest.mark.parametrize("code", [COUNTED, UNCOUNTED, PARSING])
def test_silence_without_a_terminal_and_with_quiet(code: str) -> None:
    world = {**os.environ, "PYTHONPATH": str(ROOT / "lib")}
    piped = subprocess.run([sys.executable, "-c", code], capture_output=True, env=world, check=True)
    assert piped.stdout + piped.stderr == b""
    assert on_a_terminal(code.replace(HEAD, HEAD + "progress.be_quiet(True)\n")) == ""


def shown(bar: Bar) -> tuple[list[str], float, str]:
    task = bar._bar.tasks[0]
    now = [line.partition(" 2024")[0] for line in task.fields["now"].splitlines()]
    return now, task.completed, task.fields["failed"]


def test_each_worker_has_a_line_and_whatever_ends_counts() -> None:
    plan, batches = a_plan([*months_of(months=2), *months_of(TOTALS, months=2, stage="[bold]x[/]")])
    bar = Bar(plan)
    bar.starts(batches[0])
    bar.starts(batches[2])
    assert shown(bar) == (["orders", r"totals \[bold]x\[/]"], 0, "")
    bar.advance(a_result(batches[2]))
    assert shown(bar) == (["orders"], 1, "")
    bar.advance(a_result(batches[0], "failed"))
    assert shown(bar) == (["orders"], 2, "1 failed"), "the last stays until another begins"


def test_a_wave_in_mid_plan_begins_where_it_is() -> None:
    plan, batches = a_plan(months_of(ORDERS))
    bar = Bar(plan)
    bar.advance(a_result(batches[1]))
    assert shown(bar)[1] == 2
