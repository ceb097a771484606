"""What is read of a manifest, what follows from it, and when a kept one may be used again."""

import json
import os
import random
import shutil
import textwrap
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.errors import CONFIG, SluiceError
from sluice.manifest import Manifest, cached_manifest, fingerprint, load, meta_of, save_fingerprint

V12 = "https://schemas.getdbt.com/dbt/manifest/v12.json"


def node(uid: str, *parents: str, macros: tuple[str, ...] = (), **fields: Any) -> dict[str, Any]:
    resource_type, package, name = uid.split(".", 2)
    path = f"models/{name}.sql"
    return {
        "unique_id": uid, "name": name, "resource_type": resource_type, "package_name": package, "path": path,
        "original_file_path": path, "fqn": [package, name], "raw_code": f"select '{name}'",
        "depends_on": {"nodes": list(parents), "macros": list(macros)},
        "config": {"materialized": "view", "enabled": True}, **fields,
    }  # fmt: skip


def macro(uid: str, text: str, *called: str) -> dict[str, Any]:
    _, package, name = uid.split(".")
    depends_on = {"macros": list(called)}
    return {"unique_id": uid, "name": name, "package_name": package, "macro_sql": text, "depends_on": depends_on}


def read(folder: Path, *nodes: dict[str, Any], macros: tuple[dict[str, Any], ...] = (), **sections: Any) -> Manifest:
    content = {
        "metadata": {"dbt_schema_version": V12, "adapter_type": "duckdb", "project_name": "shop"},
        "nodes": {one["unique_id"]: one for one in nodes},
        "macros": {one["unique_id"]: one for one in macros},
    }
    path = folder / "manifest.json"
    path.write_text(json.dumps(content | sections))
    return load(path)


class TestLoading:
    def test_all_resource_types_are_nodes(self, tmp_path: Path) -> None:
        source = node("source.shop.app.orders", source_name="app")
        exposure = node("exposure.shop.board", "model.shop.orders")
        manifest = read(
            tmp_path, node("model.shop.orders", "source.shop.app.orders", language="sql", version=2),
            sources={"source.shop.app.orders": source}, exposures={"exposure.shop.board": exposure}, docs={"x": 1},
        )  # fmt: skip
        assert list(manifest.of_type("source", "exposure")) == ["source.shop.app.orders", "exposure.shop.board"]
        assert manifest.nodes["source.shop.app.orders"].source_name == "app"
        assert manifest.nodes["model.shop.orders"].version == 2
        assert manifest.nodes["model.shop.orders"].materialized == "view"
        assert manifest.metadata.adapter_type == "duckdb"

    def test_meta_is_read_from_both_places(self, tmp_path: Path) -> None:
        both = node("model.shop.orders", meta={"a": 1, "b": 1}, config={"meta": {"b": 2, "c": 2}})
        assert meta_of(read(tmp_path, both).nodes["model.shop.orders"]) == {"a": 1, "b": 2, "c": 2}

    @pytest.mark.parametrize(
        ("content", "code", "says"),
        [
            (None, "manifest_missing", "no dbt manifest at"),
            ("{", "manifest_broken", "is not a dbt manifest"),
            ("[]", "manifest_broken", "is not a dbt manifest"),
            ('{"metadata": {"dbt_schema_version": ""}, "nodes": {}}', "manifest_schema", "schema none"),
            ('{"metadata": {"dbt_schema_version": "/manifest/v20.json"}, "nodes": [7]}', "manifest_schema", "v20"),
            ('{"metadata": {"dbt_schema_version": "/manifest/v12.json"}, "nodes": [7]}', "manifest_broken", "Expected"),
        ],
    )
    def test_what_cannot_be_used_is_named_with_the_way_out(
        self, tmp_path: Path, content: str | None, code: str, says: str
    ) -> None:
        path = tmp_path / "target" / "manifest.json"
        path.parent.mkdir()
        if content is not None:
            path.write_text(content)
        with pytest.raises(SluiceError, match=says) as caught:
            load(path)
        assert (caught.value.code, caught.value.exit_code) == (code, CONFIG)
        assert str(path) in caught.value.message
        assert caught.value.hint == f"dbt parse --project-dir {tmp_path}"


# Graphs of nodes 0 .. n-1 in which each depends on earlier ones; names are dealt out so that they tie and disagree.
GRAPHS = st.integers(1, 12).flatmap(
    lambda size: st.tuples(
        st.lists(st.sets(st.integers(0, size - 1)), min_size=size, max_size=size),
        st.lists(st.sampled_from("abc"), min_size=size, max_size=size),
        st.sets(st.integers(0, size - 1)),
    )
)


class TestGraph:
    @given(GRAPHS)
    def test_order_and_ancestors_are_those_of_the_closure(self, tmp_path_factory: Any, graph: Any) -> None:
        earlier, names, wanted = graph
        uids = [f"{'model' if at % 3 else 'test'}.shop.n{at}" for at in range(len(names))]
        parents = [{up for up in ups if up < at} for at, ups in enumerate(earlier)]
        nodes = [node(uid, *(uids[up] for up in parents[at]), name=names[at]) for at, uid in enumerate(uids)]
        random.Random(len(names)).shuffle(nodes)
        manifest = read(tmp_path_factory.getbasetemp(), *nodes)

        above = {(low, up) for low, ups in enumerate(parents) for up in ups}
        for middle, low, up in product(range(len(names)), repeat=3):
            if (low, middle) in above and (middle, up) in above:
                above.add((low, up))
        for at, uid in enumerate(uids):
            assert manifest.ancestors(uid) == {uids[up] for low, up in above if low == at}

        left, expected = set(wanted), []
        while left:
            free = [at for at in left if not any((at, up) in above for up in left)]
            expected.append(min(free, key=lambda at: (names[at], uids[at])))
            left.remove(expected[-1])
        assert manifest.order({uids[at] for at in wanted}) == [uids[at] for at in expected]

    def test_a_circle_is_named(self, tmp_path: Path) -> None:
        a, b = node("model.shop.a", "model.shop.b"), node("model.shop.b", "model.shop.a")
        manifest = read(tmp_path, a, b, node("model.shop.c"))
        with pytest.raises(SluiceError, match=r"model\.shop\.a, model\.shop\.b") as caught:
            manifest.order(["model.shop.a", "model.shop.c"])
        assert caught.value.exit_code == CONFIG

    def test_a_parent_that_is_not_there_is_no_parent(self, tmp_path: Path) -> None:
        manifest = read(tmp_path, node("model.shop.a", "model.shop.disabled"))
        assert manifest.ancestors("model.shop.a") == set()


ORDERS = "model.shop.orders"


class TestCodeChecksum:
    """Each case changes one thing in a project where orders calls near, which calls far, which calls dbt's own."""

    def checksum(self, folder: Path, **changes: Any) -> str:
        text = dict.fromkeys(("far", "other", "dbt", "package", "materialization"), "as it was") | changes
        config = {"materialized": "table", "enabled": True, "meta": {"a": 1}, **changes.get("config", {})}
        ephemeral = {"materialized": "ephemeral"}
        return read(
            folder,
            node(ORDERS, "model.shop.inlined", "model.shop.users", macros=("macro.shop.near",), config=config,
                 raw_code=changes.get("orders", "select 1")),
            node("model.shop.inlined", "model.shop.deeper", macros=("macro.kit.package",), config=ephemeral),
            node("model.shop.deeper", config=ephemeral, raw_code=changes.get("deeper", "select 2")),
            node("model.shop.users", raw_code=changes.get("users", "select 3")),
            macros=(
                macro("macro.shop.near", "near", "macro.shop.far"),
                macro("macro.shop.far", text["far"], "macro.dbt.statement", "macro.shop.near"),
                macro("macro.shop.other", text["other"]),
                macro("macro.dbt.statement", text["dbt"]),
                macro("macro.dbt_duckdb.materialization_table_duckdb", text["dbt"]),
                macro("macro.kit.package", text["package"]),
                macro("macro.shop.materialization_table_default", text["materialization"]),
            ),
        ).code_checksum(ORDERS)  # fmt: skip

    @pytest.mark.parametrize(
        "change",
        [
            {"orders": "select 1 -- now"}, {"far": "changed"}, {"package": "changed"}, {"materialization": "changed"},
            {"deeper": "changed"}, {"config": {"materialized": "view"}}, {"config": {"meta": {"a": 2}}},
            {"config": {"order_by": ["a"]}},
        ],
    )  # fmt: skip
    def test_changes_with(self, tmp_path: Path, change: dict[str, Any]) -> None:
        assert self.checksum(tmp_path, **change) != self.checksum(tmp_path)

    @pytest.mark.parametrize("change", [{"users": "select 3 -- now"}, {"other": "changed"}, {"dbt": "changed"}, {}])
    def test_stays_with(self, tmp_path: Path, change: dict[str, Any]) -> None:
        assert self.checksum(tmp_path, **change) == self.checksum(tmp_path)

    def test_the_order_of_keys_does_not_count(self, tmp_path: Path) -> None:
        one, other = self.checksum(tmp_path, config={"x": 1, "y": 2}), self.checksum(tmp_path, config={"y": 2, "x": 1})
        assert one == other

    def test_a_seed_counts_by_its_content(self, tmp_path: Path) -> None:
        def seed(content: str) -> str:
            fields = {"raw_code": "", "checksum": {"name": "sha256", "checksum": content}}
            return read(tmp_path, node("seed.shop.countries", **fields)).code_checksum("seed.shop.countries")

        assert seed("a") != seed("b")


PROJECT = {
    "dbt_project.yml": "name: shop\nversion: '1.0'\nprofile: shop\nmodel-paths: [models, extra/models]\n",
    "profiles.yml": """
        shop:
          target: dev
          outputs: {dev: {type: duckdb, path: ":memory:", schema: "{{ env_var('SHOP_SCHEMA', 'main') }}"}}
        """,
    "models/orders.sql": "{{ config(tags=['b', 'a', 'c']) }} select {{ near() }} as id from {{ ref('users') }}",
    "models/users.sql": "select {{ env_var('SHOP_LIMIT', '10') }} as id",
    "models/orders.yml": "models: [{name: orders, config: {meta: {owner: alice}}}]\n",
    "extra/models/more.sql": "select 1 as id",
    "macros/calls.sql": "{% macro near() %}{{ far() }}{% endmacro %}",
    "macros/far.sql": "{% macro far() %}1{% endmacro %}",
    "seeds/countries.csv": "id\n1\n",
    "dbt_packages/kit/dbt_project.yml": "name: kit\nversion: '1.0'\nmacro-paths: [jinja]\n",
    "dbt_packages/kit/jinja/kit.sql": "{% macro kit() %}1{% endmacro %}",
    "README.md": "shop",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "shop"
    for name, text in PROJECT.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(textwrap.dedent(text))
    return root


def parse(root: Path) -> Manifest:
    from dbt.cli.main import dbtRunner

    result = dbtRunner().invoke(["--quiet", "parse", "--project-dir", str(root), "--profiles-dir", str(root)])
    assert result.success, result.exception
    return load(root / "target/manifest.json")


@pytest.mark.long
def test_checksums_of_real_parses(project: Path) -> None:
    before = parse(project).code_checksum(ORDERS)
    copy = shutil.copytree(project, project.parent / "elsewhere", ignore=shutil.ignore_patterns("target"))
    assert parse(copy).code_checksum(ORDERS) == before

    (project / "models/users.sql").write_text("select 1 as id -- more")
    assert parse(project).code_checksum(ORDERS) == before
    (project / "macros/far.sql").write_text("{% macro far() %}2{% endmacro %}")
    changed = parse(project).code_checksum(ORDERS)
    assert changed != before
    (project / "models/orders.yml").write_text("models: [{name: orders, config: {meta: {owner: bob}}}]\n")
    assert parse(project).code_checksum(ORDERS) not in (before, changed)


def taken(project: Path, target: str | None = None, **variables: Any) -> str:
    return fingerprint(project, project, target, variables)


def touch(path: Path) -> None:
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))


def edit_unseen(path: Path) -> None:
    time.sleep(0.02)  # the clock of the file system ticks every 4 to 10 ms
    stat = path.stat()
    path.write_text(path.read_text().replace("10", "20"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def add(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")


CHANGES: dict[str, Callable[[Path], Any]] = {
    "model touched": lambda root: touch(root / "models/orders.sql"),
    "model of a configured folder touched": lambda root: touch(root / "extra/models/more.sql"),
    "macro of a package touched": lambda root: touch(root / "dbt_packages/kit/jinja/kit.sql"),
    "seed touched": lambda root: touch(root / "seeds/countries.csv"),
    "project file touched": lambda root: touch(root / "dbt_project.yml"),
    "profiles touched": lambda root: touch(root / "profiles.yml"),
    "edited with its size and time kept": lambda root: edit_unseen(root / "models/users.sql"),
    "model added": lambda root: add(root / "models/new.sql"),
    "first test added": lambda root: add(root / "tests/generic/positive.sql"),
    "packages.yml added": lambda root: add(root / "packages.yml"),
    "selectors.yml added": lambda root: add(root / "selectors.yml"),
    ".dbtignore added": lambda root: add(root / ".dbtignore"),
    "model removed": lambda root: (root / "models/users.sql").unlink(),
    "profiles removed": lambda root: (root / "profiles.yml").unlink(),
    "model renamed": lambda root: (root / "models/users.sql").rename(root / "models/people.sql"),
    "folder renamed": lambda root: (root / "models").rename(root / "analyses"),
    "package removed": lambda root: shutil.rmtree(root / "dbt_packages/kit"),
}


class TestFingerprint:
    @pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
    def test_changes_with_the_files(self, project: Path, change: Callable[[Path], Any]) -> None:
        before = taken(project)
        assert taken(project) == before
        change(project)
        assert taken(project) != before

    @pytest.mark.parametrize("name", ["README.md", "target/manifest.json", "logs/dbt.log", "shop.duckdb", ".git/HEAD"])
    def test_stays_when_dbt_does_not_read_the_file(self, project: Path, name: str) -> None:
        before = taken(project)
        add(project / name)
        assert taken(project) == before

    def test_changes_with_target_and_vars(self, project: Path) -> None:
        assert len({taken(project), taken(project, "dev"), *(taken(project, a=value) for value in (1, "1", [1]))}) == 5
        assert taken(project, a=1, b=2) == taken(project, b=2, a=1)

    def test_changes_with_the_place(self, project: Path) -> None:
        before = taken(project)
        assert taken(project.rename(project.parent / "moved")) != before

    @pytest.mark.parametrize("name", ["SHOP_SCHEMA", "SHOP_LIMIT", "DBT_WARN_ERROR"])
    def test_changes_with_the_environment_read(self, project: Path, monkeypatch: Any, name: str) -> None:
        monkeypatch.delenv(name, raising=False)
        unset = taken(project)
        monkeypatch.setenv(name, "")
        empty = taken(project)
        monkeypatch.setenv(name, "x")
        assert len({unset, empty, taken(project)}) == 3

    def test_stays_with_the_environment_not_read(self, project: Path, monkeypatch: Any) -> None:
        before = taken(project)
        monkeypatch.setenv("SHOP_UNREAD", "x")
        assert taken(project) == before

    @pytest.mark.parametrize("text", ["{{ env_var('A' ~ 'B') }}", "{{ env_var(name) }}", "{% set get = env_var %}"])
    def test_any_variable_counts_where_a_name_is_computed(self, project: Path, monkeypatch: Any, text: str) -> None:
        (project / "macros/far.sql").write_text(text)
        before = taken(project)
        assert taken(project) == before
        monkeypatch.setenv("SHOP_UNREAD", "x")
        assert taken(project) != before

    def test_changes_with_a_local_package(self, project: Path) -> None:
        shutil.move(project / "dbt_packages/kit", project.parent / "kit")
        (project / "dbt_packages/kit").symlink_to(project.parent / "kit")
        before = taken(project)
        touch(project.parent / "kit/jinja/kit.sql")
        assert taken(project) != before

    @pytest.mark.parametrize("line", ["seed-paths: ['{{ var(\"s\") }}']", "packages-install-path: '{{ var(\"p\") }}'"])
    def test_never_equals_itself_where_only_dbt_knows_a_folder(self, project: Path, line: str) -> None:
        with (project / "dbt_project.yml").open("a") as file:
            file.write(line)
        assert taken(project) != taken(project)

    def test_changes_with_the_version_of_dbt(self, project: Path, tmp_path: Path, monkeypatch: Any) -> None:
        monkeypatch.syspath_prepend(tmp_path)
        before = taken(project)
        (tmp_path / "dbt_other-1.0.0.dist-info").mkdir()
        assert taken(project) != before

    @pytest.mark.parametrize("text", ["a: [", "- 1", "model-paths: 5\n7: 8", "model-paths: [7, null]", "\x00"])
    def test_a_broken_project_file_is_left_for_dbt_to_report(self, project: Path, text: str) -> None:
        (project / "dbt_project.yml").write_text(text)
        assert taken(project) == taken(project)

    def test_names_and_values_may_be_any_bytes(self, project: Path, monkeypatch: Any) -> None:
        Path(os.fsdecode(os.fsencode(project) + b"/models/\xff.sql")).write_text("{{ env_var(computed) }}")
        monkeypatch.setenv("SHOP_UNREAD", os.fsdecode(b"\xff"))
        assert taken(project) == taken(project)


class TestKeptManifest:
    def test_is_used_for_its_own_fingerprint_only(self, tmp_path: Path) -> None:
        assert cached_manifest(tmp_path, "abc") is None
        (tmp_path / "manifest.json").write_text("{}")
        assert cached_manifest(tmp_path, "abc") is None
        save_fingerprint(tmp_path, "abc")
        assert cached_manifest(tmp_path, "abc") == tmp_path / "manifest.json"
        assert cached_manifest(tmp_path, "abd") is None
        assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.fingerprint", "manifest.json"]

    def test_is_not_used_once_another_was_written_over_it(self, tmp_path: Path) -> None:
        (tmp_path / "manifest.json").write_text("{}")
        save_fingerprint(tmp_path, "abc")
        (tmp_path / "manifest.json").write_text('{"of": "an interrupted run"}')
        assert cached_manifest(tmp_path, "abc") is None

    def test_is_not_used_once_it_is_gone(self, tmp_path: Path) -> None:
        (tmp_path / "manifest.json").write_text("{}")
        save_fingerprint(tmp_path, "abc")
        (tmp_path / "manifest.json").unlink()
        assert cached_manifest(tmp_path, "abc") is None
