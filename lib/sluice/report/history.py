"""Run history: how long each run took, how it ended, and what retries saved."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from sluice.state import Run


@dataclass(frozen=True)
class Point:
    """One run. `saved_s` are the measured seconds of the models that a retry did not run again. `attempt` counts from 1."""

    run_id: str
    began_at: str
    duration_s: float | None
    status: str
    intent: str
    attempt: int
    models: tuple[str, ...]
    models_run: int | None
    models_failed: int | None
    saved_s: float = 0.0
    is_retry: bool = False
    decision: str | None = None


@dataclass(frozen=True)
class History:
    """Oldest first. `left_out` runs before these are not shown; the sums are of the runs that are."""

    points: list[Point] = field(default_factory=list)
    retries: int = 0
    saved_s: float = 0.0
    left_out: int = 0


def history(runs: Iterable[Run], *, most: int) -> History:
    """The last `most` of the runs, which may come in any order."""
    every = sorted(runs, key=lambda run: (run.run_started_at, run.run_id))
    points = [_point(run) for run in every[-most:]]
    retries = [point for point in points if point.is_retry]
    return History(points, len(retries), round(sum(point.saved_s for point in retries), 3), len(every) - len(points))


def _point(run: Run) -> Point:
    return Point(
        run_id=run.run_id, began_at=run.run_started_at, duration_s=run.run_duration_seconds, status=run.run_status,
        intent=run.plan.intent, attempt=run.attempt, models=tuple(model.unique_id for model in run.plan.models),
        models_run=run.models_run, models_failed=run.models_failed, saved_s=run.plan.saved_s or 0.0,
        is_retry=run.plan.retry_of is not None, decision=run.plan.decision,
    )  # fmt: skip
