"""A command is a generator of records; everything that all commands share lives here, once.

That is: flags, help, stdout, framing, signals, exit code, error messages, summary and the view for people.
A script in bin/ defines a typed function and hands it to `main`. Nothing heavy is imported until it runs.
"""

import inspect
import os
import select
import sys
import time
from collections.abc import Callable, Generator, Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

if TYPE_CHECKING:
    from sluice.records import Record

DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Yield the same records, change nothing.")]
Json = Annotated[bool, typer.Option("--json", help="Records on stdout even on a terminal.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only errors on stderr.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more on stderr; tracebacks of our own bugs.")]
NoColor = Annotated[bool, typer.Option("--no-color", help="No colours (so does NO_COLOR).")]
ProjectDir = Annotated[Path | None, typer.Option(help="The dbt project [DBT_PROJECT_DIR].", show_default=False)]
ProfilesDir = Annotated[
    Path | None, typer.Option(help="The folder of profiles.yml [DBT_PROFILES_DIR].", show_default=False)
]
Target = Annotated[str | None, typer.Option(help="The dbt target [DBT_TARGET].", show_default=False)]
Select = Annotated[
    list[str] | None, typer.Option("--select", "-s", help="dbt node selection: a b is both.", show_default=False)
]
Exclude = Annotated[list[str] | None, typer.Option(help="dbt node selection to leave out.", show_default=False)]
Delay = Annotated[float, typer.Option(min=0, help="Seconds between batches, passed on with the plan.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the plan that was left unfinished.")]
Allow = Annotated[
    list[str] | None, typer.Option(help="Go on although this guard (G03) refuses; repeat for more.", show_default=False)
]
IntoPopulated = Annotated[
    Literal["refuse", "replace", "allow"], typer.Option(help="Where an append meets rows that nothing merges away.")
]
Hole = StrEnum("Hole", ["gaps", "failed", "stale"])  # what each means: holes.ONLY
Only = Annotated[
    list[Hole] | None,
    typer.Option(
        help="Only what is missing, failed, or made by code that changed since; repeat for more.", show_default=False
    ),
]
AcceptDrift = Annotated[bool, typer.Option("--accept-drift", help="Resume although code or config changed since.")]
DAY: dict[str, Any] = {"formats": ["%Y-%m-%d"], "metavar": "DATE", "show_default": False}
To = Annotated[datetime | None, typer.Option(help="The last day to cover [today, UTC].", **DAY)]
VarsJson = Annotated[
    str, typer.Option("--vars", help="Vars for every batch, as a JSON object.", callback=lambda text: _vars(text))
]

MaxAge = Annotated[
    timedelta | None,
    typer.Option(
        "--max-age", parser=lambda text: _duration(text), metavar="AGE", show_default=False,
        help="Only this: exit 3 when no run succeeded for so long, e.g. 26h.",
    ),
]  # fmt: skip
VarsGiven = Annotated[
    str | None,
    typer.Option(
        "--vars",
        help="Vars for every batch, as a JSON object [a retry: those of the run that failed].",
        show_default=False,
        callback=lambda text: text if text is None else _vars(text),
    ),
]

Deadline = Annotated[
    str | None, typer.Option(metavar="HH:MM", help="Refuse what will not have ended by then, UTC.", show_default=False)
]
MaxSeconds = Annotated[float | None, typer.Option(min=0, help="Refuse what takes longer.", show_default=False)]
ESTIMATES = {
    "estimate": Annotated[bool, typer.Option("--estimate", help="Forecast each batch, by what was measured.")],
    "deadline": Deadline,
    "max_seconds": MaxSeconds,
    "trim": Annotated[bool, typer.Option("--trim", help="Not refuse: plan what fits; --resume plans the rest.")],
}
COMMON = {"dry_run": DryRun, "json": Json, "quiet": Quiet, "verbose": Verbose, "no_color": NoColor}
PROJECT = {"project_dir": ProjectDir, "profiles_dir": ProfilesDir, "target": Target}


class Context:
    """What a running command knows: settings, the log, its input, its run. `now` is fixed when the command starts."""

    def __init__(self, name: str, flags: dict[str, Any], *, reads: tuple[str, ...], sees: tuple[str, ...]):
        from sluice import config, log, progress

        self.name = name
        self.now = datetime.now(UTC)
        self.config = config.load(**{key: flags.get(key) for key in PROJECT})
        self.dry_run: bool = flags["dry_run"]
        self.verbose: bool = flags["verbose"]
        self.quiet: bool = flags["quiet"]
        progress.be_quiet(self.quiet)
        self.log = log.setup(
            name, self.config, verbose=self.verbose, quiet=self.quiet, keep=not self.dry_run, now=self.now
        )
        self.run_id = ""
        self.upstream_exit = 0
        self.line = 0
        self._reads, self._sees = frozenset(reads), frozenset(sees)
        self.keeps = False
        self.stdout: int | None = None  # of a command that speaks another protocol there
        self._sink: Any = None

    def pass_on(self, line: bytes) -> None:
        """Copy a line (newline included) to stdout, unchanged."""
        self._sink.copy(line)

    @property
    def is_seen(self) -> bool:
        """Whether a person sees the records, as a view on a terminal."""
        return hasattr(self._sink, "shows_all")

    def show_all(self) -> None:
        """On a terminal, show all that passes by: of a command whose work others do."""
        if self.is_seen:
            self._sink.shows_all = True

    def flush(self) -> None:
        """See that what was copied leaves, before a wait."""
        self._sink.flush()

    def keep(self, record: "Record") -> None:
        """Append a record to the run's file in the log folder, for reports. A rehearsal leaves none."""
        import msgspec

        if self.dry_run or not self.keeps:
            return
        path = self.config.log_dir / "records" / f"{self.run_id}.jsonl"
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(path, "ab") as kept:
                kept.write(msgspec.json.encode(record) + b"\n")
        except OSError as problem:
            self.keeps = False
            self.log.warning("cannot keep records in %s: %s", path, problem)

    def waits(self, timeout_s: float) -> bool:
        """Whether nothing comes in within so many seconds: what is before it in the pipe is still at work."""
        return not select.select([sys.stdin.fileno()], [], [], timeout_s)[0]

    def records(self) -> Iterator["Record"]:
        """The records that the command consumes or looks at, checked; all others are passed on as they came.

        Sets `run_id` from the first record and `line` for messages. Raises SluiceError (65) for a broken stream.
        """
        from sluice.pipe import read_records
        from sluice.records import Summary

        for number, record in read_records(sys.stdin.fileno(), self._sink, self._reads, self._sees):
            self.line = number
            self.run_id = self.run_id or record.run_id
            if isinstance(record, Summary):
                self.upstream_exit = record.exit_code or self.upstream_exit
                if "summary" not in self._sees:
                    continue
            yield record


def main(
    body: Callable[..., Generator["Record", None, int | None]],
    doc: str | None,
    *,
    reads: tuple[str, ...] = (),
    sees: tuple[str, ...] = (),
    project: bool = False,
    estimates: bool = False,
    owns_stdout: bool = False,
) -> None:
    """Run a bin script: parse its flags, run `body(ctx, **flags)`, write its records, exit.

    `reads` are the record types that the command consumes, `sees` those it looks at and passes on. `project` adds the
    flags that find a dbt project, `estimates` those that forecast a plan. With `owns_stdout` the body speaks another protocol on `ctx.stdout`; its records go
    where its flag `records` says, - for stdout, None for nowhere. `body` may return an exit code; without one it is 1 when a unit failed, else 0.
    """
    name = body.__name__.replace("_", "-")
    if sys.stderr is None:  # `2>&-`: the next file to be opened would get its number, and what people read
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")

    def run(**flags: Any) -> None:
        common = {key: flags.pop(key) for key in COMMON}
        own = {key: flags.pop(key) for key in PROJECT} if project else {}
        asked = {key: flags.pop(key) for key in ESTIMATES} if estimates else {}
        if sys.stdout is None:
            print(f"{name}: stdout is closed: there is nowhere to write records to", file=sys.stderr)
            sys.exit(69)
        if (reads or sees) and (sys.stdin is None or sys.stdin.isatty()):
            print(f"{name}: reads records from a pipe, and there is none\n  try: {name} --help", file=sys.stderr)
            sys.exit(2)
        sys.exit(_execute(name, _foretelling(body, asked), flags, common | own, reads, sees, owns_stdout))

    shared = (ESTIMATES if estimates else {}) | COMMON | (PROJECT if project else {})
    run.__signature__ = _signature(body, shared)  # type: ignore[attr-defined]
    if f"_{name.replace('-', '_').upper()}_COMPLETE" in os.environ:  # a shell asks what could follow: see completion.py
        from typer.completion import completion_init

        completion_init()
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(
        name,
        help=_verbatim(doc or ""),
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    )(run)
    if "--version" in sys.argv[1:]:
        from sluice import __version__

        print(f"{name} {__version__}")
        sys.exit(0)
    typer.main.get_command(app).main(args=_spread(sys.argv[1:]), prog_name=name)


def _spread(words: list[str]) -> list[str]:
    """`--select a b`, as dbt takes it, is `--select a --select b`."""
    spread: list[str] = []
    option, is_given = "", False
    for word in words:
        if word.startswith("-"):
            option, is_given = word if word in ("--select", "-s", "--exclude") else "", False
        elif option:
            spread += [option] if is_given else []
            is_given = True
        spread.append(word)
    return spread


def _foretelling(body: Callable[..., Any], asked: dict[str, Any]) -> Callable[..., Any]:
    """A planner with a forecast, when one is asked for."""
    if not any(value is not None and value is not False for value in asked.values()):
        return body
    from sluice.forecasting import Asked, foretold

    return foretold(body, Asked(**asked))


def _duration(text: str | timedelta) -> timedelta:
    """`26h`, `2d`. Raises BadParameter."""
    from sluice.sync.overlap import duration

    try:
        return text if isinstance(text, timedelta) else duration(text)
    except ValueError as problem:
        raise typer.BadParameter(str(problem)) from None


def _vars(text: str) -> str:
    """A checked, canonical JSON object of typed values. Raises BadParameter."""
    import json

    from sluice.full_refresh import checked_vars

    try:
        return json.dumps(checked_vars(json.loads(text)), sort_keys=True)
    except ValueError as problem:
        raise typer.BadParameter(str(problem), param_hint="--vars") from None


def _signature(body: Callable[..., Any], shared: dict[str, Any]) -> inspect.Signature:
    """The body's own flags (all but its context), then the shared ones."""
    own = [
        p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in list(inspect.signature(body).parameters.values())[1:]
    ]
    common = [
        inspect.Parameter(
            key, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=False if get_args(kind)[0] is bool else None
        )
        for key, kind in shared.items()
    ]
    return inspect.Signature(own + common)


def _verbatim(doc: str) -> str:
    """The docstring as help, its line breaks kept."""
    return "\n\n".join(f"\b\n{paragraph}" for paragraph in inspect.cleandoc(doc).split("\n\n"))


def _execute(
    name: str, body: Callable[..., Any], flags: dict, common: dict, reads: tuple[str, ...], sees: tuple[str, ...],
    owns_stdout: bool,
) -> int:  # fmt: skip
    from sluice import errors, pipe, records, signals

    os.umask(0o077)
    if common["no_color"]:
        os.environ["NO_COLOR"] = "1"
    signals.install()
    stdout = _claim_stdout()
    records_to = (flags.pop("records") or os.devnull) if owns_stdout else "-"
    fd = stdout if records_to == "-" else _open_records(name, records_to)
    sink = _screen(fd) if os.isatty(fd) and not common["json"] else pipe.Writer(fd)
    began = time.monotonic()
    counts: dict[Any, int] = {}
    code = None
    ctx = None
    try:
        ctx = Context(name, common, reads=reads, sees=sees)
        ctx._sink = sink
        ctx.stdout = stdout if owns_stdout and records_to != "-" else None
        running = body(ctx, **flags)
        try:
            while True:
                try:
                    record = next(running)
                except StopIteration as end:
                    code = end.value
                    break
                status = getattr(record, "status", None)
                if status is not None:
                    counts[status] = counts.get(status, 0) + 1
                _emit(sink, record, ctx)
        finally:
            running.close()
        code = code if code is not None else errors.FAILED if counts.get("failed") else ctx.upstream_exit
    except errors.SluiceError as problem:
        code = problem.exit_code
        _tell(name, problem, ctx)
        _emit_if_open(
            sink,
            records.Error(
                code=problem.code,
                message=_clean(problem.message),
                hint=problem.hint and _clean(problem.hint),
                line=problem.line,
                retryable=code in (errors.BUSY, errors.UNAVAILABLE),
            ),
            ctx,
        )
    except typer.BadParameter:
        raise  # typer prints the usage and exits 2
    except signals.Interrupted as stop:
        code = 128 + stop.signum
    except pipe.StreamClosed:
        return errors.CLOSED_PIPE
    except OSError as problem:
        code = errors.UNAVAILABLE
        _tell(name, errors.unavailable(f"{problem}", code="system_error"), ctx)
    except Exception as problem:
        code = errors.BUG
        _bug(name, problem, ctx)
        _emit_if_open(sink, records.Error(code="internal_bug", message=_clean(repr(problem))), ctx)
    summary = records.Summary(
        command=name, counts=counts, duration_s=round(time.monotonic() - began, 3), exit_code=code
    )
    try:
        _emit(sink, summary, ctx)
    except pipe.StreamClosed:
        return code or errors.CLOSED_PIPE
    except signals.Interrupted:
        return code
    except OSError as problem:
        _tell(name, errors.unavailable(f"cannot write to stdout: {problem}", code="stream_unwritable"), ctx)
        return errors.UNAVAILABLE
    return code


def _screen(fd: int) -> Any:
    from sluice.view import Screen

    return Screen(fd)


def _claim_stdout() -> int:
    """A private copy of stdout for records; whatever else prints, dbt above all, goes to stderr from here on."""
    sys.stdout.flush()
    private = os.dup(1)
    os.dup2(2, 1)
    return private


def _open_records(name: str, path: str) -> int:
    """A file that records are appended to."""
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as problem:
        print(f"{name}: --records {path}: {problem.strerror}", file=sys.stderr)
        sys.exit(2)


def _emit(sink: Any, record: "Record", ctx: Context | None) -> None:
    from sluice.ids import new_run_id, timestamp

    if ctx is not None and not ctx.run_id:
        ctx.run_id = new_run_id()
    record.run_id = record.run_id or (ctx.run_id if ctx else new_run_id())
    record.at = record.at or timestamp()
    if ctx is not None:
        ctx.keep(record)
    sink.write(record)


def _emit_if_open(sink: Any, record: "Record", ctx: Context | None) -> None:
    """For what is said on the way out: the reason for leaving matters more than a reader that has left, or takes nothing."""
    from sluice.pipe import StreamClosed
    from sluice.signals import Interrupted

    try:
        _emit(sink, record, ctx)
    except (StreamClosed, Interrupted, OSError):
        pass


def _clean(text: str) -> str:
    from sluice.log import redact

    return redact(text)


def _tell(name: str, problem: Any, ctx: Context | None) -> None:
    """An error for a person on stderr, and in the log."""
    from sluice.log import one_line, tell

    text = _clean(problem.message)
    lines = [
        f"{name}: {one_line(first)}" if i == 0 else f"  {one_line(first)}" for i, first in enumerate(text.split("\n"))
    ]
    if problem.hint:
        lines.append(f"  try: {one_line(_clean(problem.hint))}")
    tell("\n".join(lines))
    if ctx is not None:
        ctx.log.error("%s: %s", problem.code, text, extra={"file_only": True})


def _bug(name: str, problem: Exception, ctx: Context | None) -> None:
    import traceback

    from sluice.errors import SluiceError
    from sluice.log import tell

    _tell(
        name,
        SluiceError(
            f"a bug of ours: {problem!r}",
            code="internal_bug",
            exit_code=70,
            hint=f"{name} -v … shows where; please report it",
        ),
        ctx,
    )
    if ctx is None or ctx.verbose:
        tell(_clean("".join(traceback.format_exception(problem))))
    if ctx is not None:
        ctx.log.error("traceback", exc_info=problem, extra={"file_only": True})


__all__ = ["Context", "main"]
