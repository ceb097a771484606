"""Going on with a plan: which one is meant, whether it is still what it was, and what of it is left to do."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from sluice import planning
from sluice.errors import busy, refused
from sluice.project import Project
from sluice.records import Batch, BatchResult, Plan, Reason
from sluice.state import Attempted, Run, State

_log = logging.getLogger("sluice")


def find(
    state: State | None, project: Project, intent: Reason, is_meant: Callable[[Mapping[str, Any]], bool]
) -> Run | None:
    """The unfinished run whose request is meant, None (and a warning) when there is none.

    Raises SluiceError: 2 when several are meant, 75 when it is at work.
    """
    here = (project.info.project_name, project.info.target, intent)
    begun = [r for r in (state.unfinished() if state else []) if (r.plan.project, r.plan.target, r.plan.intent) == here]
    begun = [run for run in begun if is_meant(run.plan.request)]
    if not begun or state is None:
        _log.warning("nothing to resume: no such plan was begun and left unfinished")
        return None
    planner = planning.GO_ON[intent].split()[0]
    if len(begun) > 1:
        listed = "; ".join(f"{run.run_id}: {_asked(run.plan)}" for run in begun)
        raise refused(
            f"--resume could mean {len(begun)} plans: {listed}",
            code="plan_resume_ambiguous",
            hint=f"{planner} --resume with the same selection as then, or sluice-state discard RUN",
        )
    (run,) = begun
    if state.is_alive(run):
        raise busy(f"run {run.run_id} is at work (pid {run.pid} on {run.host})")
    return run


def _asked(plan: Plan) -> str:
    """What was asked for, in a few words."""
    select = plan.request.get("select")
    return " ".join(map(str, select)) if isinstance(select, list) and select else "everything"


def rest(state: State, before: Run, plan: Plan, batches: list[Batch], *, accept_drift: bool) -> list[Batch]:
    """What is still to do, with the plan's header told so. Raises SluiceError (2) when the plan drifted."""
    planner = planning.GO_ON[plan.intent].split()[0]
    changes = planning.drift(before.plan, plan)
    if changes and not accept_drift:
        raise refused(
            "the plan is not what it was when it was begun:\n" + "\n".join(changes),
            code="plan_drift",
            hint=f"{planner} --resume --accept-drift to go on all the same, or: sluice-state discard {before.run_id}",
        )
    done = state.done(before.root_run_id)
    strays = _strays(batches, done, state.attempted(before.root_run_id), state.splits(before.root_run_id))
    replaced = {batch.model for batch in batches if batch.full_refresh}
    if incurable := sorted({str(b.model) for b in batches if b.model in strays - replaced}):
        raise refused(
            f"{', '.join(incurable)}: batches that are no longer in the plan have left rows there, and nothing in the plan "
            "replaces them",
            code="plan_drift_rows",
            hint=f"undo the change to the model's meta, or remove the rows and: sluice-state discard {before.run_id}",
        )
    # What follows a batch of a refill (the OPTIMIZE) may have been cut off too: those that are done come along, and the
    # runner passes on what became of them.
    left = batches if plan.intent == "refill" else planning.without_done(batches, done, strays)
    plan.root_run_id = before.root_run_id
    plan.attempt = before.attempt + 1
    plan.pending = len(left)
    plan.drift_from = before.plan.plan_id if changes else None
    return left


def _strays(
    batches: list[Batch], done: dict[str, BatchResult], attempted: dict[str, Attempted], splits: list[BatchResult]
) -> set[str | None]:
    """Models in which batches that are neither in the plan any more nor parts of one that is have, or may have, left rows."""
    planned = {batch.batch_id for batch in batches}
    for split in splits:  # a batch is cut before its parts are
        if split.batch_id in planned:
            planned |= {part.batch_id for part in split.parts}
    models = {batch_id: one.model for begun in (done, attempted) for batch_id, one in begun.items()}
    return {model for batch_id, model in models.items() if batch_id not in planned}
