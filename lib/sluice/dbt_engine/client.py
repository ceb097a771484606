"""Run dbt batches from a process that never imports dbt."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from sluice import signals
from sluice.dbt_engine import wire
from sluice.dbt_engine.wire import NodeResult, Outcome, ProjectInfo

__all__ = ["Engine", "EngineError", "NodeResult", "Outcome", "ProjectInfo"]

_LIB = str(Path(__file__).resolve().parents[2])
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

    Spawns its loader at once and returns; dbt's import goes on meanwhile. Any method may raise EngineError.
    `parse`, `ls` and `run` wait interruptibly: a stop signal raises Interrupted out of them, and the caller then calls
    `cancel` and `close`, which wait a bounded time. Create it in a thread that stays: the loader dies with the thread.
    """

    def __init__(
        self,
        *,
        project_dir: Path,
        profiles_dir: Path | None,
        target: str | None,
        cache_dir: Path,
        base_vars: dict | None = None,
    ):
        cache_dir = Path(cache_dir).absolute()
        cache_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        ours, theirs = socket.socketpair()
        with theirs:
            # Its own session: a Ctrl-C on the terminal must reach the caller only, who decides what to cancel.
            # -P: the folder that the caller happens to be in is no place to import from.
            self._loader = subprocess.Popen(
                [sys.executable, "-P", "-m", "sluice.dbt_engine.loader", str(theirs.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=2,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": _python_path(), "SLUICE_STARTED_DBT": "1"},
            )
        self._channel = wire.Channel(ours)
        self._number = 0
        self._closed = False
        self._channel.send(
            wire.Settings(
                project_dir=str(Path(project_dir).absolute()),
                profiles_dir=None if profiles_dir is None else str(Path(profiles_dir).absolute()),
                target=target,
                cache_dir=str(cache_dir),
                base_vars=base_vars or {},
            )
        )

    @property
    def pid(self) -> int:
        """The loader's process id."""
        return self._loader.pid

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

    def run(
        self,
        *,
        batch_id: str,
        expect: list[str],
        vars: dict,
        full_refresh: bool,
        log_path: Path,
        models: list[str],
        marker: dict | None,
    ) -> Outcome:
        """Run exactly the nodes `expect` under base vars + `vars`, and say what became of it.

        `models` are the unique_ids of the whole plan: schemas are created and relations cached for them once.
        `marker` ({root_run_id, batch_id, attempt}) commits together with the batch's rows, see `committed`.
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
        )
        self._send(ask)
        try:
            return self._answer(Outcome, None)
        except EOFError:
            return Outcome(status="lost", error="the dbt process died")

    def committed(self, marker: dict) -> bool | None:
        """Whether the batch of this marker has taken effect, in its attempt or a later one.

        None when it cannot be known: no transactions there, a batch that was committed in part, no connection.
        Also answers when a stop signal is pending: that is when it is asked.
        """
        self._send(wire.Committed(msgspec.convert(marker, wire.Marker)))
        try:
            return self._answer(bool | None, _ANSWER_S)
        except (EOFError, TimeoutError):
            return None

    def cancel(self, grace_s: float = 3.0) -> None:
        """Interrupt what runs; after `grace_s` seconds kill it. Returns when its process is gone."""
        if self._closed:
            return
        try:
            self._send(wire.Cancel(grace_s))
            self._answer(None, grace_s + _SLACK_S)
        except (EngineError, EOFError, TimeoutError):
            self._kill()

    def close(self) -> None:
        """End the session: its on-run-end hooks run, and all its processes are gone.

        A stop signal cuts the hooks short.
        """
        if self._closed:
            return
        self._closed = True
        self._channel.finish()
        while self._loader.poll() is None:
            if signals.pending() is not None:
                self._kill()
            time.sleep(0.002)
        self._channel.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _ask(self, ask: wire.Ask, answer: Any) -> Any:
        self._send(ask)
        try:
            return self._answer(answer, None)
        except EOFError:
            raise EngineError("internal", "the dbt process died") from None

    def _send(self, ask: wire.Ask) -> None:
        self._number += 1
        try:
            self._channel.send(wire.Request(self._number, ask))
        except EOFError:
            raise EngineError("internal", "the dbt process died") from None

    def _answer(self, answer: Any, timeout_s: float | None) -> Any:
        """The reply to the last request. Raises TimeoutError, EOFError; with no timeout the wait is interruptible."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            while not self._channel.has_line():
                # Only the wait is interruptible: a signal between a read and its use would lose the bytes.
                if deadline is None:
                    with signals.interruptible():
                        wire.readable([self._channel])
                elif not wire.readable([self._channel], max(0.0, deadline - time.monotonic())):
                    raise TimeoutError
                self._channel.fill()
            reply = msgspec.json.decode(self._channel.receive(), type=wire.Reply)
            if reply.number != self._number:
                continue  # answers a request that a signal made the caller abandon
            if reply.failure is not None:
                raise EngineError(reply.failure.kind, reply.failure.message)
            return msgspec.json.decode(reply.answer, type=answer)

    def _kill(self) -> None:
        """Kill loader and workers, and wait for the end of the stream: they share it, so then all are gone."""
        if self._loader.poll() is None:
            os.killpg(self._loader.pid, signal.SIGKILL)
        try:
            while True:
                self._channel.fill()
        except EOFError:
            self._loader.wait()


def _python_path() -> str:
    return os.pathsep.join(filter(None, [_LIB, os.environ.get("PYTHONPATH")]))
