"""Names for things: run ids that sort by time, content hashes, timestamps."""

import hashlib
import os
import time
import uuid
from datetime import UTC, datetime
from typing import Any

import msgspec


def new_run_id() -> str:
    """A UUID version 7 (RFC 9562, 5.7): 48 bits of milliseconds, then random bits, so that ids sort by time."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


def content_hash(value: Any) -> str:
    """16 hexadecimal digits of a SHA-256 over `value` as canonical JSON (sorted keys)."""
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()[:16]


def timestamp(at: datetime | None = None) -> str:
    """RFC 3339 in UTC with milliseconds; the present moment when `at` is None."""
    return (at or datetime.now(UTC)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
