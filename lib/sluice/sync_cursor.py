"""Loads what a tap writes and keeps its cursor: the rows, and how far they go, in one database and one commit."""

import hashlib
import json
import os
import select
import sys
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec

from sluice import profiles, progress
from sluice.command import Context
from sluice.config import Config
from sluice.errors import FAILED, RED, SluiceError, busy, misconfigured, refused
from sluice.ids import new_run_id, timestamp
from sluice.locks import RunLock
from sluice.pipe import Writer, read_lines
from sluice.profiles import Credentials
from sluice.records import Record, SyncResult, SyncState
from sluice.signals import interruptible
from sluice.sync import overlap as bookmarks
from sluice.sync.load import Load, Options
from sluice.sync.target import Event, Target, in_utc
from sluice.warehouse import WarehouseError, connect

LONGEST_LINE_BYTES = 1 << 26
TOLD_EVERY = 500  # lines: a bar that moved with each would cost more than loading them
MEMORY_LIMIT = "400MB"  # of DuckDB; measured: more makes a load no faster
TIMEOUT_S = 3600.0


@dataclass(frozen=True)
class Place:
    """Where a source's rows are: the target's credentials, and the schema, as it was given or by default."""

    config: Config
    credentials: Credentials
    schema: str

    @contextmanager
    def opened(self, tag: str, source: str, *, create: bool = False) -> Iterator[Target]:
        """The target; a DuckDB file that is not there is made, with `create`."""
        credentials = self.credentials
        if credentials.adapter == "duckdb" and create:
            _make_duckdb(str(credentials.get("path", ":memory:")))
        more = {"lock_wait_s": self.config.lock_wait_s, "timeout_s": TIMEOUT_S}
        with connect(credentials, tag=tag, **more) as warehouse:  # type: ignore[arg-type]
            target = target_on(warehouse, self.schema, self.config.state_dir / "sync" / f"{_digest(source)}.jsonl")
            if create:
                target.prepare()
            yield target


def place(ctx: Context, schema: str | None) -> Place:
    """Raises SluiceError (78) for a project, profile or target that is not there."""
    return Place(ctx.config, profiles.load(ctx.config), schema or ctx.config.raw_schema)


def _make_duckdb(path: str) -> None:
    if path != ":memory:" and ":" not in path and not os.path.exists(path):
        import duckdb

        Path(path).parent.mkdir(parents=True, exist_ok=True)
        duckdb.connect(path).close()


def target_on(warehouse: Any, schema: str, chunk: Path) -> Target:
    if warehouse.adapter == "duckdb":
        from sluice.sync.duckdb import DuckDBTarget

        warehouse.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
        warehouse.execute("SET TimeZone = 'UTC'")
        return DuckDBTarget(warehouse, schema, chunk)
    if warehouse.adapter == "postgres":
        from sluice.sync.postgres import PostgresTarget

        return PostgresTarget(warehouse, schema)
    if warehouse.adapter == "clickhouse":
        from sluice.sync.clickhouse import ClickHouseTarget

        return ClickHouseTarget(warehouse, schema)
    raise misconfigured(
        f"{warehouse.credentials}: sync-cursor loads into duckdb, postgres and clickhouse",
        code="sync_adapter",
        hint="pass --target",
    )


def _digest(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()[:16]


def run(
    ctx: Context, action: str, where: Place, source: str | None, options: Options, overlap: str, to: str | None
) -> Iterator[Record]:
    """What an action yields; `log` alone needs no source. Raises what the actions raise."""
    if action == "log" or source is None:
        return log(ctx, where, source)
    if action == "load":
        return load(ctx, where, source, options)
    return state(ctx, where, source, overlap) if action == "state" else reset(ctx, where, source, to)


# -- load -------------------------------------------------------------------------------------------------------------


def load(ctx: Context, where: Place, source: str, options: Options) -> Generator[Record, None, int]:
    """Load what comes on standard input. Raises SluiceError: 65 for what is no Singer stream, after what came whole is
    written; 75 while another load of the source runs; 1 with too many rejects; WarehouseError."""
    if sys.stdin is None or sys.stdin.isatty():
        raise refused("reads what a tap writes, and there is no pipe", code="sync_no_pipe", hint="sync-cursor --help")
    ctx.run_id = ctx.run_id or new_run_id()
    if ctx.dry_run:
        return (yield from _load(ctx, None, source, options))
    lock = RunLock(ctx.config.state_dir / "locks", f"sync-{_digest(source)}")
    if not lock.acquire():
        raise busy(f"another load of {source} is running", hint="wait for it to end")
    try:
        # A DuckDB file has one process at a time, and the tap is just reading its state from it: it speaks once it has.
        with interruptible():
            select.select([sys.stdin], [], [])
        with ExitStack() as stack:
            try:
                target = stack.enter_context(where.opened(f"sync-cursor {ctx.run_id}", source, create=True))
            except WarehouseError as problem:  # it names the database; who is told must know of which source it was
                yield SyncResult(source=source, stream="", sync_status="failed", status="failed", error=problem.message)
                raise
            with target.exclusively(source):
                return (yield from _load(ctx, target, source, options))
    finally:
        lock.release()


def _load(ctx: Context, target: Target | None, source: str, options: Options) -> Generator[Record, None, int]:
    states = Writer(ctx.stdout) if ctx.stdout is not None else None

    def tell(state: bytes) -> None:
        if states is not None:
            states.copy(state + b"\n")
            states.flush()

    run = Load(source, target, ctx.run_id, options, tell, ctx.log)
    stdin = sys.stdin.fileno()
    taken = told = 0

    def show() -> None:
        nonlocal told
        count.add(taken - told)
        told = taken

    def before_wait() -> None:
        show()
        due_s = run.due_in_s()
        if due_s == float("inf"):
            return
        with interruptible():
            is_ready = bool(select.select([stdin], [], [], max(0.0, due_s))[0])
        if not is_ready:
            run.commit()

    broken = None
    try:
        with progress.counting(f"lines of {source}") as count:
            for taken, line in read_lines(stdin, before_wait, LONGEST_LINE_BYTES):
                run.take(taken, line)
                if taken % TOLD_EVERY == 0:
                    show()
            show()
    except SluiceError as problem:
        if isinstance(problem, WarehouseError):
            raise
        if problem.exit_code == FAILED:
            run.failed(problem.message)
            raise
        broken = problem
    results = run.end(broken.message if broken else None)
    yield from results
    if broken is not None:
        raise broken
    for result in results[:1]:
        if result.error:
            ctx.log.warning("%s: %s: %s", source, result.sync_status, result.error)
    return RED if run.is_behind else FAILED if any(result.sync_status != "success" for result in results) else 0


# -- state ------------------------------------------------------------------------------------------------------------


def state(ctx: Context, where: Place, source: str, overlap: str) -> Iterator[Record]:
    """Write the state of a source on standard output, for a tap: {} when there is none. Raises SluiceError (2)."""
    try:
        earlier = bookmarks.duration(overlap)
    except ValueError as problem:
        raise refused(f"--overlap: {problem}", code="sync_bad_overlap") from None
    position = None
    if _is_there(where):
        with where.opened("sync-cursor state", source) as target:
            position = target.position(source) if target.exists() else None
    known = json.loads(position.state) if position is not None and position.state else {}
    if known and earlier:
        known, found = bookmarks.back(known, earlier)
        if not found:
            ctx.log.warning(
                "the state of %s has no moment that an overlap could move: %s", source, position and position.state
            )
    if ctx.stdout is None:
        raise refused(
            "state writes a state on stdout, no records", code="sync_state_only", hint="leave out --records -"
        )
    out = Writer(ctx.stdout)
    out.copy(json.dumps(known).encode() + b"\n")
    out.flush()
    yield from ()


def _is_there(where: Place) -> bool:
    path = str(where.credentials.get("path", ":memory:"))
    return where.credentials.adapter != "duckdb" or ":" in path or os.path.exists(path)


# -- log --------------------------------------------------------------------------------------------------------------


def log(ctx: Context, where: Place, source: str | None) -> Iterator[Record]:
    """Every source, or this one, as the database knows it. Raises SluiceError (2) for one that it does not."""
    found = states(where, ctx.now, source or "")
    if source is not None and source not in {one.source for one in found}:
        raise refused(
            f"nothing was ever loaded of {source} into {where.credentials}",
            code="sync_unknown_source",
            hint="sync-cursor log",
        )
    if not found:
        ctx.log.warning("nothing was ever loaded into schema %s of %s", where.schema, where.credentials)
    yield from (one for one in found if source in (None, one.source))


def states(where: Place, now: datetime, source: str = "") -> list[SyncState]:
    """Every source as the database knows it; `source` is whom it is asked for. Raises WarehouseError."""
    if not _is_there(where):
        return []
    with where.opened("sync-cursor log", source) as target:
        return list(_sync_states(target, now)) if target.exists() else []


def rows_by_day(where: Place) -> list[tuple[str, date, int, int, datetime | None, datetime]]:
    """Source, day (UTC), inserted and updated rows, newest bookmark and last commit, for each source and day. Raises WarehouseError."""
    with where.opened("sync-cursor log", "") as target:
        rows = target.warehouse.rows(
            "SELECT source, cast(written_at AS date), sum(inserted_rows), sum(updated_rows), max(last_sync_ts), max(written_at) "
            f"FROM {target.place('sync_event')} WHERE event = 'commit' GROUP BY source, cast(written_at AS date)"
        )
    return [(*row[:4], row[4] and in_utc(row[4]), in_utc(row[5])) for row in rows]


def _sync_states(target: Target, now: datetime) -> Iterator[SyncState]:
    logged = target.warehouse.rows(
        f"SELECT source, sync_status, last_sync_ts, last_txid, updated_at, sync_count FROM {target.place('sync_log')} ORDER BY source"
    )
    figures = {
        row[0]: [0 if figure is None else figure for figure in row[1:7]] + list(row[7:])
        for row in target.warehouse.rows(
            "SELECT source, sum(CASE WHEN event = 'ended' AND sync_status <> 'success' THEN 1 ELSE 0 END), sum(received_rows), "
            "sum(inserted_rows), sum(updated_rows), sum(rejected_rows), count(DISTINCT run_id), avg(duration_seconds) "
            f"FROM {target.place('sync_event')} WHERE event <> 'reset' GROUP BY source"
        )
    }
    messages = {
        source: message for source, message in target.warehouse.rows(
            f"SELECT source, message FROM {target.place('sync_event')} WHERE event IN ('ended', 'reset') ORDER BY seq"
        )
    }  # fmt: skip
    for source, status, last_at, txid, updated_at, count in logged:
        last_at, updated_at = last_at and in_utc(last_at), in_utc(updated_at)
        failed, received, inserted, updated, rejected, runs, mean_s = figures.get(source, [0] * 6 + [None])
        yield SyncState(
            source=source,
            sync_status=status,
            last_sync_ts=timestamp(last_at) if last_at else None,
            last_txid=txid,
            updated_at=timestamp(updated_at),
            sync_count=int(count),
            failed_count=int(failed),
            lag_s=round((now - last_at).total_seconds(), 1) if last_at else None,
            received_rows=int(received),
            inserted_rows=int(inserted),
            updated_rows=int(updated),
            rejected_rows=int(rejected),
            mean_s=round(mean_s, 3) if mean_s is not None else None,
            saved_ratio=round(max(0.0, 1 - int(received) / (int(runs) * int(inserted))), 4)
            if runs and inserted
            else None,
            message=messages.get(source),
        )


# -- reset ------------------------------------------------------------------------------------------------------------


def reset(ctx: Context, where: Place, source: str, to: str | None) -> Iterator[Record]:
    """Forget how far a source is, or set it to a moment or to a state (JSON); its rows stay.

    Raises SluiceError: 2 for an unknown source, or a moment where the state has none; 75 while a load of it runs.
    """
    lock = RunLock(ctx.config.state_dir / "locks", f"sync-{_digest(source)}")
    if not lock.acquire():
        raise busy(f"a load of {source} is running", hint="wait for it to end")
    try:
        unknown = refused(f"nothing was ever loaded of {source}", code="sync_unknown_source", hint="sync-cursor log")
        if not _is_there(where):
            raise unknown
        with where.opened("sync-cursor reset", source) as target:
            if not target.exists() or not any(one.source == source for one in _sync_states(target, ctx.now)):
                raise unknown
            wanted = _state_to(target.position(source).state, to)
            message = f"reset to {to}" if to else "reset"
            if not ctx.dry_run:
                target.commit(
                    source, ctx.run_id or new_run_id(), [], [], [Event("reset", state=wanted, message=message)]
                )
            after = next(one for one in _sync_states(target, ctx.now) if one.source == source)
            yield msgspec.structs.replace(after, last_sync_ts=None, last_txid=None, lag_s=None, message=message)
    finally:
        lock.release()


def _state_to(known: str | None, to: str | None) -> str:
    if to is None:
        return "{}"
    if to.lstrip().startswith("{"):
        try:
            return json.dumps(json.loads(to))
        except ValueError as problem:
            raise refused(f"--to: not JSON: {problem}", code="sync_bad_state") from None
    try:
        moment = datetime.fromisoformat(to)
    except ValueError:
        raise refused(f"--to {to}: neither a moment nor a JSON object", code="sync_bad_state") from None
    moved, found = bookmarks.to(json.loads(known or "{}"), moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    if not found:
        raise refused(
            f"the state has no moment that could be set: {known or '{}'}",
            code="sync_bad_state",
            hint="--to '{…}', the whole state",
        )
    return json.dumps(moved)
