"""The gate: what the models of a gate declare about their rows is asked, and red stops the flow.

It works when its input has ended: only then have the commands before it done their work, and let go of the warehouse.
"""

from collections.abc import Generator
from dataclasses import dataclass, field
from datetime import date

from sluice import planning
from sluice.command import Context
from sluice.errors import RED, refused
from sluice.records import BatchResult, Decision, Gate, PartitionResult, Plan, Record

STOPPING = ("ERROR", "CRITICAL")


@dataclass(frozen=True)
class Options:
    """With `select` it stands alone: no gate comes in, and `since` and `to` are the first and last day to look at.

    With `days` it checks, besides the gates, all that the plan was asked for, over so many days up to `to`.
    """

    select: list[str] = field(default_factory=list)
    exclude: list[str] = field(default_factory=list)
    since: date | None = None
    to: date | None = None
    days: int | None = None
    recompute: bool = False
    first_run: bool = False
    warn_only: bool = False
    allow_empty: bool = False
    timeout_s: float = 300.0


@dataclass
class Seen:
    """What came in: the plan, the gates, and for each what had gone wrong before it; `broken` are models that were not built."""

    plan: Plan | None = None
    broken: set[str] = field(default_factory=set)
    gates: list[tuple[Gate, list[str]]] = field(default_factory=list)


def canary_check(ctx: Context, options: Options) -> Generator[Record, None, int | None]:
    """Yield a check_result for each check. The exit code is 3 when one of severity ERROR is red, else that of the command before.

    Raises SluiceError: 2 for a check that is declared wrongly and for a selection without any; 69, 75 for the warehouse; 78
    for profile and project.
    """
    seen = _alone(options) if options.select else _read(ctx)
    if not seen.gates and not (options.days and seen.plan):
        ctx.log.info("no gate: nothing to check")
        return None
    # Only now: what declarations are read with takes longer to import than most streams to pass.
    from sluice import gates

    is_rehearsal = ctx.dry_run or (seen.plan is not None and seen.plan.dry_run)
    ctx.keeps = not is_rehearsal
    is_red = False
    for result in gates.results(ctx, seen, options, is_rehearsal):
        if result.status == "failed":
            stops = result.severity in STOPPING and not options.warn_only
            is_red = is_red or stops
            tell = ctx.log.error if stops else ctx.log.warning
            tell("%s of %s is red: %s", result.check, result.subject, result.error)
        elif result.error:
            ctx.log.warning("%s of %s would be red: %s", result.check, result.subject, result.error)
        yield result
    if is_red and seen.plan is not None and (go_on := planning.go_on(seen.plan)):
        ctx.log.warning("what comes after it is not touched; once it is understood, go on with: %s", go_on)
    return RED if is_red else ctx.upstream_exit


def _alone(options: Options) -> Seen:
    assert options.since is not None
    assert options.to is not None
    if options.since > options.to:
        raise refused(
            f"--since {options.since} lies after {options.to}", code="check_bad_days", hint="the first day to look at"
        )
    return Seen(gates=[(Gate(plan_id="", wave=0, gate="canary", models=[], since=options.since, to=options.to), [])])


def _read(ctx: Context) -> Seen:
    """All that comes in, to its end."""
    seen = Seen()
    bad = {"batch": 0, "partition": 0}
    for record in ctx.records():
        if isinstance(record, Plan):
            seen.plan = record
        elif isinstance(record, Decision):
            seen.broken.update(record.hopeless)
        elif isinstance(record, BatchResult):
            if record.status in ("failed", "cancelled", "skipped"):
                bad["batch"] += 1
                seen.broken.add(record.model or "")
        elif isinstance(record, PartitionResult):
            bad["partition"] += record.status in ("failed", "cancelled")
        elif isinstance(record, Gate):
            trouble = [
                f"{count} {what}{'' if count == 1 else 'es' if what == 'batch' else 's'}"
                for what, count in bad.items()
                if count
            ]
            seen.gates.append((record, trouble))
    return seen
