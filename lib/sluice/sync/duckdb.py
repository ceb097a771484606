"""Into DuckDB: its own reader takes the lines as they came, and one MERGE a batch writes what differs.

Measured: this is three times as fast as rows through Python. The table has no primary key: its index would cost more
than the merge, which keeps each key once by itself.
"""

import re
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from sluice.sync.columns import DECIMAL_DIGITS, Column
from sluice.sync.target import REPLACED_AT, SYNCED_AT, VERSION, Batch, Counts, Table, Target
from sluice.warehouse import Warehouse, WarehouseError

_REFUSALS = ("ConversionException", "InvalidInputException", "OutOfRangeException")
_BUFFER_BYTES = 2 << 20  # of the reader, which works on as many at once as it has threads, unless a line is longer


class DuckDBTarget(Target):
    """`chunk` is a file of this source's own, through which the lines go."""

    dialect = "duckdb"
    types: ClassVar = {
        "boolean": "BOOLEAN", "integer": "BIGINT", "number": "DOUBLE", "decimal": f"DECIMAL({DECIMAL_DIGITS},SCALE)",
        "text": "VARCHAR", "timestamp": "TIMESTAMP WITH TIME ZONE", "date": "DATE", "json": "JSON",
    }  # fmt: skip

    def __init__(self, warehouse: Warehouse, schema: str, chunk: Path):
        super().__init__(warehouse, schema)
        self._chunk = chunk
        self._buffer_bytes = _BUFFER_BYTES

    def scale_of(self, kind: str) -> int | None:
        found = re.fullmatch(rf"DECIMAL\({DECIMAL_DIGITS},(\d+)\)", kind)
        return int(found[1]) if found else None

    def is_refusal(self, problem: WarehouseError) -> bool:
        return problem.number in _REFUSALS

    def load(self, batch: Batch, *, has_history: bool) -> Counts:
        self._chunk.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with open(self._chunk, "wb") as chunk:
                chunk.writelines(batch.lines)
            self._buffer_bytes = max(_BUFFER_BYTES, 2 * max(map(len, batch.lines)))
            return self._merge(batch.table, has_history=has_history)
        finally:
            with suppress(OSError):
                self._chunk.unlink()

    def _merge(self, table: Table, *, has_history: bool) -> Counts:
        quote, place, source = self.warehouse.quote, self.place(table.name), self._source(table)
        if has_history and table.keys:
            self.warehouse.execute(f"CREATE OR REPLACE TEMP TABLE sluice_batch AS {source}")
            source = "FROM sluice_batch"
        values = {column.name: f"s.{quote(column.name)}" for column in table.columns} | dict.fromkeys(
            table.dormant, "NULL"
        )
        if table.has_version:
            values[VERSION] = f"s.{quote(VERSION)}"
        before = self.warehouse.value(f"SELECT count(*) FROM {place}")
        if not table.keys:
            return Counts(inserted=self.warehouse.value(
                f"INSERT INTO {place} ({_list(map(quote, [*values, SYNCED_AT]))}) SELECT {_list(values.values())}, now() FROM ({source}) s"
            ))  # fmt: skip
        same_key = " AND ".join(f"t.{quote(key)} = s.{quote(key)}" for key in table.keys)
        others = {name: value for name, value in values.items() if name not in table.keys}
        differs = " OR ".join(f"t.{quote(name)} IS DISTINCT FROM {value}" for name, value in others.items()) or "false"
        if has_history:
            old = _list(quote(name) for name in [*values, SYNCED_AT])
            self.warehouse.execute(
                f"INSERT INTO {self.place(table.name + '_history')} ({old}, {quote(REPLACED_AT)}) "
                f"SELECT {_list(f't.{quote(name)}' for name in [*values, SYNCED_AT])}, now() "
                f"FROM {place} t JOIN ({source}) s ON {same_key} WHERE {differs}"
            )
        updates = _list(f"{quote(name)} = {value}" for name, value in {**others, SYNCED_AT: "now()"}.items())
        touched = self.warehouse.value(
            f"MERGE INTO {place} t USING ({source}) s ON {same_key} WHEN MATCHED AND ({differs}) THEN UPDATE SET {updates} "
            f"WHEN NOT MATCHED THEN INSERT ({_list(map(quote, [*values, SYNCED_AT]))}) VALUES ({_list(values.values())}, now())"
        )
        inserted = self.warehouse.value(f"SELECT count(*) FROM {place}") - before
        return Counts(inserted=inserted, updated=touched - inserted)

    def _source(self, table: Table) -> str:
        """The rows of the chunk, typed, the last of each key."""
        quote = self.warehouse.quote
        fields = ", ".join(f"{quote(column.field)} {self._read_as(column)}" for column in table.columns)
        kinds = f"{{record: {_literal(f'STRUCT({fields})')}, version: 'BIGINT'}}"
        values = [f"{self._value(column)} AS {quote(column.name)}" for column in table.columns]
        values += [f"version AS {quote(VERSION)}"] if table.has_version else []
        rows = (
            f"SELECT {_list(values)}, row_number() OVER () AS _position FROM read_json({_literal(str(self._chunk))}, "
            f"format = 'newline_delimited', columns = {kinds}, maximum_object_size = {self._buffer_bytes})"
        )
        if not table.keys:
            return rows
        keys = _list(quote(key) for key in table.keys)
        # MERGE would take the first of two, or insert both.
        return f"SELECT * FROM ({rows}) QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY _position DESC) = 1"

    def _read_as(self, column: Column) -> str:
        return "VARCHAR" if column.kind in ("decimal", "json") else self.type_of(column)

    def _value(self, column: Column) -> str:
        value = f"record.{self.warehouse.quote(column.field)}"
        if column.kind == "json":
            return f"CAST({value} AS JSON)"
        if column.kind == "decimal":  # a cast would round, silently
            decimals = f"(\\.\\d{{1,{column.scale}}})?" if column.scale else ""
            exact = f"-?\\d{{1,{DECIMAL_DIGITS - column.scale}}}{decimals}"
            return (
                f"CASE WHEN {value} IS NULL THEN NULL WHEN regexp_full_match({value}, '{exact}') "
                f"THEN CAST({value} AS {self.type_of(column)}) ELSE error('no decimal of {column.scale}') END"
            )
        return value


def _list(parts) -> str:
    return ", ".join(parts)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
