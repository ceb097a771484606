"""G14 ignored-vars: batches are told apart by vars that their model never reads, so that each writes the rows of all.

A var counts as read where its name stands between quotes in the Jinja of the model or of a macro that it reaches, dbt's
own left out, and where a name is computed. `X_start`, `X_end` and `X_exclude` are read by whoever names `X`, as
`index_range_filter` does. So what is found here is certain, and not all there is is found.
"""

import re
from collections.abc import Iterator

from sluice.dbt_engine.var_readers import EVERY, MacroCode, read_by
from sluice.full_refresh import FullRefresh, resolved
from sluice.guards.case import Case, Finding
from sluice.guards.slices import base_of
from sluice.guards.writing import writing
from sluice.manifest import Manifest, Node

WINDOW = ("start_month", "end_month")
_JINJA = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_QUOTED = re.compile(r"""(['"])(\w+)\1""")


def ignored_vars(case: Case) -> Iterator[Finding]:
    """Models of several batches that do not read what tells these apart: a warning, loudest where the rows of each are added."""
    use = VarUse(case.manifest)
    for uid, batches in case.windowed.items():
        if len(batches) == 1 and batches[0].full_refresh:
            continue
        node = case.node(uid)
        names = use.ignored(node, case.blocks[uid]) if uid in case.blocks else []
        way = writing(case, batches[-1])
        if not names or way == "replaces":  # a table, of which G01 tells
            continue
        adds = way == "appends"
        yield case.about(
            "G14", uid,
            f"it does not read {', '.join(names)}: each of its {len(batches)} batches would write all rows"
            + (f", and they would be there {len(batches)} times" if adds and len(batches) > 1 else ""),
            fix(node), "warn",  # vars may reach a model by ways that cannot be seen here
        )  # fmt: skip


def fix(node: Node) -> str:
    """What to write into the model."""
    return f"filter by them in {node.original_file_path}; sql/dbt/README.md shows how, with its macros and without"


def passed(block: FullRefresh) -> list[str]:
    """The vars that tell a model's batches apart, but for those that all of its batches have in common."""
    stages = resolved(block)
    return [*WINDOW, *(sorted({name for stage in stages for name in stage.vars}) if len(stages) > 1 else [])]


class VarUse:
    """What a project's models read."""

    def __init__(self, manifest: Manifest):
        self._manifest = manifest
        self._macros = MacroCode(manifest)

    def ignored(self, node: Node, block: FullRefresh) -> list[str]:
        """The vars that the model's batches pass and its code does not read: none where it cannot be known."""
        if node.language == "python" or self._is_computed(node):
            return []  # Python gets its vars by dbt.config.get, under names of its own
        texts = [text for code in self._codes(node) for text in _JINJA.findall(code)]
        named = {match[2] for text in texts for match in _QUOTED.finditer(text)}
        return [name for name in passed(block) if not {name, base_of(name)} & named]

    def _is_computed(self, node: Node) -> bool:
        """Whether code of the model's own project reads a var whose name is not written out."""
        reached = self._macros.reached(node)
        ours = [code for uid, code in reached.items() if uid.split(".")[1] == node.package_name]
        return any(EVERY in read_by(" ".join(_JINJA.findall(code))) for code in (node.raw_code, *ours))

    def _codes(self, node: Node) -> Iterator[str]:
        yield node.raw_code
        for uid, code in self._macros.reached(node).items():
            if uid.split(".")[1] not in ("dbt", f"dbt_{self._manifest.metadata.adapter_type}"):
                yield code
