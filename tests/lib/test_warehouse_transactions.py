"""The third domain of the bundled project: what was synced, unified, day by day; and nothing while nothing was synced."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from servers import LONG_ENGINES, Postgres
from taps import AMOUNT, opened, record, schema
from test_warehouse import Warehouse
from test_warehouse_engines import OnClickHouse, OnPostgres

from sluice.clickhouse_server import ClickHouseServer
from sluice.profiles import Credentials

pytest_plugins = ["servers"]

RUN = ["build", "--select", "tag:transactions"]
TEXT = {"type": ["null", "string"]}
TIME = {"type": "string", "format": "date-time"}
TRADES = {name: TEXT for name in ("base", "quote", "side", "fee_currency")} | {
    "source": {"type": "string"}, "txid": {"type": "string"}, "datetime": TIME, "amount": AMOUNT, "price": AMOUNT, "fee": AMOUNT,
}  # fmt: skip
MOVEMENTS = {name: TEXT for name in ("currency", "fee_currency", "status", "address", "tx_hash")} | {
    "source": {"type": "string"}, "kind": {"type": "string"}, "txid": {"type": "string"}, "datetime": TIME, "amount": AMOUNT,
    "fee": AMOUNT,
}  # fmt: skip
TRANSFERS = {name: TEXT for name in ("address", "from_address", "to_address", "token_symbol")} | {
    "chain": {"type": "string"}, "tx_hash": {"type": "string"}, "position": {"type": "string"}, "block_timestamp": TIME, "value": AMOUNT,
}  # fmt: skip


@pytest.fixture(params=["duckdb", *LONG_ENGINES])
def warehouse(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Warehouse]:
    if request.param == "duckdb":
        yield Warehouse(tmp_path)
        return
    server: Postgres | ClickHouseServer = request.getfixturevalue(request.param)
    warehouse = OnPostgres(tmp_path, server) if isinstance(server, Postgres) else OnClickHouse(tmp_path, server)
    yield warehouse
    warehouse.close()


def credentials(warehouse: Warehouse) -> Credentials:
    """Where sync-cursor loads to, for dbt to read."""
    if isinstance(warehouse, OnPostgres):
        fields = {"host": "127.0.0.1", "port": int(warehouse.environment["SLUICE_PG_PORT"]), "user": "test"}
        return Credentials("postgres", "w", "postgres", warehouse.name, "raw", fields=fields)
    if isinstance(warehouse, OnClickHouse):
        fields = {"host": "127.0.0.1", "port": warehouse.server.http_port, "user": "eager"}
        fields["password"] = warehouse.environment["DBT_ENV_SECRET_CH_PASSWORD"]
        return Credentials("clickhouse", "w", "clickhouse", None, warehouse.database_of("raw"), fields=fields)
    return Credentials(
        "duckdb", "w", "duckdb", warehouse.database.stem, "raw", fields={"path": str(warehouse.database)}
    )


def trade(txid: str, day: str, side: str, amount: str, **more: str) -> dict:
    fields = {"source": "cb", "txid": txid, "datetime": f"{day}T23:59:59Z", "base": "BTC", "quote": "USD", "side": side,
              "amount": amount, "price": "100", "fee": "1", "fee_currency": "USD"}  # fmt: skip
    return record("raw_exchanges_trades", **(fields | more))


def transfer(tx_hash: str, day: str, to_address: str, value: str) -> dict:
    return record(
        "raw_onchain_transfers", chain="eth", tx_hash=tx_hash, position="me/send/0", block_timestamp=f"{day}T00:00:00Z",
        address="me", to_address=to_address, token_symbol="ETH", value=value,
    )  # fmt: skip


def movement(kind: str, txid: str, day: str, amount: str, status: str = "ok") -> dict:
    return record(
        "raw_exchanges_transfers", source="cb", kind=kind, txid=txid, datetime=f"{day}T12:00:00Z", currency="EUR", amount=amount,
        fee="0.5", fee_currency="EUR", status=status,
    )  # fmt: skip


def test_what_was_synced_becomes_transactions_and_balances(warehouse: Warehouse, tmp_path: Path) -> None:
    warehouse.run(RUN)
    assert warehouse.query("select count(*) from analytics.daily_balances") == [(0,)]

    trades = schema(TRADES, stream="raw_exchanges_trades", keys=["source", "txid"])
    transfers = schema(TRANSFERS, stream="raw_onchain_transfers", keys=["chain", "tx_hash", "position"])
    movements = schema(MOVEMENTS, stream="raw_exchanges_transfers", keys=["source", "kind", "txid"])
    place = credentials(warehouse)
    with opened(place, tmp_path, place.schema) as source:
        source.load(trades, trade("1", "2026-01-01", "buy", "2"), trade("2", "2026-01-02", "sell", "0.5"))
        source.load(
            movements,
            movement("deposit", "1", "2026-01-01", "9"),
            movement("withdrawal", "1", "2026-01-02", "4", "pending"),
        )
        source.load(transfers, transfer("0x1", "2026-01-01", "me", "3"), transfer("0x2", "2026-01-03", "you", "1"))
    warehouse.run(RUN)
    with opened(place, tmp_path, place.schema) as source:  # one changed, one late
        source.load(trades, trade("2", "2026-01-02", "sell", "1"), trade("0", "2025-12-31", "buy", "1"))
        source.load(movements, movement("withdrawal", "1", "2026-01-02", "4"))
    warehouse.run(RUN)

    rows = warehouse.query("select date, token, balance from analytics.daily_balances order by token, date")
    assert [(day, token, round(float(balance), 6)) for day, token, balance in rows] == [
        (date(2025, 12, 31), "BTC", 1.0), (date(2026, 1, 1), "BTC", 3.0), (date(2026, 1, 2), "BTC", 2.0),
        (date(2026, 1, 1), "ETH", 3.0), (date(2026, 1, 3), "ETH", 2.0),
        (date(2026, 1, 1), "EUR", 8.5), (date(2026, 1, 2), "EUR", 4.0),
        (date(2025, 12, 31), "USD", -101.0), (date(2026, 1, 1), "USD", -302.0), (date(2026, 1, 2), "USD", -203.0),
    ]  # fmt: skip
    assert len(warehouse.query("select txid from analytics.tx_unified")) == 7
