"""Every script but the runner with work that would show if it were lost, or done twice: all of it in a folder that can be copied."""

import hashlib
import json
import subprocess
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import msgspec
from fake_debank import KEY as DEBANK_KEY
from fake_debank import FakeDebank, entry
from faults.forks import Call, Commands
from test_delivery import TOKEN, BotApi

from sluice.fake_exchange import KEY, SECRET, FakeExchange

STOCK = """{{ config(materialized='incremental', incremental_strategy='append', unique_key=['day', 'n'], meta={
    'full_refresh': {'start_date': '2024-01-01'}, 'checks': [{'check': 'no_duplicate', 'key': ['day', 'n']}]}) }}
select cast('{{ var("start_month", "2024-01-01") }}' as date) as day, n from range(1, 21) as numbers (n)
"""
FILES = {
    "models/stock.sql": STOCK,
    "models/broken.sql": "{{ config(materialized='table') }} select error('as it should') as n",
    "dbt_project.yml": "name: shop\nprofile: shop\nflags: {send_anonymous_usage_stats: false}\n",
    "profiles.yml": "shop: {target: dev, outputs: {dev: {type: duckdb, path: ../world/shop.duckdb, schema: main}}}\n",
}
COUNTED = "select count(*), count(distinct (day, n)), min(n) from main.stock"
TWICE = "insert into main.stock select * from main.stock where n < 10"
RIGHT = (40, 40, 1)
SCHEMA = {"id": {"type": "integer"}, "at": {"type": "string", "format": "date-time"}}
MESSAGES = [
    {"type": "SCHEMA", "stream": "t", "key_properties": ["id"], "bookmark_properties": ["at"], "schema": {"properties": SCHEMA}},
    *({"type": "RECORD", "stream": "t", "record": {"id": n, "at": f"2026-01-01T00:00:{n:02}Z"}} for n in range(50)),
    {"type": "STATE", "value": {"bookmarks": {"t": {"at": "2026-01-01T00:00:49Z"}}}},
]  # fmt: skip


@dataclass(frozen=True)
class World:
    """A folder with a database, a state and logs, and the project that all of them share."""

    folder: Path
    project: Path
    commands: Commands
    settings: dict[str, str] = field(default_factory=dict)

    def run(
        self, *command: str, given: bytes = b"", tracer: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[bytes]:
        own = {
            "DBT_PROJECT_DIR": str(self.project), "SLUICE_LOG_DIR": str(self.folder / "logs"),
            "SLUICE_STATE_DIR": str(self.project / "kept"), "SLUICE_STATE": f"sqlite:{self.folder}/state/state.sqlite",
        } | self.settings  # fmt: skip
        return self.commands.run(Call([*command], given, own, self.folder), tracer)

    def said(self, *command: str, given: bytes = b"") -> bytes:
        """What it says when all is well."""
        ended = self.run(*command, given=given)
        assert ended.returncode == 0, (command, ended.stderr.decode())
        return ended.stdout

    def planned(self, *flags: str) -> bytes:
        return self.said("plan-batches", "--to", "2024-02-29", *(flags or ("--select", "stock")))

    def refreshed(self, *flags: str) -> bytes:
        return self.said("run-dbt-batch", given=self.planned("--select", "stock", *flags))

    def query(self, sql: str) -> list[tuple]:
        with duckdb.connect(str(self.folder / "shop.duckdb")) as connection:
            return connection.execute(sql).fetchall()

    def files(self) -> dict[str, str]:
        """What is in the folder, but for logs: a digest of each."""
        found = (path for path in self.folder.rglob("*") if path.is_file() and "logs" not in path.parts)
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in found}

    def is_right(self) -> bool:
        return self.query(COUNTED) == [RIGHT]


@dataclass(frozen=True)
class Work:
    """A command and what it is given; with which code it ends when all is well, and what must hold then.

    `again` is what a person types after it was struck, the same once more by default; it says how that ended. `read` is
    what reads what it writes, as far as it came.
    """

    command: tuple[str, ...]
    given: bytes
    holds: Callable[[World], bool]
    ends: int = 0
    again: Callable[[World], int] | None = None
    read: Callable[[World, bytes], None] = lambda _world, _said: None
    settings: dict[str, str] = field(default_factory=dict)
    changes: bool = True


def plan_batches(world: World, _: ExitStack) -> Work:
    return _planning(world, 2, "plan-batches", "--to", "2024-02-29", "--select", "stock")


def plan_refill(world: World, _: ExitStack) -> Work:
    world.refreshed()
    return _planning(world, 1, "plan-refill", "--from-date", "2024-02-10", "--to", "2024-02-29", "--cohort", "stock")


def plan_daily(world: World, _: ExitStack) -> Work:
    """After a night that ended with its first model: that and the other are still to be run."""
    world.run("run-dbt-batch", given=world.said("plan-daily", "--select", "stock broken"))
    return _planning(world, 2, "plan-daily", "--select", "stock broken")


def _planning(world: World, batches: int, *command: str) -> Work:
    """A planner changes nothing, so what is planned after it is what would have been planned."""

    def planned(one: World) -> tuple[list[tuple], dict[str, str]]:
        found = [msgspec.json.decode(line) for line in one.said(*command).splitlines()]
        what = [(record["select"], record["vars"], record["window"]) for record in found if record["type"] == "batch"]
        return what, one.files()

    whole = planned(world)
    assert len(whole[0]) == batches, whole[0]
    return Work(command, b"", lambda one: planned(one) == whole, changes=False)


def each_wave(world: World, _: ExitStack) -> Work:
    def again(one: World) -> int:
        has_begun = one.said("sluice-state", "pending", "--json").count(b"\n") > 1
        return one.run("each-wave", "run-dbt-batch", given=one.planned(*["--resume"] * has_begun)).returncode

    return Work(("each-wave", "run-dbt-batch"), world.planned(), World.is_right, again=again)


def optimize_partitions(world: World, _: ExitStack) -> Work:
    results = world.refreshed()
    world.query(TWICE)
    return Work(("optimize-partitions",), results, World.is_right)


def canary_check(world: World, _: ExitStack) -> Work:
    world.refreshed()
    world.query(TWICE)
    command = ("canary-check", "--select", "stock", "--since", "2024-01-01", "--to", "2024-02-29")
    return Work(command, b"", lambda one: one.query(COUNTED) == [(58, 40, 1)], ends=3)


def publish_tables(world: World, _: ExitStack) -> Work:
    world.refreshed()
    world.query("update main.stock set n = -n")
    checked = world.said("canary-check", given=world.refreshed("--aside"))
    return Work(("publish-tables",), checked, World.is_right)


def sync_cursor(world: World, _: ExitStack) -> Work:
    def holds(one: World) -> bool:
        rows = one.query("select count(*), count(distinct id) from raw.t")
        return rows == [(50, 50)] and "00:00:49" in one.query("select last_sync_ts::varchar from raw.sync_log")[0][0]

    lines = "".join(json.dumps(message) + "\n" for message in MESSAGES)
    return Work(("sync-cursor", "load", "s"), lines.encode(), holds)


def notify(world: World, beside: ExitStack) -> Work:
    api = beside.enter_context(closing(BotApi()))
    failed = world.run("run-dbt-batch", given=world.planned("--select", "broken"))
    assert failed.returncode == 1
    settings = {"TELEGRAM_BOT_TOKEN": TOKEN, "TELEGRAM_CHAT_ID": "7", "SLUICE_TELEGRAM_API": api.url}
    settings |= {"SLUICE_STATE_DIR": str(world.folder / "own")}  # whom it has told is remembered there

    def holds(_: World) -> bool:
        told = len(api.texts)
        api.texts.clear()
        return told in (1, 2)  # twice when it died between the sending and the note that it had sent

    return Work(("notify",), failed.stdout, holds, ends=1, settings=settings)


def sluice_state(world: World, _: ExitStack) -> Work:
    world.run("run-dbt-batch", given=world.planned("--select", "broken"))
    run_id = msgspec.json.decode(world.said("sluice-state", "pending", "--json").splitlines()[0])["run_id"]

    def pending(one: World) -> int:
        return one.said("sluice-state", "pending", "--json").count(b"\n") - 1

    def again(one: World) -> int:
        return one.run("sluice-state", "discard", run_id).returncode if pending(one) else 0

    return Work(("sluice-state", "discard", run_id), b"", lambda one: pending(one) == 0, again=again)


def sluice_state_rebuild(world: World, _: ExitStack) -> Work:
    """Of a store that was cut in half. At no moment is there none, or an empty one that is taken for it."""
    world.run("run-dbt-batch", given=world.planned("--select", "broken"))
    world.refreshed()
    path = world.folder / "state" / "state.sqlite"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    def again(one: World) -> int:
        looked = one.run("sluice-state", "runs", "--json")
        if looked.returncode == 0:
            assert looked.stdout.count(b"\n") == 3, "the store was made anew, without what was saved"
            return 0
        assert looked.returncode == 69
        return one.run("sluice-state", "rebuild").returncode

    def holds(one: World) -> bool:
        found = one.said("sluice-state", "runs", "--json")
        return found.count(b"\n") == 3 and one.said("sluice-state", "pending", "--json").count(b"\n") == 1

    return Work(("sluice-state", "rebuild"), b"", holds, again=again)


def sluice_report(world: World, _: ExitStack) -> Work:
    world.refreshed()
    Path(world.folder, "report.html").write_text("the one before</html>")

    def holds(one: World) -> bool:
        return b"stock" in (one.folder / "report.html").read_bytes()

    return Work(("sluice-report", "--output", "report.html"), b"", holds)


def sluice_doctor(world: World, _: ExitStack) -> Work:
    """It looks at all, and changes nothing. That the model ignores end_month is what it fails for."""
    world.refreshed()
    before = world.files()
    return Work(("sluice-doctor",), b"", lambda one: one.files() == before, ends=3, changes=False)


def tap_exchange(world: World, beside: ExitStack) -> Work:
    begin = datetime.now(UTC) - timedelta(days=3)
    exchange = beside.enter_context(FakeExchange(begin=begin, end=begin + timedelta(days=2), step_s=4000))
    settings = {"TAP_EXCHANGE_API_KEY": KEY, "TAP_EXCHANGE_SECRET": SECRET}
    asked = {"base_url": exchange.url, "start_date": begin.date().isoformat(), "source": "fake"}
    return _fetching(world, "tap-exchange", asked, settings, "raw_exchanges_trades", "txid", len(exchange.trades()))


def tap_debank(world: World, beside: ExitStack) -> Work:
    debank = beside.enter_context(FakeDebank([entry(number, 1_767_225_600 + number // 3) for number in range(25)]))
    asked, settings = {"addresses": ["0xme"], "base_url": debank.url}, {"TAP_DEBANK_ACCESS_KEY": DEBANK_KEY}
    return _fetching(world, "tap-debank", asked, settings, "raw_onchain_transfers", "tx_hash", len(debank.history))


def _fetching(world: World, tap: str, asked: dict, settings: dict[str, str], stream: str, key: str, rows: int) -> Work:
    """What a tap says is loaded, as far as it came; then it goes on from the state that is known by then."""
    Path(world.folder, "config.json").write_text(json.dumps(asked))
    Path(world.folder, "state.json").write_text("{}")
    command = (tap, "--config", "config.json", "--state", "state.json")

    def read(one: World, said: bytes) -> None:
        loaded = one.run("sync-cursor", "load", "s", given=said)
        assert loaded.returncode in (0, 1, 65), loaded.stderr.decode()  # 1: it died before its first word
        assert b"Traceback" not in loaded.stderr, loaded.stderr.decode()

    def again(one: World) -> int:
        Path(one.folder, "state.json").write_bytes(one.said("sync-cursor", "state", "s"))
        fetched = one.run(*command)
        read(one, fetched.stdout)
        return fetched.returncode

    def holds(one: World) -> bool:
        return one.query(f"select count(*), count(distinct {key}) from raw.{stream}") == [(rows, rows)]

    return Work(command, b"", holds, again=again, read=read, settings=settings, changes=False)


WORKS = [plan_batches, plan_refill, plan_daily, each_wave, optimize_partitions, canary_check, publish_tables, sync_cursor, notify, sluice_state, sluice_state_rebuild, sluice_report, sluice_doctor, tap_exchange, tap_debank]  # fmt: skip
