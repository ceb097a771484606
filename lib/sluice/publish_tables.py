"""What a plan built aside put in the place of what readers read, all at once, unless they would miss something.

It works when its input has ended: only then have the commands before it done their work, and let go of the warehouse. What it
is about to do is in the state store before it does it, so that whoever starts it again finds out how far it came.
"""

import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sluice import aside, exchange, progress
from sluice.command import Context
from sluice.errors import FAILED, refused
from sluice.exchange import Move
from sluice.ids import timestamp
from sluice.publication import (
    Options,
    carry_out,
    claimed,
    connected,
    kept_until,
    names,
    note,
    opened,
    published,
    result,
)
from sluice.records import BatchResult, Gate, Plan, Publication, PublishResult, Record
from sluice.state import Run, State
from sluice.warehouse import Warehouse

_HINTS = {
    "publish_missing_columns": "give the columns back and resume, or publish-tables --allow publish_missing_columns",
    "publish_row_drop": "look at what was built (the name with __sluice_aside); if it is right, publish-tables --max-drop-ratio",
    "publish_dependents": "docs/runbook.md, publish_dependents; or publish-tables --allow publish_dependents",
}
ALLOWED = tuple(_HINTS)  # refusals that a person may know better about


@dataclass
class Built:
    """What came in: the plan, and what had become of it."""

    plan: Plan | None = None
    done: set[str] = field(default_factory=set)
    open_gates: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Change:
    """What readers would see of a move: rows before and after, None for a view and for what is not there; columns lost."""

    move: Move
    rows_before: int | None = None
    rows_after: int | None = None
    lost_columns: list[str] = field(default_factory=list)


def publish_tables(ctx: Context, options: Options) -> Generator[Record, None, int | None]:
    """Yield a publish_result for each relation. The exit code is that of the command before when that was not 0.

    Raises SluiceError: 2 for what readers would miss, before anything is changed; 69, 75 for the warehouse, 78 for
    profile and project. Started again after it was cut off it ends what it began.
    """
    built = _read(ctx)
    plan = built.plan
    if plan is None or not aside.of_plan(plan):
        ctx.log.info("nothing was built aside: nothing to publish")
        return None
    moves = published(plan)
    if ctx.dry_run or plan.dry_run:
        yield from (result("publish", move, "dry_run") for move in moves)
        return None
    why = _unready(ctx, built, plan)
    if why is not None:
        ctx.log.error("nothing is published: %s", why)
        yield from (result("publish", move, "skipped", error=why) for move in moves)
        return ctx.upstream_exit or FAILED
    with ExitStack() as stack:
        state = stack.enter_context(opened(ctx))
        stack.enter_context(claimed(state, plan))
        runs = _runs(ctx, state, plan)
        if any(run.run_status == "SUCCESS" for run in runs):
            ctx.log.info("it is published already")
            yield from (result("publish", move, "skipped", error="published already") for move in moves)
            return None
        warehouse = stack.enter_context(connected(ctx, plan, options))
        begun = next((run.plan.publication for run in runs if run.plan.publication is not None), None)
        ctx.keeps = True
        yield from _published(ctx, state, warehouse, plan, moves, options, begun)
    return None


def _read(ctx: Context) -> Built:
    built = Built()
    for record in ctx.records():
        if isinstance(record, Plan):
            built.plan = record
        elif isinstance(record, BatchResult) and record.status == "ok":
            built.done.add(record.batch_id)
        elif isinstance(record, Gate):
            built.open_gates.append(record.gate)
    return built


def _unready(ctx: Context, built: Built, plan: Plan) -> str | None:
    """Why what was built is not for readers; None when all of it is there and was found good."""
    if ctx.upstream_exit:
        return f"the command before it ended with {ctx.upstream_exit}"
    if len(built.done) < plan.pending:
        return f"{len(built.done)} of {plan.pending} batches are done"
    if built.open_gates:
        return f"nobody asked the gate {built.open_gates[0]}: put canary-check before publish-tables"
    return None


def _runs(ctx: Context, state: State, plan: Plan) -> list[Run]:
    """The runs of the plan, newest first. Raises SluiceError (2) when there is none."""
    root = plan.root_run_id or plan.run_id
    runs = state.runs(root_run_id=root)
    if not runs:
        raise refused(
            f"{ctx.config.state_url} knows nothing of run {root}: what it built cannot be told",
            code="publish_unknown_run",
            hint="use the same SLUICE_STATE for all commands of a pipe",
        )
    return runs


def _published(
    ctx: Context,
    state: State,
    warehouse: Warehouse,
    plan: Plan,
    moves: list[Move],
    options: Options,
    begun: Publication | None,
) -> Iterator[PublishResult]:
    """Look at all, then do it. `begun` is what an earlier start had noted: that one has looked, and some may be done."""
    began, how = time.monotonic(), exchange.of(warehouse)
    changes = [Change(move) for move in moves] if begun else list(_changes(warehouse, moves))
    if begun is None:
        _refuse(warehouse, changes, options)
        how.prepare(warehouse, moves)
    plan.publication = begun or note(warehouse, moves, Publication(keep_s=options.keep_s))
    until = timestamp(kept_until(plan.publication, datetime.now(UTC)))
    with progress.waiting("putting what was built in its place"):
        carry_out(
            state, warehouse, plan, moves, "SUCCESS",
            f"published {names(moves)}; what was there before is kept until {until}",
        )  # fmt: skip
    ctx.log.info("published %s", names(moves))
    for change in changes:
        move = change.move
        is_kept = how.look(warehouse, move, move.going) is not None
        yield result(
            "publish", move, "ok", rows_before=change.rows_before, rows_after=change.rows_after,
            kept=f"{move.schema}.{move.going}" if is_kept else None, kept_until=until if is_kept else None,
            duration_s=round(time.monotonic() - began, 4),
        )  # fmt: skip


def _changes(warehouse: Warehouse, moves: list[Move]) -> Iterator[Change]:
    """To count the rows of a large table takes its time."""
    with progress.counting("tables looked at", len(moves)) as count:
        for move in moves:
            count.now(move.table)
            yield _change(warehouse, move)
            count.add()


def _change(warehouse: Warehouse, move: Move) -> Change:
    """Raises SluiceError (2) when what is to come is not there."""
    how = exchange.of(warehouse)
    live, coming = how.look(warehouse, move, move.live), how.look(warehouse, move, move.coming)
    if coming is None:
        raise refused(
            f"there is no {move.schema}.{move.coming}: what was built for {move.model} has gone",
            code="publish_nothing_built",
            hint="sluice-state discard RUN, then plan-batches --aside again",
        )
    return Change(
        move,
        rows_before=None if live is None or live.is_view else _count(warehouse, move, move.live),
        rows_after=None if coming.is_view else _count(warehouse, move, move.coming),
        lost_columns=[column for column in live.columns if column not in coming.columns] if live is not None else [],
    )


def _count(warehouse: Warehouse, move: Move, name: str) -> int:
    return warehouse.value(f"select count(*) from {warehouse.relation(move.database, move.schema, name)}")


def _refuse(warehouse: Warehouse, changes: list[Change], options: Options) -> None:
    """Raises SluiceError (2) for what readers would miss; all of one kind are named at once."""
    problems = {
        "publish_missing_columns": [
            f"{one.move.table} would lose the columns {', '.join(one.lost_columns)}"
            for one in changes
            if one.lost_columns
        ],
        "publish_row_drop": [text for one in changes if (text := _drop_of(one, options.max_drop_ratio))],
        "publish_dependents": exchange.of(warehouse).blockers(warehouse, [one.move for one in changes]),
    }
    for code, found in problems.items():
        if found and code not in options.allow:
            raise refused("\n".join(found), code=code, hint=_HINTS[code])


def _drop_of(change: Change, most: float) -> str | None:
    before, after = change.rows_before, change.rows_after
    if not before or after is None or after >= before * (1 - most):
        return None
    return f"{change.move.table} has {before} rows and would have {after}: {1 - after / before:.1%} less, more than --max-drop-ratio {most:g}"
