"""Stages that grow with their source, asked of real DuckDB, ClickHouse and Postgres."""

from datetime import date
from types import SimpleNamespace
from typing import Any

import pytest

from sluice import added_stages, full_refresh
from sluice.errors import REFUSED, SluiceError, unavailable
from sluice.full_refresh import Stage
from sluice.manifest import DependsOn, Node
from sluice.profiles import Credentials
from sluice.warehouse import connect

pytest_plugins = ["servers"]

TODAY = date(2024, 6, 15)
DECLARED = [
    {"name": "v0", "vars": {"idx_start": 0, "idx_end": 100}},
    {"name": "v1", "vars": {"idx_start": 100, "idx_end": 250}},
]
RANGES = {"discovery_source": "points", "key_column": "idx", "step": 100, "name_template": "v_{start}_{end}"}
VALUES = {"discovery_source": "points", "key_column": "symbol"}
SYMBOLS = [{"name": "ada", "vars": {"symbol": "ADA"}}]


class Manifest:
    """A source `points` and a model that reads it."""

    def __init__(self, target: Credentials):
        common = {"package_name": "shop", "path": "", "original_file_path": "", "fqn": []}
        source = Node(
            unique_id="source.shop.raw.points", name="points", resource_type="source", source_name="raw", alias="points",
            schema=target.schema, database=target.database, **common,
        )  # fmt: skip
        self.model = Node(
            unique_id="model.shop.m",
            name="m",
            resource_type="model",
            depends_on=DependsOn([source.unique_id]),
            **common,
        )
        self.nodes = {one.unique_id: one for one in (source, self.model)}
        self.parents = {self.model.unique_id: [source.unique_id]}

    def of_type(self, *_: str) -> dict[str, Node]:
        return self.nodes


@pytest.fixture
def grown(target: Credentials) -> Any:
    """A function: the stages that are added to a block."""
    manifest = Manifest(target)
    with connect(target, tag="test") as warehouse:
        points = warehouse.relation(target.database, target.schema, "points")
        types, engine = ("String", " engine = Memory") if target.adapter == "clickhouse" else ("varchar", "")
        warehouse.execute(f"create table {points} (idx integer, symbol {types}, day date){engine}")
        rows = "(5, 'ADA', '2024-01-05'), (250, 'it''s, new', '2024-03-09'), (449, 'new', '2024-04-01'), (449, 'new', '2024-05-01')"
        warehouse.execute(f"insert into {points} values {rows}")

        def extend(block: dict, most: int = 20) -> list[Stage]:
            parsed = full_refresh.parse({"start_date": "2024-01-01"} | block, file="f.yml", model="m")
            return added_stages.extended(warehouse, manifest, manifest.model, parsed, today=TODAY, most=most)  # type: ignore[arg-type]

        yield extend


def told(stages: list[Stage]) -> list[tuple]:
    return [(stage.name, str(stage.start_date), stage.vars) for stage in stages]


def test_ranges_are_added_up_to_the_sources_greatest(grown: Any) -> None:
    assert told(grown({"stages": DECLARED, "range_template": RANGES})) == [
        ("v_250_350", "2024-03-09", {"idx_start": 250, "idx_end": 350}),
        ("v_350_450", "2024-04-01", {"idx_start": 350, "idx_end": 450}),
    ]
    enough = [*DECLARED, {"name": "v2", "vars": {"idx_start": 250, "idx_end": 450}}]
    assert grown({"stages": enough, "range_template": RANGES}) == []
    open_end = [*DECLARED, {"name": "v2", "vars": {"idx_start": 250}}]
    assert grown({"stages": open_end, "range_template": RANGES}) == []
    assert len(grown({"range_template": RANGES})) == 5


@pytest.mark.parametrize(("policy", "start"), [("today", "2024-06-01"), ("2024-02-02", "2024-02-02")])
def test_when_an_added_stage_starts(grown: Any, policy: str, start: str) -> None:
    added = grown({"stages": DECLARED, "range_template": RANGES | {"auto_start_policy": policy}})
    assert [str(stage.start_date) for stage in added] == [start, start]


def test_values_that_no_stage_takes_get_their_own(grown: Any) -> None:
    assert told(grown({"stages": SYMBOLS, "enum_source": VALUES})) == [
        ("it_s_new", "2024-03-09", {"symbol": ["it's, new"]}),
        ("new", "2024-04-01", {"symbol": ["new"]}),
    ]
    rest = [*SYMBOLS, {"name": "rest", "vars": {"symbol_exclude": "ADA"}}]
    assert grown({"stages": rest, "enum_source": VALUES}) == []
    named = [{"name": "new", "vars": {"symbol": "ADA"}}, {"name": "x", "vars": {"symbol": ["it's, new"]}}]
    assert told(grown({"stages": named, "enum_source": VALUES})) == [("new_2", "2024-04-01", {"symbol": ["new"]})]


def test_more_than_was_meant_is_refused(grown: Any) -> None:
    block = {"stages": DECLARED, "range_template": RANGES | {"step": 1}}
    with pytest.raises(SluiceError) as caught:
        grown(block, most=3)
    assert (caught.value.exit_code, caught.value.code) == (REFUSED, "plan_too_many_stages")
    assert "its stages would grow by more than 3, from v_250_251 on" in caught.value.message
    assert len(grown(block, most=200)) == 200


def test_a_source_that_is_not_there_is_refused(grown: Any) -> None:
    with pytest.raises(SluiceError, match="discovery_source 'pionts' is no model") as caught:
        grown({"stages": DECLARED, "range_template": RANGES | {"discovery_source": "pionts"}})
    assert caught.value.exit_code == REFUSED
    assert grown({"stages": SYMBOLS, "enum_source": VALUES | {"discovery_source": "raw.points"}})


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ({"step": 0}, "range_template.step 0"),
        ({"steps": 5}, "range_template.steps is not known; did you mean 'step'?"),
        ({"name_template": "v_{stop}"}, "is no template; {start} and {end} may stand in it"),
        ({"name_template": "v_{start.x}"}, "is no template"),
        ({"name_template": 5}, "range_template.name_template 5: Input should be a valid string"),
        ({"auto_start_policy": "soon"}, "range_template.auto_start_policy"),
        ({"var": "a b"}, "range_template.var 'a b'"),
    ],
)
def test_a_template_that_cannot_be_is_refused(template: dict, says: str) -> None:
    with pytest.raises(SluiceError) as caught:
        full_refresh.parse({"start_date": "2024-01-01", "range_template": RANGES | template}, file="f.yml", model="m")
    assert says in caught.value.message


def test_stages_that_g06_refuses_are_not_added_to(grown: Any) -> None:
    for bad in ({"idx_start": "x"}, {"idx_start": 9, "idx_end": 9}):
        assert grown({"stages": [{"name": "bad", "vars": bad}], "range_template": RANGES}) == []


def test_a_warehouse_that_is_away_adds_none_and_what_was_too_much_is_refused(
    duckdb_target: Credentials, heard: pytest.LogCaptureFixture
) -> None:
    manifest = Manifest(duckdb_target)
    blocks = {
        "model.shop.m": full_refresh.parse({"start_date": "2024-01-01", "range_template": RANGES}, file="", model="m")
    }

    def away(tag: str) -> Any:
        raise unavailable("nobody answers", code="warehouse_away")

    project: Any = SimpleNamespace(manifest=manifest, connect=away)
    assert added_stages.discover(project, blocks, today=TODAY, most=5) == "{}"
    assert "no stages are added, whether any are needed cannot be looked up: nobody answers" in heard.text

    with connect(duckdb_target, tag="test") as warehouse:
        points = warehouse.relation(duckdb_target.database, duckdb_target.schema, "points")
        warehouse.execute(f"create table {points} as select 449 as idx, date '2024-04-01' as day")
    project.connect = lambda tag: connect(duckdb_target, tag=tag)
    found = added_stages.decoded(added_stages.discover(project, blocks, today=TODAY, most=5))
    assert len(found["model.shop.m"]) == 5
    assert "m: stage v_400_500 is added: its source has outgrown the declared ones" in heard.text
    with pytest.raises(SluiceError) as caught:
        added_stages.discover(project, blocks, today=TODAY, most=4)
    assert caught.value.exit_code == REFUSED
    assert added_stages.discover(project, {}, today=TODAY, most=4) == "{}"


def test_what_was_added_is_kept_with_the_request() -> None:
    block = full_refresh.parse({"start_date": "2024-01-01", "stages": SYMBOLS}, file="", model="")
    kept = '{"m":[{"name":"new","start_date":"2024-04-01","vars":{"symbol":["new"]}}]}'
    grown = added_stages.applied({"m": block, "n": block}, kept)
    assert [stage.name for stage in grown["m"].stages or []] == ["ada", "new"]
    assert grown["n"] == block
