"""SIGINT and SIGTERM while a statement runs: it is gone from the server within three seconds, and nothing comes after it."""

import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import pytest
import yaml
from faults.appending import own_environment
from faults.forks import ROOT, Call, Commands
from lengths import SEED, figure, many

from sluice.dbt_engine.loader_process import Lender
from sluice.profiles import Credentials
from sluice.warehouse import connect

LIMIT_S = 3.0
SLEEP = {
    "postgres": "select date '2024-01-01' as day, 1 as n from pg_sleep(60)",
    "clickhouse": "select toDate('2024-01-01') as day, number as n from numbers(60000) where sleepEachRow(0.001) = 0"
    " settings max_block_size = 100",
}
RUNNING = {
    "postgres": "select count(*) from pg_stat_activity where query like '%pg_sleep(60)%' and pid <> pg_backend_pid()"
    " and state = 'active'",
    "clickhouse": "select count() from system.processes where query_kind = 'Insert' and query_id like 'sluice:%'",
}
CONFIG = (
    "{{ config(materialized='incremental', incremental_strategy='append', meta={'full_refresh':"
    " {'start_date': '2024-01-01', 'batch_months': 1}}) }}\n"
)

pytest_plugins = ["servers"]


@pytest.fixture(params=["postgres", pytest.param("clickhouse", marks=pytest.mark.long)])
def server(request: pytest.FixtureRequest) -> Credentials:
    return request.getfixturevalue(f"{request.param}_target")


@pytest.fixture
def env(server: Credentials, tmp_path: Path, lender: Lender) -> dict[str, str]:
    project = tmp_path / "project"
    (project / "models").mkdir(parents=True)
    (project / "models" / "slow.sql").write_text(CONFIG + SLEEP[server.adapter])
    (project / "dbt_project.yml").write_text(yaml.safe_dump({"name": "shop", "version": "1.0.0", "profile": "shop"}))
    place = {"dbname": server.database} if server.adapter == "postgres" else {}
    output = {"type": server.adapter, "schema": server.schema, "threads": 1, **place, **server.fields}
    (project / "profiles.yml").write_text(yaml.safe_dump({"shop": {"target": "dev", "outputs": {"dev": output}}}))
    return own_environment(lender) | {
        "DBT_PROJECT_DIR": str(project), "SLUICE_STATE_DIR": str(tmp_path / "state"), "SLUICE_LOG_DIR": str(tmp_path / "logs"),
    }  # fmt: skip


def until(true: Callable[[], object], limit_s: float) -> float:
    """Seconds until it is true. Fails when that takes longer than the limit."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < limit_s, f"not within {limit_s} s"
        time.sleep(0.02)
    return time.monotonic() - began


def stopped(
    runner: subprocess.Popen, signum: int, at_work: Callable[[], int], statements: int, wait_s: float
) -> tuple[float, bytes]:
    """Stop the runner so long after so many statements run; the seconds until none does, and what it wrote on stdout."""
    try:
        until(lambda: at_work() >= statements or runner.poll() is not None, 120)
        time.sleep(wait_s)
        runner.send_signal(signum)
        gone_s = until(lambda: not at_work(), 20)
        out, err = runner.communicate(timeout=60)
    finally:
        runner.kill()
    assert not at_work()
    assert runner.returncode == 128 + signum, err.decode()
    assert b"go on with: plan-batches --resume" in err
    assert b"Traceback" not in err
    return gone_s, out


@pytest.mark.sized
def test_a_stop_signal_ends_the_statement_and_the_run(
    server: Credentials, env: dict[str, str], commands: Commands
) -> None:
    """The dbt is one that the runner was lent, or, of one in ten, its own."""
    dice = random.Random(f"{SEED} {server.adapter}")
    took_s = []
    flags = ["--to", "2024-03-31", "--incremental-only"]
    for number in range(many(2, 100)):
        signum = (signal.SIGINT, signal.SIGTERM)[number % 2]
        plan = commands.run(Call(["plan-batches", *flags], env=env))
        assert plan.returncode == 0, plan.stderr.decode()
        flags = ["--resume"]
        with tempfile.TemporaryFile() as planned, connect(server, tag="watch") as watch:
            planned.write(plan.stdout)
            planned.seek(0)
            runner = subprocess.Popen(
                [ROOT / "bin/run-dbt-batch"], env=env, stdin=planned, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                pass_fds=commands.pass_fds if number % 20 > 1 else (),
            )  # fmt: skip
            at_work = partial(watch.value, RUNNING[server.adapter])
            gone_s, out = stopped(runner, signum, at_work, 1, dice.uniform(0, 0.3))
        took_s.append(gone_s)
        results = [record for record in map(msgspec.json.decode, out.splitlines()) if record["type"] == "batch_result"]
        assert [result["status"] for result in results] == ["cancelled"], "no further batch"
    with connect(server, tag="look") as watch:
        named = {"schema": server.schema, "name": "slow"}
        there = watch.value(
            "select count(*) from information_schema.tables where table_schema = $schema and table_name = $name", named
        )
        assert not there or watch.value(f"select count(*) from {watch.relation(None, server.schema, 'slow')}") == 0
    took_s.sort()
    slowest_s, p95_s = took_s[-1], took_s[int(len(took_s) * 0.95) - 1]
    figure(
        "stop signals",
        dialect=server.adapter,
        signals=len(took_s),
        slowest_s=round(slowest_s, 2),
        p95_s=round(p95_s, 2),
    )
    assert p95_s <= LIMIT_S
