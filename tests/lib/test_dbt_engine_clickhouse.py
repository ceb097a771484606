"""Appends that die half way, on a real ClickHouse: what they left is removed, and nothing else is."""

import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import a_batch
from servers import Recorder
from test_dbt_engine import Project, descendants, mark, wait_for

from sluice import attempts, error_classes
from sluice.clickhouse_server import ClickHouseServer

ROWS = 4000
# Parts of 200 rows, one every fifth of a second: whoever comes in between finds some of them.
SLOW = (
    "select toDate('{{ var('start_month', '2024-01-01') }}') as day, toUInt64(number) as n from numbers(4000)"
    " where sleepEachRow({{ var('sleep', 0) }}) = 0"
)
CONFIG = (
    "{{{{ config(materialized='incremental', {0}, order_by='n', partition_by='toStartOfMonth(day)', query_settings={{"
    "'max_block_size': 200, 'min_insert_block_size_rows': 200, 'min_insert_block_size_bytes': 0, 'max_threads': 1}}) }}}}\n"
)
APPEND = CONFIG.format("incremental_strategy='append'")
MODELS = {
    "slow": APPEND + SLOW,
    "numbered": CONFIG.format("incremental_strategy='append', settings={'enable_block_number_column': 1}") + SLOW,
    "keyed": CONFIG.format("incremental_strategy='delete+insert', unique_key=['day', 'n']") + SLOW,
    "hungry": "{{ config(materialized='table', query_settings={'max_memory_usage': 10000000, 'max_threads': 1}) }}\n"
    "select number % 3000000 as n, count() as many from numbers(3000000) group by n",
    "stuck": CONFIG.format("incremental_strategy='delete+insert', unique_key='n'")
    + "select toDate('2024-01-01') as day, toUInt64(number) as n, 'x' as text from numbers(10)",
    "created": APPEND + SLOW,
    "broken": APPEND + "select * from nowhere",
    "hooked": APPEND.replace("order_by", "post_hook='select throwIf({{ var(\"fail\", 0) }})', order_by") + SLOW,
}
SLEEPING = {"sleep": 0.001}


class Shop(Project):
    """The project in a database of its own, on a server that a test may kill."""

    def __init__(self, root: Path, server: ClickHouseServer, schema: str = "shop", **more: Any):
        self.server, self.schema = server, schema
        output = {"type": "clickhouse", "host": "127.0.0.1", "port": server.http_port, "schema": schema, "threads": 2}
        profile = {"engine": {"target": "dev", "outputs": {"dev": output | more}}}
        super().__init__(root, MODELS, files={"profiles.yml": yaml.safe_dump(profile)})

    def query(self, sql: str) -> list[tuple]:
        return [tuple(line.split("\t")) for line in self.server.query(sql).splitlines()]

    def count(self, table: str = "slow") -> int:
        return int(self.query(f"select count() from {self.schema}.{table}")[0][0])

    def running(self) -> list[str]:
        return [
            row[0]
            for row in self.query(
                "select query_id from system.processes where query_kind = 'Insert' and query_id like 'sluice:%'"
            )
        ]

    def half_done(self, table: str = "slow", since: int = 0) -> bool:
        """Whether an INSERT is at work and has written something: more than `since` rows are there."""
        try:
            return bool(self.running()) and (since < 0 or self.count(table) > since)
        except Exception:  # the table is not there yet
            return False

    def without_merges(self, table: str = "slow") -> None:
        self.server.query(f"system stop merges {self.schema}.{table}")


@pytest.fixture(scope="module")
def shop(clickhouse: ClickHouseServer, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"), clickhouse, "engine")


@pytest.fixture(scope="module")
def engine(shop: Shop) -> Iterator[Any]:
    with shop.engine() as engine:
        yield engine


pytest_plugins = ["servers"]


@pytest.fixture(autouse=True)
def _fresh(request: pytest.FixtureRequest) -> None:
    if "shop" in request.fixturenames:
        shop = request.getfixturevalue("shop")
        for table in MODELS:
            shop.server.query(f"truncate table if exists {shop.schema}.{table} sync")
        shop.server.query("system start merges")


def attempt(shop: Shop, engine: Any, model: str, batch: str, number: int = 1, **variables: Any) -> Any:
    return shop.run(engine, model, batch_id=batch, vars=variables, marker=mark(batch, number))


def while_running(shop: Shop, model: str, disturb: Callable[[], None], run: Callable[[], Any], since: int = 0) -> Any:
    """What `run` returns when `disturb` comes as soon as it has written something."""

    def wait() -> None:
        wait_for(lambda: shop.half_done(model, since))
        disturb()

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        return run()
    finally:
        thread.join()


def kill_query(shop: Shop) -> Callable[[], None]:
    return lambda: shop.query("kill query where query_id like 'sluice:%' sync") and None


def test_statements_carry_run_batch_and_attempt(shop: Shop, engine: Any) -> None:
    assert attempt(shop, engine, "slow", "named", 3).status == "ok"
    shop.query("system flush logs")
    inserts = shop.query(
        "select query_id, Settings['insert_deduplication_token'] from system.query_log"
        f" where type = 'QueryFinish' and query_kind = 'Insert' and has(tables, '{shop.schema}.slow')"
    )
    (query_id, token), *_ = inserts
    assert query_id.startswith("sluice:run-1:named:3:")
    assert token == query_id


def test_a_killed_insert_leaves_nothing_and_is_done_once(shop: Shop, engine: Any) -> None:
    assert attempt(shop, engine, "slow", "first", start_month="2024-01-01").status == "ok"
    shop.without_merges()
    outcome = while_running(
        shop, "slow", kill_query(shop),
        lambda: attempt(shop, engine, "slow", "second", start_month="2024-02-01", **SLEEPING), since=ROWS,
    )  # fmt: skip
    assert (outcome.status, outcome.committed) == ("failed", False)
    assert "394" in outcome.error
    assert shop.count() == ROWS
    assert attempt(shop, engine, "slow", "second", 2, start_month="2024-02-01").status == "ok"
    assert engine.committed(mark("second")) is True
    assert shop.query(f"select day, count(), uniqExact(n) from {shop.schema}.slow group by day order by day") == [
        ("2024-01-01", str(ROWS), str(ROWS)),
        ("2024-02-01", str(ROWS), str(ROWS)),
    ]


def test_the_first_append_creates_its_table_and_is_undone_as_well(shop: Shop, engine: Any) -> None:
    outcome = while_running(
        shop, "created", kill_query(shop), lambda: attempt(shop, engine, "created", "creating", **SLEEPING)
    )
    assert (outcome.status, outcome.committed, shop.count("created")) == ("failed", False, 0)
    assert attempt(shop, engine, "created", "creating", 2).status == "ok"
    assert shop.count("created") == ROWS


def test_a_killed_worker_leaves_a_statement_that_is_stopped_and_undone(shop: Shop, engine: Any) -> None:
    def kill() -> None:
        os.kill(descendants(engine.pid)[0], signal.SIGKILL)

    outcome = while_running(shop, "slow", kill, lambda: attempt(shop, engine, "slow", "worker", **SLEEPING))
    assert outcome.status == "lost"
    assert shop.running(), "ClickHouse carries on without a client"
    assert engine.committed(mark("worker")) is False
    assert (shop.running(), shop.count()) == ([], 0)
    assert attempt(shop, engine, "slow", "worker", 2).status == "ok"
    assert shop.count() == ROWS


def test_a_stop_signal_ends_the_statement_on_the_server(shop: Shop, engine: Any) -> None:
    def stop() -> None:
        os.kill(descendants(engine.pid)[0], signal.SIGTERM)

    outcome = while_running(shop, "slow", stop, lambda: attempt(shop, engine, "slow", "stopped", **SLEEPING))
    assert outcome.status == "lost"
    assert shop.running() == []
    assert engine.committed(mark("stopped")) is False
    assert shop.count() == 0


def test_a_full_refresh_stops_what_an_earlier_attempt_left_running(shop: Shop, engine: Any) -> None:
    def kill() -> None:
        os.kill(descendants(engine.pid)[0], signal.SIGKILL)

    def refresh(number: int, **variables: Any) -> Any:
        return shop.run(engine, "slow", batch_id="full", vars=variables, full_refresh=True, marker=mark("full", number))

    assert while_running(shop, "slow", kill, lambda: refresh(1, **SLEEPING), since=-1).status == "lost"
    assert shop.running()
    assert refresh(2).status == "ok"
    assert (shop.running(), shop.count()) == ([], ROWS)


def test_a_failure_after_the_insert_is_undone_too(shop: Shop, engine: Any) -> None:
    outcome = attempt(shop, engine, "hooked", "hooked", fail=1)
    assert (outcome.status, outcome.committed, shop.count("hooked")) == ("failed", False, 0)


def test_rows_of_others_stay(shop: Shop, engine: Any) -> None:
    """Somebody else writes while the attempt runs: part_log tells whose parts they are."""
    assert attempt(shop, engine, "slow", "before").status == "ok"
    shop.without_merges()

    def meanwhile() -> None:
        shop.server.query(f"insert into {shop.schema}.slow values ('2024-03-05', 1)")
        kill_query(shop)()

    outcome = while_running(
        shop, "slow", meanwhile, lambda: attempt(shop, engine, "slow", "mine", **SLEEPING), since=ROWS
    )
    assert (outcome.committed, shop.count()) == (False, ROWS + 1)


@pytest.mark.parametrize(("model", "known"), [("slow", False), ("numbered", True)])
def test_parts_that_were_merged_with_older_ones(shop: Shop, engine: Any, model: str, known: bool) -> None:
    """A person must look, unless the table keeps the number of each row's block."""
    assert attempt(shop, engine, model, f"older {model}").status == "ok"
    table = f"{shop.schema}.{model}"

    def merge() -> None:
        shop.server.query(f"optimize table {table} final")
        kill_query(shop)()

    outcome = while_running(
        shop, model, merge, lambda: attempt(shop, engine, model, f"merged {model}", **SLEEPING), since=ROWS
    )
    if known:
        assert (outcome.committed, shop.count(model)) == (False, ROWS)
        return
    assert f"parts of `{shop.schema}`.`slow` were written since it began" in outcome.committed
    assert "they were merged with rows from before: 20240101_" in outcome.committed
    assert shop.count(model) > ROWS, "nothing is dropped on suspicion"
    assert "merged with rows from before" in engine.committed(mark(f"merged {model}"))


def test_parts_that_were_merged_with_each_other_are_dropped(shop: Shop, engine: Any) -> None:
    assert attempt(shop, engine, "slow", "january").status == "ok"

    def merge() -> None:
        shop.server.query(f"optimize table {shop.schema}.slow partition '2024-02-01' final")
        kill_query(shop)()

    outcome = while_running(
        shop, "slow", merge,
        lambda: attempt(shop, engine, "slow", "february", start_month="2024-02-01", **SLEEPING), since=ROWS,
    )  # fmt: skip
    assert (outcome.committed, shop.count()) == (False, ROWS)


def test_what_part_log_does_not_know_is_left_alone(shop: Shop, engine: Any) -> None:
    def forget() -> None:
        kill_query(shop)()
        shop.query("system flush logs")
        shop.query("truncate table system.part_log")

    assert attempt(shop, engine, "slow", "known").status == "ok"
    shop.without_merges()

    def killed() -> Any:
        os.kill(descendants(engine.pid)[0], signal.SIGKILL)
        forget()

    outcome = while_running(
        shop, "slow", killed, lambda: attempt(shop, engine, "slow", "forgotten", **SLEEPING), since=ROWS
    )
    assert outcome.status == "lost"
    said = engine.committed(mark("forgotten"))
    assert "part_log does not say who wrote" in said
    assert "select * from" in said
    assert shop.count() > ROWS


def test_a_strategy_that_replaces_is_simply_done_again(shop: Shop, engine: Any) -> None:
    assert attempt(shop, engine, "keyed", "keyed").status == "ok"
    for number in (2, 3):
        assert engine.committed(mark("keyed", number)) is False
        assert attempt(shop, engine, "keyed", "keyed", number).status == "ok"
    assert shop.count("keyed") == ROWS


def test_several_nodes_are_undone_together(shop: Shop, engine: Any) -> None:
    assert attempt(shop, engine, "slow", "alone").status == "ok"
    shop.without_merges()
    outcome = shop.run(engine, "slow", "broken", batch_id="both", marker=mark("both"))
    assert (outcome.status, outcome.committed, shop.count()) == ("failed", False, ROWS)


def advice(outcome: Any, model: str) -> str:
    """What a person reads of a failed batch."""
    rule = error_classes.rule_for(outcome.error, "clickhouse", error_classes.load())
    return attempts._advised(outcome.error, rule, outcome, a_batch(f"model.shop.{model}"))


def test_a_query_that_is_too_big_names_its_model_and_the_hook_that_bounds_it(shop: Shop, engine: Any) -> None:
    outcome = attempt(shop, engine, "hungry", "hungry")
    assert outcome.status == "failed"
    assert "Code: 241" in outcome.error
    said = advice(outcome, "hungry").partition("try: ")[2]
    assert 'give hungry pre_hook="{{ sluice.refill_safe_pre_hook() }}"' in said


def test_a_stuck_mutation_is_named_with_what_frees_it_and_the_strategy_that_needs_none(shop: Shop, engine: Any) -> None:
    assert attempt(shop, engine, "stuck", "fresh").status == "ok"
    shop.query(
        f"alter table {shop.schema}.stuck update text = toString(toUInt64(text)) where 1 settings mutations_sync = 0"
    )
    outcome = attempt(shop, engine, "stuck", "waits")
    assert "Code: 341" in outcome.error
    said = advice(outcome, "stuck").partition("try: ")[2]
    assert "('append' if (var('start_month', none) or var('incremental_end_date', none)) else 'delete+insert')" in said
    (kill,) = re.findall(r"KILL MUTATION WHERE .*? AND mutation_id = '[^']*'", said)
    shop.query(f"{kill} sync")
    assert attempt(shop, engine, "stuck", "waits", 2).status == "ok"


def test_on_a_cluster_everybody_is_told_and_asked(shop: Shop, recorder: Recorder, tmp_path: Path) -> None:
    away = Shop(tmp_path, shop.server, "afar", port=recorder.port, cluster="main")
    with away.engine() as engine:
        assert attempt(away, engine, "slow", "here").status == "ok"
        away.without_merges()
        outcome = while_running(
            away, "slow", kill_query(away), lambda: attempt(away, engine, "slow", "cut", **SLEEPING), since=ROWS
        )
        assert (outcome.status, outcome.committed, away.count()) == ("failed", False, ROWS)
        assert attempt(away, engine, "slow", "cut", 2).status == "ok"
    sent = recorder.statements
    assert any("create table if not exists `afar`.sluice_commit ON CLUSTER `main`" in sql for sql in sent)
    assert any(sql == "system flush logs ON CLUSTER `main`" for sql in sent)
    for table in ("processes", "part_log"):
        assert any(f"from clusterAllReplicas(`main`, system.{table})" in sql for sql in sent)
    assert any("clusterAllReplicas(`main`, `afar`, sluice_commit)" in sql for sql in sent)
    tokens = [
        settings["insert_deduplication_token"]
        for sql, settings in zip(sent, recorder.settings, strict=True)
        if re.search(r"insert into `?afar`?\.`?slow`?", sql) and "insert_deduplication_token" in settings
    ]
    assert len(tokens) == len(set(tokens)) == 3, "a token of its own for every pass"


@pytest.mark.long
def test_a_server_that_is_killed_in_mid_insert(tmp_path: Path) -> None:
    """What part_log has written down is undone; what it has not is named, and a person says what to do."""
    server = ClickHouseServer(tmp_path / "server").start()
    shop = Shop(tmp_path / "shop", server)
    try:
        with shop.engine() as engine:
            assert attempt(shop, engine, "slow", "before").status == "ok"
            outcome = while_running(
                shop,
                "slow",
                server.kill,
                lambda: attempt(shop, engine, "slow", "cut", start_month="2024-02-01", **SLEEPING),
                since=ROWS,
            )
            assert outcome.status == "failed"
            assert isinstance(outcome.committed, str), "nobody is there to be asked"
            server.start()
            shop.without_merges()
            found = engine.committed(mark("cut"))
            if found is not False:
                assert "part_log does not say who wrote" in found or "merged with rows from before" in found
                shop.query("system start merges")
                shop.query("alter table shop.slow delete where day = '2024-02-01' settings mutations_sync = 2")
            assert shop.count() == ROWS
            assert attempt(shop, engine, "slow", "cut", 2).status == "ok"
            assert shop.count() == 2 * ROWS
    finally:
        server.kill()
