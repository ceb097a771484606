"""The state in Postgres: one session, whose end frees its locks, so whoever has lost a lock can write nothing more either."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sluice.errors import refused, unavailable
from sluice.records import Plan
from sluice.state.server import TIMEOUT_S, Uninterrupted, address, as_written, explained
from sluice.state.store import SCHEMA_VERSION, Lock, Params, Store, schema, upgrades
from sluice.warehouse import postgres

# A session that is lost with its host is given up after a minute, not after the two hours that are TCP's default.
_SESSION = {
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "idle_session_timeout": "0",
    "synchronous_commit": "on",
}


class _Session(Uninterrupted, postgres.Postgres):
    """A session as the warehouse's, but nothing interrupts it."""


class Postgres(Store):
    """A schema of a database. Locks are advisory locks of the one session that also writes."""

    def __init__(self, url: str, *, origin: str):
        """Connect. Raises SluiceError: 78 for a bad URL, 69 when the server is away, 75 when it is full."""
        self._at = address(url, "postgres", origin=origin, port=5432)
        self.name = self._at.name
        with explained(self.name):
            self.db = _Session(self._at, tag="sluice state", read_only=False, timeout_s=TIMEOUT_S, rules=[])
            settings = _SESSION | {"search_path": self._quoted}
            self.db.rows(  # not every version has every one
                "SELECT set_config(name, CAST($values AS json) ->> name, false) FROM pg_settings WHERE name = ANY($names)",
                {"names": list(settings), "values": json.dumps(settings)},
            )

    @property
    def _quoted(self) -> str:
        return self.db.quote(self._at.schema)

    def exists(self) -> bool:
        """Whether somebody has made the store here.

        Asked of the catalogue: to_regclass goes by what the session remembers, and one that has waited for a lock while
        another made the store remembers that there was none.
        """
        found = self.rows(
            "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = $schema AND c.relname = 'schema_version'",
            {"schema": self._at.schema},
        )
        return bool(found)

    def create(self) -> None:
        """Make what is not there yet, in one transaction; when several processes do, one after the other."""
        with self.transaction():
            self.execute("SELECT pg_advisory_xact_lock($key)", {"key": _key(f"create {self._at.schema}")})
            if self.exists():
                return
            if not self.rows("SELECT 1 FROM pg_namespace WHERE nspname = $name", {"name": self._at.schema}):
                self.execute(f"CREATE SCHEMA {self._quoted}")
            for script in schema("postgres"):
                self.execute(script)
            self.insert("schema_version", [{"version": SCHEMA_VERSION}])

    def bring_up_to_date(self) -> None:
        """Upgrade an older schema in one transaction, after a copy of its tables into the schema NAME_schema_VERSION.

        Raises SluiceError (69) for a newer one, and for one that cannot be upgraded.
        """
        version = self._version()
        if version == SCHEMA_VERSION:
            return
        steps = upgrades("postgres", self.name, version, f"rename the schema {self._at.schema} and start afresh")
        with self.transaction():
            self.execute("LOCK TABLE schema_version")
            if self._version() != version:  # somebody else was quicker
                return
            self._copy(f"{self._at.schema}_schema_{version}")
            for (name,) in self.rows(
                "SELECT table_name FROM information_schema.views WHERE table_schema = current_schema()"
            ):
                self.execute(f"DROP VIEW IF EXISTS {self.db.quote(name)} CASCADE")
            for script in steps + [script for script in schema("postgres") if "CREATE VIEW" in script]:
                self.execute(script)
            self.execute("UPDATE schema_version SET version = $version", {"version": SCHEMA_VERSION})

    def _version(self) -> int | None:
        found = self.rows("SELECT version FROM schema_version")
        return found[0][0] if found else None

    def _copy(self, to: str) -> None:
        """The tables as they are now; nobody writes to them until the transaction ends."""
        tables = self.rows("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
        self.execute(f"CREATE SCHEMA {self.db.quote(to)}")
        for table in (self.db.quote(name) for (name,) in tables):
            self.execute(f"LOCK TABLE {table}")
            self.execute(f"CREATE TABLE {self.db.quote(to)}.{table} AS TABLE {table}")

    def rows(self, sql: str, params: Params | None = None) -> list[tuple]:
        with explained(self.name):
            return [as_written(row) for row in self.db.rows(sql, params)]

    def execute(self, sql: str, params: Params | None = None) -> None:
        with explained(self.name):
            self.db.execute(sql, params)

    def insert(self, table: str, rows: Iterable[Mapping[str, Any]]) -> None:
        rows = list(rows)
        columns = ", ".join(rows[0])
        marks = [", ".join(f"$c{i}_{name}" for name in row) for i, row in enumerate(rows)]
        values = {f"c{i}_{name}": _storable(value) for i, row in enumerate(rows) for name, value in row.items()}
        self.execute(f"INSERT INTO {table} ({columns}) VALUES ({'), ('.join(marks)})", values)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with explained(self.name), self.db.transaction():
            yield

    def lock(self, run_id: str) -> "AdvisoryLock":
        return AdvisoryLock(self, f"run {run_id}")

    def is_held(self, run_id: str) -> bool:
        return AdvisoryLock(self, f"run {run_id}").holders() != []

    def claim_models(self, plan: Plan, lock: Lock) -> None:
        # One claim at a time; everybody may still read.
        self.execute("LOCK TABLE model_lock IN SHARE ROW EXCLUSIVE MODE")
        super().claim_models(plan, lock)

    def close(self) -> None:
        self.db.close()


class AdvisoryLock:
    """A lock of this session under a name. The server frees it when the session ends, however that comes about."""

    def __init__(self, store: Postgres, name: str):
        self._store = store
        self._key = _key(f"{store._at.schema} {name}")
        self._mine = False

    def acquire(self) -> bool:
        """Take the lock without waiting. False when another session holds it, or this one already does.

        Raises SluiceError (2) behind a pool that hands out another session for each transaction.
        """
        if self.holders():
            return False
        ((taken,),) = self._store.rows("SELECT pg_try_advisory_lock($key)", {"key": self._key})
        if not taken:
            return False
        ((own,),) = self._store.rows("SELECT pg_backend_pid()")
        if self.holders() != [own]:
            raise refused(
                f"the state store {self._store.name} is behind a connection pool in which a session's locks are lost",
                code="state_pooled",
                hint="point SLUICE_STATE at Postgres itself, or at a pool in session mode",
            )
        self._mine = True
        return True

    def holders(self) -> list[int]:
        """The backends that hold it, one or none."""
        held = self._store.rows(
            """SELECT pid FROM pg_locks
               WHERE locktype = 'advisory' AND granted AND objsubid = 1
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                   AND ((classid::bigint << 32) | objid::bigint) = $key""",
            {"key": self._key},
        )
        return [pid for (pid,) in held]

    def release(self) -> None:
        """Free the lock. Calling it again does nothing. Raises SluiceError (69) when it was not there any more."""
        if not self._mine:
            return
        self._mine = False
        ((freed,),) = self._store.rows("SELECT pg_advisory_unlock($key)", {"key": self._key})
        if not freed:
            raise unavailable(
                f"the lock in the state store {self._store.name} was lost on the way", code="state_lock_lost"
            )


def _key(name: str) -> int:
    """A signed 64-bit number for a name; of a million names no two share one."""
    return int.from_bytes(hashlib.sha256(f"sluice {name}".encode()).digest()[:8], "big", signed=True)


def _storable(value: Any) -> Any:
    """Text in Postgres holds no NUL."""
    return value.replace("\0", "\\0") if isinstance(value, str) else value
