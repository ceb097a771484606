"""The market's bars and EMAs: ten days one by one, with a crash and a backfill; and on Postgres what pandas makes of them."""

import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import market
import pandas as pd
import pytest
from plain_dbt import PlainDbt
from servers import Postgres
from test_market import (  # noqa: F401
    OnDuckDB,
    made,
    refresh,
    sample,
    tables,
    test_bars_and_emas_are_what_pandas_makes_of_the_same_prices_however_the_loads_were_cut,
)
from test_warehouse_engines import OnPostgres

pytestmark = pytest.mark.long  # what is imported from tests/lib, too

pytest_plugins = ["servers"]


class OnPostgresToo(OnPostgres):
    def load(self, prices: pd.DataFrame) -> None:
        values = ", ".join(
            "(" + ", ".join("null" if pd.isna(value) else f"'{value}'" for value in row) + ")"
            for row in prices.itertuples(index=False)
        )
        self.query(f"insert into raw.price_histories values {values}")

    def frame(self, relation: str) -> pd.DataFrame:
        schema, name = relation.split(".")
        named = self.query(
            f"select column_name from information_schema.columns where table_schema = '{schema}' and table_name = '{name}' order by ordinal_position"
        )
        frame = pd.DataFrame(self.query(f"select * from {relation}"), columns=[column for (column,) in named])
        return frame.assign(**{day: pd.to_datetime(frame[day]) for day in ("day", "period_start") if day in frame})


@pytest.fixture
def warehouse(postgres: Postgres, tmp_path: Path) -> Iterator[OnPostgresToo]:
    found = OnPostgresToo(tmp_path, postgres)
    yield found
    found.close()


def without_load_time(found: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    keys = ["id", "scheme", "tf", "bar_seq", "day", "ts", "roll"]
    return {
        name: table.drop(columns="loaded_at").sort_values([key for key in keys if key in table]).reset_index(drop=True)
        for name, table in found.items()
    }


def test_ten_days_with_a_crash_and_a_backfill_end_in_the_tables_of_one_rebuild(tmp_path):
    warehouse = OnDuckDB(tmp_path)
    days = [date(2020, 3, 27) + timedelta(days=number) for number in range(11)]
    warehouse.run(sample(days[-1]))
    first_days = warehouse.frame("raw.price_histories").query("id == 52 and ts < '2019-02-20'")
    warehouse.query("delete from raw.price_histories where id = 52 and ts < '2019-02-20'")
    warehouse.run(refresh(days[0], "--full-refresh"), *(refresh(day) for day in days[1:4]))

    crash(warehouse, refresh(days[4]))
    before = warehouse.frame("analytics.price_bars_1d").day.max().date()
    assert before == days[4] > warehouse.frame("analytics.ema_v2").ts.max().date(), "it did not die in the middle"

    warehouse.run(*(refresh(day) for day in days[4:7]))
    warehouse.query("update raw.price_histories set close = close * 0.999 where id = 1 and ts::date = '2020-03-31'")
    warehouse.query("delete from raw.price_histories where id = 825 and ts::date = '2020-04-01'")
    warehouse.load(first_days)
    (refusal,) = warehouse.dbt(refresh(days[7], on_backfill="stop"))
    assert refusal is not None and "backfilled id 52" in refusal
    warehouse.run(*(refresh(day) for day in days[7:]))
    daily = without_load_time(tables(warehouse))
    assert daily["price_bars_1d"].query("id == 52").day.min() == pd.Timestamp(first_days.ts.min().date())

    load_times = warehouse.frame("analytics.bars_state").set_index("id").last_run_ts
    warehouse.run(refresh(days[-1]))
    assert (warehouse.frame("analytics.bars_state").set_index("id").last_run_ts == load_times).all(), "nothing was new"
    warehouse.run(refresh(days[-1], "--full-refresh"))
    for name, table in without_load_time(tables(warehouse)).items():
        pd.testing.assert_frame_equal(daily[name], table, rtol=market.TOLERANCE, atol=0, obj=name)


def crash(warehouse: OnDuckDB, invocation: list[str]) -> None:
    """Run dbt and kill it as soon as the daily bars are committed: DuckDB's log of commits is then no longer as it was."""
    warehouse.query("checkpoint")  # or the log has what the days before left in it
    log = Path(f"{warehouse.database}.wal")
    plain_dbt = PlainDbt(warehouse.project, warehouse.target, **warehouse.environment)
    plain_dbt.begin(invocation)
    deadline = time.monotonic() + 60
    while not (log.exists() and log.stat().st_size > 1000) and time.monotonic() < deadline:
        time.sleep(0.001)
    plain_dbt.kill()
