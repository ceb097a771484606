"""The bundled dbt project on ClickHouse and Postgres: what it leaves on DuckDB, by every way that leads there."""

import os
import subprocess
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
from servers import USERS, Postgres
from test_warehouse import DAILY, FULL_REFRESH, PROJECT, Warehouse, assert_same, batch, batches, sample

from sluice.clickhouse_server import ClickHouseServer

pytest_plugins = ["servers"]

END = date(2022, 6, 11)
GAP = date(2022, 5, 20)
LOOKBACK = {"price_lookback_days": (END - GAP).days + 2}
COHORT = ["int_transfers_daily", "int_balances_daily", "int_supply_holders_daily", "int_validator_balances_daily"]


class OnPostgres(Warehouse):
    """In a database of its own."""

    target = "postgres"

    def __init__(self, folder: Path, server: Postgres):
        self.name = f"t_{uuid.uuid4().hex[:12]}"
        server.query(f"create database {self.name}")
        port = str(server.port)
        super().__init__(folder, SLUICE_PG_PORT=port, SLUICE_PG_USER="test", SLUICE_PG_DATABASE=self.name)

    def query(self, sql: str) -> list[tuple]:
        import psycopg2

        connection = psycopg2.connect(
            host="127.0.0.1", port=self.environment["SLUICE_PG_PORT"], user="test", dbname=self.name
        )
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()


class OnClickHouse(Warehouse):
    """In two databases of its own, as a user whose inserts are deduplicated wherever they can be: no run may mind."""

    target = "clickhouse"

    def __init__(self, folder: Path, server: ClickHouseServer):
        self.server, self.name = server, f"t_{uuid.uuid4().hex[:12]}"
        super().__init__(
            folder, SLUICE_CH_PORT=str(server.http_port), SLUICE_CH_USER="eager", SLUICE_CH_SCHEMA=self.name,
            DBT_ENV_SECRET_CH_PASSWORD=USERS["eager"].password, SLUICE_RAW_SCHEMA=f"{self.name}_raw",
        )  # fmt: skip
        profiles = self.project / "profiles.yml"
        modest = profiles.read_text()
        assert "insert_deduplicate: 0" in modest
        profiles.write_text(modest.replace("insert_deduplicate: 0", ""))

    def query(self, sql: str) -> list[tuple]:
        import clickhouse_connect

        for schema in ("raw", "analytics"):
            sql = sql.replace(f"{schema}.", f"{self.database_of(schema)}.")
            sql = sql.replace(f"'{schema}'", f"'{self.database_of(schema)}'")
        user = USERS["refresh"]
        with clickhouse_connect.get_client(
            port=self.server.http_port, username="refresh", password=user.password
        ) as client:
            if not sql.lstrip().startswith(("select", "from", "with")):
                client.command(sql, settings={"mutations_sync": 2})
                return []
            return client.query(sql).result_rows

    def database_of(self, schema: str) -> str:
        return f"{self.name}_raw" if schema == "raw" else self.name

    def close(self) -> None:
        super().close()
        for schema in ("raw", "analytics"):
            self.server.query(f"DROP DATABASE IF EXISTS {self.database_of(schema)}")


def comparable(rows: dict[str, Counter]) -> dict[str, Counter]:
    """Without the time zone that a driver puts on a time."""

    def plain(row: tuple) -> tuple:
        return tuple(value.replace(tzinfo=None) if isinstance(value, datetime) else value for value in row)

    return {name: Counter(plain(row) for row in table.elements()) for name, table in rows.items()}


@pytest.fixture(scope="module")
def engines(
    postgres: Postgres, clickhouse: ClickHouseServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Warehouse]]:
    """The sample and one full refresh of it, on each engine. A test leaves them as it found them."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("duckdb", "postgres", "clickhouse")}
    on_postgres, on_clickhouse = (
        OnPostgres(folders["postgres"], postgres),
        OnClickHouse(folders["clickhouse"], clickhouse),
    )
    engines = {"duckdb": Warehouse(folders["duckdb"]), "postgres": on_postgres, "clickhouse": on_clickhouse}
    try:
        with ThreadPoolExecutor() as together:
            list(together.map(lambda warehouse: warehouse.run(sample(END), FULL_REFRESH), engines.values()))
        yield engines
    finally:
        on_postgres.close()
        on_clickhouse.close()


@pytest.fixture(scope="module")
def on_postgres(engines: dict[str, Warehouse]) -> Warehouse:
    return engines["postgres"]


@pytest.fixture(scope="module")
def on_clickhouse(engines: dict[str, Warehouse]) -> Warehouse:
    return engines["clickhouse"]


def test_three_engines_make_the_same_rows_of_the_same_sample(engines):
    for schema in ("raw", "analytics"):
        rows = comparable(engines["duckdb"].rows(schema))
        for other in ("postgres", "clickhouse"):
            assert_same(rows, comparable(engines[other].rows(schema)))


def test_on_postgres_batches_leave_what_one_full_refresh_leaves(on_postgres):
    built = on_postgres.rows("analytics")
    balances = next(model for model in on_postgres.models() if model["name"] == "int_balances_daily")
    first, *rest = [batch(balances, variables) for variables in batches(balances, END, coarser=12)]
    on_postgres.run([*first, "--full-refresh"], *rest, rest[-1])
    assert_same(on_postgres.rows("analytics"), built)


@pytest.mark.long
def test_on_clickhouse_an_appended_month_is_there_twice_until_it_is_merged(on_clickhouse):
    built = on_clickhouse.rows("analytics")
    window = {"start_month": "2022-05-01", "end_month": "2022-05-01"}
    tables = [f"analytics.{name}" for name in COHORT]
    # A window of deduplication would swallow a repeated insert, and with it the rows that were to replace others.
    for table in tables:
        on_clickhouse.query(f"alter table {table} modify setting non_replicated_deduplication_window = 1000")

    before = [on_clickhouse.query(f"select count(*) from {table}") for table in tables]
    for name, table in zip(COHORT, tables, strict=True):
        on_clickhouse.run(batch({"name": name}, window))
        on_clickhouse.query(f"optimize table {table} partition '2022-05-01' final deduplicate")
        on_clickhouse.query(f"system stop merges {table}")
    assert_same(on_clickhouse.rows("analytics"), built)

    on_clickhouse.run(batch({"name": COHORT[0]}, window))
    may = "select count(*), count(distinct token, address, day) from analytics.int_transfers_daily where toStartOfMonth(day) = '2022-05-01'"
    [(rows, keys)] = on_clickhouse.query(may)
    assert rows == 2 * keys > 0
    for table in tables:
        on_clickhouse.query(f"system start merges {table}")
    operation = {"database": on_clickhouse.name, "table_name": COHORT[0], "partition": "2022-05-01"}
    on_clickhouse.run(["run-operation", "sluice.optimize_partition_final", "--args", str(operation)])
    assert on_clickhouse.query(may) == [(keys, keys)]
    assert [on_clickhouse.query(f"select count(*) from {table}") for table in tables] == before
    assert_same(on_clickhouse.rows("analytics"), built)


@pytest.mark.long
def test_daily_runs_on_clickhouse_take_back_what_the_source_takes_back(on_clickhouse):
    built, raw = on_clickhouse.rows("analytics"), on_clickhouse.rows("raw")
    earlier, later = END - timedelta(days=1), END + timedelta(days=1)
    for name in COHORT:
        on_clickhouse.query(f"alter table analytics.{name} modify setting non_replicated_deduplication_window = 1000")
    on_clickhouse.query(
        f"insert into raw.transfers values (toDateTime('{earlier} 12:00:00'), 'USDC', '0x{0:040}', '0x{1:040}', 5)"
    )
    on_clickhouse.run(DAILY)
    held = f"select day from analytics.int_balances_daily where address = '0x{1:040}' order by day"
    assert on_clickhouse.query(held) == [(earlier,), (END,)]

    on_clickhouse.run(sample(END, rewrite_from=str(earlier)), DAILY)
    assert_same(on_clickhouse.rows("raw"), raw)
    assert_same(on_clickhouse.rows("analytics"), built)

    on_clickhouse.run(sample(later), DAILY)
    daily = on_clickhouse.rows("analytics")
    on_clickhouse.run(FULL_REFRESH)
    assert_same(on_clickhouse.rows("analytics"), daily)
    on_clickhouse.run(sample(END), DAILY)
    assert_same(on_clickhouse.rows("analytics"), built)


@pytest.mark.long
@pytest.mark.parametrize("engine", ["postgres", "clickhouse"])
def test_a_gap_in_the_prices_shows_as_zeros_until_the_consumers_look_back_far_enough(engine, engines):
    warehouse = engines[engine]
    built = warehouse.rows("analytics")
    zeros = "select count(*) from analytics.int_balances_usd_daily where balance_usd = 0"
    select = ["run", "--select", "int_prices_daily+"]

    warehouse.query(f"delete from raw.prices where day = '{GAP}'")
    warehouse.run([*select, "--vars", str(LOOKBACK)])
    [(wrong,)] = warehouse.query(zeros)
    assert wrong == sum(row[2] == GAP for row in built["int_balances_daily"])

    warehouse.run(sample(END, rewrite_from=str(GAP)), select)
    assert warehouse.query(zeros) == [(wrong,)], "two days back do not reach the gap"
    warehouse.run([*select, "--vars", str(LOOKBACK)])
    assert warehouse.query(zeros) == [(0,)]
    assert_same(warehouse.rows("analytics"), built)


@pytest.mark.parametrize("engine", ["duckdb", pytest.param("clickhouse", marks=pytest.mark.long)])
@pytest.mark.parametrize(
    "arguments",
    [["plan-batches"], ["plan-refill", "--from-date", str(GAP), "--consumers", "int_prices_daily+"], ["plan-daily"]],
    ids=lambda arguments: arguments[0],
)
def test_no_guard_has_anything_to_say(engine, engines, arguments, tmp_path_factory):
    """Against its own rows, and on ClickHouse under the strategy that a batch's vars choose."""
    warehouse, work = engines[engine], tmp_path_factory.getbasetemp() / f"planned-{engine}"
    where = {
        "SLUICE_STATE_DIR": str(work / "state"),
        "SLUICE_LOG_DIR": str(work / "logs"),
        "DBT_TARGET": warehouse.target,
    }
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("DBT_", "SLUICE_"))}
    planned = subprocess.run(
        [PROJECT.parent / "bin" / arguments[0], *arguments[1:], "--project-dir", warehouse.project, "--json"],
        env=clean | warehouse.environment | where, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (planned.returncode, planned.stderr) == (0, "")
    assert planned.stdout.count('"type":"batch"') >= 10
