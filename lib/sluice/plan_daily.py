"""The daily refresh: every model once, incrementally, in dependency order."""

from collections.abc import Generator

import msgspec

from sluice import planning
from sluice.command import Context
from sluice.guards import check as guards
from sluice.project import Project
from sluice.records import Batch, PlannedModel, Record
from sluice.state import State


def plan_daily(
    ctx: Context, *, select: list[str], exclude: list[str], vars: str, allow: list[str]
) -> Generator[Record, None, None]:
    """Yield the plan and a batch for each model.

    Raises SluiceError: 2 for a bad selection and for models that a full refresh left half done; 78 when dbt cannot
    load the project.
    """
    variables = msgspec.json.decode(vars)
    with Project(ctx.config, variables) as project:
        uids = project.select(select, exclude, None)
    manifest, info = project.manifest, project.info
    chosen = set(uids)
    batches = [
        Batch(
            batch_id="", plan_id="", seq=0, total=0, reason="daily", model=uid, select=[manifest.nodes[uid].name],
            expect=[uid], vars=variables, depends_on=sorted(chosen & manifest.ancestors(uid)),
        )
        for uid in uids
    ]  # fmt: skip
    models = [
        PlannedModel(unique_id=uid, mode="whole", batches=1, stages=[], checksum=manifest.code_checksum(uid)[:16])
        for uid in uids
    ]
    plan, batches = planning.build(
        batches,
        models,
        intent="daily",
        project=info.project_name,
        target=info.target,
        adapter=info.adapter,
        to=ctx.now.date(),
        request={"select": list(select), "exclude": list(exclude), "vars": vars, "allow": list(allow)},
        dry_run=ctx.dry_run,
    )
    guards.check(project, plan, batches, today=ctx.now.date(), base_vars=variables, allow=allow)
    state = State.open_existing(ctx.config.state_url, origin=ctx.config.explain("SLUICE_STATE"))
    if state is not None:
        state.refuse_overlap(plan)
    yield plan
    yield from batches
