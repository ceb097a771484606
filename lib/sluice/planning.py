"""Plans: batches in order, with ids that are hashes of what they would do. Pure: no clock, no files, no dbt."""

from collections.abc import Collection, Iterable
from datetime import date
from typing import Any

import msgspec

from sluice import aside
from sluice.ids import content_hash
from sluice.manifest import Node
from sluice.records import Batch, Plan, PlannedModel, Reason, Scalar

# Asks a model to put its rows in the place of its window's: its config reads the var and chooses its strategy by it. On
# ClickHouse those of a refill exchange the partitions of their months: an append takes no key away that
# its source has lost.
REPLACE_VAR = "replace_partitions"
# The commands that go on with a plan which was begun and left.
GO_ON: dict[Reason, str] = {
    "full_refresh": "plan-batches --resume | run-dbt-batch",
    "refill": "plan-refill --resume | each-wave 'run-dbt-batch | optimize-partitions | canary-check'",
}

# What of a plan that builds aside is left to do when its batches are done.
_PUBLISH = " | canary-check | publish-tables"


def base_vars(plan: Plan | None) -> dict[str, Any]:
    """The vars that every batch of the plan runs under, its own on top of them; none of no plan."""
    return msgspec.json.decode(str(plan.request.get("vars") or "{}")) if plan is not None else {}


def go_on(plan: Plan) -> str | None:
    """What to type to go on with a plan; None where it is simply planned again."""
    if plan.publication is not None and plan.publication.undone:
        return "publish-tables --undo"
    command = GO_ON.get(plan.intent)
    return command and command + (_PUBLISH if aside.of_plan(plan) else "")


def batch_identity(project: str, target: str, batch: Batch) -> str:
    """The id of a batch: the same work on the same target has the same id, in whichever plan and place."""
    window = batch.window and [batch.window.start.isoformat(), batch.window.end.isoformat()]
    mode = "replace" if batch.full_refresh else "append"
    return content_hash(
        [project, target, batch.model, batch.stage, window, batch.vars, mode, batch.phase, sorted(batch.expect)]
    )


def build(
    batches: list[Batch],
    models: list[PlannedModel],
    *,
    intent: Reason,
    project: str,
    target: str,
    adapter: str,
    to: date,
    request: dict[str, Scalar | list[Scalar]],
    delay_s: float = 0.0,
    dry_run: bool = False,
) -> tuple[Plan, list[Batch]]:
    """Number the batches, give them their ids, and put their plan before them."""
    for seq, batch in enumerate(batches, 1):
        batch.seq, batch.total = seq, len(batches)
        batch.batch_id = batch_identity(project, target, batch)
    what = [intent, project, target, [b.batch_id for b in batches], {m.unique_id: m.checksum for m in models}]
    plan = Plan(
        plan_id=content_hash(what),
        intent=intent,
        project=project,
        target=target,
        adapter=adapter,
        to=to,
        total=len(batches),
        pending=len(batches),
        models=models,
        request=request,
        delay_s=delay_s,
        dry_run=dry_run,
    )
    for batch in batches:
        batch.plan_id = plan.plan_id
    return plan, batches


def place(node: Node) -> dict[str, Any]:
    """Where and how a model is kept, for its PlannedModel."""
    return {"database_name": node.database, "schema_name": node.schema, "materialization": node.materialized}


def without_done(batches: list[Batch], done: Collection[str], strays: Collection[str | None] = ()) -> list[Batch]:
    """The batches still to do, in order. `strays` are models whose tables may hold rows that the plan does not know.

    When the batch that replaces a model's table is still to do, so are all others of that model: it would wipe them
    out. It is to do again where there are strays, since only it gets rid of them.
    """
    begins_anew = {b.model for b in batches if b.full_refresh and (b.batch_id not in done or b.model in strays)}
    return [b for b in batches if b.batch_id not in done or b.model in begins_anew]


def drift(before: Plan, now: Plan) -> list[str]:
    """What moved between a plan and the same request planned again, a line each; empty when nothing did."""
    if before.plan_id == now.plan_id:
        return []
    old = {m.unique_id: m for m in before.models}
    new = {m.unique_id: m for m in now.models}
    lines = [f"{uid}: no longer in the plan" for uid in old if uid not in new]
    lines += [f"{uid}: new in the plan" for uid in new if uid not in old]
    for uid in (uid for uid in new if uid in old):
        lines += [f"{uid}: {change}" for change in _changes(old[uid], new[uid])]
    return lines or ["the order or the vars of the batches changed"]


def _changes(old: PlannedModel, new: PlannedModel) -> Iterable[str]:
    if old.checksum != new.checksum:
        yield "its code or configuration changed"
    if old.stages != new.stages:
        yield f"stages {', '.join(old.stages) or 'none'} became {', '.join(new.stages) or 'none'}"
    if old.batches != new.batches:
        yield f"{old.batches} batches became {new.batches}"
