"""Every key once, in the touched partitions and no others; on real servers, with merges and mutations in the way."""

import dataclasses
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from builders import FakeContext, a_batch, a_plan, a_result, window

from sluice import merge_partitions, optimize_partitions, profiles
from sluice.errors import FAILED, REFUSED, SluiceError
from sluice.manifest import Node
from sluice.optimize_partitions import Options
from sluice.profiles import Credentials
from sluice.records import PartitionResult, Plan, Window
from sluice.warehouse import WarehouseError, connect

pytest_plugins = ["servers"]

ROOT = Path(__file__).resolve().parents[2]
APRIL, MAY = window("2026-04-01", "2026-05-01"), window("2026-05-01", "2026-06-01")
PRICES = "model.shop.prices"
REPLACING = "engine = ReplacingMergeTree(loaded) partition by toYYYYMM(day) order by (day, token)"


@dataclass
class Ctx(FakeContext):
    name: str = "optimize-partitions"
    run_id: str = "run-1"


class Shop:
    """One target, the models of its project, and the command upon them."""

    def __init__(self, target: Credentials, monkeypatch: pytest.MonkeyPatch, settings: Any):
        self.target, self.settings, self.nodes = target, settings, {}
        self._monkeypatch = monkeypatch
        monkeypatch.setattr(optimize_partitions, "Project", self._project)
        self.use(target)
        self.warehouse: Any = None

    def use(self, target: Credentials) -> None:
        self._monkeypatch.setattr(profiles, "load", lambda config, vars: target)

    def _project(self, config: Any, vars: Any) -> Any:
        from contextlib import nullcontext

        manifest = SimpleNamespace(
            nodes=self.nodes,
            of_type=lambda *kinds: {uid: node for uid, node in self.nodes.items() if node.resource_type in kinds},
        )
        return nullcontext(SimpleNamespace(manifest=manifest, info=SimpleNamespace(target="dev")))

    def model(
        self, name: str = "prices", unique_key: Any = None, materialized: str = "incremental", uid: str | None = None
    ) -> str:
        """A model of the project; returns its table."""
        uid = uid or f"model.shop.{name}"
        self.nodes[uid] = Node(
            unique_id=uid, name=name, alias=name, resource_type="model", package_name="shop", path="", original_file_path="", fqn=[],
            schema=self.target.schema, database=self.target.database, config={"materialized": materialized, "unique_key": unique_key},
        )  # fmt: skip
        return self.warehouse.relation(self.target.database, self.target.schema, name)

    def run(
        self, *windows: Window | None, options: Options | None = None, model: str = PRICES, **more: Any
    ) -> list[PartitionResult]:
        self.code, results = self.run_all([(model, w) for w in windows], options=options, **more)
        return results

    def run_all(
        self, touched: list, *, options: Options | None = None, status: str = "ok", dry_run: bool = False
    ) -> tuple:
        batches = [a_batch(model, window=w) for model, w in touched]
        stream: list[Any] = [
            self.plan(batches),
            *(a_result(b, status, began_at="2020-01-01T00:00:00Z") for b in batches),
        ]
        ctx = Ctx(self.settings, stream=stream, dry_run=dry_run)
        running = optimize_partitions.optimize_partitions(ctx, options or Options(wait_s=30))  # type: ignore[arg-type]
        results = []
        while True:
            try:
                results.append(next(running))
            except StopIteration as end:
                return end.value, results

    def plan(self, batches: list) -> Plan:
        return a_plan(batches)[0] if batches else a_plan()[0]

    def refusal(self, *windows: Window, **more: Any) -> SluiceError:
        with pytest.raises(SluiceError) as caught:
            self.run(*windows, **more)
        return caught.value


@pytest.fixture
def shop(target: Credentials, monkeypatch: pytest.MonkeyPatch, own_settings: Any) -> Iterator[Shop]:
    yield from _opened(target, monkeypatch, own_settings)


@pytest.fixture
def click(clickhouse_target: Credentials, monkeypatch: pytest.MonkeyPatch, own_settings: Any) -> Iterator[Shop]:
    yield from _opened(clickhouse_target, monkeypatch, own_settings)


def _opened(target: Credentials, monkeypatch: pytest.MonkeyPatch, own_settings: Any) -> Iterator[Shop]:
    shop = Shop(target, monkeypatch, own_settings)
    if target.adapter != "duckdb":  # a DuckDB file is for one connection at a time
        with connect(target, tag="test") as shop.warehouse:
            yield shop
        return

    class Reopened:
        adapter = "duckdb"

        def __getattr__(self, name: str) -> Any:
            def call(*args: Any, **more: Any) -> Any:
                with connect(target, tag="test") as warehouse:
                    return getattr(warehouse, name)(*args, **more)

            return call

    shop.warehouse = Reopened()
    yield shop


def prices(
    click: Shop,
    *,
    engine: str = REPLACING,
    name: str = "prices",
    unique_key: Any = None,
    days: int = 61,
    uid: str | None = None,
) -> str:
    """April and May 2026, 100 tokens; returns the table."""
    table = click.model(name, unique_key, uid=uid)
    engine += f"{',' if 'settings' in engine else ' settings'} max_bytes_to_merge_at_max_space_in_pool = 1"  # nothing merges unasked
    click.warehouse.execute(
        f"create table {table} (day Date, token UInt32, price Float64, loaded UInt32, at DateTime default toDateTime(day)) {engine}"
    )
    append(click, table, 1, days=days)
    return table


def append(click: Shop, table: str, loaded: int, *, first: str = "2026-04-01", days: int = 30) -> None:
    click.warehouse.execute(
        f"insert into {table} (day, token, price, loaded) select toDate('{first}') + intDiv(number, 100), number % 100, $loaded * 1.5, $loaded"
        f" from numbers({days * 100})",
        {"loaded": loaded},
        settings={"insert_deduplicate": 0},
    )  # fmt: skip


def parts(click: Shop, name: str = "prices") -> list[str]:
    rows = click.warehouse.rows(
        "select name from system.parts where active and database = $s and table = $t order by name",
        {"s": click.target.schema, "t": name},
    )
    return [part for (part,) in rows]


# -- ClickHouse -------------------------------------------------------------------------------------------


def test_each_touched_partition_is_merged_once(click: Shop):
    table = prices(click)
    append(click, table, 2)
    append(click, table, 3)
    may = [part for part in parts(click) if part.startswith("202605")]
    [result] = click.run(APRIL, APRIL)
    assert (result.table, result.partition, result.model, result.status) == (
        f"{click.target.schema}.prices",
        "202604",
        PRICES,
        "ok",
    )
    assert (result.rows_before, result.rows_after) == (9000, 3000)
    assert (result.duplicate_rows_before, result.duplicate_rows_after) == (6000, 0)
    assert (result.parts_before, result.parts_after) == (3, 1)
    assert (result.bytes_before or 0) > (result.bytes_after or 0) > 0
    assert result.duration_s > 0
    assert click.warehouse.rows(
        f"select count(), min(price), max(price) from {table} where toYYYYMM(day) = 202604"
    ) == [(3000, 4.5, 4.5)]
    assert [part for part in parts(click) if part.startswith("202605")] == may

    before = parts(click)
    [again] = click.run(APRIL)
    assert (again.status, again.rows_before, again.rows_after) == ("ok", 3000, 3000)
    assert parts(click) == before  # nothing to do is not done


def test_only_what_went_well_counts(click: Shop):
    table = prices(click)
    append(click, table, 2)
    for status in ("failed", "skipped", "cancelled", "dry_run"):
        assert click.run(APRIL, status=status) == []
    assert len(parts(click)) == 3


def test_a_rehearsal_changes_nothing(click: Shop):
    table = prices(click)
    append(click, table, 2)
    before = parts(click)
    for status in ("ok", "dry_run"):
        results = click.run(APRIL, MAY, status=status, dry_run=True)
        assert [(r.partition, r.status, r.rows_before, r.rows_after) for r in results] == [
            ("202604", "dry_run", 6000, None), ("202605", "dry_run", 3100, None)]  # fmt: skip
    assert parts(click) == before


@pytest.mark.parametrize(("key", "expected"), [
    ("toYYYYMM(day)", ["202604"]),
    ("toStartOfMonth(at)", ["20260401"]),
    ("toMonday(day)", ["20260330", "20260406", "20260413", "20260420", "20260427"]),
    ("tuple()", ["all"]),
    ("intDiv(token, 50)", ["0", "1"]),  # its days are unknown: what was written since the batch began
    ("(toYear(day), token % 2)", ["2026-0", "2026-1"]),
])  # fmt: skip
def test_partitions_are_found_by_their_days(click: Shop, key: str, expected: list[str]):
    prices(click, engine=f"engine = ReplacingMergeTree partition by {key} order by (day, token)")
    assert [result.partition for result in click.run(APRIL)] == expected


def test_a_batch_without_a_window_touched_what_was_written_since(click: Shop):
    prices(click)
    assert [result.partition for result in click.run(None)] == ["202604", "202605"]
    table = merge_partitions.find(click.warehouse, click.target.schema, "prices", [])
    assert table is not None
    now = datetime.now(UTC)
    assert merge_partitions.touched(click.warehouse, table, [None], now) == ["202604", "202605"]
    assert merge_partitions.touched(click.warehouse, table, [None], now + timedelta(minutes=3)) == []


def test_the_servers_clock_may_be_another(click: Shop, monkeypatch: pytest.MonkeyPatch):
    prices(click)
    table = merge_partitions.find(click.warehouse, click.target.schema, "prices", [])
    assert table is not None
    ours, fast_s = time.time(), 7200  # ours is two hours fast, and so is what a batch is said to have begun at
    monkeypatch.setattr(merge_partitions, "time", SimpleNamespace(time=lambda: ours + fast_s))
    began = datetime.fromtimestamp(ours + fast_s, UTC)
    assert merge_partitions.touched(click.warehouse, table, [None], began) == ["202604", "202605"]
    assert merge_partitions.touched(click.warehouse, table, [None], began + timedelta(minutes=3)) == []


def test_models_that_are_replaced_as_a_whole_are_left_alone(click: Shop):
    prices(click, engine="engine = MergeTree order by day")
    click.nodes[PRICES].config["materialized"] = "table"
    assert click.run(None) == []
    click.nodes[PRICES].config["materialized"] = "incremental"
    click.nodes[PRICES].alias = "no_such_table"
    assert click.run(APRIL) == []


def test_equal_rows_without_a_key_may_be_real(click: Shop):
    prices(click, engine="engine = MergeTree partition by toYYYYMM(day) order by (day, token)")
    good = prices(click, name="good", uid="model.shop.good")
    append(click, good, 2)
    with pytest.raises(SluiceError) as caught:
        click.run_all([("model.shop.good", APRIL), (PRICES, APRIL)])
    assert (caught.value.exit_code, caught.value.code) == (REFUSED, "optimize_no_key")
    assert len(parts(click, "good")) == 3  # refused before anything was changed


def test_engines_that_add_up_are_refused(click: Shop):
    """Two equal rows are two amounts there, and no key changes that."""
    table = prices(
        click,
        engine="engine = SummingMergeTree partition by toYYYYMM(day) order by (day, token)",
        unique_key=["day", "token"],
    )
    append(click, table, 1)
    assert click.refusal(APRIL).code == "optimize_computing_engine"
    total = click.warehouse.value(f"select sum(price) from {table}")
    [april] = [r for r in click.run(options=Options(threshold=1, wait_s=30)) if r.partition == "202604"]
    assert (april.status, april.parts_after) == ("ok", 1)
    assert click.warehouse.value(f"select sum(price) from {table}") == total


def test_a_declared_key_makes_equal_rows_copies(click: Shop):
    table = prices(
        click, engine="engine = MergeTree partition by toYYYYMM(day) order by day", unique_key=["day", "token"]
    )
    append(click, table, 1)
    [result] = click.run(APRIL)
    assert (result.status, result.rows_before, result.rows_after) == ("ok", 6000, 3000)
    append(click, table, 2)
    [result] = click.run(APRIL)
    assert (result.status, result.duplicate_rows_after) == ("failed", 3000)
    assert "MergeTree keeps rows that differ" in (result.error or "")


def test_a_key_that_the_engine_does_not_merge_by_is_told(click: Shop):
    table = prices(
        click,
        unique_key="day, TOKEN".lower(),
        engine="engine = ReplacingMergeTree partition by toYYYYMM(day) order by (day, token, price)",
    )
    append(click, table, 2)
    [result] = click.run(APRIL)
    assert (result.status, result.duplicate_rows_after) == ("failed", 3000)
    assert "merges by (day, token, price), the key is (`day`, `token`)" in (result.error or "")


def test_projections_are_refused(click: Shop):
    table = prices(
        click,
        engine="engine = ReplacingMergeTree partition by toYYYYMM(day) order by day settings deduplicate_merge_projection_mode = 'rebuild'",
    )
    click.warehouse.execute(f"alter table {table} add projection p (select token, count() group by token)")
    problem = click.refusal(APRIL)
    assert (problem.exit_code, problem.code) == (REFUSED, "optimize_projections")
    assert "(p)" in problem.message


def test_too_little_disk_is_refused(click: Shop, monkeypatch: pytest.MonkeyPatch):
    prices(click)
    monkeypatch.setattr(merge_partitions, "DISK_FACTOR", 1e15)
    problem = click.refusal(APRIL)
    assert (problem.exit_code, problem.code) == (REFUSED, "optimize_disk")


def test_a_distributed_table_is_refused(click: Shop):
    prices(click, name="local", uid="model.shop.local")
    table = click.model("prices")
    click.warehouse.execute(f"create table {table} engine = Distributed('solo', '{click.target.schema}', 'local')")
    assert click.refusal(APRIL).code == "optimize_distributed"


def poisoned(click: Shop) -> str:
    """A table with a mutation that cannot succeed and a good one behind it."""
    table = prices(click)
    append(click, table, 2)
    click.warehouse.execute(
        f"alter table {table} update price = toFloat64(throwIf(token = 7, 'poison')) where 1",
        settings={"mutations_sync": 0},
    )
    wait_for(
        lambda: click.warehouse.value(
            "select count() from system.mutations where latest_fail_reason != '' and database = $s",
            {"s": click.target.schema},
        )
    )
    click.warehouse.execute(f"alter table {table} update price = 77 where token = 5", settings={"mutations_sync": 0})
    return table


def wait_for(is_true: Any, seconds: float = 15) -> None:
    import time

    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


def test_a_stuck_mutation_is_named(click: Shop):
    poisoned(click)
    problem = click.refusal(APRIL)
    assert (problem.exit_code, problem.code) == (REFUSED, "optimize_stuck_mutation")
    [(first,)] = click.warehouse.rows(
        "select min(mutation_id) from system.mutations where database = $s", {"s": click.target.schema}
    )
    assert f"mutation {first} " in problem.message
    assert "poison" in problem.message
    assert (
        f"KILL MUTATION WHERE database = '{click.target.schema}' AND table = 'prices' AND mutation_id = '{first}'"
        in (problem.hint or "")
    )


def test_only_the_mutation_at_fault_is_killed(click: Shop):
    table = poisoned(click)
    [result] = click.run(APRIL, options=Options(kill_failed_mutations=True, wait_s=30))
    assert (result.status, result.duplicate_rows_after) == ("ok", 0)
    wait_for(
        lambda: (
            click.warehouse.value(
                "select count() from system.mutations where database = $s and not is_done", {"s": click.target.schema}
            )
            == 0
        )
    )
    assert click.warehouse.rows(f"select distinct price from {table} where token = 5") == [(77.0,)]
    assert (
        click.warehouse.value("select count() from system.mutations where database = $s", {"s": click.target.schema})
        == 1
    )


def test_a_rehearsal_kills_no_mutation(click: Shop):
    poisoned(click)
    click.run(APRIL, options=Options(kill_failed_mutations=True), dry_run=True)
    assert (
        click.warehouse.value(
            "select count() from system.mutations where database = $s and is_killed = 0", {"s": click.target.schema}
        )
        == 2
    )


def test_hostile_names(click: Shop):
    name = "a'b`c\\; drop table x -- $partition"
    table = prices(click, name=name, uid="model.shop.hostile")
    append(click, table, 2)
    [result] = click.run(APRIL, model="model.shop.hostile")
    assert (result.status, result.rows_before, result.rows_after) == ("ok", 6000, 3000)


def test_partitions_of_text_are_ids(click: Shop):
    table = click.model("prices")
    click.warehouse.execute(
        f"create table {table} (day Date, k String) engine = ReplacingMergeTree partition by (k, toYYYYMM(day)) order by day"
    )
    for _ in range(2):
        click.warehouse.execute(f"insert into {table} values ('2026-04-01', 'it''s; drop'), ('2026-04-02', '')")
    results = click.run(APRIL)
    assert [(r.status, r.rows_before, r.rows_after) for r in results] == [("ok", 2, 1), ("ok", 2, 1)]


# -- housekeeping -----------------------------------------------------------------------------------------


def test_partitions_with_too_many_parts(click: Shop):
    table = prices(click, engine="engine = MergeTree partition by toYYYYMM(day) order by day")
    for _ in range(4):
        append(click, table, 1)
        append(click, table, 1, first="2026-05-01", days=2)
    append(click, table, 1)
    everything = click.warehouse.value(f"select count() from {table}")
    found = [(part.partition, part.parts_before) for part in click.run(options=Options(threshold=2), dry_run=True)]
    assert found == [("202604", 6), ("202605", 5)]
    assert len(click.run(options=Options(threshold=5), dry_run=True)) == 1
    first, second = click.run(options=Options(threshold=2, max_partitions=1, wait_s=30))
    assert (first.partition, first.status, first.parts_after) == ("202604", "ok", 1)
    assert (second.partition, second.status, second.error) == ("202605", "skipped", "beyond --max-partitions 1")
    assert click.warehouse.value(f"select count() from {table}") == everything  # no key is declared: no row may go


def test_what_is_wrong_with_one_table_does_not_stop_the_others(click: Shop):
    poisoned(click)
    good = prices(click, name="good", uid="model.shop.good")
    append(click, good, 2)
    results = click.run(options=Options(threshold=1, wait_s=30))
    assert {(r.table.split(".")[1], r.status) for r in results} == {("prices", "failed"), ("good", "ok")}
    assert any("--kill-failed-mutations" in (r.error or "") for r in results)


def test_housekeeping_counts_parts(duckdb_target: Credentials, monkeypatch: pytest.MonkeyPatch, own_settings: Any):
    problem = Shop(duckdb_target, monkeypatch, own_settings).refusal(options=Options(threshold=1))
    assert (problem.exit_code, problem.code) == (REFUSED, "optimize_no_parts")


# -- merges in the way ------------------------------------------------------------------------------------


@pytest.fixture
def through(click: Shop, recorder: Any) -> Any:
    """The recorder, through which the command's own statements now go."""
    click.use(dataclasses.replace(click.target, fields={**click.target.fields, "port": recorder.port}))
    append(click, prices(click), 2)
    return recorder


def optimizes(recorder: Any) -> list[str]:
    return [sql for sql in recorder.statements if sql.startswith("OPTIMIZE")]


def test_a_lost_connection_is_waited_out_and_not_asked_again(click: Shop, through: Any):
    through.cut = "OPTIMIZE"
    [result] = click.run(APRIL)
    assert (result.status, result.duplicate_rows_after) == ("ok", 0)
    assert len(optimizes(through)) == 1


def test_a_timeout_is_judged_by_counting(click: Shop, through: Any):
    through.answers["OPTIMIZE"] = [(500, 159, "Code: 159. DB::Exception: Timeout exceeded")]
    [result] = click.run(APRIL)  # nothing was done, whatever the statement said
    assert (result.status, result.duplicate_rows_after) == ("failed", 3000)


def test_success_that_did_nothing_is_found_out(click: Shop, through: Any):
    through.answers["OPTIMIZE"] = [(200, 0, "")]
    [result] = click.run(APRIL)
    assert (result.status, result.duplicate_rows_after) == ("failed", 3000)


def test_a_no_op_is_tried_again_later(click: Shop, through: Any, monkeypatch: pytest.MonkeyPatch):
    through.answers["OPTIMIZE"] = [
        (500, 388, "Code: 388. DB::Exception: Cannot OPTIMIZE table: parts are being merged")
    ] * 2
    [result] = click.run(APRIL)
    assert (result.status, result.duplicate_rows_after) == ("ok", 0)
    assert len(optimizes(through)) == 3


def test_a_no_op_for_ever_is_a_failure(click: Shop, through: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(merge_partitions, "_pause", lambda seconds: None)
    through.answers["OPTIMIZE"] = [(500, 388, "Code: 388. DB::Exception: Cannot OPTIMIZE table")] * 99
    [result] = click.run(APRIL)
    assert result.status == "failed"
    assert "Code: 388" in (result.error or "")
    assert len(optimizes(through)) == merge_partitions.NOOP_TRIES


def test_other_errors_are_not_tried_again(click: Shop, through: Any):
    through.answers["OPTIMIZE"] = [(500, 241, "Code: 241. DB::Exception: Query memory limit exceeded: would use 9 GiB")]
    [result] = click.run(APRIL)
    assert result.status == "failed"
    assert (result.error or "").startswith("too_big: ")
    assert len(optimizes(through)) == 1


def test_a_merge_that_runs_is_waited_for(click: Shop):
    table = click.model("prices")
    click.warehouse.execute(
        f"create table {table} (day Date, k UInt64, s String) engine = ReplacingMergeTree partition by toYYYYMM(day) order by k"
    )
    for _ in range(2):
        click.warehouse.execute(
            f"insert into {table} select '2026-04-01', number, hex(sipHash128(number)) from numbers(800000)"
        )
    found = merge_partitions.find(click.warehouse, click.target.schema, "prices", [])
    assert found is not None

    def optimize() -> None:
        with connect(click.target, tag="somebody") as other:
            other.execute(f"optimize table {table} partition id '202604' final")

    somebody = threading.Thread(target=optimize)
    somebody.start()
    wait_for(lambda: merge_partitions._is_merging(click.warehouse, found, "202604") or not somebody.is_alive())
    was_merging = somebody.is_alive()
    with pytest.raises(WarehouseError, match="still being merged"):
        merge_partitions._wait_for_merges(click.warehouse, found, "202604", deadline=0)
    [result] = click.run(APRIL)
    somebody.join()
    assert was_merging
    assert (result.status, result.rows_after, result.duplicate_rows_after) == ("ok", 800_000, 0)
    click.warehouse.execute("system flush logs")
    overlaps = click.warehouse.value(
        "select count() from system.query_log a, system.query_log b where a.type = 2 and b.type = 2 and a.query_kind = 'Optimize'"
        " and b.query_kind = 'Optimize' and a.query_id < b.query_id and position(a.query, $s) > 0 and position(b.query, $s) > 0"
        " and a.query_start_time_microseconds < b.event_time_microseconds and b.query_start_time_microseconds < a.event_time_microseconds",
        {"s": click.target.schema},
    )
    assert overlaps == 0


# -- a cluster: what is sent ------------------------------------------------------------------------------


def as_default(click: Shop, through: Any) -> None:
    """The cluster `solo` logs in as the user `default`."""
    click.use(dataclasses.replace(click.target, fields={"host": "127.0.0.1", "port": through.port}))


def test_on_a_cluster_everybody_is_told_and_asked(click: Shop, through: Any):
    as_default(click, through)
    [result] = click.run(APRIL, options=Options(cluster="ma`in", wait_s=30))
    assert (result.status, result.rows_before, result.rows_after, result.parts_after) == ("ok", 6000, 3000, 1)
    assert optimizes(through) == [
        f"OPTIMIZE TABLE `{click.target.schema}`.`prices` ON CLUSTER `ma\\`in` PARTITION ID '202604' FINAL DEDUPLICATE"
    ]
    own = [sql for sql in through.statements if click.target.schema in sql or "$" in sql or "{schema:" in sql]
    for table in ("parts", "merges", "processes", "mutations"):
        assert any(f"clusterAllReplicas(`ma\\`in`, system.`{table}`)" in sql for sql in own)
        assert not any(f"from system.`{table}`" in sql for sql in through.statements)
    assert any(f"cluster(`ma\\`in`, `{click.target.schema}`, `prices`)" in sql and "_shard_num" in sql for sql in own)
    sent = next(
        settings
        for sql, settings in zip(through.statements, through.settings, strict=True)
        if sql.startswith("OPTIMIZE")
    )
    assert (sent["distributed_ddl_output_mode"], sent["optimize_throw_if_noop"], sent["alter_sync"]) == (
        "throw",
        "1",
        "2",
    )


def test_on_a_cluster_mutations_are_killed_everywhere(click: Shop, recorder: Any):
    poisoned(click)
    as_default(click, recorder)
    [result] = click.run(APRIL, options=Options(cluster="main", kill_failed_mutations=True, wait_s=30))
    assert result.status == "ok"
    [kill] = [sql for sql in recorder.statements if sql.startswith("KILL MUTATION")]
    assert kill.startswith(
        f"KILL MUTATION ON CLUSTER `main` WHERE database = '{click.target.schema}' AND table = 'prices' AND mutation_id = '"
    )


def test_a_kill_that_does_not_take(click: Shop, recorder: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(merge_partitions, "KILL_S", 0.5)
    poisoned(click)
    click.use(dataclasses.replace(click.target, fields={**click.target.fields, "port": recorder.port}))
    recorder.answers["KILL MUTATION"] = [(200, 0, "")] * 9
    problem = click.refusal(APRIL, options=Options(kill_failed_mutations=True))
    assert (problem.exit_code, problem.code) == (FAILED, "optimize_kill_failed")
    assert len([sql for sql in recorder.statements if sql.startswith("KILL MUTATION")]) == 1


# -- DuckDB and Postgres ----------------------------------------------------------------------------------


@pytest.fixture(params=["duckdb", "postgres"])
def tables(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, own_settings: Any) -> Iterator[Shop]:
    yield from _opened(request.getfixturevalue(f"{request.param}_target"), monkeypatch, own_settings)


def filled(tables: Shop, unique_key: Any = ("day", "Token"), name: str = "prices") -> str:
    """Two days of four tokens, then day one again with new prices, and rows without a whole key."""
    table = tables.model(name, list(unique_key) if isinstance(unique_key, tuple) else unique_key)
    tables.warehouse.execute(f'create table {table} (day date, "Token" text, price integer)')
    for price in (1, 2):
        days = "'2026-04-01'), ('2026-04-02'" if price == 1 else "'2026-04-01'"
        tables.warehouse.execute(
            f"insert into {table} select d::date, t, {price} from (values ({days})) as x (d), (values ('a'), ('b'), ('c'), ('d')) as y (t)"
        )
    tables.warehouse.execute(
        f"insert into {table} values ('2026-04-01', null, 5), ('2026-04-01', null, 5), (null, null, 5)"
    )
    return table


def test_the_newest_row_of_each_key_stays(tables: Shop):
    table = filled(tables)
    [result] = tables.run(APRIL, MAY)
    assert (result.table, result.partition, result.status) == (f"{tables.target.schema}.prices", None, "ok")
    assert (result.rows_before, result.rows_after, result.duplicate_rows_before, result.duplicate_rows_after) == (
        15,
        11,
        4,
        0,
    )
    found = tables.warehouse.rows(
        f'select day::text, price, count(*) from {table} where "Token" is not null group by 1, 2 order by 1, 2'
    )
    assert found == [("2026-04-01", 2, 4), ("2026-04-02", 1, 4)]
    assert tables.warehouse.value(f'select count(*) from {table} where "Token" is null') == 3
    [again] = tables.run(APRIL)
    assert (again.status, again.rows_before, again.rows_after) == ("ok", 11, 11)


def test_the_newest_is_found_where_space_was_used_again(
    postgres_target: Credentials, monkeypatch: pytest.MonkeyPatch, own_settings: Any
):
    for shop in _opened(postgres_target, monkeypatch, own_settings):
        table = shop.model("prices", ["k"])
        shop.warehouse.execute(f"create table {table} (k integer, v integer)")
        shop.warehouse.execute(f"insert into {table} select 0, g from generate_series(1, 500) g")
        shop.warehouse.execute(f"insert into {table} select g, 1 from generate_series(1, 100) g")
        shop.warehouse.execute(f"delete from {table} where k = 0")
        shop.warehouse.execute(f"vacuum {table}")
        shop.warehouse.execute(f"insert into {table} select g, 2 from generate_series(1, 100) g")
        assert shop.warehouse.value(
            f"select min(ctid) < (select min(ctid) from {table} where v = 1) from {table} where v = 2"
        )
        [result] = shop.run(None)
        assert (result.status, result.rows_after) == ("ok", 100)
        assert shop.warehouse.rows(f"select distinct v from {table}") == [(2,)]
        assert result.bytes_before is not None


def test_a_partitioned_table(postgres_target: Credentials, monkeypatch: pytest.MonkeyPatch, own_settings: Any):
    """A row's place counts per partition: the same place in another one holds another row."""
    for shop in _opened(postgres_target, monkeypatch, own_settings):
        table = shop.model("prices", ["k"])
        shop.warehouse.execute(f"create table {table} (k integer, v integer) partition by list (k)")
        for k in (1, 2):
            part = shop.warehouse.relation(None, postgres_target.schema, f"prices_{k}")
            shop.warehouse.execute(f"create table {part} partition of {table} for values in ({k})")
        for v in (1, 2):
            shop.warehouse.execute(f"insert into {table} values (1, {v})")
        shop.warehouse.execute(f"insert into {table} values (2, 1)")
        assert shop.run(None)[0].rows_after == 2
        assert shop.warehouse.rows(f"select k, v from {table} order by k") == [(1, 2), (2, 1)]


def test_a_column_is_found_however_it_is_spelled(tables: Shop):
    filled(tables, unique_key="DAY, token")
    assert tables.run(APRIL)[0].duplicate_rows_after == 0


@pytest.mark.parametrize(("key", "code", "words"), [
    (None, "optimize_no_key", "equal rows may be real rows"),
    (["day", "tokn"], "optimize_bad_key", "no column 'tokn'"),
    ("coalesce(day, 1)", "optimize_bad_key", "is no column"),
    (["day; drop table prices"], "optimize_bad_key", "is no column"),
])  # fmt: skip
def test_keys_that_will_not_do(tables: Shop, key: Any, code: str, words: str):
    table = filled(tables, unique_key=key)
    problem = tables.refusal(APRIL)
    assert (problem.exit_code, problem.code) == (REFUSED, code)
    assert words in problem.message
    assert tables.warehouse.value(f"select count(*) from {table}") == 15


def test_a_rehearsal_of_tables(tables: Shop):
    table = filled(tables)
    [result] = tables.run(APRIL, status="dry_run", dry_run=True)
    assert (result.status, result.duplicate_rows_before, result.duplicate_rows_after) == ("dry_run", 4, None)
    assert tables.warehouse.value(f"select count(*) from {table}") == 15


def test_a_rehearsal_before_the_first_run(
    duckdb_target: Credentials, monkeypatch: pytest.MonkeyPatch, own_settings: Any
):
    gone = dataclasses.replace(duckdb_target, fields={"path": "/no/such/file.duckdb"})
    for shop in _opened(duckdb_target, monkeypatch, own_settings):
        shop.model("prices", ["day"])
        shop.use(gone)
        [result] = shop.run(APRIL, status="dry_run", dry_run=True)
        assert (result.status, result.table, result.rows_before) == ("dry_run", "shop.prices", None)
        assert shop.refusal(APRIL).code == "warehouse_missing"


def test_a_table_that_cannot_be_mended_says_so_and_the_next_is_mended(
    postgres_target: Credentials, postgres: Any, monkeypatch: pytest.MonkeyPatch, own_settings: Any
):
    for shop in _opened(postgres_target, monkeypatch, own_settings):
        first, second = filled(shop), filled(shop, name="second")
        postgres.query(
            f"create function {postgres_target.schema}.no() returns trigger language plpgsql as $$ begin raise 'not this one'; end $$"
        )
        postgres.query(f"create trigger no before delete on {first} execute function {postgres_target.schema}.no()")
        _, results = shop.run_all([(PRICES, APRIL), ("model.shop.second", APRIL)])
        assert [(r.status, r.rows_before, r.rows_after) for r in results] == [("failed", 15, None), ("ok", 15, 11)]
        assert "not this one" in (results[0].error or "")
        assert shop.warehouse.value(f"select count(*) from {first}") == 15
        assert second


# -- the script -------------------------------------------------------------------------------------------


def test_the_whole_command(clickhouse_target: Credentials, tmp_path: Path):
    """A real project: what comes in goes out byte for byte, then the partitions, then the summary."""
    target = clickhouse_target
    (tmp_path / "models").mkdir()
    (tmp_path / "dbt_project.yml").write_text("name: shop\nprofile: shop\nflags: {send_anonymous_usage_stats: false}\n")
    (tmp_path / "profiles.yml").write_text(
        f"shop: {{target: dev, outputs: {{dev: {{type: clickhouse, host: 127.0.0.1, port: {target.get('port')}, user: refresh,"
        f" password: \"{{{{ env_var('DBT_ENV_SECRET_CH') }}}}\", schema: {target.schema}}}}}}}\n"
    )
    (tmp_path / "models" / "prices.sql").write_text("{{ config(materialized='incremental') }} select 1 as x")
    with connect(target, tag="t") as warehouse:
        table = warehouse.relation(None, target.schema, "prices")
        warehouse.execute(
            f"create table {table} (day Date, k Int32) {REPLACING.replace('loaded', 'k').replace('token', 'k')}"
        )
        for _ in range(2):
            warehouse.execute(f"insert into {table} values ('2026-04-01', 1)", settings={"insert_deduplicate": 0})
    batch = a_batch(PRICES, window=APRIL)
    import msgspec

    plan, [batch] = a_plan([batch], run_id="01920000-0000-7000-8000-000000000000")
    lines = [msgspec.json.encode(record) for record in (plan, a_result(batch, run_id=plan.run_id))]
    lines += [
        b'{"type":"something_new","v":9, "x" : 1}',
        b'{"type":"summary","v":1,"run_id":"r","at":"","command":"run-dbt-batch","exit_code":0}',
    ]
    stream = b"".join(line + b"\n" for line in lines)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("DBT_", "SLUICE_"))},
        "DBT_ENV_SECRET_CH": target.get("password"), "SLUICE_STATE_DIR": str(tmp_path / "state"), "SLUICE_LOG_DIR": str(tmp_path / "logs"),
    }  # fmt: skip
    command = [ROOT / "bin" / "optimize-partitions", "--project-dir", tmp_path, "--profiles-dir", tmp_path]
    done = subprocess.run(command, input=stream, capture_output=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.startswith(stream)
    partition, summary = map(json.loads, done.stdout[len(stream) :].splitlines())
    assert (partition["type"], partition["run_id"], partition["partition"], partition["status"]) == (
        "partition_result",
        plan.run_id,
        "202604",
        "ok",
    )
    assert (partition["rows_before"], partition["rows_after"]) == (2, 1)
    assert (summary["command"], summary["counts"]) == ("optimize-partitions", {"ok": 1})
    housekeeping = subprocess.run(
        [*command, "--threshold", "1"], stdin=subprocess.DEVNULL, capture_output=True, env=environment, timeout=60
    )
    assert housekeeping.returncode == 0, housekeeping.stderr.decode()
    assert json.loads(housekeeping.stdout)["counts"] == {}
    logs = "".join(path.read_text() for path in (tmp_path / "logs").rglob("*") if path.is_file())
    assert target.get("password") not in f"{done.stdout!r}{done.stderr!r}{logs}"
