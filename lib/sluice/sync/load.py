"""A tap's lines into a target: gathered, committed together with the cursor, and the STATE told only then.

A commit happens at 100,000 lines or 32 MiB, whichever is first, so that memory does not depend on how rarely a tap writes
a STATE, and at the latest 10 s after the first line that waits. It carries the last STATE so far; rows may be ahead of
it, never behind. A STATE is held back while the newest record of a stream is older than what was there before.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from logging import Logger

from sluice import singer
from sluice.errors import FAILED, SluiceError, bad_stream
from sluice.ids import timestamp
from sluice.records import SyncResult, SyncStatus
from sluice.sync.stream import Stream, table_name
from sluice.sync.target import Bookmark, Counts, Event, Position, Refused, Target

MOST_LINES = 100_000
MOST_BYTES = 32 << 20
PERIOD_S = 10.0


@dataclass(frozen=True)
class Options:
    """`is_backfill`: rows, and the cursor stays. `most_rejects` None: however many."""

    has_history: bool = False
    is_backfill: bool = False
    most_rejects: int | None = None


class Load:
    """One run of one source. `target` None: a rehearsal. `tell` is given each STATE once it is covered by a commit."""

    def __init__(
        self, source: str, target: Target | None, run_id: str, options: Options, tell: Callable[[bytes], None], log: Logger
    ):  # fmt: skip
        self.source = source
        self._target = target
        self._run_id = run_id
        self._options = options
        self._tell = tell
        self._log = log
        self._before = target.position(source) if target is not None else Position()
        self._streams: dict[str, Stream] = {}
        self._current: Stream | None = None
        self._state: bytes | None = None  # the last STATE that came
        self._known = self._before.state.encode() if self._before.state else None  # the one in the database
        self._uncovered = 0  # records since the last STATE
        self._waiting_since: float | None = None
        self._began = time.monotonic()
        self._unknown: set[str] = set()
        self._tap_exit: int | None = None
        self._is_silent = True

    # -- taking ---------------------------------------------------------------------------------------

    def take(self, number: int, line: bytes) -> None:
        """One line of the tap. Raises SluiceError (65) for one that is no Singer message, and what `commit` raises."""
        self._is_silent = False
        stream = self._current
        if stream is None or not stream.take(number, line):
            stream = self._take_other(number, line)
            if stream is None:
                return
        self._uncovered += 1
        if self._waiting_since is None:
            self._waiting_since = time.monotonic()
        elif len(stream.lines) >= MOST_LINES or stream.bytes >= MOST_BYTES or self.due_in_s() <= 0:
            self.commit()

    def due_in_s(self) -> float:
        """How long what waits may go on waiting; nothing waits for ever."""
        if self._waiting_since is None:
            return float("inf")
        return self._waiting_since + PERIOD_S - time.monotonic()

    def _take_other(self, number: int, line: bytes) -> Stream | None:
        """A line that the current stream did not take at first sight; the stream, when it is a record."""
        try:
            message = singer.decode(line)
        except ValueError as problem:
            raise bad_stream(f"line {number}: {problem}", line=number) from None
        if isinstance(message, singer.Line):
            stream = self._stream(number, message.stream)
            if stream is self._current or not stream.take(number, line):
                stream.take_doubtful(number, line)
                self._check_rejects()
            self._current = stream
            return stream
        if isinstance(message, singer.Schema):
            self._take_schema(message)
        elif isinstance(message, singer.State):
            self._take_state(bytes(message.value))
        elif isinstance(message, singer.ActivateVersion):
            self._stream(number, message.stream).activates = message.version
            self.commit()
        elif isinstance(message, singer.TapExit):
            self._tap_exit = message.exit_code
        elif message.type not in self._unknown:
            self._unknown.add(message.type)
            self._log.warning("passed over: messages of type %s", message.type)
        return None

    def _stream(self, number: int, name: str) -> Stream:
        if name not in self._streams:
            raise bad_stream(f"line {number}: stream {name} has no SCHEMA before it", line=number)
        return self._streams[name]

    def _take_schema(self, message: singer.Schema) -> None:
        there = self._streams.get(message.stream)
        if there is not None and there.message == message:
            return
        if there is not None:
            self.commit()
            stream = there.succeeded_by(message)
        else:
            stream = Stream(message, None if self._options.is_backfill else self._before.bookmarks.get(message.stream))
            twin = next((s.name for s in self._streams.values() if table_name(s.name) == table_name(stream.name)), None)
            if twin is not None:
                raise bad_stream(f"streams {twin} and {stream.name} would be one table, {table_name(twin)}")
            if not message.key_properties:
                self._log.warning(
                    "stream %s has no key: its records are appended, and those that come twice are there twice",
                    stream.name,
                )
        if self._target is not None:
            stream.settle(self._target, has_history=self._options.has_history)
        self._streams[message.stream] = self._current = stream

    def _take_state(self, value: bytes) -> None:
        if singer.is_empty(value):
            return
        self._state, self._uncovered = value, 0
        for stream in self._streams.values():
            stream.covers()
        if self._waiting_since is None:
            self._waiting_since = time.monotonic()

    def _check_rejects(self) -> None:
        most = self._options.most_rejects
        if most is None:
            return
        rejected = sum(stream.total.rejected + len(stream.rejects) for stream in self._streams.values())
        if rejected > most:
            raise SluiceError(
                f"more than {most} records break their schema (--max-rejects); {self._last_reject()}",
                code="sync_too_many_rejects",
                exit_code=FAILED,
                hint=f"sync-cursor log, and see sync_reject; then load {self.source} with a higher --max-rejects",
            )

    def _last_reject(self) -> str:
        """`the last, line 3: id is null`"""
        last = max((s.last_reject for s in self._streams.values() if s.last_reject), key=lambda reject: reject.line)
        return f"the last, line {last.line}: {last.reason}"

    # -- writing --------------------------------------------------------------------------------------

    def commit(self, ended: Event | None = None) -> None:
        """Write what waits, and the STATE that covers it; then tell it. `ended` is written with it."""
        self._waiting_since = None
        waiting = [stream for stream in self._streams.values() if stream.waits]
        is_news = self._state is not None and not self._options.is_backfill and not self._is_behind()
        state = self._state if is_news and self._state != self._known else None
        if self._target is not None and (waiting or state or ended):
            done = self._write(waiting, state, is_news, ended)
        else:
            done = [stream.received() for stream in waiting]
        for stream, counts in zip(waiting, done, strict=True):
            stream.done(counts)
            if counts.removed:
                self._log.info("stream %s: %d rows of other versions removed", stream.name, counts.removed)
        if is_news and self._target is not None and self._state is not None:
            self._known = self._state
            self._tell(self._state)
        if is_news:
            self._state = None

    def _write(self, waiting: list[Stream], state: bytes | None, is_news: bool, ended: Event | None) -> list[Counts]:
        assert self._target is not None
        text = state.decode() if state is not None else None
        while True:
            batches, events = [], []
            for stream in waiting:
                batches.append(stream.batch(stream.settle(self._target, has_history=self._options.has_history)))
                mark = _newer(stream.covered, stream.written) if is_news else None
                events.append(Event("commit", stream.name, text, mark, stream.received()))
            for stream in self._streams.values() if is_news else ():
                if stream not in waiting and (mark := _newer(stream.covered, stream.written)) is not None:
                    events.append(Event("commit", stream.name, text, mark))
            if state is not None and not events:
                events.append(Event("commit", None, text))
            try:
                self._target.commit(
                    self.source, self._run_id, batches, [reject for stream in waiting for reject in stream.rejects],
                    [*events, *([ended] if ended else [])], has_history=self._options.has_history,
                )  # fmt: skip
                break
            except Refused as refusal:
                self._log.info("%s: looking at every line: %s", refusal.table, refusal)
                stream = next(s for s in waiting if s.table is not None and s.table.name == refusal.table)
                if stream.is_mended:
                    raise refusal.why from None
                stream.mend_all()
                self._check_rejects()
        for stream in self._streams.values() if is_news else ():
            stream.written = _newer(stream.covered, stream.written) or stream.written
        return [event.counts for event in events[: len(waiting)]]

    def _is_behind(self) -> bool:
        return any(stream.is_behind for stream in self._streams.values())

    # -- the end --------------------------------------------------------------------------------------

    def end(self, trouble: str | None = None) -> list[SyncResult]:
        """Write what waits and how the run ended. `trouble`: why the tap's output cannot be taken for whole."""
        problems = [trouble] if trouble else []
        if self._tap_exit:
            problems.append(f"the tap ended with {self._tap_exit}")
        if self._is_silent and not trouble:
            problems.append("the tap wrote nothing at all: it died, or was refused")
        behind = [stream for stream in self._streams.values() if stream.is_behind]
        for stream in behind:
            newest, before = stream.latest(), stream.before
            assert newest and before
            problems.append(
                f"the newest record of {stream.name} is of {_shown(newest)}, older than the cursor {_shown(before)}: "
                "was the source restored?"
            )
        if self._uncovered and not self._options.is_backfill:
            problems.append(f"{self._uncovered} records came after the last STATE: the tap died, or writes none")
        waiting_rejects = sum(len(stream.rejects) for stream in self._streams.values())
        rejected = waiting_rejects + sum(stream.total.rejected for stream in self._streams.values())
        is_nothing = bool(problems) and not self._streams
        status: SyncStatus = "failed" if behind or is_nothing else "partial" if problems or rejected else "success"
        if rejected:
            kept = "" if self._target is None else " (all are in sync_reject)"
            problems.append(f"records that break their schema: {rejected}; {self._last_reject()}{kept}")
        ended = Event(
            "ended", sync_status=status, duration_s=round(time.monotonic() - self._began, 3), message="; ".join(problems) or None
        )  # fmt: skip
        self.commit(ended)
        return [self._result(stream, ended) for stream in self._streams.values()] or [self._result(None, ended)]

    def failed(self, why: str) -> None:
        """Write that the run failed, without what waits."""
        if self._target is not None:
            ended = Event(
                "ended", sync_status="failed", duration_s=round(time.monotonic() - self._began, 3), message=why
            )
            self._target.commit(self.source, self._run_id, [], [], [ended])

    @property
    def is_behind(self) -> bool:
        return self._is_behind()

    def _result(self, stream: Stream | None, ended: Event) -> SyncResult:
        is_real = self._target is not None
        counts = stream.total if stream else Counts()
        before, after = (stream.before, stream.written if is_real else stream.before) if stream else (None, None)
        return SyncResult(
            source=self.source,
            stream=stream.name if stream else "",
            sync_status=ended.sync_status or "success",
            status="ok" if ended.sync_status == "success" and is_real else "dry_run" if not is_real else "failed",
            cursor_before=_shown(before) if before else None,
            cursor_after=_shown(after) if after else None,
            received_rows=counts.received,
            inserted_rows=counts.inserted if is_real else None,
            updated_rows=counts.updated if is_real else None,
            unchanged_rows=counts.unchanged if is_real else None,
            rejected_rows=counts.rejected,
            duration_s=ended.duration_s or 0.0,
            error=ended.message,
        )


def _newer(one: Bookmark | None, other: Bookmark | None) -> Bookmark | None:
    """`one`, when it is not older than `other` and another."""
    return one if one is not None and one != other and (other is None or one[0] >= other[0]) else None


def _shown(mark: Bookmark) -> str:
    return f"{timestamp(mark[0])} {mark[1]}".rstrip()
