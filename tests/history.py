"""What a state store and a warehouse remember of a run, judged when it is over, as Jepsen judges a database.

An intent is a batch's before dbt is asked, an outcome its end as the state has it; an effect is the marker that commits in the
warehouse with a batch's rows. Who was killed, what was cut and how often it was resumed does not matter: what must hold, holds.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sluice.state import State
from sluice.warehouse import Warehouse

TICK = timedelta(milliseconds=1)  # to which the state rounds
_EVENTS = """SELECT seq, event, at, root_run_id, batch_id, model_name, full_refresh, attempt, status
             FROM batch_event ORDER BY seq"""


@dataclass(frozen=True)
class Event:
    """A row of batch_event."""

    seq: int
    event: str
    at: datetime
    root: str
    batch_id: str
    model: str | None
    full_refresh: bool
    attempt: int
    status: str | None = None

    @property
    def name(self) -> str:
        return f"{self.event} {self.status or ''} of {self.model}, batch {self.batch_id}, attempt {self.attempt}"


@dataclass(frozen=True)
class Effect:
    """A node's rows of one attempt, committed."""

    root: str
    batch_id: str
    node: str
    attempt: int
    at: datetime


def events(state: State) -> list[Event]:
    """All that the store knows of batches, in the order in which it was told."""
    return [
        Event(row[0], row[1], datetime.fromisoformat(row[2]), *row[3:6], bool(row[6]), *row[7:])
        for row in state.store.rows(_EVENTS)
    ]


def effects(warehouse: Warehouse, database: str | None, schema: str) -> list[Effect]:
    """All that the warehouse's table of commits holds; none where the table is not there."""
    there = (
        "select count(*) from information_schema.tables where table_schema = $schema and table_name = 'sluice_commit'"
    )
    if not warehouse.value(there, {"schema": schema}):
        return []
    committed, at = (
        ("event = 'committed'", "at")
        if warehouse.adapter == "clickhouse"
        else ("committed_at is not null", "committed_at")
    )
    rows = warehouse.rows(
        f"select root_run_id, batch_id, unique_id, attempt, {at} from {warehouse.relation(database, schema, 'sluice_commit')} where {committed}"
    )
    return [Effect(*row[:4], _in_utc(row[4])) for row in rows]


def wrong(told: Iterable[Event], done: Iterable[Effect], planned: Iterable[Any]) -> list[str]:
    """What must not be, in words; empty when all is as it must be. `planned` are the batches of the plan that has ended."""
    told, found = list(told), []
    opened: dict[str | None, Event] = {}  # by model: an intent whose outcome nobody has told yet
    intents: dict[tuple[str, str, int], Event] = {}
    attempts: dict[tuple[str, str], int] = {}
    ends: dict[tuple[str, str], Event] = {}
    for one in told:
        batch = (one.root, one.batch_id)
        if one.event == "intent":
            before = opened.get(one.model)
            if before is not None and before.batch_id != one.batch_id:
                found.append(f"two intents are open: {before.name} and {one.name}")
            if one.attempt != attempts.get(batch, 0) + 1:
                found.append(f"{one.name} follows attempt {attempts.get(batch, 0)}")
            attempts[batch] = one.attempt
            opened[one.model] = intents[*batch, one.attempt] = one
        else:
            # One that looks and finds the rows of an earlier attempt has none of its own: attempt 0.
            if one.status != "skipped" and (
                batch not in attempts or (one.attempt and (*batch, one.attempt) not in intents)
            ):
                found.append(f"{one.name} was never intended")
            if batch in ends and ends[batch].status == "ok":
                found.append(f"{one.name} comes after {ends[batch].name}")
            ends[batch] = one
            if opened.get(one.model) is not None and opened[one.model].batch_id == one.batch_id:
                del opened[one.model]
    seen: dict[tuple[str, str, str], Effect] = {}
    for effect in done:
        what = f"an effect on {effect.node} of batch {effect.batch_id}, attempt {effect.attempt}"
        intent = intents.get((effect.root, effect.batch_id, effect.attempt))
        end = ends.get((effect.root, effect.batch_id))
        if intent is None:
            found.append(f"{what} without an intent")
        elif effect.at < intent.at - TICK:
            found.append(f"{what} before its intent")
        if (effect.root, effect.batch_id, effect.node) in seen:
            found.append(f"{what}, and one of attempt {seen[effect.root, effect.batch_id, effect.node].attempt}")
        seen[effect.root, effect.batch_id, effect.node] = effect
        if end is not None and end.status == "ok" and effect.at > end.at + TICK:
            found.append(f"{what} after {end.name}")
    left_rows = {effect.batch_id for effect in seen.values()}
    for batch in planned:
        last = [end for (_, batch_id), end in ends.items() if batch_id == batch["batch_id"]]
        if [end.status for end in last if end.status != "skipped"][-1:] != ["ok"]:
            found.append(f"batch {batch['seq']} of {batch['model']} ended as {[end.name for end in last]}")
        if not batch["full_refresh"] and batch["batch_id"] not in left_rows:
            found.append(f"batch {batch['seq']} of {batch['model']} has left no effect")
    return found


def _in_utc(at: datetime) -> datetime:
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
