"""Publications on real servers: readers in a loop, cuts at every statement, everything that hangs on the old table."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from builders import FakeContext, a_batch, a_plan, a_result

from sluice import aside, exchange, profiles, publication
from sluice.config import Config
from sluice.errors import REFUSED, SluiceError
from sluice.exchange import Move, snowflake
from sluice.profiles import Credentials
from sluice.publication import Options
from sluice.publish_tables import publish_tables
from sluice.records import Gate, Plan, PublishResult, Record
from sluice.state import State
from sluice.take_back import clean_up, undo
from sluice.warehouse import Warehouse, connect

pytest_plugins = ["servers"]

ROWS = 2000
EVERY = (
    1 if os.environ.get("SLUICE_TEST_FAULTS") else 4
)  # statement that is cut after; all of them in `make test-faults`
ENGINE = {"duckdb": "", "postgres": "", "clickhouse": "engine = MergeTree order by n"}
SERIES = {
    "duckdb": "generate_series(1, {0}) as s (n)",
    "postgres": "generate_series(1, {0}) as s (n)",
    "clickhouse": "(select number + 1 as n from numbers({0})) as s",
}


@dataclass
class Ctx(FakeContext):
    name: str = "publish-tables"
    run_id: str = "run-1"
    now: datetime = field(default_factory=lambda: datetime.now(UTC))


class Cut(BaseException):
    """The process is gone: nothing after this statement was said."""


class Shop:
    """One target with the tables `orders` and `totals` and the view `latest` on both, and publications of them."""

    names = ("orders", "totals", "latest")

    def __init__(self, target: Credentials, settings: Config, folder: Path, monkeypatch: pytest.MonkeyPatch):
        (folder / "dbt_project.yml").write_text("name: shop\n")
        if target.adapter == "duckdb":  # which stores no view that it can read where catalog and schema are both `shop`
            target = replace(target, schema="main")
        self.target, self.settings = target, replace(settings, project_dir=folder)
        self.runs = 0
        monkeypatch.setattr(profiles, "load", lambda config, vars=None: self.target)

    # what is there

    @contextmanager
    def connected(self, **more: Any) -> Iterator[Warehouse]:
        with connect(self.target, tag="test", **more) as warehouse:
            yield warehouse

    def execute(self, *statements: str) -> None:
        with self.connected() as warehouse:
            for sql in statements:
                warehouse.execute(sql.format(s=self.target.schema))

    def rows(self, sql: str) -> list[tuple]:
        with self.connected() as warehouse:
            return warehouse.rows(sql.format(s=self.target.schema))

    def build(self, version: int, ending: str = "", rows: int = ROWS, columns: str = "") -> None:
        """Both tables and the view, all of one version, under names with this ending."""
        orders, totals, latest = (f"{self.target.schema}.{name}{ending}" for name in self.names)
        engine, series = ENGINE[self.target.adapter], SERIES[self.target.adapter].format(rows)
        self.execute(
            *(f"drop view if exists {latest}", f"drop table if exists {totals}", f"drop table if exists {orders}"),
            f"create table {orders} {engine} as select n, {version} as version{columns} from {series}",
            f"create table {totals} {engine} as select count(*) as n, max(version) as version from {orders}",
            f"create view {latest} as select o.version as version, t.version as total from {orders} o cross join {totals} t where o.n = 1",
        )

    def versions(self) -> list[tuple]:
        """(rows, oldest, newest) of orders, and what the view says."""
        return [
            *self.rows("select count(*), min(version), max(version) from {s}.orders"),
            *self.rows("select * from {s}.latest"),
        ]

    def there(self) -> set[str]:
        column = "name" if self.target.adapter == "clickhouse" else "table_name"
        table = (
            "system.tables where database"
            if self.target.adapter == "clickhouse"
            else "information_schema.tables where table_schema"
        )
        return {name for (name,) in self.rows(f"select {column} from {table} = '{self.target.schema}'")}

    # publications

    def plan(self, run_id: str | None = None) -> tuple[Plan, list[Record]]:
        """A plan that was built: the run is in the state store, left open for its publication."""
        self.runs += run_id is None
        batches = [a_batch(f"model.shop.{name}", full_refresh=True, phase="aside") for name in self.names]
        plan, batches = a_plan(
            batches, run_id=run_id or f"run-{self.runs}", target=self.target.target, adapter=self.target.adapter
        )
        for model, name in zip(plan.models, self.names, strict=True):
            model.database_name, model.schema_name = self.target.database, self.target.schema
            model.table_name, model.aside_name = name, aside.aside_name(name)
        with closing(State.open(self.settings.state_url)) as state:
            state.begin_run(plan, plan.run_id)
        return plan, [a_result(batch, run_id=plan.run_id) for batch in batches]

    def publish(
        self, stream: list[Record] | None = None, *, upstream: int = 0, dry_run: bool = False, **options: Any
    ) -> list[PublishResult]:
        if stream is None:
            plan, done = self.plan()
            stream = [plan, *done]
        ctx = Ctx(self.settings, [copied(record) for record in stream], upstream_exit=upstream, dry_run=dry_run)
        return self._told(publish_tables(ctx, Options(**options)))  # type: ignore[arg-type]

    def undo(self, **options: Any) -> list[PublishResult]:
        return self._told(undo(Ctx(self.settings), Options(**options)))  # type: ignore[arg-type]

    def clean_up(self, after: timedelta = timedelta(0), dry_run: bool = False) -> list[PublishResult]:
        ctx = Ctx(self.settings, now=datetime.now(UTC) + after, dry_run=dry_run)
        return self._told(clean_up(ctx, Options()))  # type: ignore[arg-type]

    def _told(self, running: Any) -> list[PublishResult]:
        told, self.code = [], None
        try:
            while True:
                told.append(next(running))
        except StopIteration as end:
            self.code = end.value
        return told

    def log(self) -> list[tuple[str, str]]:
        with closing(State.open(self.settings.state_url)) as state:
            return [(run.run_id, run.run_status) for run in state.runs()]


def copied(record: Record) -> Record:
    return msgspec.convert(msgspec.to_builtins(record), type(record))


@pytest.fixture
def shop(target: Credentials, own_settings: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    shop = Shop(target, own_settings, tmp_path, monkeypatch)
    shop.build(1)
    return shop


@pytest.fixture
def cut_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let the process be gone after the n-th statement that is to change something; 0: never."""
    left: list[int | None] = [None]
    for kind in Warehouse.__subclasses__():

        def counted(self: Any, sql: str, params: Any, settings: Any, execute: Any = kind._execute) -> None:
            if left[0] == 0:
                raise Cut  # not even a rollback is sent
            execute(self, sql, params, settings)
            if left[0] is not None:
                left[0] -= 1
                if left[0] == 0:
                    raise Cut

        monkeypatch.setattr(kind, "_execute", counted)
    return lambda n: left.__setitem__(0, n or None)


OLD, NEW = [(ROWS, 1, 1), (1, 1)], [(ROWS, 2, 2), (2, 2)]


# -- readers ------------------------------------------------------------------------------------------------------


@contextmanager
def reading(shop: Shop, *queries: str) -> Iterator[set]:
    """Readers in a loop, a thread each; gives all that any of them ever saw."""
    seen: set = set()
    stop = threading.Event()

    def read(sql: str) -> None:
        with shop.connected() as warehouse:
            text = sql.format(s=shop.target.schema)
            while not stop.is_set():
                try:
                    seen.update((sql, *row) for row in warehouse.rows(text) or [("nothing",)])
                except SluiceError as problem:
                    seen.add((sql, problem.message[:300]))

    threads = [threading.Thread(target=read, args=(sql,)) for sql in queries]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()


TABLE = "select count(*), min(version), max(version) from {s}.orders"
VIEW = "select version, total from {s}.latest"


def test_a_reader_in_a_loop_never_sees_an_empty_a_partial_or_a_doubled_table(shop: Shop):
    with reading(shop, TABLE, VIEW) as seen:
        for version in range(2, 8):
            shop.build(version, aside.ASIDE)
            assert [one.status for one in shop.publish()] == ["ok"] * 3
    tables = {row[1:] for row in seen if row[0] == TABLE}
    assert tables <= {(ROWS, version, version) for version in range(1, 8)}
    assert len(tables) > 2, "the reader was asleep"
    # The two tables under the view change places together where there are transactions.
    views = {row[1:] for row in seen if row[0] == VIEW}
    steps = {
        (one, other) for one in range(1, 8) for other in (one, one - 1)[: 1 + (shop.target.adapter == "clickhouse")]
    }
    assert views <= steps


def test_the_same_reader_sees_a_refresh_in_batches_that_is_not_built_aside(shop: Shop):
    orders, series = f"{shop.target.schema}.orders", SERIES[shop.target.adapter].format(ROWS)
    with reading(shop, TABLE) as seen:
        with shop.connected() as warehouse:
            for part in range(4):
                first = f"{'truncate table' if shop.target.adapter == 'clickhouse' else 'delete from'} {orders}"
                for sql in [first] * (part == 0) + [
                    f"insert into {orders} select n, 2 from {series} where n % 4 = {part}"
                ]:
                    warehouse.execute(sql)
                threading.Event().wait(0.1)
    assert {row[1] for row in seen} - {ROWS}, "it saw nothing but whole tables"


# -- what a publication leaves --------------------------------------------------------------------------------------


def test_what_was_there_before_is_kept_and_what_is_published_is_told(shop: Shop):
    shop.build(2, aside.ASIDE)
    told = shop.publish(keep_s=3600)
    assert [(one.table.split(".")[1], one.status, one.rows_before, one.rows_after) for one in told] == [
        ("orders", "ok", ROWS, ROWS), ("totals", "ok", 1, 1), ("latest", "ok", None, None),
    ]  # fmt: skip
    assert told[0].kept == f"{shop.target.schema}.orders__sluice_before"
    assert shop.versions() == NEW
    assert shop.there() == {name + ending for name in shop.names for ending in ("", aside.BEFORE)}
    assert shop.log() == [("run-1", "SUCCESS")]
    with closing(State.open(shop.settings.state_url)) as state:
        ((message,),) = state.store.rows("select message from run_event where event = 'ended'")
    assert message.startswith(f"published {shop.target.schema}.orders, ")
    assert told[0].kept_until[:16] in message


def test_a_second_publication_drops_what_the_first_one_kept(shop: Shop):
    for version in (2, 3):
        shop.build(version, aside.ASIDE)
        shop.publish()
    assert shop.rows("select max(version) from {s}.orders__sluice_before") == [(2,)]
    assert shop.there() == {name + ending for name in shop.names for ending in ("", aside.BEFORE)}


def test_the_first_publication_of_all_replaces_nothing(shop: Shop):
    shop.build(2, aside.ASIDE)
    shop.execute("drop view {s}.latest", "drop table {s}.totals", "drop table {s}.orders")
    assert [(one.status, one.kept) for one in shop.publish()] == [("ok", None)] * 3
    assert shop.versions() == NEW
    assert shop.there() == set(shop.names)


def test_the_same_stream_twice_publishes_once(shop: Shop):
    shop.build(2, aside.ASIDE)
    plan, done = shop.plan()
    shop.publish([plan, *done])
    assert [(one.status, one.error) for one in shop.publish([plan, *done])] == [("skipped", "published already")] * 3
    assert shop.code is None
    assert shop.versions() == NEW


# -- cut off ---------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_cut_off_after_any_statement_and_started_again_a_publication_is_whole(shop: Shop, cut_after: Any):
    for n in range(1, 60, EVERY):
        shop.build(1)
        shop.build(2, aside.ASIDE)
        plan, done = shop.plan()
        cut_after(n)
        try:
            shop.publish([plan, *done])
            was_cut = False
        except Cut:
            was_cut = True
        cut_after(0)
        assert shop.versions()[0] in (OLD[0], NEW[0]), f"after statement {n}"
        again = shop.publish([plan, *done])
        assert {one.status for one in again} == ({"ok"} if was_cut else {"skipped"})
        assert shop.versions() == NEW, f"after statement {n}"
        assert shop.there() == {name + ending for name in shop.names for ending in ("", aside.BEFORE)}
        assert shop.rows("select max(version) from {s}.orders__sluice_before") == [(1,)]
        if not was_cut:
            break
    assert n > 4, "it was hardly cut"


@pytest.mark.long
def test_cut_off_after_any_statement_and_started_again_an_undo_is_whole(shop: Shop, cut_after: Any):
    for n in range(1, 60, EVERY):
        shop.build(1)
        shop.build(2, aside.ASIDE)
        shop.publish()
        cut_after(n)
        try:
            shop.undo()
            was_cut = False
        except Cut:
            was_cut = True
        cut_after(0)
        assert shop.versions()[0] in (OLD[0], NEW[0])
        assert {one.status for one in shop.undo()} == ({"ok"} if was_cut else set())
        assert shop.versions() == OLD, f"after statement {n}"
        if not was_cut:
            break
    assert n > 4, "it was hardly cut"


# -- refusals ---------------------------------------------------------------------------------------------------------


def refusal(work: Callable[[], Any]) -> SluiceError:
    with pytest.raises(SluiceError) as raised:
        work()
    assert raised.value.exit_code == REFUSED
    return raised.value


def test_fewer_rows_and_fewer_columns_are_refused_until_allowed(shop: Shop):
    shop.build(1, columns=", 7 as price")
    shop.build(2, aside.ASIDE, rows=ROWS * 8 // 10)
    before = shop.there()
    plan, done = shop.plan()
    problem = refusal(lambda: shop.publish([plan, *done]))
    assert (problem.code, "orders would lose the columns price" in problem.message) == ("publish_missing_columns", True)
    problem = refusal(lambda: shop.publish([plan, *done], allow=["publish_missing_columns"]))
    assert problem.code == "publish_row_drop"
    assert f"orders has {ROWS} rows and would have {ROWS * 8 // 10}: 20.0% less" in problem.message
    assert (shop.versions(), shop.there()) == (OLD, before), "nothing was changed"
    assert shop.publish([plan, *done], allow=["publish_missing_columns"], max_drop_ratio=0.2)[0].status == "ok"


def test_what_is_not_all_built_or_not_found_good_is_not_published(shop: Shop):
    shop.build(2, aside.ASIDE)
    plan, done = shop.plan()
    gate = Gate(plan_id=plan.plan_id, wave=1, gate="canary", models=[], since=plan.to, to=plan.to)
    for stream, upstream, why, code in (
        ([plan, *done], 3, "ended with 3", 3),
        ([plan, *done[:-1]], 0, "2 of 3 batches", 1),
        ([plan, *done, gate], 0, "nobody asked the gate canary", 1),
    ):
        told = shop.publish(stream, upstream=upstream)
        assert [one.status for one in told] == ["skipped"] * 3
        assert why in (told[0].error or "")
        assert shop.code == code
    assert shop.versions() == OLD


def test_a_rehearsal_changes_nothing(shop: Shop):
    shop.build(2, aside.ASIDE)
    before = shop.there()
    assert [one.status for one in shop.publish(dry_run=True)] == ["dry_run"] * 3
    assert (shop.versions(), shop.there()) == (OLD, before)


def test_what_was_built_and_has_gone_and_a_state_store_that_knows_nothing_are_refused(shop: Shop):
    plan, done = shop.plan()
    assert refusal(lambda: shop.publish([plan, *done])).code == "publish_nothing_built"
    shop.settings = replace(shop.settings, state_url=f"{shop.settings.state_url}.other")
    assert refusal(lambda: shop.publish([plan, *done])).code == "publish_unknown_run"


# -- undo, clean up -----------------------------------------------------------------------------------------------------


def test_undo_brings_back_what_was_there_and_keeps_what_was_built(shop: Shop):
    assert shop.undo() == []
    shop.build(2, aside.ASIDE)
    shop.publish()
    assert [one.status for one in shop.undo()] == ["ok"] * 3
    assert shop.versions() == OLD
    assert shop.rows("select max(version) from {s}.orders__sluice_aside") == [(2,)]
    assert shop.undo() == [], "it is undone"
    assert shop.log() == [("run-1", "CANCELLED")]
    shop.clean_up(timedelta(days=9))
    assert shop.versions() == OLD


def test_what_was_kept_is_dropped_when_its_time_is_over_and_not_before(shop: Shop):
    shop.build(2, aside.ASIDE)
    shop.publish(keep_s=3600)
    assert shop.clean_up(timedelta(minutes=59)) == []
    assert [one.status for one in shop.clean_up(timedelta(minutes=61), dry_run=True)] == ["dry_run"] * 3
    assert "orders__sluice_before" in shop.there()
    assert len(shop.clean_up(timedelta(minutes=61))) == 3
    assert shop.there() == set(shop.names)
    assert shop.clean_up(timedelta(minutes=61)) == []
    assert refusal(shop.undo).code == "publish_not_kept"
    assert shop.versions() == NEW


# -- what hangs on a table: Postgres ----------------------------------------------------------------------------------


@pytest.fixture
def on_postgres(postgres_target: Credentials, own_settings: Config, tmp_path: Path, monkeypatch: Any) -> Shop:
    shop = Shop(postgres_target, own_settings, tmp_path, monkeypatch)
    shop.build(1)
    shop.build(2, aside.ASIDE)
    return shop


@pytest.fixture
def role(postgres: Any) -> Iterator[str]:
    name = f"reader_{threading.get_native_id()}"
    postgres.query(f"create role {name}")
    yield name
    postgres.query(f"drop owned by {name} cascade")
    postgres.query(f"drop role {name}")


def test_views_of_others_read_what_is_published_and_keep_their_grants(on_postgres: Shop, role: str):
    shop = on_postgres
    shop.execute(
        "create view {s}.others with (security_barrier=true) as select version, count(*) as n from {s}.orders group by version",
        "create view {s}.theirs as select * from {s}.others",
        f"grant select on {{s}}.others to {role}",
    )
    options = f"select reloptions, has_table_privilege('{role}', '{{s}}.others', 'select') from pg_class where oid = '{{s}}.others'::regclass"
    before = shop.rows(options)
    shop.publish()
    assert shop.rows("select * from {s}.others") == shop.rows("select * from {s}.theirs") == [(2, ROWS)]
    assert shop.rows(options) == before
    shop.undo()
    assert shop.rows("select * from {s}.theirs") == [(1, ROWS)]


def test_grants_and_owner_are_carried_over(on_postgres: Shop, role: str):
    shop = on_postgres
    shop.execute(
        f"grant select, insert on {{s}}.orders to {role} with grant option",
        f"grant update (version) on {{s}}.orders to {role}",
        "grant select on {s}.latest to public",
        f"grant usage, create on schema {{s}} to {role}",
        f"alter table {{s}}.totals owner to {role}",
    )
    asked = f"""select array_agg(privilege_type || is_grantable order by 1) from information_schema.table_privileges
                where table_schema = '{{s}}' and table_name = 'orders' and grantee = '{role}'"""
    before = shop.rows(asked)
    shop.publish()
    assert shop.rows(asked) == before
    assert shop.rows(
        f"select has_column_privilege('{role}', '{{s}}.orders', 'version', 'update'), has_table_privilege('{role}', '{{s}}.latest', 'select')"
    ) == [(True, True)]
    assert shop.rows("select tableowner from pg_tables where schemaname = '{s}' and tablename = 'totals'") == [(role,)]
    assert shop.versions() == NEW


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("create materialized view {s}.kept as select * from {s}.orders", "materialised view or rule {s}.kept"),
        ("alter table {s}.orders add primary key (n); create table {s}.items (n int references {s}.orders)", "foreign key {s}.items."),
        ("create policy mine on {s}.orders using (true)", "row policy mine"),
        ("create table {s}.child () inherits ({s}.orders)", "parent or child table {s}.child"),
        ("create function {s}.f(o {s}.orders) returns int language sql return 1", "function {s}.f("),
        ("create trigger t after insert on {s}.orders execute function suppress_redundant_updates_trigger()", "trigger t"),
    ],
)  # fmt: skip
def test_what_would_stay_with_the_old_table_is_named_and_refused(on_postgres: Shop, statement: str, kind: str):
    on_postgres.execute(statement)
    problem = refusal(on_postgres.publish)
    assert problem.code == "publish_dependents"
    assert f"the {kind.format(s=on_postgres.target.schema)}" in problem.message
    assert on_postgres.versions() == OLD


def test_a_long_reader_delays_a_publication_and_nobody_else(on_postgres: Shop):
    """While it waits for the table it lets others read, too."""
    shop = on_postgres
    with shop.connected() as reader:
        with reader.transaction():
            reader.rows(f"select 1 from {shop.target.schema}.orders limit 1")
            publishing = threading.Thread(target=shop.publish)
            publishing.start()
            for _ in range(5):
                assert shop.versions() == OLD
        publishing.join(30)
    assert shop.versions() == NEW


# -- what hangs on a table: ClickHouse, DuckDB --------------------------------------------------------------------------


@pytest.fixture
def on_clickhouse(clickhouse_target: Credentials, own_settings: Config, tmp_path: Path, monkeypatch: Any) -> Shop:
    shop = Shop(clickhouse_target, own_settings, tmp_path, monkeypatch)
    shop.build(1)
    shop.build(2, aside.ASIDE)
    return shop


@pytest.mark.parametrize(("view", "why"), [("from {s}.orders", "reads"), ("from {s}.source", "writes to")])
def test_materialised_views_on_clickhouse_are_named_and_refused_until_allowed(on_clickhouse: Shop, view: str, why: str):
    shop = on_clickhouse
    shop.execute("create table {s}.source engine = MergeTree order by n as select * from {s}.orders limit 0")
    target = "{s}.source" if why == "reads" else "{s}.orders"
    shop.execute(f"create materialized view {{s}}.kept to {target} as select n, version {view}")
    plan, done = shop.plan()
    problem = refusal(lambda: shop.publish([plan, *done]))
    assert problem.code == "publish_dependents"
    assert f"{shop.target.schema}.kept {why} {shop.target.schema}.orders" in problem.message
    assert shop.publish([plan, *done], allow=["publish_dependents"])[0].status == "ok"


def test_all_of_a_cluster_are_told(on_clickhouse: Shop, recorder: Any):
    shop = on_clickhouse
    shop.target = replace(shop.target, fields={**shop.target.fields, "port": recorder.port})
    shop.publish(cluster="four")
    changes = [sql for sql in recorder.statements if sql.lower().split()[0] in ("exchange", "rename", "drop", "create")]
    assert len(changes) == 3 * 3 + 1, (
        "each is exchanged, what was kept is dropped, what is replaced is renamed; the view is made anew"
    )
    assert all("ON CLUSTER `four`" in sql for sql in changes)
    assert shop.versions() == NEW


def test_a_table_that_somebody_else_has_replaced_meanwhile_is_left_alone(on_clickhouse: Shop, cut_after: Any):
    shop = on_clickhouse
    plan, done = shop.plan()
    cut_after(2)  # the view that is made anew, then the first that is dropped
    with pytest.raises(Cut):
        shop.publish([plan, *done])
    cut_after(0)
    shop.build(5)
    assert refusal(lambda: shop.publish([plan, *done])).code == "publish_moved"
    assert shop.versions() == [(ROWS, 5, 5), (5, 5)]


def test_duckdb_renames_no_table_with_an_index_and_says_so(
    duckdb_target: Credentials, own_settings: Config, tmp_path: Path, monkeypatch: Any
):
    shop = Shop(duckdb_target, own_settings, tmp_path, monkeypatch)
    shop.build(1)
    shop.build(2, aside.ASIDE)
    shop.execute("create index by_n on {s}.orders__sluice_aside (n)")
    problem = refusal(shop.publish)
    assert "orders__sluice_aside has the index by_n" in problem.message


# -- text -------------------------------------------------------------------------------------------------------------


def test_snowflake_swaps_and_keeps_what_was_there():
    move = Move("model.shop.orders", "WH", "SHOP", 'or"ders', 'or"ders__sluice_aside', 'or"ders__sluice_before')
    assert snowflake.statements([move]) == [
        'drop table if exists "WH"."SHOP"."or""ders__sluice_before"',
        'alter table "WH"."SHOP"."or""ders" swap with "WH"."SHOP"."or""ders__sluice_aside"',
        'alter table "WH"."SHOP"."or""ders__sluice_aside" rename to "WH"."SHOP"."or""ders__sluice_before"',
    ]


def test_a_view_reads_by_the_names_that_readers_know_and_keeps_its_own():
    made = "CREATE VIEW s.v__sluice_aside AS SELECT a.x FROM s.t__sluice_aside AS a JOIN s.u__sluice_aside USING (x)"
    assert exchange.repointed(made, aside.ASIDE) == (
        "CREATE VIEW s.v__sluice_aside AS SELECT a.x FROM s.t AS a JOIN s.u USING (x)"
    )


def test_a_plan_is_undone_by_the_same_moves_the_other_way():
    plan, _ = a_plan()
    plan.models[0].schema_name, plan.models[0].table_name, plan.models[0].aside_name = "s", "t", "t__sluice_aside"
    [there], [back] = publication.published(plan), publication.taken_back(plan)
    assert (there.coming, there.live, there.going) == (back.going, back.live, back.coming)
