"""A DeBank on loopback, as its documentation says: newest first, earlier than start_time, at most 20, no cursor."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from sluice.fake_exchange import Answer

KEY = "fake-access-key"


def entry(
    number: int, second: int, *, chain: str = "eth", amount: str = "1.5", received: bool = False
) -> dict[str, Any]:
    part = {"amount": json.loads(amount), "token_id": "eth"}
    return {
        "chain": chain, "id": f"0x{number:064x}", "time_at": second, "cate_id": "receive" if received else "send",
        "sends": [] if received else [part | {"to_addr": "0xabc"}],
        "receives": [part | {"from_addr": "0xabc"}] if received else [],
        "tx": {"from_addr": "0xme", "to_addr": "0xabc", "value": 1.5},
    }  # fmt: skip


class FakeDebank:
    """A context manager. `faults` are played, in order, to the coming requests; `asked` notes all."""

    def __init__(self, history: list[dict[str, Any]]):
        self.history = history
        self.faults: list[Answer] = []
        self.asked: list[dict[str, str]] = []
        debank = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                debank.answer(self)

            def log_message(self, *_: object) -> None:
                """Nothing on stderr."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "FakeDebank":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        asked = {name: values[-1] for name, values in parse_qs(urlsplit(request.path).query).items()}
        self.asked.append(asked)
        if self.faults:
            answer = self.faults.pop(0)
        elif request.headers.get("AccessKey") != KEY:
            answer = Answer(401, '{"message": "no key"}')
        else:
            answer = Answer(body=json.dumps(self._page(asked)))
        body = answer.body.encode()
        request.send_response(answer.status)
        for name, value in {"Content-Length": str(len(body)), **answer.headers}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body[: len(body) // 2] if answer.cut else body)
        request.close_connection = answer.cut

    def _page(self, asked: dict[str, str]) -> dict[str, Any]:
        before = int(asked["start_time"]) if "start_time" in asked else 1 << 40
        found = [e for e in self.history if asked.get("chain_id") in (None, e["chain"]) and e["time_at"] < before]
        found = sorted(found, key=lambda e: -e["time_at"])[: min(int(asked.get("page_count", 20)), 20)]
        return {"history_list": found, "token_dict": {"eth": {"id": "eth", "symbol": "ETH"}}, "cate_dict": {}}
