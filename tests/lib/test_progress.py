"""Progress on a terminal, a real one: what each long command tells there, and that nobody else ever sees it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pairs
import pytest
from builders import TOTALS, a_plan, a_result, months_of
from terminal import Seen, watched

from sluice.profiles import Credentials
from sluice.progress import Batches, Count
from sluice.records import Summary

pytest_plugins = ["servers"]

ROOT = Path(__file__).resolve().parents[2]
BAR = re.compile(
    r"[━╸╺ ]+ (?P<done>\d+)/(?P<total>\d+) +((?P<failed>\d+) failed)? +((?P<rate>[\d.,]+)/(s|min|h))? +\d:\d\d:\d\d"
    r" (?P<left>[-:\d]+) left (?P<now>.*)"
)
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


def on_a_terminal(code: str, columns: int = 140) -> list[str]:
    """Each line that a person saw on stderr; stdout is a pipe, and stays empty."""
    seen = watched(
        [sys.executable, "-c", code], {**os.environ, "PYTHONPATH": str(ROOT / "lib")}, columns=columns, is_apart=True
    )
    assert (seen.out, seen.exit_code) == (b"", 0), seen
    assert not any(seen.left) or "a word" in code, "a bar was left behind"
    return seen.drawn


def bars(seen: Seen | list[str], total: int | None = None) -> list[dict[str, str | None]]:
    """All bars that were seen, of so many if that is said."""
    lines = seen if isinstance(seen, list) else seen.drawn
    found = [bar.groupdict() for line in lines if (bar := BAR.fullmatch(line))]
    return [bar for bar in found if total is None or bar["total"] == str(total)]


def test_a_count_tells_what_is_done_of_how_many_what_failed_how_fast_what_is_left_and_what_runs() -> None:
    last = bars(on_a_terminal(COUNTED))[-1]
    assert (last["done"], last["total"], last["failed"]) == ("2", "3", "1")
    assert last["now"] == "[red]key\\x1b[2J of balances"  # a name is neither markup nor a command to the terminal
    assert last["rate"] is not None
    assert last["left"] == "0:00:00"


def test_what_takes_minutes_has_a_rate_and_a_time_left_too() -> None:
    """rich by itself knows no rate of what comes less often than twice in half a minute."""
    code = (
        HEAD
        + """
import rich.console
now = [0.0]
rich.console.monotonic = lambda: now[0]
with progress.counting("models", 10, done=2) as count:
    now[0] = 240.0
    count.add(); count.add()
"""
    )
    last = bars(on_a_terminal(code))[-1]
    assert (last["done"], last["rate"], last["left"]) == ("4", "30.0", "0:12:00")


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_bar_is_one_line_however_narrow_the_terminal_and_many_the_workers(columns: int) -> None:
    code = (
        HEAD
        + """
with progress.counting("models", 1000) as count:
    count.now(*["a_model_with_a_long_name 2024-01"] * 8); count.add(failed=True)
    time.sleep(0.3)
"""
    )
    raw = on_a_terminal(code, columns)
    assert all(len(line) <= columns - len("^C") for line in raw)
    assert all("\u2501" in line or "\u257a" in line for line in raw), raw


def test_what_nobody_knows_the_length_of_tells_what_is_done_and_how_fast() -> None:
    last = on_a_terminal(UNCOUNTED)[-1]
    assert re.search(r" 8,000 done [\d.,]+/s \d:\d\d:\d\d lines of shop$", last), last
    assert "left" not in last


def test_of_a_count_inside_of_another_only_the_outer_one_is_drawn() -> None:
    code = (
        HEAD
        + 'with progress.counting("checks", 2) as count, progress.waiting("dbt reads jaffle"):\n    time.sleep(0.3)\n'
    )
    lines = on_a_terminal(code + 'with progress.waiting("later"):\n    time.sleep(0.3)\n')
    assert {re.sub("^.*(checks|dbt|later).*$", r"\1", line) for line in lines} == {"checks", "later"}


def test_dbts_parse_is_told() -> None:
    assert any("dbt reads jaffle" in line for line in on_a_terminal(PARSING))


def test_a_warning_stands_on_a_line_of_its_own_above_the_bar() -> None:
    assert "x: a word in between" in on_a_terminal(WARNED)


def test_nothing_stands_behind_a_bar_that_is_drawn_at_the_same_time() -> None:
    """rich draws ten times in a second; here it draws all the time, and meets whatever a line leaves open."""
    code = (
        HEAD
        + """
import threading
from builders import a_plan, a_result, months_of
from sluice.view import Screen
plan, batches = a_plan(months_of(months=2))
over, screen = threading.Event(), Screen(2)
with progress.counting("models", 100) as count:
    def draw():
        while not over.is_set():
            count._bar.refresh()
    drawing = threading.Thread(target=draw)
    if hasattr(count, "_bar"):
        drawing.start()
    for seq in range(100):
        screen.write(plan)
        screen.write(a_result(batches[1], "failed"))
        log.tell(f"told {seq}")
    over.set()
"""
    )
    world = {**os.environ, "PYTHONPATH": f"{ROOT / 'lib'}:{ROOT / 'tests'}"}
    seen, alone = (
        watched([sys.executable, "-c", code.replace(HEAD, HEAD + before)], world)
        for before in ("", "progress.be_quiet(True)\n")
    )
    assert len(bars(seen)) > 100, "the bar was hardly drawn"
    assert (seen.exit_code, [line for line in seen.left if line]) == (0, [line for line in alone.left if line])
    assert "told 99" in alone.left


@pytest.mark.parametrize("code", [COUNTED, UNCOUNTED, PARSING])
def test_silence_without_a_terminal_and_with_quiet(code: str) -> None:
    world = {**os.environ, "PYTHONPATH": str(ROOT / "lib")}
    piped = subprocess.run([sys.executable, "-c", code], capture_output=True, env=world, check=True)
    assert piped.stdout + piped.stderr == b""
    assert on_a_terminal(code.replace(HEAD, HEAD + "progress.be_quiet(True)\n")) == []


class Noted(Count):
    """What a bar would be told."""

    def __init__(self) -> None:
        self.at: tuple[str, ...] = ()
        self.done = self.failed = 0

    def now(self, *what: str) -> None:
        self.at = what

    def add(self, done: int = 1, *, failed: bool = False) -> None:
        self.done += done
        self.failed += failed


def test_each_worker_has_a_name_and_whatever_ends_counts_once() -> None:
    _, batches = a_plan([*months_of(months=2), *months_of(TOTALS, months=2, stage="odd")])
    noted = Noted()
    watching = Batches(noted, {batches[3].batch_id})
    watching.starts(batches[0])
    watching.starts(batches[2])
    assert noted.at == ("orders 2024-01", "totals odd 2024-01")
    watching.advance(a_result(batches[2]))
    assert noted.at == ("orders 2024-01",)
    watching.advance(a_result(batches[0], "failed"))
    assert noted.at == ("orders 2024-01",), "the last stays until another begins"
    watching.advance(a_result(batches[3]))
    assert (noted.done, noted.failed) == (2, 1), "what was done before the bar began counts no second time"


# -- the long commands, as they are ------------------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path: Path) -> dict[str, str]:
    """The shop, a state and a log of the test's own, and a dbt that naps; `plan` lies in the folder."""
    home = tmp_path / "home"
    (home / "trouble").mkdir(parents=True)
    shop = shutil.copytree(
        ROOT / "tests/fixtures/shop", tmp_path / "shop", ignore=shutil.ignore_patterns("target", "logs")
    )
    napping = tmp_path / "napping-dbt"
    napping.write_text('#!/bin/sh\nsleep 0.4\nexec fake-dbt "$@"\n')
    napping.chmod(0o700)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("SLUICE_", "DBT_"))}
    return kept | {
        "HOME": str(home), "DBT_PROJECT_DIR": str(shop), "DBT_PROFILES_DIR": str(shop), "LC_ALL": "C.UTF-8",
        "SLUICE_STATE_DIR": str(tmp_path / "state"), "SLUICE_LOG_DIR": str(tmp_path / "logs"),
        "PATH": f"{ROOT / 'bin'}:{tmp_path}:{ROOT / 'tests/cli'}:{os.environ['PATH']}",
    }  # fmt: skip


def two_models(folder: Path, waves: int) -> None:
    """A plan of two models, three months each, the last month a wave later if there are two."""
    plan, batches = a_plan([*months_of(), *months_of(TOTALS)])
    for batch in batches:
        batch.wave = waves if batch.window and batch.window.start.month == 3 else 1
    batches.sort(key=lambda batch: batch.wave)
    end = Summary(run_id=plan.run_id, at=plan.at, command="plan-batches")
    (folder / "plan").write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in (plan, *batches, end)))


def nothing_is_lost(seen: Seen, total: int) -> None:
    """The bar goes on from nothing to all of it, and every result still stands on the terminal when it has gone."""
    done = [int(bar["done"] or 0) for bar in bars(seen, total)]
    assert (done, done[0], done[-1]) == (sorted(done), 0, total), seen.drawn
    assert any(bar["rate"] and bar["left"] != "-:--:--" for bar in bars(seen, total))
    results = sorted(line.split()[0] for line in seen.left if line.startswith("["))
    assert results == sorted(f"[{seq}/{total}]" for seq in range(1, total + 1)), seen.left
    assert not [line for line in seen.left if "━" in line], "a bar was left behind"


@pytest.mark.parametrize(
    ("command", "waves", "failed"), [("run-dbt-batch {}", 1, "1"), ("each-wave 'run-dbt-batch {}'", 2, None)]
)
def test_batches_and_waves_are_watched_and_told_to_nobody_else(
    world: dict[str, str], tmp_path: Path, command: str, waves: int, failed: str | None
) -> None:
    two_models(tmp_path, waves)
    if failed:
        Path(world["HOME"], "trouble/fail-totals-whole").write_text("boom")
    typed = command.format("--engine subprocess --dbt napping-dbt") + " <plan"
    seen = watched(["bash", "-c", typed], world, cwd=tmp_path)
    assert seen.exit_code == (1 if failed else 0), seen.drawn
    nothing_is_lost(seen, 6)
    found = bars(seen, 6)
    assert found[-1]["failed"] == failed
    assert {bar["now"] for bar in found} >= {"orders 2024-01", "orders 2024-02", "orders 2024-03", "totals 2024-01"}

    world["SLUICE_STATE_DIR"] += "-unwatched"
    unwatched = subprocess.run(["bash", "-c", typed], env=world, cwd=tmp_path, capture_output=True)
    assert unwatched.returncode == seen.exit_code
    assert not any(mark in unwatched.stdout + unwatched.stderr for mark in (b"\x1b", "━".encode(), b" left "))


@pytest.mark.parametrize(
    "command",
    [
        pytest.param("plan-batches --to 2024-03-28 | each-wave 'run-dbt-batch --workers 2'", marks=pytest.mark.long),
        pytest.param("plan-batches --to 2024-03-28 | run-dbt-batch --workers 2", marks=pytest.mark.long),
        pytest.param("make --silent -C {root} full-refresh TO=2024-03-28 WORKERS=2", marks=pytest.mark.long),
    ],
)
def test_each_of_two_workers_is_seen_at_work(
    command: str, postgres_target: Credentials, world: dict[str, str], tmp_path: Path
) -> None:
    env = pairs.make(tmp_path / "project", postgres_target, nap_s=0.4) | {"PATH": world["PATH"]}
    seen = watched(["bash", "-o", "pipefail", "-c", command.format(root=ROOT)], env)
    assert seen.exit_code == 0, seen.drawn
    at_once = {bar["now"] for bar in bars(seen, 12) if ", " in str(bar["now"])}
    assert any(set(re.findall(r"\w+_one", str(now))) == {"left_one", "right_one"} for now in at_once), seen.drawn
    if not command.startswith("make"):  # whose last command tells a digest
        nothing_is_lost(seen, 12)


BATCH = r"\w+( \w+)? (2024-0\d|everything)"  # which ones, is as fast as they are
CANARY = """unique_key=['day', 'symbol'], meta={'canary':
    {'metric': 'stock + 1000', 'by': ['symbol'], 'date_column': 'day', 'new_entities': true}}"""


@pytest.mark.parametrize(
    ("command", "counted"),
    [
        (
            "plan-batches --aside --select tag:stock --to 2024-03-31 | run-dbt-batch | optimize-partitions | canary-check"
            " | publish-tables",
            [
                "int_stock_daily old 2024-01",
                "main.int_stock_daily__sluice_aside",
                "canary of int_stock_daily",
                "main.api_stock",
            ],
        ),
        pytest.param(
            "{root}/pipelines/daily-refresh",
            [BATCH, "canary of int_stock_daily"],
            marks=pytest.mark.long,
        ),
    ],
    ids=["aside", "daily"],
)
def test_every_command_of_a_pipe_is_watched_in_its_turn(
    command: str, counted: list[str], world: dict[str, str]
) -> None:
    stock = Path(world["DBT_PROJECT_DIR"], "models/stock/int_stock_daily.sql")
    stock.write_text(stock.read_text().replace("='append')", f"='append', {CANARY})"))
    seen = watched(["bash", "-o", "pipefail", "-c", command.format(root=ROOT)], world)
    assert seen.exit_code == (3 if "daily" in command else 0), seen.drawn  # the shop's stock ends in 2024
    now = [str(bar["now"]) for bar in bars(seen)]
    assert not [line for line in seen.left if "━" in line], "a bar was left behind"
    for what in counted:
        assert any(re.fullmatch(what, one) for one in now), (what, seen.drawn)


def test_a_load_is_watched(world: dict[str, str], tmp_path: Path) -> None:
    tap = tmp_path / "tap"
    tap.write_text(f"#!{sys.executable}\n" + TAP)
    tap.chmod(0o700)
    seen = watched(
        ["bash", "-o", "pipefail", "-c", "tap | sync-cursor load shop"], world | {"PYTHONPATH": str(ROOT / "lib")}
    )
    assert seen.exit_code == 0, seen.drawn
    assert any(re.search(r" 702 done [\d.,]+/s \d:\d\d:\d\d lines of shop$", line) for line in seen.drawn), seen.drawn
    assert [line for line in seen.left if "shop" in line or "word" in line] == ["tap: a word in between"]


TAP = """
import json, logging, sys, time
from datetime import UTC, datetime
from sluice import log
from sluice.config import load
log.setup("tap", load(), verbose=False, quiet=False, keep=False, now=datetime.now(UTC))
def say(**message): print(json.dumps(message), flush=True)
say(type="SCHEMA", stream="trades", key_properties=["id"], schema={"properties": {"id": {"type": "integer"}}})
for number in range(700):
    say(type="RECORD", stream="trades", record={"id": number})
time.sleep(1)
logging.getLogger("sluice").warning("a word in between")
time.sleep(0.5)
say(type="STATE", value={"at": 700})
"""
