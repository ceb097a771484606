"""The state in a SQLite file, the default: a durable commit takes a millisecond, and readers are never shut out."""

import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sluice.errors import SluiceError, busy, unavailable
from sluice.locks import RunLock, is_held
from sluice.state.store import SCHEMA_VERSION, Params, Store, damaged, schema, upgrades


class SQLite(Store):
    """A file and, beside it, the folder `locks`, with one flock for each run at work."""

    def __init__(self, path: Path):
        """Open the file. Raises SluiceError (69) when it is damaged, or its schema newer than this Sluice."""
        self.name = str(path)
        self._path = path
        self._locks = path.parent / "locks"
        with self._explained():
            if not path.exists():
                raise unavailable(f"there is no state store {path}", code="state_unusable")
            self.db = _connect(path)
        self._bring_up_to_date()

    @classmethod
    def create(cls, path: Path) -> "SQLite":
        """Open the file, made when there is none."""
        if not path.exists():
            with _explained(path):
                _create(path)
        return cls(path)

    def rows(self, sql: str, params: Params | None = None) -> list[tuple]:
        with self._explained():
            return self.db.execute(sql, dict(params or {})).fetchall()

    def execute(self, sql: str, params: Params | None = None) -> None:
        with self._explained():
            self.db.execute(sql, dict(params or {}))

    def insert(self, table: str, rows: Iterable[Mapping[str, Any]]) -> None:
        with self._explained():
            for row in rows:
                columns, marks = ", ".join(row), ", ".join(f"${name}" for name in row)
                self.db.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", dict(row))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._explained():
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.db.execute("COMMIT")
            except BaseException:
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")
                raise

    def lock(self, run_id: str) -> RunLock:
        return RunLock(self._locks, run_id)

    def is_held(self, run_id: str) -> bool:
        return is_held(self._locks, run_id)

    def damaged(self, problem: Exception) -> SluiceError:
        return _damaged(self._path, problem)

    def close(self) -> None:
        self.db.close()

    def _explained(self):
        return _explained(self._path)

    # -- the schema's version ---------------------------------------------------------------------------

    def _version(self) -> int | None:
        found = self.rows("SELECT version FROM schema_version")
        return found[0][0] if found else None

    def _bring_up_to_date(self) -> None:
        version = self._version()
        if version == SCHEMA_VERSION:
            return
        steps = upgrades("sqlite", self.name, version, f"move {self.name} and its -wal away and start afresh")
        with self._explained():
            self._copy(self._path.with_name(f"{self._path.name}.schema-{version}"))
        with self.transaction():
            if self._version() == version:  # else somebody else was quicker
                for script in steps + self._views():
                    for statement in _statements(script):
                        self.db.execute(statement)
                self.db.execute("UPDATE schema_version SET version = $version", {"version": SCHEMA_VERSION})

    def _views(self) -> list[str]:
        old = [name for (name,) in self.rows("SELECT name FROM sqlite_master WHERE type = 'view'")]
        return [f"DROP VIEW {name};" for name in old] + [sql for sql in schema("sqlite") if "CREATE VIEW" in sql]

    def _copy(self, to: Path) -> None:
        """A whole copy of the store as it is now; one that is there already stays."""
        with tempfile.TemporaryDirectory(dir=to.parent, prefix=".copy-") as folder:
            fresh = Path(folder) / to.name
            with closing(sqlite3.connect(fresh)) as copy:
                self.db.backup(copy)
            try:
                os.link(fresh, to)
            except FileExistsError:
                pass


def _statements(script: str) -> Iterator[str]:
    """The statements of a script one by one: executescript would commit the transaction that is open."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=10, isolation_level=None)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def refuse_orphan(path: Path) -> None:
    """Raises SluiceError (69) for a journal without its store: it is no fresh start, and SQLite would play it into a new one."""
    journal = path.with_name(f"{path.name}-wal")
    if journal.exists() and not path.exists():
        raise unavailable(
            f"the state store {path} is gone and its journal {journal} is still there",
            code="state_orphaned_journal",
            hint=f"put {path} back, or: sluice-state rebuild, which saves what the log folder has",
        )


def _create(path: Path) -> None:
    """Make the store under a temporary name and link it into place: a full disk leaves no half-made store behind.

    When two processes do this at once, the first link wins and the other one uses it.
    """
    refuse_orphan(path)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".new-") as folder:
        fresh = Path(folder) / path.name
        with closing(_connect(fresh)) as connection:
            connection.execute("BEGIN")
            for script in schema("sqlite"):
                for statement in _statements(script):
                    connection.execute(statement)
            connection.execute("INSERT INTO schema_version VALUES (?)", [SCHEMA_VERSION])
            connection.execute("COMMIT")
            # Not before: what is written to a WAL may stay there, a close that cannot fold it into the file does not say so.
            connection.execute("PRAGMA journal_mode = WAL")
        try:
            os.link(fresh, path)
        except FileExistsError:
            pass


def _damaged(path: Path, problem: Exception) -> SluiceError:
    way_out = f"restore {path} from a copy, or: sluice-state rebuild, which saves what can be read"
    return damaged(str(path), problem, way_out=way_out)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what SQLite and the file system say into a message that names the file."""
    try:
        yield
    except sqlite3.OperationalError as problem:
        if "locked" in str(problem):
            raise busy(f"the state store {path} is locked by another process", code="state_locked") from None
        if (
            getattr(problem, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR
        ):  # it does not know our own tables and columns
            raise _damaged(path, problem) from None
        raise unavailable(f"the state store {path}: {problem}", code="state_unusable") from None
    except sqlite3.DatabaseError as problem:
        raise _damaged(path, problem) from None
    except OSError as problem:
        raise unavailable(f"the state store {path}: {problem}", code="state_unusable") from None
