"""Finds which vars a project reads where dbt renders them while it loads: YAML, the profile, on-run hooks.

What such a read decides (a path's config, a source's name, the target schema) is all over the parsed project, so a
batch that changes one of these vars gets a parse of its own. What model files read is parse_check's business.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

# `var('name'` and `var.has_var('name'`; any other use of the word, or a way around it, may read whichever var.
_LITERAL = re.compile(r"""\bvar\s*(?:\.\s*has_var\s*)?\(\s*(['"])(\w+)\1\s*[,)]""")
_ANY = re.compile(r"\b(?:var|context|builtins|invocation_args_dict)\b")
_CALL = re.compile(r"\b(\w+)\s*\(")
_JINJA = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
EVERY = "*"

_LATE_IN_PROJECT = {"pre-hook", "post-hook", "pre_hook", "post_hook"}
_LATE_IN_SCHEMA = {"pre_hook", "post_hook"}


def read_by(text: str) -> set[str]:
    """The vars that Jinja code reads; EVERY among them when it reads one whose name is not written out."""
    names = {match[2] for match in _LITERAL.finditer(text)}
    if len(_LITERAL.findall(text)) < len(_ANY.findall(text)):
        names.add(EVERY)
    return names


class VarReaders:
    """Where the vars are read, of one parsed project."""

    def __init__(self, config: Any, manifest: Any, profiles_path: Path | None):
        self._where: dict[str, str] = {}
        for file in manifest.files.values():
            self._add(_strings(getattr(file, "dfy", None), _LATE_IN_SCHEMA), file.path.original_file_path)
        for project in config.load_dependencies().values():
            path = Path(project.project_root, "dbt_project.yml")
            settings = yaml.safe_load(path.read_text()) or {}
            for key in ("vars", "on-run-start", "on-run-end", "query-comment"):
                settings.pop(key, None)
            self._add(_strings(settings, _LATE_IN_PROJECT), f"{project.project_name}: dbt_project.yml")
        if profiles_path is not None and profiles_path.exists():
            self._add([profiles_path.read_text()], "profiles.yml")
        macro_code = MacroCode(manifest)
        for node in manifest.nodes.values():
            if node.resource_type == "operation":  # an on-run-start or on-run-end hook: runs once in a session
                for code in (node.raw_code, *macro_code.reached(node).values()):
                    self._add(_JINJA.findall(code), f"{node.package_name}: {node.name}")

    @property
    def where(self) -> dict[str, str]:
        """The file or hook that reads each var."""
        return dict(self._where)

    def reader(self, names: Iterable[str]) -> str | None:
        """Where one of these vars is read, or None."""
        if not names:
            return None
        return next((self._where[name] for name in [*sorted(names), EVERY] if name in self._where), None)

    def _add(self, texts: Iterable[str], where: str) -> None:
        for text in texts:
            for name in read_by(" ".join(_JINJA.findall(text))):
                self._where.setdefault(name, where)


class MacroCode:
    """The code of all macros that a piece of dbt code can reach."""

    def __init__(self, manifest: Any):
        self._macros = manifest.macros
        self._by_name: dict[str, list[str]] = {}
        for unique_id, macro in manifest.macros.items():
            self._by_name.setdefault(macro.name, []).append(unique_id)

    def reached(self, node: Any) -> dict[str, str]:
        """{unique_id: code}, by what dbt recorded and by name: it records no call that its parse did not come by."""
        seen: dict[str, str] = {}
        todo = list(node.depends_on.macros) + self._named_in(getattr(node, "raw_code", ""))
        while todo:
            unique_id = todo.pop()
            macro = self._macros.get(unique_id)
            if unique_id not in seen and macro is not None:
                seen[unique_id] = macro.macro_sql
                todo += macro.depends_on.macros
        return seen

    def named(self, name: str) -> list[str]:
        """unique_ids of the macros called `name`, in whichever package."""
        return self._by_name.get(name, [])

    def _named_in(self, code: str) -> list[str]:
        return [unique_id for name in _CALL.findall(code) for unique_id in self.named(name)]


def _strings(value: Any, skipped: set[str]) -> Iterator[str]:
    """All strings in nested `value` but for what is below the `skipped` keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item, skipped)
    elif isinstance(value, dict):
        for key, item in value.items():
            if str(key).lstrip("+ ") not in skipped:
                yield from _strings(item, skipped)
