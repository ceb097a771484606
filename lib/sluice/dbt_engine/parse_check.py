"""Proves, batch by batch, that a parsed project holds under the batch's vars, or parses again what does not.

dbt renders config(), ref() and hooks while it parses; a project parsed once would run every batch with the config of
the first one's vars. So for the nodes that a batch depends on dbt's own parse-time render is repeated under the batch's
vars and compared with its outcome under the vars that the manifest's copy was parsed with. What moved goes through
dbt's partial parser. What cannot be proved raises NeedsFresh.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import msgspec
from dbt.adapters.factory import get_adapter, get_adapter_package_names
from dbt.context.context_config import ContextConfig
from dbt.contracts.files import FileHash
from dbt.contracts.graph.nodes import ManifestNode, ModelNode
from dbt.parser.manifest import ManifestLoader, _check_manifest
from dbt.parser.models import ModelParser
from dbt.parser.read_files import FileDiff
from dbt.parser.search import FileBlock
from dbt_common.exceptions import DbtBaseException

from sluice.dbt_engine.parse_effects import ParseEffects
from sluice.dbt_engine.var_readers import EVERY, MacroCode, read_by

_VAR = re.compile(r"\bvar\b")
_GRAPH = re.compile(r"\bgraph\b")
_ROUNDS = 3  # a parse may bring in new parents, whose parse may move too


class NeedsFresh(Exception):
    """The batch needs a complete parse under its own vars; the text says why."""


@dataclass(frozen=True)
class _Parse:
    """A node of the manifest, as a render of it found it."""

    node: ModelNode
    fingerprint: bytes
    effects: ParseEffects
    found: bytes


class ParseCheck:
    """Keeps one manifest right for batch after batch.

    `config` is dbt's RuntimeConfig: its `cli_vars` are set here. `manifest` holds what a parse under `base_vars` gave.
    """

    def __init__(self, config: Any, manifest: Any, base_vars: dict[str, Any]):
        self._config, self._manifest, self._base_vars = config, manifest, base_vars
        self._parsers: dict[str, ModelParser] = {}
        self._parsed_vars: dict[str, dict[str, Any]] = {}  # only of nodes that were parsed again
        self._held: dict[str, _Parse] = {}
        self._read: dict[str, set[str]] = {}
        self._codes: dict[str, tuple[ManifestNode, str]] = {}
        self._internal = set(get_adapter_package_names(config.credentials.type))
        self._macro_code = MacroCode(manifest)
        self._naming_reads = self._read_by_naming()
        self._dormant = {
            node.name
            for nodes in manifest.disabled.values()
            for node in nodes
            if isinstance(node, ModelNode) and _VAR.search(self.code(node))
        }
        self.reparses = 0

    def settle(self, expect: list[str], vars: dict[str, Any]) -> list[ModelNode]:
        """Set the vars, make the manifest right for them, and return the models that compiling `expect` involves."""
        for _ in range(_ROUNDS):
            involved = self._involved(expect, vars)
            doubtful = [node for node in involved if self._may_move(node, vars)]
            held = [self._held_parse(node) for node in doubtful]
            self.set_vars(vars)
            moved = [node for node, parse in zip(doubtful, held, strict=True) if self._moves(node, parse, vars)]
            if not moved:
                return involved
            self._parse_again(moved, vars)
        raise NeedsFresh("its parents keep moving with its vars")

    def moved_config(self, unique_id: str, vars: dict[str, Any]) -> dict[str, Any] | None:
        """What of a model's config is different under base vars + `vars`; None where its render cannot show it."""
        node = self._manifest.nodes.get(unique_id)
        if not isinstance(node, ModelNode):
            return None
        try:
            self._check_renderable(node)
            self._held_parse(node)
            before = self._render(node)[0].config.to_dict()
            self.set_vars({**self._base_vars, **vars})
            after = self._render(node)[0].config.to_dict()
        except (NeedsFresh, DbtBaseException):
            return None
        finally:
            self.set_vars(self._base_vars)
        return {key: value for key, value in after.items() if before.get(key) != value}

    def set_vars(self, vars: dict[str, Any]) -> None:
        # In place: configs, contexts and flags all hold this one dict.
        self._config.cli_vars.clear()
        self._config.cli_vars.update(vars)

    def _involved(self, expect: list[str], vars: dict[str, Any]) -> list[ModelNode]:
        """The expected nodes, their ephemeral ancestors, and the parents whose names they use."""
        seen: dict[str, ModelNode] = {}
        todo = list(expect)
        wanted = set(expect)
        while todo:
            unique_id = todo.pop()
            if unique_id in seen or unique_id.startswith("source."):
                continue
            node = self._manifest.nodes.get(unique_id)
            if node is None:
                raise NeedsFresh(f"{unique_id} is not enabled without the batch's vars")
            if not isinstance(node, ModelNode):
                self._check_named_statically(node, vars)
                continue
            seen[unique_id] = node
            if unique_id in wanted or node.is_ephemeral_model:
                self._check_renderable(node)
                todo += node.depends_on.nodes
        return list(seen.values())

    def _check_renderable(self, node: ModelNode) -> None:
        """Refuse what a render of this one node cannot show."""
        if node.language != "sql":
            raise NeedsFresh(f"{node.unique_id} is a {node.language} model")
        if node.config.incremental_strategy == "microbatch":
            raise NeedsFresh(f"{node.unique_id} is a microbatch model")
        if _GRAPH.search(self.code(node)):
            raise NeedsFresh(f"{node.unique_id} reads the graph of all nodes")
        for ref in node.refs:
            if ref.name in self._dormant:
                raise NeedsFresh(f"a disabled model named {ref.name} may be enabled by a var")

    def _check_named_statically(self, node: ManifestNode, vars: dict[str, Any]) -> None:
        """A seed's or snapshot's name must not depend on vars that the batch changes."""
        reads = read_by(getattr(node, "raw_code", "")) | self._naming_reads
        if reads & (_changed(vars, self._base_vars) | {EVERY}):
            raise NeedsFresh(f"the name of {node.unique_id} may depend on a var")

    def code(self, node: ManifestNode) -> str:
        """A node's code and that of all macros it can reach, but dbt's own: one string per parsed copy of the node."""
        known = self._codes.get(node.unique_id)
        if known is None or known[0] is not node:
            reached = self._macro_code.reached(node)
            theirs = [code for name, code in sorted(reached.items()) if name.split(".")[1] not in self._internal]
            hooks = [hook.sql for hook in (*node.config.pre_hook, *node.config.post_hook)]
            known = self._codes[node.unique_id] = (node, "\n".join([node.raw_code, *theirs, *hooks]))
        return known[1]

    def _reads(self, node: ManifestNode) -> set[str]:
        code = self.code(node)
        if code not in self._read:
            self._read[code] = read_by(code)
        return self._read[code]

    def _read_by_naming(self) -> set[str]:
        """The vars that generate_schema_name and its like read, in any package."""
        reads: set[str] = set()
        for component in ("database", "schema", "alias"):
            for unique_id in self._macro_code.named(f"generate_{component}_name"):
                macro = self._manifest.macros[unique_id]
                for code in (macro.macro_sql, *self._macro_code.reached(macro).values()):
                    reads |= read_by(code)
        return reads

    def _may_move(self, node: ModelNode, vars: dict[str, Any]) -> bool:
        """Whether a var that differs from the node's last parse is read by any code that its parse can come by."""
        changed = _changed(vars, self._vars_held(node))
        if not changed:
            return False
        return bool((self._reads(node) | self._naming_reads) & (changed | {EVERY}))

    def _held_parse(self, node: ModelNode) -> _Parse:
        """The parse-time render under the vars that the manifest's copy was parsed with."""
        known = self._held.get(node.unique_id)
        if known is None or known.node is not node:
            self.set_vars(self._vars_held(node))
            rendered, config = self._render(node)
            if rendered.raw_code != node.raw_code or any(ref not in node.refs for ref in rendered.refs):
                raise NeedsFresh(f"the parse of {node.unique_id} cannot be repeated")
            fingerprint = _fingerprint(rendered)
            effects = ParseEffects(self._parser(node.package_name), rendered, config)
            known = self._held[node.unique_id] = _Parse(node, fingerprint, effects, effects.find())
        return known

    def _moves(self, node: ModelNode, held: _Parse, vars: dict[str, Any]) -> bool:
        """Whether the node's parse under `vars`, which are set, differs from the held one."""
        if self._naming_reads & (_changed(vars, self._vars_held(node)) | {EVERY}):
            rendered, _ = self._render(node)
            return _fingerprint(rendered) != held.fingerprint
        return held.effects.find() != held.found

    def _vars_held(self, node: ModelNode) -> dict[str, Any]:
        return self._parsed_vars.get(node.unique_id, self._base_vars)

    def _render(self, node: ModelNode) -> tuple[ModelNode, ContextConfig]:
        """What dbt's parse of this node's file gives under the current vars; the manifest is not touched."""
        parser = self._parser(node.package_name)
        block = FileBlock(self._file(node))
        path = parser.get_compiled_path(block)
        fqn = parser.get_fqn(path, block.name)
        config = parser.initial_config(fqn)
        rendered = parser._create_parsetime_node(block=block, path=path, config=config, fqn=fqn)
        parser.render_update(rendered, config)
        return rendered, config

    def _file(self, node: ModelNode) -> Any:
        """The node's source file as it was parsed: dbt does not keep its text when it saves its parse state."""
        file = self._manifest.files[node.file_id]
        file.contents = node.raw_code
        return file

    def _parser(self, package: str) -> ModelParser:
        if package not in self._parsers:
            project = self._config.load_dependencies()[package]
            self._parsers[package] = ModelParser(project, self._manifest, self._config)
        return self._parsers[package]

    def _parse_again(self, moved: list[ModelNode], vars: dict[str, Any]) -> None:
        before = dict(self._manifest.nodes)
        try:
            adapter = get_adapter(self._config)
            loader = _InMemoryLoader(
                self._config, self._manifest, [self._file(node) for node in moved], adapter.connections.set_query_header
            )
            parsed = loader.load()
            if parsed is not self._manifest or not loader.partially_parsing:
                raise NeedsFresh("dbt's partial parser gave up")
            _check_manifest(parsed, self._config)
        except DbtBaseException as error:
            raise NeedsFresh(f"it does not parse with the others as they are: {error}") from error
        # The partial parser also parses what refers to the moved nodes: all of it now holds this batch's vars.
        for unique_id, node in self._manifest.nodes.items():
            if before.get(unique_id) is not node:
                self._parsed_vars[unique_id] = dict(vars)
        self.reparses += 1


def _fingerprint(rendered: ModelNode) -> bytes:
    outcome = rendered.to_dict(omit_none=False)
    del outcome["created_at"]
    return msgspec.json.encode(outcome, enc_hook=str)


def _changed(vars: dict[str, Any], others: dict[str, Any]) -> set[str]:
    """Names of the vars that differ, or that only one side has."""
    missing = object()
    return {name for name in vars.keys() | others.keys() if vars.get(name, missing) != others.get(name, missing)}


class _InMemoryLoader(ManifestLoader):
    """dbt's partial parser on a manifest in memory, with these files taken as changed. Reads and writes no file."""

    def __init__(self, config: Any, manifest: Any, files: list[Any], macro_hook: Any):
        self._in_memory, self._changed_files = manifest, files
        no_diff = FileDiff.from_dict({"deleted": [], "changed": [], "added": []})
        super().__init__(config, config.load_dependencies(), macro_hook=macro_hook, file_diff=no_diff)

    def read_manifest_for_partial_parse(self) -> Any:
        return self._in_memory

    def write_manifest_for_partial_parse(self) -> None:
        pass

    def safe_update_project_parser_files_partially(self, project_parser_files: dict) -> dict:
        for file in self._changed_files:
            file.checksum = FileHash.empty()
        return super().safe_update_project_parser_files_partially(project_parser_files)
