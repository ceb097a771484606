"""Own trades, deposits and withdrawals from an exchange: ascending windows, each read to its end before its STATE is written."""

from collections.abc import Generator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sluice import tap
from sluice.ccxt_client import Exchange, iso
from sluice.command import Context
from sluice.errors import misconfigured
from sluice.records import Record

TRADES, TRANSFERS = "raw_exchanges_trades", "raw_exchanges_transfers"
_TEXT = {"type": ["null", "string"]}
_DECIMAL = {"type": ["null", "string"], "format": "singer.decimal"}


def _stream(name: str, keys: list[str], properties: dict[str, Any]) -> dict[str, Any]:
    given = {
        "source": {"type": "string"}, "txid": {"type": "string"}, "datetime": {"type": "string", "format": "date-time"},
        **properties, "raw_json": {"type": ["null", "object"]},
    }  # fmt: skip
    return {
        "stream": name, "tap_stream_id": name, "key_properties": keys, "replication_key": "datetime",
        "replication_method": "INCREMENTAL", "schema": {"type": "object", "properties": given},
        "metadata": [{"breadcrumb": [], "metadata": {"selected": True, "inclusion": "available"}}],
    }  # fmt: skip


CATALOG = [
    _stream(TRADES, ["source", "txid"], {
        "base": _TEXT, "quote": _TEXT, "side": _TEXT, "amount": _DECIMAL, "price": _DECIMAL, "fee": _DECIMAL, "fee_currency": _TEXT,
    }),
    _stream(TRANSFERS, ["source", "kind", "txid"], {
        "kind": {"type": "string"}, "currency": _TEXT, "amount": _DECIMAL, "fee": _DECIMAL, "fee_currency": _TEXT, "status": _TEXT,
        "address": _TEXT, "tx_hash": _TEXT,
    }),
]  # fmt: skip
SETTLED = timedelta(days=1)  # a window that ended so long ago is complete: its end is the cursor


@dataclass(frozen=True)
class Options:
    """What is asked for. `start` and `end` make it a backfill, whose STATE is the one that was given.

    `symbols` and `transfers` are the markets and currencies to ask for one at a time; None among them: all at once.
    """

    exchange: str = "coinbase"
    source: str = ""
    symbols: list[str | None] = field(default_factory=lambda: [None])
    transfers: list[str | None] = field(default_factory=list)
    begin: datetime = datetime(2015, 1, 1, tzinfo=UTC)
    window: timedelta = timedelta(days=30)
    base_url: str | None = None
    start: datetime | None = None
    end: datetime | None = None


def options(config: dict[str, Any], start: str | None, end: str | None) -> Options:
    """From a config file and flags. Raises SluiceError (78, 2)."""
    known = {"exchange", "source", "symbols", "transfers", "start_date", "window_days", "base_url"}
    if unknown := set(config) - known:
        raise misconfigured(
            f"the config knows {', '.join(sorted(known))}, not {', '.join(sorted(unknown))}",
            code="tap_bad_config",
            hint="keys are read from TAP_EXCHANGE_API_KEY and TAP_EXCHANGE_SECRET, or the files that …_FILE name",
        )
    since, until = tap.period(start, end)
    exchange = config.get("exchange", "coinbase")
    return Options(
        exchange=exchange,
        source=config.get("source", exchange),
        symbols=config.get("symbols") or [None],
        transfers=[None] if config.get("transfers") is True else config.get("transfers") or [],
        begin=tap.moment(config.get("start_date", "2015-01-01"), "start_date"),
        window=timedelta(days=float(config.get("window_days", 30))),
        base_url=config.get("base_url"),
        start=since,
        end=until,
    )


def run(
    ctx: Context, wanted: Options, state: dict[str, Any], catalog: dict[str, Any], most_requests: int | None
) -> Generator[Record, None, int]:
    """Write what is new from the state on. Raises SluiceError: 1 at the cap, 69 when the exchange stays away, 78 without keys."""
    messages = tap.Messages(ctx.stdout)
    streams = [
        stream
        for stream in CATALOG
        if tap.is_selected(stream["stream"], catalog) and (stream["stream"] == TRADES or wanted.transfers)
    ]
    if not streams:
        ctx.log.warning("the catalog selects no stream that the config asks for")
        return 0
    requests = tap.Requests(most_requests)
    if ctx.dry_run:
        for stream in streams:
            begin = _begin(wanted, state, stream["stream"])
            ctx.log.info(
                "%s: %s from %s on, in windows of %s",
                wanted.exchange,
                stream["stream"],
                begin.isoformat(),
                wanted.window,
            )
        yield from ()
        return 0
    exchange = Exchange(
        wanted.exchange,
        wanted.source,
        requests,
        ctx.log,
        base_url=wanted.base_url,
        has_transfers=bool(wanted.transfers),
    )
    for stream in streams:
        messages.schema(stream)
    messages.flush()
    now = exchange.now(ctx.config.state_dir / "sync", [*wanted.symbols, *wanted.transfers])
    end = wanted.end or now + timedelta(milliseconds=1)  # fixed before the first request for records
    known = dict(state.get("bookmarks", {}))
    is_backfill = wanted.start is not None or wanted.end is not None
    try:
        for stream in streams:
            name = stream["stream"]
            for since, until in tap.windows(_begin(wanted, state, name), end, wanted.window):
                if name == TRADES:
                    records = exchange.trades(wanted.symbols, since, until)
                else:
                    records = exchange.transfers(wanted.transfers, since, until)
                for record in records:
                    messages.record(name, record)
                newest = tap.moment(records[-1]["datetime"], "datetime") if records else since
                known[name] = {"datetime": iso(until if until < end - SETTLED else max(since, newest))}
                messages.state(state if is_backfill else {**state, "bookmarks": dict(known)})
    finally:
        messages.flush()
        ctx.log.info("%d requests", requests.made)
    return 0


def _begin(wanted: Options, state: dict[str, Any], stream: str) -> datetime:
    known = state.get("bookmarks", {}).get(stream, {})
    if wanted.start or "datetime" not in known:
        return wanted.start or wanted.begin
    return tap.moment(known["datetime"], "the state's datetime")
