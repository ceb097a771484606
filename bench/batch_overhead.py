"""Claim: a batch costs at most 60 ms around its SQL, and at least 50 times less than a `dbt run` of its own.

Three contenders, one run, the bundled warehouse on DuckDB:
  sluice    plan-batches | run-dbt-batch, all batches, per batch from one result to the next
  raw SQL   the very statements that dbt sent, replayed on one connection
  dbt run   a process per batch, for the first batches
All three must leave the same tables, else nothing is written.
"""

import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import duckdb
import measure
import msgspec
from measure import ROOT, write

COMPARED = "int_transfers_daily"  # the model with which `dbt run` per batch is compared
DBT_BATCHES = 8
STATEMENT = re.compile(
    r"^\d\d:\d\d:\d\d\.\d{3} \w+ +On model\.\S+: (.*?)(?=^\d\d:\d\d:\d\d\.\d{3} )", re.MULTILINE | re.DOTALL
)
WAREHOUSE = ROOT / "warehouse"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        source = work / "source.duckdb"
        dbt(source, work, "run-operation", "make_sample_data")
        create_schema(source)
        results = run_sluice(copy(source, work / "sluice"), work)
        replay(copy(source, work / "raw"), results)
        compared = [r for r in results if r["model"].endswith(f".{COMPARED}")][:DBT_BATCHES]
        dbt_per_batch(copy(source, work / "dbt"), work, compared)
        assert_equal(work / "sluice" / "source.duckdb", work / "raw" / "source.duckdb")
        assert_equal(
            work / "sluice" / "source.duckdb",
            work / "dbt" / "source.duckdb",
            only=COMPARED,
            until=compared[-1]["window"]["end"],
        )

    def median_ms(key: str, among: list[dict]) -> float:
        return round(statistics.median(result[key] for result in among) * 1000, 1)

    for result in results:
        result["around_s"] = result["wall_s"] - result["raw_s"]
    for result in compared:
        result["dbt_around_s"] = result["dbt_s"] - result["raw_s"]
    figures = {
        "batches": len(results),
        "sluice, around the SQL, median ms": median_ms("around_s", results),
        "sluice, around the SQL, 95th percentile ms": round(
            statistics.quantiles((r["around_s"] for r in results), n=20)[-1] * 1000, 1
        ),
        "sluice, whole batch, median ms": median_ms("wall_s", results),
        "raw SQL on one connection, median ms": median_ms("raw_s", results),
        f"dbt run per batch ({len(compared)} batches), median ms": median_ms("dbt_s", compared),
        "dbt run ÷ sluice, whole batch": round(median_ms("dbt_s", compared) / median_ms("wall_s", compared), 1),
        "dbt run ÷ sluice, around the SQL": round(
            median_ms("dbt_around_s", compared) / median_ms("around_s", compared), 1
        ),
        "sluice, whole pipe with start-up, s": round(results[-1]["pipe_s"], 1),
    }
    for what, value in figures.items():
        print(f"{what:48} {value}", file=sys.stderr)
    write("batch_overhead", "What a batch costs around its SQL", (__doc__ or "").split("\n\n")[0], figures)


def environment(database: Path, work: Path) -> dict[str, str]:
    return measure.environment(work, SLUICE_DUCKDB_PATH=database, DBT_PROJECT_DIR=WAREHOUSE, DBT_PROFILES_DIR=WAREHOUSE)


def dbt(database: Path, work: Path, *arguments: str) -> None:
    command = [ROOT / ".venv/bin/dbt", *arguments, "--target-path", work / "target", "--log-path", work / "dbt-logs"]
    subprocess.run(command, env=environment(database, work), check=True, stdout=subprocess.DEVNULL, cwd=WAREHOUSE)


def create_schema(database: Path) -> None:
    """Where the models go, for the contender that has no dbt to make it."""
    with duckdb.connect(str(database)) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS analytics")


def copy(source: Path, folder: Path) -> Path:
    """A copy of its own, under the same name: the catalogue's name is in every statement."""
    folder.mkdir()
    return Path(shutil.copy(source, folder / source.name))


def run_sluice(database: Path, work: Path) -> list[dict]:
    """The results of all batches with `wall_s`, from the result before (the first: its own duration) to its own."""
    env = environment(database, work)
    subprocess.run([ROOT / "bin/plan-batches"], env=env, check=True, stdout=subprocess.DEVNULL)  # dbt's parse, once
    began = time.monotonic()
    planner = subprocess.Popen([ROOT / "bin/plan-batches"], env=env, stdout=subprocess.PIPE)
    runner = subprocess.run(
        [ROOT / "bin/run-dbt-batch"], env=env, stdin=planner.stdout, stdout=subprocess.PIPE, check=True
    )
    pipe_s = time.monotonic() - began
    results = [r for r in map(msgspec.json.decode, runner.stdout.splitlines()) if r["type"] == "batch_result"]
    before = None
    for result in results:
        at = datetime.fromisoformat(result["at"])
        result["wall_s"] = (at - before).total_seconds() if before else result["duration_s"]
        result["pipe_s"] = pipe_s
        before = at
    return results


def replay(database: Path, results: list[dict]) -> None:
    """Adds `raw_s`: what the statements of a batch take on one open connection, without what is Sluice's or dbt's own."""
    with duckdb.connect(str(database), config={"memory_limit": "2GB"}) as connection:
        for result in results:
            sent = [
                sql.strip()
                for sql in STATEMENT.findall(Path(result["log_path"]).read_text())
                if not is_bookkeeping(sql)
            ]
            # dbt logs each COMMIT twice
            statements = [
                sql for sql, before in zip(sent, ["", *sent], strict=False) if (sql, before) != ("COMMIT", "COMMIT")
            ]
            assert statements, f"no statement in {result['log_path']}"
            began = time.monotonic()
            for sql in statements:
                connection.execute(sql)
            result["raw_s"] = time.monotonic() - began


def is_bookkeeping(sql: str) -> bool:
    """Questions to the catalogue, the marker that commits with the rows, and a note that a connection was closed."""
    return (
        sql.strip() == "Close"
        or "sluice_commit" in sql
        or "(describe " in sql
        or "information_schema" in sql
        or "duckdb_" in sql
    )


def dbt_per_batch(database: Path, work: Path, results: list[dict]) -> None:
    """Adds `dbt_s`: the same batches, a `dbt run` each."""
    for result in results:
        months = {"start_month": result["window"]["start"], "end_month": last_month(result["window"]["end"])}
        name = result["model"].rsplit(".", 1)[-1]
        began = time.monotonic()
        flags = ["--full-refresh"] if result is results[0] else []
        dbt(database, work, "run", "--select", name, "--vars", msgspec.json.encode(months).decode(), *flags)
        result["dbt_s"] = time.monotonic() - began


def last_month(end: str) -> str:
    year, month, _ = map(int, end.split("-"))
    return f"{year - (month == 1):04}-{(month - 2) % 12 + 1:02}-01"


def assert_equal(one: Path, other: Path, *, only: str | None = None, until: str | None = None) -> None:
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"ATTACH '{one}' AS one (READ_ONLY); ATTACH '{other}' AS other (READ_ONLY)")
        tables = connection.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_catalog = 'one' AND table_schema = 'analytics' "
            "AND table_type = 'BASE TABLE' AND table_name <> 'sluice_commit'"
        ).fetchall()
        for (table,) in tables:
            if only in (None, table):
                mine = f"SELECT * FROM one.analytics.{table}" + (f" WHERE day < '{until}'" if until else "")
                difference = connection.execute(
                    f"SELECT count(*) FROM (({mine} EXCEPT ALL SELECT * FROM other.analytics.{table}) UNION ALL "
                    f"(SELECT * FROM other.analytics.{table} EXCEPT ALL {mine}))"
                ).fetchone()
                assert difference == (0,), f"{table} differs in {difference} rows"


if __name__ == "__main__":
    main()
