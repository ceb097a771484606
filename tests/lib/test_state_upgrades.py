"""State on a server, of a schema that is older than this Sluice: brought up to date after a copy, once, whole or not at all.

There has been no other schema on servers than the first, so the tests make a next one: a column more, in a table and in a view.
"""

import multiprocessing
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import a_plan

from sluice.errors import UNAVAILABLE, SluiceError
from sluice.state import State, clickhouse, postgres, store

pytest_plugins = ["servers"]
fork = multiprocessing.get_context("fork")
NEXT = store.SCHEMA_VERSION + 1
STEPS = {
    "postgres": "-- weather\nALTER TABLE run_event ADD COLUMN weather text DEFAULT 'rain';\n",
    "clickhouse": "-- weather\nALTER TABLE run_event ADD COLUMN IF NOT EXISTS weather String DEFAULT 'rain';\n\n-- and\nSELECT 1;\n",
}


@pytest.fixture(params=["postgres", "clickhouse"])
def dialect(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def url(dialect: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """A store with a run in it, of the schema of today."""
    server, name = request.getfixturevalue(dialect), f"u_{uuid.uuid4().hex[:12]}"
    if dialect == "postgres":
        where = f"postgresql://test:unasked@127.0.0.1:{server.port}/postgres?sslmode=disable&schema={name}"
        drop = "drop schema if exists {} cascade"
    else:
        where = f"clickhouse://refresh:s3cret-password@127.0.0.1:{server.http_port}/{name}"
        drop = "DROP DATABASE IF EXISTS {} SYNC"
    state = State.open(where)
    state.begin_run(a_plan(run_id="run-1")[0], "run-1")
    state.close()
    yield where
    for each in (name, f"{name}_schema_{NEXT - 1}"):
        server.query(drop.format(each))


@pytest.fixture
def tomorrow(dialect: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The Sluice of tomorrow: its folder of SQL, with a step to the next schema."""
    sql = tmp_path / "sql"
    shutil.copytree(store.SQL, sql)
    (sql / dialect / "upgrade").mkdir()
    (sql / dialect / "upgrade" / f"{NEXT}.sql").write_text(STEPS[dialect])
    view = sql / dialect / "auto_restart_history.sql"
    view.write_text(view.read_text().replace("SELECT\n    run_id,", "SELECT\n    'rain' AS weather,\n    run_id,"))
    monkeypatch.setattr(store, "SQL", sql)
    for module in (store, postgres, clickhouse):
        monkeypatch.setattr(module, "SCHEMA_VERSION", NEXT)
    return sql


def versions(state: State, of: str = "") -> list[int]:
    return [version for (version,) in state.store.rows(f"SELECT version FROM {of}schema_version ORDER BY version")]


def home(state: State) -> str:
    return state.store._at.schema


def test_an_older_store_is_brought_up_to_date_and_kept_as_a_copy(url: str, tomorrow: Path) -> None:
    for opened in (State.open(url), State.open_existing(url)):
        assert versions(opened)[-1] == NEXT
        assert opened.store.rows("SELECT run_id, weather FROM run_event") == [("run-1", "rain")]
        assert [run.run_id for run in opened.runs()] == ["run-1"]
        opened.store.rows("SELECT weather FROM auto_restart_history")
        opened.close()
    state = State.open(url)
    state.begin_run(a_plan(run_id="run-2")[0], "run-2")
    copy = f"{home(state)}_schema_{NEXT - 1}."
    assert versions(state, copy) == [NEXT - 1]
    assert state.store.rows(f"SELECT run_id FROM {copy}run_event") == [("run-1",)]
    state.close()


def test_many_processes_upgrade_one_store_together(url: str, tomorrow: Path) -> None:
    go, said = fork.Event(), fork.Queue()

    def use() -> None:
        go.wait()
        try:
            said.put(len(State.open(url).runs()))
        except BaseException as problem:
            said.put(repr(problem))

    users = [fork.Process(target=use) for _ in range(6)]
    for user in users:
        user.start()
    go.set()
    assert [said.get(timeout=60) for _ in users] == [1] * 6
    for user in users:
        user.join(30)
    state = State.open(url)
    copy = f"{home(state)}_schema_{NEXT - 1}."
    assert state.store.rows(f"SELECT run_id FROM {copy}run_event") == [("run-1",)]
    assert set(versions(state)) <= {NEXT - 1, NEXT}
    state.close()


def test_whoever_comes_second_to_an_upgrade_leaves_the_copy_of_the_first(
    url: str, dialect: str, tomorrow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looked before the first was done: at the version and, on ClickHouse, for the copy."""
    first = State.open(url)
    copy = f"{home(first)}_schema_{NEXT - 1}"
    seen: list[list[tuple]] = [[(NEXT - 1,)]] + ([[]] if dialect == "clickhouse" else [])
    module = {"postgres": postgres.Postgres, "clickhouse": clickhouse.ClickHouse}[dialect]
    name = {"postgres": "rows", "clickhouse": "_rows"}[dialect]
    ask = getattr(module, name)

    def rows(self, sql: str, params=None) -> list[tuple]:
        is_old = "version" in sql and "FROM schema_version" in sql and "LIMIT" not in sql
        return seen.pop(0) if seen and (is_old or (params or {}).get("name") == copy) else ask(self, sql, params)

    monkeypatch.setattr(module, name, rows)
    second = State.open(url)
    assert seen == []
    assert versions(second)[-1] == NEXT
    assert versions(second, f"{copy}.") == [NEXT - 1]
    assert second.store.rows("SELECT run_id, weather FROM run_event") == [("run-1", "rain")]
    if dialect == "clickhouse":
        begun = "SELECT name FROM system.databases WHERE startsWith(name, $name)"
        assert second.store.rows(begun, {"name": f"{copy}_"}) == [], "the copy that it began itself is gone"
    for each in (first, second):
        each.close()


@pytest.mark.parametrize("dialect", ["clickhouse"], indirect=True)
def test_without_a_whole_copy_nothing_is_upgraded(url: str, tomorrow: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Postgres the copy is in the transaction of the upgrade."""
    execute = clickhouse._Client.execute

    def until_the_end(self, sql: str, *more, **given) -> None:
        execute(self, sql.replace(" TO ", " TO no_such.") if sql.startswith("RENAME DATABASE") else sql, *more, **given)

    monkeypatch.setattr(clickhouse._Client, "execute", until_the_end)
    with pytest.raises(SluiceError) as caught:
        State.open(url)
    assert caught.value.exit_code == UNAVAILABLE
    store = clickhouse.ClickHouse(url, origin="test")
    assert store.rows("SELECT version FROM schema_version") == [(NEXT - 1,)]
    weather = "SELECT 1 FROM system.columns WHERE database = currentDatabase() AND name = 'weather'"
    copies = "SELECT name FROM system.databases WHERE startsWith(name, currentDatabase() || '_')"
    assert store.rows(weather) == store.rows(copies) == []
    store.close()


def test_an_upgrade_that_fails_leaves_a_store_that_can_be_upgraded(url: str, dialect: str, tomorrow: Path) -> None:
    """On Postgres nothing of it is there; on ClickHouse what was made is made again."""
    step = tomorrow / dialect / "upgrade" / f"{NEXT}.sql"
    whole = step.read_text()
    step.write_text(whole + "\nALTER TABLE no_such_table ADD COLUMN x text;\n")
    with pytest.raises(SluiceError) as caught:
        State.open(url)
    assert (caught.value.exit_code, "no_such_table" in caught.value.message) == (UNAVAILABLE, True)
    if dialect == "postgres":
        server = postgres.Postgres(url, origin="test")
        assert server.rows("SELECT version FROM schema_version") == [(NEXT - 1,)]
        columns = "SELECT count(*) FROM information_schema.columns WHERE table_schema = current_schema() AND column_name = 'weather'"
        assert server.rows(columns) == [(0,)]
        assert server.rows(
            "SELECT count(*) FROM information_schema.schemata WHERE schema_name LIKE current_schema() || '_schema%'"
        ) == [(0,)]
        server.close()
    step.write_text(whole)
    state = State.open(url)
    assert state.store.rows("SELECT run_id, weather FROM run_event") == [("run-1", "rain")]
    state.close()


def test_a_schema_without_a_way_up_is_refused(url: str, dialect: str, tomorrow: Path) -> None:
    (tomorrow / dialect / "upgrade" / f"{NEXT}.sql").unlink()
    with pytest.raises(SluiceError) as caught:
        State.open(url)
    assert (caught.value.code, "rename the" in (caught.value.hint or "")) == ("state_schema", True)
