"""The stream: JSON Lines in and out, strict about what it acts on, faithful to what it passes on.

Lines that a command does not consume are copied byte for byte and only sniffed; lines that it consumes are checked
without mercy: duplicate keys, NaN, NUL, deep nesting and Jinja are refused with their line number. A last line
without a newline is never parsed: its writer may have died inside it.
"""

import json
import math
import os
import select
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from sluice.errors import bad_stream
from sluice.records import TYPES, Batch, Plan, Record, Summary
from sluice.signals import Interrupted, interruptible

MAX_LINE_BYTES = 1 << 20
MAX_DEPTH = 32
CHUNK_BYTES = 1 << 16
JINJA = ("{{", "{%", "{#")


class _Head(msgspec.Struct):
    type: str
    v: int = 1


_head = msgspec.json.Decoder(_Head).decode
_decoders = {name: msgspec.json.Decoder(record_type).decode for name, record_type in TYPES.items()}
_encode = msgspec.json.Encoder().encode


class StreamClosed(Exception):
    """Whoever read our stdout has gone."""


class Writer:
    """Writes lines to a file descriptor. Own records leave at once; copied ones leave together, before the next wait."""

    def __init__(self, fd: int):
        self._fd = fd
        self._buffer: list[bytes] = []

    def write(self, record: Record) -> None:
        """Append one record and flush, which see."""
        self._buffer.append(_encode(record) + b"\n")
        self.flush()

    def copy(self, line: bytes) -> None:
        """Append one line (newline included) unchanged."""
        self._buffer.append(line)

    def flush(self) -> None:
        """Hand on what there is. Raises StreamClosed when the reader has gone, OSError when the disk is full.

        A stop signal ends the wait for a reader that takes nothing (Interrupted): what is left stays for the next flush.
        """
        if not self._buffer:
            return
        rest = memoryview(b"".join(self._buffer))
        self._buffer.clear()
        try:
            while rest:
                if not self._is_writable(0):  # while the reader takes it, what is said on the way out arrives
                    with interruptible():
                        self._is_writable(None)
                rest = rest[os.write(self._fd, rest[: select.PIPE_BUF]) :]  # as much as a writable pipe takes at once
        except BrokenPipeError:
            raise StreamClosed from None
        except Interrupted:
            self._buffer.append(bytes(rest))
            raise

    def _is_writable(self, timeout_s: float | None) -> bool:
        return bool(select.select([], [self._fd], [], timeout_s)[1])


def read_lines(
    fd: int, before_wait: Callable[[], None], most_bytes: int = MAX_LINE_BYTES
) -> Iterator[tuple[int, bytes]]:
    """Yield (number from 1, line with its newline). `before_wait` is called whenever the next read could block."""
    rest, number = b"", 0
    while True:
        if not select.select([fd], [], [], 0)[0]:
            before_wait()
        with interruptible():
            chunk = os.read(fd, CHUNK_BYTES)
        if not chunk:
            break
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            number += 1
            if len(line) > most_bytes:
                raise _too_long(number, most_bytes)
            yield number, line + b"\n"
        if len(rest) > most_bytes:
            raise _too_long(number + 1, most_bytes)
    if rest:
        raise bad_stream(
            f"line {number + 1}: the input ended inside this line; the command before it died",
            line=number + 1,
            code="stream_cut",
        )


def _too_long(number: int, most_bytes: int):
    return bad_stream(f"line {number}: longer than {most_bytes} bytes", line=number)


def read_records(
    fd: int, writer: Writer, reads: frozenset[str], sees: frozenset[str] = frozenset()
) -> Iterator[tuple[int, Record]]:
    """Yield (line number, record) for the types in `reads` and `sees`; copy to `writer` all but those in `reads`.

    Raises SluiceError (65) for a line that is not a valid record and for a stream that does not end with a summary.
    Summaries are always yielded and copied: they carry the exit code of the command before. They are copied only when
    more follows or the input has ended, so that they leave together with our own summary: if they went ahead of it and
    we died in between, the stream would look whole.
    """
    number, last = 0, ""
    wanted = reads | sees | {"summary"}
    summaries: list[bytes] = []
    try:
        for number, raw in read_lines(fd, writer.flush):
            line = raw.strip(b"\r\n").removeprefix(b"\xef\xbb\xbf" if number == 1 else b"")
            try:
                last = sniff(line)
                record = decode(line) if last in wanted else None
            except ValueError as problem:
                raise bad_stream(f"line {number}: {problem}", line=number) from None
            if last == "summary":
                summaries.append(raw)
            else:
                while summaries:
                    writer.copy(summaries.pop(0))
                if last not in reads:
                    writer.copy(raw)
            if record is not None:
                yield number, record
    finally:
        for raw in summaries:
            writer.copy(raw)
    if last != "summary":
        after = f"after line {number}" if number else "before its first line"
        raise bad_stream(
            f"the input ended {after} without a summary: the command before it died or refused; its own message says why",
            code="stream_cut",
        )


def sniff(line: bytes) -> str:
    """The `type` of a line. Raises ValueError when the line is not a JSON object with one, or not UTF-8."""
    if not line:
        raise ValueError("empty")
    if not line.isascii():
        try:
            line.decode()
        except UnicodeDecodeError:
            raise ValueError("not UTF-8") from None
    try:
        return _head(line).type
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except msgspec.ValidationError as problem:
        raise ValueError(f"not a record: {problem}") from None
    except msgspec.DecodeError as problem:
        raise ValueError(f"not JSON: {problem}") from None


def decode(line: bytes) -> Record:
    """A record of a known type, checked strictly. Raises ValueError with the reason.

    msgspec alone would let duplicate keys pass (the last one wins), hence the second, slower look.
    """
    head = _head(line)
    record_type = TYPES[head.type]
    if head.v > record_type.VERSION:
        raise ValueError(
            f"{head.type} has version {head.v}, this command speaks up to {record_type.VERSION}: upgrade Sluice here"
        )
    try:
        plain = json.loads(line, object_pairs_hook=_without_duplicates)
        _walk(plain, jinja=record_type in (Plan, Batch))
        return _decoders[head.type](line)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except (msgspec.ValidationError, msgspec.DecodeError) as problem:
        raise ValueError(f"{head.type}: {problem}") from None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) < len(keys):
        raise ValueError(f"duplicate key {next(k for k in keys if keys.count(k) > 1)!r}")
    return dict(pairs)


def _walk(value: Any, *, jinja: bool, depth: int = 0) -> None:
    """Refuse deep nesting, infinite numbers, NUL in any text and, where a record tells dbt what to do, Jinja in any text.

    dbt renders Jinja that it finds inside --vars values: it would create tables and print secrets.
    """
    if depth > MAX_DEPTH:
        raise ValueError("nested too deeply")
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError("NUL in a text")
        if jinja:
            refuse_jinja(value)
    elif isinstance(value, float):
        if math.isinf(value):  # json reads 1e999 as infinity
            raise ValueError("a number out of range")
    elif isinstance(value, dict):
        for key, inner in value.items():
            _walk(key, jinja=jinja, depth=depth + 1)
            _walk(inner, jinja=jinja, depth=depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _walk(inner, jinja=jinja, depth=depth + 1)


def refuse_jinja(text: str) -> None:
    """Raises ValueError when the text holds Jinja: records are data, never code."""
    if any(mark in text for mark in JINJA):
        raise ValueError(f"Jinja in {text[:60]!r}: a record is data, never code")


__all__ = ["StreamClosed", "Summary", "Writer", "decode", "read_lines", "read_records", "refuse_jinja", "sniff"]
