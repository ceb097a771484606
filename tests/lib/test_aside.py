"""Models built aside: dbt builds and reads them under the other name, in every way that a batch can be run; what cannot be is refused."""

from collections.abc import Iterator

import pytest
from builders import a_plan
from test_dbt_engine import INCREMENTAL, Project

from sluice import aside
from sluice.dbt_engine.client import Engine
from sluice.errors import SluiceError
from sluice.manifest import DependsOn, Manifest, Metadata, Node, _File

MODELS = {
    "rows": INCREMENTAL
    + "select {{ var('n', 1) }} {% if is_incremental() %} + (select max(n) from {{ this }}) {% endif %} as n",
    "reader": "{{ config(materialized='table') }} select * from {{ ref('rows') }}",
    "outside": "{{ config(materialized='table') }} select * from {{ ref('rows') }}",
    "strategy": "{{ config(materialized='incremental', incremental_strategy='append', tags=[var('tag', 'a')]) }} select 1 as n",
    "renamed": "{{ config(materialized='table', alias='renamed_' ~ var('part', 'a')) }} select 1 as n",
}
PLANNED = ("rows", "reader", "strategy")
ASIDES = {f"model.shop.{name}": aside.aside_name(name) for name in PLANNED} | {
    "model.shop.renamed": aside.aside_name("renamed_a")
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Project:
    settings = "models: {shop: {+meta: {said: \"{{ var('in_yaml', 'a') }}\"}}}"
    return Project(tmp_path_factory.mktemp("shop"), MODELS, settings=settings)


@pytest.fixture(scope="module")
def engine(shop: Project) -> Iterator[Engine]:
    for name in ("rows", "reader", "outside"):
        shop.query(f"create table {name} as select 1 as n")
    with shop.engine(asides=ASIDES) as engine:
        yield engine


def values(shop: Project, engine: Engine, table: str) -> list[int]:
    engine.cancel()  # it lets go of the file
    return [n for (n,) in shop.query(f"select n from {table} order by n")]


def test_refs_within_the_plan_and_this_mean_what_is_built_aside_and_nothing_else_is_touched(
    shop: Project, engine: Engine
):
    assert shop.run(engine, "rows", vars={"n": 10}, full_refresh=True).status == "ok"
    assert shop.run(engine, "rows", vars={"n": 10}).status == "ok"
    assert shop.run(engine, "reader", "outside").status == "ok"
    for name, expected in (
        ("rows__sluice_aside", [10, 20]),
        ("reader__sluice_aside", [10, 20]),
        ("rows", [1]),
        ("reader", [1]),
    ):
        assert values(shop, engine, name) == expected


def test_a_batch_whose_vars_make_dbt_parse_anew_builds_aside_too(shop: Project, engine: Engine):
    outcome = shop.run(engine, "rows", vars={"n": 7, "in_yaml": "b"}, full_refresh=True)
    assert (outcome.status, outcome.engine) == ("ok", "fresh")
    assert values(shop, engine, "rows__sluice_aside") == [7]
    for tag in ("a", "b", "c"):  # parsed again in the session
        outcome = shop.run(engine, "strategy", vars={"tag": tag}, full_refresh=tag == "a")
        assert (outcome.status, outcome.engine) == ("ok", "warm")
    assert values(shop, engine, "strategy__sluice_aside") == [1, 1, 1]
    assert values(shop, engine, "rows") == [1]


def test_a_model_whose_name_moves_with_the_batchs_vars_is_not_built(shop: Project, engine: Engine):
    outcome = shop.run(engine, "renamed", vars={"part": "b"}, full_refresh=True)
    assert outcome.status == "failed"
    assert "is called renamed_b under the batch's vars: it cannot be built aside" in (outcome.error or "")
    engine.cancel()
    assert not shop.query("select 1 from information_schema.tables where table_name like 'renamed%'")


# -- what cannot be built aside ------------------------------------------------------------------------------------------


def graph(**models: tuple[str, list[str]]) -> Manifest:
    """A manifest of models {name: (materialization, parents)}."""
    nodes = {
        f"model.shop.{name}": Node(
            unique_id=f"model.shop.{name}", name=name, alias=name, resource_type="model", package_name="shop", path="", fqn=[],
            original_file_path="", config={"materialized": kind},
            depends_on=DependsOn(nodes=[f"model.shop.{parent}" for parent in parents]),
        )
        for name, (kind, parents) in models.items()
    }  # fmt: skip
    return Manifest(_File(metadata=Metadata(dbt_schema_version=""), nodes=nodes))


def refusal(manifest: Manifest, *models: str, adapter: str = "duckdb") -> str | None:
    try:
        aside.refuse_unfit(manifest, [f"model.shop.{model}" for model in models], adapter)
    except SluiceError as problem:
        return f"{problem.code}: {problem.message}"
    return None


@pytest.mark.parametrize("kind", ["ephemeral", "view"])
def test_a_view_between_two_planned_models_must_be_planned_an_ephemeral_one_need_not(kind: str):
    manifest = graph(a=("incremental", []), b=(kind, ["a"]), c=("view", ["b"]), d=("table", ["c"]), e=("view", []))
    views = ["b"] if kind == "view" else []  # nobody selects an ephemeral model
    assert "reads the view c, which is not in the plan" in (refusal(manifest, "a", *views, "d") or "")
    assert refusal(manifest, "a", *views, "c", "d") is None
    assert refusal(manifest, "d") is None, "what it reads through the views is not planned either"
    assert refusal(manifest, "e", "a") is None
    assert (refusal(manifest, "a", "c", "d") is None) == (kind == "ephemeral")


def test_what_has_more_than_its_name_to_tie_it_to_its_place_is_refused():
    manifest = graph(a=("external", []), b=("materialized_view", []), c=("table", []), **{"x" * 50: ("table", [])})
    for name in ("a", "b"):
        assert (refusal(manifest, name) or "").startswith("plan_aside_unfit")
    assert "63 bytes" in (refusal(manifest, "x" * 50, adapter="postgres") or "")
    assert refusal(manifest, "x" * 50) is None
    manifest.nodes["model.shop.c"].config["indexes"] = [{"columns": ["n"]}]
    assert "index" in (refusal(manifest, "c") or "")
    assert refusal(manifest, "c", adapter="postgres") is None


def test_checks_and_merges_after_the_batches_look_at_what_was_built():
    manifest, (plan, _) = graph(a=("table", []), b=("table", [])), a_plan(models=["model.shop.a"])
    aside.redirect(manifest, plan)
    aside.redirect(manifest, None)
    assert manifest.nodes["model.shop.a"].alias == "a", "it is built in place"
    aside.place(plan.models[0], manifest.nodes["model.shop.a"])
    aside.redirect(manifest, plan)
    assert [node.alias for node in manifest.nodes.values()] == ["a__sluice_aside", "b"]
