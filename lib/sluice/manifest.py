"""What is known of the dbt project without importing dbt: nodes, their order, their code, and whether it is fresh."""

import hashlib
import heapq
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from sluice import whole_file
from sluice.errors import misconfigured

SCHEMA = re.compile(r"/manifest/v12\.json$")  # dbt-core 1.8 to 1.11 write v12
OUTSIDE_NODES = ("sources", "exposures", "metrics", "semantic_models", "saved_queries", "unit_tests", "functions")


class DependsOn(msgspec.Struct, gc=False):
    nodes: list[str] = []
    macros: list[str] = []


class Checksum(msgspec.Struct, gc=False):
    name: str = "none"
    checksum: str = ""


class Node(msgspec.Struct, gc=False):
    """Anything that dbt's graph holds: model, seed, snapshot, test, source, exposure, metric, ...

    Paths are relative to the root of the node's own package. Fields that a resource type lacks keep their default.
    """

    unique_id: str
    name: str
    resource_type: str
    package_name: str
    path: str
    original_file_path: str
    fqn: list[str]
    tags: list[Any] | str = []
    meta: dict[str, Any] = {}
    config: dict[str, Any] = {}
    depends_on: DependsOn = msgspec.field(default_factory=DependsOn)
    checksum: Checksum | str | None = None  # of the file as it is; a str for unit tests
    raw_code: str = ""
    language: str | None = None
    database: str | None = None
    schema: str | None = None
    alias: str | None = None
    relation_name: str | None = None
    version: Any = None
    access: str | None = None
    group: str | None = None
    source_name: str | None = None
    patch_path: str | None = None

    @property
    def materialized(self) -> str | None:
        return self.config.get("materialized")

    @property
    def enabled(self) -> bool:
        return bool(self.config.get("enabled", True))


class Macro(msgspec.Struct, gc=False):
    unique_id: str
    name: str
    package_name: str
    macro_sql: str = ""
    depends_on: DependsOn = msgspec.field(default_factory=DependsOn)


class Metadata(msgspec.Struct, gc=False):
    dbt_schema_version: str
    dbt_version: str = ""
    generated_at: str = ""
    project_name: str | None = None
    adapter_type: str | None = None


class _Head(msgspec.Struct):
    metadata: Metadata


class _File(msgspec.Struct):
    metadata: Metadata
    nodes: dict[str, Node]
    macros: dict[str, Macro] = {}
    selectors: dict[str, Any] = {}
    sources: dict[str, Node] = {}
    exposures: dict[str, Node] = {}
    metrics: dict[str, Node] = {}
    semantic_models: dict[str, Node] = {}
    saved_queries: dict[str, Node] = {}
    unit_tests: dict[str, Node] = {}
    functions: dict[str, Node] = {}


def load(path: str | Path) -> "Manifest":
    """Read a manifest.json. Raises misconfigured() when it is missing, broken or of an unknown schema version."""
    path = Path(path)
    hint = f"dbt parse --project-dir {path.parent.parent if path.parent.name == 'target' else '.'}"
    try:
        return Manifest(_decode(path.read_bytes()))
    except FileNotFoundError:
        raise misconfigured(f"no dbt manifest at {path}", code="manifest_missing", hint=hint) from None
    except OSError as problem:
        raise misconfigured(f"{path}: {problem.strerror}", code="manifest_unreadable") from None
    except _UnknownSchema as version:
        raise misconfigured(
            f"{path} has schema {version}, which is not known here; v12 is, which dbt-core 1.8 to 1.11 write",
            code="manifest_schema",
            hint=hint,
        ) from None
    except msgspec.DecodeError as problem:
        raise misconfigured(f"{path} is not a dbt manifest: {problem}", code="manifest_broken", hint=hint) from None


class _UnknownSchema(Exception):
    pass


def _decode(content: bytes) -> _File:
    try:
        manifest = msgspec.json.decode(content, type=_File)
    except msgspec.ValidationError:
        _check_schema(msgspec.json.decode(content, type=_Head))  # a later schema explains why the fields do not fit
        raise
    _check_schema(manifest)
    return manifest


def _check_schema(manifest: _Head | _File) -> None:
    if not SCHEMA.search(manifest.metadata.dbt_schema_version):
        raise _UnknownSchema(manifest.metadata.dbt_schema_version or "none")


def meta_of(node: Node) -> dict[str, Any]:
    """The node's meta. dbt keeps it in two places, normally equal; config.meta is the one that configs can set."""
    return {**node.meta, **(node.config.get("meta") or {})}


class Manifest:
    """One parsed dbt project. `nodes` holds every resource type that the graph knows, by unique_id."""

    def __init__(self, file: _File):
        self.metadata = file.metadata
        self.macros = file.macros
        self.selectors = file.selectors
        self.nodes = file.nodes
        for section in OUTSIDE_NODES:
            self.nodes.update(getattr(file, section))

    def of_type(self, *resource_types: str) -> dict[str, Node]:
        return {uid: node for uid, node in self.nodes.items() if node.resource_type in resource_types}

    @cached_property
    def parents(self) -> dict[str, list[str]]:
        """Direct parents that exist, of every node."""
        return {uid: [up for up in node.depends_on.nodes if up in self.nodes] for uid, node in self.nodes.items()}

    def ancestors(self, uid: str) -> set[str]:
        """Everything that the node is built on, near and far, of all resource types; not the node itself."""
        return _reach(self.parents[uid], self.parents.__getitem__)

    def order(self, uids: Iterable[str]) -> list[str]:
        """The given nodes, each after all it depends on, also through nodes not given; ties by name, then unique_id.

        Raises misconfigured() when nodes depend on each other in a circle.
        """
        wanted = set(uids)
        involved = _reach(wanted, self.parents.__getitem__)
        waits_for = {uid: len(set(self.parents[uid])) for uid in involved}
        children: dict[str, list[str]] = {uid: [] for uid in involved}
        for uid in involved:
            for parent in set(self.parents[uid]):
                children[parent].append(uid)

        def priority(uid: str) -> tuple[bool, str, str]:
            return uid in wanted, self.nodes[uid].name, uid  # what is not wanted must never hold up what is

        ready = [priority(uid) for uid, count in waits_for.items() if not count]
        heapq.heapify(ready)
        ordered = []
        while ready:
            *_, uid = heapq.heappop(ready)
            ordered.append(uid)
            for child in children[uid]:
                waits_for[child] -= 1
                if not waits_for[child]:
                    heapq.heappush(ready, priority(child))
        if len(ordered) < len(involved):
            circle = "dbt nodes depend on each other: " + ", ".join(sorted(involved.difference(ordered)))
            raise misconfigured(circle, code="manifest_cycle", hint="dbt compile")
        return [uid for uid in ordered if uid in wanted]

    def code_checksum(self, uid: str) -> str:
        """sha256 (hex) of all that makes the node's SQL: its code, config, meta, ephemeral parents, and the macros that
        are called on the way, of the project and its packages. dbt's own are left out: they go with its version.
        """
        node = self.nodes[uid]
        sources = [node, *(self.nodes[up] for up in sorted(self._ephemeral_ancestors(uid)))]
        called = _reach(
            [name for part in sources for name in (*part.depends_on.macros, *self._materializations(part))],
            lambda name: self.macros[name].depends_on.macros if name in self.macros else [],
        )
        theirs = sorted(name for name in called if name in self.macros and not self._is_dbts_own(self.macros[name]))
        content = [
            {**node.config, "meta": meta_of(node)},
            [(part.unique_id, part.raw_code or part.checksum) for part in sources],
            [(name, self.macros[name].macro_sql) for name in theirs],
        ]
        return hashlib.sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()

    def _ephemeral_ancestors(self, uid: str) -> set[str]:
        def ephemeral_parents(uid: str) -> list[str]:
            return [up for up in self.parents[uid] if self.nodes[up].materialized == "ephemeral"]

        return _reach(ephemeral_parents(uid), ephemeral_parents)

    def _materializations(self, node: Node) -> list[str]:
        # dbt finds these by name, so no node depends on them
        names = [f"materialization_{node.materialized}_{kind}" for kind in ("default", self.metadata.adapter_type)]
        return [uid for name in names for uid in self._macros_named.get(name, ())]

    @cached_property
    def _macros_named(self) -> dict[str, list[str]]:
        named: dict[str, list[str]] = {}
        for uid, macro in self.macros.items():
            named.setdefault(macro.name, []).append(uid)
        return named

    def _is_dbts_own(self, macro: Macro) -> bool:
        # redshift and databricks are built on the other two
        return macro.package_name in ("dbt", f"dbt_{self.metadata.adapter_type}", "dbt_postgres", "dbt_spark")


def _reach(start: Iterable[str], step: Callable[[str], Iterable[str]]) -> set[str]:
    """`start` and all that `step` leads to from there."""
    reached: set[str] = set()
    edge = set(start)
    while edge:
        reached |= edge
        edge = set().union(*map(step, edge)) - reached
    return reached


# Freshness: may a manifest that was kept be used again?

MANIFEST, FINGERPRINT = "manifest.json", "manifest.fingerprint"
ROOT_FILES = ("dbt_project.yml", "packages.yml", "dependencies.yml", "package-lock.yml", "selectors.yml", ".dbtignore")
DEFAULT_PATHS = ("models", "macros", "seeds", "snapshots", "tests", "analyses", "functions")
WITH_JINJA = (".sql", ".yml", ".yaml")
ENV_VAR = re.compile(rb"""env_var(?:\s*\(\s*(['"])(\w+)\1\s*[,)])?""")
CHANGED_BY_THE_SHELL = ("_", "SHLVL")


def fingerprint(project_dir: str | Path, profiles_dir: str | Path, target: str | None, vars: Mapping[str, Any]) -> str:
    """A hash (hex) over everything that dbt reads to parse the project: while it is equal, so is the manifest.

    Files count by path, size and times, environment variables by value where a file names them. Take it before the
    parse, so that what is edited during the parse makes the next one differ.
    """
    digest = hashlib.sha256()

    def add(*what: Any) -> None:
        digest.update(repr(what).encode(errors="surrogateescape"))  # names and values may be any bytes

    project = os.path.abspath(project_dir)
    files = sorted({*_project_files(project), os.path.join(os.path.abspath(profiles_dir), "profiles.yml")})
    add(project, target, sorted(vars.items()), _dbt_versions())
    for path in files:
        add(path, *_stamp(path))
    add(sorted(_environment(files).items()))
    if any(map(_is_computed, files)):
        add(os.urandom(16).hex())  # only dbt knows where such a folder is, so this project never equals itself
    return digest.hexdigest()


def save_fingerprint(cache_dir: str | Path, fp: str) -> None:
    """Vouch for cache_dir/manifest.json as it is now. Raises OSError when there is none."""
    whole_file.write(Path(cache_dir, FINGERPRINT), _seal(cache_dir, fp).encode())


def cached_manifest(cache_dir: str | Path, fp: str) -> Path | None:
    """The kept manifest.json, if it was made from what `fp` stands for."""
    try:
        valid = Path(cache_dir, FINGERPRINT).read_text() == _seal(cache_dir, fp)
    except OSError:
        return None
    return Path(cache_dir, MANIFEST) if valid else None


def _seal(cache_dir: str | Path, fp: str) -> str:
    # names the manifest too: a run killed between two writes must not leave an old fingerprint on a new manifest
    stat = Path(cache_dir, MANIFEST).stat()
    return f"{fp} {stat.st_size} {stat.st_mtime_ns}\n"


def _project_files(project: str) -> Iterator[str]:
    """Every file that dbt may read in the project and in the packages installed for it."""
    settings = _settings(project)
    yield from _package_files(project, settings)
    installed = os.path.join(project, str(settings.get("packages-install-path") or "dbt_packages"))
    yield installed
    for name in os.listdir(installed) if os.path.isdir(installed) else ():
        package = os.path.join(installed, name)  # a local package is a link here
        yield from _package_files(package, _settings(package))


def _package_files(package: str, settings: dict[str, Any]) -> Iterator[str]:
    yield from (os.path.join(package, name) for name in ROOT_FILES)
    lists = [paths for key, paths in settings.items() if str(key).endswith("-paths") and isinstance(paths, list)]
    for folder in {*DEFAULT_PATHS, *(str(path) for paths in lists for path in paths)}:
        if _is_computed(folder):
            yield folder
        for at, _, names in os.walk(os.path.join(package, folder)):
            yield from (os.path.join(at, name) for name in names)


def _is_computed(path: str) -> bool:
    return "{{" in path or "{%" in path


def _settings(package: str) -> dict[str, Any]:
    import yaml

    try:
        with open(os.path.join(package, "dbt_project.yml"), "rb") as file:
            settings = yaml.load(file, Loader=yaml.CSafeLoader)
    except (OSError, yaml.YAMLError):
        return {}  # dbt says it better, when it comes to parse
    return settings if isinstance(settings, dict) else {}


def _stamp(path: str) -> tuple[int, ...]:
    try:
        stat = os.stat(path)
    except OSError:
        return ()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns  # ctime: `touch -d` and `cp -p` can hide from mtime


def _dbt_versions() -> list[str]:
    # the folder names say it 70 ms sooner than importlib.metadata
    names = [name for place in sys.path if os.path.isdir(place) for name in os.listdir(place)]
    return sorted(name for name in names if name.startswith("dbt") and name.endswith("-info"))


def _environment(files: Iterable[str]) -> dict[str, str | None]:
    """The variables that the files name and dbt's own; all there are when a name is computed."""
    names = {name for path in files if path.lower().endswith(WITH_JINJA) for name in _env_names(path)}
    if "" in names:
        return {name: value for name, value in os.environ.items() if name not in CHANGED_BY_THE_SHELL}
    names.update(name for name in os.environ if name.startswith("DBT_"))
    return {name: os.environ.get(name) for name in names}


def _env_names(path: str) -> set[str]:
    """Names of the environment variables in a file; "" stands for one that is not written out."""
    try:
        file = os.open(path, os.O_RDONLY)  # open() takes twice as long, and there are thousands
    except OSError:
        return set()
    try:
        content = os.read(file, os.fstat(file).st_size)
    finally:
        os.close(file)
    return {match[2].decode() if match[2] else "" for match in ENV_VAR.finditer(content)}
