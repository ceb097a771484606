"""The state: append-only events on runs and batches, from which the present is derived; in SQLite by default.

Intent is written before the work and outcome after it, each in a commit of its own that is on disk before the next
step. An intent without an outcome is *unknown*: whoever resumes finds out what became of it before going on.
"""

import os
import socket
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from sluice import __version__
from sluice.errors import busy, misconfigured, refused
from sluice.ids import timestamp
from sluice.planning import GO_ON
from sluice.records import Batch, BatchResult, Fit, Node, Plan, PlannedModel, RunStatus
from sluice.splitting import size_of, unit_of
from sluice.state.store import Lock, Store, some

if TYPE_CHECKING:
    from sluice.state.clickhouse import ClickHouse
    from sluice.state.postgres import Postgres

BLOCKING_INTENTS = tuple(GO_ON)  # left half done, their tables must not be touched by another plan
STATUS_WORDS = {"ok": "SUCCESS", "failed": "ERROR", "cancelled": "ERROR", "skipped": "SKIPPED"}

# What happened to the batches of a plan, without what a later attempt to replace their model's table has undone.
_STANDING = """
    WITH replaced AS (
        SELECT model_name, max(seq) AS since FROM batch_event
        WHERE root_run_id = $root AND event = 'intent' AND full_refresh GROUP BY model_name
    )
    SELECT {columns} FROM batch_event LEFT JOIN replaced USING (model_name)
    WHERE root_run_id = $root AND seq >= coalesce(since, 0) AND {where} ORDER BY seq"""

_WITH_PARTS = '%"parts":[{%'  # how a record of a batch that was cut is written

R = TypeVar("R", bound=msgspec.Struct)


class _Kept(msgspec.Struct):
    """What of a batch_result is asked of many at once."""

    wave: int = 1
    source_rows: int | None = None


@dataclass(frozen=True)
class Attempted:
    """A batch that may have left rows behind: its last outcome (None: unknown) and the number of the first such attempt."""

    model: str | None
    status: str | None
    first: int


@dataclass(frozen=True)
class Job:
    """The runs of one project, target and intent, retries counted as daily: the last that ended, and the last success.

    `batches` counts the last run's by status; `rows` is what it wrote, None where the warehouse does not say.
    """

    project: str
    target: str
    intent: str
    last_success_at: str | None
    run_id: str
    run_status: str
    ended_at: str
    duration_s: float | None
    batches: dict[str, int]
    rows: int | None


@dataclass(frozen=True)
class Built:
    """A model that was built: the checksum of the code that made its rows, and when it last succeeded."""

    checksum: str
    last_at: str


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
    """An open store, and what is remembered in it. Every public method is one transaction."""

    def __init__(self, store: Store):
        self.store = store
        self._planned: dict[str, dict[str, PlannedModel]] = {}  # of the runs that began here

    # -- opening --------------------------------------------------------------------------------------

    @classmethod
    def open(cls, url: str, *, origin: str = "SLUICE_STATE") -> "State":
        """Open the store, making it when there is none.

        Raises SluiceError: 78 for a URL that is not understood, 69 for a store that is away, damaged or cannot be
        written, or whose schema is newer than this Sluice.
        """
        store = _connected(url, origin, make=True)
        assert store is not None
        return cls(store)

    @classmethod
    def open_existing(cls, url: str, *, origin: str = "SLUICE_STATE") -> "State | None":
        """Open the store for looking; None when there is none, which is then not made."""
        store = _connected(url, origin, make=False)
        return cls(store) if store is not None else None

    def close(self) -> None:
        self.store.close()

    # -- runs -----------------------------------------------------------------------------------------

    def claim(self, plan: Plan, lock: Lock) -> str:
        """Take the plan's models for its run, before anything else is done. Returns the root run id.

        `lock` must be that of `plan.run_id`; the claim lasts until it is released or its process dies. Raises
        SluiceError: 75 when a living run works on one of the models or is this very run; 2 when the models belong to
        another plan that was begun and not finished, or the run was discarded.
        """
        self.store.refuse_at_work(plan)  # most who come second are told here, before they take or wait for anything
        if not lock.acquire():
            raise busy(f"run {plan.run_id} is at work in another process", hint="sluice-state runs")
        root = plan.root_run_id or plan.run_id
        with self.store.transaction():
            self._refuse_discarded(root)
            self.store.claim_models(plan, lock)
            self.refuse_overlap(plan, root)
        return root

    def release(self, plan: Plan) -> None:
        """Give the plan's models back."""
        with self.store.transaction():
            self.store.release_models(plan.run_id)

    def begin_run(self, plan: Plan, root: str) -> None:
        """Record that the run began."""
        self._planned[plan.run_id] = {model.unique_id: model for model in plan.models}
        with self.store.transaction():
            self._insert(
                "run_event",
                event="began",
                **self._run_identity(plan, root),
                plan=msgspec.json.encode(plan).decode(),
                argv=msgspec.json.encode([os.path.basename(sys.argv[0]), *sys.argv[1:]]).decode(),
                host=socket.gethostname(),
                pid=os.getpid(),
                code_version=__version__,
                vars=str(plan.request.get("vars") or "{}"),
                retry_of=plan.retry_of,
                decision=plan.decision,
                models_planned=len(plan.models),
                models_total=plan.models_total,
                saved_seconds=plan.saved_s,
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
        with self.store.transaction():
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
        with self.store.transaction():
            self._insert("run_event", event="discarded", **self._run_identity(run.plan, run.root_run_id))
            self.store.release_models(run.run_id)

    def runs(self, *, root_run_id: str | None = None, limit: int | None = None) -> list[Run]:
        """Runs, newest first; only those of one plan when `root_run_id` is given."""
        return self._runs("$root IS NULL OR root_run_id = $root", {"root": root_run_id}, limit)

    def run(self, run_id: str) -> Run:
        """The run whose id begins or ends with `run_id`. Raises SluiceError (2) when none or several match."""
        ends = "$id IN (run_id, substr(run_id, 1, length($id)), substr(run_id, length(run_id) - length($id) + 1))"
        found = self._runs(ends, {"id": run_id}, 2) if run_id else []
        if len(found) != 1:
            many = "several runs match" if found else "no run matches"
            raise refused(f"{many} {run_id!r}", code="state_unknown_run", hint="sluice-state runs")
        return found[0]

    def unfinished(self) -> list[Run]:
        """The latest run of each plan that was begun, neither finished nor discarded, and must not be left so."""
        return self._runs(
            f"""intent IN ({", ".join(f"'{intent}'" for intent in BLOCKING_INTENTS)})
            AND root_run_id NOT IN (SELECT root_run_id FROM run_event WHERE event = 'discarded' OR run_status = 'SUCCESS')
            AND run_id IN (SELECT run_id FROM run_event
                           WHERE seq IN (SELECT max(seq) FROM run_event GROUP BY root_run_id))""",
            {},
        )

    def daily_runs(self, project: str, target: str, *, limit: int = 200) -> list[Run]:
        """The daily runs of a project and target, retries among them, newest first."""
        where = "project_name = $project AND environment = $target AND intent IN ('daily', 'retry')"
        return self._runs(where, {"project": project, "target": target}, limit)

    def daily_history(self) -> list[dict[str, Any]]:
        """The rows of auto_restart_history, newest first."""
        columns = (
            "run_id", "project_name", "environment", "run_started_at", "run_duration_seconds", "run_status", "run_type",
            "retry_of", "retry_sequence", "models_run", "models_failed", "models_planned", "models_total", "saved_seconds", "decision",
        )  # fmt: skip
        rows = self.store.rows(
            f"SELECT {', '.join(columns)} FROM auto_restart_history ORDER BY run_started_at DESC, run_id DESC"
        )
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def last_success(self) -> str | None:
        """When a run last ended with success, whichever it was; None when none ever did."""
        ((at,),) = self.store.rows("SELECT max(at) FROM run_event WHERE event = 'ended' AND run_status = 'SUCCESS'")
        return at if at and not at.startswith("1970-01-01T00:00:00") else None  # of no rows, in ClickHouse

    def jobs(self) -> list[Job]:
        """Every job of which a run ended, by project, target and intent."""
        ended = self.store.rows(
            """SELECT project_name, environment, CASE WHEN intent = 'retry' THEN 'daily' ELSE intent END AS job,
                      run_id, run_status, at
               FROM run_event WHERE event = 'ended' AND intent != 'dbt' ORDER BY seq"""
        )
        last: dict[tuple[str, str, str], tuple[str, str, str]] = {}
        success: dict[tuple[str, str, str], str] = {}
        for project, target, job, run_id, run_status, at in ended:
            last[project, target, job] = run_id, run_status, at
            if run_status == "SUCCESS":
                success[project, target, job] = at
        return [
            Job(*key, success.get(key), run_id, run_status, at, *self._sums(run_id))
            for key, (run_id, run_status, at) in sorted(last.items())
        ]

    def _sums(self, run_id: str) -> tuple[float | None, dict[str, int], int | None]:
        """Duration, batches by status and rows of a run."""
        run = {"run": run_id}
        took = self.store.rows("SELECT run_duration_seconds FROM run_log WHERE run_id = $run", run)
        batches = self.store.rows(
            "SELECT status, count(*) FROM batch_event WHERE run_id = $run AND event = 'outcome' GROUP BY status", run
        )
        ((rows, known),) = self.store.rows(
            "SELECT sum(rows_affected), count(rows_affected) FROM model_event WHERE run_id = $run", run
        )
        return (took[0][0] if took else None), dict(batches), int(rows) if known else None

    def built(self, project: str, target: str) -> dict[str, Built]:
        """The models that ever succeeded here, by unique_id.

        An incremental model's rows are of the code with which its table was last made anew, or, where that was never
        seen, first added to.
        """
        rows = self.store.rows(
            """SELECT m.unique_id, m.run_id, max(m.at), min(CASE WHEN m.is_incremental THEN 1 ELSE 0 END)
               FROM model_event m JOIN run_event r ON r.run_id = m.run_id
               WHERE m.status = 'SUCCESS' AND r.event = 'began' AND r.project_name = $project AND r.environment = $target
               GROUP BY m.unique_id, m.run_id ORDER BY max(m.seq)""",
            {"project": project, "target": target},
        )
        made_by: dict[str, str] = {}
        last: dict[str, str] = {}
        for uid, run_id, at, is_only_added_to in rows:
            last[uid] = at
            if not is_only_added_to or uid not in made_by:
                made_by[uid] = run_id
        plans = self._plans(sorted(set(made_by.values())))
        checksums = {
            run_id: {model.unique_id: model.checksum for model in plan.models} for run_id, plan in plans.items()
        }
        return {
            uid: Built(checksums[run_id][uid], last[uid])
            for uid, run_id in made_by.items()
            if uid in checksums.get(run_id, {})
        }

    def seconds(self, run_ids: Sequence[str]) -> dict[str, float]:
        """The last duration of each model that succeeded in one of these runs, by unique_id."""
        if not run_ids:
            return {}
        names, runs = _marks(run_ids)
        rows = self.store.rows(
            f"""SELECT unique_id, duration_seconds FROM model_event
                WHERE status = 'SUCCESS' AND run_id IN ({names}) ORDER BY seq""",
            runs,
        )  # fmt: skip
        return dict(rows)

    def _runs(self, where: str, values: dict[str, object], limit: int | None = None) -> list[Run]:
        most = f"LIMIT {limit}" if limit is not None else ""
        rows = self.store.rows(
            f"""SELECT run_id, root_run_id, run_started_at, run_ended_at, run_duration_seconds, run_status,
                       models_run, models_failed, attempt, host, pid, is_discarded
                FROM run_log WHERE intent != 'dbt' AND ({where}) ORDER BY run_started_at DESC, run_id DESC {most}""",
            values,
        )
        plans = self._plans([row[0] for row in rows])
        return [Run(*[run_id, root, plans[run_id], *rest, bool(discarded)]) for run_id, root, *rest, discarded in rows]

    def _plans(self, run_ids: Sequence[str], *, at_once: int = 500) -> dict[str, Plan]:
        """Apart from the rest of the log: plans are large, and sorting thousands of them takes longer than all else."""
        plans: dict[str, Plan] = {}
        for start in range(0, len(run_ids), at_once):
            names, runs = _marks(run_ids[start : start + at_once])
            where = f"event = 'began' AND run_id IN ({names})"
            for run_id, plan in self.store.rows(f"SELECT run_id, plan FROM run_event WHERE {where} ORDER BY seq", runs):
                plans[run_id] = self._decoded(plan, Plan)
        return plans

    def _decoded(self, record: str, type: type[R]) -> R:
        """A record that was kept. Raises SluiceError (69) when it is not what was written."""
        try:
            return msgspec.json.decode(record, type=type)
        except (msgspec.DecodeError, UnicodeError) as problem:
            raise self.store.damaged(problem) from None

    def is_alive(self, run: Run) -> bool:
        """Whether a process is at work on this run now."""
        return run.run_status == "RUNNING" and self.store.is_held(run.run_id)

    def is_latest(self, run: Run) -> bool:
        """Whether nothing has gone on with the plan of this run since."""
        ((latest,),) = self.store.rows(
            "SELECT run_id FROM run_event WHERE root_run_id = $root ORDER BY seq DESC LIMIT 1",
            {"root": run.root_run_id},
        )
        return latest == run.run_id

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
                    f"run {run.run_id} is at work on {some(shared)} since {run.run_started_at} (pid {run.pid} on {run.host})"
                )
            done = sum(result.part_of is None for result in self.done(run.root_run_id).values())
            same = run.plan.plan_id == plan.plan_id
            raise refused(
                f"{'this plan' if same else f'another plan for {some(shared)}'} was begun at {run.run_started_at} "
                f"and left at {done} of {run.plan.total} batches (run {run.run_id}, {run.run_status})",
                code="state_unfinished_plan",
                hint=f"{GO_ON[run.plan.intent].partition(' |')[0]} to go on, or: sluice-state discard {run.run_id}",
            )

    def _refuse_discarded(self, root: str) -> None:
        for run in self.runs(root_run_id=root):
            if run.is_discarded:
                raise refused(f"run {run.run_id} was discarded", code="state_discarded_run", hint="plan again")

    # -- batches --------------------------------------------------------------------------------------

    def intend(self, run_id: str, root: str, batch: Batch) -> int:
        """Record that an attempt at `batch` begins. Returns its number, from 1, counted over all runs of the plan."""
        with self.store.transaction():
            ((before,),) = self.store.rows(
                """SELECT count(*) FROM batch_event
                   WHERE root_run_id = $root AND batch_id = $batch AND event = 'intent'""",
                {"root": root, "batch": batch.batch_id},
            )
            self._insert("batch_event", event="intent", attempt=before + 1, **_batch_identity(batch, run_id, root))
        return before + 1

    def record(self, root: str, batch: Batch, result: BatchResult, project: str) -> None:
        """Record the outcome of an attempt: of its nodes first, since it is the outcome of the batch that counts."""
        planned = self._planned.get(result.run_id, {})
        own = [] if result.in_parts else result.nodes  # those of its parts are there already
        nodes = [_node_row(node, batch, result, project, planned.get(node.unique_id)) for node in own]
        with self.store.transaction():
            if nodes:
                self.store.insert("model_event", nodes)
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

    def done(self, root: str) -> dict[str, BatchResult]:
        """The results of the batches of a plan that are done and whose rows are still there, by batch_id."""
        rows = self.store.rows(_STANDING.format(columns="batch_id, result", where="status = 'ok'"), {"root": root})
        return {batch_id: self._decoded(result, BatchResult) for batch_id, result in rows}

    def done_count(self, root: str) -> int:
        """How many batches of a plan are done: what `done` has, without reading their results."""
        rows = self.store.rows(_STANDING.format(columns="batch_id", where="status = 'ok'"), {"root": root})
        return len(set(rows))

    def splits(self, root: str) -> list[BatchResult]:
        """The outcomes of a plan in which a batch was cut into parts, oldest first; also those that were undone since."""
        rows = self.store.rows(
            "SELECT result FROM batch_event WHERE root_run_id = $root AND event = 'outcome' AND result LIKE $parts ORDER BY seq",
            {"root": root, "parts": _WITH_PARTS},
        )
        return [self._decoded(result, BatchResult) for (result,) in rows]

    def sizes(
        self, project: str, target: str, *, plans: int = 20
    ) -> dict[tuple[str, str], list[tuple[Fit, Fit | None]]]:
        """What ran and what was too big, oldest first, by model and stage of which something was: see splitting.learn.

        Of the latest plans only: how much fits may change.
        """
        latest = self.store.rows(
            f"""SELECT root_run_id FROM run_event WHERE event = 'began' AND project_name = $project AND environment = $target
                GROUP BY root_run_id ORDER BY max(seq) DESC LIMIT {plans}""",
            {"project": project, "target": target},
        )
        splits = {root: self.splits(root) for (root,) in reversed(latest)}
        cut = {(split.model, split.stage) for some_splits in splits.values() for split in some_splits}
        events: dict[tuple[str, str], list[tuple[Fit, Fit | None]]] = {}
        for root, own in splits.items():
            for model, stage, size, parts in self._sizes(root, own) if cut else ():
                if (model, stage) in cut:
                    events.setdefault((model, stage), []).append((size, parts))
        return events

    def _sizes(self, root: str, splits: list[BatchResult]) -> Iterator[tuple[str, str, Fit, Fit | None]]:
        slices = {part.batch_id: part.slices for split in splits for part in split.parts}
        rows = self.store.rows(
            """SELECT result FROM batch_event WHERE root_run_id = $root AND event = 'outcome'
               AND window_start IS NOT NULL AND status IN ('ok', 'failed') ORDER BY seq""",
            {"root": root},
        )
        for (record,) in rows:
            result = self._decoded(record, BatchResult)
            if result.window is None or result.model is None or result.in_parts:
                continue
            size = Fit(unit_of(result.window), slices.get(result.batch_id, 1))
            if result.parts or result.status == "ok":
                yield result.model, result.stage, size, size_of(result.parts) if result.parts else None

    def attempted(self, root: str) -> dict[str, Attempted]:
        """The batches of a plan that may have left rows in a table as it is now, by batch_id.

        What a person has resolved counts as never attempted.
        """
        found: dict[str, Attempted] = {}
        rows = self.store.rows(
            _STANDING.format(
                columns="batch_id, event, model_name, status, attempt",
                where="(event != 'outcome' OR status != 'skipped')",
            ),
            {"root": root},
        )
        for batch_id, event, model, status, attempt in rows:
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
            run_id=row["run_id"], batch_id=row["batch_id"], plan_id=row["plan_id"], seq=row["batch_seq"],
            total=run.plan.total, model=row["model_name"], stage=row["stage"], status="ok", recovered=True,
        )  # fmt: skip
        said = {name: row[name] for name in _CELL} | {"full_refresh": bool(row["full_refresh"])}
        with self.store.transaction():
            self._insert(
                "batch_event",
                event="resolved",
                at=timestamp(),
                **said,
                status="ok" if rows_are_there else None,
                result=msgspec.json.encode(result).decode(),
            )

    def batches(self, root: str) -> list[dict[str, Any]]:
        """The rows of batch_log for a plan, in plan order."""
        columns = (*_CELL, "full_refresh", "at", "status", "duration_seconds", "message")
        rows = self.store.rows(
            f"SELECT {', '.join(columns)} FROM batch_log WHERE root_run_id = $root ORDER BY batch_seq", {"root": root}
        )
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def batches_of(self, run_ids: Sequence[str]) -> list[dict[str, Any]]:
        """The rows of batch_log whose latest attempt was in one of these runs."""
        return self._of_runs(
            "batch_log", (*_CELL, "full_refresh", "at", "status", "duration_seconds", "message"), run_ids
        )

    def attempts_of(self, run_ids: Sequence[str]) -> list[dict[str, Any]]:
        """The rows of batch_event of these runs in the order of writing: an intent and, where it is known, an outcome each."""
        columns = (*_CELL, "event", "at", "status", "duration_seconds", "message")
        return self._of_runs("batch_event", columns, run_ids, "ORDER BY seq")

    def waves_of(self, run_ids: Sequence[str]) -> dict[tuple[str, str], int]:
        """The wave of each batch of these runs that has an outcome, by run_id and batch_id."""
        return {at: kept.wave for at, kept in self._kept_of(run_ids)}

    def source_rows_of(self, run_ids: Sequence[str]) -> dict[tuple[str, str], int]:
        """The rows of the source that were counted for each batch of these runs, by run_id and batch_id; without those of none."""
        return {at: kept.source_rows for at, kept in self._kept_of(run_ids) if kept.source_rows}

    def _kept_of(self, run_ids: Sequence[str]) -> Iterator[tuple[tuple[str, str], _Kept]]:
        for row in self._of_runs("batch_event", ("run_id", "batch_id", "result"), run_ids, "AND event = 'outcome'"):
            yield (row["run_id"], row["batch_id"]), self._decoded(row["result"], _Kept)

    def _of_runs(
        self, table: str, columns: Sequence[str], run_ids: Sequence[str], more: str = "", *, at_once: int = 500
    ) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for start in range(0, len(run_ids), at_once):
            names, runs = _marks(run_ids[start : start + at_once])
            rows = self.store.rows(f"SELECT {', '.join(columns)} FROM {table} WHERE run_id IN ({names}) {more}", runs)
            found += [dict(zip(columns, row, strict=True)) for row in rows]
        return found

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
        self.store.insert(table, [row])


def _marks(values: Sequence[str]) -> tuple[str, dict[str, str]]:
    """`$v0, $v1` for an IN, and what they stand for."""
    named = {f"v{number}": value for number, value in enumerate(values)}
    return ", ".join(f"${name}" for name in named), named


_CELL = ("root_run_id", "run_id", "plan_id", "batch_id", "batch_seq", "model_name", "stage", "window_start", "window_end",
         "attempt")  # fmt: skip


def _node_row(
    node: Node, batch: Batch, result: BatchResult, project: str, planned: PlannedModel | None
) -> dict[str, object]:
    materialization = planned.materialization if planned else None
    return {
        "at": timestamp(),
        "run_id": result.run_id,
        "project_name": project,
        "model_name": node.unique_id.rsplit(".", 1)[-1],
        "unique_id": node.unique_id,
        "batch_id": batch.batch_id,
        "status": STATUS_WORDS[node.status],
        "duration_seconds": node.duration_s,
        "rows_affected": node.rows,
        "message": node.message,
        "schema_name": planned.schema_name if planned else None,
        "database_name": planned.database_name if planned else None,
        "materialization": materialization,
        "is_incremental": materialization == "incremental" and not batch.full_refresh if materialization else None,
        "started_at": result.began_at,
        "ended_at": result.ended_at,
    }


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


def _connected(url: str, origin: str, *, make: bool) -> Store | None:
    """The store at a URL, ready for use; None when there is none and none is to be made."""
    scheme, _, rest = url.partition(":")
    if scheme == "sqlite" and rest:
        from sluice.state.sqlite import SQLite, refuse_orphan

        path = Path(os.path.abspath(rest))
        if not make:
            refuse_orphan(path)
        return SQLite.create(path) if make or path.exists() else None
    if scheme in ("postgresql", "postgres"):
        from sluice.state.postgres import Postgres

        return _made(Postgres(url, origin=origin), make)
    if scheme == "clickhouse":
        from sluice.state.clickhouse import ClickHouse

        return _made(ClickHouse(url, origin=origin), make)
    raise misconfigured(
        f"the state store {scheme or url!r} ({origin}) is none that Sluice knows",
        code="state_bad_url",
        hint="use sqlite:PATH, postgresql://HOST/DATABASE or clickhouse://HOST/DATABASE",
    )


def _made(store: "Postgres | ClickHouse", make: bool) -> Store | None:
    try:
        if not store.exists():
            if not make:
                store.close()
                return None
            store.create()
        store.bring_up_to_date()
    except BaseException:
        store.close()
        raise
    return store
