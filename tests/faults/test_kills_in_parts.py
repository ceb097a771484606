"""Killed with -9 while a month that is too big runs in parts, and resumed each time: the rows of an unlimited run, once."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import duckdb
from lengths import SEED, figure, many
from test_fitting_on_engines import FILTER
from test_guards_on_engines import Shop, model

ROOT = Path(__file__).resolve().parents[2]
HEAVY = f"select symbol, day, count(distinct n) as n from {{{{ source('raw', 'entries') }}}} cross join range(40000) as r (n) {FILTER} group by all"
STAGES = [{"name": "ada", "vars": {"symbol": "ADA"}}, {"name": "dai", "vars": {"symbol": "DAI"}}]
DAYS, MOST = 61, 40000


def test_a_run_in_parts_that_is_killed_over_and_over_ends_in_the_same_rows(tmp_path: Path) -> None:
    path = tmp_path / "shop.duckdb"
    settings = "{memory_limit: 30MB, temp_directory: '', threads: 1, preserve_insertion_order: false}"
    # Appended without a key that would forgive a part that ran twice.
    sql = model(
        HEAVY, block={"start_date": "2024-03-01", "min_window": "day", "stages": STAGES}, incremental_strategy="append"
    )
    Shop(tmp_path, {"heavy": sql}, f"{{type: duckdb, path: {path}, schema: main, threads: 1, settings: {settings}}}")
    with duckdb.connect(str(path)) as connection:
        connection.execute("create schema raw")
        connection.execute(
            "create table raw.entries as select symbol, cast(d as date) as day from (values ('ADA'), ('DAI')) as s (symbol),"
            " generate_series(date '2024-03-01', date '2024-04-30', interval 1 day) as t (d)"
        )
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SLUICE_", "DBT_"))}
    env = clean | {
        "DBT_PROJECT_DIR": str(tmp_path), "DBT_PROFILES_DIR": str(tmp_path), "SLUICE_STATE_DIR": str(tmp_path / "state"),
        "SLUICE_LOG_DIR": str(tmp_path / "logs"),
    }  # fmt: skip
    chance, kills, wanted = random.Random(SEED), 0, many(3, 20)
    flags = ["--to", "2024-04-30"]
    for _ in range(wanted * 3):
        plan = subprocess.run([ROOT / "bin/plan-batches", *flags], env=env, capture_output=True, timeout=300)
        assert plan.returncode == 0, plan.stderr.decode()
        runner = subprocess.Popen(
            [ROOT / "bin/run-dbt-batch"], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        assert runner.stdin
        runner.stdin.write(plan.stdout)
        runner.stdin.close()
        runner.stdin = None
        if kills < wanted:
            _until_a_part_is_done(tmp_path, runner, chance.randint(1, 4))
            time.sleep(chance.uniform(0, 0.1))
            if runner.poll() is None:
                os.killpg(runner.pid, signal.SIGKILL)
                kills += 1
        _, err = runner.communicate(timeout=600)
        assert b"Traceback" not in err, err.decode()
        if runner.returncode == 0:
            break
        if (tmp_path / "state" / "state.sqlite").exists():
            flags = ["--resume"]
    assert runner.returncode == 0, err.decode()
    with duckdb.connect(str(path)) as connection:
        found = connection.execute(
            "select count(*), count(distinct (symbol, day)), min(n), max(n) from heavy"
        ).fetchone()
    assert found == (DAYS * 2, DAYS * 2, MOST, MOST)
    assert kills >= wanted // 2
    figure("kills in parts", kills=kills)


def _until_a_part_is_done(folder: Path, runner: subprocess.Popen, more: int) -> None:
    """Wait until so many more files of batches are there: dbt writes one for each."""
    before = len(list((folder / "logs").rglob("*heavy*.log")))
    while runner.poll() is None and len(list((folder / "logs").rglob("*heavy*.log"))) < before + more:
        time.sleep(0.02)
