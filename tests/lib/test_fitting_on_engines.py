"""Real engines that are given too little: months run in parts, and leave what an unlimited run leaves."""

from pathlib import Path

import duckdb
import pytest
from builders import FakeContext
from servers import USERS, Postgres
from test_guards_on_engines import TODAY, Shop, model

from sluice import run_dbt_batch
from sluice.clickhouse_server import ClickHouseServer
from sluice.profiles import Credentials
from sluice.records import BatchResult, Record, Split

pytest_plugins = ["servers"]
pytestmark = pytest.mark.usefixtures("lent_loader")

STAGES = [{"name": symbol.lower(), "vars": {"symbol": symbol}} for symbol in ("ADA", "DAI")]
BLOCK = {"start_date": "2024-03-01", "stages": STAGES}
KEY = ["symbol", "day", "n"]
FILTER = "{{ sluice.apply_monthly_incremental_filter('day') }} and {{ sluice.symbol_filter('symbol') }}"
IN_PARTS = [("ok", True)] * 2
SPLITS = [(1, 5, True), (2, 5, True)]


def refresh(shop: Shop, *, to: str, **options: bool) -> list[Record]:
    """Plan a full refresh and carry it out, as bin/plan-batches and bin/run-dbt-batch do."""
    batches = shop.plan(to=to)
    shop.head.run_id = "run-1"
    context = FakeContext(shop.config, [shop.head, *batches], now=TODAY)
    return list(run_dbt_batch.run_dbt_batch(context, run_dbt_batch.Options(None, 1, None, **options)))


def splits(records: list[Record]) -> list[tuple[int, int, bool]]:
    return [(one.seq, len(one.parts), bool(one.error)) for one in records if isinstance(one, Split)]


def results(records: list[Record]) -> list[tuple[str, bool]]:
    found = [one for one in records if isinstance(one, BatchResult)]
    assert not [one.error for one in found if one.error]
    return [(one.status, one.in_parts > 1) for one in found]


@pytest.mark.long
def test_duckdb_that_may_take_little_memory_and_nothing_from_the_disk(tmp_path: Path) -> None:
    sql = f"""
        select symbol, day, count(distinct n) as n from {{{{ source('raw', 'entries') }}}} cross join range(40000) as r (n) {FILTER}
        group by all"""
    path = tmp_path / "shop.duckdb"
    settings = "{memory_limit: 30MB, temp_directory: '', threads: 1, preserve_insertion_order: false}"
    shop = Shop(
        tmp_path, {"heavy": model(sql, block=BLOCK, incremental_strategy="delete+insert", unique_key=KEY[:2])},
        f"{{type: duckdb, path: {path}, schema: main, threads: 1, settings: {settings}}}",
    )  # fmt: skip
    with duckdb.connect(str(path)) as connection:
        connection.execute("create schema raw")
        connection.execute(
            "create table raw.entries as select symbol, cast(d as date) as day from (values ('ADA'), ('DAI')) as s (symbol),"
            " generate_series(date '2024-03-01', date '2024-04-30', interval 1 day) as t (d)"
        )
    records = refresh(shop, to="2024-03-31")
    assert (results(records), splits(records)) == (IN_PARTS, SPLITS)
    with duckdb.connect(str(path)) as connection:
        found = connection.execute(
            "select count(*), count(distinct (symbol, day)), min(n), max(n) from heavy"
        ).fetchone()
    assert found == (31 * 2, 31 * 2, 40000, 40000)


@pytest.mark.long
def test_clickhouse_that_may_take_little_memory_keeps_nothing_of_a_month_that_was_too_big(
    tmp_path: Path, clickhouse: ClickHouseServer, clickhouse_target: Credentials
) -> None:
    schema, numbers = clickhouse_target.schema, 2000
    # A day's sum takes 2 MiB.
    sql = f"""
        select symbol, day, {numbers} as n, uniqExact(number) as code
        from {{{{ source('raw', 'entries') }}}} cross join numbers(100000) as r {FILTER} group by symbol, day
        union all
        select symbol, day, number as n, 1 as code from {{{{ source('raw', 'entries') }}}} cross join numbers({numbers}) as r
        {FILTER}"""
    user = USERS["tiny"]
    settings = (
        "{max_threads: 1, max_insert_threads: 1, min_insert_block_size_rows: 10000, min_insert_block_size_bytes: 0, insert_deduplicate: 0,"
        " max_bytes_ratio_before_external_group_by: 0, max_bytes_before_external_group_by: 0, max_block_size: 8192}"
    )
    shop = Shop(
        tmp_path,
        {"heavy": model(sql, block=BLOCK, incremental_strategy="append", unique_key=KEY, engine="MergeTree()",
                        order_by="(symbol, day, n)", partition_by="toStartOfMonth(day)")},
        f"{{type: clickhouse, host: 127.0.0.1, port: {clickhouse.http_port}, user: tiny, password: {user.password}, schema: {schema},"
        f" threads: 1, custom_settings: {settings}}}",
        **{"models/sources.yml": f"sources: [{{name: raw, schema: {schema}, tables: [{{name: entries}}]}}]"},
    )  # fmt: skip
    clickhouse.query(f"create table {schema}.entries (symbol String, day Date) engine = MergeTree order by day")
    clickhouse.query(
        f"insert into {schema}.entries select arrayJoin(['ADA', 'DAI']), toDate('2024-03-01') + number from numbers(61)"
    )
    records = refresh(shop, to="2024-03-31")
    assert (results(records), splits(records)) == (IN_PARTS, SPLITS)
    expected = 31 * 2 * (numbers + 1)
    found = clickhouse.query(f"select count(), uniqExact(symbol, day, n), uniqExact(day) from {schema}.heavy")
    assert found == f"{expected}\t{expected}\t31\n"
    undone = clickhouse.query(f"select count() from {schema}.sluice_commit where event = 'undone'")
    assert undone == "1\n", "what the second stage's month may have left was looked for before its parts began"


SLOW = (
    f"select symbol, day, 1 as n, cast(pg_sleep(0.06) as text) as code from {{{{ source('raw', 'entries') }}}} {FILTER}"
)
# A day's values take 1 MB of the disk, a month's 30.
WIDE = f"""
    select symbol, day, 1 as n, max(code) as code from (
        select distinct symbol, day, md5(r::text) as code
        from {{{{ source('raw', 'entries') }}}} cross join generate_series(1, 20000) as r {FILTER}
    ) as different group by symbol, day"""
LITTLE_TIME = "set local statement_timeout = '1200ms'"
LITTLE_ROOM = "set local work_mem = '1MB'; set local temp_file_limit = '15MB'"


@pytest.mark.long
@pytest.mark.parametrize(("sql", "limit"), [(SLOW, LITTLE_TIME), (WIDE, LITTLE_ROOM)], ids=["time", "room"])
def test_postgres_that_may_take_little(
    tmp_path: Path, postgres: Postgres, postgres_target: Credentials, sql: str, limit: str
) -> None:
    schema, at = postgres_target.schema, postgres_target.fields
    block = {"start_date": "2024-04-01", "stages": STAGES[:1], "min_window": "day"}
    shop = Shop(
        tmp_path,
        {"heavy": model(sql, block=block, incremental_strategy="append", pre_hook=limit)},
        f"{{type: postgres, host: {at['host']}, port: {at['port']}, user: {at['user']}, password: unasked, sslmode: disable,"
        f" dbname: postgres, schema: {schema}, threads: 1}}",
        **{"models/sources.yml": f"sources: [{{name: raw, schema: {schema}, tables: [{{name: entries}}]}}]"},
    )  # fmt: skip
    postgres.query(
        f"create table {schema}.entries as select 'ADA'::text as symbol, d::date as day"
        " from generate_series(date '2024-04-01', date '2024-04-30', interval '1 day') as d"
    )
    records = refresh(shop, to="2024-04-30")
    assert splits(records)[0] == (1, 5, True)
    assert results(records) == [("ok", True)]
    assert postgres.query(f"select count(*), count(distinct day) from {schema}.heavy") == [(30, 30)]
