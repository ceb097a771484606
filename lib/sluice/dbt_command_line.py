"""Any dbt command line as the engine: `docker exec dbt dbt`, another version, dbt 2; slower, and just as exact.

What became of each node is read from dbt's JSON log on its stdout, because its target/ folder may be in a container.
"""

import os
import shlex
import signal
import subprocess
from pathlib import Path
from typing import Any

import msgspec

from sluice.dbt_engine.wire import NodeResult, Outcome
from sluice.errors import refused
from sluice.jobs import Job
from sluice.log import redact
from sluice.signals import interruptible

_OK = ("success", "ok", "pass")


class CommandLine:
    """Runs each batch as one process. It cannot tell what a lost process has committed."""

    def __init__(self, command: str, *, target: str | None):
        self._command = shlex.split(command)
        self._target = target
        self._process: subprocess.Popen | None = None

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
        look_again: bool = False,
    ) -> Outcome:
        """Run one batch. Lost when dbt died of a signal, failed when it cannot be started or a node is missing."""
        argv = [*self._command, "--log-format", "json", "run", "--select", *map(_selector, expect)]
        argv += ["--vars", msgspec.json.encode(vars).decode()]
        argv += ["--full-refresh"] if full_refresh else []
        argv += ["--target", self._target] if self._target else []
        nodes: dict[str, NodeResult] = {}
        hooks_s = 0.0
        said = []
        try:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
                env={**os.environ, "SLUICE_STARTED_DBT": "1"},
            )  # fmt: skip
        except OSError as problem:
            return Outcome(status="failed", nodes=[], error=f"cannot start {self._command[0]!r} (--dbt): {problem}")
        assert self._process.stdout is not None
        with open(log_path, "wb") as log, interruptible():
            for line in self._process.stdout:
                log.write(redact(line.decode(errors="replace")).encode())
                event = _event(line)
                if event is None or event["info"].get("level") == "error":
                    said.append(event["info"].get("msg", "") if event else line.decode(errors="replace").strip())
                hooks_s += _hook_s(event)
                node = _finished(event)
                if node is not None:
                    nodes[node.unique_id] = node
            code = self._process.wait()
        outcome = _judged(expect, list(nodes.values()), code, " ".join(filter(None, said)))
        outcome.hooks_s = hooks_s
        return outcome

    def running(self, **batch: Any) -> Job[Outcome]:
        """`run`, which waits for dbt all the while: it is the only one, see `twin`."""
        return self.run(**batch)
        yield  # never

    def committed(self, marker: dict) -> bool | str:
        """Why it cannot be known: nothing commits together with the rows here."""
        return "dbt runs elsewhere (--dbt)"

    def cancel(self, grace_s: float = 3.0) -> None:
        """Ask dbt to stop, as Ctrl-C would; kill it after `grace_s` seconds."""
        if self._process is None or self._process.poll() is not None:
            return
        for signum, patience_s in ((signal.SIGINT, grace_s), (signal.SIGTERM, 1.0), (signal.SIGKILL, None)):
            try:
                os.killpg(self._process.pid, signum)
                self._process.wait(patience_s)
                return
            except subprocess.TimeoutExpired:
                continue
            except ProcessLookupError:
                return

    def twin(self) -> "CommandLine":
        """Raises SluiceError (2): two dbt processes in one project overwrite each other's files."""
        raise refused(
            "--workers with --dbt: two dbt processes at once would share the project's target/ folder",
            code="workers_command_line",
            hint="leave out --workers, or --engine and --dbt",
        )

    def cancelling(self, grace_s: float = 3.0) -> Job[None]:
        """`cancel`, which waits."""
        return self.cancel(grace_s)
        yield  # never

    def close(self) -> None:
        """Stop what still runs."""
        self.cancel()


def _selector(unique_id: str) -> str:
    """`model.shop.orders` as a selection that cannot mean anything else but a model of that package and name."""
    _, package, name = unique_id.split(".", 2)
    return f"{name},package:{package}"


def _event(line: bytes) -> dict[str, Any] | None:
    try:
        event = msgspec.json.decode(line)
        return event if isinstance(event, dict) and isinstance(event.get("info"), dict) else None
    except msgspec.DecodeError:
        return None


def _hook_s(event: dict[str, Any] | None) -> float:
    """Seconds of an on-run hook, from dbt's event about its end."""
    if event is None or event["info"].get("name") != "LogHookEndLine":
        return 0.0
    took = (event.get("data") or {}).get("execution_time")
    return float(took) if isinstance(took, int | float) else 0.0


def _finished(event: dict[str, Any] | None) -> NodeResult | None:
    """The outcome of a node, from dbt's event about its result."""
    if event is None or event["info"].get("name") not in (
        "LogModelResult",
        "LogSnapshotResult",
        "LogSeedResult",
        "NodeFinished",
    ):
        return None
    data = event.get("data") or {}
    node = data.get("node_info") or {}
    unique_id = node.get("unique_id")
    if not unique_id:
        return None
    status = str(node.get("node_status") or data.get("status", "")).lower()
    took = data.get("execution_time")
    relation = node.get("node_relation") or {}
    return NodeResult(
        unique_id=unique_id,
        status="ok" if status in _OK else "skipped" if status == "skipped" else "failed",
        duration_s=float(took) if isinstance(took, int | float) else 0.0,
        message=None if status in _OK else event["info"].get("msg"),
        schema=str(relation.get("schema") or ""),
        table=str(relation.get("alias") or unique_id.rsplit(".", 1)[-1]),
    )


def _judged(expect: list[str], nodes: list[NodeResult], code: int, said: str) -> Outcome:
    """ok only when exactly the expected nodes are there, all successful: dbt exits 0 when it selects nothing."""
    if code < 0 or code > 128:  # 128 + signal is how a shell or `docker exec` tells of it
        signum = -code if code < 0 else code - 128
        return Outcome(status="lost", nodes=nodes, error=f"dbt died of signal {signum}", engine="command_line")
    bad = [node for node in nodes if node.status != "ok"]
    got = {node.unique_id for node in nodes}
    if code != 0 or bad:
        error = said or next((n.message for n in bad if n.message), None) or f"dbt exited with {code}"
    elif got != set(expect):
        missing = ", ".join(sorted(set(expect) - got)) or "nothing"
        error = f"dbt did not run what was expected: {missing} missing, {', '.join(sorted(got - set(expect))) or 'nothing'} too many"
    else:
        return Outcome(status="ok", nodes=nodes, engine="command_line")
    return Outcome(status="failed", nodes=nodes, error=error, engine="command_line")
