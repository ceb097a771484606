"""The quick check lets no line pass that a database's reader would misread; mending loses nothing."""

import json
from decimal import Decimal

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sluice.sync import columns, lines, overlap
from sluice.sync.lines import Unfit

PROPERTIES = {
    "id": {"type": "integer"},
    "n": {"type": ["null", "integer"]},
    "x": {"type": ["null", "number"]},
    "d": {"type": ["null", "string"], "format": "singer.decimal"},
    "m": {"type": ["null", "number"], "multipleOf": 0.01},
    "t": {"type": ["null", "string"]},
    "b": {"type": ["null", "boolean"]},
    "at": {"type": ["null", "string"], "format": "date-time"},
    "j": {"type": ["null", "object", "array"]},
}
COLUMNS = columns.of_schema("s", {"properties": PROPERTIES}, ["id"])


def line(**fields: object) -> bytes:
    return json.dumps({"type": "RECORD", "stream": "s", "record": fields}).encode()


def is_good(raw: bytes) -> bool:
    try:
        lines.checker("s", COLUMNS)(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


def test_kinds_are_what_the_schema_means() -> None:
    kinds = {column.field: column.kind for column in COLUMNS}
    assert kinds == {
        "id": "integer", "n": "integer", "x": "number", "d": "decimal", "m": "decimal", "t": "text", "b": "boolean",
        "at": "timestamp", "j": "json",
    }  # fmt: skip
    assert next(column for column in COLUMNS if column.field == "m").scale == 2
    mixed = {
        "p": {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]},
        "q": {"type": ["string", "integer"]},
        "r": {},
        "s": {"type": ["null", "string"], "format": "x-singer.decimal"},
    }
    assert [column.kind for column in columns.of_schema("s", {"properties": mixed}, [])] == [
        "timestamp",
        "text",
        "json",
        "decimal",
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 1.5}, {"n": "7"}, {"n": True}, {"n": 2**63}, {"x": "1"}, {"d": 1}, {"t": 1}, {"b": 1}, {"b": "true"}, {"at": "2026-01-01"},
        {"at": "2026-01-01T00:00:00"}, {"j": "text"}, {"j": 1}, {"unknown": 1}, {"id": None}, {"m": 10.0**14},
    ],
)  # fmt: skip
def test_what_a_reader_would_misread_is_in_doubt(fields: dict) -> None:
    assert is_good(line(id=1)) and not is_good(line(**({"id": 1} | fields)))


@pytest.mark.parametrize("number", ["0.1234567890123456", "12345678901234567", "1e5", "-1.5E-7", "1234567890.1234567"])
def test_numbers_in_json_that_no_double_holds_are_in_doubt_wherever_they_are(number: str) -> None:
    for text in (f'{{"a":{number}}}', f"[{number}]", f"[1, {number}]", f'{{"a":{{"b":[0,{number}]}}}}'):
        raw = line(id=1, j=0).replace(b'"j": 0', b'"j": ' + text.encode())
        assert not is_good(raw)
        mended, _, _ = lines.mend(lines.plain(raw), COLUMNS)
        assert json.loads(json.loads(mended)["record"]["j"], parse_float=Decimal, parse_int=Decimal) == json.loads(
            text, parse_float=Decimal, parse_int=Decimal
        )
    assert is_good(line(id=1, j={"a": 1.5, "hash": "0x12345678901234567890e5", "b": [1, "12345678901234567890"]}))


numbers = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**40), max_value=10**40) | st.integers()


@given(numbers)
@example(Decimal("3098727852.9222528088213062077"))  # 29 digits: one more than Python's decimals compute with
@example(Decimal("1.50000000000000000000000000"))
@example(Decimal("0E-30"))
def test_a_decimal_is_kept_exactly_or_as_a_text(number: Decimal | int) -> None:
    mended, _, siblings = lines.mend({"record": {"id": 1, "d": str(number)}}, COLUMNS)
    kept = json.loads(mended)["record"]
    assert Decimal(kept["d"] if "d" in kept else kept["d__text"]) == Decimal(number)
    assert ("d" in kept) != bool(siblings)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_json_arrives_as_it_was(value: object) -> None:
    schema = columns.of_schema("s", {"properties": {"id": {"type": "integer"}, "j": {}}}, ["id"])
    if value is None:
        return
    mended, _, _ = lines.mend(json.loads(line(id=1, j=value), parse_float=Decimal), schema)
    assert json.loads(json.loads(mended)["record"]["j"]) == value


def test_what_no_database_can_take_is_refused_with_its_reason() -> None:
    with pytest.raises(Unfit, match="surrogate"):
        lines.mend({"record": {"id": 1, "t": "\ud800"}}, COLUMNS)
    for raw, word in ((b'{"record":{"id":NaN}}', "NaN"), (b'{"record":[]}', "no object"), (b"{", "not JSON")):
        with pytest.raises(Unfit, match=word):
            lines.plain(raw)


def test_an_overlap_moves_every_moment_in_the_form_it_was_written_and_nothing_else() -> None:
    state = {
        "bookmarks": {
            "a": {"at": "2026-01-02T00:00:00Z"}, "b": {"replication_key_value": "2026-01-02T00:00:00.500000+02:00", "n": 7},
            "c": ["2026-01-02", "text", "2026-01-02 12:00:00"],
        },
        "currently_syncing": "2026-01-02",
    }  # fmt: skip
    moved, found = overlap.back(state, overlap.duration("24h"))
    assert found == 4
    assert moved == {
        "bookmarks": {
            "a": {"at": "2026-01-01T00:00:00Z"}, "b": {"replication_key_value": "2026-01-01T00:00:00.500000+02:00", "n": 7},
            "c": ["2026-01-01", "text", "2026-01-01 12:00:00"],
        },
        "currently_syncing": "2026-01-02",
    }  # fmt: skip
    for bad in ("24", "h", "-1h", "1w", ""):
        with pytest.raises(ValueError, match="no duration"):
            overlap.duration(bad)
