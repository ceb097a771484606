"""The messages between caller, loader and worker: JSON lines over a socket pair."""

from __future__ import annotations

import select
import socket
from typing import Any

import msgspec


class ProjectInfo(msgspec.Struct):
    """What a parse found. `database` is None where the warehouse has no such level.

    `yaml_vars` says of each var where dbt reads it while it loads; "*" stands for one whose name is not written out.
    """

    project_name: str
    target: str
    adapter: str
    database: str | None
    schema: str
    dbt_version: str
    manifest_path: str
    yaml_vars: dict[str, str] = {}


class NodeResult(msgspec.Struct):
    """One node's part of a batch. `status` is ok, failed or skipped; `rows` None where the warehouse does not say.

    `schema` and `table` are where it is in the warehouse.
    """

    unique_id: str
    status: str
    duration_s: float
    rows: int | None = None
    message: str | None = None
    schema: str = ""
    table: str = ""


class Outcome(msgspec.Struct):
    """What became of a batch.

    `status`     ok, failed, or lost: the worker died, so nobody knows whether the batch took effect
    `engine`     warm (in a running session) or fresh (a complete `dbt run`); `fresh_reason` says why it had to be
    `committed`  whether the batch has taken effect; a text why that cannot be known, None when it was not asked
    `verify_s`   seconds spent proving that the parsed project holds under the batch's vars, `run_s` in dbt's runners
    `notes`      what macros said with sluice.note, for people
    `hooks_s`    seconds of on-run hooks that this batch paid for itself; those of a session are nobody's
    """

    status: str
    nodes: list[NodeResult] = []
    notes: list[str] = []
    error: str | None = None
    engine: str = "warm"
    committed: bool | str | None = None
    fresh_reason: str | None = None
    verify_s: float = 0.0
    run_s: float = 0.0
    hooks_s: float = 0.0


class Failure(msgspec.Struct):
    """A request that could not be answered. `kind` is configuration, selection, internal, or gone: its process died."""

    kind: str
    message: str


class Settings(msgspec.Struct):
    """What a loader is started with, its first line; all paths absolute.

    `asides` {unique_id: table}: these models are built under another name, and whoever refers to them means that.
    """

    project_dir: str
    profiles_dir: str | None
    target: str | None
    cache_dir: str
    base_vars: dict[str, Any]
    asides: dict[str, str] = {}


class Parse(msgspec.Struct, tag="parse"):
    write_manifest: bool


class List(msgspec.Struct, tag="list"):
    select: list[str]
    exclude: list[str]
    selector: str | None
    resource_types: list[str]


class MovedConfigs(msgspec.Struct, tag="moved_configs"):
    """What of each model's config is different under these vars; the answer is a list like `asked`."""

    asked: list[tuple[str, dict[str, Any]]]


class Marker(msgspec.Struct):
    """Names one attempt at a batch: in the table of commits and, where statements have ids, in those."""

    root_run_id: str
    batch_id: str
    attempt: int


class Run(msgspec.Struct, tag="run"):
    batch_id: str
    expect: list[str]
    vars: dict[str, Any]
    full_refresh: bool
    log_path: str
    models: list[str]
    marker: Marker | None
    look_again: bool = False


class Twin(msgspec.Struct, tag="twin"):
    """Another loader on the same parse, for a client whose socket comes with this line."""


class Committed(msgspec.Struct, tag="committed"):
    marker: Marker


class Cancel(msgspec.Struct, tag="cancel"):
    grace_s: float


class Finish(msgspec.Struct, tag="finish"):
    """Worker: run the on-run-end hooks and exit."""


class Answer(msgspec.Struct):
    """What a worker answers. With `needs_fresh`, why it cannot prove a batch right, nothing has been run."""

    outcome: Outcome | None = None
    needs_fresh: str | None = None
    committed: bool | str = "dbt did not answer"


Ask = Parse | List | MovedConfigs | Twin | Run | Committed | Cancel | Finish


class Request(msgspec.Struct):
    number: int
    ask: Ask


class Reply(msgspec.Struct):
    """`answer` stays JSON: what it is follows from the request."""

    number: int
    answer: msgspec.Raw = msgspec.Raw(b"null")
    failure: Failure | None = None


class Channel:
    """One end of a socket pair. A message is one line; the end of the stream is EOFError."""

    def __init__(self, end: socket.socket):
        self._end = end
        self._buffer = b""
        self.sockets: list[socket.socket] = []  # that came with lines

    def fileno(self) -> int:
        return self._end.fileno()

    def send(self, message: msgspec.Struct) -> None:
        """Raises EOFError when nobody reads any more."""
        try:
            self._end.sendall(msgspec.json.encode(message) + b"\n")
        except OSError as error:
            raise EOFError("the other end is gone") from error

    def send_with(self, message: msgspec.Struct, given: socket.socket) -> None:
        """The same, and give the other end a socket; the message must be a short one."""
        try:
            socket.send_fds(self._end, [msgspec.json.encode(message) + b"\n"], [given.fileno()])
        except OSError as error:
            raise EOFError("the other end is gone") from error

    def has_line(self) -> bool:
        return b"\n" in self._buffer

    def receive(self) -> bytes:
        """The next line. Blocks; whoever must stay interruptible waits for `fileno` first, and `fill`s."""
        while not self.has_line():
            self.fill()
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def fill(self) -> None:
        """Read what is there, once."""
        try:
            data, given, _, _ = socket.recv_fds(self._end, 1 << 16, 1)
            self.sockets += [socket.socket(fileno=fd) for fd in given]
        except ConnectionError:
            data = b""
        if not data:
            raise EOFError("the other end is gone")
        self._buffer += data

    def finish(self) -> None:
        """Send no more; the other end reads the end of the stream."""
        try:
            self._end.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self) -> None:
        self._end.close()


def readable(channels: list[Channel], timeout_s: float | None = None) -> list[Channel]:
    """Wait for those of `channels` that can be filled, be it with the end of the stream."""
    return select.select(channels, [], [], timeout_s)[0]
