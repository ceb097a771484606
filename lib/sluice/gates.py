"""What the gates of a stream are to ask, and the answers: each declared check of their models, asked once in the warehouse."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sluice import aside, check_queries, error_classes, planning, profiles, progress
from sluice.canary_check import Options, Seen
from sluice.check_queries import Scan
from sluice.checks import Check, Declared, declared
from sluice.command import Context
from sluice.errors import SluiceError, refused
from sluice.log import redact
from sluice.project import Project
from sluice.records import CheckResult, Gate, Plan
from sluice.warehouse import Warehouse, WarehouseError, connect

DECLARE = "declare one as docs/checks.md shows"


@dataclass(frozen=True)
class Work:
    """The checks of one gate; `red` says why none of them need be asked."""

    gate: Gate
    checks: list[Declared] = field(default_factory=list)
    red: str | None = None


def results(ctx: Context, seen: Seen, options: Options, is_rehearsal: bool) -> Iterator[CheckResult]:
    """A check_result for each check, and for each gate that cannot be asked. Raises SluiceError as `canary_check` does."""
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
    credentials = profiles.load(ctx.config, planning.base_vars(seen.plan))
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
    with Project(ctx.config, planning.base_vars(seen.plan)) as project:
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
