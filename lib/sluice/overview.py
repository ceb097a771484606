"""The present, from the state store and the project: what is at work and how fast, what was left, how it went last, what is stale."""

from datetime import UTC, datetime, timedelta

from sluice.guards.health import stale_code
from sluice.ids import timestamp
from sluice.planning import go_on
from sluice.project import Project
from sluice.records import Overview, RunState, StaleModel
from sluice.state import BLOCKING_INTENTS, Run, State

LATEST_RUNS = 50  # among them the last of each job is looked for


def overview(
    state: State,
    stale: list[StaleModel],
    *,
    stale_unknown: str | None,
    now: datetime,
    coverage: dict[str, int] | None = None,
) -> Overview:
    """The record for one screen. Raises SluiceError when the store cannot be read."""
    runs = state.runs(limit=LATEST_RUNS)
    alive = [run for run in runs if state.is_alive(run)]
    return Overview(
        at_work=[at_work(state, run, now) for run in alive],
        pending=[
            run_state(state, run) for run in state.unfinished() if run.run_id not in {one.run_id for one in alive}
        ],
        last=[run_state(state, run) for run in _last(runs)],
        last_success_at=state.last_success(),
        stale=stale,
        stale_unknown=stale_unknown,
        coverage=coverage or {},
    )


def run_state(state: State, run: Run) -> RunState:
    """A run, and the command that goes on with it."""
    alive = state.is_alive(run)
    ended_well = ("SUCCESS", "CANCELLED") if run.plan.publication and run.plan.publication.undone else ("SUCCESS",)
    unfinished = (
        run.plan.intent in BLOCKING_INTENTS
        and run.run_status not in ended_well
        and not run.is_discarded
        and not alive
        and state.is_latest(run)  # else a later one went on with it
    )
    return RunState(
        run_id=run.run_id,
        at=timestamp(),
        intent=run.plan.intent,
        project=run.plan.project,
        target=run.plan.target,
        run_status=run.run_status,
        is_alive=alive,
        is_discarded=run.is_discarded,
        attempt=run.attempt,
        began_at=run.run_started_at,
        ended_at=run.run_ended_at,
        duration_s=run.run_duration_seconds,
        done=state.done_count(run.root_run_id),
        total=run.plan.total,
        models=[model.unique_id for model in run.plan.models],
        resume=go_on(run.plan) if unfinished else None,
    )


def at_work(state: State, run: Run, now: datetime) -> RunState:
    """A run at work: its batches that failed and that run now, and how long the rest takes at the pace so far."""
    found = run_state(state, run)
    own = [row for row in state.batches(run.root_run_id) if row["run_id"] == run.run_id]
    ended = sum(row["status"] in ("ok", "failed") for row in own)
    elapsed_s = (now - datetime.fromisoformat(run.run_started_at)).total_seconds()
    found.failed = sum(row["status"] == "failed" for row in own)
    found.now = [_spelled(row) for row in own if row["status"] == "unknown"]
    if ended and elapsed_s > 0:
        left = max(0, found.total - found.done - found.failed)
        found.batches_per_s = round(ended / elapsed_s, 4)
        found.left_s = round(left * elapsed_s / ended, 1)
    return found


def stale_models(state: State, project: Project, *, now: datetime, max_age: timedelta) -> list[StaleModel]:
    """The models whose code changed since their rows were made, then those that did not succeed for `max_age`.

    Only models that were ever built here: of others nothing is known.
    """
    manifest, info = project.manifest, project.info
    built = {uid: one for uid, one in state.built(info.project_name, info.target).items() if uid in manifest.nodes}
    changed = stale_code(manifest, {uid: one.checksum for uid, one in built.items()})
    oldest = timestamp(now.astimezone(UTC) - max_age)
    old = sorted(uid for uid, one in built.items() if one.last_at < oldest and uid not in changed)
    return [
        *(StaleModel(unique_id=uid, why="code", last_at=built[uid].last_at) for uid in changed),
        *(StaleModel(unique_id=uid, why="age", last_at=built[uid].last_at) for uid in old),
    ]


def _last(runs: list[Run]) -> list[Run]:
    """The newest run of each job that is over; a retry is the daily job's."""
    found: dict[tuple[str, str, str], Run] = {}
    for run in runs:
        intent = "daily" if run.plan.intent == "retry" else run.plan.intent
        if run.run_status != "RUNNING":
            found.setdefault((run.plan.project, run.plan.target, intent), run)
    return list(found.values())


def _spelled(row: dict) -> str:
    """`orders usdc 2024-01`"""
    name = (row["model_name"] or "selection").rsplit(".", 1)[-1]
    stage = f" {row['stage']}" if row["stage"] != "default" else ""
    return name + stage + (f" {str(row['window_start'])[:7]}" if row["window_start"] else "")
