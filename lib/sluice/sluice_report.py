"""The report: state, kept records and the warehouse asked, and one HTML file made of the answers. Nothing is changed."""

import os
import tempfile
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from sluice import coverage_sources, profiles, progress, sync_cursor
from sluice.command import Context
from sluice.coverage import counts
from sluice.coverage_sources import Covered
from sluice.errors import SluiceError, refused, unavailable
from sluice.ids import timestamp
from sluice.log import redact
from sluice.project import Project
from sluice.records import Record, ReportResult, SyncState
from sluice.report import draw_coverage, draw_results, draw_runs, kept
from sluice.report.canaries import canaries
from sluice.report.coverage_map import coverage_map
from sluice.report.figure import Figure, Groups, seconds
from sluice.report.history import history
from sluice.report.page import Page, render
from sluice.report.partitions import partitions
from sluice.report.slowest import slowest
from sluice.report.syncs import syncs
from sluice.report.timeline import timeline
from sluice.state import Run, State

MOST_RUNS, MOST_ON_TIMELINE, MOST_BARS = 2000, 6, 2000
MOST_MODELS, MOST_BATCHES, MOST_SERIES, MOST_PARTITIONS = 12, 20, 8, 40


@dataclass
class Facts:
    """What was found. `uncovered` and `unsynced` say why coverage and syncs could not be looked at, None where they were."""

    runs: list[Run] = field(default_factory=list)
    batches: list[dict] = field(default_factory=list)
    attempts: list[dict] = field(default_factory=list)
    waves: dict[tuple[str, str], int] = field(default_factory=dict)
    records: kept.Kept = field(default_factory=kept.Kept)
    covered: Covered = field(default_factory=Covered)
    uncovered: str | None = None
    sources: list[SyncState] = field(default_factory=list)
    sync_days: list[tuple[str, date, int, int, datetime | None, datetime]] = field(default_factory=list)
    unsynced: str | None = None
    place: str = ""


def sluice_report(ctx: Context, *, output: Path | None, days: int) -> Generator[Record, None, None]:
    """Write the report on the last `days` days and yield where it is.

    Raises SluiceError: 2 for an output that is no file, 69 for one that cannot be written, 69 and 75 for the state store.
    """
    path = Path(os.path.realpath(output or ctx.config.log_dir / "report.html"))
    if path.exists() and not path.is_file():
        raise refused(f"--output {path} is no file", code="report_no_file", hint="--output with the path of a file")
    found = gather(ctx, days)
    with progress.waiting(f"drawing {len(found.batches)} batches"):
        page, figures = compose(found, now=ctx.now, days=days)
        content = render(page).encode()
    if not ctx.dry_run:
        _write(path, content, make_folder=output is None)
    yield ReportResult(
        path=str(path), size_bytes=len(content), days=days, runs=len(found.runs), batches=len(found.batches),
        cells={str(status): count for status, count in counts(found.covered.cells).items()},
        empty=[figure.title for figure in figures if not figure.data], status="dry_run" if ctx.dry_run else "ok",
    )  # fmt: skip


# -- what is asked ------------------------------------------------------------------------------------------------------


def gather(ctx: Context, days: int) -> Facts:
    """State, records and warehouse. A project or a warehouse that is away leaves its figures empty, and says so."""
    since = ctx.now - timedelta(days=days)
    state = State.open_existing(ctx.config.state_url, origin=ctx.config.explain("SLUICE_STATE"))
    found = Facts(records=kept.read(ctx.config.log_dir, since))
    if found.records.broken:
        ctx.log.warning("%d lines in %s are no records", found.records.broken, ctx.config.log_dir / "records")
    mine = None
    try:
        with Project(ctx.config, {}) as project:
            mine = (project.info.project_name, project.info.target)
            with progress.waiting("looking at what the warehouse holds"):
                found.covered = coverage_sources.look(ctx, project, state)
    except SluiceError as problem:
        found.uncovered = redact(problem.message)
        ctx.log.warning("no coverage: %s", found.uncovered)
    if found.covered.uncounted:
        ctx.log.warning("rows are not counted: %s", found.covered.uncounted)
    if state is not None:
        ask_state(state, found, since, mine)
    found.place = " / ".join(mine or sorted({run.plan.project for run in found.runs}))
    _ask_syncs(ctx, found, since)
    return found


def ask_state(state: State, found: Facts, since: datetime, mine: tuple[str, str] | None) -> None:
    """The runs of the project and target at hand, of all where it is not known which that is."""
    found.runs = [
        run
        for run in state.runs()
        if run.run_started_at >= timestamp(since) and mine in (None, (run.plan.project, run.plan.target))
    ]
    found.batches = state.batches_of([run.run_id for run in found.runs])
    last = [run.run_id for run in found.runs[:MOST_ON_TIMELINE]]
    found.attempts, found.waves = state.attempts_of(last), state.waves_of(last)


def _ask_syncs(ctx: Context, found: Facts, since: datetime) -> None:
    try:
        # A database file that somebody is at work in is not waited for.
        config = replace(ctx.config, lock_wait_s=0.0)
        where = sync_cursor.Place(config, profiles.load(config), config.raw_schema)
        found.sources = list(sync_cursor.states(where, ctx.now))
        found.sync_days = (
            [row for row in sync_cursor.rows_by_day(where) if row[1] >= since.date()] if found.sources else []
        )
    except SluiceError as problem:
        found.unsynced = redact(problem.message)


# -- what is made of it -------------------------------------------------------------------------------------------------


def compose(found: Facts, *, now: datetime, days: int) -> tuple[Page, list[Figure]]:
    """The page and its figures. Pure."""
    groups = Groups()
    cells = coverage_map(found.covered.cells)
    figures = [
        draw_coverage.coverage(cells, groups, _covered(found)),
        draw_runs.timeline(_timeline(found), _names(found), groups, _of_runs(found, "Each attempt as a bar, hatched where it waits for the next; a line for each wave and worker.")),
        draw_runs.history(history(found.runs, most=MOST_RUNS), groups, _of_runs(found, "A run each; a diamond is a retry, its whisker what it saved.")),
        *_slow(found, groups),
        draw_results.canaries(canaries(found.records.checks, found.runs, most=MOST_SERIES), groups, _checked(found)),
        draw_results.syncs(syncs(found.sources, found.sync_days), _synced(found)),
        draw_results.partitions(partitions(found.records.partitions, most=MOST_PARTITIONS), groups, _merged(found)),
    ]  # fmt: skip
    subtitle = f"{found.place}, the last {days} days, made {now.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    return Page("Sluice report", subtitle.lstrip(", "), figures, groups, cells.models), figures


def _timeline(found: Facts):
    began = {run.run_id: run.run_started_at for run in found.runs[:MOST_ON_TIMELINE]}
    return timeline(began, found.attempts, found.waves, most=MOST_BARS)


def _names(found: Facts) -> dict[str, str]:
    # A refill is said to begin anew with each of its waves; its plan is as old as its first.
    began = {run.run_id: run.plan.at if run.plan.gap else run.run_started_at for run in found.runs[:MOST_ON_TIMELINE]}
    return {
        run.run_id: f"{began[run.run_id][5:19].replace('T', ' ')} {run.plan.intent}"
        for run in found.runs[:MOST_ON_TIMELINE]
    }


def _slow(found: Facts, groups: Groups) -> list[Figure]:
    data = slowest(found.batches, most_models=MOST_MODELS, most_batches=MOST_BATCHES)
    return [
        draw_runs.slow_models(data, groups, _of_runs(found, "By all their seconds; the trend is of the later half of the days to the earlier.")),
        draw_runs.slow_batches(data, groups, _of_runs(found, "By their last duration, next to the median of those before.")),
    ]  # fmt: skip


def _of_runs(found: Facts, note: str) -> str:
    return note if found.runs else "No run in these days."


def _covered(found: Facts) -> str:
    if found.uncovered:
        return f"Not known: {found.uncovered}"
    if not any(cell.month for cell in found.covered.cells):
        return "No model has meta.full_refresh, so there are no months to show."
    note = "Months of each model and stage: what the config asks for, what is recorded, what the tables hold."
    return f"{note} Rows are not counted: {found.covered.uncounted}" if found.covered.uncounted else note


def _checked(found: Facts) -> str:
    checks = canaries(found.records.checks, found.runs, most=1)
    if not found.records.checks:
        return "No check was asked in these days."
    if checks.refill is None:
        return "What each check observed; no refill in these days."
    return f"What each check observed before, during (shaded) and after the refill from {checks.first_wrong_day} on."


def _synced(found: Facts) -> str:
    if found.unsynced:
        return f"Not known: {found.unsynced}"
    if not found.sources:
        return "Nothing was ever synced."
    behind = max((one.lag_s for one in found.sources if one.lag_s is not None), default=None)
    now = f" Now at most {seconds(behind)}." if behind is not None else ""
    return f"Rows by day, and how far behind each source was.{now}"


def _merged(found: Facts) -> str:
    if not found.records.partitions:
        return "No partition was merged in these days."
    return "Before and after the last merge of each."


def _write(path: Path, content: bytes, *, make_folder: bool) -> None:
    """The file as a whole or not at all, for its owner's eyes only."""
    try:
        if make_folder:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as problem:
        raise unavailable(
            f"cannot write {path}: {problem.strerror}", code="report_unwritable", hint="--output with a path of yours"
        ) from None
