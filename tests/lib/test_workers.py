"""Several workers on a warehouse in memory, whose batches take a moment."""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
from builders import ORDERS, TOTALS, FakeContext, FakeEngine, a_batch, a_plan, months_of
from test_run_dbt_batch import BROKEN, Stand, two_models

from sluice import attempts, run_dbt_batch, signals
from sluice.attempts import Patience
from sluice.config import Config
from sluice.dbt_command_line import CommandLine
from sluice.dbt_engine.wire import Outcome
from sluice.errors import REFUSED, SluiceError
from sluice.jobs import Job, Wait
from sluice.records import Batch, Gate, Plan, Record
from sluice.run_dbt_batch import Options
from sluice.schedule import must_not_overlap
from sluice.signals import Interrupted

OTHER = "model.shop.other"


@dataclass
class SlowEngine(FakeEngine):
    """All workers' engines in one. `take` says how long a batch takes, in hundredths of a second."""

    take: dict[str, int] = field(default_factory=dict)
    at_work: list[str] = field(default_factory=list)
    together: list[set[str]] = field(default_factory=list)
    looked: dict[str, bool] = field(default_factory=dict)
    twins: int = 0
    stop_during: str | None = None

    def twin(self) -> "SlowEngine":
        self.twins += 1
        return self

    def running(self, **batch: Any) -> Job[Outcome]:
        batch_id = batch["batch_id"]
        self.looked[batch_id] = batch["look_again"]
        self.at_work.append(batch_id)
        self.together.append(set(self.at_work))
        try:
            if self.stop_during == batch_id:
                signals._pending = 15
            yield Wait(most_s=self.take.get(batch_id, 1) / 100)
            return self.run(**batch)
        finally:
            self.at_work.remove(batch_id)


class Server(Stand):
    """A run of several workers, where others can write, too."""

    def __init__(self, config: Config, monkeypatch: pytest.MonkeyPatch):
        super().__init__(config, SlowEngine())
        self.engine: SlowEngine
        monkeypatch.setattr(run_dbt_batch, "_engine", lambda *_: self.engine)
        monkeypatch.setattr(signals, "_pending", None)

    def go(self, batches: list[Batch], *, workers: int = 2, max_failures: int | None = 1, **options: Any) -> list[str]:
        """The statuses by place in the plan."""
        stream: Iterable[Record] | None = options.pop("stream", None)
        plan, batches = a_plan(batches, adapter="postgres", **options)
        context = FakeContext(self.config, stream if stream is not None else [plan, *batches])
        self.results = []
        running = run_dbt_batch.run_dbt_batch(context, Options(None, max_failures, None, workers))
        try:
            while True:
                self.results.append(next(running))
        except StopIteration as end:
            self.code = end.value
        finally:
            running.close()
        found = {result.seq: result.status for result in self.results}
        return [found[seq] for seq in sorted(found)]


@pytest.fixture
def server(own_settings: Config, monkeypatch: pytest.MonkeyPatch) -> Server:
    return Server(own_settings, monkeypatch)


def planned(batches: list[Batch]) -> list[str]:
    """The ids that a plan will give to these batches."""
    return [batch.batch_id for batch in a_plan(batches, adapter="postgres")[1]]


def test_models_that_do_not_depend_on_each_other_run_side_by_side(server: Server) -> None:
    ids = planned(two_models())
    assert server.go(two_models()) == ["ok"] * 7
    assert {ids[0], ids[6]} in server.engine.together
    assert max(map(len, server.engine.together)) == 2
    assert set(server.engine.rows.values()) == {1}
    assert (server.code, server.run_status(), server.engine.twins, server.engine.closed) == (None, "SUCCESS", 1, 2)


def test_results_come_as_their_batches_end(server: Server) -> None:
    batches = [a_batch(ORDERS), a_batch(TOTALS), a_batch(OTHER)]
    server.engine.take = dict(zip(planned(batches), (9, 1, 1), strict=True))
    server.go(batches)
    assert [result.seq for result in server.results] == [2, 3, 1]


@pytest.mark.parametrize("workers", [2, 3, 8])
def test_whatever_takes_how_long_nothing_overlaps_that_must_not(server: Server, workers: int) -> None:
    dice = random.Random(workers)
    models = [f"model.shop.m{number}" for number in range(6)]
    batches = [
        a_batch(model, vars={"n": number}, depends_on=dice.sample(models[: models.index(model)], dice.randint(0, min(2, models.index(model)))))
        for number, model in enumerate(dice.choices(models, k=30))
    ]  # fmt: skip
    by_id = dict(zip(planned(batches), batches, strict=True))
    server.engine.take = {batch_id: dice.randint(0, 3) for batch_id in by_id}
    assert server.go(batches, workers=workers) == ["ok"] * 30
    assert max(map(len, server.engine.together)) <= workers
    for together in server.engine.together:
        at_once = [by_id[batch_id] for batch_id in together]
        assert not any(must_not_overlap(a, b) for a in at_once for b in at_once if a is not b)
    assert set(server.engine.rows.values()) == {1}
    assert len(server.engine.rows) == 30


def test_there_are_not_more_workers_than_models(server: Server) -> None:
    server.go(months_of(), workers=5)
    assert (server.engine.twins, max(map(len, server.engine.together))) == (0, 1)


def test_after_a_failure_nothing_is_begun_and_what_was_in_flight_ends(server: Server) -> None:
    batches = [a_batch(ORDERS), a_batch(TOTALS), a_batch(OTHER)]
    ids = planned(batches)
    server.engine.steps[ids[0]] = [BROKEN]
    server.engine.take = {ids[1]: 5}
    assert server.go(batches) == ["failed", "ok", "skipped"]
    assert (server.code, server.run_status()) == (1, "FAILED")


def test_what_depends_on_a_failure_is_skipped_when_told_to_go_on(server: Server) -> None:
    server.engine.steps[planned(two_models())[1]] = [BROKEN]
    assert server.go(two_models(), max_failures=None) == ["ok", "failed"] + ["skipped"] * 4 + ["ok"]


def test_what_waits_to_be_tried_again_holds_up_nobody(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "PATIENCE", {"transient": Patience(3, 0.2, 0.2)})
    batches = [a_batch(ORDERS), *months_of(TOTALS)]
    server.engine.steps[planned(batches)[0]] = ["Connection refused"]
    assert server.go(batches) == ["ok"] * 4
    assert [result.seq for result in server.results] == [2, 3, 4, 1]
    assert server.results[-1].attempt == 2


def test_a_signal_stops_all_that_is_in_flight_and_tells_of_each(server: Server) -> None:
    batches = [a_batch(ORDERS), a_batch(TOTALS), a_batch(OTHER)]
    server.engine.take = dict.fromkeys(planned(batches), 6000)
    server.engine.stop_during = planned(batches)[1]
    with pytest.raises(Interrupted):
        server.go(batches)
    assert sorted((result.seq, result.status) for result in server.results) == [(1, "cancelled"), (2, "cancelled")]
    assert (server.engine.cancelled, server.engine.ran, server.run_status()) == (2, [], "CANCELLED")
    signals._pending = None
    again = {"run_id": "run-2", "root_run_id": "run-1", "attempt": 2}
    server.engine.take, server.engine.stop_during = {}, None
    assert server.go(batches, **again) == ["ok"] * 3
    assert set(server.engine.rows.values()) == {1}


def test_a_reader_that_leaves_has_what_is_in_flight_finished_and_nothing_begun(server: Server) -> None:
    plan, batches = a_plan([a_batch(ORDERS), a_batch(TOTALS), a_batch(OTHER)], adapter="postgres")
    server.engine.take = {batches[1].batch_id: 5}
    running = run_dbt_batch.run_dbt_batch(
        FakeContext(server.config, [plan, *batches]), Options(None, 1, None, workers=2)
    )
    assert next(running).seq == 1
    running.close()
    assert (server.run_status(), server.engine.ran) == ("CANCELLED", [batch.batch_id for batch in batches[:2]])
    assert len(server.state.done("run-1")) == 2


def test_a_bug_in_one_worker_lets_the_others_finish(server: Server) -> None:
    def explode() -> Any:
        raise ZeroDivisionError

    batches = [a_batch(ORDERS), a_batch(TOTALS), a_batch(OTHER)]
    ids = planned(batches)
    server.engine.steps[ids[0]] = [explode]
    server.engine.take = {ids[1]: 5}
    with pytest.raises(ZeroDivisionError):
        server.go(batches)
    assert [(result.seq, result.status) for result in server.results] == [(2, "ok")]
    assert (server.run_status(), len(server.engine.ran)) == ("FAILED", 2)


def test_a_later_wave_waits_for_all_of_the_earlier(server: Server) -> None:
    batches = [a_batch(ORDERS), a_batch(TOTALS, wave=2), a_batch(OTHER, wave=2)]
    ids = planned(batches)
    assert server.go(batches) == ["ok"] * 3
    assert server.engine.together == [{ids[0]}, {ids[1]}, {ids[1], ids[2]}]


def test_a_gate_comes_after_the_results_of_what_is_before_it(server: Server) -> None:
    plan, batches = a_plan([a_batch(ORDERS), a_batch(TOTALS), a_batch(OTHER, wave=3)], adapter="postgres")
    gate = Gate(plan_id=plan.plan_id, wave=2, gate="canary", models=[ORDERS], since=plan.to, to=plan.to)
    context = FakeContext(server.config, [plan, *batches[:2], gate, batches[2]])
    out = list(run_dbt_batch.run_dbt_batch(context, Options(None, 1, None, workers=2)))
    assert [type(record).__name__ for record in out] == ["BatchResult", "BatchResult", "Gate", "BatchResult"]


def test_dbt_looks_again_at_which_tables_there_are_only_where_another_worker_was(server: Server) -> None:
    batches = [*months_of(), *months_of(OTHER), a_batch(TOTALS, depends_on=[ORDERS, OTHER])]
    ids = planned(batches)
    server.go(batches)
    assert [server.engine.looked[batch_id] for batch_id in ids] == [False] * 6 + [True]


def test_each_worker_waits_the_delay_after_its_own_batches(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(run_dbt_batch, "Wait", lambda *, most_s: waited.append(most_s) or Wait(most_s=0.0))
    server.go([*months_of(), *months_of(OTHER)], delay_s=2.5)
    assert waited == [2.5] * 4


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_file_with_one_writer_is_refused_before_anything(server: Server, dry_run: bool) -> None:
    plan: Plan = a_plan(adapter="duckdb", dry_run=dry_run)[0]
    with pytest.raises(SluiceError, match="--workers 2: duckdb lets only one process write") as caught:
        list(run_dbt_batch.run_dbt_batch(FakeContext(server.config, [plan]), Options(None, 1, None, workers=2)))
    assert (caught.value.exit_code, server.config.state_dir.exists()) == (REFUSED, False)


def test_any_other_dbt_is_one_worker_only(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_dbt_batch, "_engine", lambda *_: CommandLine("dbt", target=None))
    with pytest.raises(SluiceError, match="would share the project's target/ folder") as caught:
        server.go(two_models())
    assert (caught.value.exit_code, server.state.runs()) == (REFUSED, [])
