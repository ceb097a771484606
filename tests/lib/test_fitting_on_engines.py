"""Real engines that are given too little: the planned months run in parts, and leave what an unlimited run leaves."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from builders import FakeContext
from servers import USERS, Postgres
from test_guards_on_engines import KEYED, TODAY, OnClickHouse, Shop, model

from sluice import run_dbt_batch
from sluice.clickhouse_server import ClickHouseServer
from sluice.records import Batch, BatchResult, Record, Split

pytest_plugins = ["servers"]
pytestmark = pytest.mark.usefixtures("lent_loader")

SYMBOLS = ["ADA", "DAI"]
BLOCK = {"start_date": "2024-03-01", "stages": [{"name": "both", "vars": {"symbol": ",".join(SYMBOLS)}}]}
ON = "cross join {}\n{{{{ sluice.apply_monthly_incremental_filter('day') }}}} and {{{{ sluice.symbol_filter('symbol') }}}}"
GROUPED = "select symbol, day, n, {} as code from {{{{ source('raw', 'entries') }}}} " + ON + " group by symbol, day, n"


def given(sql: str, code: str, numbers: str, **config: Any) -> str:
    return model(sql.format(code, numbers), block=BLOCK, **config)


def refresh(shop: Shop, *select: str, **options: Any) -> list[Record]:
    """Plan a full refresh and carry it out, as bin/plan-batches and bin/run-dbt-batch do."""
    batches = shop.plan(*select)
    shop.head.run_id = f"run-{len(list(shop.root.glob('ran-*')))}"
    (shop.root / f"ran-{shop.head.run_id}").touch()
    given = {"delay_s": None, "max_failures": 1, "dbt_command": None} | options
    context = FakeContext(shop.config, [shop.head, *batches], now=TODAY)
    return list(run_dbt_batch.run_dbt_batch(context, run_dbt_batch.Options(**given)))


def splits(records: list[Record]) -> list[tuple[int, int, bool]]:
    return [(one.seq, len(one.parts), bool(one.error)) for one in records if isinstance(one, Split)]


def results(records: list[Record]) -> list[tuple[str, bool]]:
    return [(one.status, one.in_parts > 1) for one in records if isinstance(one, BatchResult)]


DAYS = "select symbol, day from (values ('ADA'), ('DAI')) as s (symbol), {} as d (day)"


# -- DuckDB ------------------------------------------------------------------------------------------------


class OnDuckDB(Shop):
    """A database that may take a little memory and nothing from the disk."""

    def __init__(self, root: Path, models: dict[str, str], memory: str):
        self.database = root / "shop.duckdb"
        settings = (
            f"{{memory_limit: {memory}, max_temp_directory_size: 0KB, threads: 1, preserve_insertion_order: false}}"
        )
        super().__init__(
            root, models, f"{{type: duckdb, path: {self.database}, schema: main, threads: 1, settings: {settings}}}"
        )
        with duckdb.connect(str(self.database)) as connection:
            connection.execute("create schema raw")
            day = "generate_series(date '2024-03-01', date '2024-04-30', interval 1 day)"
            connection.execute(
                f"create table raw.entries as select symbol, cast(d.day as date) as day from {day} as d (day), "
                f"(values {', '.join(f'({s!r})' for s in SYMBOLS)}) as s (symbol)"
            )

    def rows(self) -> tuple:
        with duckdb.connect(str(self.database)) as connection:
            return connection.execute(
                "select count(*), count(distinct (symbol, day, n)), count(distinct day), count(distinct symbol) from heavy"
            ).fetchone()


def test_duckdb_with_little_memory(tmp_path: Path) -> None:
    sql = given(
        GROUPED,
        "md5(cast(n as varchar) || min(symbol))",
        "range(7000) as r (n)",
        **KEYED | {"unique_key": ["symbol", "day", "n"]},
    )
    shop = OnDuckDB(tmp_path, {"heavy": sql}, "60MB")
    records = refresh(shop)
    print(splits(records), results(records), [r.error for r in records if isinstance(r, BatchResult)])
    assert shop.rows() == (7000 * 61 * 2, 7000 * 61 * 2, 61, 2)
    assert results(records) == [("ok", True)] * 2
    assert splits(records)[0] == (1, 5, True)
