"""A project whose models can run two at a time, on a server: two that wait for nobody, one that reads both, one cumulative."""

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import yaml
from faults.appending import own_environment

from sluice.dbt_engine.loader_process import Lender
from sluice.profiles import Credentials
from sluice.warehouse import connect

ROOT = Path(__file__).resolve().parents[1]
TABLES = ("left_one", "right_one", "both", "so_far")
MONTHS = 3
CONFIG = (
    "{{ config(materialized='incremental', incremental_strategy='append', meta={'full_refresh':"
    " {'start_date': '2024-01-01', 'batch_months': 1}}) }}\n{% set month = var('start_month', '2024-01-01') %}\n"
)
NAP = {
    "postgres": "(select 1 as slept from pg_sleep({nap_s})) nap",
    "clickhouse": "(select sleep({nap_s}) + 1 as slept) nap",
}


def models(adapter: str, nap_s: float) -> dict[str, str]:
    nap = NAP[adapter].format(nap_s=nap_s)
    numbers = {"postgres": "generate_series(1, 50) as n", "clickhouse": "(select number as n from numbers(1, 50)) as n"}
    number = {"postgres": "n", "clickhouse": "n.n"}[adapter]
    source = f"select '{{{{ month }}}}' as month, {number} as amount from {numbers[adapter]} cross join {nap}"
    return {
        "left_one": CONFIG + source,
        "right_one": CONFIG + source.replace("as amount", "* 2 as amount"),
        "both": CONFIG
        + "select l.month as month, sum(l.amount) as total, count(*) as pairs from {{ ref('left_one') }} l"
        + " join {{ ref('right_one') }} r on r.month = l.month and r.amount = 2 * l.amount"
        + f" cross join {nap} where l.month = '{{{{ month }}}}' group by l.month",
        "so_far": CONFIG + "select '{{ month }}' as month, 1"
        " {% if is_incremental() %} + (select max(months) from {{ this }}){% endif %} as months from " + nap,
    }


def make(folder: Path, server: Credentials, *, nap_s: float = 0.2, lender: Lender | None = None) -> dict[str, str]:
    """Write the project, and return the environment in which the commands work on it, with the dbt of `lender` if `start` passes it on."""
    (folder / "models").mkdir(parents=True)
    for name, sql in models(server.adapter, nap_s).items():
        (folder / "models" / f"{name}.sql").write_text(sql)
    (folder / "dbt_project.yml").write_text(yaml.safe_dump({"name": "shop", "version": "1.0.0", "profile": "shop"}))
    place = {"dbname": server.database} if server.adapter == "postgres" else {}
    output = {"type": server.adapter, "schema": server.schema, "threads": 1, **place, **server.fields}
    (folder / "profiles.yml").write_text(yaml.safe_dump({"shop": {"target": "dev", "outputs": {"dev": output}}}))
    return own_environment(lender) | {
        "DBT_PROJECT_DIR": str(folder), "SLUICE_STATE_DIR": str(folder / "state"), "SLUICE_LOG_DIR": str(folder / "logs"),
    }  # fmt: skip


def start(
    env: dict[str, str], *plan_flags: str, workers: int, lent: bool = False, pass_fds: Sequence[int] = ()
) -> subprocess.Popen:
    """The runner of what is planned, its plan in a file before it; `lent`: as a wave, whose loader is another's."""
    runner = [ROOT / "bin/run-dbt-batch", "--workers", str(workers)]
    plan = subprocess.run(
        [ROOT / "bin/plan-batches", "--to", f"2024-{MONTHS:02}-28", *plan_flags], env=env, capture_output=True, timeout=120
    )  # fmt: skip
    assert plan.returncode == 0, plan.stderr.decode()
    with tempfile.TemporaryFile() as planned:
        planned.write(plan.stdout)
        planned.seek(0)
        return subprocess.Popen(
            [ROOT / "bin/each-wave", f"run-dbt-batch --workers {workers}"] if lent else runner,
            env=env, stdin=planned, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=pass_fds,
        )  # fmt: skip


def results(lines: bytes) -> list[dict]:
    return [record for record in map(msgspec.json.decode, lines.splitlines()) if record["type"] == "batch_result"]


def tables(server: Credentials) -> dict[str, list]:
    """All rows of all models, sorted."""
    with connect(server, tag="look") as connection:
        return {
            name: sorted(connection.rows(f"select * from {connection.relation(None, server.schema, name)}"))
            for name in TABLES
        }
