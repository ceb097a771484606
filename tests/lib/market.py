"""Price bars and EMAs computed by pandas, which knows nothing of the models, and tables compared with them."""

import numpy as np
import pandas as pd

PERIODS = [9, 10, 12, 20, 21, 26, 50, 100, 200]
PRICES = ["open", "high", "low", "close"]
COUNTED = {"7D": 7, "14D": 14, "30D": 30, "90D": 90, "180D": 180, "365D": 365}
CALENDAR = ["1W", "2W", "1M", "2M", "3M", "6M", "1Y"]
SCHEMES = ["iso", "us"]
BARS = {
    "price_bars_multi_tf": ("multi_tf", "all"),
    **{f"price_bars_cal_{scheme}": ("cal", scheme) for scheme in SCHEMES},
    **{f"price_bars_cal_anchor_{scheme}": ("cal_anchor", scheme) for scheme in SCHEMES},
}
EMAS = {"ema_multi_tf": "multi_tf", "ema_multi_tf_cal": "cal", "ema_multi_tf_cal_anchor": "cal_anchor"}
TOLERANCE = 1e-9


def daily(raw: pd.DataFrame) -> pd.DataFrame:
    """The good rows of raw.price_histories of one id, one for each day, by day."""
    good = raw[PRICES].notna().all(axis=1) & np.isfinite(raw[PRICES].astype(float)).all(axis=1)
    good &= (raw[PRICES] > 0).all(axis=1) & (raw.high >= raw.low)
    good &= raw.open.between(raw.low, raw.high) & raw.close.between(raw.low, raw.high)
    good &= raw.ts < pd.Timestamp.now("UTC").tz_localize(None).normalize() + pd.Timedelta(days=1)
    days = raw[good].sort_values("ts").assign(day=lambda rows: rows.ts.dt.normalize())
    return days.drop_duplicates("day", keep="last").set_index("day")


def periods(days: pd.DataFrame, kind: str, scheme: str, tf: str) -> pd.Series:
    """The label of each day's period, ascending; days before a first full calendar period are left out."""
    index = days.index
    if kind == "multi_tf":
        return pd.Series(np.arange(len(days)) // COUNTED[tf], index)
    first_weekday = {"iso": 0, "us": 6}[scheme]
    number, unit = int(tf[:-1]), tf[-1]
    if kind == "cal":
        offsets = {
            "W": pd.offsets.Week(weekday=first_weekday),
            "M": pd.offsets.MonthBegin(),
            "Y": pd.offsets.YearBegin(),
        }
        first = offsets[unit].rollforward(index[0])
        full = days[index >= first]
        if full.empty:
            return pd.Series([], dtype="datetime64[ns]", index=full.index)
        rule = f"{7 * number}D" if unit == "W" else f"{number}{unit}S"
        # An index that begins with the first full period, so that pandas counts its bins from there.
        starts = pd.Series(1, pd.date_range(first, index[-1])).resample(rule, origin=first).first().index
        return pd.Series(starts[starts.searchsorted(full.index, side="right") - 1], full.index)
    if unit == "W":
        origin = pd.Timestamp("1900-01-01") if scheme == "iso" else pd.Timestamp("1899-12-31")
        return pd.Series((index - origin).days // (7 * number), index)
    months = {"M": number, "Y": 12}[unit]
    return pd.Series((index.year * 12 + index.month - 1) // months, index)


def grouped(days: pd.DataFrame, labels: pd.Series) -> pd.DataFrame:
    """One bar for each label, in their order; bar_seq from 1."""
    days = days.loc[labels.index].assign(time_open=lambda rows: rows.index, label=labels)
    groups = days.groupby("label", sort=True)
    made = groups.agg(
        time_open=("time_open", "first"), time_close=("ts", "last"), open=("open", "first"), high=("high", "max"),
        low=("low", "min"), close=("close", "last"), volume=("volume", "sum"), count_days=("close", "size"),
    )  # fmt: skip
    made["market_cap"] = days.drop_duplicates("label", keep="last").market_cap.to_numpy()
    made["bar_seq"] = np.arange(len(made)) + 1
    return made.reset_index(drop=True)


def timeframes(kind: str) -> list[str]:
    return list(COUNTED) if kind == "multi_tf" else CALENDAR


def last_bar_is_finished(days: pd.DataFrame, kind: str, scheme: str, tf: str, labels: pd.Series) -> bool:
    """Whether the day after the last would begin another period."""
    if kind == "multi_tf":
        return int((labels == labels.iloc[-1]).sum()) == COUNTED[tf]
    tomorrow = days.index[-1] + pd.Timedelta(days=1)
    longer = pd.concat([days, days.iloc[[-1]].set_axis([tomorrow])])
    return periods(longer, kind, scheme, tf).iloc[-1] != labels.iloc[-1]


def bars(days: pd.DataFrame, kind: str, scheme: str, tf: str) -> pd.DataFrame:
    """All bars of one id and timeframe, with bar_seq and is_partial_end."""
    labels = periods(days, kind, scheme, tf)
    table = grouped(days, labels)
    table["is_partial_end"] = False
    if len(table):
        table.loc[len(table) - 1, "is_partial_end"] = not last_bar_is_finished(days, kind, scheme, tf, labels)
    return table


def emas(closes: list[float] | pd.Series, alpha_of: dict[int, float] | None = None) -> pd.DataFrame:
    """The EMAs of a series of closes, a column for each period, null until that many values are in."""
    series = pd.Series(closes, dtype=float).reset_index(drop=True)
    alphas = alpha_of or {period: 2 / (period + 1) for period in PERIODS}
    return pd.DataFrame(
        {
            f"ema_{period}": series.ewm(alpha=alphas[period], adjust=False, min_periods=period).mean()
            for period in PERIODS
        }
    )


def assert_close(found: pd.DataFrame, expected: pd.DataFrame, what: str) -> None:
    """Equal in every column of `expected`, numbers to TOLERANCE relative."""
    assert len(found) == len(expected), f"{what}: {len(found)} rows instead of {len(expected)}"
    for name in expected:
        left, right = found[name].to_numpy(), expected[name].to_numpy()
        if right.dtype.kind in "fiu":
            same = np.isclose(left.astype(float), right.astype(float), rtol=TOLERANCE, atol=0, equal_nan=True)
        else:
            same = left.astype(right.dtype) == right
        assert same.all(), (
            f"{what}, {name}, row {np.argmin(same)}: {left[np.argmin(same)]} instead of {right[np.argmin(same)]}"
        )


def assert_bars(raw: pd.DataFrame, tables: dict[str, pd.DataFrame]) -> None:
    """Every bar of every table is what pandas makes of `raw`."""
    for id, prices in raw.groupby("id"):
        days = daily(prices)
        expected = grouped(days, pd.Series(np.arange(len(days)), days.index))
        expected["count_missing_days"] = days.index.to_series().diff().dt.days.fillna(1).astype(int).to_numpy() - 1
        own = tables["price_bars_1d"]
        assert_close(own[own.id == id].sort_values("bar_seq"), expected, f"1D of {id}")
        for name, (kind, scheme) in BARS.items():
            table = tables[name][tables[name].id == id]
            for tf in timeframes(kind):
                rows = table[table.tf == tf].sort_values(["bar_seq", "time_close"])
                if kind == "cal_anchor":
                    assert_snapshots(days, rows, scheme, tf, f"{name} {tf} of {id}")
                    rows = rows.drop_duplicates("bar_seq", keep="last")
                assert_close(rows, bars(days, kind, scheme, tf), f"{name} {tf} of {id}")


def assert_snapshots(days: pd.DataFrame, rows: pd.DataFrame, scheme: str, tf: str, what: str) -> None:
    """One row for each day; a sample of them against the days of their period so far."""
    assert list(rows.day) == list(days.index), what
    labels = periods(days, "cal_anchor", scheme, tf)
    for i in sorted({0, len(days) - 1, *np.random.default_rng(5).integers(0, len(days), 4)}):
        so_far = days[(labels == labels.iloc[i]) & (days.index <= days.index[i])]
        expected = grouped(so_far, pd.Series(0, so_far.index)).drop(columns="bar_seq")
        row = rows.iloc[[i]]
        assert_close(row, expected, f"{what}, snapshot of {days.index[i]:%F}")
        assert row.time_high.iloc[0].normalize() == so_far.high.idxmax(), what
        assert row.time_low.iloc[0].normalize() == so_far.low.idxmin(), what


def assert_emas(raw: pd.DataFrame, tables: dict[str, pd.DataFrame]) -> None:
    """Every EMA at a close, and a sample of those inside a bar, is what pandas makes of `raw`."""
    for id, prices in raw.groupby("id"):
        days = daily(prices)
        for name, kind in EMAS.items():
            table = tables[name][tables[name].id == id]
            for scheme in ["all"] if kind == "multi_tf" else SCHEMES:
                for tf in timeframes(kind):
                    rows = table[(table.scheme == scheme) & (table.tf == tf)]
                    assert_series(days, rows, kind, scheme, tf, f"{name} {scheme} {tf} of {id}")
        table = tables["ema_v2"][tables["ema_v2"].id == id]
        for tf, size in {"1D": 1, **COUNTED}.items():
            expected = emas(days.close, {period: 2 / (period * size + 1) for period in PERIODS})
            assert_close(table[table.tf == tf].sort_values("bar_seq"), expected, f"v2 {tf} of {id}")


def assert_series(days: pd.DataFrame, rows: pd.DataFrame, kind: str, scheme: str, tf: str, what: str) -> None:
    made = bars(days, kind, scheme, tf)
    if made.empty:
        assert rows.empty, what
        return
    closed = made[~made.is_partial_end]
    expected = emas(closed.close)
    expected.insert(0, "ts", closed.time_close)
    assert_close(rows[~rows.roll].sort_values("ts"), expected, what)

    rolled = rows[rows.roll].sort_values("ts").reset_index(drop=True)
    labels = periods(days, kind, scheme, tf)
    assert list(rolled.ts) == list(days.loc[labels.index].ts), what
    for i in sorted({0, len(rolled) - 1, *np.random.default_rng(7).integers(0, len(rolled), 4)}):
        bar = rolled.bar_seq[i]
        so_far = [*made.close[made.bar_seq < bar], rolled.close[i]]
        assert_close(rolled.iloc[[i]], emas(so_far).iloc[[-1]], f"{what}, inside bar {bar}")
