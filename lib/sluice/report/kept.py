"""What commands kept of their records in the log folder: one file a run. Only what no store holds is read from there."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import msgspec

from sluice.ids import timestamp
from sluice.records import CheckResult, PartitionResult

MOST = 50_000
# As msgspec writes them, the type first: every other line is passed by without being looked at.
_STARTS = tuple(f'{{"type":"{kind.__struct_config__.tag}"'.encode() for kind in (CheckResult, PartitionResult))


@dataclass
class Kept:
    """Records of the time looked at, oldest first. `broken` counts lines, and files, that cannot be read."""

    checks: list[CheckResult] = field(default_factory=list)
    partitions: list[PartitionResult] = field(default_factory=list)
    broken: int = 0


def read(log_dir: Path, since: datetime) -> Kept:
    """The checks and partitions in records/*.jsonl from `since` on, the latest MOST of each."""
    kept = Kept()
    earliest = timestamp(since)
    for line in _lines(log_dir / "records", since.timestamp(), kept):
        try:
            record = msgspec.json.decode(line, type=CheckResult | PartitionResult)
        except (msgspec.DecodeError, UnicodeError):
            kept.broken += 1
            continue
        if record.at < earliest:
            continue
        if isinstance(record, CheckResult):
            kept.checks.append(record)
        else:
            kept.partitions.append(record)
    kept.checks = sorted(kept.checks, key=lambda one: one.at)[-MOST:]
    kept.partitions = sorted(kept.partitions, key=lambda one: one.at)[-MOST:]
    return kept


def _lines(folder: Path, since: float, kept: Kept) -> Iterator[bytes]:
    for path in sorted(folder.glob("*.jsonl")):
        try:
            if path.stat().st_mtime < since:
                continue
            with open(path, "rb") as lines:
                yield from (line for line in lines if line.startswith(_STARTS))
        except OSError:
            kept.broken += 1
