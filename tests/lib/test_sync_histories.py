"""A sample of generated histories; tests/faults/ runs 2,000 of them on each database."""

from pathlib import Path

import pytest
from histories import live
from taps import opened

from sluice.profiles import Credentials

pytest_plugins = ["servers"]


@pytest.mark.parametrize("dialect", ["duckdb", "postgres"])
def test_nothing_is_lost_and_nothing_double(dialect: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    target: Credentials = request.getfixturevalue(f"{dialect}_target")
    with opened(target, tmp_path) as source:
        for seed in range(25):
            live(source, seed)
