"""The daily refresh from one night to the next: what is planned, what is run, what the state store remembers of it."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from builders import FakeContext, FakeEngine
from test_plan_batches import Shop

from sluice import attempts, past_runs, plan_daily, profiles, run_dbt_batch
from sluice.attempts import PATIENCE, Patience
from sluice.config import Config
from sluice.errors import BUSY, CONFIG, REFUSED, SluiceError
from sluice.plan_daily import Policy, Request, components
from sluice.profiles import Credentials
from sluice.records import Batch, BatchResult, DailyRun, Decision, Plan, Savings
from sluice.restart import Outcome
from sluice.run_dbt_batch import Options
from sluice.sluice_state import look
from sluice.state import State
from sluice.warehouse import connect

pytest_plugins = ["servers"]


@dataclass
class Nights:
    """A job of 25 models, m21 to m25 built on m15, on a warehouse in memory, run night after night."""

    shop: Shop
    engine: FakeEngine = field(default_factory=FakeEngine)
    broken: dict[str, str] = field(default_factory=dict)  # name: error
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    nights: int = 0

    def plan(self, *, scope: dict | None = None, dry_run: bool = False, **policy: Any):
        request = Request(**({"select": [], "exclude": [], "components": [], "vars": None} | (scope or {})))
        context = FakeContext(self.shop.config, now=self.now, dry_run=dry_run)
        decision, *rest = plan_daily.plan_daily(context, request, Policy(**policy))
        assert isinstance(decision, Decision)
        return decision, (rest[0] if rest else None), rest[1:]

    def run(self, plan: Plan | None, batches: list[Batch], *, stop_after: int | None = None) -> list[str]:
        """The names of the models whose SQL was run. `stop_after` so many results the process dies."""
        if plan is None:
            return []
        self.nights += 1
        plan.run_id = f"run-{self.nights}"
        for batch in batches:
            self.engine.steps[batch.batch_id] = [self.broken.get((batch.model or "").rsplit(".", 1)[-1], "ok")] * 9
        before = len(self.engine.ran)
        names = {batch.batch_id: (batch.model or "").rsplit(".", 1)[-1] for batch in batches}
        context = FakeContext(self.shop.config, [plan, *batches])
        running = run_dbt_batch.run_dbt_batch(context, Options(None, None, "fake"))
        self.results: list[BatchResult] = []
        for result in running:
            self.results.append(result)
            if len(self.results) == stop_after:
                break
        return list(dict.fromkeys(names[ran] for ran in self.engine.ran[before:]))

    def night(self, **asked: Any) -> tuple[Decision, list[str]]:
        decision, plan, batches = self.plan(**asked)
        return decision, self.run(plan, batches)

    @property
    def state(self) -> State:
        return State.open(self.shop.config.state_url)


@pytest.fixture
def nights(own_settings: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nights]:
    shop = Shop(own_settings, tmp_path)
    spoiled = {f"m{n}": {"parents": ["m15"]} for n in range(21, 26)}
    shop.models = {f"m{n:02}": {"parents": []} for n in range(1, 21)} | spoiled
    nights = Nights(shop)
    monkeypatch.setattr(plan_daily, "Project", shop)
    monkeypatch.setattr(run_dbt_batch, "_engine", lambda *_: nights.engine)
    monkeypatch.setattr(attempts, "PATIENCE", {name: Patience(p.retries, 0, 0) for name, p in PATIENCE.items()})
    return nights


SIX = ["m15", "m21", "m22", "m23", "m24", "m25"]


def test_of_25_models_the_15th_fails_and_three_nights_run_six_the_fifth_all(nights: Nights) -> None:
    nights.night()
    nights.broken = {"m15": "boom"}
    decision, ran = nights.night()
    assert decision.reason == "everything: the last run succeeded"
    assert len(ran) == 20  # and five were skipped
    for number in (1, 2, 3):
        decision, plan, batches = nights.plan()
        assert (decision.action, decision.retry, len(batches)) == ("retry", number, 6)
        assert f"retry {number} of 3: m15 failed" in decision.reason
        assert "6 of 25 models, about 0.6 s instead of 2.5 s" in decision.reason
        assert decision.saved_s == pytest.approx(1.9)
        assert [batch.expect[0].rsplit(".", 1)[-1] for batch in batches] == SIX
        assert {batch.reason for batch in batches} == {"retry"}
        assert (plan.intent, plan.retry_of, plan.attempt) == ("retry", "run-2", number + 1)
        nights.run(plan, batches)
    decision, ran = nights.night()
    assert (decision.action, len(ran)) == ("full", 20)
    assert "3 retries did not help" in decision.reason
    decision, _, batches = nights.plan()  # and the count starts afresh
    assert (decision.retry, decision.retry_of, len(batches)) == (1, "run-6", 6)


def test_some_ids_are_a_job_of_their_own(nights: Nights) -> None:
    """What became of one id says nothing of all: neither a success that hides a failure, nor a failure that keeps all from running."""
    nights.broken = {"m15": "boom"}
    nights.night()
    nights.broken = {}
    some = {"ids": plan_daily.listed_ids("52,1,52")}
    decision, _, batches = nights.plan(scope=some)
    assert decision.reason == "everything: no earlier run is known"
    assert {batch.vars["ids"] for batch in batches} == {"1,52"}
    nights.broken = {"m20": "boom"}
    nights.night(scope=some)
    decision, _, batches = nights.plan(scope={"ids": plan_daily.listed_ids("1,52")})
    assert (decision.action, [batch.expect for batch in batches]) == ("retry", [["model.shop.m20"]])
    assert batches[0].vars == {"ids": "1,52"}
    decision, _, batches = nights.plan()
    assert (decision.action, decision.retry_of, batches[0].vars) == ("retry", "run-1", {})


def test_ids_and_other_vars_go_together() -> None:
    def asked(vars: str | None, ids: str | None) -> object:
        return Request([], [], [], vars, plan_daily.listed_ids(ids)).asked

    assert asked(None, None) is None
    assert asked('{"a": 1}', "7") == {"a": 1, "ids": "7"}
    for vars, ids in [
        (None, "1;2"),
        (None, ""),
        (None, ","),
        (None, "-1"),
        (None, "1 or 1"),
        (None, "²"),
        ('{"ids": "1"}', "1"),
    ]:
        with pytest.raises(SluiceError) as caught:
            asked(vars, ids)
        assert (caught.value.exit_code, bool(caught.value.hint)) == (REFUSED, True)


def test_the_history_tells_what_retries_saved(nights: Nights) -> None:
    """0.1 s a model is what the engine says of each; the view and the command agree with a sum by hand."""
    nights.night()
    nights.broken = {"m15": "boom"}
    for _ in range(3):
        nights.night()
    yielded = list(look(FakeContext(nights.shop.config), "history", None, None, limit=20, rows_are_there=False))
    runs = [record for record in yielded if isinstance(record, DailyRun)]
    told = [(r.run_type, r.retry_sequence, r.retry_of, r.models_run, r.models_failed, r.models_total) for r in runs]
    assert told == [
        ("retry", 2, "run-2", 1, 1, 25),
        ("retry", 1, "run-2", 1, 1, 25),
        ("full", 0, None, 20, 1, 25),
        ("full", 0, None, 25, 0, 25),
    ]
    assert [run.saved_s for run in runs] == pytest.approx([1.9, 1.9, 0, 0])
    assert runs[0].decision == nights.state.run("run-4").plan.decision
    week, total = (record for record in yielded if isinstance(record, Savings))
    assert (week.week.weekday(), total.week) == (0, None)
    assert week.week <= nights.now.date() < week.week + timedelta(days=7)
    for savings in (week, total):
        assert (savings.full_runs, savings.retries, savings.models_not_run) == (2, 2, 38)
        assert savings.saved_s == pytest.approx(3.8)


def test_a_retry_that_helps_ends_the_failure(nights: Nights) -> None:
    nights.broken = {"m15": "boom"}
    nights.night()
    nights.broken = {}
    assert nights.night()[1] == SIX
    assert nights.night()[0].reason == "everything: the last run succeeded"
    log = nights.state.store.rows("SELECT run_type, retry_of, retry_sequence, models_run FROM auto_restart_history")
    assert sorted(log, key=str) == [("full", None, 0, 20), ("full", None, 0, 25), ("retry", "run-1", 1, 6)]


def test_retries_are_counted_by_what_they_retry_not_by_what_ran_since(nights: Nights) -> None:
    nights.broken = {"m15": "boom"}
    nights.night()
    for _ in range(4):
        nights.night(scope={"select": ["m01", "m02"]})  # somebody else's job, of few models
    assert nights.plan()[0].retry == 1
    nights.night()
    assert nights.plan()[0].retry == 2


def test_a_run_whose_process_died_is_retried_from_where_it_was_and_a_crash_loop_ends(nights: Nights) -> None:
    def crash(after: int) -> Decision:
        decision, plan, batches = nights.plan()
        state, root = nights.state, f"crash-{after}"
        plan.run_id = root
        state.begin_run(plan, root)
        for batch in batches[:after]:
            attempt = state.intend(root, root, batch)
            result = attempts.result_of(plan, batch, "ok", attempt=attempt)
            state.record(root, batch, result, "shop")
        state.intend(root, root, batches[after])  # and kill -9
        return decision

    assert crash(10).action == "full"
    decision, _, batches = nights.plan()
    assert "the last run was cut off in m11" in decision.reason
    assert len(batches) == 15
    assert [crash(n).retry for n in (3, 2, 1)] == [1, 2, 3]
    assert nights.plan()[0].action == "full"


def test_while_the_last_run_is_at_work_nothing_is_planned(nights: Nights) -> None:
    _, plan, _ = nights.plan()
    plan.run_id = "run-1"
    state = nights.state
    lock = state.store.lock("run-1")
    lock.acquire()
    state.begin_run(plan, "run-1")
    with pytest.raises(SluiceError) as caught:
        nights.plan()
    assert caught.value.exit_code == BUSY
    lock.release()
    assert nights.plan()[0].action == "retry"


def test_a_retry_has_the_vars_of_the_run_that_failed(nights: Nights) -> None:
    nights.broken = {"m15": "boom"}
    nights.night(scope={"vars": '{"a": 1}'})
    nights.shop.opened_with.clear()
    decision, plan, batches = nights.plan()
    assert (decision.action, batches[0].vars, plan.request["vars"]) == ("retry", {"a": 1}, '{"a":1}')
    assert nights.shop.opened_with[-1] == {"a": 1}  # code may depend on them
    decision, _, batches = nights.plan(no_restart=True)
    assert batches[0].vars == {}
    decision, _, batches = nights.plan(scope={"vars": '{"a": 2}'})
    assert (decision.action, batches[0].vars) == ("full", {"a": 2})
    decision, _, batches = nights.plan(scope={"vars": '{"a": 2}'}, accept_drift=True)
    assert (decision.action, batches[0].vars, len(batches)) == ("retry", {"a": 2}, 6)


def test_a_repaired_model_is_retried_alone_with_what_reads_it(nights: Nights) -> None:
    nights.broken = {"m15": 'Parser Error: syntax error at or near "selct"'}
    nights.night()
    decision, ran = nights.night()
    assert (decision.action, ran) == ("none", [])
    assert nights.plan()[1] is None
    nights.shop.models["m15"]["code"] = "select 2"
    nights.broken = {}
    assert nights.night()[1] == SIX
    nights.broken = {"m15": "boom"}
    nights.night()
    nights.shop.models["m03"]["code"] = "select 3"
    assert "the code of m03 changed" in nights.plan()[0].reason


def test_an_old_failure_or_a_discarded_one_is_not_retried(nights: Nights) -> None:
    nights.broken = {"m15": "boom"}
    nights.night()
    nights.now += timedelta(hours=23)
    assert nights.plan()[0].action == "retry"
    nights.now += timedelta(hours=2)
    assert "m15 failed 25 h ago, more than 24 h" in nights.plan()[0].reason
    nights.now -= timedelta(hours=2)
    nights.state.discard(nights.state.run("run-1"))
    assert nights.plan()[0].action == "full"


def test_other_targets_projects_and_selections_are_other_jobs(nights: Nights) -> None:
    nights.broken = {"m15": "boom"}
    nights.night()
    assert nights.plan(scope={"select": ["m15"]})[0].action == "full"
    assert nights.plan(scope={"exclude": ["m01"]})[0].action == "full"
    nights.shop.target = "prod"
    assert nights.plan()[0].action == "full"


@pytest.mark.parametrize("what", [b"garbage" * 1000, None])
def test_history_that_cannot_be_read_means_everything_and_is_said_loudly(
    nights: Nights, what: bytes | None, heard: pytest.LogCaptureFixture
) -> None:
    nights.night()
    path = nights.shop.config.state_dir / "state.sqlite"
    if what is None:
        nights.state.store.execute("UPDATE schema_version SET version = 99")
    else:
        path.with_name("state.sqlite-wal").unlink(missing_ok=True)
        path.write_bytes(what)
    decision, _, batches = nights.plan()
    assert (decision.action, decision.severity, len(batches)) == ("full", "ERROR", 25)
    assert f"cannot be read: the state store {path}" in decision.reason
    assert [record.levelname for record in heard.records if record.message == decision.reason] == ["ERROR"]


def test_a_run_of_dbt_itself_is_retried_by_what_it_left_in_the_warehouse(
    nights: Nights, duckdb_target: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiles, "load", lambda config: duckdb_target)
    both: dict = {"history": "both"}
    with connect(duckdb_target, tag="test") as warehouse:
        warehouse.execute("create table nothing_yet (n integer)")
    assert nights.plan(scope=both)[0].reason == "everything: no earlier run is known"

    models = sorted(f"model.shop.{name}" for name in nights.shop.models)
    failed = {"model.shop.m15": "ERROR", **dict.fromkeys([f"model.shop.m{n}" for n in range(21, 26)], "SKIPPED")}
    began = nights.now.replace(tzinfo=None)
    with connect(duckdb_target, tag="test") as warehouse:
        for sql in (
            "create schema sluice",
            "create table sluice.run_log (run_id varchar, run_started_at timestamp, run_status varchar, vars varchar, intent "
            "varchar, project_name varchar, environment varchar)",
            "create table sluice.model_log (run_id varchar, unique_id varchar, status varchar, message varchar)",
        ):
            warehouse.execute(sql)
        for run_id, hours, ran in (("dbt-1", 3, models), ("dbt-2", 2, models[:1])):  # the second is another job
            at = {"run": run_id, "at": began - timedelta(hours=hours), "target": duckdb_target.target}
            warehouse.execute(
                "insert into sluice.run_log values ($run, $at, 'FAILED', null, 'dbt', 'shop', $target)", at
            )
            for uid in ran:
                row = {"run": run_id, "uid": uid, "status": failed.get(uid, "SUCCESS")}
                warehouse.execute("insert into sluice.model_log values ($run, $uid, $status, 'said')", row)
    decision, _, batches = nights.plan(scope=both)
    assert (decision.action, decision.retry_of) == ("retry", "dbt-1")
    assert [batch.expect[0].rsplit(".", 1)[-1] for batch in batches] == SIX

    with connect(duckdb_target, tag="test") as warehouse:
        warehouse.execute(
            "delete from sluice.model_log where unique_id = 'model.shop.m20'"
        )  # and now neither is this job
    assert nights.plan(scope=both)[0].reason == "everything: no earlier run is known"


def test_a_model_whose_test_failed_has_failed_unless_it_did_so_before() -> None:
    ok, skipped = Outcome("ok", None), Outcome("skipped", None)
    test = "test.shop.not_null_a_id.0a"
    found = past_runs.blame(
        {"model.shop.a": ok, "model.shop.b": skipped, "model.shop.c": ok, test: Outcome("failed", "1 row")},
        {test: ["model.shop.a", "model.shop.b", "model.shop.gone"]},
    )
    assert found["model.shop.a"] == Outcome("failed", "not_null_a_id failed")
    assert (found["model.shop.b"], found["model.shop.c"]) == (skipped, ok)
    assert "model.shop.gone" not in found


def test_a_store_of_no_known_kind_is_no_history_that_cannot_be_read(nights: Nights) -> None:
    object.__setattr__(nights.shop.config, "state_url", "redis:x")
    with pytest.raises(SluiceError) as caught:
        nights.plan()
    assert caught.value.exit_code == CONFIG


def test_components_run_in_their_order_each_model_once(nights: Nights, heard: pytest.LogCaptureFixture) -> None:
    parts = ["m03", "m01", "m15", "m21"]
    _, plan, batches = nights.plan(scope={"components": parts})
    assert [(b.select[0], b.wave) for b in batches] == [("m03", 1), ("m01", 2), ("m15", 3), ("m21", 4)]
    assert plan.request["components"] == parts
    assert "whose component comes later" not in heard.text
    _, _, batches = nights.plan(scope={"components": ["m21", "m15", "m21"]})
    assert [(b.select[0], b.wave, b.depends_on) for b in batches] == [
        ("m21", 1, ["model.shop.m15"]),
        ("m15", 2, []),
    ]
    assert "m21 reads model.shop.m15, whose component comes later" in heard.text


def test_only_and_skip_choose_among_the_components() -> None:
    assert components("a, b,,a", "x", only=None, skip=None) == ["a", "b"]
    assert components(None, "x,y", only=None, skip="x") == ["y"]
    assert components("a,b,c", None, only="c,a", skip=None) == ["a", "c"]
    assert components(None, None, only=None, skip=None) == []
    for only, skip in (("d", None), (None, "bb"), ("a", "a")):
        with pytest.raises(SluiceError) as caught:
            components("a,b", None, only=only, skip=skip)
        assert caught.value.exit_code == REFUSED
    with pytest.raises(SluiceError, match="did you mean 'tag:prices'"):
        components("tag:prices,b", None, only="tag:price", skip=None)


def test_a_plan_says_whether_to_go_on_after_a_failure(nights: Nights) -> None:
    nights.broken = {"m02": "boom"}
    _, plan, batches = nights.plan(scope={"continue_on_error": True})
    running = run_dbt_batch.run_dbt_batch(FakeContext(nights.shop.config, [plan, *batches]), Options(None, 1, "fake"))
    plan.run_id = "run-1"
    for batch in batches:
        nights.engine.steps[batch.batch_id] = ["boom" if batch.select == ["m02"] else "ok"] * 9
    assert [result.status for result in running].count("ok") == 24


@pytest.mark.parametrize("engine", ["postgres", "clickhouse"])
def test_a_container_with_an_empty_disk_decides_as_one_with_its_history_on_disk(
    nights: Nights, engine: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    server, own = request.getfixturevalue(engine), f"s_{uuid.uuid4().hex[:12]}"
    urls = {
        "postgres": lambda: f"postgresql://test@127.0.0.1:{server.port}/postgres?sslmode=disable&schema={own}",
        "clickhouse": lambda: f"clickhouse://refresh:s3cret-password@127.0.0.1:{server.http_port}/{own}",
    }
    on_disk, on_server = nights.shop.config, replace(nights.shop.config, state_url=urls[engine]())
    nights.shop.models = {"m01": {}, "m15": {}, "m21": {"parents": ["m15"]}}
    told: dict[bool, list] = {}
    for is_remote, config in ((False, on_disk), (True, on_server)):
        nights.nights, told[is_remote] = 0, []
        for broken in ({}, {"m15": "boom"}, {"m15": "boom"}):
            container = replace(config, state_dir=tmp_path / uuid.uuid4().hex) if is_remote else config
            nights.shop.config, nights.broken = container, broken
            nights.night()
            decision, plan, batches = nights.plan()
            what = (
                decision.action,
                decision.reason.split(" ago")[-1],
                decision.retry,
                decision.retry_of,
                decision.saved_s,
            )
            told[is_remote].append((*what, plan.plan_id, [batch.batch_id for batch in batches]))
            assert not (is_remote and container.state_dir.exists())
    assert told[False] == told[True]
    assert [each[2] for each in told[True]] == [0, 1, 2]
    server.query(
        f"DROP {'SCHEMA' if engine == 'postgres' else 'DATABASE'} {own} {'CASCADE' if engine == 'postgres' else 'SYNC'}"
    )


def test_a_rehearsal_decides_the_same_and_leaves_no_trace(nights: Nights) -> None:
    assert nights.plan(dry_run=True)[0].action == "full"
    assert not nights.shop.config.state_dir.exists()
    nights.broken = {"m15": "boom"}
    nights.night()
    for _ in range(4):
        decision, plan, _ = nights.plan(dry_run=True)
        assert (decision.retry, plan.dry_run) == (1, True)
