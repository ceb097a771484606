"""Models that are built under another name: `this`, every ref to them, and dbt's own helpers mean that name.

dbt takes a relation's name from its node each time that it needs it, so the node is where to change it: nothing of the
user's project has to know.
"""

from __future__ import annotations

from typing import Any

from sluice.aside import aside_name


class Moved(Exception):
    """A batch's vars change the name of a model: its batches would build tables that nobody publishes."""


def redirect(adapter: Any, config: Any, manifest: Any, asides: dict[str, str]) -> None:
    """Give each node {unique_id: name} its other name, if it has not got it. Raises Moved."""
    nodes = [(manifest.nodes[uid], name) for uid, name in asides.items() if uid in manifest.nodes]
    renamed = [(node, name) for node, name in nodes if node.alias != name]
    for node, name in renamed:
        if aside_name(node.alias) != name:
            raise Moved(f"{node.unique_id} is called {node.alias} under the batch's vars: it cannot be built aside")
        node.alias = name
        node.relation_name = str(adapter.Relation.create_from(config, node))
    if renamed and manifest.flat_graph:
        manifest.build_flat_graph()  # what walks the graph reads the names there
