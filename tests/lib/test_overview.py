"""The overview: pace and time left of a run at work, what was left, the last of each job, what is stale; and its screen."""

import io
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from builders import ORDERS, a_batch, a_plan, a_result, months_of
from rich.console import Console
from test_guards import Project as Models

from sluice import overview
from sluice.config import Config
from sluice.ids import timestamp
from sluice.overview_screen import drawn
from sluice.records import Node, Overview, RunState, StaleModel
from sluice.state import State


@pytest.fixture
def state(own_settings: Config) -> State:
    return State.open(own_settings.state_url)


def ran(
    state: State, run_id: str, status: Any, *, intent: Any = "daily", project: str = "shop", checksum: str = "c"
) -> None:
    """A run of one batch of ORDERS that ended so."""
    plan, batches = a_plan([a_batch()], run_id=run_id, intent=intent, project=project, checksum=checksum)
    state.begin_run(plan, run_id)
    state.intend(run_id, run_id, batches[0])
    node = Node(unique_id=ORDERS, status="ok" if status == "SUCCESS" else "failed", duration_s=0.1)
    state.record(run_id, batches[0], a_result(batches[0], node.status, run_id=run_id, attempt=1, nodes=[node]), project)
    state.end_run(plan, run_id, status, models_run=1, models_failed=0)


def now_of(state: State, run_id: str, *, after_s: float) -> datetime:
    return datetime.fromisoformat(state.run(run_id).run_started_at) + timedelta(seconds=after_s)


def test_the_pace_of_a_run_at_work_and_the_time_that_is_left(state: State) -> None:
    plan, batches = a_plan(months_of(months=10))
    lock = state.store.lock("run-1")
    lock.acquire()
    state.begin_run(plan, "run-1")
    for number, batch in enumerate(batches[:4]):
        attempt = state.intend("run-1", "run-1", batch)
        state.record("run-1", batch, a_result(batch, "failed" if number == 2 else "ok", attempt=attempt), "shop")
    state.intend("run-1", "run-1", batches[4])
    (run,) = overview.overview(state, [], stale_unknown=None, now=now_of(state, "run-1", after_s=20)).at_work
    assert (run.done, run.total, run.failed, run.now) == (3, 10, 1, ["orders 2024-05"])
    assert (run.batches_per_s, run.left_s) == (4 / 20, (10 - 4) * 20 / 4)
    lock.release()
    found = overview.overview(state, [], stale_unknown=None, now=now_of(state, "run-1", after_s=20))
    assert (found.at_work, [run.resume for run in found.pending]) == ([], ["plan-batches --resume | run-dbt-batch"])


def test_the_last_run_of_each_job_and_a_retry_is_the_daily_jobs(state: State) -> None:
    ran(state, "run-1", "FAILED")
    ran(state, "run-2", "SUCCESS", intent="retry")
    ran(state, "run-3", "SUCCESS", intent="refill")
    ran(state, "run-4", "FAILED", project="other")
    found = overview.overview(state, [], stale_unknown=None, now=datetime.now(UTC))
    assert [run.run_id for run in found.last] == ["run-4", "run-3", "run-2"]
    assert found.last_success_at == state.run("run-3").run_ended_at


def test_what_is_stale_by_code_or_by_age(state: State, tmp_path: Any) -> None:
    manifest = Models(tmp_path, {"orders": {}}).manifest
    project = SimpleNamespace(manifest=manifest, info=SimpleNamespace(project_name="shop", target="dev"))
    ran(state, "run-1", "SUCCESS", checksum=manifest.code_checksum(ORDERS)[:16])

    def stale(after: timedelta) -> list[tuple[str, str]]:
        now = datetime.now(UTC) + after
        return [
            (one.unique_id, one.why) for one in overview.stale_models(state, project, now=now, max_age=timedelta(2))
        ]  # type: ignore[arg-type]

    assert stale(timedelta(0)) == []
    assert stale(timedelta(3)) == [(ORDERS, "age")]
    project.manifest = Models(tmp_path, {"orders": {"sql": "select 2"}}).manifest
    assert stale(timedelta(3)) == [(ORDERS, "code")]


def shown(found: Overview, now: datetime) -> str:
    out = io.StringIO()
    Console(file=out, width=110, no_color=True).print(drawn(found, now=now))
    return out.getvalue()


def test_the_screen_has_a_word_for_everything() -> None:
    now = datetime(2024, 5, 4, 12, tzinfo=UTC)
    run = RunState(
        run_id="run-1", intent="full_refresh", project="[bold]shop", target="dev", run_status="RUNNING", is_alive=True,
        is_discarded=False, attempt=1, began_at=timestamp(now), ended_at=None, duration_s=None, done=3, total=10, models=[],
        failed=1, now=["orders 2024-05"], batches_per_s=0.2, left_s=95.0,
    )  # fmt: skip
    ended = {"run_status": "FAILED", "ended_at": timestamp(now - timedelta(hours=6)), "duration_s": 3700.0}
    stale = [
        StaleModel(unique_id=f"model.shop.m{n}", why="age" if n else "code", last_at=timestamp(now - timedelta(3)))
        for n in range(12)
    ]
    last = RunState(**{name: getattr(run, name) for name in run.__struct_fields__} | ended)
    screen = shown(Overview(at_work=[run], last=[last], stale=stale), now)
    for words in (
        "3/10  1 failed  12.0/min  01:35 left", "now: orders 2024-05", "full refresh of [bold]shop on dev", "1:01:40  6 h ago",
        "sluice-state show run-1", "m0: its code changed", "m1: last built 3 d ago", "and 2 more", "left unfinished\n  nothing",
    ):  # fmt: skip
        assert words in screen, screen
    empty = shown(Overview(stale_unknown="not known: no project"), now)
    assert "at work\n  nothing" in empty
    assert "not known: no project" in empty
