"""The state store, looked into: runs, what is pending, what retries saved, one run with its batches; and what a person decides about them."""

from collections.abc import Generator, Iterator
from datetime import date, timedelta

from sluice.command import Context
from sluice.errors import refused
from sluice.planning import GO_ON
from sluice.records import BatchResult, DailyRun, Record, RunState, Savings, Window
from sluice.state import BLOCKING_INTENTS, Run, State


def look(
    ctx: Context, action: str, run_id: str | None, batch_id: str | None, *, limit: int, rows_are_there: bool
) -> Generator[Record, None, int]:
    """Yield what the action asks to see. Raises SluiceError (2) for an unknown run, (75) for one at work."""
    state = State.open_existing(ctx.config.state_url, origin=ctx.config.explain("SLUICE_STATE"))
    if state is None:
        if run_id:
            raise refused(
                f"there is no run yet in {ctx.config.state_url}",
                code="state_unknown_run",
                hint="plan-batches | run-dbt-batch",
            )
        ctx.log.warning("no run yet in %s", ctx.config.state_url)
        return 0
    if action == "runs":
        yield from (_run_state(state, run) for run in state.runs(limit=limit))
    elif action == "history":
        yield from _history(state, limit)
    elif action == "pending":
        yield from (_run_state(state, run) for run in state.unfinished())
    else:
        run = state.run(run_id or "")
        if not ctx.dry_run:
            if action == "discard":
                state.discard(run)
            elif action == "resolve":
                state.resolve(run, batch_id or "", rows_are_there=rows_are_there)
        yield _run_state(state, state.run(run.run_id))
        if action != "discard":
            yield from _batches(state, run)
    return 0


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


def _run_state(state: State, run: Run) -> RunState:
    alive = state.is_alive(run)
    unfinished = (
        run.plan.intent in BLOCKING_INTENTS and run.run_status != "SUCCESS" and not run.is_discarded and not alive
    )
    return RunState(
        run_id=run.run_id,
        intent=run.plan.intent,
        project=run.plan.project,
        target=run.plan.target,
        run_status=run.run_status,
        is_alive=alive,
        is_discarded=run.is_discarded,
        attempt=run.attempt,
        began_at=run.run_started_at,
        ended_at=run.run_ended_at,
        duration_s=run.run_duration_seconds,
        done=sum(result.part_of is None for result in state.done(run.root_run_id).values()),
        total=run.plan.total,
        models=[model.unique_id for model in run.plan.models],
        resume=GO_ON[run.plan.intent] if unfinished else None,
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
