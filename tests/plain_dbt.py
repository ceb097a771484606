"""Plain dbt, as people run it: the oracle of many tests. Imported once for all of a process's tests, a project parsed once.

Every `invoke` runs in a fork of its own, which holds no file and no connection afterwards.
"""

import multiprocessing
import os
import signal
import sys
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(
    ["dbt.cli.main", *(f"dbt.adapters.{engine}" for engine in ("duckdb", "postgres", "clickhouse"))]
)


class PlainDbt:
    """dbt on one project and target; a context manager. `environment` is on top of this process's own, DBT_ settings apart."""

    def __init__(self, project: Path, target: str, **environment: str):
        clean = {name: value for name, value in os.environ.items() if not name.startswith("DBT_")}
        self._ours, theirs = _forks.Pipe()
        self._process = _forks.Process(target=_serve, args=(theirs, project, target, clean | environment), daemon=True)
        self._process.start()
        theirs.close()

    def invoke(self, *invocations: list[str]) -> list[str | None]:
        """Run dbt once for each list of arguments. Returns each one's error, None where it succeeded."""
        self.begin(*invocations)
        return self._ours.recv()

    def begin(self, *invocations: list[str]) -> None:
        """The same without waiting."""
        self._ours.send(invocations)

    def kill(self) -> None:
        """Kill -9, whatever it does; returns when it is gone, and what it had forked."""
        assert self._process.pid
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.join()
        with suppress(ProcessLookupError):
            while True:
                os.killpg(self._process.pid, 0)
                time.sleep(0.001)

    def close(self) -> None:
        self._ours.close()
        self._process.join()

    def __enter__(self) -> "PlainDbt":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


def _serve(asked: Connection, project: Path, target: str, environment: dict[str, str]) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(project.parent)
    os.dup2(2, 1)  # dbt prints there
    place = ["--project-dir", str(project), "--profiles-dir", str(project), "--target", target]
    parsed: dict[bool, object] = {}
    while True:
        try:
            invocations = asked.recv()
        except EOFError:
            return
        for invocation in invocations:
            # The one config that depends on a var is the strategy on ClickHouse, so the vars of a batch cannot go stale
            # in a manifest that was parsed with a window, or without one, as it has.
            windowed = _is_windowed(invocation, target)
            if windowed not in parsed:
                parsed[windowed] = _parse(invocation if windowed else [], place)
        found, finding = multiprocessing.Pipe(duplex=False)
        pid = os.fork()
        if not pid:
            finding.send([_run(one, parsed[_is_windowed(one, target)], place) for one in invocations])
            sys.exit()
        finding.close()
        answer = found.recv()  # EOFError when it died
        os.waitpid(pid, 0)  # whoever is answered finds every file let go
        asked.send(answer)


_QUIET = ["--quiet", "--no-print", "--log-level-file", "none", "--no-version-check"]


def _is_windowed(invocation: list[str], target: str) -> bool:
    return target == "clickhouse" and any("start_month" in word for word in invocation)


def _parse(windowed: list[str], place: list[str]) -> object:
    from dbt.cli.main import dbtRunner

    variables = ["--vars", windowed[windowed.index("--vars") + 1]] if windowed else []
    done = dbtRunner().invoke([*_QUIET, "parse", *variables, *place])
    if done.exception:
        raise done.exception
    return done.result


def _run(invocation: list[str], parsed, place: list[str]) -> str | None:
    from dbt.cli.main import dbtRunner

    said: list[str] = []
    runner = dbtRunner(
        manifest=parsed, callbacks=[lambda event: said.append(event.info.msg) if event.info.level == "error" else None]
    )
    done = runner.invoke([*_QUIET, "--no-write-json", *invocation, *place])
    return None if done.success else "; ".join([*said, str(done.exception)])
