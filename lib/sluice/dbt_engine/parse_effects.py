"""What rendering one model at parse time does to it, found again and again, as its vars change.

dbt throws the rendered text away: a parse is the calls that the text makes on the way. Everything else of a parsed node
follows from them, from its project's settings and from the macros that name relations.
"""

from __future__ import annotations

import pickle
from typing import Any

import msgspec
from dbt.clients.jinja import get_rendered
from dbt.context.context_config import ContextConfig
from dbt.contracts.graph.nodes import ModelNode
from dbt.parser.models import ModelParser


class ParseEffects:
    """The effects of one node's render. `node` and `config` are a parse of it in full, which it takes over."""

    def __init__(self, parser: ModelParser, node: ModelNode, config: ContextConfig):
        self._node, self._config = node, config
        self._hooks = [hook.sql for hook in (*node.config.pre_hook, *node.config.post_hook)]
        # A context takes longer to make than to render with; vars are looked up in it at each call.
        self._context: dict[str, Any] = parser._context_for(node, config)
        self._model = pickle.dumps(self._context["model"])  # macros may write to it

    def find(self) -> bytes:
        """The calls under the current vars: config(), ref(), source() and their like, and the macros called, in order."""
        node, config = self._node, self._config
        told = (node.refs, node.sources, node.metrics, node.functions, node.depends_on.macros)
        for calls in told:
            calls.clear()
        config._config_call_dict = {}
        self._context["model"] = pickle.loads(self._model)  # noqa: S301
        self._context["_sql_results"].clear()
        for text in (node.raw_code, *self._hooks):
            get_rendered(text, self._context, node, capture_macros=True)
        return msgspec.json.encode([*told, config._config_call_dict], enc_hook=str)
