"""One batch carried out: intent, dbt, outcome; again when the warehouse hiccuped, never twice into the same rows."""

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from sluice import error_classes
from sluice.dbt_engine.client import Outcome
from sluice.error_classes import ErrorClass, Rule
from sluice.errors import SluiceError, busy
from sluice.ids import timestamp
from sluice.jobs import Job, Wait, through
from sluice.log import redact
from sluice.records import Batch, BatchResult, Node, Part, Plan, Status
from sluice.signals import Interrupted
from sluice.state import Attempted, State

_log = logging.getLogger("sluice")

ROLL_BACK = ("duckdb", "postgres")  # adapters on which what dbt reports as failed has left nothing behind


@dataclass(frozen=True)
class Patience:
    """How often a class of error is tried again, and how long is waited before: `first_s`, doubled up to `most_s`."""

    retries: int
    first_s: float
    most_s: float


PATIENCE: dict[ErrorClass, Patience] = {
    "transient": Patience(3, 1, 30),
    "victim": Patience(5, 15, 120),
}


class Engine(Protocol):
    """What runs a batch: the warm dbt session, or any dbt command line."""

    def running(
        self, *, batch_id: str, expect: list[str], vars: dict, full_refresh: bool, log_path: Path, models: list[str], marker: dict | None,
        look_again: bool,
    ) -> Job[Outcome]: ...  # fmt: skip

    def committed(self, marker: dict) -> bool | str: ...

    def cancelling(self, grace_s: float = 3.0) -> Job[None]: ...

    def twin(self) -> "Engine": ...

    def close(self) -> None: ...


class Failed(Exception):
    """An attempt failed; whether another follows is for its class to say."""

    def __init__(self, result: BatchResult, error_class: ErrorClass, why: str):
        super().__init__(result.error)
        self.result = result
        self.error_class = error_class
        self.why = why


@dataclass
class Attempts:
    """Carries out batches of one run, one at a time, each until it is done or beyond help.

    Those of several workers share `attempted`. With `look_again` another of them has changed tables since. `cut` says into
    which parts a batch that was too big goes, which are in its recorded outcome and carried out by others, or why it
    cannot be cut.
    """

    engine: Engine
    state: State
    plan: Plan
    root_run_id: str
    log_dir: Path
    lock_wait_s: float
    rules: list[Rule]
    attempted: dict[str, Attempted] = field(default_factory=dict)
    cut: Callable[[Batch], list[Part] | str] = lambda batch: ""
    told_of_hooks: bool = False
    interrupted: BatchResult | None = None  # what was in flight when a stop signal came
    look_again: bool = False

    def carry_out(self, batch: Batch) -> BatchResult:
        """What `carrying_out` comes to, waited for."""
        return through(self.carrying_out(batch))

    def carrying_out(self, batch: Batch) -> Job[BatchResult]:
        """The final result of a batch, recorded. Interrupted passes through after `cancelled` was recorded.

        Raises SluiceError (75) when another process holds the database file longer than SLUICE_LOCK_WAIT_S.
        """
        result = yield from self._patiently(batch, tries=True)
        assert result is not None
        return result

    def settling(self, batch: Batch) -> Job[BatchResult | None]:
        """`settled`, as patient with who holds the database file. Raises SluiceError (75) likewise."""
        return (yield from self._patiently(batch, tries=False))

    def _patiently(self, batch: Batch, *, tries: bool) -> Job[BatchResult | None]:
        import stamina  # not above: whoever is refused a lock has no use for it, and pays a tenth of a second

        backoff = _Backoff(self.lock_wait_s)
        retries = stamina.retry_context(
            on=backoff.is_due, attempts=None, timeout=None, wait_initial=0, wait_max=0, wait_jitter=0
        )
        rounds = iter(retries)
        try:
            while True:
                attempt = next(rounds)
                yield from backoff.over()
                with attempt:
                    settled = self.settled(batch)
                    return settled if settled or not tries else (yield from self._trying(batch))
        except Failed as failure:
            if failure.error_class == "busy":
                raise busy(
                    f"{failure.result.error}", code="warehouse_locked", hint="wait for it to end, then resume"
                ) from None
            return failure.result

    def skip(self, batch: Batch, reason: str) -> BatchResult:
        """The recorded result of a batch that is not run, and why."""
        return self.record(batch, result_of(self.plan, batch, "skipped", error=reason))

    def settled(self, batch: Batch) -> BatchResult | None:
        """The result of a batch whose rows an earlier attempt has committed, or that nobody dares to repeat.

        None when it is safe to run: never attempted, replaced as a whole, or known to have left nothing. What an
        attempt has left where nothing rolls back is removed first. Raises Failed (busy) when nobody can look yet.
        """
        before = self.attempted.get(batch.batch_id)
        if before is None or batch.full_refresh:
            return None
        committed = self.engine.committed(self._marker(batch, before.first))
        if committed is True:
            return self.record(batch, result_of(self.plan, batch, "ok", recovered=True))
        if isinstance(committed, str):
            rule = error_classes.rule_for(committed, self.plan.adapter, self.rules)
            if rule.error_class == "busy":
                raise Failed(result_of(self.plan, batch, "failed", error=redact(committed)), "busy", rule.why)
        rolled_back = before.status == "failed" and self.plan.adapter in ROLL_BACK
        if committed and not rolled_back and not batch.repeatable:
            return result_of(
                self.plan, batch, "failed",
                error=f"whether an earlier attempt left its rows in {batch.model} cannot be known from here ({redact(committed)}): "
                f"look at {_described(batch)}, then: sluice-state resolve {self.plan.run_id} {batch.batch_id} --rows-are-there or --do-again",
            )  # fmt: skip
        return None

    def _trying(self, batch: Batch) -> Job[BatchResult]:
        attempt = self.state.intend(self.plan.run_id, self.root_run_id, batch)
        if batch.full_refresh:  # whatever the others left behind goes with the table
            for batch_id in [one for one, other in self.attempted.items() if other.model == batch.model]:
                del self.attempted[batch_id]
        self._remember(batch, None, attempt)
        began, began_at = time.monotonic(), timestamp()
        log_path = self.log_dir / self.plan.run_id / f"{_file_name(batch)}.log"
        log_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)

        def result(status, **more) -> BatchResult:
            return result_of(
                self.plan, batch, status, attempt=attempt, began_at=began_at, ended_at=timestamp(),
                duration_s=round(time.monotonic() - began, 4), log_path=str(log_path), **more,
            )  # fmt: skip

        try:
            outcome = yield from self.engine.running(
                batch_id=batch.batch_id,
                expect=batch.expect,
                vars=batch.vars,
                full_refresh=batch.full_refresh,
                log_path=log_path,
                models=[model.unique_id for model in self.plan.models],
                marker=self._marker(batch, attempt),
                look_again=self.look_again,
            )
        except Interrupted:
            yield from self.engine.cancelling()
            there = not batch.full_refresh and self._took_effect(batch, attempt)
            self.interrupted = self.record(
                batch, result("ok", recovered=True) if there else result("cancelled", error="cancelled by a signal")
            )
            raise
        nodes = [_node(node) for node in outcome.nodes]
        if outcome.fresh_reason:
            _log.info("batch %d of %d had dbt parse anew: %s", batch.seq, batch.total, redact(outcome.fresh_reason))
        self._tell_of_hooks(batch, outcome.hooks_s, time.monotonic() - began)
        notes = [redact(note) for note in outcome.notes]
        if outcome.status == "ok":
            return self.record(batch, result("ok", nodes=nodes, notes=notes))
        if outcome.status == "lost":  # no outcome is recorded: it is unknown, and stays so until somebody has looked
            raise Failed(result("failed", error=outcome.error), "transient", "the dbt process died")
        error = redact(
            outcome.error or next((node.message for node in nodes if node.message), None) or "dbt gave no reason"
        )
        rule = error_classes.rule_for(error, self.plan.adapter, self.rules)
        parts = self.cut(batch) if rule.error_class == "too_big" and rule.splits else ""
        if isinstance(parts, str):
            error, parts = _advised(error, rule, outcome, batch, uncut=parts), []
        failed = self.record(batch, result("failed", nodes=nodes, notes=notes, error=error, parts=parts))
        raise Failed(failed, rule.error_class, rule.why)

    def _took_effect(self, batch: Batch, attempt: int) -> bool:
        """Whether that is sure after a stop signal, which may have ended dbt too."""
        try:
            return self.engine.committed(self._marker(batch, attempt)) is True
        except SluiceError:
            return False

    def _tell_of_hooks(self, batch: Batch, hooks_s: float, batch_s: float) -> None:
        """Once, when a batch has paid for the on-run hooks alone: what the others will pay."""
        if not hooks_s or self.told_of_hooks:
            return
        self.told_of_hooks = True
        from sluice.guards import hooks  # seldom needed, and pydantic comes with it

        if cost := hooks.projected(hooks_s, batch_s, self.plan.total - batch.seq):
            _log.warning("%s", cost)

    def record(self, batch: Batch, result: BatchResult) -> BatchResult:
        """Write an outcome down."""
        self.state.record(self.root_run_id, batch, result, self.plan.project)
        if result.status != "skipped":
            self._remember(batch, result.status, result.attempt)
        return result

    def _remember(self, batch: Batch, status: Status | None, attempt: int) -> None:
        before = self.attempted.get(batch.batch_id)
        self.attempted[batch.batch_id] = Attempted(batch.model, status, before.first if before else attempt)

    def _marker(self, batch: Batch, attempt: int) -> dict[str, str | int]:
        """The attempt's name in the warehouse; it commits together with the rows of a batch that adds."""
        return {"root_run_id": self.root_run_id, "batch_id": batch.batch_id, "attempt": attempt}


class _Backoff:
    """Seconds to wait before the next attempt, or False when there is none.

    stamina is told only whether there is one: it would sleep, and with it everything that runs beside.
    """

    def __init__(self, lock_wait_s: float):
        self._wait_s: float | bool = False
        self._seen: dict[ErrorClass, int] = {}
        self._locked_until = time.monotonic() + lock_wait_s

    def is_due(self, problem: Exception) -> bool:
        """stamina's hook."""
        self._wait_s = self(problem)
        return self._wait_s is not False

    def over(self) -> Job[None]:
        """Wait as long as the last failure asks for."""
        if self._wait_s is not False:
            yield Wait(most_s=self._wait_s)

    def __call__(self, problem: Exception) -> float | bool:
        if not isinstance(problem, Failed):
            return False
        count = self._seen[problem.error_class] = self._seen.get(problem.error_class, 0) + 1
        if problem.error_class == "busy":
            return 0.5 if time.monotonic() < self._locked_until else False
        patience = PATIENCE.get(problem.error_class)
        if patience is None or count > patience.retries:
            return False
        longest_s = min(patience.first_s * 2 ** (count - 1), patience.most_s)
        wait_s = random.uniform(longest_s / 2, longest_s)
        _log.warning(
            "batch %d of %d: %s: %s; again in %.0f s",
            problem.result.seq,
            problem.result.total,
            problem.error_class,
            problem.why,
            wait_s,
        )
        return wait_s


def result_of(plan: Plan, batch: Batch, status: Status, **more) -> BatchResult:
    """A result with the identity of its batch."""
    return BatchResult(
        run_id=plan.run_id, batch_id=batch.batch_id, plan_id=batch.plan_id, seq=batch.seq, total=batch.total, wave=batch.wave,
        model=batch.model, stage=batch.stage, window=batch.window, part_of=batch.part_of, status=status, estimate=batch.estimate,
        source_rows=batch.source_rows, **more,
    )  # fmt: skip


def _node(node) -> Node:
    return Node(
        unique_id=node.unique_id, status=node.status, duration_s=round(node.duration_s, 4), rows=node.rows, message=redact(node.message or "") or None
    )  # fmt: skip


def _advised(error: str, rule: Rule, outcome: Outcome, batch: Batch, *, uncut: str = "") -> str:
    """An error with what the table of errors knows to do about it, said of the node that failed."""
    error += f"\n  not in smaller parts: {uncut}" if uncut else ""
    if not rule.hint:
        return error
    node = next((node for node in outcome.nodes if node.status == "failed"), None)
    model = (node.unique_id if node else batch.model or "").rsplit(".", 1)[-1]
    schema, table = (node.schema, node.table) if node else ("", model)
    return f"{error}\n  try: {rule.advice(error, model=model, schema=schema, table=table)}"


def _described(batch: Batch) -> str:
    window = f", {batch.window.start} to {batch.window.end} (excluded)" if batch.window else ""
    return f"stage {batch.stage}{window}"


def _file_name(batch: Batch) -> str:
    """`0003-int_orders-default-2024-01-01`, whatever characters the names have."""
    parts = [
        f"{batch.seq:04}",
        (batch.model or "selection").rsplit(".", 1)[-1],
        batch.stage,
        *([str(batch.window.start)] if batch.window else []),
        *([batch.batch_id] if batch.part_of else []),
    ]
    return "-".join(
        "".join(c if c.isascii() and (c.isalnum() or c in "_.-") else "_" for c in part)[:60] for part in parts
    )
