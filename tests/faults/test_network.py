"""A network that fails between a run and its warehouse, or its state: the tables end as an undisturbed run leaves them.

A proxy cuts, resets, silences or slices at offsets from the first byte to the last, and in place of the answers to
statements that write. The models append, so a batch that was sent twice, or taken for done when it was not, would show.
"""

import os
import random
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
import yaml
from lengths import SEED, figure, many
from proxy import Proxy
from servers import Postgres

from sluice.clickhouse_server import ClickHouseServer
from sluice.dbt_engine.loader_process import Lender
from sluice.profiles import Credentials
from sluice.state import State
from sluice.warehouse import connect

pytest_plugins = ["servers"]

ROOT = Path(__file__).resolve().parents[2]
FAULTS = ("cut", "reset", "stall", "slice")
SCHEMA = "network"
MONTHS, ROWS = 3, 20
NUMBERS = {
    "postgres": "generate_series(1, 20) as numbers (n)",
    "clickhouse": "(select number as n from numbers(1, 20))",
}
CONFIG = (
    "materialized='incremental', incremental_strategy='append', meta={'full_refresh': {'start_date': '2024-01-01'}}"
)
MODELS = {
    "entries": "select cast('{{ var(\"start_month\", \"2024-01-01\") }}' as date) as day, n from {numbers}",
    "totals": "select day, sum(n) as n from {{ ref('entries') }} where day = cast('{{ var(\"start_month\", \"2024-01-01\") }}' as date) group by day",
}  # fmt: skip


@dataclass
class Line:
    """A project on one target, and the proxy on the way to it, or to its state."""

    target: Credentials  # without the proxy
    proxy: Proxy
    folder: Path
    lender: Lender
    state_url: str = ""  # through the proxy; else the state is a file

    def __post_init__(self) -> None:
        (self.folder / "models").mkdir()
        for name, sql in MODELS.items():
            text = sql.replace("{numbers}", NUMBERS[self.target.adapter])
            (self.folder / "models" / f"{name}.sql").write_text(f"{{{{ config({CONFIG}) }}}}\n{text}\n")
        (self.folder / "dbt_project.yml").write_text(
            "name: shop\nprofile: shop\nflags: {send_anonymous_usage_stats: false}\n"
        )
        place = {"dbname": self.target.database} if self.target.adapter == "postgres" else {}
        fields = {**self.target.fields, "type": self.target.adapter, "schema": SCHEMA, "threads": 1, **place}
        fields["port"] = fields["port"] if self.state_url else self.proxy.port
        (self.folder / "profiles.yml").write_text(
            yaml.safe_dump({"shop": {"target": "dev", "outputs": {"dev": fields}}})
        )

    def begin(self, name: str) -> None:
        """Nothing in the warehouse, and a state of its own."""
        with connect(self.target, tag="begin") as warehouse:
            for table in (*MODELS, "sluice_commit"):
                warehouse.execute(f"drop table if exists {warehouse.relation(None, SCHEMA, table)}")
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("SLUICE_", "DBT_"))}
        lent = {key: value for key, value in self.lender.environment.items() if key == "SLUICE_LENT_LOADER"}
        self.env = clean | lent | {
            "DBT_PROJECT_DIR": str(self.folder), "SLUICE_STATE_DIR": str(self.folder / name),
            "SLUICE_LOG_DIR": str(self.folder / "logs"), "SLUICE_STATE": self.state_url and f"{self.state_url}&schema={name}",
        }  # fmt: skip
        self.env = {key: value for key, value in self.env.items() if value}

    def state(self) -> State | None:
        return State.open_existing(self.env.get("SLUICE_STATE", f"sqlite:{self.env['SLUICE_STATE_DIR']}/state.sqlite"))

    def run(self, *flags: str, fault: str = "", **where: int) -> subprocess.CompletedProcess[bytes]:
        """Plan over a network that works, and run over one that fails."""
        plan = self._command("plan-batches", *flags)
        assert plan.returncode == 0, plan.stderr.decode()
        with tempfile.TemporaryFile() as planned:
            planned.write(plan.stdout)
            planned.seek(0)
            self.proxy.arm(fault, **where)
            try:
                return self._command("run-dbt-batch", stdin=planned)
            finally:
                self.passed, self.writes, self.struck = self.proxy.passed, self.proxy.writes, self.proxy.struck
                self.proxy.arm("")

    def _command(self, name: str, *flags: str, stdin=subprocess.DEVNULL) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [ROOT / "bin" / name, *flags], env=self.env, stdin=stdin, capture_output=True, timeout=180,
            pass_fds=self.lender.pass_fds,
        )  # fmt: skip

    def tables(self) -> dict[str, list[tuple]]:
        with connect(self.target, tag="look") as warehouse:
            return {
                name: warehouse.rows(f"select * from {warehouse.relation(None, SCHEMA, name)} order by day, n")
                for name in MODELS
            }


@pytest.fixture(scope="module")
def lender() -> Iterator[Lender]:
    """dbt is imported once for all runs."""
    with Lender() as lender:
        yield lender


@pytest.mark.parametrize("fault", [FAULTS[0], *(pytest.param(fault, marks=pytest.mark.long) for fault in FAULTS[1:])])
def test_to_postgres(fault: str, postgres: Postgres, lender: Lender, tmp_path: Path) -> None:
    with Proxy(postgres.port) as proxy:
        line = Line(on_postgres(postgres), proxy, tmp_path, lender)
        ends_in_the_same_tables(line, fault, "postgres")


@pytest.mark.parametrize("fault", FAULTS)
def test_to_clickhouse(fault: str, clickhouse: ClickHouseServer, lender: Lender, tmp_path: Path) -> None:
    clickhouse.query(f"CREATE DATABASE IF NOT EXISTS {SCHEMA}")
    fields = {"host": "127.0.0.1", "port": clickhouse.http_port, "user": "default", "password": ""}
    target = Credentials("clickhouse", "shop", "dev", None, SCHEMA, fields=fields)
    with Proxy(clickhouse.http_port) as proxy:
        ends_in_the_same_tables(Line(target, proxy, tmp_path, lender), fault, "clickhouse")


@pytest.mark.parametrize("fault", FAULTS)
def test_to_the_state_on_postgres(fault: str, postgres: Postgres, lender: Lender, tmp_path: Path) -> None:
    with Proxy(postgres.port) as proxy:
        url = f"postgresql://test:unasked@127.0.0.1:{proxy.port}/postgres?sslmode=disable"
        line = Line(on_postgres(postgres), proxy, tmp_path, lender, url)
        ends_in_the_same_tables(line, fault, "state on postgres")


def on_postgres(postgres: Postgres) -> Credentials:
    postgres.query(f"create schema if not exists {SCHEMA}")
    return Credentials("postgres", "shop", "dev", "postgres", SCHEMA, fields=postgres.fields)


def ends_in_the_same_tables(line: Line, fault: str, way: str) -> None:
    plan = ("--to", "2024-03-31")
    line.begin(f"{fault}_whole")
    whole = line.run(*plan)
    assert whole.returncode == 0, whole.stderr.decode()
    expected = line.tables()
    assert len(expected["entries"]) == MONTHS * ROWS and len(expected["totals"]) == MONTHS
    exits: Counter[int] = Counter()
    for number, where in enumerate(places(line, random.Random(f"{SEED} {way} {fault}"))):
        line.begin(f"{fault}_{number}")
        run = line.run(*plan, fault=fault, **where)
        said = (where, run.returncode, run.stderr.decode())
        assert line.struck, said
        assert run.returncode in ((0,) if fault == "slice" else (0, 1, 69)), said
        assert b"Traceback" not in run.stderr, said
        told = [msgspec.json.decode(record) for record in run.stdout.splitlines()]
        assert {record["status"] for record in told if record["type"] == "batch_result"} <= {"ok", "failed", "skipped"}
        exits[run.returncode] += 1
        if run.returncode != 0:
            state = line.state()
            again = line.run(*(["--resume"] if state is not None and state.runs() else plan))
            assert again.returncode == 0, (*said, again.stderr.decode())
        assert line.tables() == expected, said
    figure("network faults", way=way, fault=fault, places=exits.total(), exits=dict(exits), wrong_tables=0)


def places(line: Line, chance: random.Random) -> list[dict[str, int]]:
    """Where to strike: at bytes, and in place of the answers to statements that write, half and half."""
    writes = chance.sample(range(1, line.writes + 1), min(line.writes, many(1, 10)))
    offsets = chance.sample(range(line.passed), many(2, 20) - len(writes))
    return [{"write": number} for number in writes] + [{"byte": offset} for offset in offsets]
