"""Commands run by the thousand: one process imports what they need, and forks a child for each, or for many in a row.

That is a quarter of what a command costs that is started by itself. Whoever is to be killed or traced is started so.
"""

import gc
import os
import pickle
import runpy
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

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
    cwd: Path | None = None


Answer = tuple[int, bytes, str]  # exit code, stdout, stderr


@dataclass(frozen=True)
class Said:
    """How it ended: its exit code, -N for a signal."""

    code: int
    out: bytes
    err: str


class Commands:
    """The process that forks them, in the environment that all have, with the files that all inherit. A context manager."""

    def __init__(self, env: dict[str, str], pass_fds: Sequence[int] = ()):
        self.env, self.pass_fds = env, pass_fds
        self._process = subprocess.Popen(
            [ROOT / ".venv/bin/python", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, pass_fds=pass_fds
        )  # fmt: skip

    def __enter__(self) -> "Commands":
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.stdin.close()
        self._process.wait()

    def say(self, calls: list[Call], in_a_row: int = 1) -> list[Said]:
        """What each said, in order. `in_a_row`: so many share a child, which costs a quarter again, and what one leaves behind in it."""
        asked, answers = self._process.stdin, self._process.stdout
        assert asked and answers
        pickle.dump((in_a_row, [(call.argv, call.given, call.env, call.cwd) for call in calls]), asked)
        asked.flush()
        return [Said(*answer) for answer in pickle.load(answers)]

    def run(self, call: Call, tracer: Sequence[str] = ()) -> subprocess.CompletedProcess[bytes]:
        """One of them; under a tracer it is a process that was started by itself."""
        if not tracer:
            [said] = self.say([call])
            return subprocess.CompletedProcess(call.argv, said.code, said.out, said.err.encode())
        with tempfile.TemporaryFile() as stdin:
            stdin.write(call.given)
            stdin.seek(0)
            return subprocess.run(
                [*tracer, ROOT / "bin" / call.argv[0], *call.argv[1:]], env=self.env | call.env, stdin=stdin,
                capture_output=True, timeout=180, pass_fds=self.pass_fds, cwd=call.cwd,
            )  # fmt: skip


def run_all(calls: list[Call], env: dict[str, str], in_a_row: int = 1) -> list[Said]:
    """What each call said, in order, of a process of their own."""
    with Commands(env) as commands:
        return commands.say(calls, in_a_row)


def _main() -> None:
    sys.path[:0] = [str(ROOT / "bin"), str(ROOT / "lib")]
    while True:
        try:
            in_a_row, asked = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump(_answers([Call(*call) for call in asked], in_a_row), sys.stdout.buffer)
        sys.stdout.flush()


def _answers(calls: list[Call], in_a_row: int) -> list[Answer]:
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
    rows = [calls[at : at + in_a_row] for at in range(0, len(calls), in_a_row)]
    return [said for row in rows for said in (_alone(row[0]) if in_a_row == 1 else _one_after_another(row))]


def _alone(call: Call) -> list[Answer]:
    """A child's exit code is its process's: one that is killed shows."""
    with _files(call) as files:
        pid = os.fork()
        if pid == 0:
            os._exit(_run(call, files))
        _, status = os.waitpid(pid, 0)
        return [(os.waitstatus_to_exitcode(status), *_read(files))]


def _one_after_another(row: list[Call]) -> list[Answer]:
    with tempfile.TemporaryFile() as answers:
        pid = os.fork()
        if pid == 0:
            said = []
            for call in row:
                with _files(call) as files:
                    said.append((_run(call, files), *_read(files)))
            pickle.dump(said, answers)
            answers.flush()
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        assert status == 0, f"a child ended with {status} in one of {row}"
        answers.seek(0)
        return pickle.load(answers)


@contextmanager
def _files(call: Call) -> Iterator[list[IO[bytes]]]:
    """stdin, with what the call is given, stdout and stderr."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(call.given)
        given.seek(0)
        yield [given, out, err]


def _read(files: list[IO[bytes]]) -> tuple[bytes, str]:
    for file in files:
        file.seek(0)
    return files[1].read(), files[2].read().decode(errors="replace")


def _run(call: Call, files: list[IO[bytes]]) -> int:
    """Be the command, on these files; its exit code."""
    code = 1
    try:
        for number, file in enumerate(files):
            os.dup2(file.fileno(), number)
        os.environ |= call.env
        os.chdir(call.cwd or os.curdir)
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
    return code


if __name__ == "__main__":
    _main()
