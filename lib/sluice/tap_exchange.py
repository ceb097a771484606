"""Own trades from an exchange, through ccxt: ascending windows, each walked to its end before its STATE is written.

ccxt's own `paginate` stops silently after ten calls and loses the oldest, so pages are walked here: whichever end of a
window an exchange begins with, what is left of it is asked for until a page is not full or brings nothing new.
"""

import json
from collections.abc import Generator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from logging import Logger
from typing import Any

from sluice import tap
from sluice.command import Context
from sluice.errors import FAILED, SluiceError, misconfigured, unavailable
from sluice.records import Record

STREAM = "raw_exchanges_trades"
_TEXT = {"type": ["null", "string"]}
_DECIMAL = {"type": ["null", "string"], "format": "singer.decimal"}
CATALOG = [
    {
        "stream": STREAM,
        "tap_stream_id": STREAM,
        "key_properties": ["source", "txid"],
        "replication_key": "datetime",
        "replication_method": "INCREMENTAL",
        "schema": {
            "type": "object",
            "properties": {
                "source": {"type": "string"}, "txid": {"type": "string"},
                "datetime": {"type": "string", "format": "date-time"}, "base": _TEXT, "quote": _TEXT, "side": _TEXT,
                "amount": _DECIMAL, "price": _DECIMAL, "fee": _DECIMAL, "fee_currency": _TEXT,
                "raw_json": {"type": ["null", "object"]},
            },
        },
        "metadata": [{"breadcrumb": [], "metadata": {"selected": True, "inclusion": "available"}}],
    }
]  # fmt: skip
SETTLED = timedelta(days=1)  # a window that ended so long ago is complete: its end is the cursor
PAGE = 100


@dataclass(frozen=True)
class Options:
    """What is asked for. `start` and `end` make it a backfill, whose STATE is the one that was given."""

    exchange: str = "coinbase"
    source: str = ""
    symbols: list[str | None] = field(default_factory=lambda: [None])
    begin: datetime = datetime(2015, 1, 1, tzinfo=UTC)
    window: timedelta = timedelta(days=30)
    base_url: str | None = None
    start: datetime | None = None
    end: datetime | None = None


def options(config: dict[str, Any], start: str | None, end: str | None) -> Options:
    """From a config file and flags. Raises SluiceError (78, 2)."""
    known = {"exchange", "source", "symbols", "start_date", "window_days", "base_url"}
    if unknown := set(config) - known:
        raise misconfigured(
            f"the config knows {', '.join(sorted(known))}, not {', '.join(sorted(unknown))}",
            code="tap_bad_config",
            hint="keys are read from TAP_EXCHANGE_API_KEY and TAP_EXCHANGE_SECRET, or the files that …_FILE name",
        )
    exchange = config.get("exchange", "coinbase")
    return Options(
        exchange=exchange,
        source=config.get("source", exchange),
        symbols=config.get("symbols") or [None],
        begin=tap.moment(config.get("start_date", "2015-01-01"), "start_date"),
        window=timedelta(days=float(config.get("window_days", 30))),
        base_url=config.get("base_url"),
        start=tap.moment(start, "--start") if start else None,
        end=tap.moment(end, "--end") if end else None,
    )


def run(
    ctx: Context, wanted: Options, state: dict[str, Any], catalog: dict[str, Any], most_requests: int | None
) -> Generator[Record, None, int]:
    """Write trades from the state on. Raises SluiceError: 1 at the cap, 69 when the exchange stays away, 78 without keys."""
    messages = tap.Messages(ctx.stdout)
    if not tap.is_selected(STREAM, catalog):
        ctx.log.warning("the catalog selects no stream")
        return 0
    requests = tap.Requests(most_requests)
    known = state.get("bookmarks", {}).get(STREAM, {})
    begin = wanted.start or (
        tap.moment(known["datetime"], "the state's datetime") if "datetime" in known else wanted.begin
    )
    if ctx.dry_run:
        ctx.log.info("%s from %s on, in windows of %s", wanted.exchange, begin.isoformat(), wanted.window)
        yield from ()
        return 0
    exchange = Exchange(wanted, requests, ctx.log)
    messages.schema(CATALOG[0])
    messages.flush()
    end = wanted.end or exchange.now() + timedelta(milliseconds=1)  # fixed before the first request for records
    try:
        for since, until in tap.windows(begin, end, wanted.window):
            trades = exchange.trades(since, until)
            for trade in trades:
                messages.record(STREAM, trade)
            newest = tap.moment(trades[-1]["datetime"], "datetime") if trades else since
            cursor = until if until < end - SETTLED else max(since, newest)
            is_backfill = wanted.start is not None or wanted.end is not None
            messages.state(state if is_backfill else {"bookmarks": {STREAM: {"datetime": _iso(cursor)}}})
    finally:
        messages.flush()
        ctx.log.info("%d requests", requests.made)
    return 0


class Exchange:
    """An exchange that ccxt knows by its name, asked through one client with its own rate limiter."""

    def __init__(self, wanted: Options, requests: tap.Requests, log: Logger):
        import ccxt

        if wanted.exchange not in ccxt.exchanges:
            raise misconfigured(f"ccxt knows no exchange {wanted.exchange!r}", code="tap_unknown_exchange")
        keys = {
            "apiKey": tap.secret("TAP_EXCHANGE_API_KEY"), "secret": tap.secret("TAP_EXCHANGE_SECRET"),
            "password": tap.secret("TAP_EXCHANGE_PASSWORD"),
        }  # fmt: skip
        self._ccxt = ccxt
        self._wanted = wanted
        self._log = log
        self._client = getattr(ccxt, wanted.exchange)(
            {name: key for name, key in keys.items() if key} | {"enableRateLimit": True}
        )
        self._client.number = str  # a float would round
        if wanted.base_url:
            api = self._client.urls["api"]
            self._client.urls["api"] = wanted.base_url if isinstance(api, str) else dict.fromkeys(api, wanted.base_url)
        self._count_requests(requests)
        try:
            self._client.check_required_credentials()
        except ccxt.AuthenticationError as problem:
            raise misconfigured(
                f"{wanted.exchange}: {problem}",
                code="tap_no_keys",
                hint="set TAP_EXCHANGE_API_KEY and TAP_EXCHANGE_SECRET, or …_FILE",
            ) from None

    def _count_requests(self, requests: tap.Requests) -> None:
        fetch = self._client.fetch

        def counted(*arguments: Any, **more: Any) -> Any:
            requests.count()
            return fetch(*arguments, **more)

        self._client.fetch = counted

    def now(self) -> datetime:
        """The exchange's own clock: ours may be off."""
        self._ask(self._client.load_markets)
        date = {key.lower(): value for key, value in (self._client.last_response_headers or {}).items()}.get("date")
        return parsedate_to_datetime(date) + timedelta(seconds=1) if date else datetime.now(UTC)

    def trades(self, since: datetime, until: datetime) -> list[dict[str, Any]]:
        """All trades in [since, until), as records, in the order of time and id."""
        found = [
            trade for symbol in self._wanted.symbols for trade in self._walk(symbol, _ms(since), _ms(until)).values()
        ]
        return sorted((self._record(trade) for trade in found), key=lambda record: (record["datetime"], record["txid"]))

    def _walk(self, symbol: str | None, since: int, until: int) -> dict[str, dict]:
        """Trades by id in [since, until) milliseconds."""
        found: dict[str, dict] = {}
        open_ends = [(since, until)]
        while open_ends:
            since, until = open_ends.pop()
            page = self._page(symbol, since, until)
            fresh = {
                trade["id"]: trade for trade in page if trade["id"] not in found and since <= trade["timestamp"] < until
            }
            found |= fresh
            if len(page) < PAGE:
                continue
            times = [trade["timestamp"] for trade in page]
            if not fresh or min(times) == max(times):
                raise SluiceError(
                    f"{self._wanted.exchange}: a full page, {len(page)} trades, at {_iso(_at(times[0]))} and nothing new in it: "
                    "more of one millisecond than a page holds, or an exchange that knows no `until`",
                    code="tap_stuck",
                    exit_code=FAILED,
                )
            # Both sides are asked for: to guess at which end an exchange begins would lose trades.
            open_ends += [(since, min(times) + 1)] if min(times) > since else []
            open_ends += [(max(times), until)] if max(times) + 1 < until else []
        return found

    def _page(self, symbol: str | None, since: int, until: int) -> list[dict]:
        return self._ask(lambda: self._client.fetch_my_trades(symbol, since, PAGE, {"until": until}))

    def _ask(self, ask: Any) -> Any:
        ccxt = self._ccxt

        def checked() -> Any:
            try:
                found = ask()
            except (TypeError, AttributeError, KeyError) as problem:
                raise ccxt.ExchangeNotAvailable(f"an answer that cannot be ({type(problem).__name__})") from None
            # ccxt takes a page of HTML with status 200 for an answer without trades.
            if not (self._client.last_http_response or "").lstrip().startswith(("{", "[")):
                raise ccxt.ExchangeNotAvailable("an answer that is no JSON")
            return found

        def is_passing(problem: Exception) -> bool | float:
            if isinstance(problem, SluiceError) or not isinstance(problem, ccxt.NetworkError | ccxt.BadResponse):
                return False
            headers = {key.lower(): value for key, value in (self._client.last_response_headers or {}).items()}
            asked = tap.retry_after_s(headers.get("retry-after"))
            self._log.info("%s: again after %s: %s", self._wanted.exchange, type(problem).__name__, asked)
            return True if asked is None else asked

        try:
            return tap.patiently(checked, is_passing)
        except ccxt.AuthenticationError:
            raise misconfigured(
                f"{self._wanted.exchange} refuses the key",
                code="tap_key_refused",
                hint="is it right, and may it read trades?",
            ) from None
        except ccxt.BaseError as problem:
            # Its text may hold a URL with what we sent.
            raise unavailable(
                f"{self._wanted.exchange}: {type(problem).__name__} after {tap.ATTEMPTS} attempts",
                code="tap_away",
                hint="run it again later",
            ) from None

    def _record(self, trade: dict) -> dict[str, Any]:
        base, _, quote = (trade.get("symbol") or "/").partition("/")
        fee = trade.get("fee") or {}
        return {
            "source": self._wanted.source, "txid": str(trade["id"]), "datetime": _iso(_at(trade["timestamp"])),
            "base": base or None, "quote": quote or None, "side": trade.get("side"), "amount": _text(trade.get("amount")),
            "price": _text(trade.get("price")), "fee": _text(fee.get("cost")), "fee_currency": fee.get("currency"),
            "raw_json": json.loads(json.dumps({key: value for key, value in (trade.get("info") or {}).items() if key != "cursor"}, default=str)),
        }  # fmt: skip


def _text(number: Any) -> str | None:
    return None if number is None else str(number)


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def _at(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
