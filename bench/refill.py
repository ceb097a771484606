"""Claim: a refill of one month over the bundled cohort takes at most 1.3 times the SQL time of its statements.

On a real ClickHouse: the whole pipe, plan to last wave, with OPTIMIZE and canary, against the time that the server itself
spent on the statements of that time, by its query_log (what ran side by side counts once).

    bench/refill.py [SAMPLE_SCALE...]      1 is the bundled sample's usual size; by default it and one whose SQL takes a minute

The sample begins half a year ago: a month's refill costs what it does with a longer one, the builds around it a tenth.
"""

import subprocess
import sys
import tempfile
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import measure
from measure import ROOT, write

sys.path.insert(0, str(ROOT / "lib"))
from sluice.clickhouse_server import ClickHouseServer

TODAY = date.today()
SINCE = max(TODAY.replace(day=1), TODAY - timedelta(10))  # one month is touched
GAP = ["--from-date", SINCE.isoformat(), "--buffer-days", "0", "--consumers", "int_prices_daily+"]
PIPE = "run-dbt-batch | optimize-partitions | canary-check"


def main() -> None:
    figures = {"sample scale": [], "batches": [], "statements": [], "SQL, s": [], "refill, s": [], "around it, s": [],
               "refill ÷ SQL": [], "relations equal to a rebuild": []}  # fmt: skip
    for scale in sys.argv[1:] or ["1", "80"]:
        for column, value in zip(figures.values(), [scale, *measured(scale)], strict=True):
            column.append(str(value))
    told = {what: ", ".join(values) for what, values in figures.items()}
    for what, value in told.items():
        print(f"{what:32} {value}", file=sys.stderr)
    write("refill", "A refill, and the SQL in it", (__doc__ or "").split("\n\n")[0], told)


def measured(scale: str) -> tuple[int, int, float, float, float, float, int]:
    """The figures of one refill."""
    with tempfile.TemporaryDirectory() as folder, ClickHouseServer(Path(folder, "server")) as server:
        env = environment(server, Path(folder))
        dbt(env, folder, "run-operation", "make_sample_data", "--args", f"{{sample_scale: {scale}, market: false}}",
            "--vars", f"{{sample_start: {TODAY - timedelta(180)}}}")  # fmt: skip
        dbt(env, folder, "run", "--full-refresh", "--exclude", "tag:market")
        subprocess.run([ROOT / "bin/plan-refill", *GAP, "--dry-run"], env=env, check=True, stdout=subprocess.DEVNULL)
        began, since = time.monotonic(), datetime.now(UTC)
        planner = subprocess.Popen([ROOT / "bin/plan-refill", *GAP], env=env, stdout=subprocess.PIPE)
        waves = subprocess.run(
            [ROOT / "bin/each-wave", PIPE], env=env, stdin=planner.stdout, stdout=subprocess.PIPE, check=True
        )
        wall_s = time.monotonic() - began
        sql_s, statements = sql_time(server, since)
        batches = waves.stdout.count(b'"type":"batch_result"')
        equal = left_as_a_rebuild(server, env, folder)
    seconds = (round(one, 2) for one in (sql_s, wall_s, wall_s - sql_s, wall_s / sql_s))
    return batches, statements, *seconds, equal  # type: ignore[return-value]


def environment(server: ClickHouseServer, folder: Path) -> dict[str, str]:
    host, _, port = server.url.rpartition("//")[2].rstrip("/").partition(":")
    warehouse = {name: ROOT / "warehouse" for name in ("DBT_PROJECT_DIR", "DBT_PROFILES_DIR")}
    return measure.environment(folder, **warehouse, DBT_TARGET="clickhouse", SLUICE_CH_HOST=host, SLUICE_CH_PORT=port)


def dbt(env: dict[str, str], folder: str, *arguments: str) -> None:
    subprocess.run(
        [ROOT / ".venv/bin/dbt", "--quiet", *arguments, "--target-path", f"{folder}/target", "--log-path", f"{folder}/dbt"],
        env=env, check=True, cwd=ROOT / "warehouse",
    )  # fmt: skip


def sql_time(server: ClickHouseServer, since: datetime) -> tuple[float, int]:
    """Seconds in which at least one statement ran, and how many there were."""
    server.query("system flush logs")
    rows = server.query(
        "select toUnixTimestamp64Micro(query_start_time_microseconds), query_duration_ms * 1000 from system.query_log"
        f" where type = 'QueryFinish' and query_start_time_microseconds >= '{since:%Y-%m-%d %H:%M:%S.%f}'"
        " and is_initial_query and query not ilike 'system flush%' order by 1"
    )  # fmt: skip
    total = end = count = 0
    for line in rows.splitlines():
        start, length = map(int, line.split("\t"))
        total += max(0, start + length - max(start, end))
        end, count = max(end, start + length), count + 1
    return total / 1e6, count


def left_as_a_rebuild(server: ClickHouseServer, env: dict[str, str], folder: str) -> int:
    """How many relations there are; raises AssertionError when one is not what a rebuild leaves."""
    left = hashes(server)
    dbt(env, folder, "run", "--full-refresh", "--exclude", "tag:market")
    rebuilt = hashes(server)
    assert rebuilt == left, [name for name in left if left[name] != rebuilt.get(name)]
    return len(left)


def hashes(server: ClickHouseServer) -> dict[str, str]:
    names = server.query("show tables from analytics").split()
    return {
        name: server.query(f"select count(), sum(cityHash64(*)) from analytics.{name} {'final' if name.startswith('int_') else ''}")
        for name in names
        if not name.startswith("sluice_")
    }  # fmt: skip


if __name__ == "__main__":
    main()
