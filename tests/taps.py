"""Singer messages to load, and a source on a target that they are loaded into."""

import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sluice.profiles import Credentials
from sluice.records import SyncResult
from sluice.sync.load import Load, Options
from sluice.sync.target import Position, Target
from sluice.sync_cursor import target_on
from sluice.warehouse import Warehouse, connect

AMOUNT = {"type": ["null", "string"], "format": "singer.decimal"}
TRADE = {
    "source": {"type": "string"},
    "txid": {"type": "string"},
    "at": {"type": ["null", "string"], "format": "date-time"},
    "amount": AMOUNT,
    "n": {"type": ["null", "integer"]},
    "raw": {"type": ["null", "object"]},
}


def schema(
    properties: dict | None = None, *, stream: str = "trades", keys: Any = ("source", "txid"), **more: Any
) -> dict:
    wanted = {"properties": properties or TRADE, **more}
    return {
        "type": "SCHEMA",
        "stream": stream,
        "schema": wanted,
        "key_properties": list(keys),
        "bookmark_properties": ["at"],
    }


def record(stream: str = "trades", *, version: int | None = None, **fields: Any) -> dict:
    """A trade, or with `source=None` exactly the fields."""
    message = {"type": "RECORD", "stream": stream, "record": fields}
    return message | ({"version": version} if version is not None else {})


def trade(txid: str, at: str = "2026-01-01T00:00:00Z", **fields: Any) -> dict:
    return record(**({"source": "cb", "txid": txid, "at": at} | fields))


def state(at: str = "2026-01-01T00:00:00Z") -> dict:
    return {"type": "STATE", "value": {"bookmarks": {"trades": {"at": at}}}}


class Source:
    """A source `s` in the schema `raw_test` of an open target."""

    def __init__(self, target: Target, name: str = "s"):
        self.target = target
        self.name = name
        self.told: list[dict] = []
        self.has_key = True

    def load(self, *messages: dict | str | bytes, run: str = "r", **options: Any) -> list[SyncResult]:
        """Load messages; a text is a line as it is. Returns a result a stream."""
        loading = self.begin(run=run, **options)
        self.take(loading, messages)
        return loading.end()

    def begin(self, *, run: str = "r", **options: Any) -> Load:
        tell = lambda state: self.told.append(json.loads(state))  # noqa: E731
        return Load(self.name, self.target, run, Options(**options), tell, logging.getLogger("sluice"))

    def take(self, loading: Load, messages: Iterable[dict | str | bytes]) -> None:
        for number, message in enumerate(messages, 1):
            line = (
                message
                if isinstance(message, bytes)
                else message.encode()
                if isinstance(message, str)
                else json.dumps(message).encode()
            )
            loading.take(number, line + b"\n")

    @property
    def position(self) -> Position:
        return self.target.position(self.name)

    def rows(self, columns: str = "*", table: str = "trades") -> list[tuple]:
        """Sorted by their text."""
        place, final = self.target.place(table), self.target.final if table == "trades" and self.has_key else ""
        found = self.target.warehouse.rows(f"SELECT {columns} FROM {place}{final}")
        return sorted(found, key=str)


@contextmanager
def opened(credentials: Credentials, folder: Path, schema: str | None = None) -> Iterator[Source]:
    with connect(credentials, tag="test") as warehouse:
        yield source_on(warehouse, folder, schema or ("raw" if credentials.adapter == "duckdb" else credentials.schema))


def source_on(warehouse: Warehouse, folder: Path, schema: str) -> Source:
    target = target_on(warehouse, schema, folder / "chunk.jsonl")
    target.prepare()
    return Source(target)
