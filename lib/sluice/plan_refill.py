"""The refill after a gap: the cohort rewritten month by month, a canary, then all that lies downstream, in waves."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import msgspec

from sluice import checks, forecasting, impact, planning, refill, resuming, splitting
from sluice.command import Context
from sluice.errors import SluiceError, refused
from sluice.guards import check as guards
from sluice.manifest import Manifest
from sluice.project import Project
from sluice.records import Batch, Gate, Mode, Plan, PlannedGap, PlannedModel, Record, Vars
from sluice.refill import Gap, Later, Passes, Step, gap_from
from sluice.state import State
from sluice.windows import month_vars

CONSUMER_TAG = "refill_consumer"


@dataclass(frozen=True)
class Request:
    """What was asked for, dates as text: enough to plan the same again on another day. Kept in the plan."""

    from_date: str
    buffer_days: int
    cohort: str
    consumers: str | None
    lookback_var: str
    skip_rewrite: bool
    skip_consumers: bool
    passes: Passes
    vars: str
    allow: list[str] = field(default_factory=list)
    source: str | None = None  # only what is made from it


def asked(
    today: date, resume: bool, *, from_date: date | None, lookback_days: int | None, buffer_days: int, **rest: Any
) -> Request | None:
    """The request that the flags are; None for a resume that names no gap. Raises SluiceError (2) for a gap that cannot be."""
    if resume and from_date is None and lookback_days is None:
        return None
    gap = gap_from(from_date=from_date, lookback_days=lookback_days, buffer_days=buffer_days, today=today)
    return Request(gap.first.isoformat(), buffer_days, **rest)


def plan_refill(
    ctx: Context, request: Request | None, *, today: date, resume: bool, accept_drift: bool, only_impact: bool = False
) -> Generator[Record, None, None]:
    """Yield the plan, its batches wave by wave, and the gate between the rewrite and what reads it.

    With `only_impact` neither, but what it would do to all below the source, and how long that takes.

    `request` None (with `resume`) means whichever refill was left unfinished. Raises SluiceError: 2 for a cohort that is
    empty or has a hole, an unfinished plan, drift; 75 at work; 78 set-up.
    """
    if only_impact and (resume or request is None or request.source is None):
        raise refused(
            "--impact is that of a --source, and not of a --resume",
            code="refill_impact",
            hint="plan-refill --from-date DATE --source raw.prices --impact",
        )
    state = State.open_existing(ctx.config.state_url, origin=ctx.config.explain("SLUICE_STATE"))
    before, planned_on = None, ctx.now.date()
    with Project(ctx.config, _vars(request)) as project:
        if resume:
            before = resuming.find(state, project, "refill", lambda asked: _is_meant(request, asked))
            if before is None:
                return
            request, today = _asked(before.plan), before.plan.to
            if before.plan.gap is not None:
                planned_on = before.plan.gap.planned_on
        assert request is not None
        gap = Gap(date.fromisoformat(request.from_date), today, request.buffer_days)
        plan, batches, gate = _plan(ctx, project, request, gap, planned_on)
        plan.gap = PlannedGap(
            first=gap.first, days=gap.days, buffer_days=gap.buffer_days, lookback_days=gap.lookback_days,
            months=[month.start for month in gap.months], planned_on=planned_on,
        )  # fmt: skip
        if only_impact:
            source = impact.source_named(project.manifest, request.source or "").unique_id
            forecasting.estimate(ctx, plan, batches)
            yield from impact.impacts(project.manifest, source, plan.gap, batches)
            yield forecasting.summed(ctx, plan, batches)
            return
        guards.check(
            project,
            plan,
            batches,
            today=planned_on,
            base_vars=_vars(request),
            allow=_allowed(request),
            look=not resume,
        )
    plan.dry_run = ctx.dry_run
    if before is not None and state is not None:
        batches = resuming.rest(state, before, plan, batches, accept_drift=accept_drift)
    elif state is not None:
        state.refuse_overlap(plan)
    splitting.recall(state.sizes(plan.project, plan.target) if state is not None else {}, batches)
    yield plan
    for batch in batches:
        if gate is not None and batch.wave > gate.wave:
            yield gate
            gate = None
        yield batch
    if gate is not None:
        yield gate


def _plan(
    ctx: Context, project: Project, request: Request, gap: Gap, planned_on: date
) -> tuple[Plan, list[Batch], Gate | None]:
    manifest, info = project.manifest, project.info
    cohort, before, rest, consumers = _parts(project, request)
    later = _later(
        ctx, manifest, [*before, *([] if request.skip_rewrite else cohort), *rest], gap, planned_on, _allowed(request)
    )
    steps = refill.downstream(manifest, before, consumers, gap.months, first_wave=1, later=later)
    if not request.skip_rewrite:
        first = max((step.wave for step in steps), default=0) + 1
        steps += refill.rewrite(manifest, cohort, gap.months, first_wave=first, passes=request.passes, later=later)
    gate_wave = max((step.wave for step in steps), default=0) + 1
    steps += refill.downstream(manifest, rest, consumers, gap.months, first_wave=gate_wave + 1, later=later)
    if not steps:
        raise refused(
            "there is nothing to refill: everything is skipped", code="refill_empty", hint="leave a --skip out"
        )

    planned = {step.node.unique_id for step in steps}
    batches = [
        _batch(step, request, gap, info.adapter, depends_on=sorted(planned & manifest.ancestors(step.node.unique_id)))
        for step in steps
    ]
    plan, batches = planning.build(
        batches,
        [_planned(manifest, uid, batches) for uid in dict.fromkeys(step.node.unique_id for step in steps)],
        intent="refill",
        project=info.project_name,
        target=info.target,
        adapter=info.adapter,
        to=gap.today,
        request={**vars(request)},
    )
    gate = None
    if cohort and not request.skip_rewrite:
        gate = Gate(
            plan_id=plan.plan_id, wave=gate_wave, gate="canary", models=cohort, since=gap.canary_since, to=gap.today
        )
        if not any(checks.declared(manifest, manifest.nodes[uid], recompute=True) for uid in cohort):
            ctx.log.warning(
                "no model of %s declares a check: canary-check would be red after the rewrite; declare one as docs/checks.md "
                "shows, or leave canary-check out of the pipe", request.cohort,
            )  # fmt: skip
    return plan, batches, gate


def _cohort(project: Project, selection: str) -> list[str]:
    """The models to rewrite. Raises SluiceError (2) for a selection that chooses none."""
    try:
        return project.select([selection], [], None)
    except SluiceError as problem:
        if problem.code == "plan_empty_selection":
            problem.hint = (
                f"--cohort with the models that read the source of the gap, or tag them refill_append; {problem.hint}"
            )
        raise


def _parts(project: Project, request: Request) -> tuple[list[str], list[str], list[str], set[str]]:
    """The cohort; what comes before it and after it, in dependency order; and the consumers among these.

    Of a source everything that is made from it, the cohort only as far as it is; what the cohort is built on comes first.
    """
    manifest = project.manifest
    asked = None if request.skip_consumers else request.consumers or _tagged_consumers(manifest)
    consumers = set(project.select([asked], [], None)) if asked else set()
    if request.source is None:
        cohort = _cohort(project, request.cohort)
        below = set(project.select([*(f"{manifest.nodes[uid].name}+" for uid in cohort)], [], None))
        return cohort, [], manifest.order((consumers | below) - set(cohort)), consumers
    source = impact.source_named(manifest, request.source)
    touched = project.select([f"source:{source.source_name}.{source.name}+"], [], None)
    cohort = [uid for uid in touched if uid in _chosen(project, request.cohort)]
    above = set().union(*(manifest.ancestors(uid) for uid in cohort)) - set(cohort)
    rest = [uid for uid in touched if uid not in above and uid not in cohort]
    return cohort, [uid for uid in touched if uid in above], rest, consumers & set(touched)


def _chosen(project: Project, selection: str) -> set[str]:
    """What a selection chooses; nothing where it chooses nothing."""
    try:
        return set(project.select([selection], [], None))
    except SluiceError as problem:
        if problem.code != "plan_empty_selection":
            raise
        return set()


def _tagged_consumers(manifest: Manifest) -> str | None:
    """The consumers of a project that tags them; None where nothing is tagged."""
    is_tagged = any(CONSUMER_TAG in node.tags for node in manifest.of_type("model").values())
    return f"tag:{CONSUMER_TAG}+" if is_tagged else None


def _later(
    ctx: Context, manifest: Manifest, uids: list[str], gap: Gap, planned_on: date, allowed: list[str]
) -> Later | None:
    """The months from the gap to the current one, for models that are computed from their own months before.

    Whoever allows G05 has them end with the gap's.
    """
    if "G05" in allowed:
        return None
    months = Gap(gap.first, max(gap.today, planned_on), gap.buffer_days).months[len(gap.months) :]
    if not months or not (models := refill.carried(manifest, uids)):
        return None
    names = ", ".join(manifest.nodes[uid].name for uid in uids if uid in models)
    ctx.log.warning(
        "%s: each month is computed from the one before, so they go on to %s", names, f"{months[-1].start:%Y-%m}"
    )
    return Later(models, months)


def _batch(step: Step, request: Request, gap: Gap, adapter: str, *, depends_on: list[str]) -> Batch:
    variables = dict(_vars(request))
    if step.window:
        variables |= month_vars(step.window)
        if adapter == "clickhouse" and request.passes == "one":
            variables.setdefault(planning.REPLACE_VAR, True)
    if step.phase == "consumers":
        variables[request.lookback_var] = gap.lookback_days
    phase = step.phase if request.passes == "one" else f"{step.phase} {step.wave}"
    return Batch(
        batch_id="", plan_id="", seq=0, total=0, wave=step.wave, reason="refill", phase=phase,
        model=step.node.unique_id, window=step.window, vars=variables, full_refresh=step.full_refresh,
        repeatable=step.window is not None, select=[step.node.name], expect=[step.node.unique_id], depends_on=depends_on,
    )  # fmt: skip


def _planned(manifest: Manifest, uid: str, batches: list[Batch]) -> PlannedModel:
    own = [batch for batch in batches if batch.model == uid]
    mode: Mode = "append" if own[0].window else "whole"
    return PlannedModel(
        unique_id=uid, mode=mode, batches=len(own), stages=[], checksum=manifest.code_checksum(uid)[:16],
        **planning.place(manifest.nodes[uid]),
    )  # fmt: skip


def _allowed(request: Request) -> list[str]:
    # Who asks for the two passes of old asks for what is wrong with them.
    return [*request.allow, *(["G04"] if request.passes == "two" else [])]


def _asked(plan: Plan) -> Request:
    return Request(**plan.request)  # type: ignore[arg-type]


def _is_meant(request: Request | None, asked: Mapping[str, Any]) -> bool:
    return request is None or {**vars(request), "allow": []} == {**vars(Request(**asked)), "allow": []}


def _vars(request: Request | None) -> Vars:
    return msgspec.json.decode(request.vars) if request else {}
