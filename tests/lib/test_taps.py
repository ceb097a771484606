"""The taps against servers that speak their APIs: nothing lost at any edge, trouble waited out, requests counted."""

import itertools
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import ccxt
import pytest
import stamina
from builders import FakeContext
from fake_debank import KEY as DEBANK_KEY
from fake_debank import FakeDebank, entry

from sluice import tap, tap_debank, tap_exchange
from sluice.config import Config
from sluice.errors import SluiceError
from sluice.fake_exchange import KEY, SECRET, Answer, FakeExchange

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
ADDRESS = "0xme"
TROUBLES = [
    Answer(429, "{}", {"Retry-After": "0"}),
    Answer(500, "{}"),
    Answer(503, "<html>down</html>"),
    Answer(200, "<html>maintenance</html>", {"Content-Type": "text/html"}),
    Answer(200, '{"fills": [], "history_list": []}', cut=True),
]


@dataclass
class Run:
    """What a tap wrote."""

    messages: list[dict[str, Any]]
    error: SluiceError | None = None
    ids: list[str] = field(default_factory=list)

    @property
    def records(self) -> list[dict[str, Any]]:
        return [message["record"] for message in self.messages if message["type"] == "RECORD"]

    @property
    def states(self) -> list[dict[str, Any]]:
        return [message["value"] for message in self.messages if message["type"] == "STATE"]


@pytest.fixture(autouse=True)
def _at_once() -> Iterator[None]:
    """Retries as many as ever, without their waits."""
    stamina.set_testing(True, attempts=tap.ATTEMPTS, cap=True)
    yield
    stamina.set_testing(False)


@pytest.fixture
def run_tap(own_settings: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    monkeypatch.setenv("TAP_EXCHANGE_API_KEY", KEY)
    secret = tmp_path / "secret"
    secret.write_text(SECRET + "\n")
    monkeypatch.setenv("TAP_EXCHANGE_SECRET_FILE", str(secret))
    monkeypatch.setenv("TAP_DEBANK_ACCESS_KEY", DEBANK_KEY)

    def run(module: Any, config: dict, state: dict | None = None, *, start: str | None = None, end: str | None = None,
            most: int | None = None, catalog: dict | None = None) -> Run:  # fmt: skip
        out = tmp_path / "out"
        ctx = FakeContext(own_settings)
        error = None
        with open(out, "wb") as file:
            ctx.stdout = file.fileno()  # type: ignore[attr-defined]
            try:
                list(module.run(ctx, module.options(config, start, end), state or {}, catalog or {}, most))
            except SluiceError as problem:
                error = problem
        return Run([json.loads(line) for line in out.read_text().splitlines()], error)

    return run


# -- the exchange -----------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _unthrottled(monkeypatch: pytest.MonkeyPatch) -> None:
    """ccxt waits up to a third of a second before a question, as Coinbase wants it; an exchange of ours does not."""
    monkeypatch.setattr(ccxt.coinbase, "throttle", lambda *_: None)


@pytest.fixture
def exchange() -> Iterator[FakeExchange]:
    with FakeExchange(begin=BEGIN, end=BEGIN + timedelta(days=20), step_s=4000) as exchange:
        yield exchange


def asks(exchange: FakeExchange, **more: Any) -> dict:
    return {"base_url": exchange.url, "start_date": "2026-01-01", "source": "fake", "window_days": 365, **more}


def test_all_trades_come_in_order_whatever_the_windows(exchange: FakeExchange, run_tap: Callable[..., Run]) -> None:
    wanted = [trade["trade_id"] for trade in exchange.trades()]
    for days in (365, 6.5):
        run = run_tap(tap_exchange, asks(exchange, window_days=days), end="2026-02-01")
        assert sorted(record["txid"] for record in run.records) == wanted, days
        keys = [(record["datetime"], record["txid"]) for record in run.records]
        assert keys == sorted(keys) and len(set(keys)) == len(keys)


def test_amounts_are_texts_with_all_of_their_digits(exchange: FakeExchange, run_tap: Callable[..., Run]) -> None:
    run = run_tap(tap_exchange, asks(exchange))
    truth = {trade["trade_id"]: trade for trade in exchange.trades()}
    assert run.records
    for record in run.records:
        trade = truth[record["txid"]]
        assert (record["amount"], record["price"]) == (trade["size"], trade["price"])
        assert record["side"] == trade["side"].lower() and f"{record['base']}-{record['quote']}" == trade["product_id"]


def test_a_second_run_asks_once_and_brings_no_more_than_the_boundary(
    exchange: FakeExchange, run_tap: Callable[..., Run]
) -> None:
    first = run_tap(tap_exchange, asks(exchange))
    exchange.asked.clear()
    exchange.requests = 0
    again = run_tap(tap_exchange, asks(exchange), first.states[-1])
    assert len(exchange.asked) == exchange.requests == 1 and {record["datetime"] for record in again.records} == {
        first.records[-1]["datetime"]
    }
    assert again.states[-1] == first.states[-1]


def test_markets_are_remembered_for_a_day_unless_one_is_missing_or_a_clock_is_wrong(
    exchange: FakeExchange, run_tap: Callable[..., Run], own_settings: Config
) -> None:
    def about_markets(**more: Any) -> int:
        before = exchange.requests - len(exchange.asked)
        run = run_tap(tap_exchange, asks(exchange, **more))
        assert run.error is None and run.records
        return exchange.requests - len(exchange.asked) - before

    whole = about_markets()
    assert whole > 1
    assert about_markets() == about_markets(symbols=["BTC/USD"]) == about_markets(symbols=["ETH/USD"]) == 0
    (kept,) = (own_settings.state_dir / "sync").glob("markets-coinbase-127.0.0.1.json")
    known = json.loads(kept.read_text())
    kept.write_text(json.dumps([{"BTC/USD": known[0]["BTC/USD"]}, known[1]]))
    assert about_markets(symbols=["BTC/USD"]) == 0 and about_markets(symbols=["ETH/USD"]) == whole
    for broken in ("", "[]", "{}", '[{"BTC/USD": 1}, null]'):
        kept.write_text(broken)
        assert about_markets() == whole, broken
    os.utime(kept, (kept.stat().st_mtime - 86_401,) * 2)
    exchange.skew_s = 60
    assert about_markets() == about_markets() == whole and not kept.exists()


def test_a_run_that_goes_on_brings_what_is_new_and_late_by_the_boundary(
    exchange: FakeExchange, run_tap: Callable[..., Run]
) -> None:
    exchange.end = BEGIN + timedelta(days=3)
    first = run_tap(tap_exchange, asks(exchange))
    exchange.end = BEGIN + timedelta(days=6)
    more = run_tap(tap_exchange, asks(exchange), first.states[-1])
    ids = {record["txid"] for record in first.records} | {record["txid"] for record in more.records}
    assert ids == {trade["trade_id"] for trade in exchange.trades()}


@pytest.mark.parametrize("trouble", TROUBLES, ids=["429", "500", "503", "html", "cut"])
def test_trouble_that_passes_is_waited_out(
    trouble: Answer, exchange: FakeExchange, run_tap: Callable[..., Run]
) -> None:
    exchange.faults = [trouble, trouble]
    run = run_tap(tap_exchange, asks(exchange))
    assert run.error is None and len(run.records) == len(exchange.trades())


def test_trouble_that_stays_is_69_and_whole_windows_keep_their_state(
    exchange: FakeExchange, run_tap: Callable[..., Run]
) -> None:
    exchange.faults = [Answer(500, "{}")] * 100
    run = run_tap(tap_exchange, asks(exchange))
    assert run.error is not None and run.error.exit_code == 69 and run.states == []


def test_a_refused_or_missing_key_is_78_and_never_shown(
    exchange: FakeExchange,
    run_tap: Callable[..., Run],
    monkeypatch: pytest.MonkeyPatch,
    heard: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("TAP_EXCHANGE_API_KEY", "somebody-else")
    run = run_tap(tap_exchange, asks(exchange))
    assert run.error is not None and run.error.exit_code == 78
    assert len(exchange.asked) == 1, "a refused key is not tried again"
    monkeypatch.delenv("TAP_EXCHANGE_API_KEY")
    run = run_tap(tap_exchange, asks(exchange))
    assert run.error is not None and run.error.exit_code == 78 and "TAP_EXCHANGE_API_KEY" in (run.error.hint or "")
    assert SECRET not in heard.text and SECRET not in str(run.error)


def test_the_cap_stops_the_run_and_the_cursor_is_after_whole_windows_only(
    exchange: FakeExchange, run_tap: Callable[..., Run]
) -> None:
    run = run_tap(tap_exchange, asks(exchange, window_days=2), most=12)
    assert run.error is not None and run.error.code == "tap_capped"
    assert run.states, "some windows were whole"
    cursor = run.states[-1]["bookmarks"][tap_exchange.TRADES]["datetime"]
    before = {trade["trade_id"] for trade in exchange.trades() if trade["trade_time"] < cursor}
    assert before <= {record["txid"] for record in run.records}


@pytest.mark.parametrize("skew_s", [-600, 600])
def test_a_clock_that_is_ten_minutes_off_loses_nothing(skew_s: float, run_tap: Callable[..., Run]) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    with FakeExchange(begin=now - timedelta(hours=2), end=now, step_s=20, skew_s=skew_s) as exchange:
        first = run_tap(tap_exchange, asks(exchange))
        exchange.end, exchange.skew_s = now + timedelta(minutes=5), 1200
        more = run_tap(tap_exchange, asks(exchange), first.states[-1])
        ids = {record["txid"] for record in first.records + more.records}
        assert ids == {trade["trade_id"] for trade in exchange.trades()}


def test_a_backfill_leaves_the_state_as_it_was(exchange: FakeExchange, run_tap: Callable[..., Run]) -> None:
    state = {"bookmarks": {tap_exchange.TRADES: {"datetime": "2026-01-19T00:00:00Z"}}}
    run = run_tap(tap_exchange, asks(exchange), state, start="2026-01-02", end="2026-01-03")
    assert {record["datetime"][:10] for record in run.records} == {"2026-01-02"} and run.states == [state]


@pytest.mark.parametrize("module", [tap_exchange, tap_debank])
def test_a_backfill_of_no_time_at_all_is_refused(module: Any) -> None:
    for start, end in (("2026-01-03", "2026-01-02"), ("2026-01-03", "2026-01-03")):
        with pytest.raises(SluiceError, match="nothing is from 2026-01-03 on and earlier than") as refusal:
            module.options({}, start, end)
        assert refusal.value.exit_code == 2
    with pytest.raises(SluiceError, match=r"START_TS.* is 'yesterday'"):
        module.options({}, "yesterday", None)


def test_an_exchange_that_shows_the_same_full_page_for_ever_is_an_error(
    exchange: FakeExchange, run_tap: Callable[..., Run]
) -> None:
    same = {"fills": [exchange.trade(0) | {"trade_id": f"x{i}"} for i in range(100)]}
    exchange.faults = [Answer(body=json.dumps(same))] * 50
    run = run_tap(tap_exchange, asks(exchange))
    assert run.error is not None and run.error.code == "tap_stuck" and run.states == []


def test_unknown_exchanges_and_settings_are_refused(run_tap: Callable[..., Run]) -> None:
    assert run_tap(tap_exchange, {"exchange": "nowhere"}).error.exit_code == 78
    with pytest.raises(SluiceError, match="apiKey"):
        tap_exchange.options({"apiKey": "secret"}, None, None)


def test_a_catalog_that_selects_nothing_fetches_nothing(exchange: FakeExchange, run_tap: Callable[..., Run]) -> None:
    catalog = json.loads(json.dumps({"streams": tap_exchange.CATALOG}))
    assert run_tap(tap_exchange, asks(exchange), catalog=catalog).records
    catalog["streams"][0]["metadata"][0]["metadata"]["selected"] = False
    assert run_tap(tap_exchange, asks(exchange), catalog=catalog).messages == []


def moved(exchange: FakeExchange) -> dict[tuple[str, str, str], tuple[Decimal, str | None]]:
    """The truth: amount and fee of each transfer, by currency, kind and id."""
    truth: dict = {}
    for path in ("deposits", "withdrawals"):
        for one in exchange.transfers("USD", path):
            truth["USD", one["resource"], one["id"]] = (Decimal(one["amount"]["amount"]), one["fee"]["amount"])
    for one in exchange.transfers("BTC", "transactions"):
        if one["type"] == "send":
            size = one["amount"]["amount"]
            truth["BTC", "withdrawal" if size.startswith("-") else "deposit", one["id"]] = (abs(Decimal(size)), None)
    return truth


def test_deposits_and_withdrawals_of_each_currency_come_once_and_no_trade_among_them(
    run_tap: Callable[..., Run],
) -> None:
    with FakeExchange(begin=BEGIN, end=BEGIN + timedelta(days=60), step_s=4000) as exchange:
        for days in (365, 17):
            run = run_tap(tap_exchange, asks(exchange, transfers=["USD", "BTC"], window_days=days), end="2026-03-15")
            assert run.error is None
            found = [record for record in run.records if "kind" in record]
            keys = [(record["currency"], record["kind"], record["txid"]) for record in found]
            got = {key: (Decimal(record["amount"]), record["fee"]) for key, record in zip(keys, found, strict=True)}
            assert got == moved(exchange) and len(keys) == len(got) > 200
            assert {record["status"] for record in found} == {"ok"}


def test_the_second_run_asks_once_for_each_list_and_each_stream_has_its_own_cursor(
    exchange: FakeExchange, run_tap: Callable[..., Run]
) -> None:
    wanted = asks(exchange, transfers=["USD", "BTC"])
    first = run_tap(tap_exchange, wanted)
    assert set(first.states[-1]["bookmarks"]) == {tap_exchange.TRADES, tap_exchange.TRANSFERS}
    exchange.asked.clear()
    again = run_tap(tap_exchange, wanted, first.states[-1])
    lists = [(one.get("account"), one.get("path")) for one in exchange.asked]
    # Of BTC, whose deposits and withdrawals are one list of Coinbase's, each kind is asked for by itself.
    assert lists == [(None, None), ("USD", "deposits"), ("USD", "withdrawals"), *[("BTC", "transactions")] * 2]
    assert again.states[-1] == first.states[-1]
    only = {
        "streams": [
            {"tap_stream_id": tap_exchange.TRADES, "metadata": [{"breadcrumb": [], "metadata": {"selected": True}}]}
        ]
    }
    run = run_tap(tap_exchange, wanted, first.states[-1], catalog=only)
    assert run.states[-1] == first.states[-1] and not any("kind" in record for record in run.records)


# -- DeBank -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def debank() -> Iterator[FakeDebank]:
    """500 entries, three in every second."""
    with FakeDebank(
        [entry(number, 1_767_225_600 + number // 3, received=number % 2 == 0) for number in range(500)]
    ) as debank:
        yield debank


def of(debank: FakeDebank, **more: Any) -> dict:
    return {"addresses": [ADDRESS], "base_url": debank.url, **more}


def hashes(run: Run) -> set[str]:
    return {record["tx_hash"] for record in run.records}


def test_the_whole_history_comes_though_seconds_are_torn_at_page_edges(
    debank: FakeDebank, run_tap: Callable[..., Run]
) -> None:
    run = run_tap(tap_debank, of(debank))
    assert hashes(run) == {item["id"] for item in debank.history} and len(run.records) == 500
    assert {(record["token_symbol"], record["value"]) for record in run.records} == {("ETH", "1.5")}
    assert all(
        (record["to_address"] if record["position"].split("/")[1] == "receive" else record["from_address"]) == ADDRESS
        for record in run.records
    )


def test_a_second_run_asks_once_and_one_with_news_walks_back_to_the_cursor(
    debank: FakeDebank, run_tap: Callable[..., Run]
) -> None:
    first = run_tap(tap_debank, of(debank))
    debank.asked.clear()
    again = run_tap(tap_debank, of(debank), first.states[-1])
    assert len(debank.asked) == 1 and again.states[-1] == first.states[-1]
    news = [entry(number, 1_767_225_600 + number // 3) for number in range(500, 560)]
    debank.history += news
    more = run_tap(tap_debank, of(debank), first.states[-1])
    assert {item["id"] for item in news} <= hashes(more) and len(more.records) < 100


def test_an_interrupted_walk_keeps_what_it_brought_and_leaves_the_cursor(
    debank: FakeDebank, run_tap: Callable[..., Run]
) -> None:
    run = run_tap(tap_debank, of(debank), most=3)
    assert run.error is not None and run.error.code == "tap_capped" and len(debank.asked) == 3
    assert len(run.records) > 40 and run.states == []


def test_more_than_a_page_in_one_second_is_an_error_that_names_it(run_tap: Callable[..., Run]) -> None:
    with FakeDebank([entry(number, 1_767_225_600) for number in range(21)]) as debank:
        run = run_tap(tap_debank, of(debank))
    assert run.error is not None and run.error.code == "tap_full_second" and "2026-01-01T00:00:00Z" in run.error.message


@pytest.mark.parametrize("trouble", TROUBLES, ids=["429", "500", "503", "html", "cut"])
def test_debank_trouble_that_passes_is_waited_out(
    trouble: Answer, debank: FakeDebank, run_tap: Callable[..., Run]
) -> None:
    debank.faults = [trouble, trouble]
    run = run_tap(tap_debank, of(debank))
    assert run.error is None and len(run.records) == 500


def test_used_up_units_and_refused_keys_are_not_tried_again(debank: FakeDebank, run_tap: Callable[..., Run]) -> None:
    for status, code in ((403, "tap_no_units"), (401, "tap_key_refused")):
        debank.asked.clear()
        debank.faults = [Answer(status, "{}")]
        run = run_tap(tap_debank, of(debank))
        assert run.error is not None and run.error.code == code and len(debank.asked) == 1


def test_amounts_keep_all_digits_of_the_answer(run_tap: Callable[..., Run], debank: FakeDebank) -> None:
    body = json.dumps({"history_list": [entry(1, 1_767_225_600)], "token_dict": {}}).replace(
        "1.5", "123456789.123456789012345678"
    )
    debank.faults = [Answer(body=body)]
    assert run_tap(tap_debank, of(debank)).records[0]["value"] == "123456789.123456789012345678"


# -- what they share --------------------------------------------------------------------------------------------------


def test_retry_after_is_read_as_seconds_or_as_a_date() -> None:
    assert tap.retry_after_s("7") == 7.0 and tap.retry_after_s(None) is None and tap.retry_after_s("soon") is None
    in_a_minute = (datetime.now(UTC) + timedelta(seconds=60)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    assert 50 < (tap.retry_after_s(in_a_minute) or 0) <= 60


def test_windows_are_ascending_half_open_and_without_a_hole() -> None:
    found = list(tap.windows(BEGIN, BEGIN + timedelta(days=10), timedelta(days=3)))
    assert found[0][0] == BEGIN and found[-1][1] == BEGIN + timedelta(days=10)
    assert all(one[1] == other[0] for one, other in itertools.pairwise(found))
