"""The staged full refresh: meta.full_refresh of the selected models becomes stages × windows of batches, in order."""

from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import msgspec

from sluice import added_stages, planning, resuming, splitting
from sluice.command import Context
from sluice.errors import refused, suggestion
from sluice.full_refresh import FullRefresh, ResolvedStage, parse, resolved
from sluice.guards import check as guards
from sluice.guards.order import feed_each_other
from sluice.manifest import Manifest, Node, meta_of
from sluice.project import Project
from sluice.records import Batch, Mode, Plan, PlannedModel, Record, Vars
from sluice.state import State
from sluice.windows import month_start, month_vars, monthly_windows


@dataclass(frozen=True)
class Request:
    """What was asked for: enough to plan the same again on another day. Kept in the plan."""

    select: list[str]
    exclude: list[str]
    selector: str | None
    stages: list[str]
    incremental_only: bool
    vars: str  # JSON: a record's values are scalars and lists
    allow: list[str] = field(default_factory=list)
    into_populated: str = "refuse"  # or replace, or allow: what to do where an append meets rows
    added: str = "{}"  # JSON: the stages that were added, by model; found out once, so that a resume plans the same


def plan_batches(
    ctx: Context,
    request: Request,
    *,
    to: date | None,
    resume: bool,
    accept_drift: bool,
    delay_s: float,
    most_added: int = 0,
) -> Generator[Record, None, None]:
    """Yield the plan and its batches.

    Raises SluiceError: 2 for a bad config or selection, an unfinished plan, drift; 75 when the models are being worked
    on; 78 when dbt cannot load the project.
    """
    if to is not None and month_start(to) == month_start(date.max):
        raise refused(
            f"--to {to}: the calendar has no month after it", code="plan_bad_day", hint="--to with an earlier day"
        )
    state = State.open_existing(ctx.config.state_url, origin=ctx.config.explain("SLUICE_STATE"))
    before = None
    with ExitStack() as stack:
        project = stack.enter_context(Project(ctx.config, _vars(request)))
        if resume:
            before = resuming.find(state, project, "full_refresh", lambda asked: _is_meant(request, asked))
            if before is None:
                return
            given, request, to = request, _asked(before.plan), before.plan.to
            request = replace(request, allow=[*request.allow, *given.allow])
            if request.vars != given.vars:
                project = stack.enter_context(Project(ctx.config, _vars(request)))
        nodes = _selected(project, request)
        blocks = {node.unique_id: _block(node) for node in nodes if "full_refresh" in meta_of(node)}
        if not resume:
            added = added_stages.discover(project, blocks, today=ctx.now.date(), most=most_added)
            request = replace(request, added=added)
        blocks = added_stages.applied(blocks, request.added)
        plan, batches = _plan(ctx, project, request, nodes, blocks, to or ctx.now.date())
        guards.check(
            project, plan, batches, today=ctx.now.date(), base_vars=_vars(request), allow=_allowed(request), look=not resume,
            grown=blocks,
        )  # fmt: skip
    plan.delay_s, plan.dry_run = delay_s, ctx.dry_run
    if before is not None and state is not None:
        batches = resuming.rest(state, before, plan, batches, accept_drift=accept_drift)
    elif state is not None:
        state.refuse_overlap(plan)
    splitting.recall(state.sizes(plan.project, plan.target) if state is not None else {}, batches)
    yield plan
    yield from batches


def _selected(project: Project, request: Request) -> list[Node]:
    uids = project.select(request.select, request.exclude, request.selector)
    return [project.manifest.nodes[uid] for uid in uids]


def _plan(
    ctx: Context, project: Project, request: Request, nodes: list[Node], blocks: dict[str, FullRefresh], to: date
) -> tuple[Plan, list[Batch]]:
    manifest, info = project.manifest, project.info
    staged = {uid: resolved(block) for uid, block in blocks.items()}
    added = added_stages.decoded(request.added)
    if request.stages:
        staged = _only(staged, request.stages)
        nodes = [node for node in nodes if node.unique_id in staged]
    for node in nodes:
        _refuse_kept(node, request)

    chosen = {node.unique_id for node in nodes}
    batches: list[Batch] = []
    models: list[PlannedModel] = []
    for node in nodes:
        own = list(
            _batches(
                node,
                blocks.get(node.unique_id),
                staged.get(node.unique_id),
                request,
                to,
                depends_on=sorted(chosen & manifest.ancestors(node.unique_id)),
            )
        )
        if not own:
            ctx.log.warning("%s: every stage starts after %s: nothing to do for it", node.name, to)
        batches += own
        planned = _planned(manifest, node, staged.get(node.unique_id), own)
        planned.added_stages = [stage.name for stage in added.get(node.unique_id, []) if stage.name in planned.stages]
        models.append(planned)
    return planning.build(
        batches,
        models,
        intent="full_refresh",
        project=info.project_name,
        target=info.target,
        adapter=info.adapter,
        to=to,
        request={**vars(request)},
    )


def _batches(
    node: Node,
    block: FullRefresh | None,
    stages: list[ResolvedStage] | None,
    request: Request,
    to: date,
    *,
    depends_on: list[str],
) -> Iterator[Batch]:
    """The batches of one model: its stages in their order, the windows of each in time, or one whole run."""
    common: dict[str, Any] = {
        "batch_id": "", "plan_id": "", "seq": 0, "total": 0,
        "reason": "stage" if request.stages else "full_refresh",
        "model": node.unique_id, "select": [node.name], "expect": [node.unique_id], "depends_on": depends_on,
    }  # fmt: skip
    begins_anew = not _appends(request)
    if stages is None or block is None:
        yield Batch(**common, vars=_vars(request), full_refresh=begins_anew)
        return
    cells = [
        (stage, window) for stage in stages for window in monthly_windows(stage.start_date, to, stage.batch_months)
    ]
    if feed_each_other(node, block):
        cells.sort(key=lambda cell: cell[1].start)  # months before stages; the sort keeps the stages' order
    replacing = {planning.REPLACE_VAR: True} if request.into_populated == "replace" and not begins_anew else {}
    for stage, window in cells:
        variables = replacing | _merged(node, stage, _vars(request)) | month_vars(window)
        yield Batch(**common, stage=stage.name, window=window, vars=variables, full_refresh=begins_anew)
        begins_anew = False


def _appends(request: Request) -> bool:
    """Whether nothing may be replaced. One stage alone is appended: a full refresh would drop the rows of the others."""
    return request.incremental_only or bool(request.stages)


def _planned(manifest: Manifest, node: Node, stages: list[ResolvedStage] | None, batches: list[Batch]) -> PlannedModel:
    mode: Mode = "whole" if stages is None else "replace" if any(b.full_refresh for b in batches) else "append"
    return PlannedModel(
        unique_id=node.unique_id,
        mode=mode,
        batches=len(batches),
        stages=[stage.name for stage in stages or []],
        checksum=manifest.code_checksum(node.unique_id)[:16],
        **planning.place(node),
    )


# -- what the models say ------------------------------------------------------------------------------


def _block(node: Node) -> FullRefresh:
    return parse(meta_of(node)["full_refresh"], file=_file(node), model=node.name)


def _file(node: Node) -> str:
    """The file in which the model's meta most likely stands: its YAML when it has one, else its SQL."""
    return node.patch_path.partition("://")[2] if node.patch_path else node.original_file_path


def _only(staged: dict[str, list[ResolvedStage]], wanted: list[str]) -> dict[str, list[ResolvedStage]]:
    """The wanted stages of each model that has any. Raises SluiceError (2) for a stage that no selected model has."""
    known = sorted({stage.name for stages in staged.values() for stage in stages})
    for name in wanted:
        if name not in known:
            raise refused(
                f"--stage {name}: no selected model has it{suggestion(name, known)}",
                code="plan_unknown_stage",
                hint=f"--stage with some of: {', '.join(known)}"
                if known
                else "select a model with meta.full_refresh.stages",
            )
    kept = {uid: [stage for stage in stages if stage.name in wanted] for uid, stages in staged.items()}
    return {uid: stages for uid, stages in kept.items() if stages}


def _refuse_kept(node: Node, request: Request) -> None:
    if node.config.get("full_refresh") is False and not _appends(request):
        raise refused(
            f"{_file(node)}: model {node.name} has full_refresh: false, so dbt would append the rebuild to what is there",
            code="plan_full_refresh_off",
            hint=f"plan-batches --exclude {node.name}, or --incremental-only",
        )


def _merged(node: Node, stage: ResolvedStage, base: Vars) -> Vars:
    for name in stage.vars.keys() & base.keys():
        if stage.vars[name] != base[name]:
            raise refused(
                f"var {name}: --vars says {base[name]!r}, stage {stage.name} of {node.name} says {stage.vars[name]!r}",
                code="plan_var_conflict",
                hint=f"leave {name} out of --vars",
            )
    return base | stage.vars


def _vars(request: Request) -> Vars:
    return msgspec.json.decode(request.vars)


# -- going on with a plan -------------------------------------------------------------------------------


def _allowed(request: Request) -> list[str]:
    return [*request.allow, *(["G03"] if request.into_populated == "allow" else [])]


def _asked(plan: Plan) -> Request:
    return Request(**plan.request)  # type: ignore[arg-type]


def _is_meant(request: Request, asked: Mapping[str, Any]) -> bool:
    """`--resume` alone means any plan; with a selection the one that was asked for in the same words."""
    anything = Request([], [], None, [], False, request.vars, request.allow, request.into_populated)
    both = {"allow": [], "added": ""}
    return request == anything or vars(request) | both == {**asked, **both}
