"""The dbt package sql/dbt: what its macros return and do on each engine, and that hostile values do no harm there."""

import json
import shutil
import time
from pathlib import Path

import pytest
import yaml
from plain_dbt import PlainDbt
from servers import LONG_ENGINES, USERS

from sluice import manifest
from sluice.clickhouse_server import ClickHouseServer
from sluice.profiles import Credentials

pytest_plugins = ["servers"]

ROOT = Path(__file__).parents[2]
PACKAGE, WAREHOUSE = ROOT / "sql" / "dbt", ROOT / "warehouse"
HOSTILE = [
    "O'SYN", "x' or 'a' = 'a", "x'); drop table kept; --", "back\\slash", "\\", "\\' or 1=1 --", "''", '"', "`; --",
    "%s %(x)s", "{x:String}", "a;b", "ünï ☃", "/* */", "$$", "line\nbreak",
]  # fmt: skip
NAME = "we\"i`rd \\ na'me; --"

NARROW = "{{ sluice.apply_monthly_incremental_filter('day', lookback_days=1) }}"
OTHER = "where 1 = 1 {{ sluice.apply_monthly_incremental_filter('day', add_and=true, lookback_var='other_days') }}"
MODEL = """{{ config(materialized='incremental', incremental_strategy='delete+insert', unique_key=['day'], order_by='day') }}
select day, amount from {{ at('ticks') }} """

# What a macro returns and what a query finds is kept in the table `found`, by way of the macros themselves.
MACROS = """
{% macro at(table) %}{{ return((target.database ~ '.' if target.type == 'duckdb' else '') ~ target.schema ~ '.' ~ table) }}{% endmacro %}

{% macro note(step, values) %}
    {% for value in values %}
        {% set row = [sluice.quoted(step), count('found'), sluice.quoted(value)] %}
        {% do sluice.run_together(['insert into ' ~ at('found') ~ ' values (' ~ row | join(', ') ~ ')']) %}
    {% endfor %}
{% endmacro %}

{% macro count(table, condition='true') %}
    {{ return(run_query('select count(*) from ' ~ at(table) ~ ' where ' ~ condition).rows[0][0]) }}
{% endmacro %}

{% macro prepare() %}
    {% set found = "select cast('' as varchar) as step, 1 as number, cast('' as varchar) as value" %}
    {% set kept, ticks = "select cast('' as varchar) as symbol", 'select ' ~ sluice.date_literal('2024-03-01') ~ ' as day, 1 as amount' %}
    {% for name, query in [('found', found), ('kept', kept), ('ticks', ticks)] %}
        {% do sluice.run_together([sluice.create_table_as(at(name), query, rows=false)]) %}
    {% endfor %}
{% endmacro %}

{% macro note_calls(calls) %}
    {% for name, arguments, named in calls %}{% do note(name, [sluice[name](*arguments, **named)]) %}{% endfor %}
{% endmacro %}

{% macro keep(values, name) %}
    {% for value in values %}
        {% do sluice.run_together(['insert into ' ~ at('kept') ~ ' values (' ~ sluice.quoted(value) ~ ')']) %}
    {% endfor %}
    {% for value in values %}
        {% do note('included', [count('kept', sluice.symbol_filter('symbol', include=[value]))]) %}
        {% do note('excluded', [count('kept', sluice.symbol_filter('symbol', exclude=[value]))]) %}
    {% endfor %}
    {% do note('both', [count('kept', sluice.symbol_filter('symbol', values, values[1:]))]) %}
    {% do sluice.run_together([sluice.create_table_as(at(sluice.quoted_name(name)), 'select 1 as one')]) %}
    {% do note('named', [count(sluice.quoted_name(name))]) %}
{% endmacro %}

{% macro filter_by_var() %}{% do note('by var', [count('kept', sluice.symbol_filter('symbol'))]) %}{% endmacro %}

{% macro next_amount(amount) %}
    {% for model in ['narrow', 'other'] if amount > 1 %}{% do note(model, [count(model, 'amount = ' ~ (amount - 1))]) %}{% endfor %}
    {% set days = 'select ' ~ sluice.add_days(sluice.date_literal('2024-03-01'), 'number') ~ ' as day, ' ~ amount
        ~ ' as amount from (' ~ sluice.number_series(10) ~ ') as numbers' %}
    {% do sluice.run_together(['truncate table ' ~ at('ticks'), 'insert into ' ~ at('ticks') ~ ' ' ~ days]) %}
{% endmacro %}

{% macro note_settings() %}
    {% for name in ['max_memory_usage', 'max_bytes_before_external_sort', 'join_algorithm'] if execute %}
        {% do note(name, [run_query("select toString(getSetting('" ~ name ~ "'))").rows[0][0]]) %}
    {% endfor %}
{% endmacro %}
"""


def operation(name: str, /, **args) -> list[str]:
    return ["run-operation", name, "--args", json.dumps(args)]


class User:
    """A project that has the package installed and little else."""

    def __init__(self, folder: Path, *targets: Credentials):
        self.project, self.target = folder / "user", targets[0]
        for name, content in {
            "dbt_project.yml": yaml.safe_dump({
                "name": "shop", "version": "1.0.0", "profile": "shop", "flags": {"send_anonymous_usage_stats": False},
                "models": {"+pre-hook": "{{ sluice.refill_safe_pre_hook() }}", "+post-hook": "{{ sluice.refill_safe_post_hook() }}"},
            }),
            "profiles.yml": yaml.safe_dump({"shop": {"outputs": {at.target: output(at) for at in targets}, "target": targets[0].target}}),
            "macros/probe.sql": MACROS,
            "models/narrow.sql": MODEL + NARROW,
            "models/other.sql": MODEL + OTHER,
        }.items():  # fmt: skip
            path = self.project / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        (self.project / "dbt_packages").mkdir()
        (self.project / "dbt_packages" / "sluice").symlink_to(PACKAGE)

    @property
    def schema(self) -> str:
        """As it stands in SQL: DuckDB's default database may have the name of a schema."""
        return f"{self.target.database}.{self.target.schema}" if self.target.adapter == "duckdb" else self.target.schema

    def dbt(self, *invocations: list[str], target: str | None = None) -> list[str | None]:
        with PlainDbt(self.project, target or self.target.target) as plain_dbt:
            return plain_dbt.invoke(*invocations)

    def query(self, sql: str) -> list[tuple]:
        if self.target.adapter == "duckdb":
            import duckdb

            with duckdb.connect(self.target.fields["path"]) as connection:
                return connection.execute(sql).fetchall()
        if self.target.adapter == "postgres":
            import psycopg2

            at = {name: self.target.fields[name] for name in ("host", "port", "user", "password")}
            connection = psycopg2.connect(**at, dbname=self.target.database)
            try:
                with connection.cursor() as cursor:
                    cursor.execute(sql)
                    return cursor.fetchall()
            finally:
                connection.close()
        import clickhouse_connect

        with clickhouse_connect.get_client(
            port=self.target.fields["port"],
            username=self.target.fields["user"],
            password=self.target.fields["password"],
        ) as client:
            return client.query(sql).result_rows

    def found(self) -> dict[str, list[str]]:
        """What was noted at each step, in order."""
        rows: dict[str, list[str]] = {}
        for step, value in self.query(f"select step, value from {self.schema}.found order by number"):
            rows.setdefault(step, []).append(value)
        return rows


def output(target: Credentials) -> dict:
    """The credentials as profiles.yml has them."""
    place = {"dbname": target.database} if target.adapter == "postgres" else {}
    more = {"use_lw_deletes": True, "custom_settings": {"mutations_sync": 2}} if target.adapter == "clickhouse" else {}
    return {"type": target.adapter, "schema": target.schema, "threads": 1, **place, **target.fields, **more}


CALLS = {
    "month_filter": (["day"], {}, "true"),
    "symbol_filter": (["s", "USDC, O'SYN", ["sDAI"]], {}, "s in ('USDC', {quote}) and s not in ('sDAI')"),
    "index_range_filter": (["i", 5], {"end": "70"}, "i >= 5 and i < 70"),
    "date_literal": (["2024-01-31"], {}, "cast('2024-01-31' as date)"),
}
MARCH = {"start_month": "2024-03-01", "end_month": "2024-03-01"}
HOSTILE_VARS = [
    (["month_filter", ["day"], {}], {"start_date": "2024-03-01' or '1' = '1", "end_date": "2024-03-01", **MARCH}),
    (["month_filter", ["day"], {}], {"start_date": "2024-02-28", "end_date": "2024-03-01", **MARCH}),
    (["month_filter", ["day"], {}], {"start_date": "2024-03-28", "end_date": "2024-04-01", **MARCH}),
    (["month_filter", ["day"], {}], {"start_date": "2024-03-05", "end_date": "2024-03-04", **MARCH}),
    (["month_filter", ["day"], {}], {"start_month": "2024-03-01' or '1' = '1", "end_month": "2024-03-01"}),
    (["end_date", [], {}], {"incremental_end_date": "2024-03-09' or '1' = '1"}),
    (["lookback", [], {}], {"price_lookback_days": "1) or (1 = 1"}),
    (["index_range_filter", ["i"], {}], {"validator_index_end": "5 or true"}),
]


@pytest.mark.parametrize("target", ["duckdb", *LONG_ENGINES], indirect=True)
def test_on_each_engine_the_macros_filter_what_they_say_and_hostile_values_do_no_harm(target, tmp_path):
    user = User(tmp_path, target)
    calls = [[name, arguments, named] for name, (arguments, named, _) in CALLS.items()]
    steps = [
        ({}, "narrow", "other"),
        ({}, 2, 3),
        ({"price_lookback_days": 4, "other_days": 6}, 5, 7),
        (MARCH, 10, 10),
        ({"incremental_end_date": "2024-03-09"}, 1, 2),
        ({**MARCH, "start_date": "2024-03-03", "end_date": "2024-03-05"}, 3, 3),
        ({**MARCH, "start_date": "2024-03-10", "end_date": "2024-03-10"}, 1, 1),
        ({**MARCH, "start_date": "2019-01-01"}, 10, 10),
    ]
    errors = user.dbt(
        operation("prepare"),
        operation("note_calls", calls=calls),
        operation("keep", values=HOSTILE, name=NAME),
        *([*operation("filter_by_var"), "--vars", json.dumps({"symbol": value})] for value in HOSTILE[:3]),
        *(
            invocation
            for amount, (variables, *_) in enumerate(steps, 1)
            for invocation in (operation("next_amount", amount=amount), ["run", "--vars", json.dumps(variables)])
        ),
        operation("next_amount", amount=len(steps) + 1),
        operation("sluice.optimize_partition_final", database=target.schema, table_name="narrow", partition="all"),
        *(
            [*operation("note_calls", calls=[call]), "--vars", json.dumps(variables)]
            for call, variables in HOSTILE_VARS
        ),
    )  # fmt: skip
    refused = errors[-len(HOSTILE_VARS) :]
    assert [error for error in errors[: -len(HOSTILE_VARS) - 1] if error] == []
    for (_, variables), error in zip(HOSTILE_VARS, refused, strict=True):
        assert error
        assert next(iter(variables)) in error

    found = user.found()
    quote = r"'O\'SYN'" if target.adapter == "clickhouse" else "'O''SYN'"
    for name, (*_, expected) in CALLS.items():
        assert found[name] == [expected.format(quote=quote)]
    assert found["included"] == ["1"] * len(HOSTILE)
    assert found["excluded"] == [str(len(HOSTILE) - 1)] * len(HOSTILE)
    assert (found["both"], found["named"]) == (["1"], ["1"])
    assert found["by var"] == ["1"] * 3
    assert sorted(symbol for (symbol,) in user.query(f"select symbol from {user.schema}.kept")) == sorted(HOSTILE)
    assert [found["narrow"], found["other"]] == [
        ["10", "2", "5", "10", "1", "3", "1", "10"],
        ["10", "3", "7", "10", "2", "3", "1", "10"],
    ]


@pytest.mark.long
def test_the_hooks_bound_a_session_on_clickhouse_and_give_it_back_as_it_was(clickhouse_target, tmp_path):
    user = User(tmp_path, clickhouse_target, of_user("tiny", clickhouse_target))
    config = user.project / "dbt_project.yml"
    settings = yaml.safe_load(config.read_text())
    # The first and the last hook look at the session from outside of the two that they are put around.
    look = ["{{ note_settings() }}"]
    pre, post = settings["models"]["+pre-hook"], settings["models"]["+post-hook"]
    settings["models"] = {"+pre-hook": [*look, pre, *look], "+post-hook": [post, *look]}
    config.write_text(yaml.safe_dump(settings))

    run = ["run", "--select", "narrow"]
    assert user.dbt(operation("prepare"), run) == [None, None]
    found = user.found()
    assert found["max_memory_usage"] == ["0", str(8 * 1024**3), "0"]
    assert found["max_bytes_before_external_sort"] == ["0", str(2 * 1024**3), "0"]
    before, within, after = found["join_algorithm"]
    assert before == after != within == "grace_hash,hash"

    assert user.dbt(run, target="tiny") == [None]
    assert user.found()["max_memory_usage"][3:] == ["50000000"] * 3, "a lower limit of the user stays"

    (user.project / "models" / "fails.sql").write_text("{{ config(materialized='table') }} select * from nowhere")
    [error] = user.dbt(["run", "--select", "fails", "narrow"])
    assert "nowhere" in (error or "")
    bounded = str(8 * 1024**3)
    # fails: before, within; narrow, in the same session: before, within, after.
    assert user.found()["max_memory_usage"][6:] == ["0", bounded, bounded, bounded, "0"], (
        "a failure's bounds are undone"
    )


def of_user(name: str, target: Credentials) -> Credentials:
    fields = {**target.fields, "user": name, "password": USERS[name].password}
    return Credentials("clickhouse", "shop", name, None, target.schema, fields=fields)


def test_optimize_leaves_one_copy_in_one_partition_and_is_loud_where_there_is_none(
    clickhouse, clickhouse_target, tmp_path
):
    user, schema = User(tmp_path, clickhouse_target), clickhouse_target.schema
    table = f"{schema}.`{NAME}`".replace("\\", "\\\\").replace("i`rd", "i\\`rd")
    clickhouse.query(
        f"create table {table} (day Date, n UInt8) engine = ReplacingMergeTree order by day partition by toStartOfMonth(day)"
    )
    clickhouse.query(f"system stop merges {table}")
    for n in (1, 2):
        clickhouse.query(f"insert into {table} select toDate('2024-03-01') + number, {n} from numbers(60)")
    clickhouse.query(f"system start merges {table}")

    def optimize(partition: str) -> list[str]:
        return operation("sluice.optimize_partition_final", database=schema, table_name=NAME, partition=partition)

    done, absent, hostile = user.dbt(
        optimize("2024-03-01"), optimize("2019-03-01"), optimize(f"2024-03-01' final; drop table {table}; --")
    )
    assert done is None
    assert absent
    assert "388" in absent
    assert hostile
    march = clickhouse.query(f"select count(), uniqExact(day), min(n) from {table} where day < '2024-04-01'")
    assert march == "31\t31\t2\n"


def test_a_mutation_that_blocks_the_others_is_killed_and_no_other(clickhouse, clickhouse_target, tmp_path):
    user, schema = User(tmp_path, clickhouse_target), clickhouse_target.schema
    for table in ("stuck", "other"):
        clickhouse.query(f"create table {schema}.{table} (text String, n UInt32) engine = MergeTree order by tuple()")
        clickhouse.query(f"insert into {schema}.{table} values ('no number', 1)")
        clickhouse.query(
            f"alter table {schema}.{table} update n = toUInt32(text) where true settings mutations_sync = 0"
        )
    clickhouse.query(f"alter table {schema}.stuck update n = 7 where true settings mutations_sync = 0")
    failing = f"select count() from system.mutations where database = '{schema}' and latest_fail_reason <> ''"
    until(clickhouse, failing, "3")  # the good one behind it is said to fail as well

    kill = "sluice.kill_failed_mutations"
    with PlainDbt(user.project, "clickhouse") as plain_dbt:
        assert plain_dbt.invoke(
            operation(kill, database=f"x' or database = '{schema}", table_name="stuck"),
            operation(kill, database=schema, table_name="stuck' or '1' = '1"),
        ) == [None, None]
        assert clickhouse.query(failing) == "3\n"
        assert plain_dbt.invoke(operation(kill, database=schema, table_name="stuck")) == [None]
    until(clickhouse, f"select n from {schema}.stuck", "7")
    assert (
        clickhouse.query(
            f"select count() from system.mutations where database = '{schema}' and table = 'other' and not is_done"
        )
        == "1\n"
    )
    clickhouse.query(f"kill mutation where database = '{schema}'")


def test_on_a_cluster_the_macros_tell_and_ask_every_replica(recorder, clickhouse, clickhouse_target, tmp_path):
    schema = clickhouse_target.schema
    clickhouse.query(
        f"create table {schema}.t (text String, n UInt32, p UInt8) engine = MergeTree order by n partition by p"
    )
    clickhouse.query(f"insert into {schema}.t values ('no number', 1, 7)")
    clickhouse.query(
        f"alter table {schema}.t update text = toString(toUInt32(text)) where true settings mutations_sync = 0"
    )
    until(
        clickhouse,
        f"select count() from system.mutations where database = '{schema}' and latest_fail_reason <> ''",
        "1",
    )
    user = User(tmp_path, clickhouse_target)
    profiles = yaml.safe_load((user.project / "profiles.yml").read_text())
    profiles["shop"]["outputs"]["clickhouse"] |= {"port": recorder.port, "cluster": "main"}
    (user.project / "profiles.yml").write_text(yaml.safe_dump(profiles))
    assert user.dbt(
        operation("sluice.kill_failed_mutations", database=schema),
        operation("sluice.optimize_partition_final", database=schema, table_name="t", partition="7"),
    ) == [None, None]  # fmt: skip
    [kill] = [sql for sql in recorder.statements if "kill mutation" in sql]
    assert 'kill mutation on cluster "main" where' in kill
    assert any('from clusterAllReplicas("main", system.mutations)' in sql for sql in recorder.statements)
    [optimize] = [sql for sql in recorder.statements if "optimize table" in sql]
    assert f'optimize table `{schema}`.`t` on cluster "main" partition' in optimize
    until(clickhouse, f"select count() from system.mutations where database = '{schema}' and not is_done", "0")


def until(clickhouse: ClickHouseServer, sql: str, expected: str) -> None:
    deadline = time.monotonic() + 30
    while (answer := clickhouse.query(sql).strip()) != expected:
        assert time.monotonic() < deadline, f"{sql}: {answer}"
        time.sleep(0.1)


def test_the_bundled_project_reads_the_package_through_a_link_and_its_parse_notices_an_edit(tmp_path):
    link = WAREHOUSE / "dbt_packages" / "sluice"
    assert link.is_symlink()
    assert (link / "dbt_project.yml").resolve() == PACKAGE / "dbt_project.yml"

    ignore = shutil.ignore_patterns("target", "logs", "*.duckdb*")
    shutil.copytree(PACKAGE, tmp_path / "sql" / "dbt")
    project = shutil.copytree(WAREHOUSE, tmp_path / "warehouse", symlinks=True, ignore=ignore)
    before = manifest.fingerprint(project, project, None, {})
    assert manifest.fingerprint(project, project, None, {}) == before
    with open(tmp_path / "sql" / "dbt" / "macros" / "window" / "month_filter.sql", "a") as macro:
        macro.write("\n")
    assert manifest.fingerprint(project, project, None, {}) != before
