"""The digest: what a run did, in a few lines that a person reads in the morning."""

import logging
from collections.abc import Collection, Generator

from sluice.command import Context
from sluice.digest import SEVERITIES, Digest
from sluice.errors import SluiceError
from sluice.records import Error, NotifyResult, Plan, Record


def notify(ctx: Context, *, urls: Collection[str] = (), dead_man: str | None = None) -> Generator[Record, None, int]:
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
        is_for_stderr = told and not ctx.is_seen  # who sees the view has read it there
        ctx.log.log(logging.getLevelNamesMapping()[digest.severity], "%s", line, extra={"file_only": not is_for_stderr})
    yield NotifyResult(
        channel="log",
        severity=digest.severity,
        dedupe_key=digest.dedupe_key,
        digest=lines,
        status="dry_run" if rehearsal else "ok" if told else "skipped",
    )
    if not rehearsal:
        # Only now: what sends takes longer to import than most streams to pass.
        from sluice import delivery

        yield from delivery.deliver(
            ctx, digest.severity, digest.dedupe_key, lines,
            scope=_scope(digest.plan), troubles=digest.troubles, urls=urls,
        )  # fmt: skip
        if dead_man is not None:
            from sluice.dead_man import ping

            problem_there = ping(dead_man, broken.exit_code if broken else ctx.upstream_exit)
            if problem_there:
                ctx.log.warning("--dead-man: %s", problem_there)
    if broken is not None:
        raise broken
    return ctx.upstream_exit


def _scope(plan: Plan | None) -> str:
    return f"{plan.project} {plan.target} {plan.intent}" if plan else ""
