"""What our taps share: Singer's flags and messages, keys that are never on a command line, requests that are counted."""

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar

from sluice.command import Context
from sluice.errors import FAILED, SluiceError, misconfigured, refused
from sluice.pipe import Writer
from sluice.records import Record
from sluice.signals import interruptible

T = TypeVar("T")
LONGEST_RETRY_AFTER_S = 300.0
ATTEMPTS = 7


class Messages:
    """Singer messages on a file descriptor; None: nowhere."""

    def __init__(self, fd: int | None):
        self._writer = Writer(fd) if fd is not None else None

    def schema(self, stream: dict[str, Any]) -> None:
        """The SCHEMA of an entry of a catalog."""
        self._write(
            type="SCHEMA", stream=stream["stream"], schema=stream["schema"], key_properties=stream["key_properties"],
            bookmark_properties=[stream["replication_key"]],
        )  # fmt: skip

    def record(self, stream: str, record: dict[str, Any]) -> None:
        self._write(type="RECORD", stream=stream, record=record)

    def state(self, value: dict[str, Any]) -> None:
        self._write(type="STATE", value=value)
        self.flush()

    def catalog(self, streams: list[dict[str, Any]]) -> None:
        if self._writer is not None:
            self._writer.copy(json.dumps({"streams": streams}, indent=2).encode() + b"\n")
            self.flush()

    def flush(self) -> None:
        if self._writer is not None:
            self._writer.flush()

    def _write(self, **message: Any) -> None:
        if self._writer is not None:
            self._writer.copy(json.dumps(message, ensure_ascii=False).encode() + b"\n")


@dataclass
class Requests:
    """Requests of one run, counted; `most` may be made."""

    most: int | None
    made: int = 0

    def count(self) -> None:
        """Raises SluiceError (1) for one too many."""
        if self.most is not None and self.made >= self.most:
            raise SluiceError(
                f"{self.made} requests are made, as many as --max-requests allows: what is left is for the next run",
                code="tap_capped",
                exit_code=FAILED,
                hint="run it again, or with a higher --max-requests",
            )
        self.made += 1


def read_json(path: Path | None, what: str) -> dict[str, Any]:
    """A JSON object from a file; {} without one, or for an empty file. Raises SluiceError (78)."""
    if path is None:
        return {}
    try:
        found = json.loads(path.read_text().strip() or "{}")
    except (OSError, ValueError) as problem:
        raise misconfigured(f"{what} {path}: {problem}", code="tap_bad_file") from None
    if not isinstance(found, dict):
        raise misconfigured(f"{what} {path} is not a JSON object", code="tap_bad_file")
    return found


def secret(name: str) -> str | None:
    """A key from the environment variable, or from the file that `<name>_FILE` names. Raises SluiceError (78)."""
    if path := os.environ.get(f"{name}_FILE"):
        try:
            return Path(path).read_text().strip()
        except OSError as problem:
            raise misconfigured(f"{name}_FILE: {problem}", code="tap_bad_file") from None
    return os.environ.get(name) or None


def moment(text: str, what: str) -> datetime:
    """Raises SluiceError (2)."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise refused(f"{what} is {text!r}, no moment such as 2026-01-31T00:00:00Z", code="tap_bad_moment") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def period(start: str | None, end: str | None) -> tuple[datetime | None, datetime | None]:
    """The ends of a backfill, of which either may be open. Raises SluiceError (2)."""
    since = moment(start, "--start (START_TS)") if start else None
    until = moment(end, "--end (END_TS)") if end else None
    if since and until and since >= until:
        raise refused(
            f"nothing is from {start} on and earlier than {end}",
            code="tap_bad_moment",
            hint="START_TS=… END_TS=…, the later one last",
        )
    return since, until


def windows(start: datetime, end: datetime, length: timedelta) -> Iterator[tuple[datetime, datetime]]:
    """[start, end) in ascending half-open windows of at most `length`."""
    while start < end:
        until = min(start + length, end)
        yield start, until
        start = until


def retry_after_s(value: str | None) -> float | None:
    """The seconds that a Retry-After header asks for, as a number or a date; None without one."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def patiently(ask: Callable[[], T], is_passing: Callable[[Exception], bool | float]) -> T:
    """`ask`, again with back-off and jitter while its trouble is passing; a number is how long the server asks to wait.

    Raises what `ask` raised last. A stop signal interrupts the wait.
    """
    import stamina

    def hook(problem: Exception) -> bool | float:
        found = is_passing(problem)
        if isinstance(found, bool):
            return found
        return min(found, LONGEST_RETRY_AFTER_S)

    with interruptible():
        for attempt in stamina.retry_context(on=hook, attempts=ATTEMPTS, timeout=None):
            with attempt:
                return ask()
    raise AssertionError("stamina gives up with the last exception")


def discover(ctx: Context, streams: list[dict[str, Any]]) -> Iterator[Record]:
    """Write the catalog."""
    Messages(ctx.stdout).catalog(streams)
    yield from ()


def is_selected(stream: str, catalog: dict[str, Any]) -> bool:
    """Without a catalog everything is; in one, what its metadata or, as older taps write it, its schema selects."""
    if not catalog:
        return True
    for entry in catalog.get("streams", []):
        if entry.get("tap_stream_id", entry.get("stream")) == stream:
            marks = [part["metadata"] for part in entry.get("metadata", []) if part.get("breadcrumb") == []]
            return bool((marks[0] if marks else {}).get("selected", entry.get("schema", {}).get("selected", False)))
    return False
