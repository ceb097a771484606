"""An exchange, through ccxt: pages walked to their end, trouble that passes waited out, numbers as exact texts.

ccxt's own `paginate` stops silently after ten calls and loses the oldest, so pages are walked here: whichever end of a
window an exchange begins with, what is left of it is asked for until a page is not full or brings nothing new.
"""

import json
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from logging import Logger
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sluice import remembered_markets, tap
from sluice.errors import FAILED, SluiceError, misconfigured, unavailable

PAGE = 100
_RIGHT = timedelta(seconds=5)  # a clock that is off by less is right
_METHODS = {"deposit": "fetchDeposits", "withdrawal": "fetchWithdrawals"}
_NEWEST_FIRST = ("coinbase",)  # whose transfers come newest first, a page from an id on


class Exchange:
    """An exchange that ccxt knows by its name, asked through one client with its own rate limiter."""

    def __init__(
        self, name: str, source: str, requests: tap.Requests, log: Logger, *, base_url: str | None, has_transfers: bool
    ):
        """`source` goes into the records. Raises SluiceError (78) for a name that ccxt does not know, and without keys."""
        import ccxt

        if name not in ccxt.exchanges:
            raise misconfigured(f"ccxt knows no exchange {name!r}", code="tap_unknown_exchange")
        keys = {
            "apiKey": tap.secret("TAP_EXCHANGE_API_KEY"), "secret": tap.secret("TAP_EXCHANGE_SECRET"),
            "password": tap.secret("TAP_EXCHANGE_PASSWORD"),
        }  # fmt: skip
        self._ccxt = ccxt
        self._name, self._source = name, source
        self._host = f"-{urlsplit(base_url).hostname}" if base_url else ""
        self._log = log
        self._client = getattr(ccxt, name)({name: key for name, key in keys.items() if key} | {"enableRateLimit": True})
        self._client.number = str  # a float would round
        self._client.enableLastJsonResponse = True
        if base_url:
            api = self._client.urls["api"]
            self._client.urls["api"] = base_url if isinstance(api, str) else dict.fromkeys(api, base_url)
        self._count_requests(requests)
        try:
            self._client.check_required_credentials()
        except ccxt.AuthenticationError as problem:
            raise misconfigured(
                f"{name}: {problem}",
                code="tap_no_keys",
                hint="set TAP_EXCHANGE_API_KEY and TAP_EXCHANGE_SECRET, or …_FILE",
            ) from None
        if has_transfers and not all(self._client.has.get(method) for method in _METHODS.values()):
            raise misconfigured(
                f"{name}: ccxt cannot list its deposits and withdrawals", code="tap_no_transfers",
                hint="take `transfers` out of the config",
            )  # fmt: skip

    def _count_requests(self, requests: tap.Requests) -> None:
        fetch = self._client.fetch

        def counted(*arguments: Any, **more: Any) -> Any:
            requests.count()
            return fetch(*arguments, **more)

        self._client.fetch = counted

    def now(self, folder: Path, names: list[str | None]) -> datetime:
        """The exchange's own clock, for ours may be off. With it come its markets, the `names` among them, which are
        kept in `folder` for a day, and while they are our clock, which was right when they came, is asked instead."""
        kept = folder / f"markets-{self._name}{self._host}.json"
        if remembered_markets.recall(self._client, kept, names):
            return datetime.now(UTC)
        self._ask(lambda: self._client.load_markets(True))
        date = {key.lower(): value for key, value in (self._client.last_response_headers or {}).items()}.get("date")
        now = parsedate_to_datetime(date) + timedelta(seconds=1) if date else datetime.now(UTC)
        if abs(now - datetime.now(UTC)) < _RIGHT:
            remembered_markets.remember(self._client, kept)
        else:
            kept.unlink(missing_ok=True)
        return now

    def trades(self, symbols: list[str | None], since: datetime, until: datetime) -> list[dict[str, Any]]:
        """All own trades in [since, until), as records, in the order of time and id."""
        found = [
            self._trade(one)
            for symbol in symbols
            for one in self._walk("fetch_my_trades", symbol, _ms(since), _ms(until)).values()
        ]
        return sorted(found, key=_by_time)

    def transfers(self, currencies: list[str | None], since: datetime, until: datetime) -> list[dict[str, Any]]:
        """All deposits and withdrawals in [since, until), as records, in the order of time and id."""
        walk = self._walk_back if self._name in _NEWEST_FIRST else self._walk
        found = [
            self._transfer(kind, one)
            for currency in currencies
            for kind, method in _METHODS.items()
            for one in walk(_snake(method), currency, _ms(since), _ms(until)).values()
        ]
        return sorted(found, key=_by_time)

    def _walk(self, method: str, subject: str | None, since: int, until: int) -> dict[str, dict]:
        """What a method lists of a market or currency in [since, until) milliseconds, by id."""
        found: dict[str, dict] = {}
        open_ends = [(since, until)]
        while open_ends:
            since, until = open_ends.pop()
            page = self._page(method, subject, since, {"until": until})
            fresh = {one["id"]: one for one in page if one["id"] not in found and since <= one["timestamp"] < until}
            found |= fresh
            if len(page) < PAGE:
                continue
            times = [one["timestamp"] for one in page]
            if not fresh or min(times) == max(times):
                raise SluiceError(
                    f"{self._name}: a full page of {method}, {len(page)} records, at {iso(_at(times[0]))} and nothing new in "
                    "it: more of one millisecond than a page holds, or an exchange that knows no `until`",
                    code="tap_stuck",
                    exit_code=FAILED,
                )
            # Both sides are asked for: to guess at which end an exchange begins would lose records.
            open_ends += [(since, min(times) + 1)] if min(times) > since else []
            open_ends += [(max(times), until)] if max(times) + 1 < until else []
        return found

    def _walk_back(self, method: str, currency: str | None, since: int, until: int) -> dict[str, dict]:
        """The same where pages come newest first, each from an id on, and know no `until`.

        A page's end is told by what was answered, not by what ccxt made of it: it leaves some out.
        """
        found: dict[str, dict] = {}
        where = {} if self._is_fiat(currency) else {"currencyType": "crypto"}
        after: dict[str, str] = {}
        while True:
            page = self._page(method, currency, None, where | after)
            found |= {one["id"]: one for one in page if since <= one["timestamp"] < until and _is_transfer(one)}
            answered = self._client.last_json_response["data"]
            if len(answered) < PAGE or self._client.parse8601(answered[-1]["created_at"]) < since:
                return found
            after = {"starting_after": answered[-1]["id"]}

    def _is_fiat(self, currency: str | None) -> bool:
        return ((self._client.currencies or {}).get(currency) or {}).get("type") == "fiat"

    def _page(self, method: str, subject: str | None, since: int | None, more: dict[str, Any]) -> list[dict]:
        return self._ask(lambda: getattr(self._client, method)(subject, since, PAGE, dict(more)))

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
            self._log.info("%s: again after %s: %s", self._name, type(problem).__name__, asked)
            return True if asked is None else asked

        try:
            return tap.patiently(checked, is_passing)
        except ccxt.AuthenticationError:
            raise misconfigured(
                f"{self._name} refuses the key",
                code="tap_key_refused",
                hint="is it right, and may it read trades?",
            ) from None
        except ccxt.BaseError as problem:
            # Its text may hold a URL with what we sent.
            raise unavailable(
                f"{self._name}: {type(problem).__name__} after {tap.ATTEMPTS} attempts",
                code="tap_away",
                hint="run it again later",
            ) from None

    def _trade(self, trade: dict) -> dict[str, Any]:
        base, _, quote = (trade.get("symbol") or "/").partition("/")
        return {
            **self._of_all(trade), "base": base or None, "quote": quote or None, "side": trade.get("side"),
            "price": _text(trade.get("price")),
        }  # fmt: skip

    def _transfer(self, kind: str, transfer: dict) -> dict[str, Any]:
        return {
            **self._of_all(transfer), "kind": kind, "currency": transfer.get("currency"), "status": transfer.get("status"),
            "address": transfer.get("address"), "tx_hash": transfer.get("txid"),
        }  # fmt: skip

    def _of_all(self, one: dict) -> dict[str, Any]:
        fee = one.get("fee") or {}
        info = {key: value for key, value in (one.get("info") or {}).items() if key != "cursor"}
        return {
            "source": self._source, "txid": str(one["id"]), "datetime": iso(_at(one["timestamp"])),
            "amount": _text(one.get("amount")), "fee": _text(fee.get("cost")), "fee_currency": fee.get("currency"),
            "raw_json": json.loads(json.dumps(info, default=str)),
        }  # fmt: skip


def _is_transfer(found: dict) -> bool:
    """Not one of the trades that Coinbase lists among an account's transactions."""
    return (found.get("info") or {}).get("type") in (None, "send")


def _by_time(record: dict[str, Any]) -> tuple[str, str]:
    return record["datetime"], record["txid"]


def _snake(method: str) -> str:
    return "fetch_" + method.removeprefix("fetch").lower()


def _text(number: Any) -> str | None:
    return None if number is None else str(number)


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def _at(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def iso(at: datetime) -> str:
    """A moment as records have it: UTC, to the millisecond."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
