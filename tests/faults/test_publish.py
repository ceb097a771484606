"""A real dbt refresh in months, cut off half way and resumed, under a reader in a loop: built aside he sees all or all, in place he does not."""

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from sluice.errors import SluiceError
from sluice.profiles import Credentials
from sluice.warehouse import connect

pytest_plugins = ["servers"]

ROOT = Path(__file__).resolve().parents[2]
ROWS = 8 * 50
EVENTS = """{{ config(materialized='incremental', incremental_strategy='append', engine='MergeTree()', order_by='day',
    meta={'full_refresh': {'start_date': '2024-01-01'}}) }}
select month, day, version from {{ target.schema }}.source_rows
where month >= '{{ var("start_month", "1970-01-01") }}' and month <= '{{ var("end_month", "2100-01-01") }}'
"""
TOTALS = "{{ config(materialized='view') }} select count(*) as n, min(version) as low, max(version) as high from {{ ref('events') }}"
QUERIES = ("select count(*), min(version), max(version) from {s}.events", "select n, low, high from {s}.totals")


class Project:
    """The two models on one target, and the source that they read."""

    def __init__(self, target: Credentials, folder: Path):
        if target.adapter == "duckdb":
            target = Credentials("duckdb", "shop", "dev", "shop", "main", fields={"path": target.fields["path"]})
        self.target = target
        fields = {**target.fields, "type": target.adapter, "schema": target.schema, "threads": 1}
        if target.adapter == "postgres":
            fields["dbname"] = target.database
        (folder / "models").mkdir()
        (folder / "models" / "events.sql").write_text(EVENTS)
        (folder / "models" / "totals.sql").write_text(TOTALS)
        (folder / "dbt_project.yml").write_text(
            "name: shop\nprofile: shop\nflags: {send_anonymous_usage_stats: false}\n"
        )
        (folder / "profiles.yml").write_text(yaml.safe_dump({"shop": {"target": "dev", "outputs": {"dev": fields}}}))
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("SLUICE_", "DBT_"))}
        self.environment = clean | {
            "DBT_PROJECT_DIR": str(folder), "DBT_PROFILES_DIR": str(folder), "SLUICE_STATE_DIR": str(folder / "state"),
            "SLUICE_LOG_DIR": str(folder / "logs"), "SLUICE_LOCK_WAIT_S": "60",
        }  # fmt: skip

    def fill(self, version: int) -> None:
        """Another version of the source: as many rows, every one of them different."""
        engine = {"clickhouse": " engine = MergeTree order by tuple()"}.get(self.target.adapter, "")
        table = f"{self.target.schema}.source_rows"
        days = ", ".join(
            f"('2024-{month:02}-01', '2024-{month:02}-{day % 28 + 1:02}', {version})"
            for month in range(1, 9) for day in range(50)
        )  # fmt: skip
        with connect(self.target, tag="test", lock_wait_s=30) as warehouse:
            warehouse.execute(f"drop table if exists {table}")
            warehouse.execute(f"create table {table} (month date, day date, version int){engine}")
            warehouse.execute(f"insert into {table} values {days}")

    def run(self, *command: str, given: bytes = b"") -> bytes:
        done = subprocess.run(
            [ROOT / "bin" / command[0], *command[1:]],
            env=self.environment,
            input=given,
            capture_output=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def half(self, plan: bytes) -> None:
        """Run three batches, and be stopped."""
        with tempfile.TemporaryFile() as planned:
            planned.write(plan)
            planned.seek(0)
            runner = subprocess.Popen(
                [ROOT / "bin/run-dbt-batch"], env=self.environment, stdin=planned, stdout=subprocess.PIPE
            )
            assert runner.stdout
            seen = 0
            while seen < 3:
                seen += b'"batch_result"' in runner.stdout.readline()
            runner.terminate()
            runner.communicate()

    def refresh(self, *flags: str) -> None:
        self.half(self.run("plan-batches", "--to", "2024-08-31", *flags))
        time.sleep(0.5)  # as long as a person needs to resume it, and more
        records = self.run("plan-batches", "--resume")
        for command in ("run-dbt-batch", "canary-check", "publish-tables"):
            records = self.run(command, given=records)


@contextmanager
def reading(project: Project) -> Iterator[set]:
    """Whatever a reader in a loop ever saw; he waits when DuckDB's file is another process's."""
    seen: set = set()
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            try:
                with connect(project.target, tag="reader", read_only=True, lock_wait_s=60) as warehouse:
                    for _ in range(1 if project.target.adapter == "duckdb" else 20):
                        for sql in QUERIES:
                            try:
                                seen.update(warehouse.rows(sql.format(s=project.target.schema)))
                            except SluiceError as problem:
                                seen.add(problem.message[:200])
            except SluiceError as problem:
                seen.add(problem.message[:200])
            time.sleep(0.02)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield seen
    finally:
        time.sleep(0.3)
        stop.set()
        reader.join()


@pytest.fixture
def project(target: Credentials, tmp_path: Path) -> Project:
    return Project(target, tmp_path)


def test_readers_of_a_refresh_see_all_of_the_old_or_all_of_the_new_when_it_is_built_aside(project: Project):
    project.fill(1)
    records = project.run("plan-batches", "--to", "2024-08-31")
    project.run("run-dbt-batch", given=records)

    project.fill(2)
    with reading(project) as seen:
        project.refresh("--aside")
    assert seen == {(ROWS, 1, 1), (ROWS, 2, 2)}

    project.fill(3)
    with reading(project) as seen:
        project.refresh()
    assert (ROWS, 3, 3) in seen
    assert seen - {(ROWS, 2, 2), (ROWS, 3, 3)}, "in place readers saw no less"
