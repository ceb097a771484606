"""Names for things."""

import hashlib
import json
import uuid
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from sluice import ids
from sluice.ids import content_hash, new_run_id, timestamp


def test_run_ids_are_version_7_and_sort_by_time(monkeypatch) -> None:
    made = []
    for milliseconds in range(1_700_000_000_000, 1_700_000_001_000, 10):
        monkeypatch.setattr(ids.time, "time_ns", lambda ms=milliseconds: ms * 1_000_000 + 999_999)
        made.append(new_run_id())
        parsed = uuid.UUID(made[-1])
        assert (parsed.version, parsed.variant, parsed.int >> 80) == (7, uuid.RFC_4122, milliseconds)
    assert made == sorted(made)


def test_run_ids_of_one_millisecond_differ(monkeypatch) -> None:
    monkeypatch.setattr(ids.time, "time_ns", lambda: 1_700_000_000_000_000_000)
    assert len({new_run_id() for _ in range(10_000)}) == 10_000


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers() | st.booleans() | st.none()))
def test_a_content_hash_does_not_depend_on_the_order_of_keys(value: dict) -> None:
    assert content_hash(value) == content_hash(dict(reversed(value.items())))
    assert len(content_hash(value)) == 16


def test_a_content_hash_tells_types_apart() -> None:
    values = [1, "1", 1.5, "1.5", True, "true", None, "null", [], {}, [1], ["1"], {"1": 1}, [[1]], ""]
    assert len({content_hash(value) for value in values}) == len(values)


def test_a_content_hash_never_changes() -> None:
    canonical = '["é",{"a":null,"b":1}]'.encode()  # states hold such hashes for years
    assert content_hash(["é", {"b": 1, "a": None}]) == hashlib.sha256(canonical).hexdigest()[:16]


def test_timestamps_are_utc_with_milliseconds() -> None:
    assert timestamp(datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC)) == "2024-02-29T23:59:59.999Z"
    assert json.loads(f'"{timestamp()}"').endswith("Z")
    assert abs(datetime.fromisoformat(timestamp()) - datetime.now(timezone(timedelta(hours=5)))) < timedelta(seconds=5)
