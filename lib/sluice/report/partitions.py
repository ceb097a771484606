"""Partitions: what merging did to their parts and duplicates, the last time that each was looked at."""

from collections.abc import Iterable

from sluice.records import PartitionResult


def partitions(results: Iterable[PartitionResult], *, most: int) -> list[PartitionResult]:
    """The last result of each partition; where there are more than `most`, those that had the most to merge."""
    last: dict[tuple[str, str | None], PartitionResult] = {}
    for result in sorted(results, key=lambda one: one.at):
        if result.status in ("ok", "failed"):
            last[result.table, result.partition] = result
    most_first = sorted(
        last.values(), key=lambda one: (one.duplicate_rows_before or 0, one.parts_before or 0), reverse=True
    )
    return sorted(most_first[:most], key=lambda one: (one.table, one.partition or ""))
