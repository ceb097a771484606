"""The digest: what a run did, in a few lines that a person reads in the morning."""

from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import get_args

from sluice import components, delivery
from sluice.command import Context
from sluice.dead_man import ping
from sluice.errors import SluiceError
from sluice.ids import content_hash
from sluice.records import BatchResult, Error, NotifyResult, Plan, Record, Severity, Summary

SEVERITIES = get_args(Severity)
_MOST_LINES = 20
# The database does not answer, or what is kept in it is not whole.
CRITICAL_CODES = frozenset(
    {"warehouse_away", "warehouse_missing", "state_damaged", "state_unusable", "state_orphaned_journal"}
)


@dataclass
class Digest:
    """What the stream told, summed up while it passes."""

    plan: Plan | None = None
    counts: Counter = field(default_factory=Counter)
    failed: list[BatchResult] = field(default_factory=list)
    results: list[BatchResult] = field(default_factory=list)
    errors: list[Error] = field(default_factory=list)
    duration_s: float = 0.0
    exit_code: int = 0

    def add(self, record: Record) -> None:
        if isinstance(record, Plan):
            self.plan = record
        elif isinstance(record, BatchResult):
            self.counts[record.status] += 1
            if self.plan is not None and self.plan.request.get("components"):
                self.results.append(record)
            if record.status == "failed":
                self.failed.append(record)
        elif isinstance(record, Error):
            self.errors.append(record)
        elif isinstance(record, Summary):
            self.duration_s = max(self.duration_s, record.duration_s)
            self.exit_code = record.exit_code or self.exit_code

    @property
    def severity(self) -> Severity:
        """CRITICAL when a database is away or damaged, ERROR when something failed, WARNING when something was left out, else INFO."""
        if any(error.code in CRITICAL_CODES for error in self.errors):
            return "CRITICAL"
        if self.exit_code or self.failed or self.errors:
            return "ERROR"
        return "WARNING" if self.counts["skipped"] or self.counts["cancelled"] else "INFO"

    @property
    def dedupe_key(self) -> str:
        """The same for the same trouble, night after night."""
        where = [self.plan.project, self.plan.target, self.plan.intent] if self.plan else []
        return content_hash([where, sorted({str(r.model) for r in self.failed}), sorted({e.code for e in self.errors})])

    def lines(self) -> list[str]:
        what = (
            f"{self.plan.intent.replace('_', ' ')} of {self.plan.project} ({self.plan.target})"
            if self.plan
            else "nothing planned"
        )
        ending = "ok" if self.severity == "INFO" else f"{self.severity}, exit {self.exit_code}"
        counts = "   ".join(
            f"{status} {self.counts[status]}"
            for status in ("ok", "failed", "skipped", "cancelled", "dry_run")
            if self.counts[status]
        )
        told = [
            f"{what.upper()}: {ending}",
            f"time {self.duration_s:.1f} s   batches {sum(self.counts.values())}   {counts}".rstrip(),
        ]
        told += components.summary(self.plan, self.results, []) if self.plan else []
        told += [f"failed  {_where(result)}: {result.error}" for result in self.failed[:_MOST_LINES]]
        if len(self.failed) > _MOST_LINES:
            told.append(f"… and {len(self.failed) - _MOST_LINES} more failed batches")
        told += [
            f"{error.code}: {error.message}" + (f"   try: {error.hint}" if error.hint else "")
            for error in self.errors[:_MOST_LINES]
        ]
        return told


def notify(ctx: Context, *, dead_man: str | None = None) -> Generator[Record, None, int]:
    """Pass everything on; when the stream has ended, or broke off, log the digest and send it to those who are to know."""
    digest, broken = Digest(), None
    try:
        for record in ctx.records():
            digest.add(record)
    except SluiceError as problem:  # a run that died is what people most want to be told of
        broken = problem
        digest.add(Error(code=problem.code, message=problem.message, hint=problem.hint))
    told = SEVERITIES.index(digest.severity) >= SEVERITIES.index(ctx.config.notify_level)
    rehearsal = ctx.dry_run or (digest.plan is not None and digest.plan.dry_run)
    lines = digest.lines()
    for line in lines if not rehearsal else []:
        ctx.log.log(_LEVELS[digest.severity], "%s", line)
    yield NotifyResult(
        channel="log",
        severity=digest.severity,
        dedupe_key=digest.dedupe_key,
        digest=lines,
        status="dry_run" if rehearsal else "ok" if told else "skipped",
    )
    if not rehearsal:
        yield from delivery.deliver(ctx, digest.severity, digest.dedupe_key, lines, scope=_scope(digest.plan))
        if dead_man is not None:
            problem_there = ping(dead_man, broken.exit_code if broken else ctx.upstream_exit)
            if problem_there:
                ctx.log.warning("--dead-man: %s", problem_there)
    if broken is not None:
        raise broken
    return ctx.upstream_exit


def _scope(plan: Plan | None) -> str:
    return f"{plan.project} {plan.target} {plan.intent}" if plan else ""


_LEVELS = {"INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}


def _where(result: BatchResult) -> str:
    window = f", {result.window.start} to {result.window.end}" if result.window else ""
    return f"{result.model} (batch {result.seq} of {result.total}, stage {result.stage}{window})"
