"""Adoption: rows that are there and that nobody recorded are recorded as done, so that a first use rebuilds nothing."""

from collections.abc import Generator
from contextlib import closing
from datetime import date

from sluice import coverage_sources, planning
from sluice.command import Context
from sluice.errors import refused, unavailable
from sluice.holes import Hole, holes
from sluice.ids import new_run_id
from sluice.project import Project
from sluice.records import Batch, BatchResult, Plan, PlannedModel, Record
from sluice.state import State

EMPTY = "there are no rows of it: not adopted"


def adopt(ctx: Context, select: list[str], exclude: list[str]) -> Generator[Record, None, None]:
    """Yield the plan and a batch_result each: ok for what is recorded, skipped for what holds no rows.

    What has a record keeps it. Raises SluiceError: 2 when there is nothing to adopt, or another plan for its models was left
    unfinished; 69 when nobody can say which rows there are; 75 when its models are being worked on.
    """
    state = State.open_existing(ctx.config.state_url, origin=ctx.config.explain("SLUICE_STATE"))
    with Project(ctx.config, {}) as project:
        meant, batches, blocks = coverage_sources.meant(ctx, project, select, exclude)
        there = coverage_sources.covered(project, state, meant, batches, blocks, today=ctx.now.date())
        if there.uncounted is not None:
            raise unavailable(
                f"which rows are there cannot be looked up: {there.uncounted}",
                code="adopt_uncounted",
                hint="sluice-doctor",
            )
        whole = coverage_sources.whole_with_rows(project, meant, batches, today=ctx.now.date())
    never = [cell for cell in there.cells if cell.status == "never_run"]
    left = [hole for hole in holes(never, ["never_run"]) if hole.window or hole.model not in whole]
    with_rows = holes(there.cells, ["unrecorded"])
    with_rows += [hole for hole in holes(never, ["never_run"]) if hole not in left]
    if not with_rows:
        raise refused(
            "there is nothing to adopt: no rows without a record", code="adopt_nothing", hint="sluice-state coverage"
        )
    plan, chosen = _plan(meant, with_rows, ctx.now.date())
    plan.dry_run = ctx.dry_run
    plan.run_id = ctx.run_id = new_run_id()
    if ctx.dry_run:
        if state is not None:
            state.refuse_overlap(plan)
        yield plan
        yield from (_result(plan, batch, "dry_run") for batch in chosen)
    else:
        yield plan
        yield from _recorded(ctx, plan, chosen)
    yield from (_result(plan, _batch(hole), "skipped", EMPTY) for hole in left)


def _recorded(ctx: Context, plan: Plan, batches: list[Batch]) -> Generator[Record, None, None]:
    with closing(State.open(ctx.config.state_url, origin=ctx.config.explain("SLUICE_STATE"))) as state:
        lock = state.store.lock(plan.run_id)
        try:
            root = state.claim(plan, lock)
            try:
                state.begin_run(plan, root)
                for batch in batches:
                    result = _result(plan, batch, "ok")
                    result.attempt = state.intend(plan.run_id, root, batch)
                    state.record(root, batch, result, plan.project)
                    yield result
                state.end_run(plan, root, "SUCCESS", models_run=0, models_failed=0)
            finally:
                state.release(plan)
        finally:
            lock.release()
    ctx.log.info("adopted %d; to undo: sluice-state discard %s", len(batches), plan.run_id)


def _plan(meant: Plan, found: list[Hole], today: date) -> tuple[Plan, list[Batch]]:
    models = [_planned(model, found) for model in meant.models]
    return planning.build(
        [_batch(hole) for hole in found],
        [model for model in models if model.batches],
        intent="adopted", project=meant.project, target=meant.target, adapter=meant.adapter, to=today, request={},
    )  # fmt: skip


def _planned(model: PlannedModel, found: list[Hole]) -> PlannedModel:
    model.batches = sum(hole.model == model.unique_id for hole in found)
    return model


def _batch(hole: Hole) -> Batch:
    return Batch(
        batch_id="", plan_id="", seq=0, total=0, reason="adopted", model=hole.model, stage=hole.stage,
        window=hole.window, select=[hole.model.rsplit(".", 1)[-1]], expect=[hole.model],
    )  # fmt: skip


def _result(plan: Plan, batch: Batch, status: str, error: str | None = None) -> BatchResult:
    return BatchResult(
        run_id=plan.run_id, batch_id=batch.batch_id, plan_id=plan.plan_id, seq=batch.seq, total=plan.total,
        model=batch.model, stage=batch.stage, window=batch.window, status=status, error=error,  # type: ignore[arg-type]
    )  # fmt: skip
