"""The state in ClickHouse: append only, every row kept by itself, since there are no transactions; claims in place of locks."""

import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec

from sluice.errors import SluiceError
from sluice.records import Plan
from sluice.state.leases import Holder, Lease, claims_on
from sluice.state.server import TIMEOUT_S, Uninterrupted, address, as_written, explained
from sluice.state.store import SCHEMA_VERSION, Claimed, Lock, Params, Store, at_work, schema, upgrades
from sluice.warehouse import WarehouseError, clickhouse

# What was acknowledged is there, whatever the server's defaults are, and no repeated row is taken for a duplicate.
_SETTINGS = {
    "async_insert": 0,
    "insert_deduplicate": 0,
    "select_sequential_consistency": 1,
    "date_time_input_format": "best_effort",
    "input_format_defaults_for_omitted_fields": 1,
}


class _Client(Uninterrupted, clickhouse.ClickHouse):
    """A client as the warehouse's, but nothing interrupts it, and it has a database of its own."""

    def insert(self, table: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows in one block, which is all or nothing."""
        rows = list(rows)
        block = b"\n".join(map(msgspec.json.encode, rows))
        self._bounded(
            lambda: self._client.raw_insert(
                table, list(rows[0]), block, settings=self._with_id(dict(_SETTINGS)), fmt="JSONEachRow"
            ),
            self.timeout_s,
        )

    def use(self, database: str) -> None:
        self._client.database = database


class ClickHouse(Store):
    """A database on one server."""

    def __init__(self, url: str, *, origin: str):
        """Connect. Raises SluiceError: 78 for a bad URL, 69 when the server is away."""
        self._url, self._origin = url, origin
        self._at = address(url, "clickhouse", origin=origin, port=8123)
        self.name = self._at.name
        self._leases: dict[str, Lease] = {}
        with explained(self.name):
            self.db = _Client(self._at, tag="sluice state", read_only=False, timeout_s=TIMEOUT_S, rules=[])
        self._is_there = bool(
            self._rows("SELECT 1 FROM system.databases WHERE name = $name", {"name": self._at.schema})
        )
        if self._is_there:
            self.db.use(self._at.schema)

    def exists(self) -> bool:
        """Whether somebody has made the store here, to its end."""
        table = "SELECT 1 FROM system.tables WHERE database = $name AND name = 'schema_version'"
        return (
            self._is_there
            and bool(self._rows(table, {"name": self._at.schema}))
            and bool(self._rows("SELECT 1 FROM schema_version LIMIT 1"))
        )

    def create(self) -> None:
        """Make what is not there yet. Several processes may do so at once; the version, written last, says it is whole."""
        with explained(self.name):
            self.db.execute(f"CREATE DATABASE IF NOT EXISTS {self.db.quote(self._at.schema)}")
            self.db.use(self._at.schema)
            self._is_there = True
            for script in schema("clickhouse"):
                for what in ("TABLE", "VIEW"):
                    script = script.replace(f"CREATE {what} ", f"CREATE {what} IF NOT EXISTS ", 1)
                self.db.execute(script.rstrip().rstrip(";"))
            self.db.insert("schema_version", [{"version": SCHEMA_VERSION}])

    def bring_up_to_date(self) -> None:
        """Upgrade an older schema, after a copy of its tables into the database NAME_schema_VERSION.

        There are no transactions: each step may be made twice, and the version, written last, says that all are done. Whoever is cut
        off, or comes at the same time, makes them again. Raises SluiceError (69) for a newer schema, and for one that cannot be upgraded.
        """
        ((version,),) = self._rows("SELECT max(version) FROM schema_version")
        if version == SCHEMA_VERSION:
            return
        steps = upgrades("clickhouse", self.name, version, f"rename the database {self._at.schema} and start afresh")
        with explained(self.name):
            self._copy(f"{self._at.schema}_schema_{version}")
            for script in steps:
                for statement in re.split(r";\s*\n", script):
                    if re.sub(r"--.*", "", statement).strip():
                        self.db.execute(statement)
            for script in schema("clickhouse"):
                if "CREATE VIEW" in script:
                    self.db.execute(script.replace("CREATE VIEW", "CREATE OR REPLACE VIEW", 1).rstrip().rstrip(";"))
            self.db.insert("schema_version", [{"version": SCHEMA_VERSION}])

    def _copy(self, to: str) -> None:
        """The tables as they are now, under a temporary name until all are there; a copy that is there already stays.

        Whoever is quicker may be at the upgrade already and change the tables under this copy, which then is none: theirs holds.
        """
        exists = "SELECT 1 FROM system.databases WHERE name = $name"
        if self._rows(exists, {"name": to}):
            return
        tables = "SELECT name FROM system.tables WHERE database = $name AND engine LIKE '%MergeTree'"
        fresh = self.db.quote(f"{to}_{uuid.uuid4().hex[:8]}")
        self.db.execute(f"CREATE DATABASE {fresh}")
        try:
            for table in (self.db.quote(name) for (name,) in self._rows(tables, {"name": self._at.schema})):
                self.db.execute(f"CREATE TABLE {fresh}.{table} AS {table}")
                self.db.execute(f"INSERT INTO {fresh}.{table} SELECT * FROM {table}")
            self.db.execute(f"RENAME DATABASE {fresh} TO {self.db.quote(to)}")
        except WarehouseError:
            self.db.execute(f"DROP DATABASE {fresh} SYNC")
            if not self._rows(exists, {"name": to}):
                raise

    def rows(self, sql: str, params: Params | None = None) -> list[tuple]:
        return self._rows(sql, params)

    def _rows(self, sql: str, params: Params | None = None) -> list[tuple]:
        with explained(self.name):
            settings = {"select_sequential_consistency": 1, "join_use_nulls": 0}
            return [as_written(row) for row in self.db.rows(sql, params, settings=settings)]

    def execute(self, sql: str, params: Params | None = None) -> None:
        with explained(self.name):
            self.db.execute(sql, params)

    def insert(self, table: str, rows: Iterable[Mapping[str, Any]]) -> None:
        if table != "model_lock":
            for lease in self._leases.values():
                lease.check()
        with explained(self.name):
            self.db.insert(table, rows)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        yield

    def lock(self, run_id: str) -> Lease:
        return Lease(self, run_id, lambda: _connected(self._url, self._origin))

    def is_held(self, run_id: str) -> bool:
        return any(claim.status == "held" for claim in claims_on(self, [f"run {run_id}"]))

    def refuse_at_work(self, plan: Plan) -> None:
        names = _names(plan)
        for holder in claims_on(self, sorted(names)) if names else []:
            if holder.status == "held" and holder.run_id != plan.run_id:
                raise _taken(holder, names)

    def claim_models(self, plan: Plan, lock: Lock) -> None:
        assert isinstance(lock, Lease)
        names = _names(plan)
        holder = lock.claim(sorted(names)) if names else None
        if holder is not None:
            raise _taken(holder, names)
        self._leases[plan.run_id] = lock

    def claimed(self) -> list[Claimed]:
        rows = self.rows(
            """SELECT run_id, host, pid, command, began_at, names,
                      written_at + toIntervalSecond(lasts_seconds) > now64(3, 'UTC')
               FROM (SELECT * FROM model_lock ORDER BY seq DESC LIMIT 1 BY owner)
               WHERE status = 'held' AND NOT startsWith(names[1], 'run ') ORDER BY run_id"""
        )
        return [
            Claimed(run_id, host, pid, command, began_at, [name.rpartition("/")[2] for name in names], bool(is_alive))
            for run_id, host, pid, command, began_at, names, is_alive in rows
        ]

    def release_models(self, run_id: str) -> None:
        if run_id in self._leases:
            self._leases.pop(run_id).release_models()

    def close(self) -> None:
        self.db.close()


def _names(plan: Plan) -> dict[str, str]:
    """What a plan claims, and the models that it stands for."""
    return {f"model {plan.project}/{plan.target}/{model.unique_id}": model.unique_id for model in plan.models}


def _taken(holder: Holder, names: Mapping[str, str]) -> SluiceError:
    return at_work(
        sorted(names[name] for name in holder.names if name in names), command=holder.command, pid=holder.pid, host=holder.host,
        began_at=holder.began_at, run_id=holder.run_id,
    )  # fmt: skip


def _connected(url: str, origin: str) -> ClickHouse:
    return ClickHouse(url, origin=origin)
