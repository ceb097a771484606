"""The blast radius of a source: what is built on it, what a refill would do to each, and who reads that. Pure."""

from collections.abc import Collection, Iterator
from datetime import timedelta

from sluice.errors import refused, suggestion
from sluice.manifest import Manifest, Node
from sluice.records import Batch, Effect, Impact, PlannedGap, Window

KEEPS_NOTHING = ("view", "ephemeral")
REBUILT = ("table",)  # as a whole, however far back it is told to look


def source_named(manifest: Manifest, name: str) -> Node:
    """The source `raw.prices`, or `prices` where only one has that name. Raises SluiceError (2)."""
    sources = manifest.of_type("source").values()
    found = [node for node in sources if name in (f"{node.source_name}.{node.name}", node.name)]
    if len(found) == 1:
        return found[0]
    known = sorted(f"{node.source_name}.{node.name}" for node in (found or sources))
    raise refused(
        f"--source {name}: {'several sources have' if found else 'no source has'} this name{suggestion(name, known)}",
        code="refill_unknown_source",
        hint=f"--source with one of: {', '.join(known[:20])}" if known else "declare it under sources: in a YAML file",
    )


def below(manifest: Manifest, source: str) -> set[str]:
    """All models and exposures, near and far, that are made from the source."""
    return {uid for uid in manifest.of_type("model", "snapshot", "exposure") if source in manifest.ancestors(uid)}


def impacts(manifest: Manifest, source: str, gap: PlannedGap, batches: Collection[Batch]) -> Iterator[Impact]:
    """What a refill would do, as a tree: each node once, below the parent that comes first, `depth` steps from the source."""
    touched = below(manifest, source)
    of_model: dict[str | None, list[Batch]] = {}
    for batch in batches:
        of_model.setdefault(batch.model, []).append(batch)
    children: dict[str, list[str]] = {}
    for uid in manifest.order(touched):
        for up in dict.fromkeys(manifest.parents[uid]):
            children.setdefault(up, []).append(uid)
    until = gap.first + timedelta(days=gap.days + 1)
    yield Impact(node=source, depth=0, effect="source", window=Window(gap.first, until), through=[])
    seen = {source}
    todo = [(uid, 1) for uid in reversed(children.get(source, []))]
    while todo:
        uid, depth = todo.pop()
        if uid in seen:
            continue
        seen.add(uid)
        through = [up for up in dict.fromkeys(manifest.parents[uid]) if up in touched or up == source]
        yield _impact(manifest.nodes[uid], of_model.get(uid, []), gap, depth, through)
        todo += [(down, depth + 1) for down in reversed(children.get(uid, []))]


def _impact(node: Node, own: list[Batch], gap: PlannedGap, depth: int, through: list[str]) -> Impact:
    estimates = [batch.estimate for batch in own if batch.estimate is not None]
    is_known = bool(own) and len(estimates) == len(own)
    effect = _effect(node, own)
    return Impact(
        node=node.unique_id, depth=depth, effect=effect, window=_window(own, effect, gap), through=through,
        batches=len(own), waves=sorted({batch.wave for batch in own}),
        p50_s=round(sum(one.p50_s for one in estimates), 3) if is_known else None,
        p90_s=round(sum(one.p90_s for one in estimates), 3) if is_known else None,
    )  # fmt: skip


def _effect(node: Node, own: list[Batch]) -> Effect:
    if node.resource_type == "exposure":
        return "read"
    if node.materialized in KEEPS_NOTHING:
        return "none"
    if not own:
        return "not_planned"
    if own[0].window is not None:
        return "months"
    is_told = (own[0].phase or "").startswith("consumers")
    return "lookback" if is_told and node.materialized not in REBUILT else "whole"


def _window(own: list[Batch], effect: Effect, gap: PlannedGap) -> Window | None:
    windows = [batch.window for batch in own if batch.window is not None]
    if windows:
        return Window(min(one.start for one in windows), max(one.end for one in windows))
    if effect == "lookback":
        after = gap.first + timedelta(days=gap.days + 1)
        return Window(after - timedelta(days=gap.lookback_days), after)
    return None
