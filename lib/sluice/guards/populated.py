"""G03 append-populated, G08 late-start and G13 never-built: what the warehouse's own rows say against a plan."""

from collections.abc import Iterator

from sluice.full_refresh import ResolvedStage, resolved
from sluice.guards.case import Case, Finding
from sluice.guards.writing import writing
from sluice.planning import REPLACE_VAR
from sluice.records import Batch
from sluice.windows import month_start


def append_populated(case: Case) -> Iterator[Finding]:
    """Rows that are appended to months which hold them already, where nothing will merge them away."""
    for uid, batches in case.windowed.items():
        if case.is_replaced(uid):
            continue
        doubled = [batch for batch in batches if writing(case, batch) == "appends" and not _merged(case, batch)]
        rows = [(batch, case.facts.rows(batch) if case.facts else None) for batch in doubled]
        held = [(batch, count) for batch, count in rows if count]
        unknown = [batch for batch, count in rows if count is None]
        again = [batch for batch in unknown if case.intent == "refill" or _writes_again(batch)]
        if held:
            batch, count = held[0]
            more = f" (and {len(held) - 1} more batches)" if len(held) > 1 else ""
            yield case.finding(
                "G03", batch,
                f"it would append to a month that holds {count} rows of it already, and nothing merges them away: they would be "
                f"there twice{more}",
                f"let its config choose a strategy that deletes when var {REPLACE_VAR} is set"
                if batch.vars.get(REPLACE_VAR)
                else "plan without --incremental-only and --stage, or --into-populated replace",
            )  # fmt: skip
        elif again:
            yield case.finding(
                "G03", again[0],
                f"a {again[0].reason} writes its months again, and nothing merges the rows of the first time away: they would be there twice",
                "declare unique_key, or use incremental_strategy delete+insert",
            )  # fmt: skip
        elif unknown:
            yield case.finding(
                "G03", unknown[0],
                "it appends, nothing merges rows away, and whether its months hold rows could not be looked up",
                "look at the table, or plan where the warehouse can be reached",
                "warn",
            )  # fmt: skip


def _writes_again(batch: Batch) -> bool:
    """Whether a batch that fills a hole was asked to replace rows that may be there."""
    return batch.reason == "gap" and bool(batch.vars.get(REPLACE_VAR))


def _merged(case: Case, batch: Batch) -> bool:
    """Whether a second copy of a row goes away: by the engine's merges, or by optimize-partitions in a refill's pipe."""
    config = case.config(batch)
    engine = str(config.get("engine") or "") if case.adapter == "clickhouse" else ""
    if "Replacing" in engine:
        return True
    is_computing = any(word in engine for word in ("Summing", "Aggregating", "Collapsing", "Graphite"))
    return case.intent == "refill" and bool(config.get("unique_key")) and not is_computing


def late_start(case: Case) -> Iterator[Finding]:
    """A stage that begins after the first row of its source."""
    if case.facts is None:
        return
    for uid, batches in case.windowed.items():
        firsts: dict[str, Batch] = {}
        for batch in batches:
            firsts.setdefault(batch.stage, batch)
        starts = {stage.name: month_start(stage.start_date) for stage in _stages(case, uid)}
        for stage, batch in firsts.items():
            first, source = case.facts.first_days.get((uid, stage), (None, ""))
            start = starts.get(stage)  # of the stage: a plan may have only a part of it
            if first is not None and start is not None and month_start(first) < start:
                yield case.finding(
                    "G08", batch,
                    f"it starts with {start:%Y-%m}, and {source} has rows of it from {first} on: those before would "
                    "be left out",
                    f"start_date: '{first}'",
                )  # fmt: skip


def _stages(case: Case, uid: str) -> list[ResolvedStage]:
    return resolved(case.blocks[uid]) if uid in case.blocks else []


def never_built(case: Case) -> Iterator[Finding]:
    """A refill of a table that is not there: dbt would make it, with the gap's months alone, and every later run go on from them."""
    if case.facts is None or case.intent != "refill":
        return
    for uid, batches in case.windowed.items():
        if uid in case.facts.absent:
            yield case.finding(
                "G13", batches[0],
                "its table is not there: a refill would make it with these months alone, and every later run would go on from them",
                f"plan-batches --select {case.node(uid).name}",
            )  # fmt: skip
