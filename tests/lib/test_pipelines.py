"""What make runs, on the bundled warehouse: the whole flow, compared with one plain dbt run."""

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import duckdb
import msgspec
import pytest

ROOT = Path(__file__).resolve().parents[2]
WAREHOUSE = ROOT / "warehouse"
MARKET = sorted(path.stem for path in (WAREHOUSE / "models" / "market").rglob("*.sql"))


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    work = tmp_path_factory.mktemp("pipelines")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("SLUICE_", "DBT_"))}
    return clean | {
        "SLUICE_DUCKDB_PATH": str(work / "warehouse.duckdb"),
        "SLUICE_STATE_DIR": str(work / "state"),
        "SLUICE_LOG_DIR": str(work / "logs"),
        "SAMPLE_SCALE": "0.05",
    }


@pytest.fixture(scope="module")
def sampled(env: dict[str, str]) -> Path:
    """The database as the sample data left it."""
    subprocess.run([ROOT / "pipelines/sample-data"], env=env, check=True, capture_output=True, timeout=120)
    made = Path(env["SLUICE_DUCKDB_PATH"])
    return Path(shutil.copy(made, made.with_name("sampled.duckdb")))


@pytest.fixture(scope="module")
def refreshed(env: dict[str, str], sampled: Path) -> subprocess.CompletedProcess:
    return subprocess.run([ROOT / "pipelines/full-refresh"], env=env | {"JSON": "1"}, capture_output=True, timeout=300)


def records(run: subprocess.CompletedProcess) -> list[dict]:
    return [msgspec.json.decode(line) for line in run.stdout.splitlines()]


def rows(database: Path, relation: str) -> list[tuple]:
    with duckdb.connect(str(database), read_only=True) as connection:
        return connection.execute(f"SELECT * FROM analytics.{relation} ORDER BY ALL").fetchall()


def relations(database: Path) -> list[str]:
    with duckdb.connect(str(database), read_only=True) as connection:
        named = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'analytics' ORDER BY 1"
        return [name for (name,) in connection.execute(named).fetchall() if name not in (*MARKET, "sluice_commit")]


def market_rows(database: Path) -> dict[str, int]:
    """How many rows the market's tables have; what is in them is compared with pandas in test_market."""
    with duckdb.connect(str(database), read_only=True) as connection:
        return {name: connection.execute(f"SELECT count(*) FROM analytics.{name}").fetchall()[0][0] for name in MARKET}


def test_a_full_refresh_of_at_least_165_batches_leaves_what_one_unbatched_dbt_run_leaves(
    env, sampled, refreshed, tmp_path
):
    assert refreshed.returncode == 0, refreshed.stderr.decode()
    results = [record for record in records(refreshed) if record["type"] == "batch_result"]
    assert len(results) >= 165
    assert {result["status"] for result in results} == {"ok"}

    batched = Path(env["SLUICE_DUCKDB_PATH"])
    plain = Path(shutil.copy(sampled, tmp_path / "warehouse.duckdb"))
    subprocess.run(
        [ROOT / ".venv/bin/dbt", "run", "--full-refresh", "--project-dir", WAREHOUSE, "--profiles-dir", WAREHOUSE,
         "--target-path", tmp_path / "target", "--log-path", tmp_path / "logs"],
        env=env | {"SLUICE_DUCKDB_PATH": str(plain)}, check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    assert relations(batched) == relations(plain)
    assert len(relations(plain)) >= 9
    for relation in relations(plain):
        assert rows(batched, relation) == rows(plain, relation), relation
    assert market_rows(batched) == market_rows(plain)
    assert sum(count > 0 for count in market_rows(plain).values()) == len(MARKET) - 1, "only ema_rejects is empty"


def test_a_daily_refresh_after_it_is_silent_logs_and_changes_nothing(env, refreshed):
    database = Path(env["SLUICE_DUCKDB_PATH"])
    before, before_market = (
        {relation: rows(database, relation) for relation in relations(database)},
        market_rows(database),
    )
    daily = subprocess.run([ROOT / "pipelines/daily-refresh"], env=env, capture_output=True, timeout=120)
    assert (daily.returncode, daily.stdout, daily.stderr) == (0, b"", b"")
    assert {relation: rows(database, relation) for relation in relations(database)} == before
    assert market_rows(database) == before_market

    (log,) = Path(env["SLUICE_LOG_DIR"]).glob("refresh-????-??-??.log")
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    said = log.read_text()
    assert "DAILY OF SLUICE_WAREHOUSE (DUCKDB): ok" in said
    assert "components 5   successful 5   failed 0" in said
    for component in ("token", "validators", "transactions", "bars", "emas"):
        assert re.search(rf"notify.* ok  {component}   [\d.]+ s   [\d,]+ rows$", said, re.MULTILINE), component
    assert "no_gap of price_bars_1d" in said, "it was checked"
    assert len(list(Path(env["SLUICE_LOG_DIR"], "records").glob("*.jsonl"))) == 2


def test_a_rehearsal_of_either_changes_nothing(env, refreshed):
    def everything() -> set[tuple[str, float]]:
        folder = Path(env["SLUICE_STATE_DIR"]).parent
        return {(str(path), path.stat().st_mtime) for path in folder.rglob("*") if path.is_file()}

    before = everything()
    for pipeline in ("full-refresh", "daily-refresh"):
        rehearsal = subprocess.run(
            [ROOT / "pipelines" / pipeline], env=env | {"DRY_RUN": "1"}, capture_output=True, timeout=60
        )
        assert rehearsal.returncode == 0, rehearsal.stderr.decode()
        assert rehearsal.stdout.count(b'"type":"batch"') >= 9
    assert everything() == before
