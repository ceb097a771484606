"""A year of daily refreshes, night after night with their own clock and one dbt: green or explained, small state, flat memory.

Every fiftieth night a model fails, and the next one retries it.
"""

import os
import re
import subprocess
from datetime import date, timedelta
from pathlib import Path

import duckdb
import msgspec
import pytest
from clock import Clock
from lengths import figure, many
from test_kill_and_resume import ROOT

NIGHTS = int(os.environ.get("SLUICE_TEST_NIGHTS", many(4, 365)))
TROUBLE = many(3, 50)  # every so many nights
LARGEST_STATE_BYTES, MOST_GROWTH_BYTES = 20_000_000, 20_000_000
MODELS = {
    "days": "{{ config(materialized='incremental', incremental_strategy='append') }}"
    " select cast(current_timestamp at time zone 'UTC' as date) as day",
    "totals": "{{ config(materialized='table') }} select count(*) as days,"
    " case when exists (from trouble) then error('a night of trouble') end as trouble from {{ ref('days') }}",
}
PROFILES = """
soak:
  target: dev
  outputs: {dev: {type: duckdb, path: "{{ env_var('SLUICE_DUCKDB_PATH') }}", schema: main, threads: 1}}
"""
NIGHT = """
import sys
from pathlib import Path
from faults.forks import Call, Commands
from sluice.dbt_engine.loader_process import Lender
with Lender() as lender, Commands(lender.environment, lender.pass_fds) as commands:
    print(lender._loader.pid, flush=True)
    for _ in sys.stdin:
        plan = commands.run(Call(["plan-daily"]))
        assert plan.returncode == 0, plan.stderr.decode()
        night = commands.run(Call(["run-dbt-batch", "--continue-on-error"], plan.stdout))
        Path("plan").write_bytes(plan.stdout)
        Path("out").write_bytes(night.stdout)
        print(night.returncode, flush=True)
"""


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "models").mkdir()
    for name, sql in MODELS.items():
        (tmp_path / "models" / f"{name}.sql").write_text(sql)
    (tmp_path / "dbt_project.yml").write_text("name: soak\nprofile: soak\nflags: {send_anonymous_usage_stats: false}\n")
    (tmp_path / "profiles.yml").write_text(PROFILES)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("SLUICE_", "DBT_"))}
    return clean | {
        "DBT_PROJECT_DIR": str(tmp_path), "SLUICE_DUCKDB_PATH": str(tmp_path / "soak.duckdb"), "PYTHONPATH": f"{ROOT / 'lib'}:{ROOT / 'tests'}",
        "SLUICE_STATE_DIR": str(tmp_path / "state"), "SLUICE_LOG_DIR": str(tmp_path / "logs"), "TZ": "UTC",
        "NO_FAKE_STAT": "1",  # a night changes no file of the project
    }  # fmt: skip


def test_a_year_of_nights(env: dict[str, str], tmp_path: Path) -> None:
    clock = Clock(tmp_path / "clock")
    env |= clock.environment
    change(env, "create table trouble (n int)")
    clock.set("2025-01-01T02:00:00")
    nights = subprocess.Popen(
        clock.under(ROOT / ".venv/bin/python", "-c", NIGHT), env=env, text=True, cwd=tmp_path,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    loader = int(nights.stdout.readline())
    retried, failed, rss_bytes = [], [], []
    for number in range(NIGHTS):
        night = date(2025, 1, 1) + timedelta(days=number)
        is_after = bool(failed) and failed[-1] == night - timedelta(days=1)
        at = "01:30:00" if is_after else "02:00:00"  # less than a day after, however slow the machine is
        clock.set(f"{night}T{at}")
        in_trouble = number % TROUBLE == TROUBLE - 1
        change(env, "insert into trouble values (1)" if in_trouble else "delete from trouble")
        print(night, file=nights.stdin, flush=True)
        code = int(nights.stdout.readline() or -1)
        assert code >= 0, nights.stderr.read()
        decision = msgspec.json.decode((tmp_path / "plan").read_bytes().splitlines()[0])
        told = {
            record["model"].rsplit(".", 1)[-1]: record
            for record in map(msgspec.json.decode, (tmp_path / "out").read_bytes().splitlines())
            if record["type"] == "batch_result"
        }
        if is_after:
            retried.append(night)
            assert (decision["action"], list(told)) == ("retry", ["totals"]), (night, decision)
        else:
            assert (decision["action"], list(told)) == ("full", ["days", "totals"]), (night, decision)
        if in_trouble:
            failed.append(night)
            assert code == 1 and "a night of trouble" in told["totals"]["error"], night
        else:
            assert code == 0 and all(result["status"] == "ok" for result in told.values()), night
        assert all(result["ended_at"].startswith(str(night)) for result in told.values()), night
        rss_bytes.append(resident_bytes(loader))
    nights.stdin.close()
    assert nights.wait(30) == 0 and "Traceback" not in nights.stderr.read()

    expected = [(date(2025, 1, 1) + timedelta(days=n),) for n in range(NIGHTS)]
    with duckdb.connect(env["SLUICE_DUCKDB_PATH"]) as connection:
        assert connection.execute("from days order by day").fetchall() == [d for d in expected if d[0] not in retried]
    state_bytes = sum(path.stat().st_size for path in (tmp_path / "state").glob("state.sqlite*"))
    grown_bytes = rss_bytes[-1] - rss_bytes[min(10, NIGHTS // 2)]
    figure(
        "nights", nights=NIGHTS, failed=len(failed), retried=len(retried), state_bytes=state_bytes, loader_grew_bytes=grown_bytes
    )  # fmt: skip
    assert state_bytes < LARGEST_STATE_BYTES
    assert grown_bytes < MOST_GROWTH_BYTES


def change(env: dict[str, str], sql: str) -> None:
    with duckdb.connect(env["SLUICE_DUCKDB_PATH"]) as connection:
        connection.execute(sql)


def resident_bytes(pid: int) -> int:
    return int(re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) * 1024
