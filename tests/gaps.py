"""A gap in the sources of the bundled warehouse, and its refill as people run it: `pipelines/refill` on one engine.

`open_gap(engine, day)` gives one on one of ENGINES; on ClickHouse every model's table has a window of deduplication.
`spoil` takes a day of prices and of transfers away and builds everything without it, `fill` brings the day back: what
is derived is wrong until it is refilled. The oracle is `rebuilt`: the same sources, built from scratch.
"""

import hashlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from test_kill_and_resume import processes_below
from test_warehouse import FULL_REFRESH, Warehouse, sample
from test_warehouse_engines import COHORT, OnClickHouse, OnPostgres

ROOT = Path(__file__).resolve().parents[1]
ENGINES = ("duckdb", "postgres", "clickhouse")
END = date(2022, 6, 11)
INCREMENTAL = [*COHORT, "int_prices_daily", "int_balances_usd_daily"]
LONGEST_S = 900  # on a machine that does much else besides
NOBODY, LEAVER, COMER = (f"0x{number:040}" for number in (0, 1, 2))


@pytest.fixture
def open_gap(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str, date], "Gap"]]:
    """A function of engine and day that gives a gap in a warehouse of its own."""
    opened: list[Warehouse] = []

    def open_gap(engine: str, day: date) -> Gap:
        if engine == "duckdb":
            return Gap(Warehouse(tmp_path), day)
        on_server = {"postgres": OnPostgres, "clickhouse": OnClickHouse}[engine]
        warehouse = on_server(tmp_path, request.getfixturevalue(engine))
        opened.append(warehouse)
        return Gap(warehouse, day)

    yield open_gap
    for warehouse in opened:
        warehouse.close()


@dataclass
class Gap:
    """One warehouse whose sources skipped `day`."""

    warehouse: Warehouse
    day: date
    taken: dict[str, list[tuple]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        folder = self.warehouse.project.parent
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("SLUICE_", "DBT_"))}
        return clean | self.warehouse.environment | {
            "DBT_PROJECT_DIR": str(self.warehouse.project),
            "DBT_TARGET": self.warehouse.target,
            "SLUICE_STATE_DIR": str(folder / "state"),
            "SLUICE_LOG_DIR": str(folder / "logs"),
            "RECOMPUTE": "1",
            "JSON": "1",
        }  # fmt: skip

    def spoil(self) -> None:
        """The sample, with a holder who leaves on the day and one who comes; then `spoil_again`."""
        self.warehouse.run(sample(END))
        before, noon = self.day - timedelta(days=40), "12:00:00"
        self.give("transfers", [
            (datetime.fromisoformat(f"{before} {noon}"), "USDC", NOBODY, LEAVER, 500),
            (datetime.fromisoformat(f"{self.day} {noon}"), "USDC", LEAVER, NOBODY, 500),
            (datetime.fromisoformat(f"{self.day} {noon}"), "USDC", NOBODY, COMER, 70),
        ])  # fmt: skip
        self.spoil_again()

    def spoil_again(self) -> None:
        """The day is gone once more, and everything is built without it."""
        self.taken = {
            "prices": self.take("prices", "day"),
            "transfers": self.take("transfers", "cast(block_time as date)"),
        }
        assert all(self.taken.values())
        self.warehouse.run(FULL_REFRESH)
        if self.warehouse.target == "clickhouse":
            for name in INCREMENTAL:
                self.warehouse.query(
                    f"alter table analytics.{name} modify setting non_replicated_deduplication_window = 1000"
                )
        assert self.zeros() > 0

    def fill(self) -> None:
        for table, rows in self.taken.items():
            self.give(table, rows)

    def rebuilt(self) -> dict[str, str]:
        """What a build from scratch gives: every relation, hashed. The warehouse is built anew by it."""
        self.warehouse.run(FULL_REFRESH)
        return self.relations()

    def take(self, table: str, day: str) -> list[tuple]:
        rows = self.warehouse.query(f"select * from raw.{table} where {day} = '{self.day}'")
        self.warehouse.query(f"delete from raw.{table} where {day} = '{self.day}'")
        return rows

    def give(self, table: str, rows: list[tuple]) -> None:
        values = ", ".join(f"({', '.join(map(_literal, row))})" for row in rows)
        self.warehouse.query(f"insert into raw.{table} values {values}")

    def zeros(self) -> int:
        """Rows whose value is lost; the sample itself has none."""
        [(found,)] = self.warehouse.query(
            "select count(*) from analytics.int_balances_usd_daily where balance_usd = 0 or balance_usd is null"
        )
        return found

    def relations(self) -> dict[str, str]:
        """A hash of each relation, the order of its rows apart. sluice_commit is the runner's own."""
        named = "select table_name from information_schema.tables where table_schema = 'analytics'"
        hashes = {}
        for (name,) in self.warehouse.query(f"{named} and table_name <> 'sluice_commit'"):
            rows = sorted(map(repr, self.warehouse.query(f'select * from analytics."{name}"')))
            hashes[name] = f"{len(rows)} rows, {hashlib.sha256('|'.join(rows).encode()).hexdigest()[:16]}"
        return hashes

    # -- the refill ---------------------------------------------------------------------------------------

    def start(self, **settings: str) -> subprocess.Popen:
        """`make refill` without the make: settings are what people give it."""
        asked = {"FROM": str(self.day), "TO": str(END), "ALLOW": "G05"} if "RESUME" not in settings else {}
        return subprocess.Popen(
            [ROOT / "pipelines/refill"], env=self.environment | asked | settings,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def refill(self, *, exit_code: int = 0, **settings: str) -> list[dict]:
        """The records of a whole refill."""
        started = self.start(**settings)
        out, err = started.communicate(timeout=LONGEST_S)
        assert started.returncode == exit_code, err.decode()
        assert b"Traceback" not in err, err.decode()
        return records(out)

    def refill_killed_at(self, chance: random.Random, within_s: float) -> bool:
        """A refill, or the rest of one, in which processes are killed -9 at a random moment. False when it was over before."""
        started = self.start(**({"RESUME": "1"} if self.was_begun else {}))
        killed = 0
        try:
            started.wait(chance.uniform(0, within_s))
        except subprocess.TimeoutExpired:
            victims = processes_below(started.pid)
            # One process, or all of them at once as a power cut would.
            for victim in victims if chance.random() < 0.3 else [chance.choice(victims)]:
                try:
                    os.kill(victim, signal.SIGKILL)
                    killed += 1
                except ProcessLookupError:
                    pass
        _, err = started.communicate(timeout=LONGEST_S)
        assert killed or started.returncode == 0, err.decode()
        assert b"Traceback" not in err, err.decode()
        _wait_until_gone(started.pid)
        return killed > 0

    @property
    def was_begun(self) -> bool:
        """Whether there is something to resume."""
        return bool(self._pending())

    def discard(self) -> None:
        """Give up what was begun."""
        for run_id in self._pending():
            self._state("discard", run_id)

    def _pending(self) -> list[str]:
        return [record["run_id"] for record in self._state("pending") if record["type"] == "run_state"]

    def _state(self, *arguments: str) -> list[dict]:
        command = [ROOT / "bin/sluice-state", *arguments]
        asked = subprocess.run(command, env=self.environment, capture_output=True, check=True, timeout=LONGEST_S)
        return records(asked.stdout)


def records(lines: bytes) -> list[dict]:
    return [msgspec.json.decode(line) for line in lines.splitlines()]


def _literal(value: object) -> str:
    if isinstance(value, datetime):
        return f"'{value.replace(tzinfo=None)}'"
    if isinstance(value, str | date):
        return "'" + str(value).replace("'", "''") + "'"
    return str(value)


def _wait_until_gone(session: int) -> None:
    """What a killed parent leaves behind ends by itself; the next start must not find it half dead."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if not any(_session_of(path) == session for path in Path("/proc").glob("[0-9]*/stat")):
            return
        time.sleep(0.05)
    raise AssertionError(f"processes of session {session} are still there after 30 s")


def _session_of(stat: Path) -> int | None:
    try:
        fields = stat.read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[3])
