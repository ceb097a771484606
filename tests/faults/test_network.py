"""A network that fails between a run and its warehouse, or its state: the tables end as an undisturbed run leaves them.

A proxy cuts, resets, silences or slices at offsets from the first byte to the last, and in place of the answers to
statements that write. The models append, so a batch that was sent twice, or taken for done when it was not, would show.
"""

import random
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import msgspec
import pytest
from faults.appending import Appending
from faults.forks import Commands
from lengths import SEED, figure, many
from proxy import Proxy
from servers import Postgres

from sluice.clickhouse_server import ClickHouseServer
from sluice.profiles import Credentials

pytest_plugins = ["servers"]

FAULTS = ("cut", "reset", "stall", "slice")
SCHEMA = "network"
PLAN = ["--to", "2024-03-31"]
PLACES = many(2, 20)


@dataclass
class Line:
    """A project on one target, and the proxy on the way to it, or to its state."""

    shop: Appending
    proxy: Proxy

    def run(self, plan: bytes, fault: str = "", **where: int) -> subprocess.CompletedProcess[bytes]:
        """A plan that was made over a network that works, over one that fails."""
        self.proxy.arm(fault, **where)
        try:
            return self.shop.run(plan)
        finally:
            self.passed, self.writes, self.struck = self.proxy.passed, self.proxy.writes, self.proxy.struck
            self.proxy.arm("")


@pytest.mark.sized
@pytest.mark.parametrize("fault", [FAULTS[0], *(pytest.param(fault, marks=pytest.mark.long) for fault in FAULTS[1:])])
def test_to_postgres(fault: str, postgres: Postgres, commands: Commands, tmp_path: Path) -> None:
    with Proxy(postgres.port) as proxy:
        shop = Appending(on_postgres(postgres), tmp_path, commands, proxy.port)
        ends_in_the_same_tables(Line(shop, proxy), fault, "postgres")


@pytest.mark.parametrize("fault", FAULTS)
def test_to_clickhouse(fault: str, clickhouse: ClickHouseServer, commands: Commands, tmp_path: Path) -> None:
    clickhouse.query(f"CREATE DATABASE IF NOT EXISTS {SCHEMA}")
    fields = {"host": "127.0.0.1", "port": clickhouse.http_port, "user": "default", "password": ""}
    target = Credentials("clickhouse", "shop", "dev", None, SCHEMA, fields=fields)
    with Proxy(clickhouse.http_port) as proxy:
        shop = Appending(target, tmp_path, commands, proxy.port)
        ends_in_the_same_tables(Line(shop, proxy), fault, "clickhouse")


@pytest.mark.parametrize("fault", FAULTS)
def test_to_the_state_on_postgres(fault: str, postgres: Postgres, commands: Commands, tmp_path: Path) -> None:
    with Proxy(postgres.port) as proxy:
        url = f"postgresql://test:unasked@127.0.0.1:{proxy.port}/postgres?sslmode=disable"
        shop = Appending(on_postgres(postgres), tmp_path, commands, state_url=url)
        ends_in_the_same_tables(Line(shop, proxy), fault, "state on postgres")


def on_postgres(postgres: Postgres) -> Credentials:
    postgres.query(f"create schema if not exists {SCHEMA}")
    return Credentials("postgres", "shop", "dev", "postgres", SCHEMA, fields=postgres.fields)


def ends_in_the_same_tables(line: Line, fault: str, way: str) -> None:
    line.shop.begin(f"{fault}_whole")
    plan = line.shop.planned(*PLAN)
    whole = line.run(plan)
    assert whole.returncode == 0, whole.stderr.decode()
    assert line.shop.judged() == []
    exits: Counter[int] = Counter()
    for number, where in enumerate(islice(places(line, random.Random(f"{SEED} {way} {fault}")), 2 * PLACES)):
        line.shop.begin(f"{fault}_{number}")
        run = line.run(plan, fault, **where)
        said = (where, run.returncode, run.stderr.decode())
        allowed = (0,) if fault == "slice" or not line.struck else (0, 1, 69)
        assert run.returncode in allowed, said
        exits.update([run.returncode] * line.struck)
        assert b"Traceback" not in run.stderr, said
        told = [msgspec.json.decode(record) for record in run.stdout.splitlines()]
        assert {record["status"] for record in told if record["type"] == "batch_result"} <= {"ok", "failed", "skipped"}
        if run.returncode != 0:
            again = line.run(line.shop.planned(*(["--resume"] if line.shop.has_begun() else PLAN)))
            assert again.returncode == 0, (*said, again.stderr.decode())
        assert line.shop.judged() == [], said
        if exits.total() == PLACES:
            break
    assert exits.total() == PLACES, exits
    figure("network faults", way=way, fault=fault, places=PLACES, exits=dict(exits), wrong_tables=0)


def places(line: Line, chance: random.Random) -> Iterator[dict[str, int]]:
    """Where to strike, half of PLACES in place of the answers to statements that write, then at bytes, without end.

    A slow run says more, for it renews its lease at intervals: another may be over before it comes to such a place.
    """
    passed, writes = line.passed, line.writes
    for number in chance.sample(range(1, writes + 1), min(writes, PLACES // 2)):
        yield {"write": number}
    while True:
        yield {"byte": chance.randrange(passed)}
