"""What all tests share: no setting of the person who runs them reaches a test, and every test has its own state."""

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from sluice import config, signals
from sluice.config import SETTINGS, Config
from sluice.dbt_engine.loader_process import Lender

# As an activated environment: a script that must first find its Python starts a third slower, and a fault that is meant
# for it may strike who finds it. That it does find it, tests/cli/00-contract.bats shows.
os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

# A busy machine makes no failure; a failure prints what reproduces it.
settings.register_profile(
    "sluice", deadline=None, print_blob=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("sluice")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in (*SETTINGS, "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(config, "ROOT", tmp_path_factory.getbasetemp())  # no .env, no .state, no .logs of the checkout
    monkeypatch.setattr(signals, "_pending", None)


@pytest.fixture(scope="module")
def lent_loader() -> Iterator[None]:
    """One loader of dbt for all that a module's tests do in this process, one client at a time, as each-wave lends it."""
    with Lender() as lender, pytest.MonkeyPatch.context() as patch:
        for name, value in lender.environment.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def lender() -> Iterator[Lender]:
    """The same for commands that are started as processes of their own: what they are given, they are given by hand."""
    with Lender() as lender:
        yield lender


@pytest.fixture
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """The settings of a command whose state and logs are in `tmp_path`."""
    monkeypatch.setenv("SLUICE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("SLUICE_LOG_DIR", str(tmp_path / "logs"))
    monkeypatch.setenv("SLUICE_LOCK_WAIT_S", "0")
    return config.load()


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """What Sluice logs, whatever a logger that was set up before made of it."""
    monkeypatch.setattr(logging.getLogger("sluice"), "propagate", True)
    caplog.set_level(logging.DEBUG, "sluice")
    return caplog
