"""The state store: what is acknowledged is kept, what is claimed is one's own, and nobody is judged dead who lives.

`url` has a parameter for each dialect; the second half is about the file that SQLite keeps.
"""

import json
import multiprocessing
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import stamina
from builders import ORDERS, TOTALS, a_batch, a_plan, a_result, months_of, window

from sluice.errors import BUSY, CONFIG, REFUSED, UNAVAILABLE, SluiceError
from sluice.records import Batch, Fit, Node, Part, Plan
from sluice.state import Attempted, State
from sluice.state import sqlite as sqlite_store
from sluice.state.postgres import AdvisoryLock, Postgres
from sluice.state.server import explained
from sluice.state.store import SCHEMA_VERSION

pytest_plugins = ["servers"]
fork = multiprocessing.get_context("fork")


@pytest.fixture(params=["sqlite", "postgres", "clickhouse"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:{tmp_path / 'state' / 'state.sqlite'}"
    elif request.param == "clickhouse":
        server, database = request.getfixturevalue("clickhouse"), f"s_{uuid.uuid4().hex[:12]}"
        yield f"clickhouse://refresh:s3cret-password@127.0.0.1:{server.http_port}/{database}"
        server.query(f"DROP DATABASE IF EXISTS {database} SYNC")
    else:
        server, schema = request.getfixturevalue("postgres"), f"s_{uuid.uuid4().hex[:12]}"
        yield f"postgresql://test:unasked@127.0.0.1:{server.port}/postgres?sslmode=disable&schema={schema}"
        server.query(f"drop schema if exists {schema} cascade")


@pytest.fixture
def state(url: str) -> Iterator[State]:
    opened = State.open(url)
    yield opened
    opened.close()


def begun(state: State, plan: Plan) -> str:
    """The root of a run that has begun, and whose process is gone unless a lock says otherwise."""
    root = plan.root_run_id or plan.run_id
    state.begin_run(plan, root)
    return root


def done(state: State, root: str, batch: Batch, status: str = "ok", *, run_id: str = "run-1") -> int:
    attempt = state.intend(run_id, root, batch)
    state.record(root, batch, a_result(batch, status, run_id=run_id, attempt=attempt), "shop")
    return attempt


def refusal(exit_code: int, act: Callable[[], object]) -> SluiceError:
    with pytest.raises(SluiceError) as caught:
        act()
    assert caught.value.exit_code == exit_code
    return caught.value


# -- what was built, and when -----------------------------------------------------------------------------------


def built_by(state: State, run_id: str, checksum: str, **batch: Any) -> None:
    """A run of one batch of ORDERS, an incremental model, that went well."""
    plan, batches = a_plan([a_batch(ORDERS, **batch)], run_id=run_id, checksum=checksum)
    plan.models[0].materialization = "incremental"
    root = begun(state, plan)
    attempt = state.intend(run_id, root, batches[0])
    node = Node(unique_id=ORDERS, status="ok", duration_s=0.1)
    state.record(root, batches[0], a_result(batches[0], run_id=run_id, attempt=attempt, nodes=[node]), "shop")
    state.end_run(plan, root, "SUCCESS", models_run=1, models_failed=0)


def test_rows_are_of_the_code_that_last_made_the_table_anew(state: State) -> None:
    assert state.built("shop", "dev") == {}
    built_by(state, "run-1", "first")
    assert state.built("shop", "dev")[ORDERS].checksum == "first"
    built_by(state, "run-2", "anew", full_refresh=True)
    earlier = state.built("shop", "dev")[ORDERS].last_at
    built_by(state, "run-3", "added")
    found = state.built("shop", "dev")[ORDERS]
    assert found.checksum == "anew"
    assert found.last_at >= earlier
    assert state.built("shop", "prod") == state.built("other", "dev") == {}


def test_the_last_success_is_that_of_any_run_and_no_failures(state: State) -> None:
    assert state.last_success() is None
    plan, _ = a_plan(run_id="run-9")
    root = begun(state, plan)
    state.end_run(plan, root, "FAILED", models_run=1, models_failed=1)
    assert state.last_success() is None
    built_by(state, "run-1", "x")
    assert state.last_success() == state.run("run-1").run_ended_at


def test_each_job_has_its_last_run_and_its_last_success(state: State) -> None:
    assert state.jobs() == []
    built_by(state, "run-1", "x", full_refresh=True)
    plan, batches = a_plan([a_batch(TOTALS)], run_id="run-2")
    root = begun(state, plan)
    done(state, root, batches[0], "failed", run_id="run-2")
    state.end_run(plan, root, "FAILED", models_run=1, models_failed=1)
    retry, _ = a_plan([a_batch(TOTALS)], run_id="run-3", intent="retry")
    state.end_run(retry, begun(state, retry), "CANCELLED", models_run=0, models_failed=0)
    daily, full = state.jobs()
    assert (daily.intent, daily.run_status, daily.last_success_at, daily.batches, daily.rows) == (
        "daily", "CANCELLED", None, {}, None,
    )  # fmt: skip
    assert (full.project, full.target, full.intent, full.run_id, full.run_status) == (
        "shop", "dev", "full_refresh", "run-2", "FAILED",
    )  # fmt: skip
    assert (full.last_success_at, full.batches, full.rows) == (state.run("run-1").run_ended_at, {"failed": 1}, None)
    assert full.duration_s == state.run("run-2").run_duration_seconds


def test_what_is_done_can_be_counted(state: State) -> None:
    plan, batches = a_plan()
    root = begun(state, plan)
    done(state, root, batches[0])
    done(state, root, batches[1], "failed")
    assert state.done_count(root) == len(state.done(root)) == 1


def test_who_has_claimed_models_is_told(url: str, state: State) -> None:
    plan, _ = a_plan(models=[ORDERS, TOTALS])
    lock = state.store.lock("run-1")
    state.claim(plan, lock)
    other = State.open(url)
    (held,) = other.store.claimed()
    assert (held.run_id, held.pid, held.is_alive, sorted(held.models)) == ("run-1", os.getpid(), True, [ORDERS, TOTALS])
    state.release(plan)
    lock.release()
    assert other.store.claimed() == []
    other.close()


# -- runs -----------------------------------------------------------------------------------------------------


def test_batches_attempts_and_waves_of_runs_are_told(state: State) -> None:
    plan, batches = a_plan()
    begun(state, plan)
    for batch, statuses in zip(batches, (["failed", "ok"], ["ok"], []), strict=True):
        for status in statuses:
            attempt = state.intend("run-1", "run-1", batch)
            rows = 40 if status == "ok" and batch.seq == 1 else None
            result = a_result(batch, status, attempt=attempt, wave=batch.seq, source_rows=rows)
            state.record("run-1", batch, result, "shop")
    state.intend("run-1", "run-1", batches[2])
    assert [(row["event"], row["batch_seq"], row["attempt"], row["status"]) for row in state.attempts_of(["run-1"])] == [
        ("intent", 1, 1, None), ("outcome", 1, 1, "failed"), ("intent", 1, 2, None), ("outcome", 1, 2, "ok"),
        ("intent", 2, 1, None), ("outcome", 2, 1, "ok"), ("intent", 3, 1, None),
    ]  # fmt: skip
    assert sorted((row["batch_seq"], row["status"]) for row in state.batches_of(["none", "run-1"])) == [
        (1, "ok"), (2, "ok"), (3, "unknown"),
    ]  # fmt: skip
    assert state.waves_of(["run-1"]) == {("run-1", batches[0].batch_id): 1, ("run-1", batches[1].batch_id): 2}
    assert state.source_rows_of(["run-1"]) == {("run-1", batches[0].batch_id): 40}
    assert state.batches_of([]) == state.attempts_of(["none"]) == []
    assert state.source_rows_of(["none"]) == {}


def test_a_run_is_remembered_from_its_beginning_to_its_end(state: State) -> None:
    plan, _ = a_plan(delay_s=1.5)
    root = begun(state, plan)
    (run,) = state.runs()
    assert (run.run_id, run.root_run_id, run.run_status, run.attempt, run.is_discarded) == (
        "run-1",
        root,
        "RUNNING",
        1,
        False,
    )
    assert run.plan == plan
    assert (run.pid, run.run_ended_at, run.models_run) == (os.getpid(), None, None)

    state.end_run(plan, root, "FAILED", models_run=2, models_failed=1, message="x")
    (run,) = state.runs()
    assert (run.run_status, run.models_run, run.models_failed) == ("FAILED", 2, 1)
    assert run.run_ended_at >= run.run_started_at
    assert 0 <= run.run_duration_seconds < 60


def test_a_run_that_is_begun_again_runs_again(state: State) -> None:
    plan, _ = a_plan()
    root = begun(state, plan)
    state.end_run(plan, root, "FAILED", models_run=1, models_failed=1)
    begun(state, plan)
    (run,) = state.runs()
    assert (run.run_status, run.run_ended_at, run.models_run) == ("RUNNING", None, None)


def test_runs_are_listed_newest_first(state: State) -> None:
    for run_id in ("run-1", "run-2", "run-3"):
        begun(state, a_plan(run_id=run_id, root_run_id="run-1" if run_id == "run-2" else None)[0])
        time.sleep(0.002)
    assert [run.run_id for run in state.runs()] == ["run-3", "run-2", "run-1"]
    assert [run.run_id for run in state.runs(limit=1)] == ["run-3"]
    assert [run.run_id for run in state.runs(root_run_id="run-1")] == ["run-2", "run-1"]


def test_a_run_is_found_by_either_end_of_its_id(state: State) -> None:
    for run_id in ("0190-aaa-111", "0190-bbb-222"):
        begun(state, a_plan(run_id=run_id)[0])
    assert state.run("0190-a").run_id == "0190-aaa-111"
    assert state.run("222").run_id == "0190-bbb-222"
    assert "several runs match" in refusal(REFUSED, lambda: state.run("0190")).message
    for unknown in ("zzz", "", "%", "0190%222", "0190_"):
        assert "no run matches" in refusal(REFUSED, lambda name=unknown: state.run(name)).message


def test_a_plan_is_unfinished_until_a_run_of_it_succeeds(state: State) -> None:
    first = a_plan()[0]
    root = begun(state, first)
    assert [run.run_id for run in state.unfinished()] == ["run-1"]
    state.end_run(first, root, "CANCELLED", models_run=1, models_failed=0)
    assert [run.run_id for run in state.unfinished()] == ["run-1"]
    second = a_plan(run_id="run-2", root_run_id="run-1", attempt=2)[0]
    begun(state, second)
    assert [run.run_id for run in state.unfinished()] == ["run-2"]
    state.end_run(second, root, "SUCCESS", models_run=1, models_failed=0)
    assert state.unfinished() == []


def test_the_latest_run_of_a_plan_is_the_one_that_nothing_has_gone_on_with(state: State) -> None:
    begun(state, a_plan()[0])
    assert state.is_latest(state.run("run-1"))
    begun(state, a_plan(run_id="run-2", root_run_id="run-1", attempt=2)[0])
    assert [state.is_latest(state.run(run_id)) for run_id in ("run-1", "run-2")] == [False, True]


def test_a_record_that_is_not_what_was_written_is_said_to_be_damaged(state: State) -> None:
    plan, batches = a_plan()
    root = begun(state, plan)
    done(state, root, batches[0])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(state.store, "rows", lambda *_: [(batches[0].batch_id, '{"type":"batch_')])
        assert refusal(UNAVAILABLE, lambda: state.done(root)).code == "state_damaged"


def test_a_statement_that_fails_is_said_to_be_the_stores(state: State) -> None:
    """A file that does not know our own tables was changed by somebody; a server may be only halfway through something."""
    expected = "state_damaged" if isinstance(state.store, sqlite_store.SQLite) else "state_unusable"
    for statement in (
        lambda: state.store.rows("SELECT x FROM no_such_table"),
        lambda: state.store.execute("DROP TABLE no_such_table"),
        lambda: state.store.insert("no_such_table", [{"x": 1}]),
    ):
        said = refusal(UNAVAILABLE, statement)
        assert (said.code, "no_such_table" in said.message) == (expected, True)


def test_a_daily_run_may_be_left_unfinished(state: State) -> None:
    begun(state, a_plan(intent="daily")[0])
    assert state.unfinished() == []


def test_a_discarded_plan_is_neither_unfinished_nor_forgotten(state: State) -> None:
    plan, batches = a_plan()
    root = begun(state, plan)
    done(state, root, batches[0])
    state.discard(state.run("run-1"))
    assert state.unfinished() == []
    assert [(run.run_id, run.is_discarded) for run in state.runs()] == [("run-1", True)]
    assert list(state.done(root)) == [batches[0].batch_id]
    lock = state.store.lock("run-2")
    again = a_plan(run_id="run-2", root_run_id="run-1")[0]
    assert "was discarded" in refusal(REFUSED, lambda: state.claim(again, lock)).message
    lock.release()


def test_a_plan_is_gone_on_with_run_after_run(state: State) -> None:
    for run_id in ("run-1", "run-2"):
        plan = a_plan(run_id=run_id, root_run_id="run-1")[0]
        state.end_run(plan, begun(state, plan), "FAILED", models_run=0, models_failed=0)
    lock = state.store.lock("run-3")
    assert state.claim(a_plan(run_id="run-3", root_run_id="run-1")[0], lock) == "run-1"
    lock.release()


def test_a_run_at_work_is_not_discarded(state: State) -> None:
    plan = a_plan()[0]
    lock = state.store.lock(plan.run_id)
    state.claim(plan, lock)
    begun(state, plan)
    assert state.is_alive(state.run("run-1"))
    assert "run-1 is at work" in refusal(BUSY, lambda: state.discard(state.run("run-1"))).message
    lock.release()
    assert not state.is_alive(state.run("run-1"))
    state.discard(state.run("run-1"))


# -- batches --------------------------------------------------------------------------------------------------


def test_attempts_are_counted_over_all_runs_of_a_plan(state: State) -> None:
    plan, batches = a_plan()
    root = begun(state, plan)
    assert [state.intend(run_id, root, batches[1]) for run_id in ("run-1", "run-1", "run-2")] == [1, 2, 3]
    assert state.intend("run-2", root, batches[2]) == 1
    assert state.intend("run-9", "run-9", batches[1]) == 1


def test_an_intent_without_an_outcome_is_unknown(state: State) -> None:
    plan, batches = a_plan()
    root = begun(state, plan)
    state.intend("run-1", root, batches[0])
    assert state.done(root) == {}
    assert state.attempted(root) == {batches[0].batch_id: Attempted(ORDERS, None, 1)}
    (row,) = state.batches(root)
    assert (row["status"], row["attempt"], row["batch_seq"], row["window_start"]) == ("unknown", 1, 1, "2024-01-01")


def test_what_is_done_comes_back_as_it_was(state: State) -> None:
    plan, batches = a_plan()
    root = begun(state, plan)
    node = Node(unique_id=ORDERS, status="ok", duration_s=0.5, rows=7)
    attempt = state.intend("run-1", root, batches[0])
    result = a_result(batches[0], attempt=attempt, nodes=[node], duration_s=0.25)
    state.record(root, batches[0], result, "shop")
    assert state.done(root) == {batches[0].batch_id: result}
    assert state.done("another root") == {}
    nodes = "SELECT project_name, model_name, unique_id, status, rows_affected FROM model_log"
    assert state.store.rows(nodes) == [("shop", "orders", ORDERS, "SUCCESS", 7)]


def test_the_last_outcome_counts(state: State) -> None:
    plan, batches = a_plan(months_of(replace=False))
    root = begun(state, plan)
    for status in ("failed", "cancelled"):
        done(state, root, batches[0], status)
        assert state.attempted(root)[batches[0].batch_id] == Attempted(ORDERS, status, 1)
    done(state, root, batches[0])
    assert state.done(root).keys() == {batches[0].batch_id}
    assert [(row["status"], row["attempt"]) for row in state.batches(root)] == [("ok", 3)]


def test_a_skipped_batch_was_not_attempted(state: State) -> None:
    plan, batches = a_plan()
    root = begun(state, plan)
    state.record(root, batches[1], a_result(batches[1], "skipped"), "shop")
    assert state.attempted(root) == {}
    state.intend("run-1", root, batches[2])  # killed here, and skipped when the plan was resumed
    state.record(root, batches[2], a_result(batches[2], "skipped"), "shop")
    assert state.attempted(root) == {batches[2].batch_id: Attempted(ORDERS, None, 1)}


def test_replacing_a_table_undoes_what_was_done_in_it(state: State) -> None:
    plan, batches = a_plan(months_of() + months_of(TOTALS))
    root = begun(state, plan)
    for batch in batches:
        done(state, root, batch)
    assert len(state.done(root)) == 6

    state.intend("run-2", root, batches[0])  # from here on nobody can say what is in the table of orders
    assert state.done(root).keys() == {batch.batch_id for batch in batches[3:]}
    assert state.attempted(root)[batches[0].batch_id] == Attempted(ORDERS, None, 2)
    assert batches[1].batch_id not in state.attempted(root)

    done(state, root, batches[0], run_id="run-2")
    assert done(state, root, batches[1], "failed", run_id="run-2") == 2
    assert state.attempted(root)[batches[1].batch_id] == Attempted(ORDERS, "failed", 2)
    assert state.done(root).keys() == {batch.batch_id for batch in (batches[0], *batches[3:])}


def test_what_was_cut_into_parts_is_remembered_and_says_which_sizes_fit(state: State) -> None:
    plan, batches = a_plan([*months_of(), *months_of(TOTALS, months=1)])
    root = begun(state, plan)
    first, second, _, whole = batches
    week = window("2024-01-01", "2024-01-08")
    part = Part(batch_id="part", window=week, vars={"start_date": "2024-01-01", "end_date": "2024-01-07"})
    cut = a_result(first, "failed", parts=[part], error="too big", attempt=1)
    for batch, result in [
        (first, cut),
        (second, a_result(second, "failed", error='"parts":[{ in words is none')),
        (first, a_result(first, part_of=first.batch_id)),
        (first, a_result(first, in_parts=1)),
        (second, a_result(second)),
        (whole, a_result(whole)),  # of a model that was never cut
    ]:
        if result.part_of:
            result.batch_id, result.window = "part", week
        state.record(root, batch, result, "shop")
    assert state.splits(root) == [cut]
    assert state.splits("another") == []
    month = Fit("month")
    assert state.sizes("shop", "dev") == {
        (ORDERS, "default"): [(month, Fit("week")), (Fit("week"), None), (month, None)]
    }
    assert state.sizes("shop", "prod") == {}


def test_a_person_says_what_became_of_a_batch(state: State) -> None:
    plan, batches = a_plan()
    root = begun(state, plan)
    for batch in batches[:2]:
        state.intend("run-1", root, batch)
    run = state.run("run-1")
    state.resolve(run, batches[0].batch_id[:10], rows_are_there=True)
    state.resolve(run, batches[1].batch_id, rows_are_there=False)
    assert state.done(root).keys() == {batches[0].batch_id}
    assert state.done(root)[batches[0].batch_id].recovered
    assert state.attempted(root) == {}
    assert (
        "done already"
        in refusal(REFUSED, lambda: state.resolve(run, batches[0].batch_id, rows_are_there=False)).message
    )
    assert "never begun" in refusal(REFUSED, lambda: state.resolve(run, "zzz", rows_are_there=True)).message
    assert state.intend("run-1", root, batches[1]) == 2
    assert state.attempted(root) == {batches[1].batch_id: Attempted(ORDERS, None, 2)}


def test_a_beginning_that_several_batches_share_resolves_none(state: State) -> None:
    plan, batches = a_plan()
    root = begun(state, plan)
    for batch in batches[:2]:
        state.intend("run-1", root, batch)
    assert "several" in refusal(REFUSED, lambda: state.resolve(state.run("run-1"), "", rows_are_there=True)).message
    assert state.done(root) == {}


def test_whoever_reads_the_tables_with_another_tool_finds_what_the_views_promise(state: State) -> None:
    place = {"database_name": "db", "schema_name": "marts", "materialization": "incremental"}
    plan, batches = a_plan(delay_s=1)
    for name, value in place.items():
        setattr(plan.models[0], name, value)
    plan.request["vars"] = '{"a": 1}'
    root = begun(state, plan)
    began, ended = "2024-05-01T02:00:00.123Z", "2024-05-01T02:00:01.000Z"
    for batch in batches[:2]:
        node = Node(unique_id=ORDERS, status="ok", duration_s=0.5)
        state.record(root, batch, a_result(batch, began_at=began, ended_at=ended, nodes=[node]), "shop")
    state.end_run(plan, root, "CANCELLED", models_run=1, models_failed=0)
    ((argv, stored, variables, status),) = state.store.rows("SELECT argv, plan, vars, run_status FROM run_log")
    assert isinstance(json.loads(argv), list)
    assert (json.loads(stored)["plan_id"], json.loads(variables), status) == (plan.plan_id, {"a": 1}, "CANCELLED")
    asked = "SELECT database_name, schema_name, materialization, is_incremental, started_at, ended_at FROM model_log"
    rows = state.store.rows(f"{asked} ORDER BY log_id")
    assert rows == [
        (*place.values(), False, began, ended),
        (*place.values(), True, began, ended),
    ]  # the first replaced it


SHAPES = {
    "run_log": "run_id project_name environment run_started_at run_ended_at run_duration_seconds run_status models_run "
    "models_failed intent attempt argv vars code_version root_run_id plan_id plan host pid retry_of decision "
    "models_planned models_total saved_seconds is_discarded",
    "model_log": "log_id run_id project_name model_name unique_id schema_name database_name materialization batch_id status "
    "started_at ended_at rows_affected is_incremental message duration_seconds",
    "batch_log": "root_run_id run_id plan_id batch_id batch_seq model_name stage window_start window_end full_refresh "
    "attempt at status duration_seconds message",
    "auto_restart_history": "run_id project_name environment run_started_at run_ended_at run_duration_seconds run_status "
    "run_type retry_of retry_sequence models_run models_failed models_planned models_total saved_seconds decision",
}


def columns_of(state: State, table: str) -> list[str]:
    """The names of a relation's columns, in order, in whichever dialect."""
    dialect = type(state.store).__name__
    asked = {
        "SQLite": "SELECT name FROM pragma_table_info($table)",
        "Postgres": "SELECT attname FROM pg_attribute WHERE attrelid = $table::regclass AND attnum > 0 ORDER BY attnum",
        "ClickHouse": "SELECT name FROM system.columns WHERE database = currentDatabase() AND table = $table ORDER BY position",
    }[dialect]
    return [name for (name,) in state.store.rows(asked, {"table": table})]


def test_the_columns_are_the_same_in_every_dialect_and_in_the_same_order(state: State, tmp_path: Path) -> None:
    assert {view: columns_of(state, view) for view in SHAPES} == {view: names.split() for view, names in SHAPES.items()}
    reference = State.open(f"sqlite:{tmp_path / 'reference.sqlite'}")
    for table in ("run_event", "model_event", "batch_event", "schema_version"):
        assert columns_of(state, table) == columns_of(reference, table), table


def test_every_value_comes_back_as_it_went_in(state: State) -> None:
    """Quotes, marks of other dialects, control characters, other scripts: data is never SQL."""
    texts = [
        "'; DROP TABLE run_event; --",
        "$root %s {x:String} \\' \\n",
        'a"b`c',
        "новый 中文 🦆",
        "a\nb\tc",
        "",
        "x" * 300_000,
    ]
    plan, batches = a_plan(months_of(months=len(texts)))
    root = begun(state, plan)
    for batch, text in zip(batches, texts, strict=True):
        state.record(root, batch, a_result(batch, "failed", error=text), "shop")
    assert [row["message"] for row in state.batches(root)] == texts


# -- who may ----------------------------------------------------------------------------------------------------


def test_the_owner_of_a_lock_claims_its_models_and_gives_them_back(state: State) -> None:
    first, second = a_plan()[0], a_plan(run_id="run-2")[0]
    with_first, with_second = state.store.lock("run-1"), state.store.lock("run-2")
    assert state.claim(first, with_first) == "run-1"
    busy = refusal(BUSY, lambda: state.claim(second, with_second))
    for said in ("orders", f"pid {os.getpid()}", "run-1", os.uname().nodename):
        assert said in busy.message
    with_second.release()
    state.release(first)
    assert state.claim(second, with_second) == "run-2"
    for lock in (with_first, with_second):
        lock.release()


def test_a_run_is_at_work_only_once(state: State) -> None:
    plan = a_plan()[0]
    first, again = state.store.lock(plan.run_id), state.store.lock(plan.run_id)
    state.claim(plan, first)
    assert "run-1 is at work in another process" in refusal(BUSY, lambda: state.claim(plan, again)).message
    first.release()


@pytest.mark.parametrize("other", [{"models": [TOTALS]}, {"target": "prod"}, {"project": "mart"}])
def test_different_models_targets_and_projects_do_not_wait_for_each_other(state: State, other: dict) -> None:
    locks = [state.store.lock("run-1"), state.store.lock("run-2")]
    first, second = a_plan()[0], a_plan(run_id="run-2", **other)[0]
    state.claim(first, locks[0])
    begun(state, first)
    assert state.claim(second, locks[1]) == "run-2"
    for lock in locks:
        lock.release()


def test_an_unfinished_plan_keeps_its_models(state: State) -> None:
    plan, batches = a_plan(months_of() + months_of(TOTALS))
    done(state, begun(state, plan), batches[0])
    same = a_plan(months_of() + months_of(TOTALS), run_id="run-2")[0]
    said = refusal(REFUSED, lambda: state.refuse_overlap(same))
    assert "this plan was begun at" in said.message
    assert "left at 1 of 6 batches (run run-1, RUNNING)" in said.message
    assert said.hint == "plan-batches --resume to go on, or: sluice-state discard run-1"
    other = a_plan(months_of(TOTALS), run_id="run-2", intent="daily")[0]
    assert "another plan for totals" in refusal(REFUSED, lambda: state.refuse_overlap(other)).message

    state.refuse_overlap(a_plan(months_of("model.shop.c"), run_id="run-2")[0])
    state.refuse_overlap(a_plan(run_id="run-2", target="prod")[0])
    state.refuse_overlap(same, "run-1")  # its own continuation
    lock = state.store.lock("run-1")
    lock.acquire()
    assert "run-1 is at work on orders, totals" in refusal(BUSY, lambda: state.refuse_overlap(same)).message
    lock.release()


@pytest.mark.parametrize(("count", "named"), [(3, "for m0, m1, m2 was"), (5, "for m0, m1, m2 and 2 more was")])
def test_many_models_are_not_all_named(state: State, count: int, named: str) -> None:
    models = [f"model.shop.m{n}" for n in range(count)]
    begun(state, a_plan(models=models)[0])
    again = a_plan(months_of("model.shop.x"), run_id="run-2", models=models)[0]
    assert named in refusal(REFUSED, lambda: state.refuse_overlap(again)).message


def test_a_refused_claim_leaves_nothing(state: State) -> None:
    begun(state, a_plan()[0])
    lock = state.store.lock("run-2")
    refusal(REFUSED, lambda: state.claim(a_plan(run_id="run-2", models=[ORDERS, TOTALS])[0], lock))
    lock.release()
    alone = state.store.lock("run-3")
    state.claim(a_plan(months_of(TOTALS), run_id="run-3")[0], alone)
    alone.release()


def test_of_thirty_processes_exactly_one_gets_the_models(url: str, state: State) -> None:
    said, go, over = fork.Queue(), fork.Event(), fork.Event()

    def compete(number: int) -> None:
        mine = State.open(url)
        plan = a_plan(run_id=f"run-{number}")[0]
        lock = mine.store.lock(plan.run_id)
        go.wait()
        try:
            mine.claim(plan, lock)
            said.put((number, 0, ""))
            over.wait()
        except SluiceError as problem:
            said.put((number, problem.exit_code, problem.message))

    rivals = [fork.Process(daemon=True, target=compete, args=(number,)) for number in range(30)]
    for rival in rivals:
        rival.start()
    go.set()
    told = [said.get(timeout=30) for _ in rivals]
    over.set()
    for rival in rivals:
        rival.join(30)
    ((winner, _, _),) = [one for one in told if one[1] == 0]
    losers = [one for one in told if one[1] == BUSY]
    assert len(losers) == 29
    # A claim on ClickHouse is seen before it is decided: who is named there may have given way a moment later.
    named = range(30) if url.startswith("clickhouse") else [winner]
    for _, _, message in losers:
        assert any(f"(run run-{n})" in message and f"pid {rivals[n].pid}" in message for n in named)


def test_the_models_of_a_killed_owner_are_free_at_once(url: str, state: State) -> None:
    if url.startswith("clickhouse"):
        return  # there it takes until the lease ends: test_leases.py
    plan = a_plan(intent="daily")[0]
    holds = fork.Event()

    def hold() -> None:
        mine = State.open(url)
        lock = mine.store.lock(plan.run_id)
        mine.claim(plan, lock)
        mine.begin_run(plan, plan.run_id)
        holds.set()
        time.sleep(60)

    owner = fork.Process(daemon=True, target=hold)
    owner.start()
    assert holds.wait(30)
    lock = state.store.lock("run-2")
    successor = a_plan(intent="daily", run_id="run-2")[0]
    assert f"pid {owner.pid}" in refusal(BUSY, lambda: state.claim(successor, lock)).message
    lock.release()
    os.kill(owner.pid, signal.SIGKILL)
    owner.join(30)
    began = time.monotonic()
    # Postgres lets its lock go when the backend finds the connection closed: soon, not at once
    for attempt in stamina.retry_context(
        on=lambda problem: isinstance(problem, SluiceError) and problem.exit_code == BUSY,
        attempts=None, timeout=1, wait_initial=0.01, wait_max=0.05,
    ):  # fmt: skip
        with attempt:
            state.claim(successor, lock)
    assert time.monotonic() - began < 1
    assert not state.is_alive(state.run("run-1"))
    lock.release()


# -- on a server -----------------------------------------------------------------------------------------------


@pytest.fixture
def on_postgres(postgres) -> Iterator[str]:
    schema = f"s_{uuid.uuid4().hex[:12]}"
    yield f"postgresql://test:unasked@127.0.0.1:{postgres.port}/postgres?sslmode=disable&schema={schema}"
    postgres.query(f"drop schema if exists {schema} cascade")


def test_in_clickhouse_every_table_view_and_column_has_a_comment(clickhouse) -> None:
    database = f"s_{uuid.uuid4().hex[:12]}"
    state = State.open(f"clickhouse://refresh:s3cret-password@127.0.0.1:{clickhouse.http_port}/{database}")
    tables = "SELECT name FROM system.tables WHERE database = currentDatabase() AND comment = ''"
    assert state.store.rows(tables) == []
    columns = """SELECT table, name FROM system.columns WHERE database = currentDatabase() AND comment = ''
                 AND table IN (SELECT name FROM system.tables WHERE database = currentDatabase() AND engine = 'MergeTree')"""
    assert state.store.rows(columns) == []
    state.store.insert("schema_version", [{"version": 99}])
    said = refusal(UNAVAILABLE, lambda: State.open(state.store._url))
    assert (said.code, "schema 99" in said.message, "newer" in said.hint) == ("state_schema", True, True)
    clickhouse.query(f"DROP DATABASE {database} SYNC")


def test_in_postgres_every_table_view_and_column_has_a_comment(on_postgres: str) -> None:
    state = State.open(on_postgres)
    bare = """SELECT c.relname, a.attname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
              JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum >= 0
              WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'v')
                  AND (col_description(c.oid, a.attnum) IS NULL OR obj_description(c.oid) IS NULL)"""
    assert state.store.rows(bare.replace("a.attnum >= 0", "a.attnum > 0")) == []


def test_a_newer_schema_on_a_server_is_refused_by_name(on_postgres: str) -> None:
    state = State.open(on_postgres)
    state.store.execute("UPDATE schema_version SET version = 99")
    for open_store in (State.open, State.open_existing):
        said = refusal(UNAVAILABLE, lambda open_store=open_store: open_store(on_postgres))
        assert (said.code, "schema 99" in said.message, "newer" in said.hint) == ("state_schema", True, True)


def test_a_server_that_is_away_is_named_without_its_password() -> None:
    url = "postgresql://me:s3cret%40word@127.0.0.1:1/db?connect_timeout=2"
    said = refusal(UNAVAILABLE, lambda: State.open(url))
    assert "postgresql://me@127.0.0.1:1/db" in said.message
    assert "s3cret" not in said.message + (said.hint or "")


def test_a_session_that_loses_its_lock_can_write_nothing_more(on_postgres: str, postgres) -> None:
    """The lock and the writes are of one session: it cannot lose the one and go on with the other."""
    state, other = State.open(on_postgres), State.open(on_postgres)
    plan, batches = a_plan()
    lock = state.store.lock("run-1")
    root = state.claim(plan, lock)
    state.begin_run(plan, root)
    ((backend,),) = state.store.rows("SELECT pg_backend_pid()")
    assert other.is_alive(other.run("run-1"))
    postgres.query(f"select pg_terminate_backend({backend})")
    deadline = time.monotonic() + 1
    while other.is_alive(other.run("run-1")) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not other.is_alive(other.run("run-1"))
    refusal(UNAVAILABLE, lambda: state.intend("run-1", root, batches[0]))
    refusal(UNAVAILABLE, lambda: state.intend("run-1", root, batches[0]))
    assert other.batches("run-1") == []


def test_whoever_comes_second_to_make_a_store_on_a_server_leaves_the_first(on_postgres: str) -> None:
    state = State.open(on_postgres)
    begun(state, a_plan()[0])
    second = Postgres(on_postgres, origin="a test")  # which saw none before the first had made it
    second.create()
    assert second.rows("SELECT version FROM schema_version") == [(SCHEMA_VERSION,)]
    assert [run.run_id for run in State(second).runs()] == ["run-1"]
    state.close()
    second.close()


def test_whoever_waits_while_another_makes_the_store_leaves_it(
    on_postgres: str, postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Postgres(on_postgres, origin="a test"), Postgres(on_postgres, origin="a test")
    assert not second.exists()
    with ThreadPoolExecutor(1) as pool:
        waiting: list[Future] = []

        def insert(table: str, rows: Any) -> None:
            waiting.append(pool.submit(second.create))
            deadline = time.monotonic() + 10
            while not postgres.query("select 1 from pg_locks where locktype = 'advisory' and not granted"):
                assert time.monotonic() < deadline
            Postgres.insert(first, table, rows)

        monkeypatch.setattr(first, "insert", insert)
        first.create()
        assert waiting[0].result(10) is None
    assert second.rows("SELECT version FROM schema_version") == [(SCHEMA_VERSION,)]
    first.close()
    second.close()


def test_a_schema_that_somebody_has_made_for_the_store_is_used(on_postgres: str, postgres) -> None:
    postgres.query(f"create schema {on_postgres.rpartition('=')[2]}")
    state = State.open(on_postgres)
    assert state.runs() == []
    state.close()


def test_of_two_that_see_a_lock_free_one_gets_it(on_postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    state, other = State.open(on_postgres), State.open(on_postgres)
    lock, rival = state.store.lock("run-1"), other.store.lock("run-1")
    assert lock.acquire()
    monkeypatch.setattr(AdvisoryLock, "holders", lambda _: [])  # as the other one saw it a moment ago
    assert not rival.acquire()
    monkeypatch.undo()
    rival.release()
    assert other.store.is_held("run-1"), "what was not taken is not given back"
    lock.release()
    assert not other.store.is_held("run-1")
    for each in (state, other):
        each.close()


def test_a_pool_that_hands_out_other_sessions_is_refused(on_postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    state = State.open(on_postgres)
    seen = iter([[], [4711]])  # nobody holds it, and then another session than this one
    monkeypatch.setattr(AdvisoryLock, "holders", lambda _: next(seen))
    said = refusal(REFUSED, state.store.lock("run-1").acquire)
    assert (said.code, "session mode" in (said.hint or "")) == ("state_pooled", True)
    state.close()


def test_a_lock_that_was_lost_on_the_way_is_told_of_at_the_end_once(on_postgres: str) -> None:
    state = State.open(on_postgres)
    lock = state.store.lock("run-1")
    assert lock.acquire()
    state.store.rows("SELECT pg_advisory_unlock_all()")
    assert refusal(UNAVAILABLE, lock.release).code == "state_lock_lost"
    lock.release()
    state.close()


def test_what_the_system_says_is_told_with_the_stores_name() -> None:
    def connect() -> None:
        with explained("clickhouse://ch:8123/sluice"):
            raise ConnectionResetError(104, "Connection reset by peer")

    said = refusal(UNAVAILABLE, connect)
    assert said.message == "the state store clickhouse://ch:8123/sluice: [Errno 104] Connection reset by peer"


def test_a_server_without_room_for_one_more_is_busy(on_postgres: str, postgres) -> None:
    State.open(on_postgres).close()
    postgres.query("create role crowd login connection limit 1")
    crowded = on_postgres.replace("test:unasked", "crowd:x")
    import psycopg2

    holder = psycopg2.connect(host="127.0.0.1", port=postgres.port, user="crowd", dbname="postgres")
    said = refusal(BUSY, lambda: State.open(crowded))
    assert said.code == "state_busy"
    holder.close()
    postgres.query("drop role crowd")


# -- opening, and the file -----------------------------------------------------------------------------------------


def test_looking_makes_no_store(url: str) -> None:
    assert State.open_existing(url) is None
    State.open(url).close()
    existing = State.open_existing(url)
    assert existing is not None
    existing.close()


@pytest.mark.parametrize(
    "bad", ["", "sqlite:", "duckdb:x", "/tmp/x", "postgresql:x", "postgresql://u:p@h", "postgresql://h:x/d"]
)
def test_a_store_of_an_unknown_kind_is_refused(bad: str) -> None:
    for open_store in (State.open, State.open_existing):
        said = refusal(CONFIG, lambda open_store=open_store: open_store(bad, origin="SLUICE_STATE, set in .env"))
        assert "SLUICE_STATE, set in .env" in said.message


@pytest.mark.parametrize("kind", ["postgresql", "clickhouse"])
def test_a_limit_that_is_no_number_is_named(kind: str) -> None:
    said = refusal(CONFIG, lambda: State.open(f"{kind}://u:pa55word@127.0.0.1:1/d?connect_timeout=soon"))
    assert "connect_timeout is 'soon'" in said.message
    assert "pa55word" not in said.message


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite"


def told_of(path: Path) -> SluiceError:
    said = refusal(UNAVAILABLE, lambda: State.open(f"sqlite:{path}"))
    assert str(path) in said.message
    return said


@pytest.mark.parametrize("content", [b"", b"garbage", b"SQLite format 3\0" + b"\0" * 100, os.urandom(8192)])
def test_a_damaged_file_is_named_and_left_as_it_is(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    told_of(path)
    assert path.read_bytes() == content
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_file_cut_short_is_named(path: Path, part: float) -> None:
    filled(path)
    size = path.stat().st_size
    os.truncate(path, int(size * part))

    def use_all_of_it() -> None:
        state = State.open(f"sqlite:{path}")
        state.runs()
        state.done("run-1")
        state.batches("run-1")
        begun(state, a_plan(run_id="run-3")[0])

    assert str(path) in refusal(UNAVAILABLE, use_all_of_it).message


def filled(path: Path) -> None:
    """A store with a run and fifty batches, closed, all in one file."""
    state = State.open(f"sqlite:{path}")
    plan, batches = a_plan(months_of(months=50))
    root = begun(state, plan)
    for batch in batches:
        done(state, root, batch)
    state.close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


@pytest.mark.parametrize(("version", "hint"), [(SCHEMA_VERSION + 1, "newer Sluice"), (0, "move"), (None, "move")])
def test_another_schema_is_refused_with_the_way_out(path: Path, version: int | None, hint: str) -> None:
    State.open(f"sqlite:{path}").close()
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM schema_version")
        if version is not None:
            connection.execute("INSERT INTO schema_version VALUES (?)", [version])
    connection.close()
    said = told_of(path)
    assert f"has schema {version}, this Sluice speaks {SCHEMA_VERSION}" in said.message
    assert hint in (said.hint or "")


OLD = (Path(__file__).parents[1] / "fixtures" / "state" / "schema-1.sql").read_text()


def of_schema_1(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.executescript(OLD)
    connection.close()


def test_a_store_of_an_older_schema_is_brought_up_to_date_and_kept_as_a_copy(path: Path) -> None:
    of_schema_1(path)
    state = State.open(f"sqlite:{path}")
    assert [(run.run_id, run.run_status, run.plan.intent) for run in state.runs()] == [
        ("run-2", "SUCCESS", "daily"),
        ("run-1", "RUNNING", "full_refresh"),
    ]
    assert [(row["status"], row["full_refresh"]) for row in state.batches("run-1")] == [("ok", 1), ("unknown", 0)]
    assert state.store.rows("SELECT vars, retry_of FROM run_log WHERE run_id = 'run-2'") == [("{}", None)]
    assert state.store.rows("SELECT model_name, status, rows_affected FROM model_log") == [("orders", "SUCCESS", 7)]
    begun(state, a_plan(run_id="run-3")[0])
    assert len(State.open(f"sqlite:{path}").runs()) == 3

    copy = path.with_name("state.sqlite.schema-1")
    with sqlite3.connect(copy) as connection:
        assert connection.execute("SELECT version FROM schema_version").fetchall() == [(1,)]
        assert connection.execute("SELECT count(*) FROM run_event").fetchall() == [(3,)]
    connection.close()
    assert not [name for name in os.listdir(path.parent) if name.startswith(".")]


def test_an_upgraded_store_is_like_a_new_one(path: Path, tmp_path: Path) -> None:
    def shape(state: State) -> dict[str, list[tuple]]:
        names = [name for (name,) in state.store.rows("SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite%'")]
        return {name: state.store.rows(f"SELECT name, type FROM pragma_table_info('{name}')") for name in sorted(names)}

    of_schema_1(path)
    assert shape(State.open(f"sqlite:{path}")) == shape(State.open(f"sqlite:{tmp_path / 'new.sqlite'}"))


def test_whoever_comes_second_to_an_upgrade_leaves_what_the_first_made(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_schema_1(path)
    State.open(f"sqlite:{path}").close()
    version, old = sqlite_store.SQLite._version, [1]  # seen before the first had upgraded it
    monkeypatch.setattr(sqlite_store.SQLite, "_version", lambda self: old.pop() if old else version(self))
    state = State.open(f"sqlite:{path}")
    assert old == []
    assert state.store.rows("SELECT version FROM schema_version") == [(SCHEMA_VERSION,)]
    assert [run.run_id for run in state.runs()] == ["run-2", "run-1"]
    copy = sqlite3.connect(path.with_name("state.sqlite.schema-1"))
    assert copy.execute("SELECT version FROM schema_version").fetchall() == [(1,)], "the first's, not one of the new"
    copy.close()


def test_an_upgrade_that_fails_leaves_the_old_store(path: Path) -> None:
    of_schema_1(path)
    with sqlite3.connect(path) as connection:
        connection.execute("ALTER TABLE model_event ADD COLUMN ended_at TEXT")  # the last of the new columns is there
    connection.close()
    told_of(path)
    with sqlite3.connect(path) as connection:
        columns = {row[1] for row in connection.execute("PRAGMA table_info(run_event)")}
        assert connection.execute("SELECT version FROM schema_version").fetchall() == [(1,)]
        assert connection.execute("SELECT count(*) FROM run_log").fetchall() == [(2,)]
    connection.close()
    assert "retry_of" not in columns


def test_many_processes_upgrade_one_store_together(path: Path) -> None:
    of_schema_1(path)
    go, said = fork.Event(), fork.Queue()

    def use() -> None:
        go.wait()
        try:
            said.put(len(State.open(f"sqlite:{path}").runs()))
        except BaseException as problem:
            said.put(repr(problem))

    users = [fork.Process(daemon=True, target=use) for _ in range(8)]
    for user in users:
        user.start()
    go.set()
    assert [said.get(timeout=30) for _ in users] == [2] * 8
    for user in users:
        user.join(30)


def test_a_file_that_went_away_before_it_was_opened_is_named_and_not_made(path: Path) -> None:
    said = refusal(UNAVAILABLE, lambda: sqlite_store.SQLite(path))
    assert f"there is no state store {path}" in said.message
    assert os.listdir(path.parent) == []


def test_whoever_comes_second_to_make_a_file_uses_the_first(path: Path) -> None:
    begun(State.open(f"sqlite:{path}"), a_plan()[0])
    sqlite_store._create(path)  # having seen none before
    assert [run.run_id for run in State.open(f"sqlite:{path}").runs()] == ["run-1"]
    assert not [name for name in os.listdir(path.parent) if name.startswith(".")]


def test_a_transaction_that_sqlite_itself_took_back_is_told_of_by_its_cause(path: Path) -> None:
    state = State.open(f"sqlite:{path}")
    begun(state, a_plan()[0])

    def fill() -> None:
        with state.store.transaction():
            state.store.execute("DELETE FROM run_event")
            state.store.execute("INSERT OR ROLLBACK INTO schema_version (version) VALUES (NULL)")

    said = refusal(UNAVAILABLE, fill)
    assert "NOT NULL" in said.message
    assert [run.run_id for run in state.runs()] == ["run-1"]


def test_a_folder_in_its_place_is_named(path: Path) -> None:
    path.mkdir()
    told_of(path)


def test_a_file_where_its_folder_should_be_is_named(path: Path) -> None:
    path.touch()
    told_of(path / "state.sqlite")


def test_the_journal_of_a_store_that_was_moved_away_never_gets_into_a_new_one(path: Path) -> None:
    def leave_a_journal() -> None:
        begun(State.open(f"sqlite:{path}"), a_plan()[0])
        os.kill(os.getpid(), signal.SIGKILL)

    child = fork.Process(daemon=True, target=leave_a_journal)
    child.start()
    child.join(30)
    journal = path.with_name("state.sqlite-wal")
    assert journal.stat().st_size > 0
    path.rename(path.with_name("away.sqlite"))
    said = told_of(path)
    assert str(journal) in said.message
    assert not path.exists()

    journal.rename(path.with_name("away.sqlite-wal"))
    assert State.open(f"sqlite:{path}").runs() == []
    assert [run.run_id for run in State.open(f"sqlite:{path.with_name('away.sqlite')}").runs()] == ["run-1"]


def test_many_processes_make_one_store_together(path: Path) -> None:
    go, said = fork.Event(), fork.Queue()

    def make(number: int) -> None:
        go.wait()
        try:
            state = State.open(f"sqlite:{path}")
            begun(state, a_plan(run_id=f"run-{number}")[0])
            said.put("")
        except BaseException as problem:
            said.put(repr(problem))

    makers = [fork.Process(daemon=True, target=make, args=(number,)) for number in range(12)]
    for maker in makers:
        maker.start()
    go.set()
    assert [said.get(timeout=30) for _ in makers] == [""] * 12
    for maker in makers:
        maker.join(30)
    assert len(State.open(f"sqlite:{path}").runs()) == 12
    assert [name for name in os.listdir(path.parent) if name.startswith(".new-")] == []


@pytest.mark.parametrize("room", [0, 1, 4096, 20_000, 60_000])
def test_a_disk_that_is_full_when_the_store_is_made_leaves_no_file(path: Path, room: int) -> None:
    said = fork.Queue()

    def make() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        try:
            State.open(f"sqlite:{path}")
            said.put((0, ""))
        except SluiceError as problem:
            said.put((problem.exit_code, problem.message))

    child = fork.Process(daemon=True, target=make)
    child.start()
    exit_code, message = said.get(timeout=30)
    child.join(30)
    assert exit_code == UNAVAILABLE
    assert str(path) in message
    assert os.listdir(path.parent) == []
    State.open(f"sqlite:{path}").close()  # as soon as there is room


def test_a_disk_that_gets_full_later_loses_nothing_that_was_acknowledged(path: Path) -> None:
    State.open(f"sqlite:{path}").close()
    said = fork.Queue()

    def fill() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        state = State.open(f"sqlite:{path}")
        plan, (batch, *_) = a_plan(months_of(replace=False))
        acknowledged = 0
        try:
            while True:
                state.intend(plan.run_id, plan.run_id, batch)
                acknowledged += 1
        except SluiceError as problem:
            said.put((acknowledged, problem.exit_code, problem.message))

    child = fork.Process(daemon=True, target=fill)
    child.start()
    acknowledged, exit_code, message = said.get(timeout=30)
    child.join(30)
    assert (exit_code, str(path) in message) == (UNAVAILABLE, True)
    assert acknowledged > 10
    state = State.open(f"sqlite:{path}")
    assert state.intend("run-1", "run-1", a_plan(months_of(replace=False))[1][0]) == acknowledged + 1


def test_what_was_acknowledged_survives_kill_9(path: Path) -> None:
    _, (batch, *_) = a_plan(months_of(replace=False))
    State.open(f"sqlite:{path}").close()
    known = 0
    for round_number in range(10):
        read_end, write_end = os.pipe()

        def keep_writing(to: int = write_end) -> None:
            state = State.open(f"sqlite:{path}")
            while True:
                os.write(to, b"%d\n" % state.intend("run-1", "run-1", batch))

        writer = fork.Process(daemon=True, target=keep_writing)
        writer.start()
        os.close(write_end)
        time.sleep(0.05 + round_number * 0.011)
        os.kill(writer.pid, signal.SIGKILL)
        writer.join(30)
        with open(read_end, "rb") as acknowledged:
            numbers = [int(line) for line in acknowledged.read().splitlines()]
        assert numbers == sorted(numbers)
        known = max([known, *numbers])
        state = State.open(f"sqlite:{path}")
        found = state.attempted("run-1")[batch.batch_id] if known else None
        count = state.batches("run-1")[0]["attempt"] if found else 0
        assert known <= count <= known + 1  # killed between the commit and its acknowledgement
        known = count
        state.close()
    assert known > 10


def test_a_store_that_another_process_holds_is_busy(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = State.open(f"sqlite:{path}")
    state.store.db.execute("PRAGMA busy_timeout = 50")
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    said = refusal(BUSY, lambda: begun(state, a_plan()[0]))
    assert (said.code, str(path) in said.message) == ("state_locked", True)
    assert state.runs() == []  # readers are never shut out
    holder.execute("ROLLBACK")
    holder.close()
    begun(state, a_plan()[0])


def test_a_file_is_its_owners_alone(tmp_path: Path) -> None:
    script = (
        "import os, sys; os.umask(0o077); from sluice.state import State\n"
        "State.open('sqlite:' + sys.argv[1] + '/deep/state/state.sqlite')\n"
    )
    subprocess.run(
        [sys.executable, "-c", script, tmp_path], env={"PYTHONPATH": os.pathsep.join(sys.path)}, check=True, timeout=60
    )
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in (tmp_path / "deep").rglob("*")}
    assert modes["state"] == "0o700"
    assert modes["state.sqlite"] == "0o600"


def test_a_commit_is_on_disk_and_readers_are_never_shut_out(path: Path) -> None:
    state = State.open(f"sqlite:{path}")
    assert state.store.rows("PRAGMA journal_mode") == [("wal",)]
    assert state.store.rows("PRAGMA synchronous") == [(2,)]


def test_copies_of_a_closed_store_are_whole(path: Path, tmp_path: Path) -> None:
    filled(path)
    shutil.copy(path, tmp_path / "copy.sqlite")
    assert len(State.open(f"sqlite:{tmp_path / 'copy.sqlite'}").done("run-1")) == 50
