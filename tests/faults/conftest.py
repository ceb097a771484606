"""All here is long, but for what is sized; what takes longest comes first, the year of nights before all.

What fails says why at once: the whole takes an hour, and who ends it before would not know.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.appending import own_environment
from faults.forks import Commands
from lengths import EVERYTHING

from sluice.dbt_engine.loader_process import Lender

LONGEST = ("test_soak", "test_kills_in_refills", "test_stops", "test_demo_gap", "test_daily_alerts")


@pytest.fixture(scope="module")
def commands(lender: Lender) -> Iterator[Commands]:
    """Of a module: all are lent one dbt."""
    with Commands(own_environment(lender), lender.pass_fds) as commands:
        yield commands


def pytest_itemcollected(item: pytest.Item) -> None:
    if Path(__file__).parent in item.path.parents and "sized" not in item.keywords:
        item.add_marker("long")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: next((rank for rank, name in enumerate(LONGEST) if name in item.nodeid), len(LONGEST)))


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed and EVERYTHING and "PYTEST_XDIST_WORKER" not in os.environ:
        print(f"\n{report.nodeid} failed in {report.when}:\n{report.longreprtext}", file=sys.__stderr__, flush=True)
