"""The state store, looked into: the present, runs, what is pending, what retries saved, one run with its batches; and what a person decides."""

import sys
import time
from collections.abc import Generator, Iterator
from datetime import UTC, date, datetime, timedelta

from sluice.command import Context
from sluice.errors import SluiceError, refused
from sluice.overview import overview, run_state, stale_models
from sluice.project import Project
from sluice.records import BatchResult, DailyRun, Overview, Record, Savings, StaleModel, Window
from sluice.signals import interruptible
from sluice.state import Run, State

REDRAW_S = 1.0
STALE_AFTER = timedelta(days=2)  # a model of a daily refresh that missed a night, and a day to look at it


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
    stale, unknown = _stale(ctx, state)
    if watch:
        _redraw(state, stale, unknown)
    yield overview(state, stale, stale_unknown=unknown, now=ctx.now)
    return 0


def _redraw(state: State, stale: list[StaleModel], unknown: str | None) -> None:
    """Until a signal comes. What is stale is that of the beginning: it does not change by itself."""
    from rich.console import Console
    from rich.live import Live

    from sluice.overview_screen import drawn

    with Live(console=Console(stderr=True), auto_refresh=False, screen=True) as live, interruptible():
        while True:
            now = datetime.now(UTC)
            live.update(drawn(overview(state, stale, stale_unknown=unknown, now=now), now=now), refresh=True)
            time.sleep(REDRAW_S)


def _stale(ctx: Context, state: State) -> tuple[list[StaleModel], str | None]:
    """The stale models, or why nobody knows them: a project that cannot be loaded hides nothing else."""
    try:
        with Project(ctx.config, {}) as project:
            return stale_models(state, project, now=ctx.now, max_age=STALE_AFTER), None
    except SluiceError as problem:
        return [], f"not known: {problem.message}"


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
