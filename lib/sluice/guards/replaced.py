"""G01 table-batched and G02 overwrite-narrow: batches that replace what other batches wrote."""

from collections.abc import Iterator

from sluice.guards.case import Case, Finding
from sluice.guards.partitions import MONTHS, holds_whole, parts
from sluice.guards.slices import columns_of
from sluice.guards.writing import REPLACED, rebuilds, writing
from sluice.records import Batch

WHOLE_TABLE = ("snowflake",)  # where insert_overwrite knows no partitions


def table_batched(case: Case) -> Iterator[Finding]:
    """A model whose every batch replaces the ones before."""
    for batches in case.windowed.values():
        for batch in batches:
            config = case.config(batch)
            kind = config.get("materialized")
            if kind in REPLACED:
                yield case.finding(
                    "G01", batch,
                    f"it is a {kind}: each of its batches would replace the ones before, and only the last window would be left",
                    "make it incremental, or take meta.full_refresh away",
                )  # fmt: skip
                break
            if not batch.full_refresh and writing(case, batch) == "replaces" and rebuilds(config, batch):
                yield case.finding(
                    "G01", batch,
                    "its config says full_refresh: true, so each of its batches would rebuild the table, and only the last "
                    "window would be left",
                    "take full_refresh out of its config",
                )  # fmt: skip
                break


def overwrite_narrow(case: Case) -> Iterator[Finding]:
    """A batch that writes part of a partition and replaces all of it."""
    for uid, batches in case.windowed.items():
        first = min(batch.window.start for batch in batches if batch.window)
        last = max(batch.window.end for batch in batches if batch.window)
        for batch in batches:
            if writing(case, batch) != "overwrites":
                continue
            what = _narrow(
                case, batch, is_first=_starts(batch, first) and case.is_replaced(uid), is_last=_ends(batch, last)
            )
            if what:
                yield case.finding("G02", batch, *what)
                break


def _narrow(case: Case, batch: Batch, *, is_first: bool, is_last: bool) -> tuple[str, str] | None:
    """What the batch would wipe out, and what to do; None where it writes whole partitions."""
    assert batch.window is not None and batch.model is not None
    partition_by = case.config(batch).get("partition_by")
    key = [] if case.adapter in WHOLE_TABLE else parts(partition_by)
    of_time = [part.unit for part in key if part.unit]
    if not of_time:
        whole = f"a partition ({partition_by}) holds all months" if key else "the table is one partition"
        return (
            f"insert_overwrite replaces whole partitions and {whole}: the rows of every other window would be gone",
            "partition_by the month of the date column, or another incremental_strategy",
        )
    begins, ends = map(all, zip(*(holds_whole(unit, batch.window) for unit in of_time), strict=True))
    if not (begins or is_first) or not (ends or is_last):
        months = max((MONTHS.get(unit, 0) for unit in of_time), default=0)
        return (
            f"insert_overwrite replaces whole partitions, and one of {partition_by} reaches beyond the window: the rows of the "
            "months beside it would be gone",
            f"batch_months of {months} from the first month of a {of_time[0]}, or partition_by the month"
            if months > 1
            else "partition_by the month of the date column",
        )
    block = case.blocks.get(batch.model)
    stages = [stage.name for stage in (block.stages if block else None) or []]
    others = [name for name in stages if name != batch.stage] if batch.stage in stages else []  # a refill's take all
    missing = columns_of(case, batch.model) - {part.column for part in key if part.column}
    if others and missing:
        return (
            f"insert_overwrite replaces whole partitions, and one of {partition_by} holds all stages: the rows of "
            f"{', '.join(others[:3])} would be gone",
            f"partition_by ({partition_by}, {', '.join(sorted(missing))}), or another incremental_strategy",
        )
    return None


def _starts(batch: Batch, first: object) -> bool:
    return batch.window is not None and batch.window.start == first


def _ends(batch: Batch, last: object) -> bool:
    return batch.window is not None and batch.window.end == last
