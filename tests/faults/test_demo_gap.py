"""`make demo-gap`, on each engine, in a database or schemas of its own: run again it tells the same."""

import os
import subprocess
from pathlib import Path

import pytest
from gaps import ENGINES, LONGEST_S
from servers import USERS

pytest_plugins = ["servers"]

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_zeros_are_shown_and_then_they_are_gone(engine: str, request: pytest.FixtureRequest, tmp_path: Path):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("SLUICE_", "DBT_"))}
    env |= {"TARGET": engine, "SLUICE_STATE_DIR": str(tmp_path / "state"), "DBT_PROJECT_DIR": "/of/the/user"}
    if engine == "postgres":
        env |= {"SLUICE_PG_PORT": str(request.getfixturevalue("postgres").port), "SLUICE_PG_USER": "test"}
    elif engine == "clickhouse":
        port = request.getfixturevalue("clickhouse").http_port
        env |= {"SLUICE_CH_PORT": str(port), "SLUICE_CH_USER": "refresh"}
        env |= {"DBT_ENV_SECRET_CH_PASSWORD": USERS["refresh"].password}

    told = []
    for _ in range(2 if engine == "postgres" else 1):
        done = subprocess.run([ROOT / "pipelines/demo-gap"], env=env, capture_output=True, text=True, timeout=LONGEST_S)
        assert done.returncode == 0, done.stdout + done.stderr
        told.append([line.split() for line in done.stdout.splitlines() if line.startswith("   2026-04-")])
    assert told[0] == told[-1]
    wrong, still_wrong, right = told[0][:5], told[0][5:10], told[0][10:]
    assert wrong == still_wrong
    assert wrong[2][:3] == ["2026-04-17", "0.00", "31"]
    assert [day for day in wrong if day != wrong[2]] == [day for day in right if day != right[2]]
    assert float(right[2][1].replace(",", "")) > 1e9
    assert right[2][2] == "-"
