"""Claim: `--workers 2` is at least 1.7 times as fast as one worker on Postgres and ClickHouse, and leaves the same tables.

The statements are light on the processor: each sleeps in the server as one does that waits for a disk or a network, and
then makes a few rows. Four models that do not depend on each other, month by month. What is compared is the time from the first
batch's beginning to the last one's end; that of the whole command, with dbt's start in it, stands beside it.

    bench/workers.py [MONTHS] [NAP_S] [ROUNDS]
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from statistics import median

from measure import ROOT, environment, write

sys.path[:0] = [str(ROOT / "lib"), str(ROOT / "tests")]
from servers import Postgres  # noqa: E402

from sluice.clickhouse_server import ClickHouseServer  # noqa: E402
from sluice.profiles import Credentials  # noqa: E402
from sluice.warehouse import connect  # noqa: E402

MODELS = ("m1", "m2", "m3", "m4")
SQL = {
    "postgres": "select date '{{ month }}' as month, n from generate_series(1, 100) as n, pg_sleep(%s) as nap",
    "clickhouse": "select toDate('{{ month }}') as month, number as n from (select number from numbers(100)) as numbers"
    " cross join (select sleep(%s) as slept) as nap",
}
CONFIG = (
    "{{ config(materialized='incremental', incremental_strategy='append', meta={'full_refresh':"
    " {'start_date': '2020-01-01', 'batch_months': 1}}) }}\n{% set month = var('start_month', '2020-01-01') %}\n"
)


def main() -> None:
    months, nap_s, rounds = (float(text) for text in [*sys.argv[1:], *["6", "2", "1"][len(sys.argv) - 1 :]])
    figures: dict[str, float | int | str] = {
        "batches": len(MODELS) * int(months),
        "a statement sleeps, s": nap_s,
        "rounds, of each the median": int(rounds),
    }
    with tempfile.TemporaryDirectory() as folder, ClickHouseServer(Path(folder, "server")) as clickhouse:
        host, _, port = clickhouse.url.rpartition("//")[2].rstrip("/").partition(":")
        postgres = Postgres()
        try:
            fields = {"host": host, "port": int(port), "user": "default", "password": ""}
            for server in (
                Credentials("postgres", "shop", "postgres", "postgres", "bench", fields=postgres.fields),
                Credentials("clickhouse", "shop", "clickhouse", None, "bench", fields=fields),
            ):
                figures |= compared(Path(folder, server.adapter), server, int(months), nap_s, int(rounds))
        finally:
            postgres.stop()
    figures["load of the machine meanwhile (1, 5, 15 min)"] = " ".join(f"{load:.1f}" for load in os.getloadavg())
    for what, value in figures.items():
        print(f"{what:48} {value}", file=sys.stderr)
    write("workers", "Two workers against one", (__doc__ or "").rpartition("\n\n")[0], figures)


def compared(folder: Path, server: Credentials, months: int, nap_s: float, rounds: int) -> dict[str, float]:
    """The figures of one server. Raises AssertionError when the tables are not equal."""
    batches_s: dict[int, list[float]] = {1: [], 2: []}
    command_s: dict[int, list[float]] = {1: [], 2: []}
    left = []
    for number in range(rounds):
        for workers in (1, 2):
            name = f"{server.schema}_{workers}_{number}"
            env = project(folder / name, server, name, nap_s)
            in_batches, in_all = run(env, months, workers)
            batches_s[workers].append(in_batches)
            command_s[workers].append(in_all)
            left.append(tables(server, name))
    assert all(one == left[0] for one in left)
    assert all(len(rows) == 100 * months for rows in left[0].values())
    one, two = median(batches_s[1]), median(batches_s[2])
    return {
        f"{server.adapter}: one worker, s": round(one, 2),
        f"{server.adapter}: two workers, s": round(two, 2),
        f"{server.adapter}: one ÷ two": round(one / two, 2),
        f"{server.adapter}: one ÷ two, whole command": round(median(command_s[1]) / median(command_s[2]), 2),
        f"{server.adapter}: tables equal": len(left[0]),
    }


def project(folder: Path, server: Credentials, schema: str, nap_s: float) -> dict[str, str]:
    (folder / "models").mkdir(parents=True)
    for model in MODELS:
        (folder / "models" / f"{model}.sql").write_text(CONFIG + SQL[server.adapter] % nap_s)
    (folder / "dbt_project.yml").write_text("name: shop\nversion: '1.0.0'\nprofile: shop\n")
    place = {"dbname": server.database} if server.adapter == "postgres" else {}
    output = {"type": server.adapter, "schema": schema, "threads": 1, **place, **server.fields}
    (folder / "profiles.yml").write_text(json.dumps({"shop": {"target": "dev", "outputs": {"dev": output}}}))
    return environment(folder, DBT_PROJECT_DIR=folder)


def run(env: dict[str, str], months: int, workers: int) -> tuple[float, float]:
    """Seconds from the first batch's beginning to the last one's end, and of the whole command."""
    last = f"{2020 + (months - 1) // 12}-{(months - 1) % 12 + 1:02}-28"
    plan = subprocess.run([ROOT / "bin/plan-batches", "--to", last], env=env, check=True, stdout=subprocess.PIPE).stdout
    began = time.monotonic()
    out = subprocess.run(
        [ROOT / "bin/run-dbt-batch", "--workers", str(workers)], env=env, input=plan, check=True, stdout=subprocess.PIPE
    ).stdout
    whole_s = time.monotonic() - began
    results = [record for record in map(json.loads, out.splitlines()) if record["type"] == "batch_result"]
    assert [result["status"] for result in results] == ["ok"] * (len(MODELS) * months)
    times = {name: [datetime.fromisoformat(result[name]) for result in results] for name in ("began_at", "ended_at")}
    return (max(times["ended_at"]) - min(times["began_at"])).total_seconds(), whole_s


def tables(server: Credentials, schema: str) -> dict[str, list]:
    with connect(server, tag="look") as connection:
        return {
            name: sorted(connection.rows(f"select * from {connection.relation(None, schema, name)}")) for name in MODELS
        }


if __name__ == "__main__":
    main()
