"""Generated lives of a source and its syncs, and what must be true after each: nothing lost, nothing double.

A life is steps: records are added (many share a second), some late with a time inside the overlap, some change; a tap
fetches from its cursor less the overlap, in pages, a STATE after each whole page; it is cut at any line, or its pages
shift while it reads. At the end a sync runs through, and the table must hold what the source holds.
"""

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from taps import Source, record, schema

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
OVERLAP_S = 120
PROPERTIES = {"id": {"type": "integer"}, "at": {"type": "string", "format": "date-time"}, "n": {"type": "integer"}}


@dataclass
class Life:
    """A source of records (id: (second, n)) that a seed determines."""

    seed: int
    records: dict[int, tuple[int, int]] = field(default_factory=dict)
    clock_s: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def grow(self) -> None:
        """Records arrive: in order, in one second, late within the overlap; some are changed, with a new time."""
        draw = self.random
        for _ in range(draw.randint(0, 8)):
            self.clock_s += draw.choice((0, 0, 0, 1, 1, 5, 40))
            late_s = draw.choice((0, 0, 0, draw.randint(1, OVERLAP_S - 1)))
            number = draw.randint(0, len(self.records)) if draw.random() < 0.2 else len(self.records)
            self.records[number] = max(0, self.clock_s - late_s), draw.randint(0, 9)

    def messages(self, since_s: int | None):
        """What a tap writes: ascending from the cursor less the overlap, the boundary included, page by page."""
        stream = f"life_{self.seed}"
        yield schema(PROPERTIES, stream=stream, keys=["id"])
        start_s = -1 if since_s is None else since_s - OVERLAP_S
        page_size = self.random.randint(1, 5)
        found = sorted((second, number) for number, (second, _) in self.records.items() if second >= start_s)
        while found:
            page, found = found[:page_size], found[page_size:]
            while found and found[0][0] == page[-1][0]:  # a page ends between two seconds, or its STATE would lie
                page.append(found.pop(0))
            for second, number in page:
                yield record(stream, id=number, at=_at(second), n=self.records[number][1])
                if self.random.random() < 0.1:  # the same record once more, as when pages shift
                    yield record(stream, id=number, at=_at(second), n=self.records[number][1])
            yield {"type": "STATE", "value": {"bookmarks": {stream: {"at": _at(page[-1][0])}}}}

    def sync(self, source: Source, *, whole: bool) -> None:
        """One run of the tap; unless `whole`, it may be cut after any line, or the loader killed before its last commit."""
        mark = source.position.bookmarks.get(f"life_{self.seed}")
        messages = list(self.messages(None if mark is None else round((mark[0] - BEGIN).total_seconds())))
        fate = "whole" if whole else self.random.choice(("whole", "cut", "killed"))
        if fate != "whole":
            messages = messages[: self.random.randint(0, len(messages))]
        run = source.begin(run=str(self.random.random()))
        for number, message in enumerate(messages):
            source.take(run, [message])
            if number % 7 == 6:
                run.commit()
        if fate != "killed":
            run.end()

    def check(self, source: Source) -> None:
        place = source.target.place(f"life_{self.seed}")
        columns = source.target.columns_of(f"life_{self.seed}")
        rows = source.target.warehouse.rows(f'SELECT id, "at", n FROM {place}') if columns else []
        there = {number: (at.astimezone(UTC), n) for number, at, n in rows}
        assert len(rows) == len(there), f"life {self.seed}: a row is double"
        wanted = {number: (BEGIN + timedelta(seconds=second), n) for number, (second, n) in self.records.items()}
        assert there == wanted, f"life {self.seed}: {set(wanted.items()) ^ set(there.items())}"


def live(source: Source, seed: int) -> None:
    """A whole life; raises AssertionError when a row is lost or double, or the cursor was ahead of the rows."""
    life = Life(seed)
    own = Source(source.target, f"life {seed}")
    for _ in range(life.random.randint(1, 4)):
        life.grow()
        life.sync(own, whole=False)
    life.grow()
    life.sync(own, whole=True)
    life.check(own)
    if life.records:
        own.target.warehouse.execute(f"DROP TABLE {own.target.place(f'life_{seed}')}")


def _at(second: int) -> str:
    return (BEGIN + timedelta(seconds=second)).isoformat()
