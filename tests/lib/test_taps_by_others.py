"""A tap by others from the package index, unmodified: tables of a Postgres, discovered, fetched and loaded, then what is new."""

import json
import os
import subprocess
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest
from servers import Postgres

pytest_plugins = ["servers"]
ROOT = Path(__file__).resolve().parents[2]
TAPS = ROOT / ".venv-taps" / "bin"
NO_TAP = "no tap by others is installed here\n  try: make .venv-taps/.installed"
ORDERS = """
    CREATE TABLE {schema}.orders (id int PRIMARY KEY, amount numeric(38, 18), changed_at timestamptz, note jsonb, names text[]);
    INSERT INTO {schema}.orders
    SELECT i, i * 1.000000000000000001, timestamptz '2026-01-01' + i * interval '1 hour', '{{"a": [1.5, "ü"]}}', '{{a,b}}'
    FROM generate_series(1, 50) AS t (i)
"""


@pytest.mark.long
def test_tap_postgres_is_a_source_of_make_sync(postgres: Postgres, tmp_path: Path) -> None:
    if not (TAPS / "tap-postgres").exists():
        pytest.fail(NO_TAP)
    postgres.query("CREATE SCHEMA far")
    postgres.query(ORDERS.format(schema="far"))
    sources = tmp_path / "sources"
    sources.mkdir()
    config, catalog = sources / "far.tap-postgres.json", sources / "far.tap-postgres.catalog.json"
    asked = {name: postgres.fields[name] for name in ("host", "port", "user", "password")}
    config.write_text(json.dumps(asked | {"database": "postgres", "filter_schemas": ["far"]}))
    found = subprocess.run(
        [TAPS / "tap-postgres", "--config", config, "--discover"], capture_output=True, check=True, timeout=60
    )
    catalog.write_text(json.dumps(incremental(json.loads(found.stdout))))
    database, shop = tmp_path / "shop.duckdb", str(ROOT / "tests/fixtures/shop")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SLUICE_", "DBT_", "TAP_"))}
    environment = clean | {
        "HOME": str(tmp_path), "SLUICE_STATE_DIR": str(tmp_path / "state"), "SLUICE_LOG_DIR": str(tmp_path / "logs"),
        "DBT_PROJECT_DIR": shop, "DBT_PROFILES_DIR": shop, "SLUICE_SOURCES": str(sources), "STAGE": "0", "JSON": "1",
        "PATH": f"{TAPS}:{clean['PATH']}",
    }  # fmt: skip

    def synced() -> tuple:
        run = subprocess.run([ROOT / "pipelines/sync"], env=environment, capture_output=True, text=True, timeout=120)
        assert run.returncode == 0, run.stderr
        (one,) = [line for line in map(json.loads, run.stdout.splitlines()) if line["type"] == "sync_result"]
        return tuple(one[f"{name}_rows"] for name in ("received", "inserted", "updated", "unchanged", "rejected"))

    assert synced() == (50, 50, 0, 0, 0)
    assert synced() == (25, 0, 0, 25, 0), "a day of overlap, and the boundary"
    postgres.query("INSERT INTO far.orders (id, amount, changed_at) VALUES (51, 0.1, '2026-02-01')")
    postgres.query("UPDATE far.orders SET amount = 7, changed_at = '2026-02-02' WHERE id = 1")
    assert synced() == (27, 1, 1, 25, 0)
    with duckdb.connect(str(database), read_only=True) as connection:
        rows = connection.execute(
            "SELECT id, amount, note->>'$.a[1]', names FROM raw.far_orders ORDER BY id"
        ).fetchall()
    wanted = [(i, i * Decimal("1.000000000000000001"), "ü", '["a","b"]') for i in range(1, 51)]
    wanted[0] = (1, Decimal(7), *wanted[0][2:])
    assert rows == [*wanted, (51, Decimal("0.1"), None, None)]


def incremental(catalog: dict) -> dict:
    """As a person would edit it: each table by the time at which its rows changed, amounts exact."""
    for stream in catalog["streams"]:
        (whole,) = [part["metadata"] for part in stream["metadata"] if part["breadcrumb"] == []]
        whole |= {"selected": True, "replication-method": "INCREMENTAL", "replication-key": "changed_at"}
        stream["schema"]["properties"]["amount"]["multipleOf"] = 1e-18
    return catalog
