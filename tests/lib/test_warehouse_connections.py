"""One behaviour on real DuckDB, Postgres and ClickHouse: what is bound, quoted, tagged, bounded, and how it fails."""

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from sluice import signals
from sluice.clickhouse_server import ClickHouseServer
from sluice.errors import BUSY, CONFIG, REFUSED, UNAVAILABLE, SluiceError
from sluice.profiles import Credentials
from sluice.signals import Interrupted
from sluice.warehouse import Warehouse, WarehouseError, connect, with_placeholders

pytest_plugins = ["servers"]

HOSTILE = [
    "x'; drop table canary; --", 'a"b', "a`b", "a\\b", "back\\", "a\\'b", "$since", "%(since)s", "%s", "{since:String}", "{{ 7 }}",
    "a\nb", "a\tb", "--", "/* */", "$$", "日本", "😀", " ", "select", "a.b", "?", ":x", "\\N", "a;b",
]  # fmt: skip
TYPES = {"duckdb": "integer", "postgres": "integer", "clickhouse": "Int32"}
SLOW = {
    "duckdb": "select sum(a.range * b.range % 7) from range(10000000) a, range(10000000) b",
    "postgres": "select pg_sleep(60)",
    "clickhouse": "select sum(sipHash64(number)) from numbers(1000000000000)",
}


@pytest.fixture
def warehouse(target: Credentials) -> Iterator[Warehouse]:
    with connect(target, tag="test run-1") as warehouse:
        yield warehouse


def create(warehouse: Warehouse, table: str, rows: str = "select 1 as id, 'a' as name") -> None:
    engine = " engine = MergeTree order by tuple()" if warehouse.adapter == "clickhouse" else ""
    warehouse.execute(f"create table {table}{engine} as {rows}")


def named(warehouse: Warehouse, name: str) -> str:
    return warehouse.relation(warehouse.credentials.database, warehouse.credentials.schema, name)


# -- values and names -------------------------------------------------------------------------------------


def test_values_come_back_as_they_were(warehouse: Warehouse):
    values: list[Any] = [*HOSTILE, "", 0, -5, 1 << 62, 1.5, True, False, date(1970, 1, 1), date(2149, 6, 6)]
    for value in values:
        [(found,)] = warehouse.rows("select $value", {"value": value})
        assert found == value
        assert isinstance(found, type(value)) or isinstance(value, float)


def test_null_and_times(warehouse: Warehouse):
    assert warehouse.rows("select $a is null", {"a": None})[0][0] in (True, 1)
    moment = datetime(2026, 4, 1, 12, 30, tzinfo=UTC)
    found = warehouse.value("select $at", {"at": moment})
    assert found.replace(tzinfo=found.tzinfo or UTC) == moment


def test_a_list_of_values(warehouse: Warehouse):
    create(warehouse, named(warehouse, "t"), "select 'x''y' as name union all select 'z'")
    test = {"duckdb": "name = any($names)", "postgres": "name = any($names)", "clickhouse": "has($names, name)"}[
        warehouse.adapter
    ]
    assert warehouse.rows(f"select name from {named(warehouse, 't')} where {test}", {"names": ["x'y", "\\"]}) == [
        ("x'y",)
    ]


def test_names_are_names_and_nothing_else(warehouse: Warehouse):
    create(warehouse, named(warehouse, "canary"))
    for name in HOSTILE:
        create(warehouse, named(warehouse, name), f"select 1 as {warehouse.quote(name)}")
        assert warehouse.value(f"select {warehouse.quote(name)} from {named(warehouse, name)}") == 1
    found = warehouse.rows(
        "select table_name from information_schema.tables where table_schema = $schema",
        {"schema": warehouse.credentials.schema},
    )
    assert sorted(name for (name,) in found) == sorted([*HOSTILE, "canary"])


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_names_that_cannot_be(warehouse: Warehouse, name: str):
    with pytest.raises(SluiceError) as caught:
        warehouse.quote(name)
    assert (caught.value.exit_code, caught.value.code) == (REFUSED, "warehouse_bad_name")


def test_postgres_would_cut_off_a_long_name(postgres_target: Credentials):
    with connect(postgres_target, tag="t") as warehouse:
        assert warehouse.quote("x" * 63)
        with pytest.raises(SluiceError, match="63 bytes"):
            warehouse.quote("ä" * 32)


def test_clickhouse_dates_that_would_saturate(clickhouse_target: Credentials):
    with connect(clickhouse_target, tag="t") as warehouse:
        with pytest.raises(SluiceError, match="2149-06-06"):
            warehouse.rows("select $day", {"day": date(2149, 6, 7)})


def test_placeholders_only_where_a_value_can_be():
    sql = """select '$a', "$a", `$a`, $a -- $a\n, 'it''s $a', /* $a */ $a, $b$, $ab, '\\' $a'"""
    assert with_placeholders(sql, {"a": 1}, lambda name: "?") == (
        """select '$a', "$a", `$a`, ? -- $a\n, 'it''s $a', /* $a */ ?, $b$, $ab, '\\' $a'"""
    )
    with pytest.raises(ValueError, match="since"):
        with_placeholders("select 1", {"since": 1}, lambda name: name)


# -- who asks, and for how long ---------------------------------------------------------------------------


def test_statements_are_tagged(
    clickhouse: ClickHouseServer, clickhouse_target: Credentials, postgres_target: Credentials
):
    tag = "optimize-partitions 0192-'quoted"
    with connect(postgres_target, tag=tag) as warehouse:
        assert warehouse.value("select application_name from pg_stat_activity where pid = pg_backend_pid()") == tag
    with connect(clickhouse_target, tag=tag) as warehouse:
        assert warehouse.value("select 41 + 1") == 42
        warehouse.execute("create table t (x Int8) engine = Memory".replace(" t ", f" {named(warehouse, 't')} "))
        warehouse.execute("system flush logs")
        kinds = warehouse.rows(
            "select distinct query_kind from system.query_log where log_comment = $tag and query_id like 'sluice-%'",
            {"tag": tag},
        )
        assert {"Select", "Create"} <= {kind for (kind,) in kinds}
        ids = warehouse.rows(
            "select count(), uniqExact(query_id) from system.query_log where log_comment = $tag and type = 2",
            {"tag": tag},
        )
        assert ids[0][0] == ids[0][1] >= 2


def test_a_slow_statement_is_stopped(warehouse: Warehouse):
    began = time.monotonic()
    with pytest.raises(WarehouseError) as caught:
        warehouse.rows(SLOW[warehouse.adapter], timeout_s=0.5)
    assert time.monotonic() - began < 4
    assert (caught.value.code, caught.value.exit_code, caught.value.error_class) == (
        "warehouse_timeout",
        UNAVAILABLE,
        "transient",
    )
    assert warehouse.value("select 1") == 1  # the connection is fit for more


def test_a_stop_signal_interrupts_a_statement(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(signals, "_pending", None)
    before = [signal.getsignal(signum) for signum in (*signals.STOPPING, signal.SIGPIPE)]
    signals.install()
    try:
        threading.Timer(0.4, os.kill, (os.getpid(), signal.SIGTERM)).start()
        began = time.monotonic()
        with pytest.raises(Interrupted):
            warehouse.rows(SLOW[warehouse.adapter])
        assert time.monotonic() - began < 4
    finally:
        for signum, handler in zip((*signals.STOPPING, signal.SIGPIPE), before, strict=True):
            signal.signal(signum, handler)
        monkeypatch.setattr(signals, "_pending", None)
    if warehouse.adapter == "clickhouse":
        assert (
            warehouse.value(
                "select count() from system.processes where query like '%numbers(1000000000000)%' and not is_cancelled"
            )
            == 1
        )
    if warehouse.adapter == "postgres":
        assert (
            warehouse.value(
                "select count(*) from pg_stat_activity where query like '%pg_sleep(60)%' and state = 'active'"
            )
            == 1
        )


def test_reading_only(target: Credentials):
    with connect(target, tag="t") as writer:
        create(writer, named(writer, "t"))
    with connect(target, tag="t", read_only=True) as reader:
        assert reader.value(f"select count(*) from {named(reader, 't')}") == 1
        with pytest.raises(WarehouseError):
            create(reader, named(reader, "u"))
        with pytest.raises(WarehouseError):
            reader.execute(f"drop table {named(reader, 't')}")


def test_a_user_who_may_change_no_setting_can_still_read(clickhouse_target: Credentials):
    reader = dataclasses.replace(
        clickhouse_target, fields={**clickhouse_target.fields, "user": "reader", "password": "reader"}
    )
    with connect(reader, tag="t", read_only=True) as warehouse:
        assert warehouse.value("select $x", {"x": 5}) == 5


def test_all_or_nothing(target: Credentials):
    with connect(target, tag="t") as warehouse:
        if not warehouse.is_transactional:
            with pytest.raises(TypeError), warehouse.transaction():
                pass
            return
        create(warehouse, named(warehouse, "t"))

        def half() -> None:
            with warehouse.transaction():
                warehouse.execute(f"delete from {named(warehouse, 't')}")
                warehouse.execute("select no_such_column")

        with pytest.raises(WarehouseError):
            half()
        assert warehouse.value(f"select count(*) from {named(warehouse, 't')}") == 1
        with warehouse.transaction():
            warehouse.execute(f"delete from {named(warehouse, 't')}")
        assert warehouse.value(f"select count(*) from {named(warehouse, 't')}") == 0


# -- failures ---------------------------------------------------------------------------------------------


def test_a_failing_statement_is_permanent(warehouse: Warehouse):
    with pytest.raises(WarehouseError) as caught:
        warehouse.rows("select nope from nowhere")
    assert (caught.value.exit_code, caught.value.error_class, caught.value.code) == (
        UNAVAILABLE,
        "permanent",
        "warehouse_error",
    )
    assert caught.value.number in (60, "42P01", "CatalogException")
    assert f"target {warehouse.credentials.target}" in caught.value.message
    assert "\n" not in caught.value.message


def test_classes_are_those_of_the_table(clickhouse_target: Credentials):
    tiny = dataclasses.replace(
        clickhouse_target, fields={**clickhouse_target.fields, "user": "tiny", "password": "tiny"}
    )
    with connect(tiny, tag="t") as warehouse:
        with pytest.raises(WarehouseError) as caught:
            warehouse.rows("select groupArray(number) from numbers(100000000)")
        assert (caught.value.number, caught.value.error_class) == (241, "too_big")
        with pytest.raises(WarehouseError) as caught:
            warehouse.rows(
                "select sleepEachRow(1) from numbers(9)", settings={"max_execution_time": 1, "max_block_size": 1}
            )
        assert (caught.value.number, caught.value.error_class) == (159, "transient")


@pytest.mark.parametrize("change", [{"port": 1}, {"host": "no.such.host.invalid"}, {"password": "wrong-password"}])
def test_no_connection(clickhouse_target: Credentials, postgres_target: Credentials, change: dict):
    for target in (clickhouse_target, postgres_target):
        if target is postgres_target and "password" in change:
            continue  # its server asks nobody
        bad = dataclasses.replace(target, fields={**target.fields, **change, "connect_timeout": 2})
        with pytest.raises(WarehouseError) as caught:
            connect(bad, tag="t")
        assert (caught.value.exit_code, caught.value.code, caught.value.hint) == (
            UNAVAILABLE,
            "warehouse_away",
            "dbt debug",
        )
        assert caught.value.error_class == ("permanent" if "password" in change else "transient")
        assert not any(secret in str(caught.value) for secret in ("wrong-password", "s3cret-password", "unasked"))


def test_a_server_that_is_killed_is_away(tmp_path: Path):
    with ClickHouseServer(tmp_path) as server:
        target = Credentials(
            "clickhouse", "p", "t", None, "default", fields={"host": "127.0.0.1", "port": server.http_port}
        )
        warehouse = connect(target, tag="t")
        threading.Timer(0.4, server.kill).start()
        with pytest.raises(WarehouseError) as caught:
            warehouse.execute(
                "create table t engine = Memory as select sleepEachRow(0.5) from numbers(100)",
                settings={"max_block_size": 1},
            )
        assert caught.value.error_class == "transient"
        warehouse.close()


def test_a_statement_is_sent_once(recorder: Any, clickhouse_target: Credentials):
    through = dataclasses.replace(clickhouse_target, fields={**clickhouse_target.fields, "port": recorder.port})
    with connect(through, tag="t") as warehouse:
        recorder.cut = "INSERT"
        with pytest.raises(WarehouseError) as caught:
            warehouse.execute("INSERT INTO FUNCTION null('x Int8') SELECT 1")
    assert caught.value.error_class == "transient"
    assert len([sql for sql in recorder.statements if "INSERT" in sql]) == 1


def test_a_locked_file_is_waited_for(duckdb_target: Credentials):
    held = subprocess.Popen(
        [sys.executable, "-c", f"import duckdb; c = duckdb.connect({duckdb_target.get('path')!r}); print(1, flush=True); input()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert held.stdout
    assert held.stdin
    held.stdout.readline()
    with pytest.raises(WarehouseError) as caught:
        connect(duckdb_target, tag="t", lock_wait_s=0.2)
    assert (caught.value.exit_code, caught.value.code, caught.value.error_class) == (BUSY, "warehouse_locked", "busy")
    threading.Timer(0.3, held.stdin.close).start()
    with connect(duckdb_target, tag="t", lock_wait_s=10) as warehouse:
        assert warehouse.value("select 1") == 1
    held.wait(10)
    held.stdout.close()


def test_a_missing_file_is_not_created(duckdb_target: Credentials, tmp_path: Path):
    missing = dataclasses.replace(duckdb_target, fields={"path": str(tmp_path / "gone.duckdb")})
    with pytest.raises(SluiceError) as caught:
        connect(missing, tag="t")
    assert (caught.value.exit_code, caught.value.code) == (UNAVAILABLE, "warehouse_missing")
    assert not (tmp_path / "gone.duckdb").exists()


def test_the_profile_of_a_duckdb_file(duckdb_target: Credentials, tmp_path: Path):
    other = str(tmp_path / "o'ther.duckdb")
    target = dataclasses.replace(duckdb_target, fields={
        **duckdb_target.fields, "attach": [{"path": other, "alias": "th\"ere"}], "settings": {"memory_limit": "123MiB", "TimeZone": "Asia/Tokyo"},
        "config_options": {"threads": 1}})  # fmt: skip
    with connect(target, tag="t") as warehouse:
        warehouse.execute('create table "th""ere".main.t as select 1 as x')
        assert warehouse.rows(
            "select current_setting('memory_limit'), current_setting('TimeZone'), current_setting('threads')"
        ) == [("123.0 MiB", "Asia/Tokyo", 1)]


def test_an_adapter_that_is_not_known():
    with pytest.raises(SluiceError) as caught:
        connect(Credentials("snowflake", "p", "t", "d", "s"), tag="t")
    assert caught.value.exit_code == CONFIG


def test_cluster_belongs_to_clickhouse(duckdb_target: Credentials):
    with pytest.raises(SluiceError, match="--cluster c"):
        connect(duckdb_target, tag="t", cluster="c")


# -- a cluster --------------------------------------------------------------------------------------------


def test_system_tables_of_all_replicas(clickhouse: ClickHouseServer, clickhouse_target: Credentials):
    default = dataclasses.replace(clickhouse_target, fields={"host": "127.0.0.1", "port": clickhouse.http_port})
    with connect(default, tag="t", cluster="solo") as warehouse:
        create(warehouse, named(warehouse, "t"))
        found = warehouse.rows(
            f"select count() from {warehouse.system('parts')} where database = $schema and active",
            {"schema": clickhouse_target.schema},
        )
        assert found == [(1,)]
        assert warehouse.on_cluster == " ON CLUSTER `solo`"
    with connect(default, tag="t") as warehouse:
        assert (warehouse.system("parts"), warehouse.on_cluster) == ("system.`parts`", "")


# -- start-up ---------------------------------------------------------------------------------------------


def test_no_driver_is_imported_before_it_is_used():
    code = "import sys, sluice.warehouse, sluice.profiles; print([m for m in sys.modules if m.split('.')[0] in ('duckdb', 'psycopg2', 'clickhouse_connect', 'jinja2', 'yaml', 'dbt')])"
    shown = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": "lib"},
    )
    assert shown.stdout.strip() == "[]"
