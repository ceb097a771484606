"""The state store: append-only events on runs and batches, from which the present is derived; SQLite by default.

Intent is written before the work and outcome after it, each in a commit of its own that is on disk before the next
step. An intent without an outcome is *unknown*: whoever resumes finds out what became of it before going on.
"""

import os
import socket
import sqlite3
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import msgspec

from sluice import __version__
from sluice.config import ROOT
from sluice.errors import busy, misconfigured, refused, unavailable
from sluice.ids import timestamp
from sluice.locks import RunLock, is_held
from sluice.planning import GO_ON
from sluice.records import Batch, BatchResult, Plan, RunStatus

SCHEMA_VERSION = 1
BLOCKING_INTENTS = tuple(GO_ON)  # left half done, their tables must not be touched by another plan
_STATUS_WORDS = {"ok": "SUCCESS", "failed": "ERROR", "cancelled": "ERROR", "skipped": "SKIPPED"}
_SQL = ROOT / "sql" / "state" / "sqlite"

# What happened to the batches of a plan, without what a later attempt to replace their model's table has undone.
_STANDING = """
    WITH replaced AS (
        SELECT model_name, max(seq) AS since FROM batch_event
        WHERE root_run_id = ?1 AND event = 'intent' AND full_refresh GROUP BY model_name
    )
    SELECT {columns} FROM batch_event LEFT JOIN replaced USING (model_name)
    WHERE root_run_id = ?1 AND seq >= coalesce(since, 0) AND {where} ORDER BY seq"""


@dataclass(frozen=True)
class Attempted:
    """A batch that may have left rows behind: its last outcome (None: unknown) and the number of the first such attempt."""

    model: str | None
    status: str | None
    first: int


@dataclass(frozen=True)
class Run:
    """One row of run_log. `plan` is the record with which the run began."""

    run_id: str
    root_run_id: str
    plan: Plan
    run_started_at: str
    run_ended_at: str | None
    run_duration_seconds: float | None
    run_status: RunStatus
    models_run: int | None
    models_failed: int | None
    attempt: int
    host: str
    pid: int
    is_discarded: bool


class State:
    """An open store. Every public method is one transaction; errors of the file become SluiceError (69)."""

    def __init__(self, path: Path, connection: sqlite3.Connection):
        self.path = path
        self._db = connection
        self.locks = path.parent / "locks"

    # -- opening --------------------------------------------------------------------------------------

    @classmethod
    def open(cls, url: str, *, origin: str = "SLUICE_STATE") -> "State":
        """Open the store, making it when there is none.

        Raises SluiceError: 78 for a URL that is not understood, 69 for a file that is damaged or cannot be written,
        or whose schema is newer than this Sluice.
        """
        path = _path_of(url, origin)
        with _explained(path):
            if not path.exists():
                _create(path)
            state = cls(path, _connect(path))
            state._check_version()
        return state

    @classmethod
    def open_existing(cls, url: str, *, origin: str = "SLUICE_STATE") -> "State | None":
        """Open the store for looking; None when there is none, which is then not made."""
        path = _path_of(url, origin)
        _refuse_orphan(path)
        return cls.open(url, origin=origin) if path.exists() else None

    def close(self) -> None:
        self._db.close()

    def _check_version(self) -> None:
        (version,) = self._db.execute("SELECT version FROM schema_version").fetchone() or (None,)
        if version != SCHEMA_VERSION:
            newer = isinstance(version, int) and version > SCHEMA_VERSION
            raise unavailable(
                f"the state store {self.path} has schema {version}, this Sluice speaks {SCHEMA_VERSION}",
                code="state_schema",
                hint="run the newer Sluice that wrote it"
                if newer
                else f"move {self.path} and its -wal away and start afresh",
            )

    # -- runs -----------------------------------------------------------------------------------------

    def claim(self, plan: Plan, lock: RunLock) -> str:
        """Take the plan's models for its run, before anything else is done. Returns the root run id.

        `lock` must be that of `plan.run_id`; the claim lasts until it is released or its process dies. Raises
        SluiceError: 75 when a living run works on one of the models or is this very run; 2 when the models belong to
        another plan that was begun and not finished, or the run was discarded.
        """
        if not lock.acquire():
            raise busy(f"run {plan.run_id} is at work in another process", hint="sluice-state runs")
        root = plan.root_run_id or plan.run_id
        with self._transaction():
            self._refuse_discarded(root)
            self._claim_models(plan)
            self.refuse_overlap(plan, root)
        return root

    def release(self, plan: Plan) -> None:
        """Give the plan's models back."""
        with self._transaction():
            self._db.execute("DELETE FROM model_lock WHERE run_id = ?", [plan.run_id])

    def begin_run(self, plan: Plan, root: str) -> None:
        """Record that the run began."""
        with self._transaction():
            self._insert(
                "run_event",
                event="began",
                **self._run_identity(plan, root),
                plan=msgspec.json.encode(plan).decode(),
                argv=msgspec.json.encode([os.path.basename(sys.argv[0]), *sys.argv[1:]]).decode(),
                host=socket.gethostname(),
                pid=os.getpid(),
                code_version=__version__,
            )

    def end_run(
        self,
        plan: Plan,
        root: str,
        run_status: RunStatus,
        *,
        models_run: int,
        models_failed: int,
        message: str | None = None,
    ) -> None:
        """Record how the run ended: SUCCESS, FAILED or CANCELLED."""
        with self._transaction():
            self._insert(
                "run_event",
                event="ended",
                **self._run_identity(plan, root),
                run_status=run_status,
                models_run=models_run,
                models_failed=models_failed,
                message=message,
            )

    def discard(self, run: Run) -> None:
        """Abandon the plan to which `run` belongs: its models are free, its history stays.

        Raises SluiceError (75) while one of its runs is at work.
        """
        for other in self.runs(root_run_id=run.root_run_id):
            if self.is_alive(other):
                raise busy(f"run {other.run_id} is at work (pid {other.pid} on {other.host})", hint="stop it first")
        with self._transaction():
            self._insert("run_event", event="discarded", **self._run_identity(run.plan, run.root_run_id))
            self._db.execute("DELETE FROM model_lock WHERE run_id = ?", [run.run_id])

    def runs(self, *, root_run_id: str | None = None, limit: int = -1) -> list[Run]:
        """Runs, newest first; only those of one plan when `root_run_id` is given."""
        return self._runs("?1 IS NULL OR root_run_id = ?1", [root_run_id], limit)

    def run(self, run_id: str) -> Run:
        """The run whose id begins or ends with `run_id`. Raises SluiceError (2) when none or several match."""
        ends = "?1 IN (run_id, substr(run_id, 1, length(?1)), substr(run_id, -length(?1)))"
        found = self._runs(ends, [run_id], 2) if run_id else []
        if len(found) != 1:
            many = "several runs match" if found else "no run matches"
            raise refused(f"{many} {run_id!r}", code="state_unknown_run", hint="sluice-state runs")
        return found[0]

    def unfinished(self) -> list[Run]:
        """The latest run of each plan that was begun, neither finished nor discarded, and must not be left so."""
        return self._runs(
            f"""intent IN ({", ".join(f"'{intent}'" for intent in BLOCKING_INTENTS)})
            AND NOT EXISTS (SELECT 1 FROM run_event e WHERE e.root_run_id = run_log.root_run_id
                            AND (e.event = 'discarded' OR e.run_status = 'SUCCESS'))
            AND run_id = (SELECT e.run_id FROM run_event e WHERE e.root_run_id = run_log.root_run_id
                          ORDER BY e.seq DESC LIMIT 1)""",
            [],
        )

    def _runs(self, where: str, values: list[object], limit: int = -1) -> list[Run]:
        with _explained(self.path):
            rows = self._db.execute(
                f"""SELECT run_id, root_run_id, plan, run_started_at, run_ended_at, run_duration_seconds, run_status,
                           models_run, models_failed, attempt, host, pid, is_discarded
                    FROM run_log WHERE {where} ORDER BY run_started_at DESC, run_id DESC LIMIT {limit}""",
                values,
            ).fetchall()
            return [_run(row) for row in rows]

    def is_alive(self, run: Run) -> bool:
        """Whether a process is at work on this run now."""
        return run.run_status == "RUNNING" and is_held(self.locks, run.run_id)

    def refuse_overlap(self, plan: Plan, root: str | None = None) -> None:
        """Raises SluiceError when models of `plan` belong to an unfinished plan: 75 if it is at work, else 2."""
        mine = {model.unique_id for model in plan.models}
        for run in self.unfinished():
            shared = sorted(mine & {model.unique_id for model in run.plan.models})
            elsewhere = (run.plan.project, run.plan.target) != (plan.project, plan.target)
            if elsewhere or run.root_run_id == root or not shared:
                continue
            if self.is_alive(run):
                raise busy(
                    f"run {run.run_id} is at work on {_some(shared)} since {run.run_started_at} (pid {run.pid} on {run.host})"
                )
            done = len(self.done(run.root_run_id))
            same = run.plan.plan_id == plan.plan_id
            raise refused(
                f"{'this plan' if same else f'another plan for {_some(shared)}'} was begun at {run.run_started_at} "
                f"and left at {done} of {run.plan.total} batches (run {run.run_id}, {run.run_status})",
                code="state_unfinished_plan",
                hint=f"{GO_ON[run.plan.intent].partition(' |')[0]} to go on, or: sluice-state discard {run.run_id}",
            )

    def _refuse_discarded(self, root: str) -> None:
        for run in self.runs(root_run_id=root):
            if run.is_discarded:
                raise refused(f"run {run.run_id} was discarded", code="state_discarded_run", hint="plan again")

    def _claim_models(self, plan: Plan) -> None:
        mine = {model.unique_id for model in plan.models}
        held = self._db.execute(
            "SELECT unique_id, run_id, host, pid, command, began_at FROM model_lock WHERE project_name = ? AND environment = ?",
            [plan.project, plan.target],
        ).fetchall()
        for owner in {row[1] for row in held if row[0] in mine and row[1] != plan.run_id}:
            rows = [row for row in held if row[1] == owner]
            if is_held(self.locks, owner):
                _, _, host, pid, command, began_at = rows[0]
                shared = sorted(row[0] for row in rows if row[0] in mine)
                raise busy(
                    f"{_some(shared)}: {command} is at work on it, pid {pid} on {host}, since {began_at} (run {owner})"
                )
            self._db.execute("DELETE FROM model_lock WHERE run_id = ?", [owner])
        self._db.executemany(
            "INSERT OR REPLACE INTO model_lock VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    plan.project,
                    plan.target,
                    unique_id,
                    plan.run_id,
                    socket.gethostname(),
                    os.getpid(),
                    os.path.basename(sys.argv[0]),
                    timestamp(),
                )
                for unique_id in sorted(mine)
            ],
        )

    # -- batches --------------------------------------------------------------------------------------

    def intend(self, run_id: str, root: str, batch: Batch) -> int:
        """Record that an attempt at `batch` begins. Returns its number, from 1, counted over all runs of the plan."""
        with self._transaction():
            (before,) = self._db.execute(
                "SELECT count(*) FROM batch_event WHERE root_run_id = ? AND batch_id = ? AND event = 'intent'",
                [root, batch.batch_id],
            ).fetchone()
            self._insert("batch_event", event="intent", attempt=before + 1, **_batch_identity(batch, run_id, root))
        return before + 1

    def record(self, root: str, batch: Batch, result: BatchResult, project: str) -> None:
        """Record the outcome of an attempt."""
        with self._transaction():
            self._insert(
                "batch_event",
                event="outcome",
                **_batch_identity(batch, result.run_id, root),
                attempt=result.attempt,
                status=result.status,
                duration_seconds=result.duration_s,
                message=result.error,
                result=msgspec.json.encode(result).decode(),
            )
            for node in result.nodes:
                self._insert(
                    "model_event",
                    at=timestamp(),
                    run_id=result.run_id,
                    project_name=project,
                    model_name=node.unique_id.rsplit(".", 1)[-1],
                    unique_id=node.unique_id,
                    batch_id=batch.batch_id,
                    status=_STATUS_WORDS[node.status],
                    duration_seconds=node.duration_s,
                    rows_affected=node.rows,
                    message=node.message,
                )

    def done(self, root: str) -> dict[str, BatchResult]:
        """The results of the batches of a plan that are done and whose rows are still there, by batch_id."""
        with _explained(self.path):
            rows = self._db.execute(
                _STANDING.format(columns="batch_id, result", where="status = 'ok'"), [root]
            ).fetchall()
            return {batch_id: msgspec.json.decode(result, type=BatchResult) for batch_id, result in rows}

    def attempted(self, root: str) -> dict[str, Attempted]:
        """The batches of a plan that may have left rows in a table as it is now, by batch_id.

        What a person has resolved counts as never attempted.
        """
        found: dict[str, Attempted] = {}
        with _explained(self.path):
            for batch_id, event, model, status, attempt in self._db.execute(
                _STANDING.format(
                    columns="batch_id, event, model_name, status, attempt",
                    where="(event != 'outcome' OR status != 'skipped')",
                ),
                [root],
            ):
                if event == "resolved":
                    found.pop(batch_id, None)
                else:
                    first = found[batch_id].first if batch_id in found else attempt
                    found[batch_id] = Attempted(model, status, first)
        return found

    def resolve(self, run: Run, batch_id: str, *, rows_are_there: bool) -> None:
        """Record what a person has found out about a batch whose outcome is unknown. Raises SluiceError (2)."""
        events = [row for row in self.batches(run.root_run_id) if str(row["batch_id"]).startswith(batch_id)]
        if len(events) != 1 or events[0]["status"] == "ok":
            what = "could be several" if len(events) > 1 else "is done already" if events else "was never begun"
            raise refused(
                f"batch {batch_id!r} of run {run.run_id} {what}",
                code="state_unknown_batch",
                hint=f"sluice-state show {run.run_id}",
            )
        row = events[0]
        result = BatchResult(
            run_id=str(row["run_id"]), batch_id=str(row["batch_id"]), plan_id=str(row["plan_id"]), seq=int(str(row["batch_seq"])),
            total=run.plan.total, model=row["model_name"], stage=str(row["stage"]), status="ok", recovered=True,
        )  # fmt: skip
        with self._transaction():
            self._db.execute(
                """INSERT INTO batch_event (event, at, run_id, root_run_id, plan_id, batch_id, batch_seq, model_name, stage,
                                            window_start, window_end, full_refresh, attempt, status, result)
                   SELECT 'resolved', ?, run_id, root_run_id, plan_id, batch_id, batch_seq, model_name, stage,
                          window_start, window_end, full_refresh, attempt, ?, ?
                   FROM batch_event WHERE root_run_id = ? AND batch_id = ? ORDER BY seq DESC LIMIT 1""",
                [
                    timestamp(),
                    "ok" if rows_are_there else None,
                    msgspec.json.encode(result).decode(),
                    run.root_run_id,
                    row["batch_id"],
                ],
            )

    def batches(self, root: str) -> list[dict[str, Any]]:
        """The rows of batch_log for a plan, in plan order."""
        with _explained(self.path):
            cursor = self._db.execute("SELECT * FROM batch_log WHERE root_run_id = ? ORDER BY batch_seq", [root])
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]

    # -- below ----------------------------------------------------------------------------------------

    def _run_identity(self, plan: Plan, root: str) -> dict[str, object]:
        return {
            "at": timestamp(),
            "run_id": plan.run_id,
            "root_run_id": root,
            "plan_id": plan.plan_id,
            "project_name": plan.project,
            "environment": plan.target,
            "intent": plan.intent,
            "attempt": plan.attempt,
        }

    def _insert(self, table: str, **row: object) -> None:
        columns = ", ".join(row)
        marks = ", ".join("?" * len(row))
        self._db.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", list(row.values()))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _explained(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise


def _run(row: tuple[Any, ...]) -> Run:
    run_id, root, plan, *rest, is_discarded = row
    return Run(*[run_id, root, msgspec.json.decode(plan, type=Plan), *rest, bool(is_discarded)])


def _batch_identity(batch: Batch, run_id: str, root: str) -> dict[str, object]:
    def day(value: date | None) -> str | None:
        return value.isoformat() if value else None

    return {
        "at": timestamp(),
        "run_id": run_id,
        "root_run_id": root,
        "plan_id": batch.plan_id,
        "batch_id": batch.batch_id,
        "batch_seq": batch.seq,
        "model_name": batch.model,
        "stage": batch.stage,
        "window_start": day(batch.window.start if batch.window else None),
        "window_end": day(batch.window.end if batch.window else None),
        "full_refresh": batch.full_refresh,
    }


def _some(unique_ids: Iterable[str], most: int = 3) -> str:
    names = [unique_id.rsplit(".", 1)[-1] for unique_id in unique_ids]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what SQLite and the file system say into a message that names the file."""
    try:
        yield
    except sqlite3.OperationalError as problem:
        if "locked" in str(problem):
            raise busy(f"the state store {path} is locked by another process", code="state_locked") from None
        raise unavailable(f"the state store {path}: {problem}", code="state_unusable") from None
    except (sqlite3.DatabaseError, msgspec.DecodeError) as problem:
        raise unavailable(
            f"the state store {path} is damaged: {problem}",
            code="state_damaged",
            hint=f"restore {path} from a copy, or move it and its -wal away to start afresh",
        ) from None
    except OSError as problem:
        raise unavailable(f"the state store {path}: {problem}", code="state_unusable") from None


def _path_of(url: str, origin: str) -> Path:
    scheme, _, path = url.partition(":")
    if scheme != "sqlite" or not path:
        raise misconfigured(
            f"the state store {url!r} ({origin}) is none that Sluice knows",
            code="state_bad_url",
            hint="use sqlite:PATH",
        )
    return Path(os.path.abspath(path))


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=10, isolation_level=None)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _refuse_orphan(path: Path) -> None:
    """Raises SluiceError (69) for a journal without its store: it is no fresh start, and SQLite would play it into a new one."""
    journal = path.with_name(f"{path.name}-wal")
    if journal.exists() and not path.exists():
        raise unavailable(
            f"the state store {path} is gone and its journal {journal} is still there",
            code="state_orphaned_journal",
            hint=f"put {path} back, or move {journal} away as well to start afresh",
        )


def _create(path: Path) -> None:
    """Make the store under a temporary name and link it into place: a full disk leaves no half-made store behind.

    When two processes do this at once, the first link wins and the other one uses it.
    """
    _refuse_orphan(path)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".new-") as folder:
        fresh = Path(folder) / path.name
        connection = _connect(fresh)
        connection.execute("PRAGMA journal_mode = WAL")
        for table in sorted(_SQL.glob("*.sql")):
            connection.executescript(table.read_text())
        connection.execute("INSERT INTO schema_version VALUES (?)", [SCHEMA_VERSION])
        connection.close()
        try:
            os.link(fresh, path)
        except FileExistsError:
            pass
