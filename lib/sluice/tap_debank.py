"""Transfers of addresses from DeBank's history_list, newest first, walked back to the cursor before a STATE is written.

As documented: `start_time` means *earlier than*, a page has at most 20, there is no cursor, and times are seconds. So a
walk asks for what is earlier than its last second plus one, and leaves out what it has; more than a page in one second
cannot be walked. Every request costs units. A walk that is cut off keeps what it brought, and its cursor where it was.
"""

import json
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sluice import tap
from sluice.command import Context
from sluice.errors import FAILED, SluiceError, misconfigured, unavailable
from sluice.records import Record

STREAM = "raw_onchain_transfers"
URL = "https://pro-openapi.debank.com"
PAGE = 20
TIMEOUT_S = 30.0
_TEXT = {"type": ["null", "string"]}
CATALOG = [
    {
        "stream": STREAM,
        "tap_stream_id": STREAM,
        "key_properties": ["chain", "tx_hash", "position"],
        "replication_key": "block_timestamp",
        "replication_method": "INCREMENTAL",
        "schema": {
            "type": "object",
            "properties": {
                "chain": {"type": "string"}, "tx_hash": {"type": "string"}, "position": {"type": "string"},
                "block_timestamp": {"type": "string", "format": "date-time"}, "address": _TEXT, "from_address": _TEXT,
                "to_address": _TEXT, "token_id": _TEXT, "token_symbol": _TEXT,
                "value": {"type": ["null", "string"], "format": "singer.decimal"}, "raw_json": {"type": ["null", "object"]},
            },
        },
        "metadata": [{"breadcrumb": [], "metadata": {"selected": True, "inclusion": "available"}}],
    }
]  # fmt: skip


@dataclass(frozen=True)
class Options:
    """Whose transfers, on which chains (None: on all). `start` and `end` make it a backfill."""

    addresses: list[str] = field(default_factory=list)
    chains: list[str | None] = field(default_factory=lambda: [None])
    base_url: str = URL
    start: datetime | None = None
    end: datetime | None = None


def options(config: dict[str, Any], start: str | None, end: str | None) -> Options:
    """From a config file and flags. Raises SluiceError (78, 2)."""
    known = {"addresses", "chains", "base_url"}
    if unknown := set(config) - known:
        raise misconfigured(
            f"the config knows {', '.join(sorted(known))}, not {', '.join(sorted(unknown))}",
            code="tap_bad_config",
            hint="the key is read from TAP_DEBANK_ACCESS_KEY, or the file that TAP_DEBANK_ACCESS_KEY_FILE names",
        )
    since, until = tap.period(start, end)
    return Options(
        addresses=[str(address).lower() for address in config.get("addresses", [])],
        chains=config.get("chains") or [None],
        base_url=config.get("base_url", URL).rstrip("/"),
        start=since,
        end=until,
    )


def run(
    ctx: Context, wanted: Options, state: dict[str, Any], catalog: dict[str, Any], most_requests: int | None
) -> Generator[Record, None, int]:
    """Write transfers newer than the state. Raises SluiceError: 1 at the cap or when units are used up, 69, 78."""
    messages = tap.Messages(ctx.stdout)
    if ctx.dry_run or not tap.is_selected(STREAM, catalog):
        yield from ()
        return 0
    if not wanted.addresses:
        raise misconfigured("the config names no addresses", code="tap_bad_config", hint='{"addresses": ["0x…"]}')
    key = tap.secret("TAP_DEBANK_ACCESS_KEY")
    if not key:
        raise misconfigured(
            "there is no TAP_DEBANK_ACCESS_KEY", code="tap_no_keys", hint="set it, or TAP_DEBANK_ACCESS_KEY_FILE"
        )
    requests = tap.Requests(most_requests)
    marks = dict(state.get("bookmarks", {}).get(STREAM, {}))
    is_backfill = wanted.start is not None or wanted.end is not None
    messages.schema(CATALOG[0])
    try:
        with Api(wanted.base_url, key, requests, ctx) as api:
            for address in wanted.addresses:
                for chain in wanted.chains:
                    walk = f"{address} {chain or '*'}"
                    known = wanted.start or (tap.moment(marks[walk], "the state") if walk in marks else None)
                    newest = None
                    for found in api.back_to(address, chain, known, wanted.end):
                        newest = newest or found["time_at"]
                        for transfer in transfers(found, address, api.tokens):
                            messages.record(STREAM, transfer)
                    if newest is not None and not is_backfill:
                        marks[walk] = _iso(newest)
                    messages.state(state if is_backfill else {"bookmarks": {STREAM: marks}})
    finally:
        messages.flush()
        ctx.log.info("%d requests were made, each of which costs units", requests.made)
    return 0


class Api:
    """DeBank's API with one key; a context manager. `tokens` are the tokens it has told of, by id."""

    def __init__(self, url: str, key: str, requests: tap.Requests, ctx: Context):
        import httpx

        self._httpx = httpx
        self._client = httpx.Client(base_url=url, headers={"AccessKey": key}, timeout=TIMEOUT_S)
        self._requests = requests
        self._log = ctx.log
        self.tokens: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> "Api":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def back_to(
        self, address: str, chain: str | None, known: datetime | None, end: datetime | None
    ) -> Iterator[dict[str, Any]]:
        """History entries, newest first, back to the second of `known` (included), before `end`. Raises SluiceError."""
        seen: set[tuple[str, str]] = set()
        earlier_than = int(end.timestamp()) if end else None
        while True:
            page = self._page(address, chain, earlier_than)
            fresh = [entry for entry in page if (entry["chain"], entry["id"]) not in seen]
            seen |= {(entry["chain"], entry["id"]) for entry in fresh}
            yield from (entry for entry in fresh if known is None or entry["time_at"] >= int(known.timestamp()))
            if len(page) < PAGE or (known is not None and page[-1]["time_at"] < int(known.timestamp())):
                return
            if not fresh:
                raise SluiceError(
                    f"{address}: more than {PAGE} entries at {_iso(page[-1]['time_at'])}: DeBank cannot show more of one second",
                    code="tap_full_second", exit_code=FAILED,
                )  # fmt: skip
            earlier_than = int(page[-1]["time_at"]) + 1

    def _page(self, address: str, chain: str | None, earlier_than: int | None) -> list[dict[str, Any]]:
        asked: dict[str, Any] = {"id": address, "page_count": PAGE}
        asked |= {"chain_id": chain} if chain else {}
        asked |= {"start_time": earlier_than} if earlier_than is not None else {}
        found = self._ask(lambda: self._get(asked))
        self.tokens |= found.get("token_dict") or {}
        return sorted(found["history_list"], key=lambda entry: -entry["time_at"])

    def _get(self, asked: dict[str, Any]) -> dict[str, Any]:
        self._requests.count()
        answer = self._client.get("/v1/user/history_list", params=asked)
        answer.raise_for_status()
        try:
            found = json.loads(answer.text, parse_float=Decimal)
        except ValueError:
            found = None
        if not isinstance(found, dict) or not isinstance(found.get("history_list"), list):
            raise self._httpx.RemoteProtocolError("an answer that is no history")
        return found

    def _ask(self, ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        httpx = self._httpx

        def is_passing(problem: Exception) -> bool | float:
            if isinstance(problem, httpx.HTTPStatusError):
                status = problem.response.status_code
                asked = tap.retry_after_s(problem.response.headers.get("retry-after"))
                return (True if asked is None else asked) if status == 429 or status >= 500 else False
            return isinstance(problem, httpx.TransportError)

        try:
            return tap.patiently(ask, is_passing)
        except httpx.HTTPStatusError as problem:
            status = problem.response.status_code
            if status == 401:
                raise misconfigured(
                    "DeBank refuses the key", code="tap_key_refused", hint="check TAP_DEBANK_ACCESS_KEY"
                ) from None
            if status == 403:
                raise SluiceError(
                    "DeBank's units are used up", code="tap_no_units", exit_code=FAILED, hint="buy more"
                ) from None
            raise unavailable(f"DeBank answers {status}", code="tap_away", hint="run it again later") from None
        except httpx.HTTPError as problem:
            raise unavailable(f"DeBank: {type(problem).__name__}", code="tap_away", hint="run it again later") from None


def transfers(entry: dict[str, Any], address: str, tokens: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The transfers of one entry as `address` sees them. Two addresses of ours may see one transfer: each has its own."""
    moved = [("send", sent, address, sent.get("to_addr")) for sent in entry.get("sends") or []]
    moved += [("receive", got, got.get("from_addr"), address) for got in entry.get("receives") or []]
    raw = json.loads(json.dumps(entry, default=str))
    for number, (direction, part, from_address, to_address) in enumerate(moved):
        token = part.get("token_id")
        yield {
            "chain": entry["chain"], "tx_hash": entry["id"], "position": f"{address}/{direction}/{number}",
            "block_timestamp": _iso(entry["time_at"]), "address": address, "from_address": from_address,
            "to_address": to_address, "token_id": token,
            "token_symbol": (tokens.get(token) or {}).get("optimized_symbol") or (tokens.get(token) or {}).get("symbol") or token,
            "value": None if part.get("amount") is None else str(part["amount"]), "raw_json": raw,
        }  # fmt: skip


def _iso(second: int | float) -> str:
    return datetime.fromtimestamp(int(second), UTC).isoformat().replace("+00:00", "Z")
