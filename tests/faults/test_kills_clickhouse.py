"""Appends on a real ClickHouse whose runner dies in mid-insert, over and over: in the end every row is there once."""

import os
import random
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
import yaml
from lengths import SEED, figure, many
from test_kill_and_resume import processes_below, results

from sluice.profiles import Credentials
from sluice.warehouse import Warehouse, connect

ROOT = Path(__file__).resolve().parents[2]
ROWS, MONTHS = 400, 4
# 400 rows in parts of 40, in a second or so: half of them are there when the kill comes.
MODEL = """{{ config(
    materialized='incremental', incremental_strategy='append', order_by='n', partition_by='day',
    meta={'full_refresh': {'start_date': '2024-01-01', 'batch_months': 1}},
    query_settings={'max_block_size': 40, 'min_insert_block_size_rows': 40, 'min_insert_block_size_bytes': 0, 'max_threads': 1},
) }}
select toDate('{{ var("start_month", "2024-01-01") }}') as day, toUInt64(number) as n from numbers(400) where sleepEachRow(0.003) = 0
"""
RUNNING = "select count() from system.processes where query_kind = 'Insert' and query_id like 'sluice:%'"

pytest_plugins = ["servers"]


@pytest.fixture
def env(clickhouse_target: Credentials, tmp_path: Path) -> dict[str, str]:
    project = tmp_path / "project"
    (project / "models").mkdir(parents=True)
    (project / "models" / "slow.sql").write_text(MODEL)
    (project / "dbt_project.yml").write_text(yaml.safe_dump({"name": "shop", "version": "1.0.0", "profile": "shop"}))
    output = {"type": "clickhouse", "schema": clickhouse_target.schema, "threads": 1, **clickhouse_target.fields}
    (project / "profiles.yml").write_text(yaml.safe_dump({"shop": {"target": "dev", "outputs": {"dev": output}}}))
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("SLUICE_", "DBT_"))}
    return clean | {
        "DBT_PROJECT_DIR": str(project), "SLUICE_STATE_DIR": str(tmp_path / "state"), "SLUICE_LOG_DIR": str(tmp_path / "logs"),
    }  # fmt: skip


def run(env: dict[str, str], *flags: str) -> subprocess.Popen:
    plan = subprocess.run(
        [ROOT / "bin/plan-batches", "--to", "2024-04-30", *flags], env=env, capture_output=True, timeout=120
    )
    assert plan.returncode == 0, plan.stderr.decode()
    with tempfile.TemporaryFile() as planned:
        planned.write(plan.stdout)
        planned.seek(0)
        return subprocess.Popen(
            [ROOT / "bin/run-dbt-batch"], env=env, stdin=planned, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )


def killed_in_mid_insert(runner: subprocess.Popen, watch: Warehouse, dice: random.Random) -> bool:
    """Whether all of its processes were killed while an INSERT ran; False when it was done before."""
    while runner.poll() is None and not watch.value(RUNNING):
        time.sleep(0.02)
    time.sleep(dice.uniform(0, 0.8))
    if runner.poll() is not None:
        return False
    for victim in reversed(processes_below(runner.pid)) if dice.random() < 0.5 else processes_below(runner.pid)[:1]:
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return True


def test_killed_over_and_over_every_row_is_there_once(env: dict[str, str], clickhouse_target: Credentials) -> None:
    dice = random.Random(f"{SEED} kills")
    kills = seen = 0
    flags: tuple[str, ...] = ("--incremental-only",)
    with connect(clickhouse_target, tag="watch") as watch:
        table = watch.relation(None, clickhouse_target.schema, "slow")
        for _ in range(many(2, 20)):
            runner = run(env, *flags)
            kills += killed_in_mid_insert(runner, watch, dice)
            runner.communicate(timeout=120)
            if (Path(env["SLUICE_STATE_DIR"]) / "state.sqlite").exists():
                flags = ("--resume",)
            seen += watch.value(f"select count() % {ROWS} > 0 from {table}") if exists(watch, clickhouse_target) else 0
        runner = run(env, *flags)
        out, err = runner.communicate(timeout=300)
        assert runner.returncode == 0, err.decode()
        assert all(result["status"] == "ok" for result in results(out))
        found = watch.rows(f"select day, count(), uniqExact(n) from {table} group by day order by day")
    assert [row[1:] for row in found] == [(ROWS, ROWS)] * MONTHS
    figure("kills in mid-insert on ClickHouse", kills=kills, left_a_part=seen, rows_lost=0, rows_doubled=0)


def exists(watch: Warehouse, target: Credentials) -> bool:
    named = {"schema": target.schema}
    return bool(watch.value("select count() from system.tables where database = $schema and name = 'slow'", named))
