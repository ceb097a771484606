"""Commands run by the thousand: one process imports what they need, and forks a child for each."""

import gc
import os
import pickle
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What a script imports only when it needs it; who forks a thousand of it imports it before.
LATER = {
    "canary-check": ["sluice.gates"],
    "each-wave": ["sluice.view"],
    "notify": ["sluice.delivery", "filelock"],
    "optimize-partitions": ["jinja2.ext", "jinja2.nativetypes", "jinja2.sandbox", "yaml"],
    "publish-tables": ["sluice.take_back"],
    "run-dbt-batch": ["pydantic", "stamina"],
    "sluice-state": ["sluice.state.sqlite"],
    "sync-cursor": ["jinja2.ext", "jinja2.nativetypes", "jinja2.sandbox", "pytz", "yaml"],
}


@dataclass(frozen=True)
class Call:
    """A command line of bin/, what it reads, and what its environment has beyond ours."""

    argv: list[str]
    given: bytes = b""
    env: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Said:
    """How it ended: its exit code, -N for a signal."""

    code: int
    out: bytes
    err: str


def run_all(calls: list[Call], env: dict[str, str]) -> list[Said]:
    """What each call said, in order."""
    with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as answers:
        pickle.dump([(call.argv, call.given, call.env) for call in calls], asked)
        asked.seek(0)
        subprocess.run(
            [ROOT / ".venv/bin/python", __file__], stdin=asked, stdout=answers,
            env=env, check=True,
        )  # fmt: skip
        answers.seek(0)
        return [Said(*answer) for answer in pickle.load(answers)]


def _main() -> None:
    calls = [Call(*call) for call in pickle.load(sys.stdin.buffer)]
    sys.path[:0] = [str(ROOT / "bin"), str(ROOT / "lib")]
    for script in {call.argv[0] for call in calls}:
        for module in (
            "pkgutil",
            "typer._click.decorators",
            "_boot",
            f"sluice.{script.replace('-', '_')}",
            *LATER.get(script, []),
        ):
            __import__(module)
    gc.freeze()  # a collection in a child would copy all of it
    pickle.dump([_run(call) for call in calls], sys.stdout.buffer)


def _run(call: Call) -> tuple[int, bytes, str]:
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(call.given)
        given.seek(0)
        pid = os.fork()
        if pid == 0:
            _become(call, given.fileno(), out.fileno(), err.fileno())
        _, status = os.waitpid(pid, 0)
        out.seek(0)
        err.seek(0)
        return (os.waitstatus_to_exitcode(status), out.read(), err.read().decode(errors="replace"))


def _become(call: Call, given: int, out: int, err: int) -> None:
    import runpy
    import traceback

    code = 1
    try:
        for number, fd in enumerate((given, out, err)):
            os.dup2(fd, number)
        os.environ |= call.env
        script = str(ROOT / "bin" / call.argv[0])
        sys.stdin, sys.stdout, sys.stderr = (os.fdopen(n, mode, closefd=False) for n, mode in enumerate("rww"))
        sys.argv = [script, *call.argv[1:]]
        runpy.run_path(script, run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1 if end.code else 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _main()
