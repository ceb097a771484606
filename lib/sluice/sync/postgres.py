"""Into Postgres: COPY takes the lines as they came, its own JSON reads them exactly, ON CONFLICT writes what differs."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from sluice.errors import busy
from sluice.sync.columns import DECIMAL_DIGITS, Column
from sluice.sync.target import REPLACED_AT, SYNCED_AT, VERSION, Batch, Counts, Target
from sluice.warehouse import WarehouseError

_COPY_ESCAPES = ((b"\\", b"\\\\"), (b"\t", b"\\t"), (b"\r", b"\\r"))


class PostgresTarget(Target):
    """Tables have a unique index on their key; decimals are numeric without bounds, the digits are checked all the same."""

    dialect = "postgres"
    types: ClassVar = {
        "boolean": "boolean", "integer": "bigint", "number": "double precision", "decimal": "numeric",
        "text": "text", "timestamp": "timestamp with time zone", "date": "date", "json": "jsonb",
    }  # fmt: skip

    def scale_of(self, kind: str) -> int | None:
        return None  # numeric takes any

    def is_refusal(self, problem: WarehouseError) -> bool:
        """SQLSTATE class 22: data exceptions, such as a text that is no number or a NUL in one."""
        return isinstance(problem.number, str) and problem.number.startswith("22")

    @contextmanager
    def exclusively(self, source: str) -> Iterator[None]:
        lock = {"name": f"sync-cursor {self.schema} {source}"}
        if not self.warehouse.value("SELECT pg_try_advisory_lock(hashtextextended($name, 0))", lock):
            raise busy(f"another load of {source} is running", hint="wait for it to end")
        try:
            yield
        finally:
            self.warehouse.execute("SELECT pg_advisory_unlock(hashtextextended($name, 0))", lock)

    def create_table(self, name: str, columns: dict[str, str], keys: list[str]) -> None:
        super().create_table(name, columns, keys)
        if keys:
            on = ", ".join(map(self.warehouse.quote, keys))
            self.warehouse.execute(f"CREATE UNIQUE INDEX ON {self.place(name)} ({on})")

    def load(self, batch: Batch, *, has_history: bool) -> Counts:
        table, quote, place = batch.table, self.warehouse.quote, self.place(batch.table.name)
        self._stage(batch)
        values = [column.name for column in table.columns] + ([VERSION] if table.has_version else [])
        dormant = [name for name in table.dormant if name not in values]
        names = _list(map(quote, [*values, SYNCED_AT]))
        insert = f"INSERT INTO {place} AS t ({names}) SELECT {_list(map(quote, values))}, now() FROM sluice_rows"
        if not table.keys:
            return Counts(inserted=len(self.warehouse.rows(f"{insert} RETURNING 1")))
        others = [name for name in values if name not in table.keys]
        old, new = [f"t.{quote(name)}" for name in others], [f"{{new}}.{quote(name)}" for name in others]
        differs = f"({_list([*old, *(f't.{quote(name)}' for name in dormant)])}) IS DISTINCT FROM ({_list([*new, *['NULL'] * len(dormant)])})"
        if not others and not dormant:
            differs = "false"
        if has_history:
            kept = _list(map(quote, [*values, *dormant, SYNCED_AT]))
            same_key = " AND ".join(f"t.{quote(key)} = s.{quote(key)}" for key in table.keys)
            self.warehouse.execute(
                f"INSERT INTO {self.place(table.name + '_history')} ({kept}, {quote(REPLACED_AT)}) "
                f"SELECT {_list(f't.{quote(name)}' for name in [*values, *dormant, SYNCED_AT])}, now() "
                f"FROM {place} t JOIN sluice_rows s ON {same_key} WHERE {differs.format(new='s')}"
            )
        updates = [f"{quote(name)} = excluded.{quote(name)}" for name in [*others, SYNCED_AT]]
        updates += [f"{quote(name)} = NULL" for name in dormant]
        done = self.warehouse.rows(
            f"WITH done AS ({insert} ON CONFLICT ({_list(map(quote, table.keys))}) DO UPDATE SET {_list(updates)} "
            f"WHERE {differs.format(new='excluded')} RETURNING xmax = 0 AS is_new) "
            "SELECT count(*) FILTER (WHERE is_new), count(*) FILTER (WHERE NOT is_new) FROM done"
        )
        return Counts(inserted=done[0][0], updated=done[0][1])

    def _stage(self, batch: Batch) -> None:
        """The lines into sluice_rows: typed, the last of each key."""
        table, quote = batch.table, self.warehouse.quote
        self.warehouse.execute("DROP TABLE IF EXISTS sluice_lines, sluice_rows")
        self.warehouse.execute(
            "CREATE TEMP TABLE sluice_lines (line jsonb, _position bigint GENERATED ALWAYS AS IDENTITY) ON COMMIT DROP"
        )
        text = b"".join(batch.lines)
        for plain, escaped in _COPY_ESCAPES:
            text = text.replace(plain, escaped)
        self.warehouse.copy("COPY sluice_lines (line) FROM STDIN", io.BytesIO(text))  # type: ignore[attr-defined]
        values = [f"{self._value(column)} AS {quote(column.name)}" for column in table.columns]
        values += [f"(line ->> 'version')::bigint AS {quote(VERSION)}"] if table.has_version else []
        rows = f"SELECT {_list(values)}, _position FROM sluice_lines"
        if table.keys:
            keys = _list(map(quote, table.keys))
            rows = f"SELECT DISTINCT ON ({keys}) * FROM ({rows}) r ORDER BY {keys}, _position DESC"
        self.warehouse.execute(f"CREATE TEMP TABLE sluice_rows ON COMMIT DROP AS {rows}")

    def _value(self, column: Column) -> str:
        field = "'" + column.field.replace("'", "''") + "'"
        record = "line -> 'record'"
        text = f"({record} ->> {field})"
        if column.kind == "json":
            value = f"({record} -> {field})"
            # A text holds JSON; JSON's null is no value.
            return f"CASE jsonb_typeof{value} WHEN 'string' THEN {text}::jsonb WHEN 'null' THEN NULL ELSE {value} END"
        if column.kind == "decimal":  # numeric takes NaN, Infinity and 1e-30, too
            exact = f"^-?\\d{{1,{DECIMAL_DIGITS - min(column.scale, DECIMAL_DIGITS - 1)}}}(\\.\\d{{1,{max(column.scale, 1)}}})?$"
            return f"CASE WHEN {text} ~ '{exact}' THEN {text}::numeric WHEN {text} IS NOT NULL THEN ('no decimal: ' || {text})::numeric END"
        return text if column.kind == "text" else f"{text}::{self.type_of(column)}"


def _list(parts) -> str:
    return ", ".join(parts)
