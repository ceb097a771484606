"""Where rows go: tables of a schema, sync_event, sync_reject and sync_log beside them. What all dialects share.

A batch is the lines of one stream. `commit` writes batches, rejects and events together: in one transaction where there
are any, else the rows first and the events, which hold the cursor, last.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import ClassVar

from sluice.config import ROOT
from sluice.errors import refused
from sluice.records import SyncStatus
from sluice.sync.columns import Column
from sluice.warehouse import Warehouse, WarehouseError

SQL = ROOT / "sql" / "sync"
SYNCED_AT, VERSION, REPLACED_AT = "_synced_at", "_table_version", "_replaced_at"
Bookmark = tuple[datetime, str]  # the newest record's time and key


@dataclass(frozen=True)
class Table:
    """A table that a stream goes to. `dormant` are columns for kinds of values that the stream has no more."""

    name: str
    columns: list[Column]
    dormant: list[str]
    has_version: bool = False

    @property
    def keys(self) -> list[str]:
        return [column.name for column in self.columns if column.is_key]


@dataclass(frozen=True)
class Batch:
    """Lines for a table; `activates` is the version whose rows alone stay, None for all."""

    table: Table
    lines: list[bytes]
    activates: int | None = None


@dataclass
class Counts:
    """What became of records. Unchanged: the row was there like this, or a later record of the batch has its key."""

    received: int = 0
    inserted: int = 0
    updated: int = 0
    rejected: int = 0
    removed: int = 0

    @property
    def unchanged(self) -> int:
        return self.received - self.inserted - self.updated - self.rejected

    def add(self, more: "Counts") -> None:
        for name in vars(more):
            setattr(self, name, getattr(self, name) + getattr(more, name))


@dataclass(frozen=True)
class Reject:
    stream: str
    line: int
    reason: str
    record: str


@dataclass
class Event:
    """A row of sync_event. `state` is JSON text, None: as before."""

    event: str
    stream: str | None = None
    state: str | None = None
    bookmark: Bookmark | None = None
    counts: Counts = field(default_factory=Counts)
    sync_status: SyncStatus | None = None
    duration_s: float | None = None
    message: str | None = None


@dataclass(frozen=True)
class Position:
    """How far a source is: the tap's state (JSON text) and the newest bookmark of each stream that it covers."""

    state: str | None = None
    bookmarks: dict[str, Bookmark] = field(default_factory=dict)


class Refused(Exception):
    """The database cannot take a line of this batch as it is; nothing of the commit was kept."""

    def __init__(self, table: str, why: WarehouseError):
        super().__init__(why.message)
        self.table = table
        self.why = why


class Target(ABC):
    """A schema of a database that sources are loaded into. Methods raise WarehouseError."""

    dialect: ClassVar[str]
    types: ClassVar[dict[str, str]]  # kind: the type as the database itself writes it

    def __init__(self, warehouse: Warehouse, schema: str):
        self.warehouse = warehouse
        self.schema = schema

    # -- set-up ---------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make the schema and Sluice's own tables, where they are not there."""
        self.warehouse.execute(self.create_schema())
        for name in ("sync_event", "sync_reject", "sync_log"):
            for statement in (SQL / self.dialect / f"{name}.sql").read_text().split(";\n"):
                if statement.strip():
                    self.warehouse.execute(statement.replace("{schema}", self.home))

    def create_schema(self) -> str:
        return f"CREATE SCHEMA IF NOT EXISTS {self.home}"

    @property
    def home(self) -> str:
        """The schema's full name: alone it may be that of a DuckDB file, too."""
        return self.warehouse.relation(self.warehouse.credentials.database, None, self.schema)

    def exists(self) -> bool:
        """Whether anything was ever loaded here."""
        return bool(self.columns_of("sync_event"))

    def columns_of(self, table: str) -> dict[str, str]:
        """The columns of a table with their types, none when there is no such table."""
        found = self.warehouse.rows(
            "SELECT column_name, data_type FROM information_schema.columns "
            "WHERE table_schema = $schema AND table_name = $table ORDER BY ordinal_position",
            {"schema": self.schema, "table": table},
        )
        return {str(name): str(kind) for name, kind in found}

    def table(self, name: str, columns: Sequence[Column], *, has_version: bool, has_history: bool) -> Table:
        """Make the table for these columns, or give it those that it lacks; names are settled here.

        Where a column of the name holds another kind, the values go to a sibling.
        """
        there = self.columns_of(name)
        settled = [self._settled(column, there) for column in columns]
        wanted = {column.name: self.type_of(column) for column in settled} | (
            {VERSION: self.types["integer"]} if has_version else {}
        )
        if there:
            if column := next((c for c in settled if c.is_key and c.name not in there), None):
                raise refused(
                    f"{self.schema}.{name} has no column {column.name!r} for the key: its key or its type has changed",
                    code="sync_moved_key",
                    hint=f"rename the table {self.schema}.{name}, then sync-cursor reset the source",
                )
            for column_name, kind in wanted.items():
                if column_name not in there:
                    self.add_column(name, column_name, kind)
        else:
            self.create_table(name, wanted, [column.name for column in settled if column.is_key])
        if has_history:
            self._history_table(name, {**there, **wanted})
        active = {column.name for column in settled}
        bases = {column.field.lower() for column in columns}
        dormant = [
            other for other in there
            if other not in active and (other in bases or any(other.startswith(f"{base}__") for base in bases))
        ]  # fmt: skip
        return Table(name, settled, dormant, has_version)

    def _settled(self, column: Column, there: dict[str, str]) -> Column:
        for name in (column.name, f"{column.name}__{column.kind}", f"{column.name}__{column.kind}{column.scale}"):
            if name not in there:
                return replace(column, name=name)
            scale = self.scale_of(there[name])
            if column.kind == "decimal" and scale is not None and scale >= column.scale:
                return replace(column, name=name, scale=scale)
            if there[name] == self.type_of(column):
                return replace(column, name=name)
        raise refused(
            f"no column of {self.schema} can hold {column.field!r}: {name} is {there[name]}", code="sync_no_column"
        )

    def _history_table(self, name: str, columns: dict[str, str]) -> None:
        wanted = {**columns, SYNCED_AT: self.types["timestamp"], REPLACED_AT: self.types["timestamp"]}
        there = self.columns_of(f"{name}_history")
        if not there:
            self.create_table(f"{name}_history", wanted, [])
        for column, kind in wanted.items() if there else ():
            if column not in there:
                self.add_column(f"{name}_history", column, kind)

    def create_table(self, name: str, columns: dict[str, str], keys: list[str]) -> None:
        quote = self.warehouse.quote
        wanted = {**columns, SYNCED_AT: self.types["timestamp"]}
        self.warehouse.execute(
            f"CREATE TABLE {self.place(name)} ({', '.join(f'{quote(column)} {kind}' for column, kind in wanted.items())})"
        )

    def add_column(self, table: str, column: str, kind: str) -> None:
        self.warehouse.execute(f"ALTER TABLE {self.place(table)} ADD COLUMN {self.warehouse.quote(column)} {kind}")

    def type_of(self, column: Column) -> str:
        return self.types[column.kind].replace("SCALE", str(column.scale))

    @abstractmethod
    def scale_of(self, kind: str) -> int | None:
        """The decimals of a decimal type, None of another."""

    def place(self, table: str) -> str:
        return self.warehouse.relation(self.warehouse.credentials.database, self.schema, table)

    # -- reading --------------------------------------------------------------------------------------

    def position(self, source: str) -> Position:
        """How far the source is, from its events since it was last reset."""
        event = self.place("sync_event")
        since = f"(SELECT coalesce(max(seq), 0) FROM {event} WHERE source = $source AND event = 'reset')"
        marks = self.warehouse.rows(
            f"SELECT stream, last_sync_ts, last_txid FROM {event} WHERE source = $source AND last_sync_ts IS NOT NULL "
            f"AND seq >= {since} ORDER BY seq",
            {"source": source},
        )
        state = self.warehouse.rows(
            f"SELECT state FROM {event} WHERE source = $source AND state IS NOT NULL ORDER BY seq DESC LIMIT 1",
            {"source": source},
        )
        return Position(state[0][0] if state else None, {stream: (in_utc(at), str(key)) for stream, at, key in marks})

    @contextmanager
    def exclusively(self, source: str) -> Iterator[None]:
        """Nobody else loads this source meanwhile, on this machine or another. Raises SluiceError (75)."""
        yield

    # -- writing --------------------------------------------------------------------------------------

    def commit(
        self, source: str, run_id: str, batches: Sequence[Batch], rejects: Sequence[Reject], events: Sequence[Event],
        *, has_history: bool = False,
    ) -> list[Counts]:  # fmt: skip
        """Write all of it. Returns what became of each batch, whose counts go into the event of the same place.

        Raises Refused when the database cannot take a line; then nothing was written.
        """
        counts = []
        with self.all_or_nothing():
            for batch in batches:
                try:
                    done = self.load(batch, has_history=has_history) if batch.lines else Counts()
                    if batch.activates is not None:
                        done.removed = self._remove_other_versions(batch, has_history=has_history)
                    counts.append(done)
                except WarehouseError as problem:
                    if self.is_refusal(problem):
                        raise Refused(batch.table.name, problem) from None
                    raise
            for event, done in zip(events, counts, strict=False):
                event.counts.inserted, event.counts.updated, event.counts.removed = (
                    done.inserted,
                    done.updated,
                    done.removed,
                )
            self._write_rejects(source, run_id, rejects)
            for event in events:
                self._write_event(source, run_id, event)
        return counts

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        with self.warehouse.transaction():
            yield

    @abstractmethod
    def load(self, batch: Batch, *, has_history: bool) -> Counts:
        """Upsert the lines of a batch; the later of two with one key wins."""

    def _remove_other_versions(self, batch: Batch, *, has_history: bool) -> int:
        place, there = self.place(batch.table.name), self.columns_of(batch.table.name)
        if VERSION not in there:
            return 0
        final = self.final if batch.table.keys else ""
        is_other = f"coalesce({self.warehouse.quote(VERSION)}, -1) <> {int(batch.activates or 0)}"
        count = self.warehouse.value(f"SELECT count(*) FROM {place}{final} WHERE {is_other}")
        if has_history:
            names = ", ".join(map(self.warehouse.quote, there))
            self.warehouse.execute(
                f"INSERT INTO {self.place(batch.table.name + '_history')} ({names}, {self.warehouse.quote(REPLACED_AT)}) "
                f"SELECT {names}, {self.now} FROM {place}{final} WHERE {is_other}"
            )
        self.warehouse.execute(f"DELETE FROM {place} WHERE {is_other}")
        return count

    @abstractmethod
    def is_refusal(self, problem: WarehouseError) -> bool:
        """Whether the database could not read a value, rather than do its work."""

    def _write_rejects(self, source: str, run_id: str, rejects: Sequence[Reject]) -> None:
        for reject in rejects:
            self.warehouse.execute(
                f"INSERT INTO {self.place('sync_reject')} SELECT {self.now}, $run, $source, $stream, {reject.line}, $reason, $record",
                {"run": run_id, "source": source, "stream": reject.stream, "reason": reject.reason, "record": reject.record},
            )  # fmt: skip

    def _write_event(self, source: str, run_id: str, event: Event) -> None:
        counts, table = event.counts, self.place("sync_event")
        texts = {
            "stream": event.stream, "state": event.state, "txid": event.bookmark and event.bookmark[1],
            "status": event.sync_status, "message": event.message,
        }  # fmt: skip
        given = {name: text for name, text in texts.items() if text is not None}
        # NULL by itself: not every driver can tell the type of a parameter without a value.
        text = {name: f"${name}" if name in given else "NULL" for name in texts}
        moment = self.moment(event.bookmark[0]) if event.bookmark else "NULL"
        numbers = f"{counts.received}, {counts.inserted}, {counts.updated}, {counts.unchanged}, {counts.rejected}"
        self.warehouse.execute(
            f"INSERT INTO {table} SELECT (SELECT coalesce(max(seq), 0) + 1 FROM {table} WHERE source = $source), $source, $run, "
            f"$event, {self.now}, {text['stream']}, {text['state']}, {moment}, {text['txid']}, {numbers}, {text['status']}, "
            f"{event.duration_s if event.duration_s is not None else 'NULL'}, {text['message']}",
            {"source": source, "run": run_id, "event": event.event, **given},
        )

    now: ClassVar[str] = "now()"
    final: ClassVar[str] = ""  # what makes a table's rows one for each key

    def moment(self, at: datetime) -> str:
        """A moment as the database reads it."""
        return f"TIMESTAMPTZ '{at.isoformat()}'"


def in_utc(at: datetime) -> datetime:
    """Not every driver says that what it gives is in UTC."""
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
