"""A damaged state store made anew, of what can be read of it and of what commands kept of their runs in the log folder.

What became of a batch since its last record nobody can know from these. So a plan that was unfinished is not resumed: it is discarded,
and what is missing is found in the warehouse (`sluice-state coverage`), where a guard keeps an append out of months that have rows.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from sluice.command import Context
from sluice.errors import SluiceError, busy, refused
from sluice.locks import RunLock, is_held
from sluice.overview import run_state
from sluice.records import BatchResult, Plan, Record, Summary
from sluice.state import STATUS_WORDS, State, salvage
from sluice.state.salvage import Rows
from sluice.state.store import Store

_KEPT = msgspec.json.Decoder(Plan | BatchResult | Summary)


def rebuild(ctx: Context) -> Iterator[Record]:
    """Yield a run_state for each run whose plan was left unfinished, and is discarded.

    Raises SluiceError: 2 for a store that is sound, is not there or is on a server; 75 while a run is at work.
    """
    path = _path(ctx)
    lock = RunLock(path.parent / "locks", "rebuild")
    if not lock.acquire():
        raise busy(f"another rebuild of {path} is at work", hint="wait for it")
    try:
        yield from _rebuild(ctx, path)
    finally:
        lock.release()


def _rebuild(ctx: Context, path: Path) -> Iterator[Record]:
    runs = sorted(lock.stem for lock in (path.parent / "locks").glob("*.lock") if lock.stem != "rebuild")
    held = [run for run in runs if is_held(path.parent / "locks", run)]
    if held:
        raise busy(f"run {held[0]} is at work with {path}", hint="wait for it, or stop it")
    saved, is_whole = salvage.readable(path)
    if is_whole and all(_is_good(row) for table in salvage.TABLES for row in saved[table]):
        raise refused(f"{path} is sound: there is nothing to rebuild", code="state_sound", hint="sluice-state runs")
    added = _beyond(_kept(ctx.config.log_dir / "records"), saved)
    said = "of the damaged file {} runs, {} batches; of {} {} runs, {} batches".format(
        *_counts(saved), ctx.config.log_dir / "records", *_counts(added)
    )
    if ctx.dry_run:
        ctx.log.warning("can be saved: %s", said)
        return
    with salvage.in_its_place(path, ctx.now) as (store, aside):
        lost = _fill(store, {table: sorted(saved[table] + added[table], key=_at) for table in salvage.TABLES})
        fresh = State(store)  # before it is in its place: whoever finds it there may resume what it calls unfinished
        unfinished = [run.run_id for run in fresh.unfinished()]
        for run_id in unfinished:
            fresh.discard(fresh.run(run_id))
    ctx.log.warning("rebuilt %s: %s; %d rows could not be used; the damaged one is %s", path, said, lost, aside)
    state = State.open_existing(ctx.config.state_url)
    assert state is not None
    for run_id in unfinished:
        ctx.log.warning(
            "run %s was unfinished and cannot be resumed: sluice-state coverage shows what is there, plan-batches --only gaps plans the rest",
            run_id,
        )
        yield run_state(state, state.run(run_id))
    state.close()


def _path(ctx: Context) -> Path:
    scheme, _, rest = ctx.config.state_url.partition(":")
    if scheme != "sqlite":
        raise refused(
            f"the state store ({ctx.config.explain('SLUICE_STATE')}) is a database on a server",
            code="state_rebuild_server", hint="restore it from the server's own copies",
        )  # fmt: skip
    path = Path(rest).absolute()
    if not path.exists() and not path.with_name(f"{path.name}-wal").exists():
        raise refused(f"there is no state store {path}", code="state_none", hint="plan-batches | run-dbt-batch")
    return path


def _counts(rows: Rows) -> tuple[int, int]:
    return len({row["run_id"] for row in rows["run_event"]}), len({row["batch_id"] for row in rows["batch_event"]})


def _fill(store: Store, rows: Rows) -> int:
    """Add the rows, each without the number that it had. Returns how many the tables do not take."""
    lost = 0
    with store.transaction():
        for table in salvage.TABLES:
            known = {name for (name,) in store.rows(f"SELECT name FROM pragma_table_info('{table}')")} - {"seq"}
            for row in rows[table]:
                try:
                    if _is_good(row):
                        store.insert(table, [{name: value for name, value in row.items() if name in known}])
                        continue
                except SluiceError:  # it breaks a rule of the table
                    pass
                lost += 1
    return lost


def _at(row: dict[str, Any]) -> str:
    return str(row.get("at"))


def _is_good(row: dict[str, Any]) -> bool:
    """Whether its record is what was written; one that is not would make the whole store unreadable."""
    try:
        for name, kind in (("plan", Plan), ("result", BatchResult)):
            if row.get(name) is not None:
                msgspec.json.decode(row[name], type=kind)
    except (msgspec.DecodeError, UnicodeError):
        return False
    return row.get("event") != "began" or row.get("plan") is not None


# -- the log folder ---------------------------------------------------------------------------------------------------


def _kept(folder: Path) -> Rows:
    """The rows that the records of all runs come to."""
    rows: Rows = {table: [] for table in salvage.TABLES}
    for path in sorted(folder.glob("*.jsonl")):  # ids of runs grow with time
        plan: Plan | None = None
        replaced: set[str] = set()
        for line in path.read_bytes().splitlines():
            try:
                record = _KEPT.decode(line)
            except (msgspec.DecodeError, UnicodeError):
                continue  # another command's record, or one that was cut
            if isinstance(record, Plan):
                plan = record
                rows["run_event"].append(
                    {**_of_run(plan), "event": "began", "at": plan.at, "plan": line.decode(), "host": "", "pid": 0}
                )
            elif plan is not None and isinstance(record, BatchResult):
                mode = next((model.mode for model in plan.models if model.unique_id == record.model), None)
                full_refresh = mode == "replace" and record.model not in replaced and plan.attempt == 1
                replaced.add(record.model or "")
                rows["batch_event"] += _of_batch(plan, record, full_refresh, line.decode())
                rows["model_event"] += _of_nodes(plan, record)
            elif plan is not None and isinstance(record, Summary) and record.command == "run-dbt-batch":
                status = {0: "SUCCESS", 1: "FAILED"}.get(record.exit_code, "CANCELLED")
                rows["run_event"].append({**_of_run(plan), "event": "ended", "at": record.at, "run_status": status})
    return rows


def _beyond(kept: Rows, saved: Rows) -> Rows:
    """What was kept and not saved."""
    names = {
        "run_event": ("event",),
        "batch_event": ("batch_id", "event", "attempt"),
        "model_event": ("batch_id", "unique_id"),
    }

    def key(table: str, row: dict[str, Any]) -> tuple:
        return tuple(row[name] for name in ("run_id", *names[table]))

    there = {table: {key(table, row) for row in saved[table]} for table in salvage.TABLES}
    return {table: [row for row in kept[table] if key(table, row) not in there[table]] for table in salvage.TABLES}


def _of_run(plan: Plan) -> dict[str, Any]:
    return {
        "run_id": plan.run_id, "root_run_id": plan.root_run_id or plan.run_id, "plan_id": plan.plan_id, "project_name": plan.project,
        "environment": plan.target, "intent": plan.intent, "attempt": plan.attempt,
    }  # fmt: skip


def _of_batch(plan: Plan, result: BatchResult, full_refresh: bool, line: str) -> Iterator[dict[str, Any]]:
    """The intent, unless it was skipped or found done, and the outcome."""
    window = result.window
    batch = {
        "run_id": result.run_id, "root_run_id": plan.root_run_id or plan.run_id, "plan_id": result.plan_id, "batch_id": result.batch_id,
        "batch_seq": result.seq, "model_name": result.model, "stage": result.stage, "window_start": window and str(window.start),
        "window_end": window and str(window.end), "full_refresh": full_refresh, "attempt": result.attempt,
    }  # fmt: skip
    if result.attempt:
        yield {**batch, "event": "intent", "at": result.began_at or result.at}
    yield {
        **batch, "event": "outcome", "at": result.ended_at or result.at, "status": result.status,
        "duration_seconds": result.duration_s, "message": result.error, "result": line,
    }  # fmt: skip


def _of_nodes(plan: Plan, result: BatchResult) -> Iterator[dict[str, Any]]:
    for node in result.nodes:
        yield {
            "at": result.ended_at or result.at, "run_id": result.run_id, "project_name": plan.project,
            "model_name": node.unique_id.rsplit(".", 1)[-1], "unique_id": node.unique_id, "batch_id": result.batch_id,
            "status": STATUS_WORDS[node.status], "duration_seconds": node.duration_s, "rows_affected": node.rows,
            "message": node.message, "started_at": result.began_at, "ended_at": result.ended_at,
        }  # fmt: skip
