"""Run dbt batches from a process that never imports dbt."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import msgspec

from sluice import signals
from sluice.dbt_engine import loader_process, wire
from sluice.dbt_engine.wire import NodeResult, Outcome, ProjectInfo
from sluice.errors import SluiceError, unavailable
from sluice.jobs import Job, Wait, through, to_end

__all__ = ["Engine", "EngineError", "NodeResult", "Outcome", "ProjectInfo"]

_SLACK_S = 2.0  # what the loader may take on top of a grace period before it is killed too
_ANSWER_S = 30.0  # how long a question to the warehouse may take when a stop signal is already pending


class EngineError(Exception):
    """dbt could not do what was asked, before any batch ran.

    `kind` is `configuration` (no project, bad profile, dbt cannot parse), `selection` (a bad selector) or `internal`.
    The text is dbt's message.
    """

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind


class Engine:
    """One dbt project, loaded once, and the batches to run in it.

    Starts its loader at once, or takes the one it is lent, and returns; dbt's import goes on meanwhile. Any method may raise EngineError,
    and SluiceError (69) when the loader is gone.
    `parse`, `ls`, `run` and `twin` wait interruptibly: a stop signal raises Interrupted out of them, and the caller then calls
    `cancel` (or `cancelling`) and `close`, which wait a bounded time. Create it in a thread that stays: the loader dies with the thread.
    """

    def __init__(
        self,
        *,
        project_dir: Path,
        profiles_dir: Path | None,
        target: str | None,
        cache_dir: Path,
        base_vars: dict | None = None,
        asides: dict[str, str] | None = None,
    ):
        cache_dir = Path(cache_dir).absolute()
        cache_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        loader, end = loader_process.connect()
        self._serve_by(loader, end, borrowed=loader is None)
        settings = wire.Settings(
            project_dir=str(Path(project_dir).absolute()),
            profiles_dir=None if profiles_dir is None else str(Path(profiles_dir).absolute()),
            target=target,
            cache_dir=str(cache_dir),
            base_vars=base_vars or {},
            asides=asides or {},
        )
        try:
            self._channel.send(settings)
        except EOFError:
            self._kill()
            self.close()
            raise _gone() from None

    def _serve_by(self, loader: subprocess.Popen | None, end: socket.socket, borrowed: bool = False) -> None:
        self._loader, self._channel, self._borrowed = loader, wire.Channel(end), borrowed
        self._number, self._closed = 0, False

    def twin(self) -> Engine:
        """Another engine on the same parse, which may run batches at the same time. Ask before anything runs here.

        Its loader is forked from this one's, so that they share their memory, and dies with it: close twins first.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            self._ask(wire.Twin(), None, given=theirs)
        twin = Engine.__new__(Engine)
        twin._serve_by(None, ours)
        return twin

    @property
    def pid(self) -> int | None:
        """The loader's process id; None when it is a lent one, or a twin."""
        return None if self._loader is None else self._loader.pid

    def parse(self, *, write_manifest: bool = False) -> ProjectInfo:
        """Parse under the base vars; with `write_manifest` also leave the manifest at ProjectInfo.manifest_path."""
        return self._ask(wire.Parse(write_manifest), ProjectInfo)

    def ls(
        self,
        select: list[str],
        exclude: list[str],
        selector: str | None,
        resource_types: tuple[str, ...] = ("model",),
    ) -> list[str]:
        """The unique_ids that `dbt ls` would list, sorted; [] when nothing matches."""
        return self._ask(wire.List(list(select), list(exclude), selector, list(resource_types)), list[str])

    def moved_configs(self, asked: list[tuple[str, dict]]) -> list[dict[str, Any] | None]:
        """For each model and vars, what of its config is different under base vars + these; None where only a run can tell."""
        return self._ask(wire.MovedConfigs(asked), list[dict[str, Any] | None])

    def running(
        self,
        *,
        batch_id: str,
        expect: list[str],
        vars: dict,
        full_refresh: bool,
        log_path: Path,
        models: list[str],
        marker: dict | None,
        look_again: bool = False,
    ) -> Job[Outcome]:
        """Run exactly the nodes `expect` under base vars + `vars`, and say what became of it.

        `models` are the unique_ids of the whole plan: schemas are created and relations cached for them once.
        `marker` ({root_run_id, batch_id, attempt}) names the attempt to the warehouse; a batch that adds commits it
        together with its rows, see `committed`. `look_again`: another engine has changed tables that matter here.
        Failing SQL, a locked file, a lost connection are a failed Outcome, not an EngineError.
        """
        ask = wire.Run(
            batch_id=batch_id,
            expect=list(expect),
            vars=vars,
            full_refresh=full_refresh,
            log_path=str(Path(log_path).absolute()),
            models=list(models),
            marker=None if marker is None else msgspec.convert(marker, wire.Marker),
            look_again=look_again,
        )
        self._send(ask)
        try:
            return (yield from self._answering(Outcome))
        except EOFError:
            return Outcome(status="lost", error="the dbt process died")

    def run(self, **batch: Any) -> Outcome:
        """What `running` comes to, waited for."""
        return through(self.running(**batch))

    def committed(self, marker: dict) -> bool | str:
        """Whether the batch of this marker has taken effect, in its attempt or a later one.

        False also means that nothing is left of it: on ClickHouse, what an attempt left is removed first. A text says
        why it cannot be known: a batch that was committed in part, parts that were merged away, no connection.
        Also answers when a stop signal is pending: that is when it is asked.
        """
        self._send(wire.Committed(msgspec.convert(marker, wire.Marker)))
        try:
            return to_end(self._answering(bool | str, _ANSWER_S))
        except EOFError:
            raise _gone() from None
        except TimeoutError:
            return "dbt did not say: it took too long"

    def cancelling(self, grace_s: float = 3.0) -> Job[None]:
        """Interrupt what runs; after `grace_s` seconds kill it. Ends when its process is gone."""
        if self._closed:
            return
        try:
            self._send(wire.Cancel(grace_s))
            yield from self._answering(None, grace_s + _SLACK_S)
        except (EngineError, SluiceError, EOFError, TimeoutError):
            self._kill()

    def cancel(self, grace_s: float = 3.0) -> None:
        """What `cancelling` comes to, waited for whatever signal comes."""
        to_end(self.cancelling(grace_s))

    def close(self) -> None:
        """End the session: its on-run-end hooks run, and all its processes are gone.

        A stop signal cuts the hooks short.
        """
        if self._closed:
            return
        self._closed = True
        try:
            self._send(wire.Finish())
        except SluiceError:
            self._kill()  # who cannot be told to end would be waited for without end
        while not self._ended(0.02):
            if signals.pending() is not None:
                self._kill()
                break
        self._channel.close()
        if self._borrowed:
            loader_process.give_back()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _ask(self, ask: wire.Ask, answer: Any, *, given: socket.socket | None = None) -> Any:
        self._send(ask, given)
        try:
            return through(self._answering(answer))
        except EOFError:
            raise _gone() from None

    def _send(self, ask: wire.Ask, given: socket.socket | None = None) -> None:
        self._number += 1
        request = wire.Request(self._number, ask)
        try:
            if given is None:
                self._channel.send(request)
            else:
                self._channel.send_with(request, given)
        except EOFError:
            raise _gone() from None

    def _answering(self, answer: Any, within_s: float | None = None) -> Job[Any]:
        """The reply to the last request. Raises EOFError, and TimeoutError after `within_s` seconds."""
        deadline = None if within_s is None else time.monotonic() + within_s
        while True:
            while not self._channel.has_line():
                left_s = None if deadline is None else max(0.0, deadline - time.monotonic())
                # Only this wait is interruptible: a signal between a read and its use would lose the bytes.
                yield Wait(self._channel, left_s)
                if wire.readable([self._channel], 0.0):
                    self._channel.fill()
                elif left_s == 0.0:
                    raise TimeoutError
            reply = msgspec.json.decode(self._channel.receive(), type=wire.Reply)
            if reply.number != self._number:
                continue  # answers a request that a signal made the caller abandon
            if reply.failure is not None and reply.failure.kind == "gone":
                raise _gone()
            if reply.failure is not None:
                raise EngineError(reply.failure.kind, reply.failure.message)
            return msgspec.json.decode(reply.answer, type=answer)

    def _kill(self) -> None:
        """Have loader and workers killed, workers only where the loader is another's; returns when they are gone."""
        if self._loader is None:
            self._channel.finish()
            self._ended(_SLACK_S)  # if it cannot even do that: it dies with its lender, and they with it
        else:
            if self._loader.poll() is None:
                os.killpg(self._loader.pid, signal.SIGKILL)
            self._ended(None)

    def _ended(self, timeout_s: float | None) -> bool:
        """Whether the stream ends within `timeout_s`: the workers of this client hold it, too, so then all are gone."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            while wire.readable([self._channel], None if deadline is None else max(0.0, deadline - time.monotonic())):
                self._channel.fill()
        except EOFError:
            if self._loader is not None:
                self._loader.wait()
            return True
        return False


def _gone() -> SluiceError:
    return unavailable(
        "the process that dbt runs in is gone: somebody killed it, or the system did for want of memory",
        code="dbt_gone",
        hint="dmesg -T | grep -i killed names what was killed for its memory; then start again",
    )
