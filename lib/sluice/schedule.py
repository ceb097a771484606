"""Which batches may run side by side. Pure.

Two batches must not overlap when they are of one model, or when one's model is among those that the other depends on:
dbt builds a model beside its table under names that two builds of it would share, ClickHouse takes an append back by the parts
that nobody else has written meanwhile, and a reader wants the table as it was planned to find it. The later of the
two then waits for the earlier. A batch that is of no one model never overlaps with any.
"""

import heapq
from collections import defaultdict
from collections.abc import Sequence

from sluice.records import Batch


class Schedule:
    """The batches of one wave in the order of their plan, given out as those before them end."""

    def __init__(self, batches: Sequence[Batch]):
        self._batches = list(batches)
        self._followers: dict[int, list[int]] = defaultdict(list)
        self._waits_for: list[int] = []
        for number, before in enumerate(_earlier(self._batches)):
            self._waits_for.append(len(before))
            for one in before:
                self._followers[one].append(number)
        self._numbers = {id(batch): number for number, batch in enumerate(self._batches)}
        self._ready = [number for number, count in enumerate(self._waits_for) if count == 0]
        self.left = len(self._batches)  # not given out

    def next(self) -> Batch | None:
        """The first that may start now; None while none may."""
        if not self._ready:
            return None
        self.left -= 1
        return self._batches[heapq.heappop(self._ready)]

    def ended(self, batch: Batch) -> None:
        """What waited for this batch, which `next` gave out, waits for it no longer."""
        for follower in self._followers.pop(self._numbers[id(batch)], ()):
            self._waits_for[follower] -= 1
            if not self._waits_for[follower]:
                heapq.heappush(self._ready, follower)


def must_not_overlap(one: Batch, other: Batch) -> bool:
    """Whether two batches of one wave may not run at the same time."""
    if one.model is None or other.model is None:
        return True
    return one.model == other.model or one.model in other.depends_on or other.model in one.depends_on


def _earlier(batches: Sequence[Batch]) -> list[set[int]]:
    """For each batch those before it that it waits for, as numbers in the sequence.

    Only the latest of each kind: it has waited for the ones before.
    """
    found: list[set[int]] = []
    alone: set[int] = set()  # the latest batch that is of no one model
    since: set[int] = set()  # those after it
    writers: dict[str, int] = {}  # of each model the latest batch
    readers: dict[str, dict[str, int]] = defaultdict(dict)  # of each model the latest batch of each that reads it
    for number, batch in enumerate(batches):
        if batch.model is None:
            found.append(alone | since)
            alone, since = {number}, set()
            writers.clear()
            readers.clear()
            continue
        before = {writers[model] for model in (batch.model, *batch.depends_on) if model in writers}
        found.append(alone | before | set(readers.pop(batch.model, {}).values()))
        since.add(number)
        writers[batch.model] = number
        for model in batch.depends_on:
            readers[model][batch.model] = number
    return found
