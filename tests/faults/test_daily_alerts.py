"""The daily refresh as cron runs it, with defects planted in what the feed delivers: found, named, told once, and the recovery once."""

import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from test_delivery import TOKEN, BotApi

ROOT = Path(__file__).resolve().parents[2]
WAREHOUSE = ROOT / "warehouse"
DAY = datetime.now(UTC).date()


class Market:
    """The bundled market on DuckDB with a feed of 3 ids, and the pipelines run on it."""

    first: subprocess.CompletedProcess[str]

    def __init__(self, work: Path, api: BotApi):
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("SLUICE_", "DBT_", "TELEGRAM_"))}
        self.database = work / "market.duckdb"
        self.env = clean | {
            "DBT_PROJECT_DIR": str(WAREHOUSE), "SLUICE_DUCKDB_PATH": str(self.database), "COMPONENTS": "tag:bars,tag:emas",
            "SLUICE_STATE_DIR": str(work / "state"), "SLUICE_LOG_DIR": str(work / "logs"), "SLUICE_NOTIFY_LEVEL": "WARNING",
            "TELEGRAM_BOT_TOKEN": TOKEN, "TELEGRAM_CHAT_ID": "7", "SLUICE_TELEGRAM_API": api.url,
        }  # fmt: skip
        self.log_dir = work / "logs"
        subprocess.run(
            [ROOT / ".venv/bin/dbt", "run-operation", "make_price_histories", "--args", f"{{ids: 3, end: {DAY}}}",
             "--project-dir", WAREHOUSE, "--profiles-dir", WAREHOUSE, "--target-path", work / "target", "--log-path", work],
            env=self.env, check=True, capture_output=True,
        )  # fmt: skip

    def run(self, pipeline: str = "daily-refresh", **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [ROOT / "pipelines" / pipeline], env=self.env | settings, capture_output=True, text=True, timeout=300
        )

    def query(self, sql: str, *values: object) -> list[tuple]:
        with duckdb.connect(str(self.database)) as connection:
            return connection.execute(sql, values).fetchall()

    def deliver(self, days_ago: int, hour: int = 12, **changes: float | None) -> None:
        """One more row of id 825, like the one of that day but for the hour and what is changed."""
        columns = ["open", "high", "low", "close", "volume", "market_cap", "time_high", "time_low"]
        values = [f"{changes[name]}::double" if changes.get(name) is not None else "null" if name in changes else name
                  for name in columns]  # fmt: skip
        self.query(
            f"insert into raw.price_histories (id, ts, {', '.join(columns)})"
            f" select id, ts::date + interval {hour} hour + interval {max(-days_ago, 0)} day, {', '.join(values)}"
            " from raw.price_histories where id = 825 and ts::date = ?",
            DAY - timedelta(days=max(days_ago, 1)),
        )


@pytest.fixture(scope="module")
def api() -> Iterator[BotApi]:
    api = BotApi()
    yield api
    api.close()


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory, api: BotApi) -> Market:
    """Built once, with what the sample's own defects make of it."""
    market = Market(tmp_path_factory.mktemp("market"), api)
    market.first = market.run()
    return market


def test_each_planted_defect_is_named_and_each_incident_is_one_message_in_ten_runs(market: Market, api: BotApi) -> None:
    runs = [market.first]
    assert "3 × missing day" not in runs[0].stderr
    first = api.texts[0][1]
    assert first.startswith("DAILY OF SLUICE_WAREHOUSE (DUCKDB): WARNING, exit 0")
    for named in ("id 1 before 2019-07-01: 1", "id 825, 2021-11-10: time_high", "id 1, 2019-06-30: null_price",
                  "id 1, 2021-05-19: high_below_low", "id 52, 2020-03-12: nonpositive",
                  "id 52, 2022-08-09: open_or_close_outside_range"):  # fmt: skip
        assert named in first, named
    assert "6 gaps   2 repairs   6 rejects" in first
    runs.append(market.run())  # nothing is new

    market.deliver(2, open=None)
    market.deliver(3, low=-1)
    market.deliver(4, high=0.0000001, low=0.0000002)
    runs.append(market.run())
    days = [DAY - timedelta(days=ago) for ago in range(6)]
    third = api.texts[2][1]
    for named in (
        f"id 825, {days[2]}: null_price",
        f"id 825, {days[3]}: nonpositive",
        f"id 825, {days[4]}: high_below_low",
    ):
        assert named in third, named
    runs.append(market.run())

    market.deliver(2, close=1e9)
    market.deliver(3, hour=2)
    market.deliver(-30)
    deleted = market.query("delete from raw.price_histories where id = 1 and ts::date = ? returning *", days[4])
    market.query(
        "update raw.price_histories set time_low = ts + interval 2 day where id = 52 and ts::date = ?", days[1]
    )
    runs += [market.run() for _ in range(4)]
    fifth = api.texts[4][1]
    assert fifth.startswith("DAILY OF SLUICE_WAREHOUSE (DUCKDB): ERROR, exit 3")
    for named in (f"id 825, {days[2]}: open_or_close_outside_range", f"id 825, {days[3]}: duplicate_day", ": future_day",
                  f"id 1, missing day at {days[3]}", f"id 52, {days[1]}: time_low"):  # fmt: skip
        assert named in fifth, named
    assert "missing day" in runs[4].stderr

    with duckdb.connect(str(market.database)) as connection:
        marks = ", ".join("?" * len(deleted[0]))
        connection.execute(f"insert into raw.price_histories values ({marks})", deleted[0])
    runs += [market.run(), market.run()]

    assert [run.returncode for run in runs] == [0] * 4 + [3] * 4 + [0] * 2
    said = [
        text.split(":")[0] if text.startswith("RECOVERED") else text.split(",")[0].split(": ")[1]
        for _, text in api.texts
    ]
    assert said == ["WARNING", "RECOVERED", "WARNING", "RECOVERED", "ERROR", "RECOVERED"]
    assert (runs[1].stdout, runs[1].stderr, runs[-1].stderr) == ("", "", ""), "cron would send a mail"


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        ("update price_bars_1d set high = low / 2 where id = 52 and day = current_date - 3", "sql:ohlc"),
        ("insert into price_bars_1d select * from price_bars_1d where id = 52 and day = current_date - 3", "no_duplicate"),
        ("delete from price_bars_1d where id = 52 and day = '2020-02-02'", "sql:against_source"),
        ("update ema_v2 set ema_9 = ema_9 * 100 where id = 52 and tf = '1D' and ts::date = current_date - 9", "sql:ema_rejects"),
        ("delete from price_bars_1d where id = 1 and day = current_date - 4", "no_gap"),
    ],
)  # fmt: skip
def test_rows_that_were_spoiled_in_the_warehouse_are_errors_by_name(market, api, damage: str, named: str) -> None:
    before = market.database.read_bytes()
    try:
        market.query(f"use analytics; {damage}")
        told = len(api.texts)
        run = market.run("validate")
        assert run.returncode == 3 and f"red  {named} of " in run.stderr
        assert len(api.texts) == told + 1 and "ERROR, exit 3" in api.texts[-1][1]
    finally:
        market.database.write_bytes(before)


def test_an_id_that_is_not_delivered_any_more_is_left_alone_and_named_and_a_backfilled_one_is_rebuilt(market) -> None:
    old = market.query("delete from raw.price_histories where id = 52 and ts < '2019-03-01' returning *")
    assert market.run(IDS="52", FULL_REBUILD="1").returncode == 0
    with duckdb.connect(str(market.database)) as connection:
        connection.executemany(f"insert into raw.price_histories values ({', '.join('?' * len(old[0]))})", old)
    market.query("delete from raw.price_histories where id = 1 and ts::date > current_date - 5")
    run = market.run(JSON="1")
    assert f"backfill: id 52 rebuilt from {old[0][1]:%F}" in run.stdout
    assert f"stale, EMAs left as they are: id 1 since {DAY - timedelta(days=5)}" in run.stdout
    assert "sql:stale" in run.stdout
    log = next(market.log_dir.glob("refresh-*.log")).read_text()
    assert "backfill: id 52 rebuilt from" in log

    def last_emas() -> dict[int, str]:
        return dict(market.query("select id, max(ts)::date::varchar from analytics.ema_v2 group by id"))

    assert last_emas() == {1: str(DAY), 52: str(DAY), 825: str(DAY)}, "id 1 is as it was"
    assert market.run("emas", SKIP_STALE_CHECK="1", ONLY="v2").returncode == 0
    assert last_emas()[1] == str(DAY - timedelta(days=5))
    refusal = market.run(IDS="52,999")
    assert refusal.returncode == 2 and "unknown id 999" in refusal.stderr
