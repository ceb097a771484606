"""A clock that jumps in mid-run: midnight, summer time, a day back or on, in three zones; the plan stays what it was.

The planner takes the last day from the clock, so a plan that looked at it again would have another month. The runner and
the planner that resumes it see the clock that is in a file, and the file is changed half way.
"""

import subprocess
from datetime import date, datetime, timedelta
from pathlib import Path

import duckdb
import msgspec
import pytest
from clock import Clock, moment
from lengths import figure, many
from test_kill_and_resume import ROOT, results

from sluice.windows import add_months, month_start

pytest_plugins = ["test_kill_and_resume"]

# Zone, the clock at the start, and half way through the run; both UTC.
JUMPS = {
    "midnight and a new month": ("UTC", "2022-04-30T23:50:00", "2022-05-01T00:00:01"),
    "a day back": ("Europe/Lisbon", "2022-05-01T12:00:00", "2022-04-30T12:00:00"),
    "a day on": ("America/Sao_Paulo", "2022-04-30T12:00:00", "2022-05-01T12:00:00"),
    "midnight in Kathmandu": ("Asia/Kathmandu", "2022-04-30T18:05:00", "2022-04-30T18:15:01"),
    "midnight in Brazil, a month later than here": ("America/Sao_Paulo", "2022-05-01T02:50:00", "2022-05-01T03:00:01"),
    "summer time begins": ("Europe/Lisbon", "2022-03-27T00:50:00", "2022-03-27T01:00:01"),
    "summer time ends": ("Europe/Lisbon", "2022-10-30T00:50:00", "2022-10-30T01:00:01"),
}
TRIED = list(JUMPS)[: many(1, len(JUMPS))]


SHORT = timedelta(minutes=8)  # what is done at one setting of the clock takes less


@pytest.mark.sized
@pytest.mark.parametrize("jump", TRIED)
def test_no_plan_changes_inside_a_run(jump: str, ledger: dict[str, str], tmp_path: Path) -> None:
    zone, before, after = JUMPS[jump]
    clock = Clock(tmp_path / "clock")
    env = ledger | clock.environment | {"TZ": zone}

    clock.set(before)
    lines = planned(clock, env)
    plan, *batches = (msgspec.json.decode(line) for line in lines[:-1])
    to = date.fromisoformat(before[:10])
    assert plan["to"] == str(to)
    ids = [batch["batch_id"] for batch in batches]

    half, cut = len(batches) // 2, len(batches) - 2
    runner = subprocess.Popen(
        clock.under(ROOT / "bin/run-dbt-batch"), env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    runner.stdin.write(b"".join(lines[: 1 + half]))
    runner.stdin.flush()
    seen = b""
    while len(results(seen)) < half:
        line = runner.stdout.readline()
        assert line, runner.communicate()[1].decode()
        seen += line
    clock.set(after)
    out, err = runner.communicate(b"".join(lines[1 + half : 1 + cut]), timeout=180)
    assert runner.returncode == 65, err.decode()  # the stream ends before the plan does: there is something to resume
    assert b"Traceback" not in err
    first = results(seen + out)
    assert [result["status"] for result in first] == ["ok"] * cut
    told = [datetime.fromisoformat(result["ended_at"]) for result in first]
    assert told[half - 1] - moment(before) < SHORT and timedelta(0) < told[-1] - moment(after) < SHORT, told

    rest = planned(clock, env, "--resume")
    done = subprocess.run(
        clock.under(ROOT / "bin/run-dbt-batch"), env=env, input=b"".join(rest), capture_output=True, timeout=180
    )
    assert done.returncode == 0, done.stderr.decode()
    assert [result["batch_id"] for result in first + results(done.stdout)] == ids
    assert msgspec.json.decode(rest[0])["plan_id"] == plan["plan_id"]
    days = (add_months(month_start(to), 1) - date(2022, 1, 1)).days
    assert rows(env) == {"entries": (3 * days, 3 * days), "balances": (3 * days, 3 * days), "totals": (days, days)}
    figure("clocks", jump=jump, zone=zone, batches=len(ids), plan_changes=0)


def planned(clock: Clock, env: dict[str, str], *flags: str) -> list[bytes]:
    done = subprocess.run(clock.under(ROOT / "bin/plan-batches", *flags), env=env, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.splitlines(keepends=True)


def rows(env: dict[str, str]) -> dict[str, tuple[int, int]]:
    """How many there are, and how many different ones."""
    keys = {"entries": "(account, day)", "balances": "(account, day)", "totals": "day"}
    with duckdb.connect(env["SLUICE_DUCKDB_PATH"], read_only=True) as connection:
        return {
            table: connection.execute(f"SELECT count(*), count(DISTINCT {key}) FROM {table}").fetchone()
            for table, key in keys.items()
        }
