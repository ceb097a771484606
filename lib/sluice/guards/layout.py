"""G09 partition-cap and G10 moved-key: partition keys that an insert or a merge cannot cope with."""

from collections.abc import Iterator
from typing import Any

from sluice.guards.case import Case, Finding
from sluice.guards.partitions import columns, parts, spans
from sluice.guards.slices import BadSlice, Values, column_of, slice_of
from sluice.guards.writing import INCREMENTAL
from sluice.records import Batch

# Partitions that one insert may write: max_partitions_per_insert_block, and the limits of the services.
CAPS = {"clickhouse": 100, "athena": 100, "bigquery": 4000}
MERGED = ("Replacing", "Summing", "Aggregating", "Collapsing", "Coalescing", "Graphite")


def partition_cap(case: Case) -> Iterator[Finding]:
    """One insert into more partitions than the warehouse takes."""
    if case.adapter not in CAPS:
        return
    for batches in case.windowed.values():
        for batch in batches:
            config = case.config(batch)
            cap, count = _cap(case.adapter, config), _partitions(case, batch)
            if cap and count > cap:
                yield case.finding(
                    "G09", batch,
                    f"its insert would write {count} partitions ({config.get('partition_by')}), and {case.adapter} takes {cap}: "
                    "the batch fails when it has done its work",
                    _smaller(case, batch, cap, count),
                )  # fmt: skip
                break


def _cap(adapter: str, config: Any) -> int:
    """0 means no limit."""
    settings = {**(config.get("settings") or {}), **(config.get("query_settings") or {})}
    given = settings.get("max_partitions_per_insert_block") if adapter == "clickhouse" else None
    try:
        return CAPS[adapter] if given is None else int(given)
    except (TypeError, ValueError):
        return CAPS[adapter]


def _partitions(case: Case, batch: Batch) -> int:
    """How many partitions the batch writes at least, as far as its partition key says."""
    assert batch.window is not None and batch.model is not None
    units = {}
    count = 1
    for part in parts(case.config(batch).get("partition_by")):
        if part.unit:
            units[part.unit] = spans(part.unit, batch.window)
        elif part.buckets:
            count *= part.buckets
        elif part.column:
            count *= _values(case, batch, part.column)
    return count * max(units.values(), default=1)


def _values(case: Case, batch: Batch, column: str) -> int:
    """How many values of a partition column the batch's stage has."""
    uid = batch.model or ""
    block = case.blocks.get(uid)
    stage = next((one for one in (block.stages if block else None) or [] if one.name == batch.stage), None)
    if block is None or stage is None:
        return 1
    try:
        slices = slice_of(stage.vars)
    except BadSlice:
        return 1  # G06 says it
    for name, taken in slices.items():
        if isinstance(taken, Values) and column_of(case.node(uid), block, name) == column:
            known = (case.facts.values.get(uid, {}) if case.facts else {}).get(name)
            if known is not None:
                return max(1, sum(taken.takes(value) for value in known))
            return len(taken.taken - taken.left) if taken.taken else 1
    return 1


def _smaller(case: Case, batch: Batch, cap: int, count: int) -> str:
    assert batch.window is not None
    fits = spans("month", batch.window) * cap // count
    raise_it = (
        "query_settings={'max_partitions_per_insert_block': ...}"
        if case.adapter == "clickhouse"
        else "another partition_by"
    )
    return f"batch_months of at most {fits}" if fits else f"a coarser partition_by, or {raise_it}"


def moved_key(case: Case) -> Iterator[Finding]:
    """A row whose partition changes leaves its old version in another partition, where no merge finds it."""
    if case.adapter != "clickhouse":
        return
    for batches in case.models.values():
        batch = batches[-1]
        config = case.config(batch)
        if config.get("materialized") not in INCREMENTAL or not _is_merged(config.get("engine")):
            continue
        sorted_by = columns(config.get("order_by") or config.get("primary_key"))
        moving = columns(config.get("partition_by")) - sorted_by
        if moving and sorted_by:
            names = ", ".join(sorted(moving))
            yield case.about(
                "G10", batch.model or "",
                f"its partition ({config.get('partition_by')}) does not follow from its sorting key ({', '.join(sorted(sorted_by))}): "
                f"a row whose {names} changes goes to another partition and is there twice, for good",
                f"add {names} to order_by, or partition_by a column of order_by",
                "warn" if case.intent == "daily" else "refuse",
            )  # fmt: skip


def _is_merged(engine: Any) -> bool:
    return any(kind in str(engine or "") for kind in MERGED)
