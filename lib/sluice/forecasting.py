"""What any planner plans, with a forecast: how long it takes, when it ends, and whether that is in time."""

from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sluice import coverage_sources, forecast, planning
from sluice.command import Context
from sluice.coverage import Recorded
from sluice.errors import SluiceError, refused
from sluice.forecast import History, Sources
from sluice.guards import check, facts
from sluice.guards.case import Case
from sluice.ids import timestamp
from sluice.manifest import Node
from sluice.project import Project
from sluice.records import Batch, Forecast, Gate, Plan, Record
from sluice.state import State


@dataclass(frozen=True)
class Asked:
    """`deadline` is HH:MM, UTC; with `trim` what does not fit is left for another time instead of refused."""

    estimate: bool = False
    deadline: str | None = None
    max_seconds: float | None = None
    trim: bool = False

    def budget_s(self, now: datetime) -> float | None:
        """Seconds that there are; None: any number. Raises SluiceError (2) for a deadline that is no time of day."""
        given = [] if self.max_seconds is None else [self.max_seconds]
        if self.deadline is not None:
            try:
                at = datetime.strptime(self.deadline, "%H:%M").time()
            except ValueError:
                raise refused(
                    f"--deadline {self.deadline}: not a time of day", code="forecast_bad_deadline", hint="--deadline 06:00 (UTC)"
                ) from None  # fmt: skip
            until = now.replace(hour=at.hour, minute=at.minute, second=0, microsecond=0)
            given.append((until + timedelta(days=until <= now) - now).total_seconds())
        return min(given, default=None)


def foretold(body: Callable[..., Iterator[Record]], asked: Asked) -> Callable[..., Generator[Record, None, None]]:
    """A planner that yields what `body` does, a forecast behind the plan, and an estimate in each batch.

    Raises SluiceError (2) for a plan that will not end in time, or of which nobody can say.
    """

    def planner(ctx: Context, **flags: Any) -> Generator[Record, None, None]:
        budget_s = asked.budget_s(ctx.now)
        if asked.trim and budget_s is None:
            raise refused(
                "--trim without --deadline or --max-seconds",
                code="forecast_trim",
                hint="say how much time there is: --deadline 06:00",
            )
        records = list(body(ctx, **flags))
        plan = next((record for record in records if isinstance(record, Plan)), None)
        if plan is None:
            yield from records
            return
        batches = [record for record in records if isinstance(record, Batch)]
        estimate(ctx, plan, batches)
        kept = _kept(ctx, plan, batches, budget_s, trim=asked.trim)
        is_cut = False
        for record in records:
            is_cut = is_cut or (len(kept) < len(batches) and record is batches[len(kept)])
            if is_cut and isinstance(record, Batch | Gate):
                continue
            yield record
            if record is plan:
                yield summed(ctx, plan, kept, left_out=len(batches) - len(kept))

    return planner


def _kept(ctx: Context, plan: Plan, batches: list[Batch], budget_s: float | None, *, trim: bool) -> list[Batch]:
    """The batches that end in time. Raises SluiceError (2) where that is not all of them, without `trim`."""
    estimates = [batch.estimate for batch in batches]
    fitting = len(batches) if budget_s is None else forecast.within(estimates, budget_s, delay_s=plan.delay_s)
    if fitting == len(batches):
        return batches
    if trim and fitting and planning.go_on(plan):
        ctx.log.warning(
            "%d of %d batches are left for another time: %s", len(batches) - fitting, len(batches), planning.go_on(plan)
        )
        return batches[:fitting]
    hint = "more time: a later --deadline, more --max-seconds, or neither"
    if fitting and planning.go_on(plan):
        hint = f"--trim to plan the first {fitting} of {len(batches)} batches; or {hint}"
    if trim and fitting:
        hint = f"nothing goes on with a {plan.intent} plan that was left, so it is not trimmed; {hint}"
    unknown = sum(one is None for one in estimates)
    if unknown:
        raise refused(
            f"nobody can say when the plan ends: {unknown} of {len(batches)} batches are like nothing that was ever measured",
            code="forecast_unknown",
            hint=hint,
        )
    needed = forecast.total(estimates, delay_s=plan.delay_s)
    assert needed is not None and budget_s is not None
    raise refused(
        f"the plan may need {forecast.spelled(needed[1])} (median {forecast.spelled(needed[0])}), and there are {forecast.spelled(budget_s)}",
        code="forecast_too_long",
        hint=hint,
    )


def estimate(ctx: Context, plan: Plan, batches: list[Batch]) -> None:
    """Give each batch its estimate, where there is one, and the rows of what it reads, by which this time will be known."""
    history = _history(ctx, plan, batches)
    for batch in batches:
        batch.estimate, batch.source_rows = history.estimate(batch), history.rows(batch)


def summed(ctx: Context, plan: Plan, batches: list[Batch], *, left_out: int = 0) -> Forecast:
    """The forecast of batches that have their estimates."""
    estimates = [batch.estimate for batch in batches]
    found = Forecast(
        plan_id=plan.plan_id,
        batches=len(batches),
        unknown=sum(one is None for one in estimates),
        bases=dict(Counter(one.basis for one in estimates if one is not None)),
        left_out=left_out,
    )
    both = forecast.total(estimates, delay_s=plan.delay_s)
    if both is not None:
        found.p50_s, found.p90_s = round(both[0], 3), round(both[1], 3)
        found.p50_end_at, found.p90_end_at = (timestamp(ctx.now + timedelta(seconds=one)) for one in both)
        if ctx.config.cost_per_hour is not None:
            found.cost = round(both[0] / 3600 * ctx.config.cost_per_hour, 4)
    return found


def _history(ctx: Context, plan: Plan, batches: list[Batch]) -> History:
    """What was measured of this project on this target, and the rows of the sources, as far as they can be counted."""
    state = State.open_existing(ctx.config.state_url, origin=ctx.config.explain("SLUICE_STATE"))
    records = coverage_sources.recorded(state, plan) if state is not None else []
    rows_then = state.source_rows_of(sorted({one.run_id for one in records})) if state is not None else {}
    return History(records, _sources(ctx, plan, batches, records), rows_then)


def _sources(ctx: Context, plan: Plan, batches: list[Batch], records: list[Recorded]) -> Sources:
    """Of the batches and of the models that were measured."""
    measured = {(one.model, one.stage) for one in records if one.window is not None}
    with Project(ctx.config, planning.base_vars(plan)) as project:
        uids = {batch.model for batch in batches if batch.model} | {model for model, _ in measured}
        case = Case(
            manifest=project.manifest, adapter=plan.adapter, intent=plan.intent, batches=batches, to=plan.to,
            today=ctx.now.date(), blocks=check.blocks(project.manifest, uids),
        )  # fmt: skip
        stages = {(batch.model or "", batch.stage) for batch in batches if batch.window} | measured
        nodes = project.manifest.nodes
        views = {
            uid for uid in {one.model for one in records} | uids if uid in nodes and nodes[uid].materialized == "view"
        }
        rebuilt = {batch.model for batch in batches if batch.model and _reads_all(nodes[batch.model], batch)} - views
        try:
            with project.connect("forecast") as warehouse:
                by_month = facts.source_months(case, warehouse, sorted(stages))
                return Sources(by_month, facts.rows_of_parents(case, warehouse, sorted(rebuilt)), views)
        except SluiceError as problem:
            ctx.log.info("the rows of the sources could not be counted: %s", problem.message)
            return Sources(views=views)


def _reads_all(node: Node, batch: Batch) -> bool:
    """Whether it is built as a whole, from all that its sources hold."""
    return batch.window is None and (batch.full_refresh or node.materialized == "table")
