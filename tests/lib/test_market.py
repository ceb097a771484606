"""Price bars and EMAs of the bundled project: what pandas makes of the same prices, however they were loaded."""

import json
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import market
import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from lengths import many
from test_warehouse import Warehouse

pytest_plugins = ["servers"]

MODELS = ["price_bars_1d", *market.BARS, *market.EMAS, "ema_v2"]
COLUMNS = ["id", "ts", *market.PRICES, "volume", "market_cap", "time_high", "time_low"]
DEFECTS = {
    (1, "2019-06-30", "null_price"),
    (1, "2021-05-19", "high_below_low"),
    (52, "2020-03-12", "nonpositive"),
    (52, "2022-08-09", "open_or_close_outside_range"),
    (52, "2124-06-16", "future_day"),
    (825, "2024-02-29", "duplicate_day"),
}


def sample(end: str | date, ids: int = 3) -> list[str]:
    return ["run-operation", "make_price_histories", "--args", json.dumps({"ids": ids, "end": str(end)})]


def refresh(to: str | date | None = None, *flags: str, select: str = "tag:market", **variables: Any) -> list[str]:
    if to is not None:
        variables["incremental_end_date"] = str(to)
    return ["run", "--select", select, *flags, "--vars", json.dumps(variables)]


@st.composite
def price_histories(draw) -> pd.DataFrame:
    """One id's prices between 2014 and 2021, with gaps, from 1 day to some years."""
    days = draw(st.integers(1, 700))
    gaps = draw(st.lists(st.sampled_from([1, 1, 1, 1, 2, 3, 8, 40]), min_size=1, max_size=25))
    moves = draw(st.lists(st.floats(0.8, 1.25), min_size=1, max_size=25))
    start = date(2014, 1, 1) + timedelta(days=draw(st.integers(0, 1500)))
    close, rows = draw(st.floats(1e-4, 1e5)), []
    for i in range(days):
        start += timedelta(days=gaps[i % len(gaps)])
        if start > date(2021, 12, 31):
            break
        before, close = close, min(max(close * moves[i % len(moves)], 1e-8), 1e12)
        noon = datetime(start.year, start.month, start.day, 12)
        rows.append([0, noon + timedelta(hours=11), before, max(before, close) * 1.01, min(before, close) * 0.99, close,
                     float(i * 1000), None if i % 7 == 3 else close * 21e6, noon, noon])  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)


@pytest.fixture(scope="module")
def made() -> pd.DataFrame:
    """The prices of 4 ids (8 in `make test-faults`) that hypothesis made, from 100 on."""
    found: list[pd.DataFrame] = []

    @settings(max_examples=many(4, 8), phases=[Phase.generate])
    @given(price_histories())
    def collect(prices: pd.DataFrame) -> None:
        found.append(prices)

    collect()
    return pd.concat([prices.assign(id=100 + i) for i, prices in enumerate(found)])


class OnDuckDB(Warehouse):
    def load(self, prices: pd.DataFrame) -> None:
        import duckdb

        with duckdb.connect(str(self.database)) as connection:
            connection.register("prices", prices)
            connection.execute("insert into raw.price_histories select * from prices")

    def frame(self, relation: str) -> pd.DataFrame:
        import duckdb

        with duckdb.connect(str(self.database), read_only=True) as connection:
            return connection.execute(f"select * from {relation}").df()


def tables(warehouse: Any) -> dict[str, pd.DataFrame]:
    return {name: warehouse.frame(f"analytics.{name}") for name in MODELS}


@pytest.fixture
def warehouse(tmp_path: Path) -> OnDuckDB:
    return OnDuckDB(tmp_path)


@pytest.mark.sized
def test_bars_and_emas_are_what_pandas_makes_of_the_same_prices_however_the_loads_were_cut(warehouse, made):
    warehouse.run(sample("2020-12-31", ids=many(2, 3)))
    warehouse.load(made)
    ids = ",".join(map(str, made.id.unique()[:3]))
    warehouse.run(
        refresh("2017-08-08", "--full-refresh"),
        refresh("2019-02-28"),
        refresh("2019-03-01"),
        refresh("2020-07-01", ids=ids),
        refresh(full_rebuild=True, ids=ids),
        refresh(skip_stale_check=True),
    )
    raw, found = warehouse.frame("raw.price_histories"), tables(warehouse)
    market.assert_bars(raw, found)
    market.assert_emas(raw, found)


def test_each_planted_defect_is_found_and_named_and_the_others_are_not_touched(tmp_path):
    warehouse = OnDuckDB(tmp_path)
    select = "price_bars_1d price_bar_rejects bars_state"
    warehouse.run(sample("2024-12-31"), refresh("2024-12-31", "--full-refresh", select=select), refresh(select=select))
    rejects = warehouse.frame("analytics.price_bar_rejects")
    assert {(row.id, f"{row.day:%F}", row.reason) for row in rejects.itertuples()} == DEFECTS
    bars = warehouse.frame("analytics.price_bars_1d").set_index("id")
    gaps = bars[bars.is_missing_days]
    assert {(id, f"{row.day:%F}", row.count_missing_days) for id, row in gaps.iterrows()} == {
        (1, "2019-07-01", 1), (1, "2021-05-20", 1), (1, "2023-07-17", 3), (52, "2020-03-13", 1), (52, "2022-08-10", 1),
        (825, "2023-01-01", 1),
    }  # fmt: skip
    repaired = bars[bars.is_repaired_time_high | bars.is_repaired_time_low]
    assert {(id, f"{row.day:%F}") for id, row in repaired.iterrows()} == {(825, "2021-11-10"), (825, "2023-03-11")}
    assert (repaired.time_high.dt.normalize() == repaired.day).all() and (
        repaired.time_low.dt.normalize() == repaired.day
    ).all()
    state = warehouse.frame("analytics.bars_state").set_index("id")
    assert list(state.columns)[:7] == [
        "last_src_ts", "daily_min_seen", "last_run_ts", "last_upserted", "last_repaired_timehigh",
        "last_repaired_timelow", "last_rejected",
    ]  # fmt: skip
    assert state.last_rejected.sum() == len(DEFECTS) and (state.count_unaccounted == 0).all()
    assert (state.last_repaired_timehigh.sum(), state.last_repaired_timelow.sum()) == (1, 1)


def test_a_var_that_cannot_be_is_refused_by_name(tmp_path):
    warehouse = OnDuckDB(tmp_path)
    refused = {
        "unknown id 999": refresh(select="price_bars_1d", ids="1,999"),
        "var ids is 1 or true; it must be a whole number": refresh(select="price_bars_1d", ids="1 or true"),
        "it must be 'rebuild' or 'stop'": refresh(select="price_bars_1d", on_backfill="ask"),
        "var staleness_hours is -1; it must be a whole number": refresh(select="ema_v2", staleness_hours="-1"),
        "left with these ids alone": refresh(None, "--full-refresh", select="price_bars_1d", ids="1"),
    }
    first = refresh("2019-01-31", select="price_bars_1d ema_v2")
    begun, *errors = warehouse.dbt(sample("2019-01-31"), first, *refused.values())[1:]
    assert begun is None
    for said, error in zip(refused, errors, strict=True):
        assert error is not None and said in error
