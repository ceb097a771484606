"""What takes too long for every day: 2,000 histories, every other one on each database, 50 kills of a load."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from histories import live
from lengths import figure
from taps import opened

from sluice.profiles import Credentials

pytest_plugins = ["servers"]
HISTORIES, KILLS, ROWS = 2000, 50, 60_000
SLICES = 10  # of each database's
DATABASES = ("duckdb", "postgres")
# sync-cursor with a commit every 2,000 lines, so that there are many to be killed between
LOAD = """
import runpy, sys
sys.path[:0] = [sys.argv[1] + "/lib", sys.argv[1] + "/bin"]
import sluice.sync.load
sluice.sync.load.MOST_LINES = 2000
sys.argv = [sys.argv[1] + "/bin/sync-cursor", "load", "t"]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("part", range(SLICES))
@pytest.mark.parametrize("dialect", DATABASES)
def test_nothing_is_lost_and_nothing_double(
    dialect: str, part: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    target: Credentials = request.getfixturevalue(f"{dialect}_target")
    with opened(target, tmp_path) as source:
        for seed in range(DATABASES.index(dialect), HISTORIES, len(DATABASES))[part::SLICES]:
            live(source, seed)


def test_a_load_that_is_killed_leaves_no_cursor_ahead_of_the_rows(tmp_path: Path) -> None:
    """kill -9 at moments that are spread over the whole of a load; each next one goes on with what the last left."""
    import duckdb

    lines = tmp_path / "lines"
    stream = {"properties": {"id": {"type": "integer"}, "at": {"type": "string", "format": "date-time"}}}
    with open(lines, "w") as out:
        head = {
            "type": "SCHEMA",
            "stream": "t",
            "schema": stream,
            "key_properties": ["id"],
            "bookmark_properties": ["at"],
        }
        print(json.dumps(head), file=out)
        for number in range(ROWS):
            at = f"2026-01-{1 + number // 86400:02}T{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}Z"
            print(f'{{"type":"RECORD","stream":"t","record":{{"id":{number},"at":"{at}"}}}}', file=out)
            if number % 1500 == 1499:
                print(json.dumps({"type": "STATE", "value": {"bookmarks": {"t": {"at": at, "n": number}}}}), file=out)
    database = tmp_path / "w.duckdb"
    root = Path(__file__).resolve().parents[2]
    environment = {
        **os.environ, "SLUICE_STATE_DIR": str(tmp_path / "state"), "SLUICE_LOG_DIR": str(tmp_path / "logs"),
        "SLUICE_DUCKDB_PATH": str(database),
    }  # fmt: skip
    command = [sys.executable, "-c", LOAD, str(root)]
    began = time.monotonic()
    with open(lines) as source:
        subprocess.run(command, stdin=source, env=environment, check=True, stdout=subprocess.DEVNULL)
    whole_s = time.monotonic() - began
    database.unlink()
    draw, killed, seen = random.Random(1), 0, set()
    while killed < KILLS:
        told = tmp_path / "told"
        with open(lines) as source, open(told, "wb") as out:
            load = subprocess.Popen(command, stdin=source, stdout=out, env=environment)
            time.sleep(draw.uniform(0.1, 1.0) * whole_s)
            load.kill()
            killed += load.wait() == -9
        acknowledged = [
            json.loads(line) for line in told.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")
        ]
        if not database.exists():
            assert not acknowledged
            continue
        with duckdb.connect(str(database)) as connection:
            tables = "SELECT table_name FROM information_schema.tables"
            there = {name for (name,) in connection.execute(tables).fetchall()}
            logged = connection.execute("SELECT state FROM raw.sync_log").fetchall() if "sync_log" in there else []
            state = json.loads(logged[0][0])["bookmarks"]["t"]["n"] if logged and logged[0][0] else -1
            if "t" not in there:
                assert state == -1 and not acknowledged
                continue
            rows, distinct = connection.execute(
                "SELECT count(*) FILTER (WHERE id <= ?), count(DISTINCT id) FROM raw.t", [state]
            ).fetchone()
            total = connection.execute("SELECT count(*) FROM raw.t").fetchone()[0]
            assert rows == state + 1, "the cursor is ahead of the rows"
            assert total == distinct, "a row is double"
            if acknowledged:
                assert acknowledged[-1]["bookmarks"]["t"]["n"] <= state, "a STATE was told before it was committed"
            seen.add(state)
            if state == ROWS - 1 or draw.random() < 0.3:
                connection.execute("DROP TABLE raw.t; DELETE FROM raw.sync_event")
    assert len(seen) > 5, "the kills were all at the same point"
    figure("kills in syncs", kills=killed, cursors_seen=len(seen), cursors_ahead=0, rows_double=0)
