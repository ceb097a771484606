"""Coverage as it is now: what the planner means, what the state knows and what the warehouse counts, put together."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from sluice import added_stages, coverage
from sluice.command import Context
from sluice.coverage import Cell, Observed, Recorded
from sluice.errors import SluiceError
from sluice.guards import facts
from sluice.guards.case import Case
from sluice.plan_batches import rehearsed
from sluice.project import Project
from sluice.records import Plan
from sluice.state import Run, State


@dataclass(frozen=True)
class Covered:
    """`cells` in the plan's order. `uncounted` says why no rows were counted, None when they were."""

    cells: list[Cell] = field(default_factory=list)
    uncounted: str | None = None


def look(
    ctx: Context, project: Project, state: State | None, *, select: Iterable[str] = (), exclude: Iterable[str] = ()
) -> Covered:
    """The cells of the chosen models, of all without a selection. Nothing is changed.

    Raises SluiceError: 2 for a bad config or selection, 69 and 75 for the state store. A warehouse that is away raises nothing.
    """
    today = ctx.now.date()
    nodes = [project.manifest.nodes[uid] for uid in project.select(list(select), list(exclude), None)]
    plan, batches, blocks = rehearsed(
        ctx, project, nodes, today=today, most_added=added_stages.MOST_VALUES, append=True
    )
    case = Case(
        manifest=project.manifest, adapter=plan.adapter, intent=plan.intent, batches=batches, to=plan.to,
        today=today, blocks=blocks,
    )  # fmt: skip
    observed, uncounted = _observed(project, case)
    records = recorded(state, plan) if state is not None else []
    return Covered(coverage.cells(coverage.expected(batches, plan.models), records, observed), uncounted)


def recorded(state: State, plan: Plan) -> list[Recorded]:
    """What the state knows of the project and target of this plan. Batches at work now are not in it."""
    runs = [run for run in state.runs() if (run.plan.project, run.plan.target) == (plan.project, plan.target)]
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
