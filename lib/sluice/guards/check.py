"""What a planner calls: all guards over its plan, the refusing ones raised together, the allowed ones told."""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import date
from typing import Any

from sluice import full_refresh
from sluice.errors import SluiceError, refused, suggestion
from sluice.full_refresh import FullRefresh
from sluice.guards import coverage, cuts, facts, hooks, ignored_vars, layout, order, populated, rendered, replaced
from sluice.guards.case import NAMES, Case, Finding
from sluice.manifest import Manifest, meta_of
from sluice.project import Project
from sluice.records import Batch, Plan, Vars

MOST_TOLD = 20
GUARDS: tuple[Callable[[Case], Iterator[Finding]], ...] = (
    replaced.table_batched,
    replaced.overwrite_narrow,
    populated.append_populated,
    order.reader_with_writer,
    order.cumulative,
    coverage.stage_hole,
    coverage.stage_overlap,
    populated.late_start,
    layout.partition_cap,
    layout.moved_key,
    rendered.parse_time_vars,
    hooks.hook_tax,
    populated.never_built,
    ignored_vars.ignored_vars,
)
_log = logging.getLogger("sluice")


def judge(case: Case) -> list[Finding]:
    """What the guards find, in the order of their codes."""
    return [finding for guard in GUARDS for finding in guard(case)]


def check(
    project: Project,
    plan: Plan,
    batches: list[Batch],
    *,
    today: date,
    base_vars: Vars,
    allow: Collection[str],
    look: bool = True,
    grown: Mapping[str, FullRefresh] | None = None,
) -> None:
    """Judge a plan before it leaves the planner; see `findings`.

    The batches are told the ways in which they may be cut. Raises SluiceError (2) with everything that is refused;
    warnings, and what was allowed, go to the log.
    """
    refuse_unknown(allow)
    enforce(findings(project, plan, batches, today=today, base_vars=base_vars, look=look, grown=grown), allow)


def findings(
    project: Project,
    plan: Plan,
    batches: list[Batch],
    *,
    today: date,
    base_vars: Vars,
    look: bool = True,
    grown: Mapping[str, FullRefresh] | None = None,
) -> list[Finding]:
    """What the guards find in a plan. `look`: ask the warehouse, where it can be reached. `grown` are blocks that have
    more stages than their models declare.
    """
    case = Case(
        manifest=project.manifest, adapter=plan.adapter, intent=plan.intent, batches=batches, to=plan.to, today=today,
        blocks={**blocks(project.manifest, {batch.model for batch in batches if batch.model}), **(grown or {})},
        configs=_configs(project, batches, base_vars), yaml_vars=project.info.yaml_vars, base_vars=base_vars,
    )  # fmt: skip
    if look and case.windowed:
        case = _with_facts(case, project)
    for batch, found in zip(batches, cuts.of_plan(case, batches), strict=True):
        batch.ways = found
    return judge(case)


def enforce(findings: list[Finding], allow: Collection[str]) -> None:
    """Raises SluiceError (2) for the findings that refuse and are not allowed; tells of the others."""
    stopping = [one for one in findings if one.severity == "refuse" and one.code not in allow]
    for finding in findings:
        if finding not in stopping:
            _log.warning("%s%s; try: %s", "allowed: " if finding.code in allow else "", finding, finding.fix)
    if not stopping:
        return
    told = [f"{finding}\n  {finding.fix}" for finding in stopping[1:MOST_TOLD]]
    more = [f"and {len(stopping) - MOST_TOLD} more"] if len(stopping) > MOST_TOLD else []
    allowing = " ".join(f"--allow {code}" for code in sorted({finding.code for finding in stopping}))
    raise refused(
        "\n".join([str(stopping[0]), *told, *more]),
        code=f"guard_{stopping[0].code.lower()}",
        hint=f"{stopping[0].fix}; docs/guards.md says more; {allowing} to go on all the same",
    )


def refuse_unknown(allow: Collection[str]) -> None:
    """Raises SluiceError (2) for a code that no guard has."""
    for code in allow:
        if code not in NAMES:
            known = [f"{known} {name}" for known, name in NAMES.items()]
            raise refused(
                f"--allow {code}: there is no such guard{suggestion(code, list(NAMES))}",
                code="guard_unknown", hint="--allow with one of: " + ", ".join(known),
            )  # fmt: skip


def blocks(manifest: Manifest, uids: Collection[str]) -> dict[str, FullRefresh]:
    """The meta.full_refresh of those models that have one that can be read; the planner tells of the others."""
    found = {}
    for uid in uids:
        block = meta_of(manifest.nodes[uid]).get("full_refresh") if uid in manifest.nodes else None
        if block is not None:
            try:
                found[uid] = full_refresh.parse(block, file="", model=uid)
            except SluiceError:
                continue
    return found


def _configs(project: Project, batches: list[Batch], base_vars: Vars) -> Mapping[str, Mapping[str, Any]]:
    """The configs that the manifest does not know, by batch_id."""
    asked = rendered.questions(project.manifest, batches, base_vars)
    if not asked:
        return {}
    answers = project.moved_configs(list(asked.values()))
    nodes = project.manifest.nodes
    return {
        batch_id: {**nodes[one.model].config, **moved}
        for (batch_id, one), moved in zip(asked.items(), answers, strict=True)
        if moved
    }


def _with_facts(case: Case, project: Project) -> Case:
    from dataclasses import replace

    try:
        with project.connect("guards") as warehouse:
            known = facts.gather(case, warehouse)
    except SluiceError as problem:
        if problem.code != "warehouse_missing":
            _log.info("the guards could not ask the warehouse: %s", problem.message)
            return case
        known = facts.of_no_warehouse(case)
    return replace(case, facts=known)
