"""Vars that batches pass and their model's code never reads: every batch would then write the rows of all. Pure.

A var counts as read where its name stands between quotes in the Jinja of the model or of a macro that it reaches, dbt's
own left out, and where a name is computed. `X_start`, `X_end` and `X_exclude` are read by whoever names `X`, as
`index_range_filter` does. So what is found here is certain, and not all there is is found.
"""

import re
from collections.abc import Iterator

from sluice.dbt_engine.var_readers import EVERY, MacroCode, read_by
from sluice.full_refresh import FullRefresh, resolved
from sluice.guards.slices import base_of
from sluice.manifest import Manifest, Node

WINDOW = ("start_month", "end_month")
_JINJA = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_QUOTED = re.compile(r"""(['"])(\w+)\1""")


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
        """The vars that the model's batches pass and its code does not read."""
        if node.language == "python":
            return []  # its vars come by dbt.config.get, under names of its own
        texts = [text for code in self._codes(node) for text in _JINJA.findall(code)]
        named = {match[2] for text in texts for match in _QUOTED.finditer(text)}
        return [name for name in passed(block) if not {name, base_of(name)} & named]

    def is_computed(self, node: Node) -> bool:
        """Whether code of the model's own project reads a var whose name is not written out."""
        reached = self._macros.reached(node)
        ours = [code for uid, code in reached.items() if uid.split(".")[1] == node.package_name]
        return any(EVERY in read_by(" ".join(_JINJA.findall(code))) for code in (node.raw_code, *ours))

    def _codes(self, node: Node) -> Iterator[str]:
        yield node.raw_code
        for uid, code in self._macros.reached(node).items():
            if uid.split(".")[1] not in ("dbt", f"dbt_{self._manifest.metadata.adapter_type}"):
                yield code
