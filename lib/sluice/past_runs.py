"""What ran before, as the decision of the daily refresh wants it: the last run of the same job, and the failure it belongs to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from sluice.restart import Outcome, PastRun
from sluice.state import Run, State


@dataclass(frozen=True)
class Past:
    """`failure` is the last run and, when it was a retry, all runs of that failure, oldest first; empty: none is known.

    `seconds` are the last measured durations of models; `at_work` is the last run while a process is at it.
    """

    state: State | None = None
    failure: list[PastRun] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    at_work: Run | None = None


def read(state: State, project: str, target: str, scope: Mapping[str, Any]) -> Past:
    """What the state store knows of the daily job with this scope. A run that a person discarded is none."""
    runs = state.daily_runs(project, target)
    seconds = state.seconds([run.run_id for run in runs])
    same = [run for run in runs if _scope(run) == scope]
    if not same or same[0].is_discarded:
        return Past(state, seconds=seconds)
    last = same[0]
    first = last.plan.retry_of or last.run_id
    failure = [run for run in reversed(same) if first in (run.run_id, run.plan.retry_of)]
    return Past(state, [_past(state, run) for run in failure], seconds, last if state.is_alive(last) else None)


def _scope(run: Run) -> dict[str, Any]:
    asked = run.plan.request
    return {name: asked.get(name) or [] for name in ("select", "exclude", "components")}


def _past(state: State, run: Run) -> PastRun:
    return PastRun(
        run_id=run.run_id,
        began_at=datetime.fromisoformat(run.run_started_at),
        status=run.run_status,
        vars=msgspec.json.decode(str(run.plan.request.get("vars") or "{}")),
        checksums={model.unique_id: model.checksum for model in run.plan.models},
        outcomes={row["model_name"]: Outcome(row["status"], row["message"]) for row in state.batches(run.root_run_id)},
    )
