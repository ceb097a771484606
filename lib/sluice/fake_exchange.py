"""A fake exchange on loopback, for a first look and for tests: it speaks enough of Coinbase's API for ccxt to list trades,
deposits and withdrawals.

All of it is synthetic: a trade every `step_s` from `begin` to now, two of each ten in one millisecond, and of every five
a transfer. Signatures are checked, pages come newest first. `python -m sluice.fake_exchange` prints its URL and ends with its standard input.
"""

import hashlib
import hmac
import json
import re
import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

KEY, SECRET = "fake-key", "fake-secret"
_COINS = ("BTC", "ETH")


@dataclass
class Answer:
    """What is answered instead of the truth, once. `cut`: the connection ends inside the body."""

    status: int = 200
    body: str = "{}"
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False


class FakeExchange:
    """A context manager. `faults` are played, in order, to the coming requests for trades; `asked` notes those, `requests` counts all."""

    def __init__(self, *, begin: datetime, end: datetime | None = None, step_s: float = 3600.0, skew_s: float = 0.0):
        self.begin, self.end, self.step_s, self.skew_s = begin, end, step_s, skew_s
        self.faults: list[Answer] = []
        self.asked: list[dict[str, str]] = []
        self.requests = 0
        exchange = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                exchange.requests += 1
                exchange.answer(self)

            def date_time_string(self, timestamp: float | None = None) -> str:
                return formatdate(time.time() + exchange.skew_s, usegmt=True)

            def log_message(self, *_: object) -> None:
                """Nothing on stderr."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "FakeExchange":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def trade(self, number: int) -> dict[str, Any]:
        """The trade of this number, the same at every call."""
        at = self.begin + timedelta(seconds=self.step_s * (number - (number % 10 == 9)))
        coin = _COINS[number % 2]
        return {
            "entry_id": f"e{number:08}", "trade_id": f"t{number:08}", "order_id": f"o{number // 3:08}", "trade_type": "FILL",
            "trade_time": _iso(at), "sequence_timestamp": _iso(at), "product_id": f"{coin}-USD", "user_id": "nobody",
            "price": f"{20000 + number % 977}.12345678", "size": f"0.00{1 + number % 89:02}3456789012345678"[:20],
            "commission": "0.148148", "side": "SELL" if number % 3 == 0 else "BUY", "liquidity_indicator": "TAKER",
            "size_in_quote": False,
        }  # fmt: skip

    def trades(self) -> list[dict[str, Any]]:
        end = self.end or datetime.now(UTC)
        return [self.trade(number) for number in range(max(0, int((end - self.begin).total_seconds() / self.step_s)))]

    def transfers(self, coin: str, path: str) -> list[dict[str, Any]]:
        """What `path` lists of an account, oldest first: USD's deposits or withdrawals, a coin's transactions, trades among them."""
        found = []
        for number, trade in enumerate(self.trades()):
            kind = ("deposits", "withdrawals")[number % 10 == 0]
            at = {"id": f"x{number:08}", "created_at": trade["trade_time"], "updated_at": trade["trade_time"]}
            if coin == "USD" and number % 5 == 0 and path == kind:
                amount = {"amount": f"{number}.07", "currency": "USD"}
                fee = {"amount": "0.15", "currency": "USD"}
                found.append(
                    at
                    | {"resource": kind[:-1], "status": "completed", "amount": amount, "subtotal": amount, "fee": fee}
                )
            if coin == "BTC" and path == "transactions":
                size = f"{'-' if number % 10 == 0 else ''}0.{number + 1:08}"
                is_sent = number % 5 == 0
                found.append(
                    at
                    | {"resource": "transaction", "status": "completed", "amount": {"amount": size, "currency": "BTC"}}
                    | {"type": "send" if is_sent else "advanced_trade_fill", "network": {"hash": f"0x{number:08}"}}
                )
        return found

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        url = urlsplit(request.path)
        asked = {name: values[-1] for name, values in parse_qs(url.query).items()}
        if url.path.endswith("/orders/historical/fills"):
            self.asked.append(asked)
            if self.faults:
                self._send(request, self.faults.pop(0))
                return
            found = self._page(asked) if self._is_signed(request, url.path) else None
            self._send(request, Answer(body=json.dumps(found)) if found else Answer(401, '{"error":"unauthorized"}'))
            return
        if listing := re.search(r"/v2/accounts/(\w+)/(deposits|withdrawals|transactions)$", url.path):
            self.asked.append({"account": listing[1], "path": listing[2], **asked})
            listed = self.transfers(listing[1], listing[2])[::-1]
            first = next((i + 1 for i, one in enumerate(listed) if one["id"] == asked.get("starting_after")), 0)
            page = {"data": listed[first : first + int(asked.get("limit", 25))]}
            is_signed = self._is_signed(request, request.path)
            self._send(request, Answer(body=json.dumps(page)) if is_signed else Answer(401, '{"error":"unauthorized"}'))
            return
        public = next((body for end, body in _PUBLIC.items() if url.path.endswith(end)), None)
        if "FUTURE" in asked.get("product_type", ""):
            public = {"products": []}
        self._send(
            request, Answer(body=json.dumps(public)) if public is not None else Answer(404, '{"error":"not_found"}')
        )

    def _page(self, asked: dict[str, str]) -> dict[str, Any]:
        since, until = asked.get("start_sequence_timestamp", ""), asked.get("end_sequence_timestamp", "9999")
        found = [trade for trade in reversed(self.trades()) if since <= trade["sequence_timestamp"] < until]
        limit = min(int(asked.get("limit", 100)), 3000)
        return {"fills": found[:limit], "cursor": "more" if len(found) > limit else ""}

    @staticmethod
    def _is_signed(request: BaseHTTPRequestHandler, path: str) -> bool:
        text = f"{request.headers.get('CB-ACCESS-TIMESTAMP', '')}GET{path}"
        wanted = hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).hexdigest()
        return request.headers.get("CB-ACCESS-KEY") == KEY and hmac.compare_digest(
            wanted, request.headers.get("CB-ACCESS-SIGN", "")
        )

    @staticmethod
    def _send(request: BaseHTTPRequestHandler, answer: Answer) -> None:
        body = answer.body.encode()
        request.send_response(answer.status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **answer.headers,
        }.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body[: len(body) // 2] if answer.cut else body)
        request.close_connection = request.close_connection or answer.cut


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _product(coin: str) -> dict[str, Any]:
    return {
        "product_id": f"{coin}-USD", "price": "1", "base_increment": "0.00000001", "quote_increment": "0.01", "price_increment": "0.01",
        "quote_min_size": "1", "quote_max_size": "1000000", "base_min_size": "0.00000001", "base_max_size": "1000",
        "status": "online", "trading_disabled": False, "is_disabled": False, "product_type": "SPOT", "quote_currency_id": "USD",
        "base_currency_id": coin, "view_only": False, "alias": "", "alias_to": [], "display_name": f"{coin}-USD",
    }  # fmt: skip


_PUBLIC: dict[str, Any] = {
    "/v2/currencies": {"data": [{"id": "USD", "name": "US Dollar", "min_size": "0.01"}]},
    "/v2/currencies/crypto": {
        "data": [{"asset_id": coin, "code": coin, "name": coin, "exponent": "8", "type": "crypto"} for coin in _COINS]
    },
    "/v2/exchange-rates": {"data": {"currency": "USD", "rates": {"BTC": "0.00001", "ETH": "0.0001"}}},
    "/market/products": {"products": [_product(coin) for coin in _COINS]},
    "/brokerage/accounts": {
        "accounts": [{"uuid": coin, "name": coin, "currency": coin, "type": "ACCOUNT"} for coin in ("USD", *_COINS)],
        "has_next": False,
        "cursor": "",
    },
    "/transaction_summary": {"fee_tier": {"taker_fee_rate": "0.006", "maker_fee_rate": "0.004"}},
}


if __name__ == "__main__":
    with FakeExchange(
        begin=datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=60)
    ) as fake:
        print(fake.url, flush=True)
        sys.stdin.read()
