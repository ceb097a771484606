"""The columns of a stream: what a JSON schema becomes in a table, and where a value goes that its column cannot hold.

Eight kinds are all there is: boolean, integer (64 bits), number (a double), decimal (exact, 38 digits), text, timestamp
(UTC), date and json. An amount is a decimal when its schema says so: `format: singer.decimal` on a string, `multipleOf`
on a number. A column never changes its type: what is of another kind goes to a sibling, `<column>__<kind>`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from sluice.errors import refused

DECIMAL_DIGITS = 38
DECIMAL_SCALE = 18  # of a decimal that does not say: wei, the smallest unit in use, has 18
_MOST_SCALE = 30
FORMATS = {"date-time": "timestamp", "date": "date", "singer.decimal": "decimal", "x-singer.decimal": "decimal"}


@dataclass(frozen=True)
class Column:
    """A column `name` that takes `field` of the record. `types` are JSON's types that the schema allows besides null.

    `scale` counts the decimals of a decimal. A key is never null.
    """

    field: str
    name: str
    kind: str
    types: frozenset[str] = frozenset()
    scale: int = 0
    is_nullable: bool = True
    is_required: bool = False
    is_key: bool = False

    def sibling(self, kind: str) -> "Column":
        """The column for values of this one that are of another kind."""
        name = f"{self.name}__{kind}"
        return Column(name, name, kind, scale=DECIMAL_SCALE if kind == "decimal" else 0)


def of_schema(stream: str, schema: Mapping[str, Any], keys: Iterable[str]) -> list[Column]:
    """The columns of a stream, in the order of its schema. Raises SluiceError (2) for keys that cannot be.

    Names are the fields' own, in lower case: databases do not agree on what upper case means.
    """
    properties, keys = schema.get("properties") or {}, list(keys)
    required = set(schema.get("required") or ())
    columns = [_column(name, prop, required) for name, prop in properties.items()]
    for key in keys:
        if key not in properties:
            raise refused(f"stream {stream}: its key {key!r} is not in its schema", code="sync_bad_key")
    columns = [replace(column, is_key=column.field in keys) for column in columns]
    for column in columns:
        if column.is_key and column.kind == "json":
            raise refused(f"stream {stream}: its key {column.field!r} has no simple type", code="sync_bad_key")
    names: dict[str, str] = {}
    for column in columns:
        if column.name in names:
            raise refused(
                f"stream {stream}: {names[column.name]!r} and {column.field!r} would be one column",
                code="sync_same_column",
                hint="leave one of them out in the tap's catalog",
            )
        names[column.name] = column.field
    return columns


def unknown(field: str) -> Column:
    """A column for a field that is in a record and not in the schema."""
    return Column(field, field.lower(), "json")


def _column(field: str, schema: Any, required: set[str]) -> Column:
    types, formats, scale = _allowed(schema if isinstance(schema, Mapping) else {})
    is_nullable = "null" in types or not types
    kind = _kind(types - {"null"}, formats, scale)
    if kind == "decimal" and scale is None:
        scale = DECIMAL_SCALE
    return Column(
        field, field.lower(), kind, frozenset(types - {"null"}), min(scale or 0, _MOST_SCALE), is_nullable, field in required
    )  # fmt: skip


def _allowed(schema: Mapping[str, Any]) -> tuple[set[str], set[str], int | None]:
    """Types, formats and decimals that a schema allows, alternatives taken together."""
    given = schema.get("type", [])
    types = {given} if isinstance(given, str) else set(given)
    formats = {schema["format"]} if schema.get("format") in FORMATS else set()
    step = schema.get("multipleOf")
    scale = None if step is None else max(0, -int(Decimal(str(step)).normalize().as_tuple().exponent))
    for alternative in [*schema.get("anyOf", []), *schema.get("oneOf", [])]:
        more_types, more_formats, more_scale = _allowed(alternative)
        types |= more_types
        formats |= more_formats
        scale = more_scale if scale is None else scale
    return types, formats, scale


def _kind(types: set[str], formats: set[str], scale: int | None) -> str:
    if not types or types & {"object", "array"}:
        return "json"
    if "decimal" in (FORMATS[name] for name in formats) and types <= {"string", "number", "integer"}:
        return "decimal"
    if types == {"string"}:
        return FORMATS[formats.pop()] if len(formats) == 1 else "text"
    if types == {"integer"}:
        return "integer"
    if types <= {"integer", "number"}:
        return "number" if scale is None else "decimal"
    return "boolean" if types == {"boolean"} else "text"
