"""What people are told of a run: gathered record by record, then a few lines, a severity, and a key for the same trouble. Pure."""

from collections import Counter
from dataclasses import dataclass, field
from typing import get_args

from sluice import components
from sluice.ids import content_hash
from sluice.records import (
    BatchResult,
    CheckResult,
    Decision,
    Error,
    PartitionResult,
    Plan,
    PublishResult,
    Record,
    Severity,
    Summary,
    SyncResult,
)

SEVERITIES = get_args(Severity)
_MOST_LINES = 20
# The database does not answer, or what is kept in it is not whole.
CRITICAL_CODES = frozenset(
    {"warehouse_away", "warehouse_missing", "state_damaged", "state_unusable", "state_orphaned_journal"}
)


@dataclass
class Digest:
    """What the stream told, summed up while it passes."""

    decision: Decision | None = None
    plan: Plan | None = None
    counts: Counter = field(default_factory=Counter)
    failed: list[BatchResult] = field(default_factory=list)
    checks: list[CheckResult] = field(default_factory=list)
    red: list[CheckResult] = field(default_factory=list)
    partitions: int = 0
    unmerged: list[PartitionResult] = field(default_factory=list)
    synced: list[SyncResult] = field(default_factory=list)
    published: list[PublishResult] = field(default_factory=list)
    results: list[BatchResult] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)  # each once, in their order
    errors: list[Error] = field(default_factory=list)
    duration_s: float = 0.0
    exit_code: int = 0

    def add(self, record: Record) -> None:
        if isinstance(record, Decision):
            self.decision = record
        elif isinstance(record, Plan):
            self.plan = record
        elif isinstance(record, BatchResult):
            self.counts[record.status] += 1
            self.notes |= dict.fromkeys(record.notes)
            if self.plan is not None and self.plan.request.get("components"):
                self.results.append(record)
            if record.status == "failed":
                self.failed.append(record)
        elif isinstance(record, CheckResult):
            self.checks.append(record)
            if record.status == "failed":
                self.red.append(record)
        elif isinstance(record, PartitionResult):
            self.partitions += 1
            if record.status == "failed" or _is_left_duplicated(record):
                self.unmerged.append(record)
        elif isinstance(record, PublishResult):
            self.published.append(record)
        elif isinstance(record, SyncResult):
            self.synced.append(record)
        elif isinstance(record, Error):
            self.errors.append(record)
        elif isinstance(record, Summary):
            self.duration_s = max(self.duration_s, record.duration_s)
            self.exit_code = record.exit_code or self.exit_code

    @property
    def severity(self) -> Severity:
        """ERROR when something failed, WARNING when something was left out, else INFO; never less than a red check's own
        nor than the decision's: a history that cannot be read is an ERROR. CRITICAL when a database is away or damaged."""
        found: list[Severity] = ["INFO", *(check.severity for check in self.red)]
        if self.decision is not None:
            found.append(self.decision.severity)
        if any(error.code in CRITICAL_CODES for error in self.errors):
            found.append("CRITICAL")
        if self.exit_code or self.failed or self.errors or any(one.status == "failed" for one in self.unmerged):
            found.append("ERROR")
        if self.counts["skipped"] or self.counts["cancelled"] or self.unmerged:
            found.append("WARNING")
        return max(found, key=SEVERITIES.index)

    @property
    def troubles(self) -> list[str]:
        """A key for each thing that is wrong, the same night after night."""
        found = [
            *(("model", str(result.model)) for result in self.failed),
            *(("error", error.code) for error in self.errors),
            *(("check", f"{check.check} {check.subject}") for check in self.red),
            *(("table", one.table) for one in self.unmerged),
            *(("source", result.source) for result in self.synced if result.status == "failed"),
        ]
        return sorted({content_hash(one) for one in found})

    @property
    def dedupe_key(self) -> str:
        """The same for the same trouble, night after night."""
        where = [self.plan.project, self.plan.target, self.plan.intent] if self.plan else []
        where = ["daily" if part == "retry" else part for part in where]  # a retry that fails is the old trouble
        return content_hash([where, *self.troubles])

    def lines(self) -> list[str]:
        what = (
            f"{self.plan.intent.replace('_', ' ')} of {self.plan.project} ({self.plan.target})"
            if self.plan
            else "publication"
            if self.published
            else "nothing planned"
        )
        if self.synced:
            what = "sync"
        ending = "ok" if self.severity == "INFO" else f"{self.severity}, exit {self.exit_code}"
        counts = "   ".join(
            f"{status} {self.counts[status]}"
            for status in ("ok", "failed", "skipped", "cancelled", "dry_run")
            if self.counts[status]
        )
        others = "".join(
            f"   {what} {count}" + (f" ({bad} {len(named)})" if named else "")
            for what, count, bad, named in (
                ("partitions", self.partitions, "not right", self.unmerged), ("checks", len(self.checks), "red", self.red),
            )
            if count
        )  # fmt: skip
        told = [
            f"{what.upper()}: {ending}",
            f"time {self.duration_s:.1f} s   batches {sum(self.counts.values())}   {counts}".rstrip() + others,
        ]
        if self.decision is not None and (self.decision.action != "full" or self.decision.severity != "INFO"):
            told.append(self.decision.reason)
        told += components.summary(self.plan, self.results, self.checks) if self.plan else []
        told += _named("notes", list(self.notes))
        told += [_brought(result) for result in self.synced]
        told += _changed_places(self.published)
        told += _named("failed batches", [f"failed  {_where(result)}: {result.error}" for result in self.failed])
        told += _named("red checks", [f"red  {check.check} of {check.subject}: {check.error}" for check in self.red])
        told += _named("such partitions", [_unmerged(one) for one in self.unmerged])
        told += [
            f"{error.code}: {error.message}" + (f"   try: {error.hint}" if error.hint else "")
            for error in self.errors[:_MOST_LINES]
        ]
        return told


def _named(what: str, lines: list[str]) -> list[str]:
    """The first of the lines, and how many more there are."""
    more = len(lines) - _MOST_LINES
    return [*lines[:_MOST_LINES], *([f"… and {more} more {what}"] if more > 0 else [])]


def _is_left_duplicated(result: PartitionResult) -> bool:
    """Whether rows that share their key are there and nobody worked on them."""
    return result.status == "skipped" and bool(result.duplicate_rows_before)


def _unmerged(result: PartitionResult) -> str:
    where = result.table + (f", partition {result.partition}" if result.partition else "")
    if result.status == "failed":
        return f"failed  {where}: {result.error}"
    return f"left  {where}: {result.duplicate_rows_before} rows share their key with another; {result.error}"


def _changed_places(results: list[PublishResult]) -> list[str]:
    """`publish ok  main.orders, main.totals; kept until 2026-11-22T06:00:00.000Z`, a line for each action and status."""
    told = []
    for action, status in dict.fromkeys((one.action, one.status) for one in results):
        alike = [one for one in results if (one.action, one.status) == (action, status)]
        until = next((one.kept_until for one in alike if one.kept_until), None)
        why = next((one.error for one in alike if one.error), None)
        tables = ", ".join(one.table for one in alike[:_MOST_LINES])
        told.append(
            f"{action.replace('_', ' ')} {status}  {tables}"
            + (f"; kept until {until}" if until else "")
            + (f": {why}" if why else "")
        )
    return told


def _brought(result: SyncResult) -> str:
    """`partial  coinbase: received 12, inserted 3, updated 0: the tap ended with 69`"""
    counts = f"received {result.received_rows}"
    if result.inserted_rows is not None:
        counts += f", inserted {result.inserted_rows}, updated {result.updated_rows}"
    how = "dry_run" if result.status == "dry_run" and result.sync_status == "success" else result.sync_status
    return f"{how:8} {f'{result.source} {result.stream}'.rstrip()}: {counts}" + (
        f": {result.error}" if result.error else ""
    )


def _where(result: BatchResult) -> str:
    window = f", {result.window.start} to {result.window.end}" if result.window else ""
    return f"{result.model} (batch {result.seq} of {result.total}, stage {result.stage}{window})"
