"""G04 reader-with-writer and G05 cumulative: batches that are right alone and wrong in this order."""

import re
from collections.abc import Iterator

from sluice.cumulative import own_readings, reads_itself
from sluice.full_refresh import FullRefresh
from sluice.guards.case import Case, Finding
from sluice.guards.slices import base_of, column_of
from sluice.guards.writing import writing
from sluice.manifest import Node, meta_of
from sluice.records import Batch
from sluice.windows import month_start

COMMENT = re.compile(r"\{#.*?#\}|--[^\n]*|/\*.*?\*/", re.DOTALL)
# What two copies of a row make wrong. The greatest and the least of them stay what they are.
ADDS_UP = re.compile(
    r"\b(?:sum|count|avg|total|median|group_?array|array_agg|string_agg|listagg|stddev\w*|quantile\w*|list)(?:_?if)?\s*\(",
    re.IGNORECASE,
)
_DBTS_OWN = ("macro.dbt.", "macro.dbt_")
_PASSED_THROUGH = ("view", "ephemeral")


# -- G04 -------------------------------------------------------------------------------------------------


def reader_with_writer(case: Case) -> Iterator[Finding]:
    """A model that sums up a table to which the same wave appends rows that are there already."""
    appended = {
        uid: batches
        for uid, batches in case.models.items()
        if not case.is_replaced(uid) and any(_adds_copies(case, batch) for batch in batches)
    }
    for uid, batches in case.models.items():
        if not appended:
            return
        if case.node(uid).materialized in _PASSED_THROUGH:
            continue  # it keeps nothing
        for source in sorted(_read_tables(case, uid) & appended.keys()):
            waves = {batch.wave for batch in appended[source] if _adds_copies(case, batch)}
            reader = next((batch for batch in batches if batch.wave in waves), None)
            if reader is None or not _adds_up(case, uid, source):
                continue
            yield case.finding(
                "G04", reader,
                f"it adds up {case.node(source).name}, to which the same wave appends rows that it holds already: it would sum "
                "both copies, and the doubled value survives every merge",
                f"plan-refill | each-wave 'run-dbt-batch | optimize-partitions', or leave {case.node(uid).name} to a later run",
                "refuse" if _is_sure(case, source) else "warn",
            )  # fmt: skip
            break


def _adds_copies(case: Case, batch: Batch) -> bool:
    """Whether a batch may append rows that are in the table."""
    if batch.full_refresh or writing(case, batch) != "appends":
        return False
    if case.intent in ("daily", "retry") and case.adapter != "clickhouse":
        return False  # nothing merges there, so what it appends day by day is new by its own filter, or wrong with every reader
    rows = case.facts.rows(batch) if case.facts else None
    return rows is None or rows > 0


def _is_sure(case: Case, source: str) -> bool:
    """Whether it is known that the rows are there: a refill writes months again, other plans are looked up."""
    return case.intent == "refill" or bool(case.facts and any(model == source for model, _ in case.facts.months))


def _read_tables(case: Case, uid: str) -> set[str]:
    """The tables that a model reads, through views and ephemeral models too."""
    found: set[str] = set()
    todo = list(case.manifest.parents[uid])
    seen: set[str] = set()
    while todo:
        up = todo.pop()
        if up in seen:
            continue
        seen.add(up)
        if case.node(up).materialized in _PASSED_THROUGH:
            todo += case.manifest.parents[up]
        else:
            found.add(up)
    return found


def _adds_up(case: Case, uid: str, source: str) -> bool:
    """Whether the model's SQL, or that of a view between, aggregates; its own macros count as its SQL."""
    between = [
        up
        for up in case.manifest.ancestors(uid)
        if case.node(up).materialized in _PASSED_THROUGH and source in case.manifest.ancestors(up)
    ]
    for node in (case.node(uid), *map(case.node, between)):
        macros = [
            case.manifest.macros[name].macro_sql
            for name in node.depends_on.macros
            if name in case.manifest.macros and not name.startswith(_DBTS_OWN)
        ]
        if any(ADDS_UP.search(COMMENT.sub("", code)) for code in (node.raw_code, *macros)):
            return True
    return False


# -- G05 -------------------------------------------------------------------------------------------------


def cumulative(case: Case) -> Iterator[Finding]:
    """A model that goes on from its own months before, and is not carried on, in order, to the current month."""
    for uid, batches in case.windowed.items():
        if not reads_itself(case.node(uid)):
            continue
        yield from _cut_short(case, uid, batches)
        yield from _out_of_order(case, uid, batches)


def _cut_short(case: Case, uid: str, batches: list[Batch]) -> Iterator[Finding]:
    """Months that are rewritten while those after them keep what they were computed from."""
    if case.is_replaced(uid):
        return
    last = max(batch.window.end for batch in batches if batch.window)
    if last > month_start(case.today):
        return
    if case.facts is not None and case.facts.latest(uid) is not None and not case.facts.has_rows_from(uid, last):
        return
    yield case.finding(
        "G05", batches[-1],
        f"each of its months is computed from the one before ({{{{ this }}}}): those from {last:%Y-%m} on would keep what they "
        "made of the old rows",
        "leave out --to, so that it goes on to the current month; or meta.cumulative: false when it is not so",
    )  # fmt: skip


def _out_of_order(case: Case, uid: str, batches: list[Batch]) -> Iterator[Finding]:
    feeding = stages_feed(case, uid)
    latest: dict[str, Batch] = {}
    for batch in batches:
        key = "" if feeding else batch.stage
        before = latest.get(key)
        if before is not None and before.window and batch.window and _goes_back(before, batch, feeding):
            yield case.finding(
                "G05", batch,
                f"each of its months is computed from the one before ({{{{ this }}}}), and this batch comes after {before.stage} "
                f"{before.window.start:%Y-%m}: it would read months that are not there yet",
                "give all stages the same batch_months, so that months come before stages"
                if feeding
                else "plan it again: windows in order",
            )  # fmt: skip
            return
        latest[key] = batch


def _goes_back(before: Batch, batch: Batch, feeding: bool) -> bool:
    assert before.window is not None and batch.window is not None
    if feeding and before.stage != batch.stage:
        return not (batch.window == before.window or batch.window.start >= before.window.end)
    return batch.window.start < before.window.end and batch.wave <= before.wave and batch.window != before.window


def stages_feed(case: Case, uid: str) -> bool:
    """Whether a month of one stage may be computed from other stages' rows: see `feed_each_other`."""
    block = case.blocks.get(uid)
    return block is not None and feed_each_other(case.node(uid), block)


def feed_each_other(node: Node, block: FullRefresh) -> bool:
    """Whether a cumulative model reads its own table without telling its stages apart.

    `stages_feed` of the block says so; else it is taken to do when a reading of `this` names no stage's var or column.
    """
    if len(block.stages or []) < 2 or not reads_itself(node):
        return False
    if block.stages_feed is not None:
        return block.stages_feed
    names = {base_of(name) for stage in block.stages or [] for name in stage.vars}
    words = names | {column for name in names if (column := column_of(node, block, name))}
    if meta_of(node).get("cumulative") is True and not own_readings(node):
        return True
    told_apart = re.compile(rf"\b(?:{'|'.join(map(re.escape, sorted(words)))})\b") if words else None
    return any(told_apart is None or not told_apart.search(reading) for reading in own_readings(node))
