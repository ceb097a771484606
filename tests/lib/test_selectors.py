"""Selections equal dbt's own, on a project that has one of everything.

SLUICE_TEST_EXAMPLES selectors are generated from SLUICE_TEST_SEED, over SLUICE_TEST_MODELS chained models or, when
SLUICE_TEST_PROJECT is set, over a copy of the dbt project in that folder.
"""

import json
import os
import random
import shutil
import textwrap
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sluice.manifest import Manifest, load
from sluice.selectors import CONFIG_METHODS, METHODS, RESOURCE_TYPES, NeedsDbt, select

EXAMPLES = int(os.environ.get("SLUICE_TEST_EXAMPLES", "200"))
SEED = int(os.environ.get("SLUICE_TEST_SEED", "1"))
CHAINED = int(os.environ.get("SLUICE_TEST_MODELS", "40"))
PROJECT = os.environ.get("SLUICE_TEST_PROJECT")

FILES = {
    "dbt_project.yml": """
        name: shop
        version: "1.0"
        profile: shop
        flags: {send_anonymous_usage_stats: false}
        models:
          shop:
            staging: {+materialized: view, +tags: [staging, nightly]}
            marts:
              +materialized: table
              +meta: {owner: alice, tier: 1, first_day: 2024-05-01}
              finance: {+tags: finance, +schema: fin, +group: money}
          tools: {+tags: [tooling]}
        seeds: {shop: {+tags: seed}}
        vars: {unused: 1}
        """,
    "packages.yml": "packages: [{local: packages/tools}]",
    "profiles.yml": 'shop: {target: dev, outputs: {dev: {type: duckdb, path: ":memory:"}}}',
    "macros/cents.sql": "{% macro cents(column) %}({{ column }} * 100){% endmacro %}",
    "seeds/countries.csv": "id,name\n1,Spain\n",
    "seeds/lists/currencies.csv": "id,name\n1,EUR\n",
    "analyses/look.sql": "select * from {{ ref('orders') }}",
    "snapshots/history.sql": """
        {% snapshot order_history %}
        {{ config(unique_key='id', strategy='check', check_cols=['id'], target_schema='snap', tags=['slow']) }}
        select * from {{ ref('stg_app__orders') }}
        {% endsnapshot %}
        """,
    "tests/no_negative.sql": "select * from {{ ref('orders') }} where id < 0",
    "tests/two_parents.sql": "select * from {{ ref('orders') }} join {{ ref('countries') }} using (id) where false",
    "models/groups.yml": """
        groups:
          - {name: money, owner: {email: m@example.org}}
          - {name: growth, owner: {email: g@example.org}}
          - {name: figures, owner: {email: f@example.org}}
        """,
    "models/sources.yml": """
        sources:
          - name: app
            tags: [raw]
            tables: [{name: orders, config: {tags: [hot]}}, {name: users}, {name: "refunds"}]
          - name: bank
            config: {meta: {owner: bob}}
            tables: [{name: payments}, {name: fx_rates, config: {enabled: false}}]
        """,
    "models/exposures.yml": """
        exposures:
          - name: board
            type: dashboard
            tags: [nightly]
            owner: {email: a@example.org}
            depends_on: [ref('mart_revenue'), metric('revenue'), "source('app', 'users')"]
          - name: letter
            type: notebook
            owner: {email: a@example.org}
            depends_on: [ref('orders')]
            config: {tags: [slow]}
          - name: gone
            type: notebook
            owner: {email: a@example.org}
            depends_on: [ref('orders')]
            config: {enabled: false}
        """,
    "models/marts/marts.yml": """
        models:
          - name: orders
            access: public
            config:
              meta: {owner: bob, flags: {big: true, items: x}, years: [2023, 2024], days: [true], since: 2026-01-02}
            columns:
              - name: id
                data_tests: [unique, {not_null: {config: {severity: WARN, tags: [slow]}}}]
              - name: country
                data_tests: [{relationships: {arguments: {to: ref('countries'), field: id}}}]
          - name: customers
            latest_version: 2
            config: {tags: [versioned]}
            versions:
              - {v: 1, config: {tags: [old]}}
              - {v: 2, config: {materialized: view}}
              - {v: 3}
        unit_tests:
          - name: adds_up
            model: orders
            config: {tags: [checked]}
            given: [{input: ref('stg_app__orders'), rows: [{id: 1}]}]
            expect: {rows: [{id: 1}]}
        """,
    "models/metrics.yml": """
        models:
          - name: days
            time_spine: {standard_granularity_column: day}
            columns: [{name: day, granularity: day}]
        semantic_models:
          - name: order_facts
            model: ref('orders')
            defaults: {agg_time_dimension: sold_on}
            entities: [{name: order, type: primary, expr: id}]
            dimensions: [{name: sold_on, type: time, type_params: {time_granularity: day}}]
            measures: [{name: total, agg: sum, expr: id}]
        metrics:
          - name: revenue
            label: Revenue
            type: simple
            type_params: {measure: total}
            config: {tags: [finance], group: figures}
        saved_queries:
          - name: by_day
            query_params: {metrics: [revenue], group_by: ["TimeDimension('order__sold_on', 'day')"]}
            tags: slow
        """,
    "models/days.sql": "select current_date as day",
    "functions/twice.sql": "x * 2",
    "functions/functions.yml": """
        functions:
          - name: twice
            returns: {data_type: int}
            arguments: [{name: x, data_type: int}]
            config: {tags: [nightly]}
        """,
    "models/marts/doubled.sql": "select {{ function('twice') }}(id) as id from {{ ref('orders') }}",
    "models/marts/orders.sql": """
        {{ config(materialized='incremental', unique_key=['id', 'day'], tags=['production', 'big-one'], items='shelf',
                  incremental_strategy='delete+insert', full_refresh=false, order_by=['id']) }}
        select {{ cents('id') }} as id from {{ ref('stg_app__orders') }} join {{ ref('int_shared') }} using (id)
        """,
    "models/marts/orders.daily.sql": "{{ config(tags='nightly') }} select * from {{ ref('orders') }}",
    "models/marts/Loud.SQL": "select 1 as id",
    "models/marts/Orders_Upper.sql": "select * from {{ ref('orders') }}",
    "models/marts/customers_v1.sql": "select * from {{ ref('stg_app__users') }}",
    "models/marts/customers_v2.sql": "select * from {{ ref('stg_app__users') }}",
    "models/marts/customers_v3.sql": "select * from {{ ref('customers', v=2) }}",
    "models/marts/finance/mart_revenue.sql": """
        select * from {{ ref('orders') }}, {{ ref('tool_days') }}, {{ ref('customers') }}
        """,
    "models/marts/finance/mart_empty.sql": "",
    "models/marts/finance/mart_off.sql": "{{ config(enabled=false) }} select * from {{ ref('orders') }}",
    "models/marts/finance/deep/mart_score.py": """
        def model(dbt, session):
            dbt.config(materialized="table", tags=["python"])
            return dbt.ref("mart_revenue")
        """,
    "models/intermediate/int_shared.sql": """
        {{ config(materialized='ephemeral', group='growth',
                  meta={'owner': 'carol', 'day': modules.datetime.date(2026, 1, 2)}) }}
        select * from {{ ref('stg_app__users') }}
        """,
    "models/intermediate/int_private.sql": """
        {{ config(group='growth', access='private') }}
        select * from {{ ref('int_shared') }}
        """,
    "models/marts/models/orders_again.sql": "select * from {{ source('bank', 'payments') }}",
    "packages/tools/dbt_project.yml": """
        name: tools
        version: "1.0"
        models: {tools: {days: {+materialized: table, +meta: {owner: tools}}}}
        """,
    "packages/tools/models/days/tool_days.sql": "select * from {{ ref('tool_numbers') }}",
    "packages/tools/models/days/orders_copy.sql": "select * from {{ ref('tool_days') }}",
    "packages/tools/models/tool_numbers.sql": "{{ config(tags=['nightly']) }} select 1 as id",
    "packages/tools/models/tools.yml": """
        models:
          - name: tool_numbers
            columns: [{name: id, data_tests: [unique]}]
        sources:
          - {name: app, tables: [{name: clock}]}
        exposures:
          - {name: letter_of_tools, type: ml, owner: {email: t@example.org}, depends_on: [ref('tool_days')]}
        """,
    "packages/tools/models/marts/orders_mart.sql": "select * from {{ source('app', 'clock') }}",
}
SOURCES = {"app": ("orders", "users", "refunds"), "bank": ("payments",)}


def write_project(root: Path) -> None:
    files = FILES | dict(_staging_files()) | dict(_chain_files(random.Random(7)))
    for path, text in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text).strip("\n"))
    (root / "dbt_packages").mkdir()
    (root / "dbt_packages/tools").symlink_to(root / "packages/tools")


def _staging_files() -> Iterator[tuple[str, str]]:
    for source, tables in SOURCES.items():
        for table in tables:
            path = f"models/staging/{source}/stg_{source}__{table}.sql"
            yield path, f"select 1 as id from {{{{ source('{source}', '{table}') }}}}"


def _chain_files(chance: random.Random) -> Iterator[tuple[str, str]]:
    """Each model reads up to three of those before: depth for the operators."""
    configs = ["", "{{ config(tags=['production']) }}", "{{ config(materialized='table', meta={'tier': 2}) }}"]
    for number in range(CHAINED):
        recent = range(max(0, number - 30), number)
        refs = [f"ref('link_{chance.choice(recent)}')" for _ in range(chance.randint(0, 3)) if recent]
        reads = " ".join(f"{{{{ {ref} }}}}" for ref in refs or ["source('bank', 'payments')"])
        yield f"models/chain/{number % 7}/link_{number}.sql", f"{chance.choice(configs)} select 1 as id -- {reads}"


@dataclass
class Dbt:
    """dbt's own answers, from the manifest that it has in memory."""

    manifest: Any
    graph: Any
    root: Path

    def select(self, select: list[str], exclude: list[str], resource_types: tuple[str, ...] = ("model",)) -> set[str]:
        from dbt.graph import ResourceTypeSelector, parse_difference
        from dbt.node_types import NodeType
        from dbt_common.events.contextvars import task_contextvars

        types = [NodeType(name) for name in resource_types]
        selector = ResourceTypeSelector(self.graph, self.manifest, None, types, include_empty_nodes=True)
        with task_contextvars(project_root=str(self.root)):
            return selector.get_selected(parse_difference(tuple(select), tuple(exclude)), warn_on_no_nodes=False)


def run_dbt(root: Path, *arguments: str) -> Any:
    from dbt.cli.main import dbtRunner

    result = dbtRunner().invoke(["--quiet", *arguments, "--project-dir", str(root), "--profiles-dir", str(root)])
    assert result.success, result.exception
    return result.result


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project") / "shop"
    if PROJECT:
        shutil.copytree(PROJECT, root, ignore=shutil.ignore_patterns("target", "logs", "*.duckdb"))
    else:
        root.mkdir()
        write_project(root)
    return root


@pytest.fixture(scope="module")
def dbt(project: Path) -> Dbt:
    from dbt.compilation import Linker
    from dbt.flags import set_from_args
    from dbt.graph import Graph

    manifest = run_dbt(project, "parse")
    set_from_args(Namespace(INDIRECT_SELECTION="eager", WARN_ERROR=False), None)
    linker = Linker()
    linker.link_graph(manifest)
    return Dbt(manifest, Graph(linker.graph), project)


@pytest.fixture(scope="module")
def manifest(dbt: Dbt) -> Manifest:
    return load(dbt.root / "target/manifest.json")


SLICES = [(0, 1), (0, 2), (0, 3), (0, None), (1, 2), (1, 3), (1, None), (2, None)]


class Words:
    """Makes selectors out of what the project holds, with slips of the pen."""

    def __init__(self, manifest: Manifest, chance: random.Random):
        self.chance = chance
        nodes = list(manifest.nodes.values())
        files = sorted({node.original_file_path for node in nodes})
        folders = [str(folder) for file in files for folder in Path(file).parents]
        names = [(node.package_name, node.source_name, node.name) for node in nodes if node.resource_type == "source"]
        exposures = [(node.package_name, node.name) for node in nodes if node.resource_type == "exposure"]
        self.values = {
            "fqn": [".".join(node.fqn[at:to]) for node in nodes for at, to in SLICES] + [node.name for node in nodes],
            "path": [*files, *folders, "models/*", "models/**/*.sql", "packages/tools/models", "./models", "..", "/"],
            "file": [os.path.basename(file) for file in files] + [Path(file).stem for file in files],
            "tag": [tag for node in nodes for tag in node.tags],
            "package": ["this", "dbt", *sorted({node.package_name for node in nodes})],
            "resource_type": ["model"] * 5 + sorted(RESOURCE_TYPES),
            "source": [".".join(name[at:to]) for name in names for at, to in ((0, 3), (1, 3), (1, 2))] + ["a.b.c.d"],
            "exposure": [".".join(name[at:]) for name in exposures for at in (0, 1)] + ["a.b.c"],
            "group": [node.config["group"] for node in nodes if node.config.get("group")] + ["nobody"],
            "access": ["private", "protected", "public", "pub*"],
        }
        self.configs = sorted({pair for node in nodes for pair in _flat(node.config, "config")})

    def selection(self) -> tuple[list[str], list[str]]:
        """What goes to --select and to --exclude."""
        included = [self.union() for _ in range(self.chance.choice([0, 1, 1, 1, 2]))]
        return included, [self.union() for _ in range(self.chance.choice([0, 0, 0, 1, 2]))]

    def union(self) -> str:
        return " ".join(self.intersection() for _ in range(self.chance.choice([1, 1, 1, 2, 3])))

    def intersection(self) -> str:
        return ",".join(self.criterion() for _ in range(self.chance.choice([1, 1, 1, 2, 3])))

    def criterion(self) -> str:
        chance = self.chance
        method = chance.choice([*METHODS, "fqn", "fqn", "path"])
        words = self.configs if method == "config" else [(method, word) for word in self.values[method] or ["x"]]
        key, value = chance.choice(words)
        if chance.random() < (0.02 if method == "resource_type" else 0.35):
            value = self.smudged(value)
        bare = method in ("fqn", "path", "file") and chance.random() < 0.7
        before = chance.choice(["", "", "", "+", "1+", "2+", "0+", "@"])
        after = chance.choice(["", "", "", "+", "+1", "+2", "+12"] if before != "@" else [""])
        return before + (value if bare else f"{key}:{value}") + after

    def smudged(self, value: str) -> str:
        at = self.chance.randint(0, len(value))
        to = self.chance.randint(at, len(value))
        return value[:at] + self.chance.choice(["*", "*", "?", "[a-o]*", "[!x]", "", ".", "_", "**", "["]) + value[to:]


def _flat(value: Any, key: str) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [pair for name, inner in value.items() for pair in _flat(inner, f"{key}.{name}")]
    values = value if isinstance(value, list) else [value]
    return [(key, text) for one in values for text in (str(one), str(one).lower())]


def outcome(answer: Callable[[], set[str]]) -> set[str] | str:
    """The answer; "refused" when there is none."""
    try:
        return answer()
    except Exception:  # dbt raises what it likes: RuntimeError, IndexError, NotImplementedError
        return "refused"


def assert_equal(manifest: Manifest, dbt: Dbt, include: list[str], exclude: list[str]) -> str:
    """How it went: answered here, refused by dbt too, or left to dbt which does answer it."""
    theirs = outcome(lambda: dbt.select(include, exclude))
    try:
        ours = select(manifest, include, exclude, project_dir=dbt.root)
    except NeedsDbt:
        return "refused" if theirs == "refused" else "left"
    assert ours == theirs, (include, exclude)
    return "answered"


def test_generated_selectors_choose_what_dbt_chooses(manifest: Manifest, dbt: Dbt) -> None:
    words = Words(manifest, random.Random(SEED))
    went = Counter(assert_equal(manifest, dbt, *words.selection()) for _ in range(EXAMPLES))
    print(f"\n{EXAMPLES} selections: {dict(went)}")
    assert went["left"] <= 1 + 0.02 * EXAMPLES
    assert went["answered"] > 0.7 * EXAMPLES


def test_any_text_is_read_as_dbt_reads_it(manifest: Manifest, dbt: Dbt) -> None:
    chance = random.Random(SEED)
    words = ["orders", "tag", "fqn:", "config.", "path:", "nightly", "models", "/", ".sql", "\n", "٣+", ""]
    for _ in range(EXAMPLES):
        text = "".join(chance.choices([*"@++,:.*? 012", *words], k=chance.randint(0, 7)))
        assert_equal(manifest, dbt, [text], [])


@pytest.mark.skipif(PROJECT is not None, reason="names models of the project written here")
class TestTheShop:
    @pytest.mark.parametrize(
        ("include", "exclude"),
        [
            ([], []),
            ([], ["tag:nightly"]),
            (["tag:production"], []),
            (["+mart_revenue,config.materialized:table", "models/staging"], ["stg_app__users+"]),
            (["@source:app.orders", "exposure:board"], []),
            (["customers.v2", "customers_v1", "link_1*"], ["package:tools"]),
            (["config.meta.owner:alice config.meta.owner:tools"], []),
        ],
    )
    def test_dbt_ls_agrees(self, manifest: Manifest, dbt: Dbt, include: list[str], exclude: list[str]) -> None:
        arguments = ["--resource-type", "model", "--output", "json", "--output-keys", "unique_id"]
        for flag, values in (("--select", include), ("--exclude", exclude)):
            arguments += [flag, *values] if values else []
        listed = {json.loads(line)["unique_id"] for line in run_dbt(dbt.root, "ls", *arguments)}
        assert select(manifest, include, exclude, project_dir=dbt.root) == listed

    @pytest.mark.parametrize(
        ("include", "chosen"),
        [
            ("customers", {"model.shop.customers.v1", "model.shop.customers.v2", "model.shop.customers.v3"}),
            ("mart_off", set()),
            ("int_shared", {"model.shop.int_shared"}),
            ("1+int_shared+1,models/marts", {"model.shop.orders"}),
            ("orders.daily", {"model.shop.orders.daily"}),
            ("models/marts/orders.sql", {"model.shop.orders"}),
            ("models/marts/marts.yml,tag:old", {"model.shop.customers.v1"}),
            ("tag:nightly,package:tools", {"model.tools.tool_numbers"}),
            ("config.meta.flags.big:true", {"model.shop.orders"}),
            ("config.meta.years:2023", set()),
            ("config.unique_key:day", {"model.shop.orders"}),
            ("config.items:shelf", {"model.shop.orders"}),
            ("config.meta.flags.items:x", set()),
            ("group:grow*,access:private", {"model.shop.int_private"}),
            ("config.meta.days:TRUE", {"model.shop.orders"}),
            ("config.severity:warn,config.severity:Warn,tag:slow", set()),
            ("1+config.severity:warn", {"model.shop.orders"}),
            ("config.meta.owner:bob+1,staging", {"model.shop.stg_bank__payments"}),
            ("1+tag:checked", {"model.shop.orders"}),
            ("2+group:figures", {"model.shop.orders"}),
            ("+exposure:gone", set()),
            ("Loud.SQL", {"model.shop.Loud"}),
            ("test_name", set()),
            ("", set()),
        ],
    )
    def test_selections_worth_knowing(self, manifest: Manifest, dbt: Dbt, include: str, chosen: set[str]) -> None:
        assert select(manifest, [include], project_dir=dbt.root) == chosen
        assert dbt.select([include], []) == chosen

    @pytest.mark.parametrize(
        "types", [("seed",), ("source", "exposure"), ("model", "snapshot"), ("metric", "semantic_model", "function")]
    )
    def test_other_resource_types(self, manifest: Manifest, dbt: Dbt, types: tuple[str, ...]) -> None:
        for include in ([], ["+board"], ["tag:nightly+"], ["orders+", "tag:seed"]):
            assert select(manifest, include, [], types, dbt.root) == dbt.select(include, [], types)

    @pytest.mark.parametrize(
        "include",
        [
            "state:modified", "result:error", "selector:nightly", "test_name:unique", "test_type:unit", "version:old",
            "source_status:fresher", "metric:revenue", "semantic_model:order_facts", "saved_query:by_day",
            "unit_test:adds_up", "nothing:x", "@orders+", "resource_type:table", "source:a.b.c.d", "path:/tmp",
            "config.get:x", "config.__class__.__name__:dict", "config.meta.day:2026-01-02",
        ],
    )  # fmt: skip
    def test_what_is_left_to_dbt(self, manifest: Manifest, dbt: Dbt, include: str) -> None:
        with pytest.raises(NeedsDbt):
            select(manifest, ["orders", include], project_dir=dbt.root)

    def test_paths_are_left_to_dbt_where_the_project_is_not_known(self, manifest: Manifest) -> None:
        with pytest.raises(NeedsDbt, match="folder"):
            select(manifest, ["models/marts"])

    def test_tests_are_left_to_dbt(self, manifest: Manifest) -> None:
        with pytest.raises(NeedsDbt, match="tests"):
            select(manifest, ["orders"], resource_types=("model", "test"))

    def test_another_version_of_dbt_is_asked_itself(self, dbt: Dbt) -> None:
        other = load(dbt.root / "target/manifest.json")
        other.metadata.dbt_version = "1.10.4"
        with pytest.raises(NeedsDbt, match=r"1\.10\.4"):
            select(other, ["orders"])

    def test_a_default_selector_counts_only_where_nothing_is_chosen(self, dbt: Dbt) -> None:
        other = load(dbt.root / "target/manifest.json")
        other.selectors["nightly"] = {"name": "nightly", "default": True, "definition": {"method": "tag", "value": "x"}}
        with pytest.raises(NeedsDbt, match="default"):
            select(other, [])
        assert select(other, ["orders"]) == {"model.shop.orders"}
        assert "model.shop.orders" in select(other, [], ["tag:nightly"])


def test_the_lists_of_names_are_those_of_this_dbt(dbt: Dbt) -> None:
    from dbt.contracts.graph import nodes  # noqa: F401  defines all config classes
    from dbt.node_types import NodeType
    from dbt_common.contracts.config.base import BaseConfig

    assert {str(name) for name in NodeType} == RESOURCE_TYPES

    def classes(parent: type) -> Iterator[type]:
        for child in parent.__subclasses__():
            yield from (child, *classes(child))

    configs = [one for one in classes(BaseConfig) if one.__module__.startswith("dbt.artifacts")]
    public = {name for one in configs for name in dir(one) if name[0] != "_" and name not in one.__dataclass_fields__}
    assert public <= CONFIG_METHODS
