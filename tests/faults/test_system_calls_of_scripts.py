"""Every other script at each of its system calls that could be its last: killed there, or told that the disk is full or broken.

Each has work that would show if it were lost, or done twice. It is struck in a copy of a folder that was made for it, and started
again as a person would; then all is as if nothing had been.
"""

import itertools
import json
import random
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import duckdb
import msgspec
import pytest
from faults.forks import Call, Commands
from faults.test_system_calls import CALLS, FAULTS
from lengths import SEED, figure, many
from test_delivery import TOKEN, BotApi

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
MOST = {"pwrite64": 4}  # of the many at which the same is done again; else each, up to 10
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

    def is_right(self) -> bool:
        return self.query(COUNTED) == [RIGHT]


@dataclass(frozen=True)
class Work:
    """A command and what it is given; with which code it ends when all is well, and what must hold then.

    `again` is what a person types after it was struck, the same once more by default; it says how that ended.
    """

    command: tuple[str, ...]
    given: bytes
    holds: Callable[[World], bool]
    ends: int = 0
    again: Callable[[World], int] | None = None
    settings: dict[str, str] = field(default_factory=dict)


def plan_batches(world: World, _: BotApi) -> Work:
    """It changes nothing, so what is planned after it is what would have been planned."""

    def ids(one: World) -> list[str]:
        records = map(msgspec.json.decode, one.planned().splitlines())
        return [record["batch_id"] for record in records if record["type"] == "batch"]

    planned = ids(world)
    assert len(planned) == 2
    command = ("plan-batches", "--to", "2024-02-29", "--select", "stock")
    return Work(command, b"", lambda one: ids(one) == planned and not (one.folder / "state").exists())


def each_wave(world: World, _: BotApi) -> Work:
    def again(one: World) -> int:
        has_begun = one.said("sluice-state", "pending", "--json").count(b"\n") > 1
        return one.run("each-wave", "run-dbt-batch", given=one.planned(*["--resume"] * has_begun)).returncode

    return Work(("each-wave", "run-dbt-batch"), world.planned(), World.is_right, again=again)


def optimize_partitions(world: World, _: BotApi) -> Work:
    results = world.refreshed()
    world.query(TWICE)
    return Work(("optimize-partitions",), results, World.is_right)


def canary_check(world: World, _: BotApi) -> Work:
    world.refreshed()
    world.query(TWICE)
    command = ("canary-check", "--select", "stock", "--since", "2024-01-01", "--to", "2024-02-29")
    return Work(command, b"", lambda one: one.query(COUNTED) == [(58, 40, 1)], ends=3)


def publish_tables(world: World, _: BotApi) -> Work:
    world.refreshed()
    world.query("update main.stock set n = -n")
    checked = world.said("canary-check", given=world.refreshed("--aside"))
    return Work(("publish-tables",), checked, World.is_right)


def sync_cursor(world: World, _: BotApi) -> Work:
    def holds(one: World) -> bool:
        rows = one.query("select count(*), count(distinct id) from raw.t")
        return rows == [(50, 50)] and "00:00:49" in one.query("select last_sync_ts::varchar from raw.sync_log")[0][0]

    lines = "".join(json.dumps(message) + "\n" for message in MESSAGES)
    return Work(("sync-cursor", "load", "s"), lines.encode(), holds)


def notify(world: World, api: BotApi) -> Work:
    failed = world.run("run-dbt-batch", given=world.planned("--select", "broken"))
    assert failed.returncode == 1
    settings = {"TELEGRAM_BOT_TOKEN": TOKEN, "TELEGRAM_CHAT_ID": "7", "SLUICE_TELEGRAM_API": api.url}
    settings |= {"SLUICE_STATE_DIR": str(world.folder / "own")}  # whom it has told is remembered there

    def holds(_: World) -> bool:
        told = len(api.texts)
        api.texts.clear()
        return told in (1, 2)  # twice when it died between the sending and the note that it had sent

    return Work(("notify",), failed.stdout, holds, ends=1, settings=settings)


def sluice_state(world: World, _: BotApi) -> Work:
    world.run("run-dbt-batch", given=world.planned("--select", "broken"))
    run_id = msgspec.json.decode(world.said("sluice-state", "pending", "--json").splitlines()[0])["run_id"]

    def pending(one: World) -> int:
        return one.said("sluice-state", "pending", "--json").count(b"\n") - 1

    def again(one: World) -> int:
        return one.run("sluice-state", "discard", run_id).returncode if pending(one) else 0

    return Work(("sluice-state", "discard", run_id), b"", lambda one: pending(one) == 0, again=again)


def sluice_state_rebuild(world: World, _: BotApi) -> Work:
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


def sluice_report(world: World, _: BotApi) -> Work:
    world.refreshed()
    Path(world.folder, "report.html").write_text("the one before</html>")

    def holds(one: World) -> bool:
        return b"stock" in (one.folder / "report.html").read_bytes()

    return Work(("sluice-report", "--output", "report.html"), b"", holds)


SCRIPTS = [plan_batches, each_wave, optimize_partitions, canary_check, publish_tables, sync_cursor, notify, sluice_state, sluice_state_rebuild, sluice_report]  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its database is beside it, in the folder `world`: the loader that all are lent knows no other place."""
    folder = tmp_path_factory.mktemp("scripts") / "project"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def api() -> Iterator[BotApi]:
    api = BotApi()
    yield api
    api.close()


@pytest.mark.parametrize("prepare", SCRIPTS, ids=lambda one: one.__name__.replace("_", "-"))
def test_whichever_call_is_the_last(
    prepare: Callable[[World, BotApi], Work], project: Path, commands: Commands, api: BotApi, tmp_path: Path
) -> None:
    folder, made = project.parent / "world", tmp_path / "made"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    world = World(folder, project, commands)
    world.query("create table given (n int)")
    work = prepare(world, api)
    world = replace(world, settings=work.settings)
    shutil.copytree(folder, made)

    def struck_by(*flags: str) -> subprocess.CompletedProcess[bytes]:
        shutil.rmtree(folder)
        shutil.copytree(made, folder)
        return world.run(*work.command, given=work.given, tracer=("strace", *flags))

    counts = tmp_path / "counts"
    assert struck_by("-c", "-U", "name,calls", "-o", str(counts)).returncode == work.ends
    assert work.holds(world)
    found = {call: int(n) for call, n in re.findall(r"^(\w+)\s+(\d+)\s*$", counts.read_text(), re.MULTILINE)}
    calls = {call: found[call] for call in [*CALLS, "fsync"] if call in found}
    chance = random.Random(f"{SEED} {work.command[0]}")
    tried, stopped = 0, 0
    for call, fault in itertools.product(calls, FAULTS):
        for point in sorted(chance.sample(range(1, calls[call] + 1), min(calls[call], many(1, MOST.get(call, 10))))):
            inject = f"inject={call}:{FAULTS[fault]}:when={point}"
            struck = struck_by("-o", "/dev/null", "-e", f"trace={call}", "-e", inject)
            said = (call, fault, point, struck.returncode, struck.stderr.decode())
            assert "Traceback" not in said[-1], said
            assert struck.returncode in (0, 1, 3, 65, 69, 75, 78, -9, 137), said
            tried, stopped = tried + 1, stopped + (struck.returncode != work.ends)
            for _ in range(3):  # what is locked by one who is just dying, is not soon after
                code = work.again(world) if work.again else world.run(*work.command, given=work.given).returncode
                if code == work.ends:
                    break
            assert code == work.ends, (code, *said)
            assert work.holds(world), said
    figure("system calls of a script", script=work.command[0], calls=calls, struck=tried, stopped=stopped)
    assert stopped
