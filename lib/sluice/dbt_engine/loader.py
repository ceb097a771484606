"""The process that has dbt imported and the project parsed. It opens no connection and no thread: it forks workers."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from sluice import manifest
from sluice.dbt_engine import process, templates, wire

RECYCLE = 100  # batches; bounds what a session's leaks and its cache can grow to


class Failed(Exception):
    """Becomes the failure of a reply."""

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind


class Loader:
    """Serves one client, one request at a time; only a cancellation is taken while a batch runs."""

    def __init__(self, settings: wire.Settings, client: wire.Channel, kept: Kept):
        self._settings, self._client, self._kept = settings, client, kept
        self._manifest: Any = None
        self._config: Any = None
        self._readers: Any = None
        self._worker: Any = None  # worker.Worker | None
        self._retired: list[Any] = []
        self._twins: list[Any] = []  # worker.Worker, each a loader like this one
        self._always_fresh: dict[tuple, str] = {}
        self._abandoned = False  # the worker runs something that nobody waits for

    def serve(self) -> None:
        """Answer requests until the client has enough, or is gone: then the session is killed and not ended."""
        try:
            while True:
                request = msgspec.json.decode(self._client.receive(), type=wire.Request)
                if isinstance(request.ask, wire.Finish):
                    self._retire()
                    self._reap()
                    self._end_twins()
                    return
                try:
                    answer = self._answer(request.ask)
                except _Abandoned:
                    continue
                except Failed as failed:
                    self._client.send(wire.Reply(request.number, failure=wire.Failure(failed.kind, str(failed))))
                else:
                    self._client.send(wire.Reply(request.number, msgspec.Raw(msgspec.json.encode(answer))))
        except EOFError:
            self._cancel(wire.Cancel(grace_s=0.0))
            self._end_twins()

    def _answer(self, ask: wire.Ask) -> Any:
        if self._abandoned and not isinstance(ask, wire.Cancel):
            self._cancel(wire.Cancel(grace_s=0.0))
        match ask:
            case wire.Parse():
                return self._parse(ask)
            case wire.List():
                return self._list(ask)
            case wire.MovedConfigs():
                return self._moved_configs(ask)
            case wire.Twin():
                return self._twin()
            case wire.Run():
                return self._run(ask)
            case wire.Committed():
                return self._committed(ask)
            case wire.Cancel():
                return self._cancel(ask)

    def _parse(self, ask: wire.Parse) -> wire.ProjectInfo:
        from sluice.dbt_engine import parsing
        from sluice.dbt_engine.invocation import failure_kind, message

        self._retire()
        self._always_fresh.clear()
        stands_for = _fingerprint(self._settings)
        parsed = None if ask.write_manifest else self._kept.parse_of(stands_for)
        if parsed is None:
            try:
                parsed = parsing.parse(self._settings, write_manifest=ask.write_manifest)
            except Exception as error:
                raise Failed(failure_kind(error, of_dbt="configuration"), message(error)) from error
            self._kept.stands_for, self._kept.parsed = stands_for, parsed
        self._manifest, self._config, self._readers = parsed.manifest, parsed.config, parsed.readers
        return parsed.info

    def _parsed(self) -> Any:
        if self._manifest is None:
            self._parse(wire.Parse(write_manifest=False))
        return self._manifest

    def _list(self, ask: wire.List) -> Any:
        from sluice.dbt_engine import listing

        manifest = self._parsed()
        return self._aside(lambda channel: listing.serve(self._settings, manifest, ask, channel))

    def _moved_configs(self, ask: wire.MovedConfigs) -> Any:
        from sluice.dbt_engine import configs

        manifest = self._parsed()
        return self._aside(lambda channel: configs.serve(self._config, manifest, self._settings, ask, channel))

    def _twin(self) -> None:
        """Fork a loader that serves another client from this one's parse."""
        self._parsed()
        client = self._client.sockets.pop()

        def serve(_: wire.Channel) -> None:
            self._client.close()
            twin = Loader(self._settings, wire.Channel(client), self._kept)
            twin._manifest, twin._config, twin._readers = self._manifest, self._config, self._readers
            twin.serve()

        with client:
            self._twins.append(self._fork(serve))

    def _end_twins(self) -> None:
        """They end as their clients do, who are this one's process and end with it; killed when they do not."""
        while self._twins:
            twin = self._twins.pop()
            if twin.has_ended(2.0):
                twin.reap()
            else:
                twin.stop(0.0)

    def _aside(self, serve: Any) -> Any:
        """The one answer of a process forked for it: what dbt leaves behind in it goes with it."""
        worker = self._fork(serve)
        try:
            reply = msgspec.json.decode(worker.channel.receive(), type=wire.Reply)
        except EOFError:
            raise Failed("gone", "the dbt process died") from None
        finally:
            worker.reap()
        if reply.failure is not None:
            raise Failed(reply.failure.kind, reply.failure.message)
        return reply.answer

    def _run(self, ask: wire.Run) -> wire.Outcome:
        self._parsed()
        names = frozenset(name for name, value in ask.vars.items() if self._changes(name, value))
        # Reasons hold for all batches of these nodes that set these vars: a second try in the session is wasted.
        kind = (tuple(ask.expect), names)
        reason = self._always_fresh.get(kind)
        if reason is None:
            where = self._readers.reader(names)
            reason = None if where is None else f"a var is read in {where}"
        if reason is None:
            answer = self._in_session(ask)
            if answer.outcome is not None:
                return answer.outcome
            reason = answer.needs_fresh or ""
        self._always_fresh[kind] = reason
        outcome = self._fresh(ask)
        outcome.fresh_reason = reason
        return outcome

    def _changes(self, name: str, value: Any) -> bool:
        return name not in self._settings.base_vars or self._settings.base_vars[name] != value

    def _in_session(self, ask: wire.Run) -> wire.Answer:
        worker = self._session()
        answer = self._wait(worker, ask)
        worker.batches += 1
        if answer.outcome is None or answer.outcome.status != "ok" or worker.batches >= RECYCLE:
            self._retire()
        return answer

    def _fresh(self, ask: wire.Run) -> wire.Outcome:
        from sluice.dbt_engine import fresh

        self._retire()
        self._reap()
        self._worker = self._fork(lambda channel: fresh.serve(self._settings, channel))
        outcome = self._wait(self._worker, ask).outcome
        assert outcome is not None
        outcome.engine = "fresh"
        self._retire()
        return outcome

    def _committed(self, ask: wire.Committed) -> bool | str:
        self._parsed()
        worker = self._session()
        return self._wait(worker, ask).committed

    def _cancel(self, ask: wire.Cancel) -> None:
        """Also when nothing runs: an idle session may hold DuckDB's file."""
        self._abandoned = False
        if self._worker is not None:
            self._worker.stop(ask.grace_s)
            self._worker = None
        for worker in self._retired:
            worker.stop(ask.grace_s)
        self._retired.clear()

    def _session(self) -> Any:
        """The worker with the warm session; forks it when there is none, once the one before it is gone."""
        from sluice.dbt_engine import parsing, session

        if self._worker is not None and wire.readable([self._worker.channel], 0.0):
            self._lost(self._worker)  # it has nothing to say between requests: it died
        if self._worker is None:
            self._reap()
            if not self._kept.warm:
                parsing.warm_up(self._manifest)
                self._kept.warm = True
            self._worker = self._fork(lambda channel: session.serve(self._settings, self._manifest, channel))
        return self._worker

    def _fork(self, serve: Any) -> Any:
        from sluice.dbt_engine import worker

        others = [self._worker, *self._retired, *self._twins]
        return worker.fork(serve, [one.channel for one in others if one is not None])

    def _wait(self, worker: Any, ask: wire.Ask) -> wire.Answer:
        """Have `worker` answer; its death is an answer too. Raises _Abandoned when the client asks something else."""
        try:
            worker.channel.send(ask)
            while not worker.channel.has_line():
                if self._client.has_line():
                    self._abandoned = True
                    raise _Abandoned
                readable = wire.readable([worker.channel, self._client])
                if worker.channel in readable:
                    worker.channel.fill()
                elif self._client in readable:
                    self._obey(worker)
            return msgspec.json.decode(worker.channel.receive(), type=wire.Answer)
        except EOFError:
            return self._lost(worker)

    def _obey(self, worker: Any) -> None:
        """Read what the client wants in the middle of a batch; when it wants no more at all, neither does the batch."""
        try:
            self._client.fill()
        except EOFError:
            worker.stop(0.0)
            self._worker = None
            raise _Abandoned from None

    def _lost(self, worker: Any) -> wire.Answer:
        code = worker.reap()
        self._worker = None
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return wire.Answer(outcome=wire.Outcome(status="lost", error=f"the dbt process was {how}"))

    def _retire(self) -> None:
        """Let the worker finish on its own; `_reap` waits for it."""
        if self._worker is None:
            return
        try:
            self._worker.channel.send(wire.Finish())
        except EOFError:
            pass
        self._retired.append(self._worker)
        self._worker = None

    def _reap(self) -> None:
        """Wait for those that finish; a client that goes away meanwhile wants them killed."""
        while self._retired:
            worker = self._retired[-1]
            while not worker.is_gone(unless=self._client):
                try:
                    self._client.fill()
                except EOFError:
                    worker.stop(0.0)
                    self._retired.pop()
                    raise
            worker.reap()
            self._retired.pop()


class Kept:
    """The latest parse, for the next client: it holds while all that dbt read for it is as it was."""

    def __init__(self) -> None:
        self.stands_for: str | None = None
        self.parsed: Any = None
        self.warm = False  # what is made once a process has been made, for every session to come

    def parse_of(self, fingerprint: str) -> Any | None:
        return self.parsed if fingerprint == self.stands_for else None


def _fingerprint(settings: wire.Settings) -> str:
    profiles_dir = settings.profiles_dir or settings.project_dir
    files = manifest.fingerprint(settings.project_dir, profiles_dir, settings.target, settings.base_vars)
    return f"{files} {settings.cache_dir}"


class _Abandoned(Exception):
    """The client no longer waits for the answer."""


def main() -> None:
    """`--client FD PID` serves the one client at FD, `--lent FD PID` those whose sockets come over FD, one by one."""
    how, fd, parent_pid = sys.argv[1:]
    process.die_with(int(parent_pid))
    code = 0
    try:
        with socket.socket(fileno=int(fd)) as end:
            _import_dbt()
            kept = Kept()
            for client in [end] if how == "--client" else _clients(end):
                _serve(client, kept)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    # Not sys.exit: DuckDB's bindings complain on stderr about what the interpreter leaves behind.
    os._exit(code)


def _clients(board: socket.socket) -> Iterator[socket.socket]:
    while (received := socket.recv_fds(board, 1, 1))[0]:
        yield from (socket.socket(fileno=fd) for fd in received[1])


def _serve(client: socket.socket, kept: Kept) -> None:
    from sluice.dbt_engine import schemas

    with client:
        channel = wire.Channel(client)
        try:
            settings = msgspec.json.decode(channel.receive(), type=wire.Settings)
        except EOFError:
            return
        templates.keep_compiled(Path(settings.cache_dir, "templates"))
        schemas.keep(Path(settings.cache_dir, "schemas"))
        # As if dbt were started in the project: relative paths in profiles, and profiles.yml itself, are found from there.
        if os.path.isdir(settings.project_dir):
            os.chdir(settings.project_dir)
        Loader(settings, channel, kept).serve()


def _import_dbt() -> None:
    """Before the first request: the import takes longer than what the client does meanwhile."""
    import multiprocessing

    gc.disable()  # what is imported stays: a collection would walk it again and again, and find nothing
    from dbt import mp_context

    # dbt uses it for locks among threads only. Locks that could be handed to spawned processes start a tracker
    # process, which outlives workers that were killed and then complains.
    mp_context._MP_CONTEXT = multiprocessing.get_context("fork")
    import sluice.dbt_engine.fresh
    import sluice.dbt_engine.listing
    import sluice.dbt_engine.parsing
    import sluice.dbt_engine.session  # noqa: F401

    gc.freeze()
    gc.enable()


if __name__ == "__main__":
    main()
