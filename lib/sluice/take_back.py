"""What comes after a publication: it is taken back, or what it replaced is dropped when its time is over."""

from collections.abc import Generator, Iterator
from contextlib import ExitStack
from datetime import datetime

import yaml

from sluice import exchange, profiles
from sluice.command import Context
from sluice.errors import refused
from sluice.exchange import Move
from sluice.publication import (
    Options,
    carry_out,
    claimed,
    connected,
    kept_until,
    locked,
    names,
    note,
    opened,
    published,
    result,
    taken_back,
)
from sluice.records import Publication, PublishResult, Record
from sluice.state import Run, State
from sluice.warehouse import Warehouse


def undo(ctx: Context, options: Options) -> Generator[Record, None, int | None]:
    """Bring back what the latest publication of this project and target replaced. Yields a publish_result each.

    Raises SluiceError: 2 when what was there before is no longer kept, or its models are being built anew. Started again
    after it was cut off it ends what it began.
    """
    with ExitStack() as stack:
        state = stack.enter_context(opened(ctx))
        run, noted = next(_publications(ctx, state), (None, None))
        if run is None or noted is None or (noted.undone and run.run_ended_at):
            ctx.log.warning("nothing to undo: %s", "it is undone already" if run else "nothing was published here")
            return None
        plan, moves = run.plan, taken_back(run.plan)
        if ctx.dry_run:
            yield from (result("undo", move, "dry_run") for move in moves)
            return None
        plan.run_id, plan.root_run_id = run.run_id, run.root_run_id
        stack.enter_context(claimed(state, plan))
        warehouse = stack.enter_context(connected(ctx, plan, options))
        if not noted.undone:
            _refuse(run, warehouse, moves, options)
            plan.publication = note(warehouse, moves, Publication(keep_s=noted.keep_s, undone=True))
        carry_out(state, warehouse, plan, moves, "CANCELLED", f"took back {names(moves)}")
        ctx.log.info("took back %s", names(moves))
        yield from (result("undo", move, "ok", kept=f"{move.schema}.{move.going}") for move in moves)
    return None


def _refuse(run: Run, warehouse: Warehouse, moves: list[Move], options: Options) -> None:
    if not run.run_ended_at:
        raise refused(
            f"run {run.run_id} is not published to its end",
            code="publish_unfinished",
            hint="plan-batches --resume | run-dbt-batch | canary-check | publish-tables",
        )
    how = exchange.of(warehouse)
    lost = [f"{move.schema}.{move.coming}" for move in moves if how.look(warehouse, move, move.coming) is None]
    if lost:
        raise refused(
            f"there is no {', '.join(lost)}: nothing was there before, or it is no longer kept",
            code="publish_not_kept",
            hint="plan-batches --aside to build it anew",
        )
    blocked = how.blockers(warehouse, moves)
    if blocked and "publish_dependents" not in options.allow:
        raise refused(
            "\n".join(blocked),
            code="publish_dependents",
            hint="docs/runbook.md, publish_dependents; or publish-tables --undo --allow publish_dependents",
        )


def clean_up(ctx: Context, options: Options) -> Generator[Record, None, int | None]:
    """Drop what was there before a publication whose time is over. Yields a publish_result for each that is dropped."""
    with ExitStack() as stack:
        state = stack.enter_context(opened(ctx))
        seen: set[str] = set()  # of a table only the latest publication counts: it has dropped what earlier ones kept
        warehouse: Warehouse | None = None
        for run, noted in _publications(ctx, state):
            moves = [move for move in published(run.plan) if move.model not in seen]
            seen |= {move.model for move in moves}
            if noted.undone or not _is_over(run, noted, ctx.now):
                continue
            if ctx.dry_run:
                yield from (result("clean_up", move, "dry_run") for move in moves)
                continue
            with locked(state, run.plan):
                warehouse = warehouse or stack.enter_context(connected(ctx, run.plan, options))
                yield from _dropped(warehouse, moves)
    return None


def _is_over(run: Run, noted: Publication, now: datetime) -> bool:
    return run.run_ended_at is not None and kept_until(noted, datetime.fromisoformat(run.run_ended_at)) <= now


def _dropped(warehouse: Warehouse, moves: list[Move]) -> Iterator[PublishResult]:
    how = exchange.of(warehouse)
    for move in reversed(moves):  # what reads before what is read
        if how.look(warehouse, move, move.going) is not None:
            how.drop(warehouse, move, move.going)
            yield result("clean_up", move, "ok", kept=None)


def _publications(ctx: Context, state: State) -> Iterator[tuple[Run, Publication]]:
    """The runs that have published something of this project and target, the latest first."""
    target = profiles.load(ctx.config).target  # which says what is wrong when there is no project
    project = yaml.safe_load((ctx.config.project_dir / "dbt_project.yml").read_text())["name"]
    for run in state.runs():
        if run.plan.publication is not None and (run.plan.project, run.plan.target) == (project, target):
            yield run, run.plan.publication
