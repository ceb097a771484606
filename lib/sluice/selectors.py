"""dbt's node selection, answered without dbt wherever the answer is certain.

Answers are those of `dbt ls` in dbt-core 1.11. Whatever is not sure to be equal raises NeedsDbt.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from sluice.manifest import Manifest, Node

DBT = "1.11."
CRITERION = re.compile(r"(?P<at>@)?(?:(?P<up>\d*)\+)?(?:(?P<method>[\w.]+):)?(?P<value>.*?)(?:\+(?P<down>\d*))?")
WILDCARDS = frozenset("*?[]")
DATE = re.compile(r"\d{4}-\d\d?-\d\d?")

# Sections of manifest.json beside `nodes`: some methods look at `nodes` only.
BESIDE_NODES = frozenset({"source", "exposure", "metric", "semantic_model", "saved_query", "unit_test", "function"})
RESOURCE_TYPES = BESIDE_NODES | {
    *("model", "analysis", "test", "snapshot", "operation", "seed", "rpc"),
    *("sql_operation", "doc", "macro", "group", "fixture"),
}
TESTS = frozenset({"test", "unit_test"})

# dbt looks config keys up as attributes, so a key with one of these names finds a method of its config classes.
CONFIG_METHODS = frozenset({
    *("ADDITIONAL_PROPERTIES", "Config", "compare_key", "extra", "final_validate", "finalize_and_validate"),
    *("from_dict", "from_dict_msgpack", "from_msgpack", "get", "json_schema", "mergebehavior", "meta_get", "replace"),
    *("same_contents", "snapshot_table_column_names", "to_dict", "to_dict_msgpack", "to_msgpack", "update_from"),
    "validate",
})  # fmt: skip


class NeedsDbt(Exception):
    """Only dbt can answer this selection; the message says why."""


def select(
    manifest: Manifest,
    select: Iterable[str],
    exclude: Iterable[str] = (),
    resource_types: Iterable[str] = ("model",),
    project_dir: str | Path | None = None,
) -> set[str]:
    """The unique_ids that `dbt ls --select ... --exclude ... --resource-type ...` would list.

    `project_dir` is where path selectors look, as dbt does, for files. Raises NeedsDbt when the answer is not certain.
    """
    select, exclude, wanted_types = list(select), list(exclude), set(resource_types)
    if not manifest.metadata.dbt_version.startswith(DBT):
        raise NeedsDbt(f"dbt {manifest.metadata.dbt_version} may select otherwise than dbt {DBT}x")
    if wanted_types & TESTS:
        raise NeedsDbt("which tests come along depends on dbt's --indirect-selection")
    if not select and not exclude and any(selector.get("default") for selector in manifest.selectors.values()):
        raise NeedsDbt("the project has a default selector")
    graph = _Graph(manifest, project_dir)
    chosen = graph.union(select) if select else set(graph.nodes)
    return {uid for uid in chosen - graph.union(exclude) if graph.nodes[uid].resource_type in wanted_types}


class _Criterion(NamedTuple):
    """One selector between commas. Depths: None for no operator, inf for a bare plus."""

    method: str
    arguments: list[str]
    value: str
    childrens_parents: bool
    parents_depth: float | None
    children_depth: float | None


def _parse(text: str) -> _Criterion:
    match = CRITERION.fullmatch(text)
    if not match or (match["at"] and match["down"] is not None):
        raise NeedsDbt(f"{text!r} is not a selector")
    value = match["value"]
    method, *arguments = (match["method"] or _default_method(value)).split(".")
    if method not in METHODS:
        raise NeedsDbt(f"{text!r}: the method {method!r} is dbt's to answer")
    return _Criterion(method, arguments, value, bool(match["at"]), _depth(match["up"]), _depth(match["down"]))


def _default_method(value: str) -> str:
    if os.sep in value:
        return "path"
    return "file" if value.lower().endswith((".sql", ".py", ".csv")) else "fqn"


def _depth(digits: str | None) -> float | None:
    if digits is None:
        return None
    return int(digits) if digits else float("inf")


class _Graph:
    """The enabled nodes of a manifest and how they hang together."""

    def __init__(self, manifest: Manifest, project_dir: str | Path | None):
        self.project_dir = project_dir
        self.project_name = manifest.metadata.project_name
        self.nodes = {uid: node for uid, node in manifest.nodes.items() if node.enabled}
        self.parents = {uid: [up for up in manifest.parents[uid] if up in self.nodes] for uid in self.nodes}
        self.children: dict[str, list[str]] = {uid: [] for uid in self.nodes}
        for uid, parents in self.parents.items():
            for parent in parents:
                self.children[parent].append(uid)

    def union(self, texts: Iterable[str]) -> set[str]:
        return set().union(*(self._intersection(part) for text in texts for part in text.split(" ")))

    def _intersection(self, text: str) -> set[str]:
        return set.intersection(*(self._criterion(_parse(part)) for part in text.split(",")))

    def _criterion(self, criterion: _Criterion) -> set[str]:
        matches = METHODS[criterion.method]
        found = set(matches(self, criterion.value, criterion.arguments))
        related: set[str] = set()
        if criterion.childrens_parents:
            family = found | _within(float("inf"), found, self.children)
            related |= family | _within(float("inf"), family, self.parents)
        if criterion.parents_depth is not None:
            related |= _within(criterion.parents_depth, found, self.parents)
        if criterion.children_depth is not None:
            related |= _within(criterion.children_depth, found, self.children)
        return found | related

    def nodes_where(self, matches: Callable[[Node], Any]) -> Iterator[str]:
        return (uid for uid, node in self.nodes.items() if matches(node))


def _within(steps: float, start: set[str], edges: dict[str, list[str]]) -> set[str]:
    """What can be reached from `start` in so many steps."""
    reached: set[str] = set()
    while start and steps > 0:
        start = {end for uid in start for end in edges[uid]} - reached
        reached |= start
        steps -= 1
    return reached


# One function for each method: (graph, value, arguments) -> unique_ids


def _fqn(graph: _Graph, value: str, _: list[str]) -> Iterator[str]:
    def matches(node: Node) -> bool:
        versioned = node.resource_type == "model" and node.version is not None
        return _is_named(node.fqn, value, versioned) or _is_named(node.fqn[1:], value, versioned)

    return graph.nodes_where(lambda node: node.resource_type != "source" and matches(node))


def _is_named(fqn: list[str], wanted: str, versioned: bool) -> bool:
    """Is `wanted` the name at the end of fqn, or how it begins? The fqn of a version ends in [..., name, "v2"]."""
    name = fqn[-2] if versioned else fqn[-1]
    if wanted == name:
        return True
    parts = wanted.split(".")
    if versioned and "_".join(fqn[-2:]) == "_".join(parts[-2:]):
        return True
    have = ".".join(fqn).split(".")
    if len(have) < len(parts):
        return False
    for at, part in enumerate(parts):
        if WILDCARDS.intersection(part):
            rest_matches = fnmatch(".".join(have[at:]), ".".join(parts[at:]))
            return rest_matches or (len(parts) == 1 and fnmatch(name, wanted))
        if part != have[at]:
            return False
    return True


def _tag(graph: _Graph, value: str, _: list[str]) -> Iterator[str]:
    return graph.nodes_where(lambda node: any(fnmatch(tag, value) for tag in _tags(node)))


def _tags(node: Node) -> Iterable[str]:
    return node.config.get("tags") or () if node.resource_type == "unit_test" else node.tags


def _path(graph: _Graph, value: str, _: list[str]) -> Iterator[str]:
    if graph.project_dir is None:
        raise NeedsDbt("paths are looked up in the project's folder, which is not known here")
    root = Path(os.path.abspath(graph.project_dir))
    try:
        found = {str(path.relative_to(root)) for path in root.glob(value)}
    except (ValueError, NotImplementedError, IndexError, AttributeError):  # what glob makes of "", "/", "." and "./"
        raise NeedsDbt(f"{value!r} is not a path within the project") from None

    @cache
    def is_inside(folder: str) -> bool:
        return not found.isdisjoint(map(str, (Path(folder), *Path(folder).parents)))

    def matches(node: Node) -> bool:
        folder, _, name = node.original_file_path.rpartition(os.sep)
        declared_in = node.patch_path and node.patch_path.split("://")[1]
        files = [str(Path(folder, name)), *([str(Path(declared_in))] if declared_in else [])]
        return is_inside(folder) or not found.isdisjoint(files)

    return graph.nodes_where(matches)


def _file(graph: _Graph, value: str, _: list[str]) -> Iterator[str]:
    def matches(node: Node) -> bool:
        name = os.path.basename(node.original_file_path)
        return fnmatch(name, value) or fnmatch(os.path.splitext(name)[0], value)

    return graph.nodes_where(matches)


def _package(graph: _Graph, value: str, _: list[str]) -> Iterator[str]:
    wanted = graph.project_name or value if value == "this" else value
    return graph.nodes_where(lambda node: fnmatch(node.package_name, wanted))


def _resource_type(graph: _Graph, value: str, _: list[str]) -> Iterator[str]:
    if value not in RESOURCE_TYPES:
        raise NeedsDbt(f"{value!r} is not a resource type known here")
    return graph.nodes_where(lambda node: node.resource_type == value)


def _group(graph: _Graph, value: str, _: list[str]) -> Iterator[str]:
    def matches(node: Node) -> bool:
        group: str | None = node.config.get("group")
        return group is not None and fnmatch(group, value)

    not_grouped = BESIDE_NODES - {"metric"}
    return graph.nodes_where(lambda node: node.resource_type not in not_grouped and matches(node))


def _access(graph: _Graph, value: str, _: list[str]) -> Iterator[str]:
    return graph.nodes_where(lambda node: node.resource_type == "model" and node.access == value)


def _source(graph: _Graph, value: str, _: list[str]) -> Iterator[str]:
    parts = value.split(".")
    if len(parts) > 3:
        raise NeedsDbt(f"{value!r} is not source, source.table or package.source.table")
    table = parts.pop() if len(parts) > 1 else "*"
    source = parts.pop()
    package = parts.pop() if parts else "*"

    def matches(node: Node) -> bool:
        names = ((node.package_name, package), (node.source_name or "", source), (node.name, table))
        return all(fnmatch(name, wanted) for name, wanted in names)

    return graph.nodes_where(lambda node: node.resource_type == "source" and matches(node))


def _exposure(graph: _Graph, value: str, _: list[str]) -> Iterator[str]:
    *package, name = value.split(".")
    if len(package) > 1:
        raise NeedsDbt(f"{value!r} is not exposure or package.exposure")

    def matches(node: Node) -> bool:
        return fnmatch(node.package_name, package[0] if package else "*") and fnmatch(node.name, name)

    return graph.nodes_where(lambda node: node.resource_type == "exposure" and matches(node))


def _config(graph: _Graph, value: str, keys: list[str]) -> Iterator[str]:
    if any(key.startswith("__") for key in keys) or keys[:1] == ["_extra"] or CONFIG_METHODS.intersection(keys[:1]):
        raise NeedsDbt(f"config.{'.'.join(keys)} is an inner part of dbt")
    no_config = BESIDE_NODES - {"source"}

    def matches(node: Node) -> bool:
        return _equals(_descend(node.config, keys), value, ignore_case=keys == ["severity"])

    return graph.nodes_where(lambda node: node.resource_type not in no_config and matches(node))


def _descend(config: dict[str, Any], keys: list[str]) -> Any:
    """The value at config[key][key]..., or None. As in dbt, a key below the top is hidden by a method of dict."""
    value: Any = config
    for depth, key in enumerate(keys):
        if not isinstance(value, dict) or (depth and hasattr(value, key)):
            return None
        value = value.get(key)
    return value


def _equals(have: Any, wanted: str, ignore_case: bool) -> bool:
    several = have if isinstance(have, list) else [have]
    if DATE.match(wanted) and wanted in several:
        raise NeedsDbt(f"{wanted!r}: Jinja may have made it a date, which dbt finds unequal to any text")
    if ignore_case:
        wanted, several = wanted.upper(), [one.upper() if isinstance(one, str) else one for one in several]
    if wanted in several:
        return True
    truth = {"true": True, "false": False}.get(wanted.lower())
    if truth is None:
        return False
    return truth in have if isinstance(have, list) else have is truth


METHODS: dict[str, Callable[[_Graph, str, list[str]], Iterable[str]]] = {
    "fqn": _fqn,
    "tag": _tag,
    "path": _path,
    "file": _file,
    "package": _package,
    "resource_type": _resource_type,
    "group": _group,
    "access": _access,
    "source": _source,
    "exposure": _exposure,
    "config": _config,
}
