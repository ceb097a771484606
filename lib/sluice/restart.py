"""The decision of the daily refresh: everything, or only what failed and all that depends on it. Pure: history in, decision out."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median

from sluice.records import Decision, RunStatus, Vars


@dataclass(frozen=True)
class Outcome:
    """What became of a model in a run. `status` is that of its batch; unknown: begun, and never heard of again."""

    status: str
    message: str | None = None


@dataclass(frozen=True)
class PastRun:
    """One earlier run of the same job. RUNNING means that it crashed: whoever is at work is not asked about.

    `checksums` are those of the models that it was to run (None: not known), `outcomes` of those that it got to.
    """

    run_id: str
    began_at: datetime
    status: RunStatus
    retry_of: str | None = None
    vars: Vars = field(default_factory=dict)
    checksums: Mapping[str, str | None] = field(default_factory=dict)
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)

    @property
    def left(self) -> list[str]:
        """The models that it did not get done."""
        return [uid for uid in self.checksums if uid not in self.outcomes or self.outcomes[uid].status != "ok"]

    @property
    def failed(self) -> list[str]:
        """The models that failed or were in flight when it was cut off; not those that were only skipped."""
        return [uid for uid in self.left if uid in self.outcomes and self.outcomes[uid].status != "skipped"]


@dataclass(frozen=True)
class Job:
    """What a full build would run now: checksums of the models, in order, and which of them each one is read by.

    `vars` are those that were asked for; None: the caller did not say.
    """

    checksums: Mapping[str, str]
    descendants: Mapping[str, Collection[str]]
    vars: Vars | None = None

    def with_descendants(self, uids: Iterable[str]) -> set[str]:
        return {uid for start in uids for uid in (start, *self.descendants.get(start, ()))}


@dataclass(frozen=True)
class Policy:
    """When a retry is right. `full_when_failed_ratio` is of the estimated seconds of a full build."""

    max_retry_age_hours: float = 24.0
    max_attempts: int = 3
    full_when_failed_ratio: float = 1.0
    no_restart: bool = False
    accept_drift: bool = False


def decide(
    failure: Sequence[PastRun],
    job: Job,
    policy: Policy,
    *,
    now: datetime,
    seconds: Mapping[str, float] | None = None,
    only_code_helps: Callable[[str], bool] = lambda message: False,
) -> tuple[Decision, list[str]]:
    """The decision and the models to run, in order.

    `failure` is the last run of this job, and when it was a retry all runs of that failure, oldest first: the run that
    first failed and its retries. `seconds` are the last measured durations of models.
    """
    everything = list(job.checksums)
    seconds = seconds or {}

    def full(reason: str) -> tuple[Decision, list[str]]:
        return _decision("full", reason, everything, job, seconds), everything

    if policy.no_restart:
        return full("everything: --no-restart")
    if not failure:
        return full("everything: no earlier run is known")
    first, last, retries = failure[0], failure[-1], sum(run.retry_of is not None for run in failure)
    if last.status == "SUCCESS":
        return full("everything: the last run succeeded")
    what = f"{_what_failed(last)} {_age(now - first.began_at)} ago"
    if retries >= policy.max_attempts:
        return full(f"everything: {_count(retries, 'retry', 'retries')} did not help: {what}")
    # Age counts from where the first run began: so old are the rows of the models that would not run again.
    if now - first.began_at >= timedelta(hours=policy.max_retry_age_hours):
        return full(f"everything: {what}, more than {policy.max_retry_age_hours:g} h")
    if job.vars is not None and job.vars != last.vars and not policy.accept_drift:
        return full(f"everything: {what}, and the vars have changed since")

    latest = {uid: run for run in failure for uid in run.checksums}  # the last run that was to run it
    known = {uid: run.checksums[uid] for uid, run in latest.items()}
    left = job.with_descendants(uid for uid, run in latest.items() if uid in job.checksums and uid in run.left)
    if not left:
        return full(f"everything: {what}, and no model is known to have failed")
    new = [uid for uid in everything if uid not in known]
    changed = [
        uid for uid in everything if uid not in left and uid in known and _differs(known[uid], job.checksums[uid])
    ]
    if policy.accept_drift:
        left |= job.with_descendants(new)
    elif new or changed:
        drift = [f"{_names(new)} new"] * bool(new) + [f"the code of {_names(changed)} changed"] * bool(changed)
        return full(f"everything: {what}, and since then {' and '.join(drift)}")

    same_vars = job.vars is None or job.vars == last.vars
    hopeless = [
        uid
        for uid, run in latest.items()
        if same_vars and uid in job.checksums and uid in run.failed
        and known[uid] == job.checksums[uid] and only_code_helps(run.outcomes[uid].message or "")
    ]  # fmt: skip
    left -= job.with_descendants(hopeless)
    chosen = [uid for uid in everything if uid in left]
    facts = {"retry_of": first.retry_of or first.run_id, "failed": last.failed, "hopeless": hopeless}
    if not chosen:
        reason = f"nothing: {what}, of an error that only a change to the code can cure, and the code is what it was"
        return _decision("none", reason, [], job, seconds, **facts), []
    decision = _decision("retry", "", chosen, job, seconds, retry=retries + 1, **facts)
    if decision.full_s and (decision.estimate_s or 0) > policy.full_when_failed_ratio * decision.full_s:
        return full(f"everything: {what}, and a retry would take {_instead(decision)}")
    decision.reason = f"retry {retries + 1} of {policy.max_attempts}: {what}; {len(chosen)} of {len(everything)} models"
    decision.reason += f", {_instead(decision)}" if decision.full_s else ""
    decision.reason += f"; without {_names(hopeless)}, which only a change to the code can cure" if hopeless else ""
    return decision, chosen


def _decision(
    action, reason: str, chosen: list[str], job: Job, seconds: Mapping[str, float], **facts
) -> Decision:  # fmt: skip
    known = [seconds[uid] for uid in job.checksums if uid in seconds]
    usual = median(known) if known else 0.0  # for a model that has not been measured yet
    will_run = set(chosen)

    def total(uids: Iterable[str]) -> float | None:
        return round(sum(seconds.get(uid, usual) for uid in uids), 3) if known else None

    return Decision(
        action=action, reason=reason, models=len(chosen), total=len(job.checksums),
        estimate_s=total(chosen), full_s=total(job.checksums),
        # Only what was measured is said to be saved.
        saved_s=round(sum(s for uid, s in seconds.items() if uid in job.checksums and uid not in will_run), 3)
        if action == "retry" else None,
        **facts,
    )  # fmt: skip


def _differs(before: str | None, now: str) -> bool:
    return before is not None and before != now


def _instead(decision: Decision) -> str:
    return f"about {_seconds(decision.estimate_s)} instead of {_seconds(decision.full_s)}"


def _seconds(value: float | None) -> str:
    return f"{value:.0f} s" if value is None or value >= 10 else f"{value:.1f} s"


def _what_failed(run: PastRun) -> str:
    named = f"{_names(run.failed)} " if run.failed else "the last run "
    if run.status == "RUNNING":
        return f"{named}was cut off" if not run.failed else f"the last run was cut off in {_names(run.failed)}"
    return named + ("failed" if run.status == "FAILED" else "was cancelled")


def _names(uids: Sequence[str], most: int = 3) -> str:
    names = [uid.rsplit(".", 1)[-1] for uid in uids]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _age(age: timedelta) -> str:
    seconds = max(age.total_seconds(), 0)  # a clock may have been set back
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
