"""Into ClickHouse: no transactions, so the rows go first and the cursor last, and the same rows again change nothing.

A table is a ReplacingMergeTree whose version is the time of loading; read it with FINAL, or merged. Only rows that
differ from those that are there are inserted, so that a load that is repeated inserts none.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from sluice.sync.columns import DECIMAL_DIGITS, Column
from sluice.sync.target import REPLACED_AT, SYNCED_AT, VERSION, Batch, Counts, Target
from sluice.warehouse import WarehouseError

# Texts that are no number, no moment, out of range; our own throwIf.
_REFUSALS = (6, 26, 27, 38, 41, 53, 69, 70, 72, 117, 131, 349, 395, 407, 467)


class ClickHouseTarget(Target):
    """Keys are not Nullable; a decimal is checked before it is cast, for a cast would cut it."""

    dialect = "clickhouse"
    types: ClassVar = {
        "boolean": "Nullable(Bool)", "integer": "Nullable(Int64)", "number": "Nullable(Float64)",
        "decimal": f"Nullable(Decimal({DECIMAL_DIGITS}, SCALE))", "text": "Nullable(String)",
        "timestamp": "Nullable(DateTime64(6, 'UTC'))", "date": "Nullable(Date32)", "json": "Nullable(String)",
    }  # fmt: skip
    now: ClassVar = "now64(6, 'UTC')"
    final: ClassVar = " FINAL"

    def create_schema(self) -> str:
        return f"CREATE DATABASE IF NOT EXISTS {self.warehouse.quote(self.schema)}"

    def columns_of(self, table: str) -> dict[str, str]:
        found = self.warehouse.rows(
            "SELECT name, type FROM system.columns WHERE database = $schema AND table = $table ORDER BY position",
            {"schema": self.schema, "table": table},
        )
        return {str(name): kind if kind.startswith("Nullable(") else f"Nullable({kind})" for name, kind in found}

    def scale_of(self, kind: str) -> int | None:
        head = f"Nullable(Decimal({DECIMAL_DIGITS}, "
        return int(kind.removeprefix(head).rstrip(")")) if kind.startswith(head) else None

    def moment(self, at: Any) -> str:
        return f"toDateTime64('{at:%Y-%m-%d %H:%M:%S.%f}', 6, 'UTC')"

    def is_refusal(self, problem: WarehouseError) -> bool:
        return problem.number in _REFUSALS

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        yield

    def create_table(self, name: str, columns: dict[str, str], keys: list[str]) -> None:
        quote = self.warehouse.quote
        wanted = [
            f"{quote(column)} {kind.removeprefix('Nullable(').removesuffix(')') if column in keys else kind}"
            for column, kind in columns.items()
            if column != SYNCED_AT
        ]
        wanted.append(f"{quote(SYNCED_AT)} DateTime64(6, 'UTC')")
        engine = f"ReplacingMergeTree({quote(SYNCED_AT)})" if keys else "MergeTree"
        self.warehouse.execute(
            f"CREATE TABLE {self.place(name)} ({_list(wanted)}) ENGINE = {engine} ORDER BY ({_list(map(quote, keys))})"
        )

    def load(self, batch: Batch, *, has_history: bool) -> Counts:
        table, quote, place = batch.table, self.warehouse.quote, self.place(batch.table.name)
        lines, rows = self.place(f"{table.name}__lines"), self.place(f"{table.name}__rows")
        try:
            self._stage(batch, lines, rows)
            values = [column.name for column in table.columns] + ([VERSION] if table.has_version else [])
            new = [f"s.{quote(name)}" for name in values]
            names = _list(map(quote, [*values, SYNCED_AT]))
            if not table.keys:
                self.warehouse.execute(
                    f"INSERT INTO {place} ({names}) SELECT {_list(new)}, {self.now} FROM {rows} AS s"
                )
                return Counts(inserted=len(batch.lines))
            keys = _list(map(quote, table.keys))
            there = f"(SELECT *, 1 AS _is_there FROM {place} FINAL WHERE ({keys}) IN (SELECT {keys} FROM {rows}))"
            same_key = " AND ".join(f"s.{quote(key)} = t.{quote(key)}" for key in table.keys)
            joined = f"FROM {rows} AS s LEFT JOIN {there} AS t ON {same_key}"
            others = [name for name in values if name not in table.keys]
            differs = " OR ".join(
                [f"NOT (s.{quote(name)} <=> t.{quote(name)})" for name in others]
                + [f"t.{quote(name)} IS NOT NULL" for name in table.dormant]
            )
            is_new, is_changed = "t._is_there = 0", f"t._is_there = 1 AND ({differs or 'false'})"
            inserted, updated = self.warehouse.rows(f"SELECT countIf({is_new}), countIf({is_changed}) {joined}")[0]
            if has_history and updated:
                kept = [*values, *table.dormant, SYNCED_AT]
                self.warehouse.execute(
                    f"INSERT INTO {self.place(table.name + '_history')} ({_list(map(quote, kept))}, {quote(REPLACED_AT)}) "
                    f"SELECT {_list(f't.{quote(name)}' for name in kept)}, {self.now} {joined} WHERE {is_changed}"
                )
            if inserted or updated:
                self.warehouse.execute(
                    f"INSERT INTO {place} ({names}) SELECT {_list(new)}, {self.now} {joined} WHERE ({is_new}) OR ({is_changed})"
                )
            return Counts(inserted=inserted, updated=updated)
        finally:
            self.warehouse.execute(f"DROP TABLE IF EXISTS {lines}")
            self.warehouse.execute(f"DROP TABLE IF EXISTS {rows}")

    def _stage(self, batch: Batch, lines: str, rows: str) -> None:
        """The lines into a table in memory: typed, the last of each key."""
        table, quote = batch.table, self.warehouse.quote
        for name in (lines, rows):
            self.warehouse.execute(f"DROP TABLE IF EXISTS {name}")
        self.warehouse.execute(f"CREATE TABLE {lines} (number UInt64, line String) ENGINE = Memory")
        escaped = (line.replace(b"\\", b"\\\\").replace(b"\t", b"\\t").rstrip(b"\r\n") for line in batch.lines)
        block = b"".join(b"%d\t%s\n" % (number, line) for number, line in enumerate(escaped))
        self.warehouse.insert_block(lines, block, "TabSeparated")  # type: ignore[attr-defined]
        values = [f"{self._value(column)} AS {quote(column.name)}" for column in table.columns]
        values += [f"JSONExtract(line, 'version', 'Nullable(Int64)') AS {quote(VERSION)}"] if table.has_version else []
        latest = f" ORDER BY number DESC LIMIT 1 BY {_list(map(quote, table.keys))}" if table.keys else ""
        self.warehouse.execute(f"CREATE TABLE {rows} ENGINE = Memory AS SELECT {_list(values)} FROM {lines}{latest}")

    def _value(self, column: Column) -> str:
        field = "'" + column.field.replace("\\", "\\\\").replace("'", "\\'") + "'"
        path = f"line, 'record', {field}"
        text = f"JSONExtract({path}, 'Nullable(String)')"
        if column.kind == "json":  # a text holds JSON
            raw = f"JSONExtractRaw({path})"
            value = f"multiIf(JSONType({path}) = 'String', {text}, {raw} IN ('', 'null'), NULL, {raw})"
        elif column.kind == "decimal":
            digits, scale = DECIMAL_DIGITS - column.scale, column.scale
            exact = f"^-?[0-9]{{1,{digits}}}" + (f"(\\\\.[0-9]{{1,{scale}}})?$" if scale else "$")
            value = self._sure(
                f"CAST({text}, '{self.type_of(column)}')",
                f"{text} IS NOT NULL AND NOT match(ifNull({text}, ''), '{exact}')",
            )
        elif column.kind == "timestamp":
            moment = f"parseDateTime64BestEffortOrNull({text}, 6, 'UTC')"
            value = self._sure(moment, f"{text} IS NOT NULL AND {moment} IS NULL")
        elif column.kind == "text":
            value = text
        else:
            value = f"CAST({text}, '{self.type_of(column)}')"
        return f"assumeNotNull({value})" if column.is_key else value

    @staticmethod
    def _sure(value: str, is_wrong: str) -> str:
        """The value, for which a cast that fails would put NULL."""
        return f"if(throwIf(assumeNotNull({is_wrong}), 'cannot be read') = 0, {value}, NULL)"


def _list(parts) -> str:
    return ", ".join(parts)
