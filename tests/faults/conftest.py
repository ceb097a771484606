"""The soak comes first: its nights follow one another, for longer than anything else takes."""

import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: "test_soak" not in item.nodeid)
