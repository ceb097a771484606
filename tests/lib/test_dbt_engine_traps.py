"""Config that moves with a batch's vars: a warm session must leave the tables that fresh `dbt run`s leave."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from test_dbt_engine import INCREMENTAL, Project, tables

FRESH_RUNS = """
import json, os, sys
from dbt.cli.main import dbtRunner
for vars, full_refresh in json.loads(sys.argv[2]):
    # A process each: dbt-duckdb keeps its file open, and nothing may be left over from the run before.
    if (child := os.fork()) == 0:
        flags = ["--quiet", "--no-version-check", "--no-send-anonymous-usage-stats", "--no-partial-parse"]
        where = ["--project-dir", sys.argv[1], "--profiles-dir", sys.argv[1]]
        args = ["run", *where, "--vars", json.dumps(vars), *(["--full-refresh"] if full_refresh else []),]
        result = dbtRunner().invoke(flags + args)
        if result.exception:
            print(result.exception, file=sys.stderr)
        os._exit(0 if result.exception is None else 1)
    assert os.waitpid(child, 0)[1] == 0
"""

# (vars, full refresh) of each batch; the project is parsed without vars.
BATCHES = [
    ({"stage": "a", "start_month": "2024-01-01"}, False),
    ({"stage": "b", "start_month": "2024-02-01", "keys": ["id", "month"]}, False),
    ({}, False),
    ({"stage": "a", "start_month": "2024-02-01"}, True),
]

BODY = """
select 1 as id, '{{ var("stage", "none") }}' as stage, '{{ var("start_month", "never") }}' as month
"""
MODELS = {
    "strategy": "{{ config(materialized='incremental', unique_key='id',"
    " incremental_strategy=('append' if var('start_month', none) else 'delete+insert')) }}" + BODY,
    "strategy_by_macro": "{{ config(materialized='incremental', unique_key='id', incremental_strategy=pick()) }}"
    + BODY,
    "unique_key": "{{ config(materialized='incremental', unique_key=var('keys', 'id')) }}" + BODY,
    "alias": "{{ config(materialized='incremental', alias='alias_' ~ var('stage', 'none')) }}" + BODY,
    "schema": "{{ config(materialized='incremental', schema=var('stage', none)) }}" + BODY,
    "materialized": "{{ config(materialized='table' if var('stage', '') == 'a' else 'view') }}" + BODY,
    "tags": "{{ config(materialized='incremental', tags=['t_' ~ var('stage', 'none')]) }}"
    + "select '{{ model.tags | join(',') }}' as tags",
    "meta": "{{ config(materialized='incremental', meta={'m': var('start_month', 'x')}) }}"
    + "select '{{ config.get('meta')['m'] }}' as meta, '{{ var('start_month', 'x') }}' as var",
    "conditional_ref": "{{ config(materialized='incremental') }}"
    + "select * from {% if var('stage', 'a') == 'a' %}{{ ref('source_a') }}{% else %}{{ ref('source_b') }}{% endif %}",
    "source_a": "{{ config(materialized='table') }} select 'a' as source",
    "source_b": "{{ config(materialized='table') }} select 'b' as source",
    "hook_early": "{{ config(materialized='incremental',"
    " post_hook=\"insert into {{ this }} values (2, 'early', '\" ~ var('stage', 'none') ~ \"')\") }}" + BODY,
    "hook_late": "{{ config(materialized='incremental',"
    " pre_hook=\"create table if not exists side as select '{{ var('stage', 'none') }}' as stage\","
    " post_hook=\"insert into side values ('{{ var('stage', 'none') }}')\") }}" + BODY,
    "hook_renames": "{{ config(materialized='incremental',"
    " post_hook=\"{% if var('stage', '') == 'b' %}drop table {{ this }}{% endif %}\") }}" + BODY,
    "full_refresh": "{{ config(materialized='incremental', full_refresh=(var('stage', '') == 'b')) }}" + BODY,
    "sql_header": "{{ config(materialized='table') }}{% call set_sql_header(config) %}"
    "set variable header = '{{ var('stage', 'none') }}';{% endcall %}select getvariable('header') as header",
    "ephemeral": "{{ config(materialized='ephemeral') }}" + BODY,
    "ephemeral_conditional": "{{ config(materialized='ephemeral') }}"
    "select * from {% if var('stage', 'a') == 'a' %}{{ ref('source_a') }}{% else %}{{ ref('source_b') }}{% endif %}",
    "of_ephemerals": "{{ config(materialized='incremental') }}"
    "select e.*, c.source from {{ ref('ephemeral') }} e, {{ ref('ephemeral_conditional') }} c",
    "sometimes_ephemeral": "{{ config(materialized='ephemeral' if var('stage', '') == 'b' else 'table') }}" + BODY,
    "of_sometimes": "{{ config(materialized='incremental') }} select * from {{ ref('sometimes_ephemeral') }}",
    "of_alias": "{{ config(materialized='incremental') }} select *, 'child' as child from {{ ref('alias') }}",
    "reads_incremental": "{{ config(materialized='incremental') }}"
    "select {{ is_incremental() }} as incremental, {{ should_full_refresh() }} as f, {{ flags.FULL_REFRESH }} as flag",
}
PICK = "{% macro pick() %}{{ return('append' if var('start_month', none) else 'delete+insert') }}{% endmacro %}"


def fresh_runs(project: Project, batches: list) -> subprocess.Popen:
    script = [sys.executable, "-c", FRESH_RUNS, str(project.root), json.dumps(batches)]
    return subprocess.Popen(script, stdout=sys.stderr, cwd=project.root)


def in_order(models: dict[str, str]) -> list[str]:
    """Parents before children, as dbt would run them."""
    return sorted(models, key=lambda name: (name.startswith("of_"), not name.startswith(("source_", "tags")), name))


def leaves_what_fresh_runs_leave(tmp_path: Path, models: dict, batches: list, **files: dict) -> dict[str, set]:
    """Run every model under every batch in both ways; {model: the engines that were used}."""
    warm, fresh = (Project(tmp_path / way, models, name="traps", **files) for way in ("warm", "fresh"))
    fresh_way = fresh_runs(fresh, batches)
    with warm.engine() as engine:
        engine.parse()
    engines: dict[str, set] = {}
    with warm.engine() as engine:  # the second start has dbt's saved parse, which lacks the models' text
        for number, (vars, full_refresh) in enumerate(batches):
            for name in in_order(models):
                outcome = warm.run(engine, name, vars=vars, full_refresh=full_refresh, batch_id=f"{name}-{number}")
                assert outcome.status == "ok", (name, vars, outcome)
                engines.setdefault(name, set()).add(outcome.engine)
    assert fresh_way.wait() == 0
    assert tables(warm) == tables(fresh)
    return engines


FEW = (
    "strategy_by_macro",
    "alias",
    "conditional_ref",
    "source_a",
    "source_b",
    "hook_early",
    "sometimes_ephemeral",
    "of_sometimes",
)


@pytest.mark.parametrize(
    ("models", "batches"),
    [
        pytest.param({name: MODELS[name] for name in FEW}, BATCHES[:2], id="few"),
        pytest.param(MODELS, BATCHES, id="all", marks=pytest.mark.long),
    ],
)
def test_model_files_reading_vars(tmp_path: Path, models: dict[str, str], batches: list) -> None:
    engines = leaves_what_fresh_runs_leave(tmp_path, models, batches, macros={"pick": PICK})
    assert set.union(*engines.values()) == {"warm"}


NAMES = """
{% macro generate_schema_name(name, node) %}{{ target.schema }}_{{ var('stage', 'none') }}{% endmacro %}
{% macro generate_alias_name(name, node) %}{{ node.name }}_{{ suffix() }}{% endmacro %}
{% macro suffix() %}{{ var('keys', ['x'])[0] }}{% endmacro %}
"""


@pytest.mark.long
def test_naming_macros_reading_vars(tmp_path: Path) -> None:
    models = {"source_a": INCREMENTAL + BODY, "of_source": INCREMENTAL + "select * from {{ ref('source_a') }}"}
    engines = leaves_what_fresh_runs_leave(tmp_path, models, BATCHES[:2], macros={"names": NAMES})
    assert engines == {"source_a": {"warm"}, "of_source": {"warm"}}


@pytest.mark.long
@pytest.mark.parametrize(
    ("files", "settings"),
    [
        ({"models/schema.yml": "models: [{name: yaml, config: {alias: \"yaml_{{ var('stage', 'none') }}\"}}]"}, ""),
        ({}, "models: {traps: {+alias: \"yaml_{{ var('stage', 'none') }}\"}}"),
    ],
    ids=["schema.yml", "dbt_project.yml"],
)
def test_yaml_reading_a_var_gets_a_parse_of_its_own(tmp_path: Path, files: dict, settings: str) -> None:
    project = Project(tmp_path, {"yaml": INCREMENTAL + BODY}, files=files, settings=settings, name="traps")
    with project.engine() as engine:
        outcomes = [project.run(engine, "yaml", vars=vars) for vars, _ in BATCHES[:2]]
        plain = project.run(engine, "yaml", vars={"start_month": "2024-01-01"})
    assert [(one.status, one.engine) for one in [*outcomes, plain]] == [
        ("ok", "fresh"),
        ("ok", "fresh"),
        ("ok", "warm"),
    ]
    assert "yml" in outcomes[0].fresh_reason
    assert tables(project).keys() == {"main.yaml_a", "main.yaml_b", "main.yaml_none"}


GRAPH = "select '{{ graph.nodes['model.traps.tagged'].tags | join(',') }}' as tags"


@pytest.mark.long
def test_a_model_that_walks_the_graph_gets_a_parse_of_its_own(tmp_path: Path) -> None:
    models = {
        "tagged": "{{ config(tags=['t_' ~ var('stage', 'none')]) }} select 1 as one",
        "walks": INCREMENTAL + GRAPH,
    }
    project = Project(tmp_path, models, name="traps")
    with project.engine() as engine:
        assert project.run(engine, "walks", vars={"stage": "a"}).engine == "fresh"
    assert project.query("select tags from main.walks") == [("t_a",)]


@pytest.mark.long
def test_enabled_by_a_var(tmp_path: Path) -> None:
    models = {"sometimes": "{{ config(enabled=(var('stage', 'a') == 'a')) }}" + BODY}
    models["never"] = "{{ config(enabled=(var('stage', 'a') == 'b')) }}" + BODY
    project = Project(tmp_path, models, name="traps")
    with project.engine() as engine:
        off = project.run(engine, "sometimes", vars={"stage": "b"})
        on = project.run(engine, "never", vars={"stage": "b"})
        back = project.run(engine, "sometimes", vars={"stage": "a"})
        absent = project.run(engine, "nonesuch", "sometimes")
    assert (off.status, off.nodes[0].status) == ("failed", "skipped")
    assert "model.traps.sometimes (disabled)" in off.error
    assert (on.status, on.engine, back.status) == ("ok", "fresh", "ok")
    assert absent.status == "failed"
    assert "model.traps.nonesuch (not in the project)" in absent.error


@pytest.mark.long
def test_a_disabled_twin_that_a_var_enables_takes_over_the_ref(tmp_path: Path) -> None:
    package = {
        "package/dbt_project.yml": "name: package\nversion: '1.0.0'\nprofile: engine\n",
        "package/models/twin.sql": "select 'of the package' as whose",
        "package/models/both.sql": INCREMENTAL + 'select \'{{ var("stage", "none") }}\' as stage',
        "packages.yml": "packages: [{local: package}]",
        "dbt_packages/.keep": "",
    }
    models = {"twin": "{{ config(enabled=(var('stage', 'a') == 'b'), schema='root') }} select 'of the root' as whose"}
    models["child"] = INCREMENTAL + "select * from {{ ref('twin') }}"
    models["both"] = "{{ config(schema='root', materialized='incremental') }} select 'root' as stage"
    project = Project(tmp_path, models, files=package, name="traps")
    (tmp_path / "dbt_packages" / "package").symlink_to(tmp_path / "package")
    with project.engine() as engine:
        for stage in ("a", "b"):
            for name in ("model.package.twin", "child", "model.package.both", "both"):
                assert project.run(engine, name, vars={"stage": stage}, batch_id=name).status == "ok"
            if stage == "a":
                assert project.run(engine, "twin", vars={"stage": "b"}).status == "ok"
        assert engine.ls(["both"], [], None) == ["model.package.both", "model.traps.both"]
    assert project.query("select whose from main.child") == [("of the package",), ("of the root",)]
    assert project.query("select stage from main.both") == [("a",), ("b",)]
    assert project.query("select stage from main_root.both") == [("root",)] * 2
