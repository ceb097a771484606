"""One stream of a source: its columns, the lines that wait for the next commit, and how far it has come."""

from datetime import datetime
from typing import Any

import msgspec

from sluice import singer
from sluice.sync import columns, lines
from sluice.sync.lines import Unfit
from sluice.sync.target import Batch, Bookmark, Counts, Reject, Table, Target

# Of dashes and dots that other targets split into schema and table, one schema knows only names.
_NAME = str.maketrans({character: "_" for character in " -./:"})


def table_name(stream: str) -> str:
    """The table that a stream goes to."""
    return stream.lower().translate(_NAME)


class Stream:
    """Takes lines, gives batches. `covered` is the newest bookmark that a STATE covers."""

    def __init__(self, message: singer.Schema, before: Bookmark | None):
        keys = message.key_properties or []
        self.message = message
        self.name = message.stream
        self.columns = columns.of_schema(self.name, message.schema, keys)
        marks = message.bookmark_properties
        marks = [marks] if isinstance(marks, str) else marks or []
        self._marks = [column.field for column in self.columns if column.field in marks and column.kind == "timestamp"][
            :1
        ]
        self.before = before
        self.covered: Bookmark | None = None
        self.written = before  # the newest that the database knows to be covered
        self.total = Counts()
        self.last_reject: Reject | None = None
        self.table: Table | None = None
        self._latest: tuple[datetime, Any] | None = None
        self._has_version = False
        self.activates: int | None = None
        self._fresh()
        self._compile()

    def _fresh(self) -> None:
        self.lines: list[bytes] = []
        self.bytes = 0
        self._numbers: list[int] = []
        self._mended: set[int] = set()
        self.rejects: list[Reject] = []

    def _compile(self) -> None:
        """The checker for the columns as they are; keys and the bookmark as the attributes it gives them."""
        self._decode = lines.checker(self.name, self.columns)
        attributes = {column.field: f"f{number}" for number, column in enumerate(self.columns)}
        self._mark = attributes[self._marks[0]] if self._marks else None
        self._keys = [attributes[column.field] for column in self.columns if column.is_key]

    # -- taking ---------------------------------------------------------------------------------------

    def take(self, number: int, line: bytes) -> bool:
        """Take a line that is good at first sight. False for every other: of another stream, of another kind, in doubt."""
        try:
            message = self._decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return False
        if message.version is not None and not self._has_version:
            self._has_version, self.table = True, None
        if self._mark is not None:
            at = getattr(message.record, self._mark)
            if at is not None and at is not msgspec.UNSET and (self._latest is None or at >= self._latest[0]):
                self._latest = at, message.record
        self.lines.append(line)
        self._numbers.append(number)
        self.bytes += len(line)
        return True

    def take_doubtful(self, number: int, line: bytes) -> None:
        """Take a RECORD of this stream that is not good at first sight: mended, or as a reject."""
        try:
            mended, fitting = self._mend(line)
        except Unfit as why:
            self._reject(number, line, str(why))
            return
        if self._marks and (text := fitting.get(self._marks[0])):
            at = datetime.fromisoformat(text)
            if self._latest is None or at >= self._latest[0]:
                self._latest = at, "/".join(str(fitting[column.field]) for column in self.columns if column.is_key)
        self._mended.add(len(self.lines))
        self.lines.append(mended)
        self._numbers.append(number)
        self.bytes += len(mended)

    def mend_all(self) -> None:
        """Look thoroughly at every line that waits, for the database could not read one of them."""
        taken, numbers, mended = self.lines, self._numbers, self._mended
        self.lines, self._numbers, self._mended = [], [], set()
        for place, (number, line) in enumerate(zip(numbers, taken, strict=True)):
            if place not in mended:
                try:
                    line, _ = self._mend(line)
                except Unfit as why:
                    self._reject(number, line, str(why))
                    continue
            self._mended.add(len(self.lines))
            self.lines.append(line)
            self._numbers.append(number)

    def _mend(self, line: bytes) -> tuple[bytes, dict[str, Any]]:
        message = lines.plain(line)
        if message.get("version") is not None:
            self._has_version = True
        known = {column.field for column in self.columns}
        more = [columns.unknown(field) for field in message["record"] if field not in known]
        if more and self.message.schema.get("additionalProperties") is False:
            raise Unfit(f"{more[0].field} is not in the schema")
        mended, fitting, siblings = lines.mend(message, [*self.columns, *more])
        more += [sibling for sibling in siblings if sibling.field not in known]
        if more:
            self.columns = [*self.columns, *dict.fromkeys(more)]
            self.table = None
            self._compile()
        return mended, fitting

    def _reject(self, number: int, line: bytes, reason: str) -> None:
        text = line.decode(errors="backslashreplace").rstrip("\r\n").replace("\0", "\\x00")
        self.last_reject = Reject(self.name, number, reason, text)
        self.rejects.append(self.last_reject)

    # -- giving ---------------------------------------------------------------------------------------

    def covers(self) -> None:
        """A STATE has come: everything so far needs not be fetched again."""
        self.covered = self.latest()

    def latest(self) -> Bookmark | None:
        """The newest bookmark received, the later of two that are equal."""
        if self._latest is not None:
            at, record = self._latest
            key = record if isinstance(record, str) else "/".join(str(getattr(record, name)) for name in self._keys)
            self._latest = (at, key)
        return self._latest

    @property
    def is_behind(self) -> bool:
        """Whether the newest record is older than the newest that was there before."""
        newest = self.latest()
        return newest is not None and self.before is not None and newest[0] < self.before[0]

    @property
    def is_mended(self) -> bool:
        """Whether every line that waits was looked at thoroughly."""
        return len(self._mended) == len(self.lines)

    @property
    def waits(self) -> bool:
        return bool(self.lines or self.rejects or self.activates is not None)

    def settle(self, target: Target, *, has_history: bool) -> Table:
        """The table, with a column for all that is known by now."""
        if self.table is None:
            self.table = target.table(
                table_name(self.name), self.columns, has_version=self._has_version, has_history=has_history
            )
            self.columns = self.table.columns
        return self.table

    def batch(self, table: Table) -> Batch:
        return Batch(table, self.lines, self.activates)

    def received(self) -> Counts:
        """What waits, counted."""
        return Counts(received=len(self.lines) + len(self.rejects), rejected=len(self.rejects))

    def done(self, counts: Counts) -> None:
        """What waited is in the database."""
        self.total.add(counts)
        self.activates = None
        self._fresh()

    def succeeded_by(self, message: singer.Schema) -> "Stream":
        """The same stream with another schema; what waited must have been written."""
        after = Stream(message, self.before)
        after._latest, after.covered, after.written, after.total = self.latest(), self.covered, self.written, self.total
        after._has_version, after.last_reject = self._has_version, self.last_reject
        return after
