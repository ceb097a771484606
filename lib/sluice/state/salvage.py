"""A damaged SQLite store: what can still be read of it, and how a whole one takes its place.

At no moment is the place empty, or the old journal beside a new store: whoever looks in between, or after a kill, finds a file
that is no store, and its message names the way out.
"""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from sluice.state.sqlite import SQLite
from sluice.state.store import SCHEMA_VERSION, schema

TABLES = ("run_event", "batch_event", "model_event")
_BESIDE = ("-wal", "-shm")
_LONGEST_BYTES = 1 << 34  # a header that is damaged, too, may tell anything
_MARK = b"sluice-state rebuild is at work here, or was cut off; the damaged store is "

Rows = dict[str, list[dict[str, Any]]]  # by table, in the order in which they were written


def readable(path: Path) -> tuple[Rows, bool]:
    """The rows that SQLite can still read, and whether it finds nothing wrong with the file."""
    with _copy(path) as copy:
        rows: Rows = {table: [] for table in TABLES}
        try:
            with closing(sqlite3.connect(copy)) as connection:
                connection.text_factory = lambda raw: raw.decode(errors="replace")
                rows |= {table: _rows(connection, table) for table in TABLES}
                is_whole = connection.execute("PRAGMA integrity_check(1)").fetchone() == ("ok",)
                return rows, is_whole and _has_our_schema(connection)
        except sqlite3.Error:
            return rows, False


def _has_our_schema(connection: sqlite3.Connection) -> bool:
    """Whether every table and view has the columns that it is made with; integrity_check does not read their texts.

    One of an older schema is taken for what it is: the next command brings it up to date.
    """
    if connection.execute("SELECT version FROM schema_version").fetchone() != (SCHEMA_VERSION,):
        return True
    with closing(sqlite3.connect(":memory:")) as made:
        for script in schema("sqlite"):
            made.executescript(script)
        names = made.execute(
            "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%'"
        )
        return all(_columns(connection, name) == _columns(made, name) for (name,) in names.fetchall())


def _columns(connection: sqlite3.Connection, name: str) -> set[str]:
    return {column for column, *_ in connection.execute(f"SELECT * FROM {name} LIMIT 0").description}


@contextmanager
def _copy(path: Path) -> Iterator[Path]:
    """To look at: opening a file with a journal changes both."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".salvage-") as folder:
        copy = Path(folder) / path.name
        for end in ("", "-wal"):
            with suppress(FileNotFoundError):
                shutil.copyfile(f"{_damaged(path)}{end}", f"{copy}{end}")
        _lengthen(copy)
        yield copy


def _lengthen(path: Path) -> None:
    """Give a file that was cut the length that its header tells: SQLite reads nothing at all of a shorter one.

    The page size is at byte 16, the number of pages at byte 28 (sqlite.org/fileformat2.html).
    """
    with suppress(FileNotFoundError), open(path, "r+b") as file:
        header = file.read(32)
        told_bytes = int.from_bytes(header[16:18]) * int.from_bytes(header[28:32])
        if path.stat().st_size < told_bytes <= _LONGEST_BYTES:
            file.truncate(told_bytes)


def _damaged(path: Path) -> Path:
    """Where the damaged file is: an earlier rebuild that was cut off has set it aside."""
    with suppress(OSError, ValueError), open(path, "rb") as file:
        if file.read(len(_MARK)) == _MARK:
            return path.with_name(file.readline().decode().strip())
    return path


def _rows(connection: sqlite3.Connection, table: str) -> list[dict[str, Any]]:
    """From the first on up to where it breaks, then from the last on back to there."""
    found: dict[int, dict[str, Any]] = {}
    for order in ("ASC", "DESC"):
        with suppress(sqlite3.Error):
            cursor = connection.execute(f"SELECT * FROM {table} ORDER BY seq {order}")
            names = [name for name, *_ in cursor.description]
            for values in cursor:
                row = dict(zip(names, values, strict=True))
                found[row["seq"]] = row
            break
    return [found[seq] for seq in sorted(found)]


@contextmanager
def in_its_place(path: Path, now: datetime) -> Iterator[tuple[SQLite, Path]]:
    """A new store to be filled, and where the damaged one goes; afterwards each is in its place.

    When filling fails nothing has changed.
    """
    damaged = _damaged(path)
    aside = damaged if damaged != path else _free(path.with_name(f"{path.name}.damaged-{now:%Y%m%dT%H%M%S}"))
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".new-") as folder:
        fresh = Path(folder) / path.name
        with closing(SQLite.create(fresh)) as store:
            yield store, aside
            store.execute("PRAGMA journal_mode = DELETE")  # folds all into the one file that is moved
            store.execute("PRAGMA journal_mode = WAL")
        if damaged == path:
            with suppress(FileNotFoundError):
                os.link(path, aside)
        mark = Path(folder) / "mark"
        mark.write_bytes(_MARK + aside.name.encode() + b"\n")
        os.replace(mark, path)
        for end in _BESIDE:
            with suppress(FileNotFoundError):
                os.rename(f"{path}{end}", f"{aside}{end}")
        os.replace(fresh, path)


def _free(path: Path) -> Path:
    return path if not path.exists() else path.with_name(f"{path.name}-{os.getpid()}")
