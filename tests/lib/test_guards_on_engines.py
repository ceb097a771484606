"""Each guard against the damage that it is there for: planned with real dbt, run on a real engine, refused, let through.

The pattern: the planner refuses; with --allow its batches run, and the rows show what would have happened; a near miss
is planned without a word.
"""

import dataclasses
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
from builders import FakeContext
from servers import USERS

from sluice import config, plan_batches, plan_refill
from sluice.clickhouse_server import ClickHouseServer
from sluice.dbt_engine.client import Engine
from sluice.errors import SluiceError
from sluice.plan_batches import Request
from sluice.records import Batch

pytest_plugins = ["servers"]
pytestmark = pytest.mark.usefixtures("lent_loader")

ROOT = Path(__file__).resolve().parents[2]
MONTHS = ["2024-01", "2024-02", "2024-03", "2024-04"]
SYMBOLS = ["ADA", "USDC", "sDAI"]
TODAY = datetime(2024, 4, 30, 12, tzinfo=UTC)
ONCE = {(month, symbol): 1 for month in MONTHS for symbol in SYMBOLS}

SOURCES = "sources: [{name: raw, schema: \"{{ 'guards_raw' if target.type == 'clickhouse' else 'raw' }}\", tables: [{name: entries}]}]"
ENTRIES = """
select symbol, day, amount from {{ source('raw', 'entries') }}
{{ sluice.apply_monthly_incremental_filter('day') }} and {{ sluice.symbol_filter('symbol') }}
"""
REST = {"name": "rest", "vars": {"symbol_exclude": "USDC"}}
USDC = {"name": "usdc", "vars": {"symbol": "USDC"}}
SPLIT = [REST, USDC]


def model(sql: str = ENTRIES, *, block: dict | None = None, **settings: Any) -> str:
    """A model in stages and windows from January 2024 on."""
    full_refresh = {"start_date": "2024-01-01", **(block or {})}
    meta = {"full_refresh": full_refresh, **settings.pop("meta", {})}
    given = {"materialized": "incremental", **settings, "meta": meta}
    return "{{ config(" + ", ".join(f"{key}={value!r}" for key, value in given.items()) + ") }}\n" + sql


class Shop:
    """A dbt project with the package of macros, one warehouse, and the planner upon both. `head` is the last plan."""

    head: Any

    def __init__(self, root: Path, models: dict[str, str], target: str, **files: str):
        self.root, self.engine = root, None
        files = {f"models/{name}.sql": sql for name, sql in models.items()} | {
            "models/sources.yml": SOURCES,
            "dbt_project.yml": "name: shop\nversion: '1.0.0'\nprofile: shop\nflags: {send_anonymous_usage_stats: false}\n"
            + files.pop("settings", ""),
            "packages.yml": f"packages: [{{local: {ROOT / 'sql/dbt'}}}]",
            "profiles.yml": f"shop: {{target: dev, outputs: {{dev: {target}}}}}",
            **files,
        }
        for path, text in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        (root / "dbt_packages").mkdir()
        (root / "dbt_packages/sluice").symlink_to(ROOT / "sql/dbt")
        self.config = dataclasses.replace(
            config.load(project_dir=root, profiles_dir=root),
            state_dir=root / "state",
            state_url=f"sqlite:{root / 'state' / 'state.sqlite'}",
            log_dir=root / "logs",
        )

    def plan(self, *select: str, allow: tuple[str, ...] = (), to: str | None = None, **asked: Any) -> list[Batch]:
        self.let_go()
        request = Request(
            list(select),
            [],
            None,
            asked.get("stages", []),
            asked.get("incremental_only", False),
            "{}",
            [*allow],
            asked.get("into_populated", "refuse"),
        )
        day = datetime.fromisoformat(to).date() if to else None
        plans = plan_batches.plan_batches(
            FakeContext(self.config, now=TODAY),
            request,
            to=day,
            resume=False,
            accept_drift=False,
            delay_s=0,
            most_added=5,
        )
        self.head, *batches = plans
        return batches

    def plan_refill(self, cohort: str, first: str, *allow: str) -> list[Batch]:
        """From a day on, the cohort alone."""
        self.let_go()
        request = plan_refill.Request(
            first, 0, cohort, None, "price_lookback_days", False, True, "one", "{}", [*allow]
        )  # fmt: skip
        plans = plan_refill.plan_refill(
            FakeContext(self.config, now=TODAY), request, today=TODAY.date(), resume=False, accept_drift=False
        )
        return [record for record in plans if isinstance(record, Batch)]

    def refusal(self, code: str, *select: str, **asked: Any) -> str:
        with pytest.raises(SluiceError) as caught:
            self.plan(*select, **asked)
        assert (caught.value.exit_code, caught.value.code) == (2, f"guard_{code.lower()}")
        assert f"--allow {code}" in (caught.value.hint or "")
        return caught.value.message

    def run(self, batches: list[Batch]) -> list[str]:
        """Run them in their order; the errors of those that failed."""
        self.engine = self.engine or Engine(
            project_dir=self.root, profiles_dir=self.root, target=None, cache_dir=self.root / "cache"
        )
        outcomes = [
            self.engine.run(
                batch_id=batch.batch_id,
                expect=batch.expect,
                vars=batch.vars,
                full_refresh=batch.full_refresh,
                log_path=self.root / "logs" / f"{batch.batch_id}.log",
                models=batch.expect,
                marker=None,
            )
            for batch in batches
        ]
        return [str(outcome.error) for outcome in outcomes if outcome.status != "ok"]

    def build(self, *select: str, **asked: Any) -> list[Batch]:
        """Plan and run, all well."""
        batches = self.plan(*select, **asked)
        assert self.run(batches) == []
        return batches

    def let_go(self) -> None:
        """So that others may open the database file, and have the loader."""
        if self.engine is not None:
            self.engine.cancel()
            self.engine.close()
            self.engine = None


class OnDuckDB(Shop):
    def __init__(self, root: Path, models: dict[str, str], **files: str):
        self.database = root / "shop.duckdb"
        super().__init__(root, models, f"{{type: duckdb, path: {self.database}, schema: main, threads: 1}}", **files)
        self.query("create schema raw")
        self.query("create table raw.entries (symbol varchar, day date, amount integer)")
        for month, symbol in ONCE:
            self.query(f"insert into raw.entries values ('{symbol}', '{month}-10', 1)")

    def query(self, sql: str) -> list[tuple]:
        self.let_go()
        with duckdb.connect(str(self.database)) as connection:
            return connection.execute(sql).fetchall()

    def rows(self, table: str) -> dict[tuple[str, str], int]:
        """Rows by month and symbol."""
        found = self.query(f"select strftime(day, '%Y-%m'), symbol, count(*) from {table} group by all")
        return {(month, symbol): count for month, symbol, count in found}


class OnClickHouse(Shop):
    def __init__(self, root: Path, models: dict[str, str], server: ClickHouseServer, name: str):
        self.server, self.name = server, name
        user = USERS["refresh"]
        super().__init__(
            root,
            models,
            f"{{type: clickhouse, host: 127.0.0.1, port: {server.http_port}, user: refresh, password: {user.password},"
            f" schema: {name}, threads: 1, use_lw_deletes: true, custom_settings: {{insert_deduplicate: 0}}}}",
        )
        for schema in (name, f"{name}_raw"):
            server.query(f"create database {schema}")
        self.fill()

    def fill(self, symbols: list[str] = SYMBOLS) -> None:
        self.server.query(f"drop table if exists {self.name}_raw.entries")
        self.server.query(
            f"create table {self.name}_raw.entries (symbol String, day Date, amount Int64) engine = MergeTree order by day"
        )
        rows = ", ".join(f"('{symbol}', '{month}-10', 1)" for month in MONTHS for symbol in symbols)
        self.server.query(f"insert into {self.name}_raw.entries values {rows}")

    def rows(self, table: str) -> dict[tuple[str, str], int]:
        text = self.server.query(
            f"select formatDateTime(day, '%Y-%m'), symbol, count() from {self.name}.{table} group by 1, 2 format TSV"
        )
        return {(month, symbol): int(n) for month, symbol, n in (line.split("\t") for line in text.splitlines())}


# -- DuckDB ------------------------------------------------------------------------------------------------

CUMULATIVE = """
select symbol, day, sum(amount) over (partition by symbol order by day)
    {%- if is_incremental() %} + coalesce((
        select max_by(b.balance, b.day) from {{ this }} as b where b.symbol = e.symbol and b.day < '{{ var("start_month") }}'
    ), 0){% endif %} as balance
from (""" + ENTRIES + ") as e"  # fmt: skip
# Each stage's month goes on from the sum of all stages' months before it.
FEEDING = """
select symbol, day, amount {%- if is_incremental() %} + (
        select coalesce(sum(b.running), 0) from {{ this }} as b where b.day < '{{ var("start_month") }}'
    ){% endif %} as running
from (""" + ENTRIES + ") as e"  # fmt: skip
APPEND = {"incremental_strategy": "append"}
KEYED = {"incremental_strategy": "delete+insert", "unique_key": ["symbol", "day"]}
ON_DUCKDB = {
    "as_table": model(materialized="table"),
    "rebuilt": model(full_refresh=True, **APPEND),
    "appended": model(block={"stages": SPLIT}, **APPEND),
    "keyed": model(**KEYED),
    "deaf": model("select symbol, day, amount from {{ source('raw', 'entries') }}", **APPEND),
    "nothing_to_delete_by": model(incremental_strategy="delete+insert"),
    "replaceable": model(incremental_strategy="X", unique_key=["symbol", "day"]).replace(
        "'X'", "'delete+insert' if var('replace_partitions', false) else 'append'"
    ),
    "balances": model(CUMULATIVE, **KEYED),
    "feeding": model(FEEDING, block={"stages": SPLIT}, **APPEND),
    "feeding_apart": model(FEEDING, block={"stages": [REST | {"batch_months": 2}, USDC]}, **APPEND),
    "hole": model(block={"stages": [{"name": "rest", "vars": {"symbol_exclude": "USDC,sDAI"}}, USDC]}, **APPEND),
    "unnamed": model(block={"stages": [{"name": "ada", "vars": {"symbol": "ADA"}}, USDC]}, **APPEND),
    "overlap": model(block={"stages": [REST, {"name": "coins", "vars": {"symbol": ["USDC", " ADA "]}}]}, **APPEND),
    "covered": model(block={"stages": [{"name": s, "vars": {"symbol": s}} for s in SYMBOLS]}, **APPEND),
    "late": model(block={"stages": [REST, USDC | {"start_date": "2024-03-01"}]}, **APPEND),
    "growing": model(
        block={
            "stages": [{"name": "ada", "vars": {"symbol": "ADA"}}],
            "enum_source": {"discovery_source": "entries", "key_column": "symbol"},
        },
        **APPEND,
    ),
}


@pytest.fixture(scope="module")
def duck(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnDuckDB]:
    shop = OnDuckDB(tmp_path_factory.mktemp("duck"), ON_DUCKDB)
    yield shop
    shop.let_go()


@pytest.fixture
def warned(heard: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    heard.set_level(logging.WARNING, "sluice")
    return heard


@pytest.mark.parametrize("name", ["as_table", "rebuilt"])
def test_g01_a_table_in_batches_keeps_its_last_window(duck: OnDuckDB, name: str) -> None:
    said = duck.refusal("G01", name)
    assert said.startswith(f"G01 table-batched: models/{name}.sql: model {name}, 2024-0")
    duck.build(name, allow=("G01",))
    assert duck.rows(name) == {("2024-04", symbol): 1 for symbol in SYMBOLS}


def test_g14_batches_that_are_all_alike_multiply_the_rows(duck: OnDuckDB, warned: pytest.LogCaptureFixture) -> None:
    duck.build("deaf")
    assert (
        "G14 ignored-vars: models/deaf.sql: model deaf: it does not read start_month, end_month: each of its 4 batches would "
        "write all rows, and they would be there 4 times"
    ) in warned.text
    assert set(duck.rows("deaf").values()) == {4}


def test_g01_lets_an_incremental_model_through(duck: OnDuckDB, warned: pytest.LogCaptureFixture) -> None:
    duck.build("keyed")
    assert duck.rows("keyed") == ONCE
    assert not warned.records


def test_g03_appending_again_doubles_the_months(duck: OnDuckDB) -> None:
    duck.build("appended")
    assert duck.rows("appended") == ONCE
    said = duck.refusal("G03", "appended", incremental_only=True)
    assert "model appended, stage rest, 2024-01: it would append to a month that holds 2 rows of it already" in said
    assert "and 7 more batches" in said
    duck.build("appended", incremental_only=True, allow=("G03",))
    assert set(duck.rows("appended").values()) == {2}


def test_g03_delete_insert_without_a_key_deletes_nothing(duck: OnDuckDB) -> None:
    duck.build("nothing_to_delete_by")
    duck.refusal("G03", "nothing_to_delete_by", incremental_only=True)
    duck.build("nothing_to_delete_by", incremental_only=True, allow=("G03",))
    assert set(duck.rows("nothing_to_delete_by").values()) == {2}


@pytest.mark.long
def test_g03_lets_through_a_stage_that_has_no_rows_yet_and_what_deletes_by_key(
    duck: OnDuckDB, warned: pytest.LogCaptureFixture
) -> None:
    duck.run(duck.plan("appended")[:4])  # the stage of the others only
    duck.build("appended", stages=["usdc"])
    assert duck.rows("appended") == ONCE
    duck.build("keyed", incremental_only=True)
    assert duck.rows("keyed") == ONCE
    assert not warned.records


@pytest.mark.long
def test_g03_into_populated_replaces_where_the_model_can(duck: OnDuckDB) -> None:
    duck.build("replaceable", "nothing_to_delete_by")
    duck.refusal("G03", "replaceable", incremental_only=True)
    duck.build("replaceable", incremental_only=True, into_populated="replace")
    assert duck.rows("replaceable") == ONCE
    said = duck.refusal("G03", "nothing_to_delete_by", incremental_only=True, into_populated="replace")
    assert "model nothing_to_delete_by" in said  # it does not read the var
    duck.build("replaceable", incremental_only=True, into_populated="allow")
    assert set(duck.rows("replaceable").values()) == {2}


def test_g05_a_month_written_again_leaves_the_later_ones_as_they_were(duck: OnDuckDB) -> None:
    duck.build("balances")
    try:
        duck.query("update raw.entries set amount = 100 where symbol = 'ADA' and day = '2024-02-10'")
        said = duck.refusal("G05", "balances", incremental_only=True, to="2024-02-29")
        assert "those from 2024-03 on would keep what they made of the old rows" in said
        duck.build("balances", incremental_only=True, to="2024-02-29", allow=("G05",))
        ada = "select balance from balances where symbol = 'ADA' order by day"
        assert [n for (n,) in duck.query(ada)] == [1, 101, 3, 4]
        duck.build("balances", incremental_only=True)  # to the current month: let through, and right
        assert [n for (n,) in duck.query(ada)] == [1, 101, 102, 103]
    finally:
        duck.query("update raw.entries set amount = 1")


@pytest.mark.long
def test_g05_stages_that_feed_each_other_go_month_by_month(duck: OnDuckDB) -> None:
    """An oracle: each row is its amount and all rows of the months before."""
    expected: dict[str, int] = {}
    for month in MONTHS:
        expected[month] = 1 + len(SYMBOLS) * sum(expected.values())
    right = {(month, symbol): n for month, n in expected.items() for symbol in SYMBOLS}
    batches = duck.build("feeding")
    assert [(b.stage, b.vars["start_month"]) for b in batches[:3]] == [
        ("rest", "2024-01-01"), ("usdc", "2024-01-01"), ("rest", "2024-02-01"),
    ]  # fmt: skip
    found = "select strftime(day, '%Y-%m'), symbol, running from "
    assert {(month, symbol): n for month, symbol, n in duck.query(found + "feeding")} == right
    by_stage = sorted(batches, key=lambda batch: batch.stage)  # as it was: stages before months
    assert duck.run(by_stage) == []
    assert {(month, symbol): n for month, symbol, n in duck.query(found + "feeding")} != right

    said = duck.refusal("G05", "feeding_apart")
    assert "it would read months that are not there yet" in said
    duck.build("feeding_apart", allow=("G05",))
    assert {(month, symbol): n for month, symbol, n in duck.query(found + "feeding_apart")} != right


def test_g06_what_no_stage_takes_is_lost(duck: OnDuckDB) -> None:
    assert "no stage takes symbol 'sDAI'" in duck.refusal("G06", "hole")
    duck.build("hole", allow=("G06",))
    assert {symbol for _, symbol in duck.rows("hole")} == {"ADA", "USDC"}
    assert "no stage takes symbol 'sDAI'" in duck.refusal("G06", "unnamed")  # the warehouse has it
    duck.build("unnamed", allow=("G06",))
    assert {symbol for _, symbol in duck.rows("unnamed")} == {"ADA", "USDC"}


def test_g06_lets_through_stages_that_name_all_that_there_is(duck: OnDuckDB, warned: pytest.LogCaptureFixture) -> None:
    duck.build("covered")
    assert duck.rows("covered") == ONCE
    assert not warned.records


def test_g06_stages_that_grow_leave_nothing_out(duck: OnDuckDB, warned: pytest.LogCaptureFixture) -> None:
    batches = duck.build("growing")
    assert [batch.stage for batch in batches[::4]] == ["ada", "USDC", "sDAI"]
    assert duck.rows("growing") == ONCE
    assert [record.getMessage().split(":")[0] for record in warned.records] == [
        "growing", "growing"
    ]  # said, and no guard has anything to say  # fmt: skip
    assert duck.head.models[0].added_stages == ["USDC", "sDAI"]


def test_g07_what_two_stages_take_is_there_twice(duck: OnDuckDB, warned: pytest.LogCaptureFixture) -> None:
    said = duck.refusal("G07", "overlap")
    assert "stages rest and coins both take symbol 'ADA': its rows would be there 2 times" in said
    duck.build("overlap", allow=("G07",))
    assert {symbol: n for (_, symbol), n in duck.rows("overlap").items()} == {"ADA": 2, "USDC": 1, "sDAI": 1}
    warned.clear()
    duck.build("appended")  # near miss: what one excludes the other takes
    assert duck.rows("appended") == ONCE
    assert not warned.records


def test_g08_rows_before_a_stages_start_are_lost(duck: OnDuckDB, warned: pytest.LogCaptureFixture) -> None:
    said = duck.refusal("G08", "late")
    assert (
        "model late, stage usdc, 2024-03: it starts with 2024-03, and entries has rows of it from 2024-01-10 on" in said
    )
    duck.build("late", allow=("G08",))
    assert ("2024-01", "USDC") not in duck.rows("late")
    assert ("2024-01", "ADA") in duck.rows("late")
    warned.clear()
    try:
        duck.query("delete from raw.entries where symbol = 'USDC' and day < '2024-03-01'")
        duck.build("late")  # near miss: it begins with its first row
        assert not warned.records
    finally:
        duck.query("insert into raw.entries values ('USDC', '2024-01-10', 1), ('USDC', '2024-02-10', 1)")


def test_g13_a_refill_of_what_was_never_built_leaves_the_gap_alone(
    duck: OnDuckDB, warned: pytest.LogCaptureFixture
) -> None:
    duck.query("drop table if exists keyed")
    with pytest.raises(SluiceError, match=r"G13 never-built: models/keyed.sql: model keyed, 2024-03: its table is not"):
        duck.plan_refill("keyed", "2024-03-10")
    assert duck.run(duck.plan_refill("keyed", "2024-03-10", "G13")) == []
    assert {month for month, _ in duck.rows("keyed")} == {"2024-03", "2024-04"}
    warned.clear()
    duck.build("keyed")
    assert duck.run(duck.plan_refill("keyed", "2024-03-10")) == []  # near miss: it is there
    assert duck.rows("keyed") == ONCE
    assert "G13" not in warned.text


YAML_VAR = """
models:
  - name: by_yaml
    config:
      incremental_strategy: "{{ 'append' if var('start_month', none) is none else 'delete+insert' }}"
"""
KEPT_MANIFEST = """
import json, sys
from dbt.cli.main import dbtRunner
flags = ["--quiet", "--no-version-check", "--project-dir", sys.argv[1], "--profiles-dir", sys.argv[1]]
manifest = dbtRunner().invoke([*flags[:2], "parse", *flags[2:]]).result
for vars in json.loads(sys.argv[2]):
    assert dbtRunner(manifest=manifest).invoke([*flags[:2], "run", *flags[2:], "--vars", json.dumps(vars)]).success
"""


@pytest.mark.long
def test_g11_and_g12_yaml_is_rendered_once_and_hooks_are_paid_each_time(
    tmp_path: Path, warned: pytest.LogCaptureFixture
) -> None:
    hooks = (
        'on-run-start: "create table if not exists paid (run varchar)"\non-run-end: "insert into paid values (\'x\')"\n'
    )
    by_yaml = model(unique_key=["symbol", "day"])
    shop = OnDuckDB(tmp_path, {"by_yaml": by_yaml}, settings=hooks, **{"models/by_yaml.yml": YAML_VAR})
    said = shop.refusal("G11", "by_yaml")
    assert "its var start_month is read in models/by_yaml.yml" in said

    # The damage: a parse that is kept appends the month again that the config, rendered now, would replace.
    windows = [{"start_month": "2024-01-01", "end_month": "2024-01-01"}] * 2
    subprocess.run([sys.executable, "-c", KEPT_MANIFEST, tmp_path, json.dumps(windows)], check=True, cwd=tmp_path)
    assert shop.rows("by_yaml") == {("2024-01", symbol): 2 for symbol in SYMBOLS}

    # Allowed, each batch is parsed anew: right, and the hooks are paid by each.
    shop.query("delete from paid")
    batches = shop.plan("by_yaml", allow=("G11",), to="2024-02-29")
    assert shop.run(batches) == []
    assert shop.rows("by_yaml") == {key: 1 for key in ONCE if key[0] < "2024-03"}
    assert shop.query("select count(*) from paid") == [(2,)]
    shop.let_go()


# -- ClickHouse -------------------------------------------------------------------------------------------


def overwriting(partition_by: str, **settings: Any) -> str:
    """The strategy is insert_overwrite under a batch's vars only: the manifest knows the other branch."""
    text = model(
        engine="MergeTree()", order_by="(symbol, day)", partition_by=partition_by, incremental_strategy="X", **settings
    )
    return text.replace("'X'", "'insert_overwrite' if var('start_month', none) else 'append'")


REPLACING = {"engine": "ReplacingMergeTree()", "incremental_strategy": "append", "order_by": "(symbol, day)"}
BY_MONTH = {"partition_by": "toStartOfMonth(day)"}
ON_CLICKHOUSE = {
    "by_year": overwriting("toYear(day)"),
    "by_month": overwriting("toStartOfMonth(day)"),
    "staged_by_month": overwriting("toStartOfMonth(day)", block={"stages": SPLIT}),
    "staged_by_both": overwriting("(toStartOfMonth(day), symbol)", block={"stages": SPLIT}),
    "held": model(**REPLACING, **BY_MONTH),
    "held_plain": model(**(REPLACING | {"engine": "MergeTree()"}), **BY_MONTH),
    "held_sums": model(
        "select symbol, day, sum(amount) as amount from {{ ref('held') }}"
        " {{ sluice.apply_monthly_incremental_filter('day') }} group by symbol, day",
        **REPLACING, **BY_MONTH,
    ),
    "held_peaks": model(
        "select symbol, day, max(amount) as amount from {{ ref('held') }}"
        " {{ sluice.apply_monthly_incremental_filter('day') }} group by symbol, day",
        **REPLACING, **BY_MONTH,
    ),
    "by_day": model(
        "select e.symbol as symbol, e.day + n.number as day, e.amount as amount from {{ source('raw', 'entries') }} as e,"
        " numbers(31) as n"
        " {{ sluice.apply_monthly_incremental_filter('e.day + n.number') }}",
        block={"batch_months": 4}, **REPLACING, partition_by="day",
    ),
    "by_day_in_quarters": model(block={"batch_months": 3}, **REPLACING, partition_by="toDate(day)"),
    "moving": model(
        "select symbol, amount, day from {{ source('raw', 'entries') }} {{ sluice.apply_monthly_incremental_filter('day') }}",
        **(REPLACING | {"order_by": "symbol"}), **BY_MONTH,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def house(clickhouse: ClickHouseServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnClickHouse]:
    shop = OnClickHouse(tmp_path_factory.mktemp("house"), ON_CLICKHOUSE, clickhouse, "guards")
    yield shop
    shop.let_go()
    for schema in ("guards", "guards_raw"):
        clickhouse.query(f"drop database {schema} sync")


@pytest.mark.long
def test_g02_overwriting_a_year_with_a_month_leaves_the_last_month(house: OnClickHouse) -> None:
    said = house.refusal("G02", "by_year")
    assert "one of toYear(day) reaches beyond the window" in said
    house.build("by_year", allow=("G02",))
    assert house.rows("by_year") == {("2024-04", symbol): 1 for symbol in SYMBOLS}


@pytest.mark.long
def test_g02_overwriting_a_month_with_a_stage_leaves_the_last_stage(house: OnClickHouse) -> None:
    said = house.refusal("G02", "staged_by_month")
    assert "holds all stages: the rows of usdc would be gone" in said
    house.build("staged_by_month", allow=("G02",))
    assert {symbol for _, symbol in house.rows("staged_by_month")} == {"USDC"}


@pytest.mark.long
@pytest.mark.parametrize("name", ["by_month", "staged_by_both"])
def test_g02_lets_whole_partitions_through(house: OnClickHouse, name: str, warned: pytest.LogCaptureFixture) -> None:
    house.build(name)
    assert house.rows(name) == ONCE
    assert not warned.records


@pytest.mark.long
def test_g03_lets_through_what_merges_on_clickhouse_and_not_what_does_not(house: OnClickHouse) -> None:
    house.build("held", "held_plain")
    house.refusal("G03", "held_plain", incremental_only=True)
    house.build("held_plain", incremental_only=True, allow=("G03",))
    house.build("held", incremental_only=True)
    for table in ("held", "held_plain"):
        house.server.query(f"optimize table guards.{table} final")
    assert set(house.rows("held_plain").values()) == {2}
    assert house.rows("held") == ONCE


def test_g04_a_sum_beside_an_append_is_doubled_for_good(house: OnClickHouse, warned: pytest.LogCaptureFixture) -> None:
    house.build("held", "held_sums", "held_peaks")
    said = house.refusal("G04", "held", "held_sums", incremental_only=True)
    assert "model held_sums, 2024-01: it adds up held, to which the same wave appends" in said
    warned.clear()
    house.build("held", "held_peaks", incremental_only=True)  # near miss: the greatest of two copies is the same
    assert not warned.records
    house.build("held", "held_sums", incremental_only=True, allow=("G04",))
    for table in ("held", "held_sums", "held_peaks"):
        house.server.query(f"optimize table guards.{table} final")
    assert house.rows("held") == house.rows("held_sums") == ONCE
    assert house.server.query("select distinct amount from guards.held").split() == ["1"]
    assert house.server.query("select distinct amount from guards.held_peaks").split() == ["1"]
    assert "1" not in house.server.query("select distinct amount from guards.held_sums").split()


@pytest.mark.long
def test_g09_an_insert_into_too_many_partitions_fails(house: OnClickHouse, warned: pytest.LogCaptureFixture) -> None:
    said = house.refusal("G09", "by_day")
    assert "its insert would write 121 partitions (day), and clickhouse takes 100" in said
    (error,) = house.run(house.plan("by_day", allow=("G09",)))
    assert "Too many partitions" in error
    warned.clear()
    house.build("by_day_in_quarters")
    assert house.rows("by_day_in_quarters") == ONCE
    assert not warned.records


@pytest.mark.long
def test_g10_a_row_that_moves_to_another_partition_is_there_twice(house: OnClickHouse) -> None:
    said = house.refusal("G10", "moving")
    assert "a row whose day changes goes to another partition and is there twice, for good" in said
    house.plan("held")  # near miss: day is part of the sorting key
    house.build("moving", allow=("G10",))
    house.server.query("optimize table guards.moving final")
    counts = house.server.query("select symbol, count() from guards.moving group by symbol order by symbol format TSV")
    assert counts.split() == ["ADA", "4", "USDC", "4", "sDAI", "4"]  # one key, and a row in each partition


@pytest.mark.long
def test_g02_lets_a_refill_of_whole_months_through(house: OnClickHouse) -> None:
    house.build("staged_by_month", allow=("G02",))  # which leaves the last stage: what a refill mends
    assert house.run(house.plan_refill("staged_by_month", "2024-03-10")) == []
    assert {key for key in house.rows("staged_by_month") if key[0] >= "2024-03"} == {
        key for key in ONCE if key[0] >= "2024-03"
    }
