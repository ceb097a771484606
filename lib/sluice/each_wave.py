"""Waves: a plan's batches go through a pipe of commands once per wave, and nothing of a wave starts before the last ended.

To waves what xargs is to lines. A barrier is the end of a pipe: when every process of it has ended, every connection is
closed and every lock is free, so the next wave cannot meet anything of the one before. Only the process that has dbt
imported and the project parsed is kept from wave to wave; it has no connection then.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from sluice import pipe
from sluice.command import Context
from sluice.config import ROOT
from sluice.dbt_engine.loader_process import Lender
from sluice.errors import refused
from sluice.records import Batch, Gate, Plan, Record, Summary
from sluice.signals import Interrupted, interruptible

_encode = msgspec.json.Encoder().encode


def split_pipe(text: str) -> list[list[str]]:
    """`a -x | b 'c d'` as argument lists, without a shell: quotes are understood, nothing is expanded.

    Raises SluiceError (2) for an empty command or an unclosed quote.
    """
    try:
        lexer = shlex.shlex(text, posix=True, punctuation_chars="|")
        lexer.whitespace_split = True
        words = list(lexer)
    except ValueError as problem:
        raise refused(
            f"{text!r}: {problem}", code="wave_bad_pipe", hint="each-wave 'run-dbt-batch | optimize-partitions'"
        ) from None
    commands: list[list[str]] = [[]]
    for word in words:
        if set(word) == {"|"}:  # `||` is one word, and an empty command in between
            commands += [[] for _ in word]
        else:
            commands[-1].append(word)
    if not all(commands):
        raise refused(
            f"{text!r} has an empty command",
            code="wave_bad_pipe",
            hint="each-wave 'run-dbt-batch | optimize-partitions'",
        )
    return [[_executable(command[0]), *command[1:]] for command in commands]


def _executable(name: str) -> str:
    """Ours first, so that each-wave works wherever it is called from. Raises SluiceError (2) when there is none."""
    ours = ROOT / "bin" / name
    found = str(ours) if ours.is_file() else shutil.which(name)
    if found is None:
        raise refused(f"there is no command {name!r}", code="wave_bad_pipe", hint="ls bin")
    return found


def each_wave(ctx: Context, commands: list[list[str]]) -> Generator[Record, None, int | None]:
    """Run the commands once per wave, in order; copy what they write. The exit code is that of the first bad wave."""
    ctx.show_all()
    plan: Plan | None = None
    waves: dict[int, list[Record]] = defaultdict(list)
    with ExitStack() as stack:
        runs_dbt = any(os.path.basename(command[0]) == "run-dbt-batch" for command in commands)
        # Before there is a plan: dbt is imported while it is being made.
        lender = stack.enter_context(Lender()) if runs_dbt and not ctx.dry_run else None
        for record in ctx.records():
            if isinstance(record, Plan):
                plan = record
            elif isinstance(record, Batch | Gate):
                waves[record.wave].append(record)
        if plan is None or ctx.upstream_exit:
            return None
        for number in sorted(waves):
            ctx.log.info("wave %d of %d: %d records", number, max(waves), len(waves[number]))
            code = _run(ctx, commands, plan, waves[number], lender, first=number == min(waves))
            if code:
                left = sum(len(records) for wave, records in waves.items() if wave > number)
                ctx.log.warning(
                    "wave %d of %d ended with %d: %d records of later waves were not started",
                    number,
                    max(waves),
                    code,
                    left,
                )
                return code
    return None
    yield  # it copies what others write and has no record of its own


def _run(
    ctx: Context, commands: list[list[str]], plan: Plan, records: list[Record], lender: Lender | None, *, first: bool
) -> int:
    """One wave: copies what the last command writes. Returns 0, or the last code that is not."""
    ending = Summary(run_id=plan.run_id, at=plan.at, command="each-wave")
    lines = b"".join(_encode(record) + b"\n" for record in [plan, *records, ending])
    with _started(commands, lines, lender, ctx.dry_run) as processes:
        tail = processes[-1].stdout
        assert tail is not None
        for _, line in pipe.read_lines(tail.fileno(), ctx.flush):
            if first or pipe.sniff(line.strip()) != "plan":
                ctx.pass_on(line)
        ctx.flush()
        with interruptible():
            codes = [process.wait() for process in processes]
    bad = [code if code > 0 else 128 - code for code in codes if code]
    return bad[-1] if bad else 0


@contextmanager
def _started(
    commands: list[list[str]], lines: bytes, lender: Lender | None, dry_run: bool
) -> Iterator[list[subprocess.Popen]]:
    """The processes of one pipe, fed with `lines`; stopped in order when a signal or an error ends the wave."""
    import tempfile

    processes: list[subprocess.Popen] = []
    lent: dict = {} if lender is None else {"pass_fds": lender.pass_fds, "env": lender.environment}
    with tempfile.TemporaryFile() as source:
        source.write(lines)
        source.seek(0)
        stdin = source.fileno()
        for command in commands:
            # Ours in this Python: they would look for it, and start once for that and once more with it.
            interpreter = [sys.executable] if Path(command[0]).parent == ROOT / "bin" else []
            argv = [*interpreter, *command, *(["--dry-run"] if dry_run else [])]
            processes.append(subprocess.Popen(argv, stdin=stdin, stdout=subprocess.PIPE, **lent))
            if len(processes) > 1:
                before = processes[-2].stdout
                assert before is not None
                before.close()  # ours: so that a reader that dies is felt by its writer
            after = processes[-1].stdout
            assert after is not None
            stdin = after.fileno()
    try:
        yield processes
    except BaseException as problem:
        signum = problem.signum if isinstance(problem, Interrupted) else signal.SIGTERM
        for process in processes:
            if process.poll() is None:
                os.kill(process.pid, signum)
        for process in processes:
            process.wait()
        raise
    finally:
        for process in processes:
            if process.stdout is not None:
                process.stdout.close()
