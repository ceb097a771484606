"""What a batch is to dbt: a flag, hooks on its nodes, and results to be judged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from dbt.artifacts.resources import Hook

from sluice.dbt_engine.invocation import scrubbed
from sluice.dbt_engine.wire import NodeResult, Outcome

_STATUS = {"success": "ok", "skipped": "skipped"}


@contextmanager
def hooked(manifest: Any, hooks: dict[str, Hook]) -> Iterator[None]:
    """Give each node {unique_id: hook} one more post-hook, for as long as the batch runs."""
    nodes = [(manifest.nodes[unique_id], hook) for unique_id, hook in hooks.items()]
    for node, hook in nodes:
        node.config.post_hook.append(hook)
    try:
        yield
    finally:
        for node, hook in nodes:
            node.config.post_hook.remove(hook)


def judge(expect: list[str], results: Iterable[Any]) -> Outcome:
    """The outcome of dbt's RunResults: ok only when they are exactly the expected nodes, all successful.

    `expect` is without ephemeral nodes: they run in others. Of those, and of on-run hooks, only failures count.
    """
    nodes: list[NodeResult] = []
    errors: list[str] = []
    for result in results:
        one = _node_result(result)
        if result.node.resource_type == "operation":
            if one.status != "ok":
                errors.append(one.message or f"{one.unique_id} {one.status}")
            continue
        if result.node.is_ephemeral_model and one.status == "ok":
            continue
        nodes.append(one)
        if one.status == "failed":
            errors.append(one.message or f"{one.unique_id} failed")
    ran = [node.unique_id for node in nodes]
    if sorted(ran) != sorted(expect):
        missing, extra = sorted(set(expect) - set(ran)), sorted(set(ran) - set(expect))
        errors.append(f"dbt ran other nodes than expected: missing {missing}, not asked for {extra}")
    if not errors and any(node.status != "ok" for node in nodes):
        errors.append("skipped: " + ", ".join(node.unique_id for node in nodes if node.status != "ok"))
    return Outcome(status="failed" if errors else "ok", nodes=nodes, error=errors[0] if errors else None)


def not_run(expect: list[str], error: str) -> Outcome:
    """The outcome of a batch that failed before its first node."""
    return Outcome(status="failed", nodes=[NodeResult(one, "skipped", 0.0) for one in expect], error=error)


def missing(expect: list[str], manifest: Any) -> str | None:
    """Names the expected nodes that this parse does not have or has disabled, or None."""
    absent = [one for one in expect if one not in manifest.nodes]
    if not absent:
        return None
    named = ", ".join(f"{one} ({'disabled' if one in manifest.disabled else 'not in the project'})" for one in absent)
    return f"cannot run under the batch's vars: {named}"


def _node_result(result: Any) -> NodeResult:
    rows = (result.adapter_response or {}).get("rows_affected")
    return NodeResult(
        unique_id=result.node.unique_id,
        status=_STATUS.get(str(result.status), "failed"),
        duration_s=result.execution_time,
        rows=rows if isinstance(rows, int) and rows >= 0 else None,
        message=None if result.message is None else scrubbed(str(result.message)),
        schema=getattr(result.node, "schema", None) or "",
        table=getattr(result.node, "alias", None) or result.node.name,
    )
