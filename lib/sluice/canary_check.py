"""The gate: what the models of a gate declare about their rows is asked, and red stops the flow.

It works when its input has ended: only then have the commands before it done their work, and let go of the warehouse.
"""

import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import msgspec

from sluice import aside, check_queries, error_classes, planning, profiles, progress
from sluice.check_queries import Scan
from sluice.checks import Check, Declared, declared
from sluice.command import Context
from sluice.errors import RED, SluiceError, refused
from sluice.log import redact
from sluice.project import Project
from sluice.records import BatchResult, CheckResult, Decision, Gate, PartitionResult, Plan, Record
from sluice.warehouse import Warehouse, WarehouseError, connect

STOPPING = ("ERROR", "CRITICAL")

DECLARE = "declare one as docs/checks.md shows"


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


@dataclass(frozen=True)
class Work:
    """The checks of one gate; `red` says why none of them need be asked."""

    gate: Gate
    checks: list[Declared] = field(default_factory=list)
    red: str | None = None


def canary_check(ctx: Context, options: Options) -> Generator[Record, None, int | None]:
    """Yield a check_result for each check. The exit code is 3 when one of severity ERROR is red, else that of the command before.

    Raises SluiceError: 2 for a check that is declared wrongly and for a selection without any; 69, 75 for the warehouse; 78
    for profile and project.
    """
    seen = _alone(options) if options.select else _read(ctx)
    if not seen.gates and not (options.days and seen.plan):
        ctx.log.info("no gate: nothing to check")
        return None
    is_rehearsal = ctx.dry_run or (seen.plan is not None and seen.plan.dry_run)
    ctx.keeps = not is_rehearsal
    is_red = False
    for result in _results(ctx, seen, options, is_rehearsal):
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


def _results(ctx: Context, seen: Seen, options: Options, is_rehearsal: bool) -> Iterator[CheckResult]:
    works = _works(ctx, seen, options)
    asked = [work for work in works if work.checks and work.red is None]
    for work in works:
        if work.red is not None:
            yield CheckResult(
                check="gate",
                severity="ERROR",
                subject=work.gate.gate,
                status="dry_run" if is_rehearsal else "failed",
                error=work.red,
            )
        elif is_rehearsal:
            for one in work.checks:
                yield _result(one, "dry_run")
    if is_rehearsal or not asked:
        return
    credentials = profiles.load(ctx.config, _variables(seen.plan))
    with connect(
        credentials, tag=f"{ctx.name} {ctx.run_id}".strip(), read_only=True, timeout_s=options.timeout_s,
        lock_wait_s=ctx.config.lock_wait_s, rules=error_classes.load(ctx.config.error_classes),
    ) as warehouse, progress.counting("checks", sum(len(work.checks) for work in asked)) as count:  # fmt: skip
        for work in asked:
            began = datetime.fromisoformat(seen.plan.at) if seen.plan is not None and seen.plan.at else None
            scan = Scan(work.gate.since, work.gate.to, ctx.now, options.first_run, ctx.config.project_dir, began)
            for one in work.checks:
                ctx.log.info("%s of %s, %s to %s", one.label, one.node.name, scan.since, scan.to)
                count.now(f"{one.label} of {one.node.name}")
                result = _asked(warehouse, one, scan)
                count.add(failed=result.status == "failed")
                yield result


def _works(ctx: Context, seen: Seen, options: Options) -> list[Work]:
    """What each gate is to ask, all declarations checked. The project is looked at only where something is to be asked."""
    works: list[Work] = []
    open_gates: list[Gate] = []
    for gate, trouble in seen.gates:
        if trouble:
            works.append(Work(gate, red=f"not asked: {' and '.join(trouble)} before it did not succeed"))
        elif ctx.upstream_exit:
            works.append(Work(gate, red=f"not asked: the command before it ended with {ctx.upstream_exit}"))
        elif gate.gate != "canary":
            works.append(Work(gate, red=f"there is no gate called {gate.gate!r} here"))
        else:
            open_gates.append(gate)
    if not open_gates and not options.days:
        return works
    with Project(ctx.config, _variables(seen.plan)) as project:
        if seen.plan is not None and seen.plan.target != project.info.target:
            raise refused(
                f"the plan is for target {seen.plan.target}, this command's is {project.info.target} ({ctx.config.explain('DBT_TARGET')})",
                code="plan_other_target", hint="use the same --target for both",
            )  # fmt: skip
        aside.redirect(project.manifest, seen.plan)
        for gate in open_gates:
            models = project.select(options.select, options.exclude, None) if options.select else gate.models
            works.append(_work(project, gate, models, options))
        if options.days and seen.plan is not None:
            works.append(_what_was_asked_for(project, seen.plan, seen.broken, options))
    return works


def _what_was_asked_for(project: Project, plan: Plan, broken: set[str], options: Options) -> Work:
    """The checks of all models of the plan's request, also of those that a retry need not run again.

    Not of models that were not built, nor of those that read them: that they are not right is known.
    """
    assert options.to is not None
    assert options.days is not None
    asked: Any = plan.request
    parts = [[part] for part in asked.get("components") or ()] or [asked.get("select") or []]
    chosen = dict.fromkeys(
        uid for part in parts for uid in project.select(part, asked.get("exclude") or [], asked.get("selector"))
    )
    built = [uid for uid in chosen if uid not in broken and not broken & project.manifest.ancestors(uid)]
    checks = [one for uid in built for one in declared(project.manifest, project.manifest.nodes[uid], recompute=False)]
    since = options.to - timedelta(days=options.days)
    return Work(Gate(plan_id=plan.plan_id, wave=0, gate="days", models=built, since=since, to=options.to), checks)


def _work(project: Project, gate: Gate, models: Iterable[str], options: Options) -> Work:
    nodes = project.manifest.nodes
    unknown = [uid for uid in models if uid not in nodes]
    if unknown:
        return Work(gate, red=f"{', '.join(unknown)}: not in the project")
    checks = [one for uid in models for one in declared(project.manifest, nodes[uid], recompute=options.recompute)]
    if options.recompute and not any(one.source for one in checks) and not options.allow_empty:
        return _nothing(gate, "a recompute in meta.canary", options)
    if not checks and not options.allow_empty:
        return _nothing(gate, "meta.canary or meta.checks", options)
    return Work(gate, checks)


def _nothing(gate: Gate, what: str, options: Options) -> Work:
    """Raises SluiceError (2) where a person chose the models: it is a slip of theirs."""
    message = f"zero checks is not green: none of the models declares {what}"
    if options.select:
        raise refused(message, code="check_none", hint=f"{DECLARE}, or pass --allow-empty")
    return Work(gate, red=f"{message}; {DECLARE}, or use canary-check --allow-empty")


def _variables(plan: Plan | None) -> dict:
    return msgspec.json.decode(str(plan.request.get("vars") or "{}")) if plan else {}


def _result(one: Declared, status: str) -> CheckResult:
    check: Check = one.check
    return CheckResult(check=one.label, severity=check.severity, subject=one.node.unique_id, status=status)  # type: ignore[arg-type]


def _asked(warehouse: Warehouse, one: Declared, scan: Scan) -> CheckResult:
    """One check asked. A query without an answer is red; what a person must correct is, too, and leaves the others their turn."""
    began = time.monotonic()
    result = _result(one, "ok")
    try:
        verdict = check_queries.ask(warehouse, one, scan)
    except WarehouseError as problem:
        why = "took too long" if problem.code == "warehouse_timeout" else "failed"
        result.status, result.error = "failed", redact(f"the query {why}: {problem.message}")
    except SluiceError as problem:
        result.status, result.error = (
            "failed",
            redact(f"{problem.message}" + (f"; try: {problem.hint}" if problem.hint else "")),
        )
    else:
        result.status = "failed" if verdict.error else "ok"
        result.observed, result.threshold, result.unit = verdict.observed, verdict.threshold, verdict.unit
        result.violation_rows, result.sample, result.error = verdict.violation_rows, verdict.sample, verdict.error
    result.duration_s = round(time.monotonic() - began, 4)
    return result
