"""The daily refresh: every model once, incrementally, in dependency order; after a failure only what it left undone."""

import logging
from collections.abc import Generator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any

import msgspec

from sluice import error_classes, known_values, past_runs, planning, restart
from sluice.command import Context
from sluice.errors import BUSY, UNAVAILABLE, SluiceError, busy, refused, suggestion
from sluice.guards import check as guards
from sluice.log import redact
from sluice.project import Project
from sluice.records import Batch, Decision, Plan, PlannedModel, Record, Vars
from sluice.restart import Job, PastRun, Policy
from sluice.state import State


@dataclass(frozen=True)
class Request:
    """What was asked for. `components` are dbt selectors, run one after the other; `vars` JSON, None: not given; `ids` see listed_ids."""

    select: list[str]
    exclude: list[str]
    components: list[str]
    vars: str | None
    ids: str | None = None
    continue_on_error: bool = False
    history: past_runs.History = "state"
    allow: list[str] = field(default_factory=list)

    @property
    def scope(self) -> dict[str, Any]:
        """What makes two runs runs of the same job. Some ids are a job of their own: what became of them says nothing of all."""
        return {"select": self.select, "exclude": self.exclude, "components": self.components, "ids": self.ids or []}

    @property
    def asked(self) -> Vars | None:
        """The vars that were asked for, `ids` among them; None: none were. Raises SluiceError (2) when both say which ids."""
        given: Vars | None = msgspec.json.decode(self.vars) if self.vars is not None else None
        if self.ids is None:
            return given
        if given and "ids" in given:
            raise refused(
                "--ids and --vars both say which ids", code="plan_var_conflict", hint="leave ids out of --vars"
            )
        return {**(given or {}), "ids": self.ids}


def components(given: str | None, default: str | None, *, only: str | None, skip: str | None) -> list[str]:
    """The components to run, in order; `only` and `skip` may leave `tag:` out. Raises SluiceError (2) for one that is not
    among them, and when none is left."""
    known = _listed(given if given is not None else default)
    wanted, left_out = (
        [f"tag:{name}" if f"tag:{name}" in known else name for name in _listed(names)] for names in (only, skip)
    )
    for flag, names in (("--only", wanted), ("--skip", left_out)):
        for name in names:
            if name not in known:
                raise refused(
                    f"{flag} {name}: no such component{suggestion(name, known)}",
                    code="plan_unknown_component",
                    hint=f"{flag} with some of: {', '.join(known)}" if known else "--components a,b",
                )
    left = [name for name in known if (not wanted or name in wanted) and name not in left_out]
    if known and not left:
        raise refused("--only and --skip leave no component", code="plan_unknown_component", hint="leave one out")
    return left


def listed_ids(given: str | None) -> str | None:
    """The ids `1,52`, each once and in order, so that the same ids are the same job. Raises SluiceError (2)."""
    names = _listed(given)
    if given is None:
        return None
    if not names or not all(name.isascii() and name.isdigit() for name in names):
        raise refused(f"--ids {given}: not whole numbers", code="plan_bad_ids", hint="--ids 1,52,825")
    return ",".join(map(str, sorted({int(name) for name in names})))


def plan_daily(ctx: Context, request: Request, policy: Policy) -> Generator[Record, None, None]:
    """Yield the decision, and unless there is nothing to do the plan and a batch for each model that is to run.

    Raises SluiceError: 2 for a bad selection and for models that a full refresh left half done; 75 while the last run
    is at work; 78 when dbt cannot load the project.
    """
    asked = request.asked
    with ExitStack() as stack:
        project = stack.enter_context(Project(ctx.config, asked or {}))
        past, problem = _read(ctx, stack, project, request)
        own = past.failure[-1].vars if past.failure and asked is None else asked or {}
        decided = None
        if own != (asked or {}):  # a retry has the vars of the run that failed, and code may depend on them
            decided = _decide(ctx, request, policy, past, stack.enter_context(Project(ctx.config, own)), own, None)
        if decided is None or decided[0].action == "full":
            decided = _decide(ctx, request, policy, past, project, asked or {}, asked)
        decision, plan, batches = decided
        known_values.check(project, own)
        if problem is not None:
            decision.severity = "ERROR"
            decision.reason = plan.decision = f"everything: what ran before cannot be read: {redact(problem.message)}"
        elif decision.action != "none" and past.state is not None:
            past.state.refuse_overlap(plan)
    ctx.log.log(logging.getLevelNamesMapping()[decision.severity], "%s", decision.reason)
    yield decision
    if decision.action != "none":
        yield plan
        yield from batches


def _read(
    ctx: Context, stack: ExitStack, project: Project, request: Request
) -> tuple[past_runs.Past, SluiceError | None]:
    """What ran before; and why it cannot be read, when it cannot: a refresh does not wait for its history."""
    try:
        state = State.open_existing(ctx.config.state_url, origin=ctx.config.explain("SLUICE_STATE"))
        past = past_runs.Past()
        if state is not None:
            stack.enter_context(closing(state))
            past = past_runs.read(state, project.info.project_name, project.info.target, request.scope)
        if request.history != "state":
            past = past_runs.with_dbt_run(past, _last_dbt_run(ctx, project, request), request.history)
    except SluiceError as problem:
        if problem.exit_code not in (UNAVAILABLE, BUSY):
            raise
        return past_runs.Past(), problem
    if past.at_work is not None:
        run = past.at_work
        raise busy(f"run {run.run_id} is at work (pid {run.pid} on {run.host})", hint="wait for it to end")
    return past, None


def _last_dbt_run(ctx: Context, project: Project, request: Request) -> PastRun | None:
    from sluice import profiles, warehouse

    with warehouse.connect(
        profiles.load(ctx.config), tag="plan-daily", read_only=True, lock_wait_s=ctx.config.lock_wait_s
    ) as connection:
        models = list(_waves(project, request))
        name, parents = project.info.project_name, project.manifest.parents
        return past_runs.last_dbt_run(connection, ctx.config.audit_schema, name, models, parents)


def _decide(
    ctx: Context, request: Request, policy: Policy, past: past_runs.Past, project: Project, variables: Vars, asked: Vars | None
) -> tuple[Decision, Plan, list[Batch]]:  # fmt: skip
    manifest, info = project.manifest, project.info
    waves = _waves(project, request)
    uids = list(waves)
    reads = {uid: set(uids) & manifest.ancestors(uid) for uid in uids}
    for uid in uids:
        for later in sorted(up for up in reads[uid] if waves[up] > waves[uid]):
            ctx.log.warning("%s reads %s, whose component comes later", uid, later)
    rules = error_classes.load(ctx.config.error_classes)
    decision, chosen = restart.decide(
        past.failure,
        Job(
            checksums={uid: manifest.code_checksum(uid)[:16] for uid in uids},
            descendants={uid: {down for down in uids if uid in reads[down]} for uid in uids},
            vars=asked,
        ),
        policy,
        now=ctx.now,
        seconds={uid: s for uid, s in past.seconds.items() if uid in waves},
        only_code_helps=lambda message: error_classes.only_code_helps(message, info.adapter, rules),
    )
    is_retry = decision.action == "retry"
    batches = [
        Batch(
            batch_id="", plan_id="", seq=0, total=0, wave=waves[uid], reason="retry" if is_retry else "daily", model=uid,
            select=[manifest.nodes[uid].name], expect=[uid], vars=variables, depends_on=sorted(reads[uid] & set(chosen)),
        )
        for uid in chosen
    ]  # fmt: skip
    models = [
        PlannedModel(
            unique_id=uid, mode="whole", batches=1, stages=[], checksum=manifest.code_checksum(uid)[:16],
            **planning.place(manifest.nodes[uid]),
        )
        for uid in chosen
    ]  # fmt: skip
    plan, batches = planning.build(
        batches, models, intent="retry" if is_retry else "daily", project=info.project_name, target=info.target,
        adapter=info.adapter, to=ctx.now.date(), dry_run=ctx.dry_run,
        request={**request.scope, "vars": msgspec.json.encode(variables, order="sorted").decode(), "allow": list(request.allow)},
    )  # fmt: skip
    guards.check(project, plan, batches, today=ctx.now.date(), base_vars=variables, allow=request.allow)
    plan.decision, plan.models_total = decision.reason, decision.total
    plan.retry_of = decision.retry_of if is_retry else None
    plan.attempt, plan.saved_s = decision.retry + 1, decision.saved_s
    plan.continue_on_error = request.continue_on_error
    return decision, plan, batches


def _waves(project: Project, request: Request) -> dict[str, int]:
    """The models in the order in which they run, each with its component's number, from 1; a model runs only once."""
    waves: dict[str, int] = {}
    parts = [[name] for name in request.components] or [request.select]
    for number, part in enumerate(parts, 1):
        for uid in project.select(part, request.exclude, None):
            waves.setdefault(uid, number)
    return waves


def _listed(names: str | None) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in (names or "").split(",") if name.strip()))
