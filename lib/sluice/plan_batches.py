"""The staged full refresh: meta.full_refresh of the selected models becomes stages × windows of batches, in order."""

from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Any

import msgspec

from sluice import added_stages, aside, coverage_sources, holes, planning, resuming, splitting
from sluice.checks import declared
from sluice.command import Context
from sluice.cumulative import reads_itself
from sluice.errors import refused, suggestion
from sluice.full_refresh import FullRefresh, ResolvedStage, parse, resolved
from sluice.guards import check as guards
from sluice.guards.order import feed_each_other
from sluice.holes import Hole
from sluice.manifest import Manifest, Node, meta_of
from sluice.project import Project
from sluice.records import Batch, Gate, Mode, Plan, PlannedModel, Record, Vars, Window
from sluice.state import State
from sluice.windows import month_start, month_vars, monthly_windows

GATE_DAYS = 31  # what a gate before the publication looks at: in all of history any entity once began


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
    aside: bool = False  # build beside what is there, for publish-tables to exchange
    added: str = "{}"  # JSON: the stages that were added, by model; found out once, so that a resume plans the same
    only: list[str] = field(default_factory=list)  # of all that should be there only this, see holes.ONLY
    holes: str = ""  # JSON: what that is; found out once, too


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
        blocks = {node.unique_id: block_of(node) for node in nodes if "full_refresh" in meta_of(node)}
        if not resume:
            added = added_stages.discover(project, blocks, today=ctx.now.date(), most=most_added)
            request = replace(request, added=added)
        blocks = added_stages.applied(blocks, request.added)
        if request.aside:
            _refuse_partial(request)
        if request.only and not resume:
            found = _holes(ctx, project, state, request, nodes, blocks, to or ctx.now.date())
            if not found:
                ctx.log.warning("nothing to plan: none of what should be there is %s", " or ".join(request.only))
                return
            request = replace(request, holes=holes.encoded(found))
        plan, batches = _plan(ctx, project, request, nodes, blocks, to or ctx.now.date())
        guards.check(
            project, plan, batches, today=ctx.now.date(), base_vars=_vars(request), allow=_allowed(request), look=not resume,
            grown=blocks,
        )  # fmt: skip
        gate = _gate(project, plan) if request.aside else None
    plan.delay_s, plan.dry_run = delay_s, ctx.dry_run
    if before is not None and state is not None:
        batches = resuming.rest(state, before, plan, batches, accept_drift=accept_drift)
        plan.publication = before.plan.publication
    elif state is not None:
        state.refuse_overlap(plan)
    splitting.recall(state.sizes(plan.project, plan.target) if state is not None else {}, batches)
    yield plan
    yield from batches
    if (
        gate is not None and plan.publication is None
    ):  # what is being exchanged was found good, and may be there no more
        yield gate


def rehearsed(
    ctx: Context, project: Project, nodes: list[Node], *, today: date, most_added: int, append: bool = False
) -> tuple[Plan, list[Batch], dict[str, FullRefresh]]:
    """The full refresh of these models as it would be planned today, and their blocks with the stages that were added.

    No guard has looked at it. `append`: as with --incremental-only, so that nothing of the tables is replaced. Raises
    SluiceError (2) for a bad config.
    """
    blocks = {node.unique_id: block_of(node) for node in nodes if "full_refresh" in meta_of(node)}
    added = added_stages.discover(project, blocks, today=today, most=most_added)
    request = Request([], [], None, [], append, "{}", added=added)
    blocks = added_stages.applied(blocks, added)
    return *_plan(ctx, project, request, nodes, blocks, today), blocks


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
    of_model = _by_model(request)
    if of_model is not None:
        nodes = [node for node in nodes if node.unique_id in of_model]
    for node in nodes:
        _refuse_kept(node, request, (of_model or {}).get(node.unique_id))
    if request.aside:
        aside.refuse_unfit(manifest, [node.unique_id for node in nodes], info.adapter)

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
                found=None if of_model is None else of_model[node.unique_id],
            )
        )
        if not own:
            ctx.log.warning("%s: every stage starts after %s: nothing to do for it", node.name, to)
        batches += own
        planned = _planned(manifest, node, staged.get(node.unique_id), own)
        if request.aside:
            aside.place(planned, node)
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
    found: list[Hole] | None,
) -> Iterator[Batch]:
    """The batches of one model: its stages in their order, the windows of each in time, or one whole run; of all these
    only the holes that were found, if any were looked for."""
    common: dict[str, Any] = {
        "batch_id": "", "plan_id": "", "seq": 0, "total": 0,
        "reason": "gap" if request.only else "stage" if request.stages else "full_refresh",
        "phase": "aside" if request.aside else None, "model": node.unique_id, "select": [node.name], "expect": [node.unique_id], "depends_on": depends_on,
    }  # fmt: skip
    begins_anew = not _appends(request)
    if stages is None or block is None:
        yield Batch(**common, vars=_vars(request), full_refresh=begins_anew or _rewrites_whole(found))
        return
    cells = [(stage, window, _replaces(request)) for stage in stages for window in _windows(stage, to)]
    if found is not None:
        cells = [
            (stage, hole.window, hole.rewrites)
            for stage in stages
            for hole in found
            if hole.stage == stage.name and hole.window
        ]
    if feed_each_other(node, block):
        cells.sort(key=lambda cell: cell[1].start)  # months before stages; the sort keeps the stages' order
    for stage, window, replaces in cells:
        replacing = {planning.REPLACE_VAR: True} if replaces else {}
        variables = replacing | _merged(node, stage, _vars(request)) | month_vars(window)
        yield Batch(**common, stage=stage.name, window=window, vars=variables, full_refresh=begins_anew)
        begins_anew = False


def _windows(stage: ResolvedStage, to: date) -> list[Window]:
    return monthly_windows(stage.start_date, to, stage.batch_months)


def _holes(
    ctx: Context, project: Project, state: State | None, request: Request, nodes: list[Node],
    blocks: dict[str, FullRefresh], to: date,
) -> list[Hole]:  # fmt: skip
    """What of all that should be there is to be planned."""
    everything = replace(request, only=[], incremental_only=True)
    plan, batches = _plan(ctx, project, everything, nodes, blocks, to)
    there = coverage_sources.covered(project, state, plan, batches, blocks, today=to)
    if there.uncounted is not None:
        ctx.log.warning("no rows were counted, so only the records say what is there: %s", there.uncounted)
    carried = {
        node.unique_id: feed_each_other(node, blocks[node.unique_id])
        for node in nodes
        if node.unique_id in blocks and reads_itself(node)
    }
    wanted = {status for name in request.only for status in holes.ONLY[name]}
    return holes.holes(there.cells, wanted, carried=carried)


def _by_model(request: Request) -> dict[str, list[Hole]] | None:
    """The holes of each model that has any; None where none were looked for."""
    if not request.holes:
        return None
    found: dict[str, list[Hole]] = {}
    for hole in holes.decoded(request.holes):
        found.setdefault(hole.model, []).append(hole)
    return found


def _rewrites_whole(found: list[Hole] | None) -> bool:
    return any(hole.rewrites for hole in found or [] if hole.window is None)


def _refuse_partial(request: Request) -> None:
    if _appends(request):
        raise refused(
            f"--aside with {'--only' if request.only else '--stage' if request.stages else '--incremental-only'}: what is built aside would hold only these rows, "
            "and replace all that are there",
            code="plan_aside_partial",
            hint="leave out one of the two",
        )


def _gate(project: Project, plan: Plan) -> Gate | None:
    """What the models declare about their rows, asked before they are published; None when they declare nothing."""
    nodes = project.manifest.nodes
    models = [
        model.unique_id for model in plan.models if declared(project.manifest, nodes[model.unique_id], recompute=False)
    ]
    since = plan.to - timedelta(days=GATE_DAYS)
    return Gate(plan_id=plan.plan_id, wave=1, gate="canary", models=models, since=since, to=plan.to) if models else None


def _appends(request: Request) -> bool:
    """Whether nothing may be replaced. One stage, or a hole, alone is appended: a full refresh would drop all other rows."""
    return request.incremental_only or bool(request.stages) or bool(request.only)


def _replaces(request: Request) -> bool:
    """Whether batches are to put their rows in the place of those in their windows."""
    return request.into_populated == "replace" and _appends(request)


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


def block_of(node: Node) -> FullRefresh:
    """The model's meta.full_refresh, which it must have. Raises SluiceError (2) for one that is wrong."""
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


def _refuse_kept(node: Node, request: Request, found: list[Hole] | None) -> None:
    anew = not _appends(request) or _rewrites_whole(found)
    if node.config.get("full_refresh") is False and anew:
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
    both = {"allow": [], "added": "", "holes": ""}
    return request == anything or vars(request) | both == vars(Request(**asked)) | both
