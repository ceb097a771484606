"""All here is long, but for what is sized; the soak comes first: its nights follow one another, for longer than anything else takes."""

from pathlib import Path

import pytest


def pytest_itemcollected(item: pytest.Item) -> None:
    if Path(__file__).parent in item.path.parents and "sized" not in item.keywords:
        item.add_marker("long")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: "test_soak" not in item.nodeid)
