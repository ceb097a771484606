"""What a plan built aside put in the place of what readers read, all at once; taken back; and what was there before, dropped.

It works when its input has ended: only then have the commands before it done their work, and let go of the warehouse. What it
is about to do is in the state store before it does it, so that whoever starts it again finds out how far it came.
"""

import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import msgspec

from sluice import aside, error_classes, exchange, profiles
from sluice.command import Context
from sluice.config import Config
from sluice.errors import FAILED, refused
from sluice.exchange import Move
from sluice.ids import timestamp
from sluice.records import BatchResult, Gate, Plan, Publication, PublishResult, Record
from sluice.state import Run, State
from sluice.warehouse import Warehouse, connect

# What a person may know better about; each is the code of the refusal.
ALLOWED = ("publish_row_drop", "publish_missing_columns", "publish_dependents")


@dataclass(frozen=True)
class Options:
    """`keep_s` is how long what was there before is kept, `max_drop_ratio` how much smaller a table may have become."""

    keep_s: float = 86400.0
    max_drop_ratio: float = 0.1
    cluster: str | None = None
    allow: list[str] = field(default_factory=list)


@dataclass
class Built:
    """What came in: the plan, and what had become of it."""

    plan: Plan | None = None
    done: set[str] = field(default_factory=set)
    open_gates: list[str] = field(default_factory=list)


@dataclass
class Found:
    """What a move finds: rows of what is there and of what comes, None for views and what is not there."""

    move: Move
    live_id: str = ""
    coming_id: str = ""
    rows_before: int | None = None
    rows_after: int | None = None
    had_live: bool = True


# -- publish ------------------------------------------------------------------------------------------------


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
        yield from (_result("publish", move, "dry_run") for move in moves)
        return None
    why = _unready(ctx, built, plan)
    if why is not None:
        ctx.log.error("nothing is published: %s", why)
        yield from (_result("publish", move, "skipped", error=why) for move in moves)
        return ctx.upstream_exit or FAILED
    with ExitStack() as stack:
        state = stack.enter_context(_state(ctx))
        root = plan.root_run_id or plan.run_id
        runs = state.runs(root_run_id=root)
        if not runs:
            raise refused(
                f"{ctx.config.state_url} knows nothing of run {root}: whether all of it was built cannot be told",
                code="publish_unknown_run",
                hint="use the same SLUICE_STATE for all commands of a pipe",
            )
        stack.enter_context(_claimed(state, plan))
        if any(run.run_status == "SUCCESS" for run in state.runs(root_run_id=root)):
            ctx.log.info("run %s is published already", root)
            yield from (_result("publish", move, "skipped", error="published already") for move in moves)
            return None
        warehouse = stack.enter_context(_warehouse(ctx, plan, options))
        begun = next((run.plan.publication for run in runs if run.plan.publication is not None), None)
        ctx.keeps = True
        yield from _exchanged(ctx, state, warehouse, plan, moves, options, begun)
    return None


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


def _exchanged(
    ctx: Context,
    state: State,
    warehouse: Warehouse,
    plan: Plan,
    moves: list[Move],
    options: Options,
    begun: Publication | None,
) -> Iterator[PublishResult]:
    """Look at all, note what is intended, do it, note that it is done. `begun` is what an earlier start had noted."""
    began = time.monotonic()
    how = exchange.of(warehouse)
    found = [_look(warehouse, move, begun) for move in moves]
    if begun is None:
        _refuse(warehouse, found, options)
        ids = {one.move.model: (one.live_id, one.coming_id) for one in found}
    else:
        ids = {model: (begun.live_ids[model], begun.coming_ids[model]) for model in begun.coming_ids}
    plan.publication = begun or Publication(
        keep_s=options.keep_s,
        live_ids={model: live for model, (live, _) in ids.items()},
        coming_ids={model: coming for model, (_, coming) in ids.items()},
    )
    root = plan.root_run_id or plan.run_id
    state.begin_run(plan, root)
    how.exchange(warehouse, moves, ids)
    kept_until = _later(plan.publication.keep_s)
    names = ", ".join(move.table for move in moves)
    state.end_run(
        plan, root, "SUCCESS", models_run=len(moves), models_failed=0,
        message=f"published {names}; what was there before is kept until {kept_until}",
    )  # fmt: skip
    ctx.log.info("published %s", names)
    for one in found:
        kept = how.look(warehouse, one.move, one.move.going) is not None
        yield _result(
            "publish", one.move, "ok", rows_before=one.rows_before, rows_after=one.rows_after,
            kept=f"{one.move.schema}.{one.move.going}" if kept else None, kept_until=kept_until if kept else None,
            duration_s=round(time.monotonic() - began, 4),
        )  # fmt: skip


def _look(warehouse: Warehouse, move: Move, begun: Publication | None) -> Found:
    """What a move finds. Raises SluiceError (2) when what is to come is not there, unless it has come already."""
    how = exchange.of(warehouse)
    live, coming = how.look(warehouse, move, move.live), how.look(warehouse, move, move.coming)
    found = Found(move, had_live=live is not None)
    if begun is not None:
        return found
    if coming is None:
        raise refused(
            f"there is no {move.schema}.{move.coming}: what was built for {move.model} has gone",
            code="publish_nothing_built",
            hint="sluice-state discard RUN, then plan-batches --aside again",
        )
    found.coming_id, found.live_id = coming.id, live.id if live is not None else ""
    found.rows_after = None if coming.is_view else _count(warehouse, move, move.coming)
    found.rows_before = None if live is None or live.is_view else _count(warehouse, move, move.live)
    return found


def _count(warehouse: Warehouse, move: Move, name: str) -> int:
    return warehouse.value(f"select count(*) from {warehouse.relation(move.database, move.schema, name)}")


def _refuse(warehouse: Warehouse, found: list[Found], options: Options) -> None:
    """Raises SluiceError (2) for what readers would miss; all of one kind are named at once."""
    how = exchange.of(warehouse)
    missing, dropped = [], []
    for one in found:
        move, live = one.move, how.look(warehouse, one.move, one.move.live)
        coming = how.look(warehouse, move, move.coming)
        if live is None or coming is None:
            continue
        gone = [column for column in live.columns if column not in coming.columns]
        missing += [f"{move.table} would lose the columns {', '.join(gone)}"] if gone else []
        before, after = one.rows_before, one.rows_after
        if before and after is not None and after < before * (1 - options.max_drop_ratio):
            dropped.append(
                f"{move.table} has {before} rows and would have {after}: {1 - after / before:.1%} less,"
                f" more than --max-drop-ratio {options.max_drop_ratio:g}"
            )
    blocked = [] if "publish_dependents" in options.allow else how.blockers(warehouse, [one.move for one in found])
    for code, problems in (
        ("publish_missing_columns", missing),
        ("publish_row_drop", dropped),
        ("publish_dependents", blocked),
    ):
        if problems and code not in options.allow:
            raise refused("\n".join(problems), code=code, hint=_HINTS[code])


_HINTS = {
    "publish_missing_columns": "give the columns back and resume, or publish-tables --allow publish_missing_columns",
    "publish_row_drop": "look at what is built (the name with __sluice_aside); publish-tables --max-drop-ratio, if it is right",
    "publish_dependents": "see docs/runbook.md, publish_dependents",
}


# -- undo, clean up -----------------------------------------------------------------------------------------


def undo(ctx: Context, options: Options) -> Generator[Record, None, int | None]:
    """Bring back what the latest publication of this project and target replaced. Yields a publish_result each.

    Raises SluiceError: 2 when what was there before is no longer kept, or the models are being built anew.
    """
    with ExitStack() as stack:
        state = stack.enter_context(_state(ctx))
        run = next(_publications(ctx, state), None)
        if run is None or (run.plan.publication is not None and run.plan.publication.undone and run.run_ended_at):
            ctx.log.warning("nothing to undo: %s", "it was undone already" if run else "nothing was published here")
            return
        plan = run.plan
        moves = taken_back(plan)
        if ctx.dry_run:
            yield from (_result("undo", move, "dry_run") for move in moves)
            return
        plan.run_id, plan.root_run_id = run.run_id, run.root_run_id
        stack.enter_context(_claimed(state, plan))
        warehouse = stack.enter_context(_warehouse(ctx, plan, options))
        yield from _exchanged_back(ctx, state, warehouse, run, moves)


def _exchanged_back(
    ctx: Context, state: State, warehouse: Warehouse, run: Run, moves: list[Move]
) -> Iterator[PublishResult]:
    how, plan, noted = exchange.of(warehouse), run.plan, run.plan.publication
    assert noted is not None
    if not noted.undone:
        if not run.run_ended_at:
            raise refused(
                f"run {run.run_id} is not published to its end",
                code="publish_unfinished",
                hint="plan-batches --resume | run-dbt-batch | canary-check | publish-tables",
            )
        relations = {move.model: (how.look(warehouse, move, move.live), how.look(warehouse, move, move.coming)) for move in moves}
        lost = [f"{move.schema}.{move.coming}" for move in moves if relations[move.model][1] is None]
        if lost:
            raise refused(
                f"there is no {', '.join(lost)}: what was there before is no longer kept, or nothing was",
                code="publish_not_kept",
                hint="plan-batches --aside to build it anew",
            )
        ids = {model: (live.id if live else "", coming.id if coming else "") for model, (live, coming) in relations.items()}
        noted.undone = True
        noted.live_ids = {model: live for model, (live, _) in ids.items()}
        noted.coming_ids = {model: coming for model, (_, coming) in ids.items()}
    ids = {model: (noted.live_ids[model], noted.coming_ids[model]) for model in noted.coming_ids}
    state.begin_run(plan, run.root_run_id)
    how.exchange(warehouse, moves, ids)
    names = ", ".join(move.table for move in moves)
    state.end_run(plan, run.root_run_id, "CANCELLED", models_run=len(moves), models_failed=0, message=f"took back {names}")
    ctx.log.info("took back %s", names)
    yield from (_result("undo", move, "ok", kept=f"{move.schema}.{move.going}") for move in moves)


def clean_up(ctx: Context, options: Options) -> Generator[Record, None, int | None]:
    """Drop what was there before a publication whose time is over. Yields a publish_result for each that is dropped."""
    with ExitStack() as stack:
        state = stack.enter_context(_state(ctx))
        seen: set[tuple[str | None, str, str]] = set()
        warehouse: Warehouse | None = None
        for run in _publications(ctx, state):
            moves = [move for move in published(run.plan) if (move.database, move.schema, move.live) not in seen]
            seen |= {(move.database, move.schema, move.live) for move in moves}
            noted = run.plan.publication
            if noted is None or noted.undone or run.run_ended_at is None or ctx.now < _end_of(run.run_ended_at, noted):
                continue
            if ctx.dry_run:
                yield from (_result("clean_up", move, "dry_run") for move in moves)
                continue
            with _locked(state, run.plan):
                warehouse = warehouse or stack.enter_context(_warehouse(ctx, run.plan, options))
                yield from _dropped(warehouse, moves)


def _dropped(warehouse: Warehouse, moves: list[Move]) -> Iterator[PublishResult]:
    how = exchange.of(warehouse)
    for move in reversed(moves):  # what reads before what is read
        if how.look(warehouse, move, move.going) is not None:
            how.drop(warehouse, move, move.going)
            yield _result("clean_up", move, "ok")


def _publications(ctx: Context, state: State) -> Iterator[Run]:
    """The runs that have published something of this project and target, the latest first."""
    config = ctx.config
    here = _place(config)
    for run in state.runs():
        if run.plan.publication is not None and (run.plan.project, run.plan.target) == here:
            yield run


# -- below --------------------------------------------------------------------------------------------------


def _place(config: Config) -> tuple[str, str]:
    """Name of the project and target, without dbt."""
    import yaml

    target = profiles.load(config).target  # which says what is wrong when there is no project
    settings = yaml.safe_load((config.project_dir / "dbt_project.yml").read_text())
    return str(settings.get("name")), target


@contextmanager
def _state(ctx: Context) -> Iterator[State]:
    with closing(State.open(ctx.config.state_url, origin=ctx.config.explain("SLUICE_STATE"))) as state:
        yield state


@contextmanager
def _locked(state: State, plan: Plan) -> Iterator[None]:
    lock = state.store.lock(plan.run_id)
    try:
        if lock.acquire():
            yield
    finally:
        lock.release()


@contextmanager
def _claimed(state: State, plan: Plan) -> Iterator[None]:
    """The plan's models taken, as by whoever runs its batches: raises SluiceError (75) while somebody does."""
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
def _warehouse(ctx: Context, plan: Plan, options: Options) -> Iterator[Warehouse]:
    config = ctx.config
    variables = msgspec.json.decode(str(plan.request.get("vars") or "{}"))
    credentials = profiles.load(config, variables)
    if credentials.target != plan.target:
        raise refused(
            f"the plan is for target {plan.target}, this command's is {credentials.target} ({config.explain('DBT_TARGET')})",
            code="plan_other_target",
            hint="use the same --target for both",
        )
    with connect(
        credentials, tag=f"{ctx.name} {ctx.run_id}".strip(), cluster=options.cluster,
        lock_wait_s=config.lock_wait_s, rules=error_classes.load(config.error_classes),
    ) as warehouse:  # fmt: skip
        yield warehouse


def _later(seconds: float) -> str:
    return timestamp(datetime.now(UTC) + timedelta(seconds=seconds))


def _end_of(ended_at: str, noted: Publication) -> datetime:
    return datetime.fromisoformat(ended_at) + timedelta(seconds=noted.keep_s)


def _result(action, move: Move, status, **more) -> PublishResult:
    return PublishResult(action=action, table=move.table, model=move.model, status=status, **more)
