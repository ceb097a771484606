"""What the doctor asks of models: is it ever filled, is it what its code makes."""

from pathlib import Path

import pytest
from test_guards import Project

from sluice.guards.health import checksums, never_seeded, stale_code
from sluice.profiles import Credentials
from sluice.records import PlannedModel
from sluice.warehouse import connect

pytest_plugins = ["servers"]


@pytest.mark.parametrize(
    ("rows", "select", "found"),
    [
        ([], "select 1 as n", True),
        ([], "select 1 as n -- the last line", True),
        ([], "select 1 as n where 1 = 0", False),
        ([1], "select 1 as n", False),
    ],
)
def test_never_seeded(target: Credentials, rows: list[int], select: str, found: bool) -> None:
    with connect(target, tag="test") as warehouse:
        relation = warehouse.relation(target.database, target.schema, "m")
        warehouse.execute(
            f"create table {relation} (n integer)" + (" engine = Memory" if target.adapter == "clickhouse" else "")
        )
        for n in rows:
            warehouse.execute(f"insert into {relation} values ({n})")
        assert never_seeded(warehouse, relation, select) is found


def test_stale_code(tmp_path: Path) -> None:
    known = Project(tmp_path, {"a": {}, "b": {}}).manifest
    built = checksums(
        PlannedModel(unique_id=uid, mode="whole", batches=1, stages=[], checksum=known.code_checksum(uid)[:16])
        for uid in ("model.shop.a", "model.shop.b")
    )
    assert stale_code(known, built | {"model.shop.gone": "x"}) == []
    changed = Project(tmp_path, {"a": {}, "b": {"sql": "select 2"}}).manifest
    assert stale_code(changed, built) == ["model.shop.b"]
