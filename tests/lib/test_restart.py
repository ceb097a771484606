"""The decision of the daily refresh: when a retry is right, of what, and what is said about it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.records import Decision
from sluice.restart import Job, Outcome, PastRun, Policy, decide

NOW = datetime(2026, 4, 17, 8, tzinfo=UTC)
NAMES = [f"model.shop.m{n:02}" for n in range(1, 26)]
FAILS, SPOILED = NAMES[14], NAMES[20:]  # the 15th fails, and five are built on it
SECONDS = dict.fromkeys(NAMES, 10.0)
JOB = Job(dict.fromkeys(NAMES, "c0de"), {FAILS: set(SPOILED)})


def a_run(run_id: str = "run-1", *, hours_ago: float = 6, failed: str = FAILS, error: str = "boom", **fields: Any):
    """The night's run: all done but one that failed and those that were skipped for it."""
    outcomes = dict.fromkeys(NAMES, Outcome("ok")) | dict.fromkeys(SPOILED, Outcome("skipped", "m15 failed"))
    given_fields = {
        "status": "FAILED",
        "checksums": JOB.checksums,
        "outcomes": outcomes | {failed: Outcome("failed", error)},
    } | fields
    return PastRun(run_id, NOW - timedelta(hours=hours_ago), **given_fields)


def a_retry(number: int, *, hours_ago: float = 5, **fields: Any) -> PastRun:
    only = [FAILS, *SPOILED]
    outcomes = dict.fromkeys(SPOILED, Outcome("skipped")) | {FAILS: Outcome("failed", "boom")}
    given_fields = {"status": "FAILED", "checksums": dict.fromkeys(only, "c0de"), "outcomes": outcomes} | fields
    given_fields |= {"retry_of": "run-1"}
    return PastRun(f"retry-{number}", NOW - timedelta(hours=hours_ago), **given_fields)


def decided(*failure: PastRun, job: Job = JOB, seconds: dict | None = SECONDS, **policy: Any) -> tuple[Decision, list]:
    return decide(failure, job, Policy(**policy), now=NOW, seconds=seconds, only_code_helps=lambda m: m == "syntax")


def test_what_failed_and_what_depends_on_it_runs_again_and_the_saving_is_told() -> None:
    decision, chosen = decided(a_run())
    assert chosen == [FAILS, *SPOILED]
    assert decision.reason == "retry 1 of 3: m15 failed 6 h ago; 6 of 25 models, about 60 s instead of 250 s"
    assert (decision.action, decision.retry, decision.retry_of, decision.failed) == ("retry", 1, "run-1", [FAILS])
    assert (decision.models, decision.total, decision.saved_s) == (6, 25, 190.0)


def test_three_retries_of_one_failure_and_then_everything() -> None:
    failure = [a_run()]
    for number in (1, 2, 3):
        decision, chosen = decided(*failure)
        assert decision.reason.startswith(f"retry {number} of 3: m15 failed")
        assert (len(chosen), decision.saved_s, decision.retry_of) == (6, 190.0, "run-1")
        failure.append(a_retry(number))
    decision, chosen = decided(*failure)
    assert (decision.action, len(chosen)) == ("full", 25)
    assert "3 retries did not help" in decision.reason


FULL = {
    "no earlier run": ([], {}, "no earlier run"),
    "success": ([a_run(status="SUCCESS")], {}, "the last run succeeded"),
    "a retry that succeeded": ([a_run(), a_retry(1, status="SUCCESS")], {}, "the last run succeeded"),
    "too old": ([a_run(hours_ago=24)], {}, "m15 failed 24 h ago, more than 24 h"),
    "too old, though retried since": ([a_run(hours_ago=25), a_retry(1)], {}, "more than 24 h"),
    "too old for this policy": ([a_run(hours_ago=2.1)], {"max_retry_age_hours": 2}, "more than 2 h"),
    "asked for": ([a_run()], {"no_restart": True}, "--no-restart"),
    "no attempts": ([a_run()], {"max_attempts": 0}, "0 retries"),
    "nothing is known to have failed": ([a_run(outcomes=dict.fromkeys(NAMES, Outcome("ok")))], {}, "no model is known"),
    "what failed is gone": ([a_run(checksums={}, outcomes={})], {}, "no model is known"),
    "too much failed": ([a_run()], {"full_when_failed_ratio": 0.2}, "a retry would take about 60 s instead of 250 s"),
}


@pytest.mark.parametrize("case", FULL)
def test_everything_runs_when(case: str) -> None:
    failure, policy, why = FULL[case]
    decision, chosen = decided(*failure, **policy)
    assert (decision.action, chosen, decision.severity) == ("full", NAMES, "INFO")
    assert decision.reason.startswith("everything: ") and why in decision.reason
    assert (decision.models, decision.total, decision.saved_s, decision.retry) == (25, 25, None, 0)


@pytest.mark.parametrize(
    "policy", [{"max_retry_age_hours": 6.1}, {"full_when_failed_ratio": 0.24}, {"max_attempts": 1}]
)
def test_at_the_limit_it_is_still_a_retry(policy: dict) -> None:
    assert decided(a_run(), **policy)[0].action == "retry"


def test_a_run_that_crashed_is_a_failed_one() -> None:
    reached = {uid: Outcome("ok") for uid in NAMES[:10]} | {NAMES[10]: Outcome("unknown")}
    decision, chosen = decided(a_run(status="RUNNING", outcomes=reached))
    assert chosen == NAMES[10:]
    assert "the last run was cut off in m11 6 h ago; 15 of 25 models" in decision.reason


def test_a_run_that_was_cancelled_is_gone_on_with() -> None:
    decision, chosen = decided(a_run(status="CANCELLED", outcomes={NAMES[0]: Outcome("ok")}))
    assert (chosen, decision.action) == (NAMES[1:], "retry")
    assert "the last run was cancelled 6 h ago" in decision.reason


def test_a_retry_that_was_cut_off_counts_as_one() -> None:
    failure = [a_run(), *(a_retry(n, status="RUNNING", outcomes={}) for n in (1, 2, 3))]
    assert decided(*failure[:3])[0].retry == 3
    assert decided(*failure)[0].action == "full"


def test_what_depends_on_a_failure_runs_again_even_where_it_had_succeeded() -> None:
    decision, chosen = decided(a_run(outcomes=dict.fromkeys(NAMES, Outcome("ok")) | {FAILS: Outcome("failed", "x")}))
    assert chosen == [FAILS, *SPOILED]
    assert decision.failed == [FAILS]


def test_a_repaired_model_is_retried_and_other_new_code_builds_everything() -> None:
    def with_code(changed: dict[str, str]) -> Job:
        return replace(JOB, checksums={**JOB.checksums, **changed})

    assert decided(a_run(), job=with_code({FAILS: "new", SPOILED[0]: "new"}))[1] == [FAILS, *SPOILED]
    elsewhere = with_code({NAMES[2]: "new"})
    decision, chosen = decided(a_run(), job=elsewhere)
    assert (decision.action, len(chosen)) == ("full", 25)
    assert decision.reason.endswith("and since then the code of m03 changed")
    assert decided(a_run(), job=elsewhere, accept_drift=True)[1] == [FAILS, *SPOILED]

    added = with_code({"model.shop.new": "c0de"})
    assert decided(a_run(), job=added)[0].reason.endswith("and since then new new")
    assert decided(a_run(), job=added, accept_drift=True)[1] == [FAILS, *SPOILED, "model.shop.new"]
    removed = Job({uid: "c0de" for uid in NAMES if uid != SPOILED[0]}, JOB.descendants)
    assert decided(a_run(), job=removed)[1] == [FAILS, *SPOILED[1:]]


def test_code_is_compared_with_that_of_the_run_that_last_had_the_model() -> None:
    """What changed before a retry that has built it anew is no change."""
    repaired = dict.fromkeys([FAILS, *SPOILED], "c0de") | {FAILS: "repaired"}
    outcomes = {FAILS: Outcome("ok"), **dict.fromkeys(SPOILED, Outcome("failed", "boom"))}
    retry = a_retry(1, checksums=repaired, outcomes=outcomes)
    job = replace(JOB, checksums={**JOB.checksums, FAILS: "repaired"})
    assert decided(a_run(), retry, job=job)[1] == SPOILED


def test_a_retry_has_the_vars_of_the_run_unless_others_are_asked_for() -> None:
    run = a_run(vars={"a": 1})
    assert decided(run)[0].action == "retry"
    assert decided(run, job=replace(JOB, vars={"a": 1}))[0].action == "retry"
    other = replace(JOB, vars={"a": 2})
    assert "the vars have changed" in decided(run, job=other)[0].reason
    assert decided(run, job=other, accept_drift=True)[0].action == "retry"


def test_what_only_new_code_can_cure_is_not_tried_again_without_any() -> None:
    decision, chosen = decided(a_run(error="syntax"))
    assert (decision.action, chosen, decision.hopeless) == ("none", [], [FAILS])
    assert decision.reason.startswith(
        "nothing: m15 failed 6 h ago, of an error that only a change to the code can cure"
    )
    repaired = replace(JOB, checksums={**JOB.checksums, FAILS: "new"})
    assert decided(a_run(error="syntax"), job=repaired)[1] == [FAILS, *SPOILED]
    assert decided(a_run(error="syntax"), job=replace(JOB, vars={"a": 1}), accept_drift=True)[0].action == "retry"
    assert decided(a_run(error="syntax", hours_ago=25))[0].action == "full"


def test_what_can_pass_is_retried_without_what_cannot() -> None:
    run = a_run(error="syntax")
    run = replace(run, outcomes={**run.outcomes, NAMES[3]: Outcome("failed", "boom")})
    decision, chosen = decided(run)
    assert chosen == [NAMES[3]]
    assert decision.reason.endswith("; without m15, which only a change to the code can cure")
    after = a_retry(1, checksums={NAMES[3]: "c0de"}, outcomes={NAMES[3]: Outcome("failed", "boom")})
    assert decided(run, after)[1] == [NAMES[3]]  # and the next retry has not forgotten that m15 is broken
    repaired = replace(JOB, checksums={**JOB.checksums, FAILS: "new"})
    assert decided(run, after, job=repaired)[1] == [NAMES[3], FAILS, *SPOILED]


@pytest.mark.parametrize(
    ("hours", "said"), [(0.0, "0 s"), (-3.0, "0 s"), (0.02, "72 s"), (0.5, "30 min"), (1.9, "114 min"), (23.9, "24 h")]
)
def test_ages_are_told_as_people_tell_them(hours: float, said: str) -> None:
    assert f"failed {said} ago;" in decided(a_run(hours_ago=hours))[0].reason


def test_unmeasured_models_are_estimated_from_the_others_and_never_said_to_be_saved() -> None:
    some = {uid: 4.0 for uid in NAMES[:10]}
    decision, _ = decided(a_run(), seconds=some)
    assert (decision.estimate_s, decision.full_s, decision.saved_s) == (24.0, 100.0, 40.0)
    decision, _ = decided(a_run(), seconds={})
    assert decision.reason == "retry 1 of 3: m15 failed 6 h ago; 6 of 25 models"
    assert (decision.estimate_s, decision.full_s, decision.saved_s) == (None, None, 0)


def test_many_failures_are_not_all_named() -> None:
    outcomes = {uid: Outcome("failed", "boom") for uid in NAMES[:5]} | {uid: Outcome("ok") for uid in NAMES[5:]}
    assert "m01, m02, m03 and 2 more failed 6 h ago" in decided(a_run(outcomes=outcomes))[0].reason


STATUSES = st.sampled_from(["ok", "failed", "skipped", "cancelled", "unknown"])


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[PastRun], Job]:
    """A job whose models read earlier ones, and a failure of it with up to four retries of whatever was left."""
    uids = NAMES[: draw(st.integers(1, 8))]
    parents = {uid: draw(st.sets(st.sampled_from(uids[:n]), max_size=2)) if n else set() for n, uid in enumerate(uids)}
    reach: dict[str, set[str]] = {}
    for uid in uids:
        reach[uid] = parents[uid].union(*(reach[up] for up in parents[uid]))
    job = Job(dict.fromkeys(uids, "c0de"), {uid: {down for down in uids if uid in reach[down]} for uid in uids})
    runs, planned = [], uids
    for number in range(draw(st.integers(0, 5))):
        outcomes = {uid: Outcome(draw(STATUSES), draw(st.sampled_from(["x", "syntax"]))) for uid in planned}
        status = draw(st.sampled_from(["FAILED", "RUNNING", "CANCELLED", "SUCCESS"]))
        began = NOW - timedelta(hours=draw(st.floats(0, 30)))
        retry_of = "run-0" if number else None
        runs.append(PastRun(f"run-{number}", began, status, retry_of, {}, dict.fromkeys(planned, "c0de"), outcomes))
        planned = [uid for uid in planned if draw(st.booleans())] or planned
    return runs, job


@given(histories())
def test_a_decision_is_sound_whatever_happened(history: tuple[list[PastRun], Job]) -> None:
    runs, job = history
    decision, chosen = decided(*runs, job=job)
    assert chosen == [uid for uid in job.checksums if uid in chosen]
    assert decision.models == len(chosen) and decision.total == len(job.checksums) and decision.reason
    if decision.action == "retry":
        assert runs and len(runs) <= 3 and decision.retry == len(runs) <= 3
        assert runs[-1].status != "SUCCESS"
        assert NOW - runs[0].began_at < timedelta(hours=24)
        assert job.with_descendants(chosen) - job.with_descendants(decision.hopeless) == set(chosen)
        settled = {uid for run in runs for uid in run.checksums if run.outcomes[uid].status == "ok"}
        never = set(job.checksums) - set(chosen) - job.with_descendants(decision.hopeless)
        assert never <= settled  # nothing is left out that no run has done
    elif decision.action == "full":
        assert chosen == list(job.checksums)
    else:
        assert chosen == [] and decision.hopeless
