"""All here is long, but for what is sized; the soak comes first: its nights follow one another, for longer than anything else takes.

What fails says why at once: the whole takes an hour, and who ends it before would not know.
"""

import os
import sys
from pathlib import Path

import pytest
from lengths import EVERYTHING


def pytest_itemcollected(item: pytest.Item) -> None:
    if Path(__file__).parent in item.path.parents and "sized" not in item.keywords:
        item.add_marker("long")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: "test_soak" not in item.nodeid)


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed and EVERYTHING and "PYTEST_XDIST_WORKER" not in os.environ:
        print(f"\n{report.nodeid} failed in {report.when}:\n{report.longreprtext}", file=sys.__stderr__, flush=True)
