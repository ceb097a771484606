"""Syncs: the rows of each source by day, how far behind it was, and how it stands now."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime

from sluice.records import SyncState


@dataclass(frozen=True)
class SyncDay:
    """What came of a source on one day. `lag_s` is from its newest bookmark to its last commit, None without a bookmark."""

    day: date
    inserted_rows: int
    updated_rows: int
    lag_s: float | None


@dataclass(frozen=True)
class Source:
    """`now` is its row of sync_log with its figures."""

    name: str
    now: SyncState
    days: list[SyncDay] = field(default_factory=list)


def syncs(
    states: Iterable[SyncState], rows: Iterable[tuple[str, date, int, int, datetime | None, datetime]]
) -> list[Source]:
    """The sources in the order of their names.

    `rows` are (source, day, inserted, updated, newest bookmark, last commit), one a source and day.
    """
    by_source: dict[str, list[SyncDay]] = {}
    for source, day, inserted, updated, bookmark, committed in rows:
        lag_s = round((committed - bookmark).total_seconds(), 1) if bookmark else None
        by_source.setdefault(source, []).append(SyncDay(day, int(inserted), int(updated), lag_s))
    return [
        Source(state.source, state, sorted(by_source.get(state.source, []), key=lambda one: one.day))
        for state in sorted(states, key=lambda one: one.source)
    ]
