"""The state store, looked into: the present, runs, what is pending, what retries saved, one run with its batches; and what a person decides."""

import sys
import time
from collections.abc import Generator, Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import groupby

from typer import BadParameter

from sluice.adopt import adopt
from sluice.command import Context
from sluice.coverage import Cell, counts
from sluice.coverage_sources import look as look_at_coverage
from sluice.errors import SluiceError, refused
from sluice.overview import overview, run_state, stale_models
from sluice.project import Project
from sluice.records import BatchResult, Coverage, CoveredCell, DailyRun, Overview, Record, Savings, StaleModel, Window
from sluice.signals import interruptible
from sluice.state import Run, State

REDRAW_S = 1.0
STALE_AFTER = timedelta(days=2)  # a model of a daily refresh that missed a night, and a day to look at it


def asked(
    ctx: Context, action: str, run: str | None, batch: str | None, select: list[str], exclude: list[str], *,
    limit: int, rows_are_there: bool | None, watch: bool, max_age: timedelta | None,
) -> Iterator[Record]:  # fmt: skip
    """What the action yields. Raises BadParameter for what does not go together."""
    if (action in ("show", "discard", "resolve")) != (run is not None):
        raise BadParameter(f"{action} {'needs' if run is None else 'takes no'} RUN")
    if (watch or max_age) and action != "status":
        raise BadParameter("--watch and --max-age go with status")
    if (select or exclude) and action not in ("coverage", "adopt"):
        raise BadParameter("--select and --exclude go with coverage and adopt")
    if {batch is not None, rows_are_there is not None} != {action == "resolve"}:
        raise BadParameter("resolve alone takes BATCH and --rows-are-there or --do-again, and needs both")
    if action == "status":
        return status(ctx, watch=watch, max_age=max_age)
    if action == "rebuild":
        from sluice.rebuild import rebuild

        return rebuild(ctx)
    if action in ("coverage", "adopt"):
        return (coverage if action == "coverage" else adopt)(ctx, select, exclude)
    return look(ctx, action, run, batch, limit=limit, rows_are_there=bool(rows_are_there))


def look(
    ctx: Context, action: str, run_id: str | None, batch_id: str | None, *, limit: int, rows_are_there: bool
) -> Generator[Record, None, int]:
    """Yield what the action asks to see. Raises SluiceError (2) for an unknown run, (75) for one at work."""
    state = _opened(ctx)
    if state is None:
        if run_id:
            raise refused(
                f"there is no run yet in {ctx.config.state_url}",
                code="state_unknown_run",
                hint="plan-batches | run-dbt-batch",
            )
        return 0
    if action == "runs":
        yield from (run_state(state, run) for run in state.runs(limit=limit))
    elif action == "history":
        yield from _history(state, limit)
    elif action == "pending":
        yield from (run_state(state, run) for run in state.unfinished())
    else:
        run = state.run(run_id or "")
        if not ctx.dry_run:
            if action == "discard":
                state.discard(run)
            elif action == "resolve":
                state.resolve(run, batch_id or "", rows_are_there=rows_are_there)
        yield run_state(state, state.run(run.run_id))
        if action != "discard":
            yield from _batches(state, run)
    return 0


def status(ctx: Context, *, watch: bool, max_age: timedelta | None = None) -> Generator[Record, None, int]:
    """Yield the overview; to `watch`, draw it again and again on stderr until a signal comes. With `max_age` only whether
    a run succeeded lately, as the doctor tells it.

    Raises SluiceError (2) when there is no terminal to draw on.
    """
    if max_age is not None:
        from sluice.doctor.last_success import judged

        return (yield from judged(ctx, max_age))
    if watch and not sys.stderr.isatty():
        raise refused("--watch: stderr is no terminal", code="state_no_terminal", hint="sluice-state status --json")
    state = _opened(ctx)
    if state is None:
        yield Overview()
        return 0
    stale, unknown, covered = _of_project(ctx, state)
    if watch:
        _redraw(state, stale, unknown, covered)
    yield overview(state, stale, stale_unknown=unknown, coverage=covered, now=ctx.now)
    return 0


def coverage(ctx: Context, select: list[str], exclude: list[str]) -> Generator[Record, None, None]:
    """Yield what is there of each stage of the chosen models. Raises SluiceError as `coverage_sources.look` does."""
    state = State.open_existing(ctx.config.state_url, origin=ctx.config.explain("SLUICE_STATE"))
    with Project(ctx.config, {}) as project:
        there = look_at_coverage(ctx, project, state, select=select, exclude=exclude)
    for (model, stage), cells in groupby(there.cells, key=lambda cell: (cell.model, cell.stage)):
        own = list(cells)
        yield Coverage(
            model=model,
            stage=stage,
            counts={status: count for status, count in counts(own).items() if count},
            cells=[_covered(cell) for cell in own],
            uncounted=there.uncounted,
        )


def _covered(cell: Cell) -> CoveredCell:
    record = cell.record
    return CoveredCell(
        month=cell.month, status=cell.status, code_changed=cell.code_changed, rows=cell.rows,
        recorded_run_id=record.run_id if record else None, recorded_at=record.at if record else None,
    )  # fmt: skip


def _redraw(state: State, stale: list[StaleModel], unknown: str | None, covered: dict[str, int]) -> None:
    """Until a signal comes. What is stale and covered is that of the beginning: it asks the whole project."""
    from rich.console import Console
    from rich.live import Live

    from sluice.overview_screen import drawn

    with Live(console=Console(stderr=True), auto_refresh=False, screen=True) as live, interruptible():
        while True:
            now = datetime.now(UTC)
            live.update(
                drawn(overview(state, stale, stale_unknown=unknown, coverage=covered, now=now), now=now), refresh=True
            )
            time.sleep(REDRAW_S)


def _of_project(ctx: Context, state: State) -> tuple[list[StaleModel], str | None, dict[str, int]]:
    """The stale models, or why nobody knows them, and the cells by status: a project that cannot be loaded hides nothing else."""
    try:
        with Project(ctx.config, {}) as project:
            stale = stale_models(state, project, now=ctx.now, max_age=STALE_AFTER)
            try:
                covered = counts(look_at_coverage(ctx, project, state, count=False).cells)
            except SluiceError as problem:  # one model with a bad block hides nothing but this
                ctx.log.info("what is covered is not known: %s", problem.message)
                covered = {}
    except SluiceError as problem:
        return [], f"not known: {problem.message}", {}
    return stale, None, {status: count for status, count in covered.items() if count}


def _opened(ctx: Context) -> State | None:
    """The store; None, and a word about it, when there is none yet."""
    state = State.open_existing(ctx.config.state_url, origin=ctx.config.explain("SLUICE_STATE"))
    if state is None:
        ctx.log.warning("no run yet in %s", ctx.config.state_url)
    return state


def _history(state: State, limit: int) -> Iterator[Record]:
    """The latest daily runs, and what their retries saved: by the week, and all together."""
    rows = state.daily_history()
    for row in rows[:limit]:
        yield DailyRun(
            run_id=row["run_id"],
            project=row["project_name"],
            target=row["environment"],
            run_type=row["run_type"],
            run_status=row["run_status"],
            began_at=row["run_started_at"],
            duration_s=row["run_duration_seconds"],
            retry_sequence=row["retry_sequence"],
            retry_of=row["retry_of"],
            models_run=row["models_run"],
            models_failed=row["models_failed"],
            models_total=row["models_total"],
            saved_s=row["saved_seconds"],
            decision=row["decision"],
        )
    weeks: dict[date, list[dict]] = {}
    for row in rows:
        day = date.fromisoformat(row["run_started_at"][:10])
        weeks.setdefault(day - timedelta(days=day.weekday()), []).append(row)
    for week in sorted(weeks, reverse=True)[:limit]:
        yield _savings(week, weeks[week])
    yield _savings(None, rows)


def _savings(week: date | None, rows: list[dict]) -> Savings:
    retries = [row for row in rows if row["run_type"] == "retry"]
    return Savings(
        run_id="",
        week=week,
        full_runs=len(rows) - len(retries),
        retries=len(retries),
        models_not_run=sum((row["models_total"] or 0) - row["models_planned"] for row in retries),
        saved_s=round(sum(row["saved_seconds"] for row in retries), 3),
    )


def _batches(state: State, run: Run) -> Iterator[BatchResult]:
    for row in state.batches(run.root_run_id):
        start, end = row["window_start"], row["window_end"]
        unknown = row["status"] == "unknown"
        yield BatchResult(
            run_id=str(row["run_id"]),
            batch_id=str(row["batch_id"]),
            plan_id=str(row["plan_id"]),
            seq=row["batch_seq"],
            total=run.plan.total,
            model=row["model_name"],
            stage=str(row["stage"]),
            window=Window(date.fromisoformat(str(start)), date.fromisoformat(str(end))) if start else None,
            status="cancelled" if unknown else row["status"],
            attempt=row["attempt"],
            ended_at=str(row["at"]),
            duration_s=row["duration_seconds"] or 0.0,
            error="begun, and its outcome was never recorded" if unknown else row["message"],
        )
