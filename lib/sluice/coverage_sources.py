"""Coverage as it is now: what the planner means, what the state knows and what the warehouse counts, put together."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date

from sluice import added_stages, coverage
from sluice.command import Context
from sluice.coverage import Cell, Observed, Recorded
from sluice.cumulative import reads_itself
from sluice.errors import SluiceError
from sluice.full_refresh import FullRefresh
from sluice.guards import facts
from sluice.guards.case import Case
from sluice.project import Project
from sluice.records import Batch, Plan
from sluice.state import Run, State


@dataclass(frozen=True)
class Covered:
    """`cells` in the plan's order. `uncounted` says why no rows were counted, None when they were."""

    cells: list[Cell] = field(default_factory=list)
    uncounted: str | None = None


def look(
    ctx: Context,
    project: Project,
    state: State | None,
    *,
    select: Iterable[str] = (),
    exclude: Iterable[str] = (),
    count: bool = True,
) -> Covered:
    """The cells of the chosen models, of all without a selection. Without `count` no rows are counted.

    Nothing is changed.

    Raises SluiceError: 2 for a bad config or selection, 69 and 75 for the state store. A warehouse that is away raises nothing.
    """
    plan, batches, blocks = meant(ctx, project, select, exclude)
    return covered(project, state, plan, batches, blocks, today=ctx.now.date(), count=count)


def meant(
    ctx: Context, project: Project, select: Iterable[str], exclude: Iterable[str]
) -> tuple[Plan, list[Batch], dict[str, FullRefresh]]:
    """The full refresh of the chosen models as it would be planned today, replacing nothing. Raises SluiceError (2)."""
    from sluice.plan_batches import rehearsed  # which plans the holes among the cells

    nodes = [project.manifest.nodes[uid] for uid in project.select(list(select), list(exclude), None)]
    return rehearsed(ctx, project, nodes, today=ctx.now.date(), most_added=added_stages.MOST_VALUES, append=True)


def covered(
    project: Project,
    state: State | None,
    plan: Plan,
    batches: list[Batch],
    blocks: Mapping[str, FullRefresh],
    *,
    today: date,
    count: bool = True,
) -> Covered:
    """What is there of what a plan that appends everywhere means."""
    case = _case(project, plan, batches, blocks, today)
    observed, uncounted = _observed(project, case) if count else ({}, "not asked for")
    records = recorded(state, plan) if state is not None else []
    cells = coverage.cells(coverage.expected(batches, plan.models), records, observed)
    return Covered(coverage.settled(cells, _of_sources(project, case, cells)), uncounted)


def whole_with_rows(project: Project, plan: Plan, batches: list[Batch], *, today: date) -> set[str]:
    """The models of such a plan that are built as a whole and hold rows. Raises SluiceError when the warehouse is away."""
    case = _case(project, plan, batches, {}, today)
    try:
        with project.connect("coverage") as warehouse:
            return facts.whole_with_rows(case, warehouse)
    except SluiceError as problem:
        if problem.code == "warehouse_missing":
            return set()
        raise


def _case(project: Project, plan: Plan, batches: list[Batch], blocks: Mapping[str, FullRefresh], today: date) -> Case:
    return Case(
        manifest=project.manifest, adapter=plan.adapter, intent=plan.intent, batches=batches, to=plan.to,
        today=today, blocks=blocks,
    )  # fmt: skip


def recorded(state: State, plan: Plan) -> list[Recorded]:
    """What the state knows of the project and target of this plan. Batches at work now are not in it, nor is what was
    adopted and discarded: no batch has written that.
    """
    here = (plan.project, plan.target)
    runs = [
        run
        for run in state.runs()
        if (run.plan.project, run.plan.target) == here and not (run.is_discarded and run.plan.intent == "adopted")
    ]
    at_work = {run.run_id for run in runs if state.is_alive(run)}
    rows = state.batches_of([run.run_id for run in runs])
    return list(
        coverage.recorded(
            (row for row in rows if row["status"] != "unknown" or row["run_id"] not in at_work), checksums(runs)
        )
    )


def checksums(runs: Iterable[Run]) -> dict[tuple[str, str], str]:
    """The checksum of each model in the plan of each run."""
    return {(run.run_id, model.unique_id): model.checksum for run in runs for model in run.plan.models}


def _of_sources(project: Project, case: Case, cells: Iterable[Cell]) -> Observed:
    """Rows of the sources where cells are empty. Not of a model that carries its rows on from the month before: it has some
    in months in which its source has none.
    """
    empty = {
        (cell.model, cell.stage) for cell in cells if cell.status == "empty" and not reads_itself(case.node(cell.model))
    }
    if not empty:
        return {}
    try:
        with project.connect("coverage") as warehouse:
            return facts.source_months(case, warehouse, sorted(empty), all_of_them=True)
    except SluiceError:
        return {}


def _observed(project: Project, case: Case) -> tuple[Observed, str | None]:
    if not case.windowed:
        return {}, None
    try:
        with project.connect("coverage") as warehouse:
            return facts.months(case, warehouse), None
    except SluiceError as problem:
        if problem.code == "warehouse_missing":  # a file that is not there yet: no table has a row
            return facts.of_no_warehouse(case).months, None
        return {}, problem.message
