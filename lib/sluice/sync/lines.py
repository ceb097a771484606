"""The lines of a stream, checked against its schema: in half a microsecond when they are good, mended when they are not.

A database's JSON reader gets the lines as they came, so a line is good only when that reader cannot misread it: readers
round 1.5 to an integer and pass every number through a double. Whatever is in doubt is *mended*: read by Python, each
value put where it fits and written anew, exact values as strings. What breaks its schema is refused.
"""

import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec

from sluice.sync.columns import DECIMAL_DIGITS, DECIMAL_SCALE, Column

INT64 = 1 << 63
# A number among the text of JSON that a double may not hold, or that a reader would write in another way.
_UNSAFE_NUMBER = re.compile(rb"[:,\[]\s*-?(?:\d[\d.]{15,}|[\d.]+[eE])").search
_UNUSUAL_NAME = re.compile(r'["\\\x00-\x1f]').search  # the checker knows no field of such a name
_FIRST_BYTES = {"object": b"{", "array": b"[", "boolean": b"tf", "number": b"-0123456789", "integer": b"-0123456789"}
_JSON_TYPES: dict[type, set[str]] = {
    str: {"string"}, bool: {"boolean"}, int: {"integer", "number"}, Decimal: {"number"}, dict: {"object"}, list: {"array"},
}  # fmt: skip


class Unfit(ValueError):
    """A record that breaks its schema; the text says how."""


def checker(stream: str, columns: list[Column]) -> Callable[[bytes], Any]:
    """A function that decodes a line to a message with `version` and `record`, whose attribute `f3` is the field of the
    fourth column. It raises msgspec.DecodeError or UnicodeDecodeError for a line of another kind, or one in doubt."""
    if any(_UNUSUAL_NAME(column.field) for column in columns):
        return _always_in_doubt
    fields: list[Any] = []
    for number, column in enumerate(columns):
        kind: Any = _fast_type(column)
        if column.is_key:
            fields.append((f"f{number}", kind, msgspec.field(name=column.field)))
            continue
        kind = kind | None if column.is_nullable and kind is not msgspec.Raw else kind
        if column.is_required:
            fields.append((f"f{number}", kind, msgspec.field(name=column.field)))
        else:
            absent = msgspec.Raw() if kind is msgspec.Raw else msgspec.UNSET
            kind = kind if kind is msgspec.Raw else kind | msgspec.UnsetType
            fields.append((f"f{number}", kind, msgspec.field(name=column.field, default=absent)))
    record = msgspec.defstruct("Record", fields, kw_only=True, forbid_unknown_fields=True, gc=False)
    message = msgspec.defstruct(
        "Message", [("stream", Literal[stream]), ("record", record), ("version", int | None, None)], tag="RECORD", tag_field="type", gc=False
    )  # fmt: skip
    decode = msgspec.json.Decoder(message).decode
    nested = [
        (f"f{number}", b"".join(_FIRST_BYTES.get(name, b"") for name in (column.types or _FIRST_BYTES)), column.is_nullable)
        for number, column in enumerate(columns)
        if column.kind == "json"
    ]  # fmt: skip
    if not nested:
        return decode

    def decode_nested(line: bytes) -> Any:
        found: Any = decode(line)
        for name, first_bytes, is_nullable in nested:
            raw = bytes(getattr(found.record, name))
            if raw and (_UNSAFE_NUMBER(raw) or raw[0] not in first_bytes) and not (raw == b"null" and is_nullable):
                raise msgspec.ValidationError
        return found

    return decode_nested


def _always_in_doubt(_: bytes) -> Any:
    raise msgspec.ValidationError


def _fast_type(column: Column) -> Any:
    if column.kind == "integer":
        return Annotated[int, msgspec.Meta(ge=-INT64, le=INT64 - 1)]
    if column.kind == "timestamp":
        return Annotated[datetime, msgspec.Meta(tz=True)]
    if column.kind == "text":
        scalars = {"string": str, "integer": int, "boolean": bool}  # a fraction would come out of a double
        kinds = [scalars[name] for name in scalars if name in column.types]
        kind: Any = kinds[0] if kinds else str
        for more in kinds[1:]:
            kind = kind | more
        return kind
    if column.kind == "decimal":
        # A double has 15 digits for sure; how many of them are decimals, the database is asked.
        bound = float(10 ** max(0, 15 - column.scale))
        number = Annotated[float, msgspec.Meta(gt=-bound, lt=bound)]
        kinds = ([str] if "string" in column.types else []) + ([number] if column.types & {"number", "integer"} else [])
        return kinds[0] if len(kinds) == 1 else str | number
    return {"boolean": bool, "number": float, "date": date, "json": msgspec.Raw}[column.kind]


def mend(message: dict[str, Any], columns: list[Column]) -> tuple[bytes, dict[str, Any], list[Column]]:
    """The line anew with every value where it fits and as exact as it came; its values; the siblings that it needs.

    In it a json value is a text that holds JSON. Raises Unfit for a record that breaks its schema; there is a column for
    each of its fields.
    """
    record: dict[str, Any] = message["record"]
    fitting: dict[str, Any] = {}
    siblings: list[Column] = []
    for column in columns:
        if column.field not in record:
            if column.is_key or column.is_required:
                raise Unfit(f"{column.field} is missing")
            continue
        value = record[column.field]
        if value is None:
            if column.is_key or not column.is_nullable:
                raise Unfit(f"{column.field} is null")
            continue
        if column.types and not _JSON_TYPES[type(value)] & column.types and not _is_whole(value, column):
            raise Unfit(f"{column.field} is {_shown(value)}, no {' or '.join(sorted(column.types))}")
        fits = _FIT[column.kind](value, column)
        if fits is not None:
            fitting[column.field] = fits
        elif column.is_key:
            raise Unfit(f"{column.field} is {_shown(value)}, which is no {column.kind}: a key cannot stand elsewhere")
        else:
            sibling = column.sibling(_kind_of(value))
            siblings.append(sibling)
            fitting[sibling.field] = _FIT[sibling.kind](value, sibling)
    try:
        mended = json.dumps({"record": fitting, "version": message.get("version")}, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise Unfit("half a character (a lone surrogate) in a text") from None
    return mended + b"\n", fitting, siblings


def plain(line: bytes) -> dict[str, Any]:
    """The message as Python reads it, numbers exact. Raises Unfit for what is no RECORD."""
    try:
        message = json.loads(line, parse_float=Decimal, parse_constant=_no_constant)
    except (ValueError, RecursionError) as problem:
        raise Unfit(f"not JSON: {problem}") from None
    if not isinstance(message, dict) or not isinstance(message.get("record"), dict):
        raise Unfit("its record is no object")
    return message


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _is_whole(value: Any, column: Column) -> bool:
    """JSON schema takes 1.0 for an integer."""
    return isinstance(value, Decimal) and "integer" in column.types and value == value.to_integral_value()


def _shown(value: Any) -> str:
    text = str(value) if isinstance(value, Decimal) else json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _kind_of(value: Any) -> str:
    """The kind of sibling that holds this value whatever it is."""
    is_decimal = isinstance(value, int | Decimal) and not isinstance(value, bool)
    if is_decimal and _as_decimal(value, Column("", "", "decimal", scale=DECIMAL_SCALE)) is not None:
        return "decimal"
    return "json" if isinstance(value, dict | list) else "text"


def _as_boolean(value: Any, _: Column) -> bool | None:
    return value if isinstance(value, bool) else None


def _as_integer(value: Any, _: Column) -> int | None:
    return int(value) if -INT64 <= value < INT64 else None


def _as_number(value: Any, _: Column) -> str | None:
    number = float(value)
    return repr(number) if abs(number) != float("inf") else None


def _as_decimal(value: Any, column: Column) -> str | None:
    try:
        exact = Decimal(value)
    except ArithmeticError:
        return None
    if not exact.is_finite():
        return None
    if not exact:
        return "0"  # 0E-999999999, too
    sign, digits, exponent = exact.as_tuple()
    assert isinstance(exponent, int)
    # 1.5000 fits two decimals. Not by Decimal.normalize, which rounds to 28 digits.
    while -exponent > column.scale and digits[-1] == 0:
        digits, exponent = digits[:-1], exponent + 1
    fits = -exponent <= column.scale and len(digits) + exponent <= DECIMAL_DIGITS - column.scale
    return format(Decimal((sign, digits, exponent)), "f") if fits else None


def _as_text(value: Any, _: Column) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)


def _as_timestamp(value: Any, _: Column) -> str | None:
    try:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    except (ValueError, OverflowError):
        return None


def _as_date(value: Any, _: Column) -> str | None:
    try:
        return date.fromisoformat(value).isoformat()
    except ValueError:
        return None


def _as_json(value: Any, _: Column) -> str:
    return _json(value)


def _json(value: Any) -> str:
    """JSON text; Python's own writer knows no exact numbers."""
    if isinstance(value, dict):
        return (
            "{"
            + ",".join(f"{json.dumps(key, ensure_ascii=False)}:{_json(inner)}" for key, inner in value.items())
            + "}"
        )
    if isinstance(value, list):
        return "[" + ",".join(map(_json, value)) + "]"
    return str(value) if isinstance(value, Decimal) else json.dumps(value, ensure_ascii=False)


_FIT: dict[str, Callable[[Any, Column], Any]] = {
    "boolean": _as_boolean, "integer": _as_integer, "number": _as_number, "decimal": _as_decimal, "text": _as_text,
    "timestamp": _as_timestamp, "date": _as_date, "json": _as_json,
}  # fmt: skip
