"""ClickHouse has no transactions: what an append that failed has left in a table, part by part, and its removal.

An INSERT writes parts of up to a million rows each, and those that are written stay when it dies. Which they are is
known twice: by number, since parts count upwards and the highest was noted before the INSERT began, and by name,
since part_log keeps the query that wrote a part. Only parts that both agree upon are dropped; a part that nobody can
explain, or that was merged with rows that were there before, is left for a person.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

Origin = Literal["ours", "other", "mixed", "unknown"]
TRIES = 5  # a merge may take a part away while it is being dropped
NO_SUCH_PART = "Code: 232"


class Unknown(Exception):
    """What an attempt left cannot be told or cannot be removed; the text says why, and what to look at."""


@dataclass(frozen=True)
class Part:
    """A part that is there now; block numbers count the inserts, `highest` is that of its latest."""

    name: str
    partition: str
    lowest: int
    highest: int
    rows: int


@dataclass(frozen=True)
class History:
    """What part_log says of one table: how parts came to be.

    `written` {part: whether one of our statements wrote it}, `merged` {part: the parts it was made of},
    `rows` {part: how many it had when it was written}.
    """

    written: dict[str, bool] = field(default_factory=dict)
    merged: dict[str, list[str]] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)

    def leaves(self, part: str) -> list[str]:
        """The written parts that a part is made of; what part_log does not know is its own leaf."""
        sources = self.merged.get(part)
        if part in self.written or not sources:
            return [part]
        return [leaf for source in sources for leaf in self.leaves(source)]


def origin(part: Part, history: History, before: dict[str, int]) -> Origin:
    """Whose rows a part holds. `before`: the highest block of each partition when the attempt began."""
    limit = before.get(part.partition, -1)
    if part.highest <= limit:
        return "other"
    found = {_of_leaf(leaf, history, limit) for leaf in history.leaves(part.name)}
    if "unknown" in found:
        return "unknown"
    return "mixed" if len(found) > 1 else found.pop()


def _of_leaf(leaf: str, history: History, limit: int) -> Origin:
    if leaf in history.written:
        return "ours" if history.written[leaf] else "other"
    return "other" if blocks(leaf)[1] <= limit else "unknown"


def blocks(part: str) -> tuple[int, int]:
    """Lowest and highest block of a part, by its name: PARTITION_LOWEST_HIGHEST_LEVEL[_MUTATION]."""
    fields = part.split("_")  # a partition id has no underscore, but for the first field of a name that has
    lowest, highest = fields[1:3]
    return int(lowest), int(highest)


@dataclass(frozen=True)
class Table:
    """A table on the server, and the ways to look at it and to change it.

    `keeps_blocks`: rows remember their block in a merge, too (enable_block_number_column).
    """

    name: str  # quoted, with its database
    keeps_blocks: bool
    parts: Callable[[], list[Part]]
    history: Callable[[], History]
    value: Callable[[str], int]
    execute: Callable[[str], None]


def remove(table: Table, before: dict[str, int]) -> int:
    """Remove what our statements have written to the table since `before`; returns how many parts held it.

    Raises Unknown, and then has removed nothing that it was not sure of.
    """
    touched = 0
    for _ in range(TRIES):
        late = [part for part in table.parts() if part.rows and part.highest > before.get(part.partition, -1)]
        if not late:
            return touched
        history = table.history()
        origins = {part: origin(part, history, before) for part in late}
        _refuse(table, [part for part, of in origins.items() if of == "unknown"], "part_log does not say who wrote", "")
        numbers = {part: _own_blocks(table, part, history) for part, of in origins.items() if of == "mixed"}
        _refuse(
            table, [part for part, own in numbers.items() if own is None], "they were merged with rows from before:",
            "; their rows of this batch must be deleted before it is done again",
        )  # fmt: skip
        ours = [part for part, of in origins.items() if of == "ours"]
        mixed = {part: own for part, own in numbers.items() if own}
        if not ours and not mixed:
            return touched
        for part in ours:
            _drop(table, part)
        for part, own in mixed.items():
            table.execute(
                f"alter table {table.name} delete in partition id '{part.partition}'"
                f" where _block_number in ({', '.join(map(str, own))}) settings mutations_sync = 2"
            )
        touched += len(ours) + len(mixed)
    raise Unknown(f"{table.name} is merged faster than what the attempt left can be dropped: it must be tried again")


def _own_blocks(table: Table, part: Part, history: History) -> list[int] | None:
    """The block numbers of our rows in a merged part, [] when they are gone; None when they cannot be told from others."""
    ours = [leaf for leaf in history.leaves(part.name) if history.written.get(leaf)]
    own = [blocks(leaf)[0] for leaf in ours]
    if not table.keeps_blocks or any(blocks(leaf)[0] != blocks(leaf)[1] for leaf in ours):
        return None
    found = table.value(
        f"select count() from {table.name} where _part = '{part.name}' and _block_number in ({', '.join(map(str, own))})"
    )
    if found == 0:
        return []
    return own if found == sum(history.rows[leaf] for leaf in ours) else None


def _drop(table: Table, part: Part) -> None:
    try:
        table.execute(f"alter table {table.name} drop part '{part.name}'")
    except Exception as problem:
        if NO_SUCH_PART not in str(problem):
            raise


def _refuse(table: Table, parts: Iterable[Part], why: str, then: str) -> None:
    names = [part.name for part in parts]
    if names:
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        raise Unknown(
            f"parts of {table.name} were written since it began, and {why} {shown}{then}; look at:"
            f" select * from {table.name} where _part in ({', '.join(repr(name) for name in names[:5])})"
        )
