"""Vars that name what a table holds: on a real DuckDB, a value that is not there is refused by name."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest

from sluice import known_values
from sluice.errors import REFUSED, SluiceError
from sluice.manifest import Node
from sluice.profiles import Credentials
from sluice.warehouse import connect

pytest_plugins = ["servers"]


def project(target: Credentials, known: Any) -> Any:
    node = Node(
        unique_id="source.shop.raw.prices", name="prices", source_name="raw", resource_type="source", package_name="shop", path="", fqn=[],
        original_file_path="", relation_name='"raw"."prices"', meta={"known_values": known},
    )  # fmt: skip
    return SimpleNamespace(
        manifest=SimpleNamespace(nodes={node.unique_id: node}),
        connect=lambda tag: connect(target, tag=tag, read_only=True),
    )


@pytest.fixture
def shop(duckdb_target: Credentials) -> Any:
    with duckdb.connect(str(duckdb_target.fields["path"])) as connection:
        connection.execute("create schema raw")
        connection.execute(
            "create table raw.prices as select * from (values (1, 'BTC'), (52, 'O''Neil')) as t(id, name)"
        )
    return project(duckdb_target, {"ids": "id", "names": "name"})


@pytest.mark.parametrize("value", ["1,52", "52", " 1 , 52 ", "052", [1, 52], [1], 52])
def test_known_ids_pass(shop, value) -> None:
    known_values.check(shop, {"ids": value, "other": "x"})


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"ids": "1,999,7"}, "unknown id 999, 7 (var ids): not in raw.prices"),
        ({"ids": [999]}, "unknown id 999"),
        ({"names": "O'Neil,x'; drop table raw.prices --"}, "unknown name x'; drop table raw.prices --"),
    ],
)
def test_an_unknown_value_is_refused_by_name(shop, variables, said) -> None:
    with pytest.raises(SluiceError) as caught:
        known_values.check(shop, variables)
    assert (caught.value.exit_code, caught.value.code) == (REFUSED, "plan_unknown_value")
    assert said in caught.value.message
    known_values.check(shop, {"names": "O'Neil,BTC"})


def test_a_warehouse_that_is_away_is_for_the_run_to_find_and_without_such_vars_nobody_is_asked(
    shop, duckdb_target: Credentials
) -> None:
    Path(duckdb_target.fields["path"]).unlink()
    known_values.check(shop, {"ids": "999"})
    shop.connect = None
    known_values.check(shop, {"other": "1"})
    known_values.check(project(duckdb_target, "nonsense"), {"ids": "1"})
