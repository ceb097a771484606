"""What ran before, as the decision of the daily refresh wants it: the last run of the same job, and the failure it belongs to."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from sluice import planning
from sluice.restart import Outcome, PastRun
from sluice.state import Run, State
from sluice.warehouse import Warehouse

History = Literal["state", "warehouse", "both"]


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


def with_dbt_run(past: Past, run: PastRun | None, history: History) -> Past:
    """`past` with the last run of dbt that Sluice did not start, and Sluice's retries of it; `both`: whichever is later.

    Those retries are known from the state store whatever `history` says: the hooks of dbt do not write them.
    """
    if run is None:
        return past if history == "both" else replace(past, failure=[])
    retries = [each for each in past.failure if each.retry_of == run.run_id]
    later = not past.failure or retries or past.failure[-1].began_at < run.began_at
    return replace(past, failure=[run, *retries]) if later or history == "warehouse" else past


def last_dbt_run(
    warehouse: Warehouse, schema: str, project: str, uids: Collection[str], parents: Mapping[str, list[str]]
) -> PastRun | None:
    """The last run in the warehouse's own log, which dbt's hooks write, that was to build all of these models.

    A model whose test failed counts as failed. None when there is no such run, or no log. Raises WarehouseError.
    """
    at = warehouse.credentials
    there = "SELECT count(*) FROM information_schema.tables WHERE table_schema = $schema AND table_name = 'run_log'"
    if not warehouse.value(there, {"schema": schema}):
        return None
    runs = warehouse.rows(
        f"""SELECT run_id, run_started_at, run_status, vars FROM {warehouse.relation(at.database, schema, "run_log")}
            WHERE intent = 'dbt' AND project_name = $project AND environment = $target
            ORDER BY run_started_at DESC LIMIT 50""",
        {"project": project, "target": at.target},
    )
    for run_id, began_at, status, variables in runs:
        nodes = warehouse.rows(
            f"""SELECT unique_id, status, message FROM {warehouse.relation(at.database, schema, "model_log")}
                WHERE run_id = $run""",
            {"run": run_id},
        )
        found = {uid: Outcome(_WORDS.get(word, "failed"), message) for uid, word, message in nodes}
        if not set(uids) <= found.keys():
            continue
        found = blame(found, parents)
        began = began_at if began_at.tzinfo else began_at.replace(tzinfo=UTC)
        outcomes = {uid: found[uid] for uid in uids}
        given = msgspec.json.decode(variables or "{}")
        return PastRun(run_id, began, status, None, given, dict.fromkeys(uids), outcomes)
    return None


def blame(outcomes: Mapping[str, Outcome], parents: Mapping[str, list[str]]) -> dict[str, Outcome]:
    """The outcomes, with a model whose test failed as a failed one."""
    blamed = dict(outcomes)
    for uid, outcome in outcomes.items():
        if outcome.status == "failed" and uid.startswith(("test.", "unit_test.")):
            failed = Outcome("failed", f"{uid.split('.')[2]} failed")
            blamed |= {up: failed for up in parents.get(uid, ()) if up in outcomes and outcomes[up].status == "ok"}
    return blamed


_WORDS = {"SUCCESS": "ok", "SKIPPED": "skipped"}


def _scope(run: Run) -> dict[str, Any]:
    asked = run.plan.request
    return {name: asked.get(name) or [] for name in ("select", "exclude", "components", "ids")}


def _past(state: State, run: Run) -> PastRun:
    return PastRun(
        run_id=run.run_id,
        began_at=datetime.fromisoformat(run.run_started_at),
        status=run.run_status,
        retry_of=run.plan.retry_of,
        vars=planning.base_vars(run.plan),
        checksums={model.unique_id: model.checksum for model in run.plan.models},
        outcomes={row["model_name"]: Outcome(row["status"], row["message"]) for row in state.batches(run.root_run_id)},
    )
