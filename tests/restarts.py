"""Generated histories of a nightly dbt job, each told twice: as the runs that restart.decide takes, and as the rows of a log.

A history is lived: a graph of models and tests, runs that fail here and there as `dbt build` does (what depends on a failure is
skipped), retries of what the decision itself says, nights between them; now and then a run is killed, cancelled or discarded.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sluice.past_runs import blame
from sluice.records import Decision
from sluice.restart import Job, Outcome, PastRun, Policy, decide

NOW = datetime(2026, 4, 17, 8, tzinfo=UTC)
_WORDS = {"ok": "SUCCESS", "skipped": "SKIPPED", "failed": "ERROR"}


@dataclass
class Log:
    """What the log says of a job, and the policy it is asked with. `events` and `nodes`: rows of run_event and model_event."""

    job: str
    policy: Policy = field(default_factory=Policy)
    events: list[dict[str, Any]] = field(default_factory=list)
    nodes: list[dict[str, Any]] = field(default_factory=list)

    def tell(self, run: PastRun, outcomes: Mapping[str, str], seconds: Mapping[str, float]) -> None:
        """Write a run of the job and the dbt run in it, whose nodes came to these ends (ok, failed, skipped) in so many seconds."""
        said = {"intent": "retry" if run.retry_of else "daily", "attempt": 1}
        dbt = {"intent": "dbt", "attempt": 1, "root_run_id": run.run_id, "project_name": "shop"}
        self.event(run, "began", 0, **said, retry_of=run.retry_of, pid=4711)
        self.event(run, "began", 1, **dbt, run_id=f"dbt-{run.run_id}")
        for uid, word in outcomes.items():
            self.nodes.append({
                "run_id": f"dbt-{run.run_id}", "unique_id": uid, "model_name": uid.split(".")[2],
                "status": "FAIL" if word == "failed" and uid.startswith("test.") else _WORDS[word], "duration_seconds": seconds[uid],
            })  # fmt: skip
        if run.status != "RUNNING":
            self.event(run, "ended", 600, **said, run_status=run.status)

    def event(self, run: PastRun, event: str, after_s: float, **more: Any) -> None:
        at = (run.began_at + timedelta(seconds=after_s)).isoformat(sep=" ", timespec="milliseconds")
        self.events.append(
            {
                "event": event,
                "at": at,
                "run_id": run.run_id,
                "root_run_id": run.run_id,
                "project_name": self.job,
                **more,
            }
        )


@dataclass
class History(Log):
    """A job's past, which a seed determines."""

    seed: int = 0
    has_tests: bool = False
    runs: list[PastRun] = field(default_factory=list)  # oldest first
    discarded: set[str] = field(default_factory=set)
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        draw = self.draw = random.Random(self.seed)
        self.policy = Policy(draw.choice([24.0, 24.0, 24.0, 2.0]), draw.choice([0, 1, 3, 3, 3, 3]))
        models = [f"model.shop.m{number:02}" for number in range(draw.randint(1, 9))]
        self.parents = {uid: [up for up in models[:at] if draw.random() < 0.35] for at, uid in enumerate(models)}
        self.models = models
        self.tests = {
            f"test.shop.not_null_{uid.rsplit('.', 1)[1]}_id.{number:x}": [uid]
            for number, uid in enumerate(models) if self.has_tests and draw.random() < 0.5
        }  # fmt: skip
        self.at = NOW - timedelta(seconds=draw.choice([7_201, 40_003, 80_003, 200_003]) + draw.randint(0, 999) + 0.137)
        for _ in range(draw.choice([0, 1, 2, 3, 4, 5, 6])):
            if self.at < NOW:
                self.live()

    @property
    def graph(self) -> Job:
        return Job(
            dict.fromkeys(self.models, "c0de"), {uid: self.descendants(uid) & set(self.models) for uid in self.models}
        )

    def descendants(self, uid: str) -> set[str]:
        """What depends on a node, over any number of others; in `dbt build` models wait for the tests of what they read."""
        reads = {**self.parents, **self.tests}
        found: set[str] = set()
        for node in [*self.models, *self.tests]:
            if any(up == uid or up in found for up in reads[node]):
                found.add(node)
        return found

    def failure(self) -> list[PastRun]:
        """The last run and, when it was a retry, all runs of that failure: what past_runs.read makes of a state store."""
        if not self.runs or self.runs[-1].run_id in self.discarded:
            return []
        last = self.runs[-1]
        first = last.retry_of or last.run_id
        return [run for run in self.runs if first in (run.run_id, run.retry_of)]

    def decided(self, now: datetime = NOW) -> tuple[Decision, list[str]]:
        return decide(self.failure(), self.graph, self.policy, now=now, seconds=self.seconds)

    def live(self) -> None:
        """One more run, of what the decision says."""
        draw = self.draw
        decision, chosen = self.decided(self.at)
        run_id = f"{self.job}-{len(self.runs)}"
        outcomes: dict[str, str] = {}
        tested = {uid: [test for test, of in self.tests.items() if of == [uid]] for uid in chosen}
        for uid in (node for model in chosen for node in (model, *tested[model])):
            if outcomes.get(uid) != "skipped":
                outcomes[uid] = draw.choice(["ok", "ok", "ok", "failed"])
                if outcomes[uid] == "failed":
                    blocked = {down for up in self.tests.get(uid, [uid]) for down in self.descendants(up)} - {uid}
                    later = blocked & {*chosen, *(test for uid in chosen for test in tested[uid])} - outcomes.keys()
                    outcomes |= dict.fromkeys(sorted(later), "skipped")
        fate = draw.choice(["FAILED" if "failed" in outcomes.values() else "SUCCESS"] * 8 + ["RUNNING", "CANCELLED"])
        if fate in ("RUNNING", "CANCELLED") and draw.random() < 0.5:
            outcomes = {}  # killed before dbt could say anything
        known = blame({uid: Outcome(word, "boom") for uid, word in outcomes.items()}, self.tests)
        models = {uid: known[uid] for uid in self.models if uid in known}
        run = PastRun(
            run_id,
            self.at,
            fate,
            decision.retry_of if decision.action == "retry" else None,
            {},
            dict.fromkeys(models),
            models,
        )
        took = {uid: round(draw.uniform(0.5, 40), 3) for uid in outcomes}
        self.tell(run, outcomes, took)
        self.seconds |= {uid: took[uid] for uid, word in outcomes.items() if word == "ok" and uid in models}
        self.runs.append(run)
        if draw.random() < 0.05:
            self.discarded.add(run_id)
            self.event(run, "discarded", 900, intent="daily", attempt=1)
        self.at += timedelta(seconds=draw.choice([601, 1_801, 3_601, 7_203, 30_007]) + draw.randint(0, 999) + 0.137)
