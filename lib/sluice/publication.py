"""A publication: which relations change places, who may do it, and what is noted before and after it."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sluice import aside, error_classes, exchange, planning, profiles
from sluice.command import Context
from sluice.errors import busy, refused
from sluice.exchange import Move
from sluice.records import Plan, Publication, PublishResult, RunStatus
from sluice.state import State
from sluice.warehouse import Warehouse, connect

TIMEOUT_S = 3600.0  # of a statement: where rows are counted by reading them


@dataclass(frozen=True)
class Options:
    """`keep_s` is how long what was there before is kept, `max_drop_ratio` how much smaller a table may have become.

    `allow` are codes of refusals that a person knows better about.
    """

    keep_s: float = 86400.0
    max_drop_ratio: float = 0.1
    cluster: str | None = None
    allow: list[str] = field(default_factory=list)


def published(plan: Plan) -> list[Move]:
    """What is to be done to publish a plan, in its order: what is read before what reads it."""
    return [
        Move(
            model=model.unique_id, database=model.database_name, schema=model.schema_name or "", live=model.table_name or "",
            coming=model.aside_name, going=aside.before_name(model.table_name or ""),
        )
        for model in plan.models
        if model.aside_name is not None
    ]  # fmt: skip


def taken_back(plan: Plan) -> list[Move]:
    """What is to be done to undo that: what was there before comes back, and what was built is called as it was then."""
    return [
        Move(move.model, move.database, move.schema, move.live, coming=move.going, going=move.coming)
        for move in published(plan)
    ]


def kept_until(noted: Publication, ended: datetime) -> datetime:
    """When what was there before may be dropped."""
    return ended + timedelta(seconds=noted.keep_s)


def note(warehouse: Warehouse, moves: list[Move], noted: Publication) -> Publication:
    """The publication with the ids of what is there and what comes."""
    how = exchange.of(warehouse)
    for move in moves:
        live, coming = how.look(warehouse, move, move.live), how.look(warehouse, move, move.coming)
        noted.live_ids[move.model] = live.id if live is not None else ""
        noted.coming_ids[move.model] = coming.id if coming is not None else ""
    return noted


def carry_out(state: State, warehouse: Warehouse, plan: Plan, moves: list[Move], end: RunStatus, message: str) -> None:
    """Make the moves, between an entry in the run log that says so and one that says that it is done.

    The plan's `publication` must be noted. What was cut off can be carried out again. Raises WarehouseError; SluiceError
    (2) when somebody else has replaced a table meanwhile.
    """
    noted, root = plan.publication, plan.root_run_id or plan.run_id
    assert noted is not None
    state.begin_run(plan, root)
    ids = {model: (noted.live_ids[model], coming) for model, coming in noted.coming_ids.items()}
    exchange.of(warehouse).exchange(warehouse, moves, ids)
    state.end_run(plan, root, end, models_run=len(moves), models_failed=0, message=message)


@contextmanager
def opened(ctx: Context) -> Iterator[State]:
    """The state store."""
    with closing(State.open(ctx.config.state_url, origin=ctx.config.explain("SLUICE_STATE"))) as state:
        yield state


@contextmanager
def locked(state: State, plan: Plan) -> Iterator[None]:
    """The run to oneself. Raises SluiceError (75)."""
    lock = state.store.lock(plan.run_id)
    try:
        if not lock.acquire():
            raise busy(f"run {plan.run_id} is at work in another process", hint="sluice-state runs")
        yield
    finally:
        lock.release()


@contextmanager
def claimed(state: State, plan: Plan) -> Iterator[None]:
    """The plan's models to oneself, as for its batches. Raises SluiceError: 75 while they are worked on, 2 when another
    plan for them was begun and not finished."""
    lock = state.store.lock(plan.run_id)
    try:
        state.claim(plan, lock)
        try:
            yield
        finally:
            state.release(plan)
    finally:
        lock.release()


@contextmanager
def connected(ctx: Context, plan: Plan, options: Options) -> Iterator[Warehouse]:
    """The plan's warehouse. Raises SluiceError: 2 when the target is another one's; 69, 75, 78."""
    config = ctx.config
    credentials = profiles.load(config, planning.base_vars(plan))
    if credentials.target != plan.target:
        raise refused(
            f"the plan is for target {plan.target}, this command's is {credentials.target} ({config.explain('DBT_TARGET')})",
            code="plan_other_target",
            hint="use the same --target for both",
        )
    with connect(
        credentials, tag=f"{ctx.name} {ctx.run_id}".strip(), cluster=options.cluster,
        timeout_s=TIMEOUT_S, lock_wait_s=config.lock_wait_s, rules=error_classes.load(config.error_classes),
    ) as warehouse:  # fmt: skip
        yield warehouse


def result(action: Any, move: Move, status: Any, **more: Any) -> PublishResult:
    """A result with the names of its move."""
    return PublishResult(action=action, table=move.table, model=move.model, status=status, **more)


def names(moves: list[Move]) -> str:
    """The tables, for people."""
    return ", ".join(move.table for move in moves)
