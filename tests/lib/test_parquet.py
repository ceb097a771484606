"""Parquet files hold what the tables hold, and only those are written anew whose rows changed."""

import json
from collections import Counter
from pathlib import Path

import duckdb
import pytest

from sluice.config import Config
from sluice.parquet import export, main


@pytest.fixture
def connection() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'; CREATE SCHEMA raw")
    connection.execute(
        "CREATE TABLE raw.raw_exchanges_trades AS SELECT 'a/../b' || (i % 2) AS source, i::VARCHAR AS txid, "
        "TIMESTAMPTZ '2026-01-30 00:00:00Z' + INTERVAL (i) HOUR AS datetime, i::DECIMAL(38, 18) AS amount, "
        "TIMESTAMPTZ '2026-03-01 00:00:00Z' AS _synced_at FROM range(100) t(i)"
    )
    return connection


def rows(connection: duckdb.DuckDBPyConnection, source: str) -> Counter:
    return Counter(connection.execute(f"SELECT source, txid, datetime, amount FROM {source}").fetchall())


def test_what_changed_is_written_anew_and_nothing_else(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    files = f"read_parquet('{tmp_path}/raw_exchanges_trades/*/*/*.parquet', hive_partitioning = false)"
    assert len(list(export(connection, tmp_path))) == 4  # two sources, two months
    assert rows(connection, files) == rows(connection, "raw.raw_exchanges_trades")
    assert list(export(connection, tmp_path)) == []
    connection.execute("UPDATE raw.raw_exchanges_trades SET amount = 7, _synced_at = now() WHERE txid = '99'")
    (changed,) = export(connection, tmp_path)
    assert "month=2026-02" in str(changed)
    assert rows(connection, files) == rows(connection, "raw.raw_exchanges_trades")
    connection.execute("DELETE FROM raw.raw_exchanges_trades WHERE datetime < '2026-02-01'")
    assert list(export(connection, tmp_path)) == []
    assert rows(connection, files) == rows(connection, "raw.raw_exchanges_trades")
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_file_that_was_lost_is_written_again_and_no_name_leaves_the_folder(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    first = list(export(connection, tmp_path / "out"))
    first[0].unlink()
    assert list(export(connection, tmp_path / "out")) == [first[0]]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert list(export(duckdb.connect(), tmp_path / "other")) == []


def test_the_files_are_of_the_database_that_the_syncs_go_to(
    own_settings: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "dbt_project.yml").write_text("name: own\nprofile: own\n")
    profile = {
        "target": "dev",
        "outputs": {"dev": {"type": "duckdb", "path": str(tmp_path / "own.duckdb"), "schema": "main"}},
    }
    profile["outputs"]["far"] = {
        "type": "postgres",
        "host": "h",
        "port": 1,
        "user": "u",
        "password": "p",
        "dbname": "d",
        "schema": "s",
    }
    (project / "profiles.yml").write_text(json.dumps({"own": profile}))
    monkeypatch.setenv("DBT_PROJECT_DIR", str(project))
    monkeypatch.setenv("DBT_PROFILES_DIR", str(project))
    assert main([str(tmp_path / "out")]) == 69
    assert f"there is no {tmp_path / 'own.duckdb'}\n  try: make sync" in capsys.readouterr().err
    with duckdb.connect(str(tmp_path / "own.duckdb")) as connection:
        connection.execute(
            "CREATE SCHEMA near; CREATE TABLE near.raw_exchanges_trades AS SELECT 'cb' AS source, now() AS datetime, now() AS _synced_at"
        )
    monkeypatch.setenv("SLUICE_RAW_SCHEMA", "near")
    assert main([str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.startswith(str(tmp_path / "out/raw_exchanges_trades/source=cb/month="))
    monkeypatch.setenv("DBT_TARGET", "far")
    assert main([str(tmp_path / "out")]) == 78
    assert "is no DuckDB" in capsys.readouterr().err
