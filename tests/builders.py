"""Records to test with, an engine that does what it is told, and a context without a process around it."""

import logging
import typing
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import msgspec
from hypothesis import strategies as st

from sluice import planning
from sluice.config import Config
from sluice.dbt_engine.wire import NodeResult, Outcome
from sluice.jobs import Job
from sluice.records import Batch, BatchResult, Plan, PlannedModel, Record, RunId, Window
from sluice.signals import Interrupted
from sluice.windows import monthly_windows

ORDERS, TOTALS = "model.shop.orders", "model.shop.totals"


def window(start: str, end: str) -> Window:
    return Window(date.fromisoformat(start), date.fromisoformat(end))


def a_batch(model: str = ORDERS, **fields: Any) -> Batch:
    """One batch of `model` that has not been numbered yet."""
    given = {
        "batch_id": "",
        "plan_id": "",
        "seq": 0,
        "total": 0,
        "reason": "full_refresh",
        "model": model,
        "select": [model.rsplit(".", 1)[-1]],
        "expect": [model],
    }
    return Batch(**(given | fields))


def months_of(model: str = ORDERS, *, months: int = 3, replace: bool = True, **fields: Any) -> list[Batch]:
    """A batch a month from January 2024 on, the first replacing the table."""
    windows = monthly_windows(date(2024, 1, 1), date(2024 + (months - 1) // 12, (months - 1) % 12 + 1, 1), 1)
    return [a_batch(model, window=w, full_refresh=replace and i == 0, **fields) for i, w in enumerate(windows)]


def a_plan(
    batches: list[Batch] | None = None,
    *,
    run_id: str = "run-1",
    checksum: str = "c0ffee",
    intent: Any = "full_refresh",
    models: list[str] | None = None,
    project: str = "shop",
    target: str = "dev",
    adapter: str = "duckdb",
    **fields: Any,
) -> tuple[Plan, list[Batch]]:
    """A plan and its batches, as a planner makes them; three months of orders when none are given."""
    batches = months_of() if batches is None else batches
    uids = models or list(dict.fromkeys(b.model or "" for b in batches))
    planned = [
        PlannedModel(
            unique_id=uid, mode="replace", batches=sum(b.model == uid for b in batches), stages=[], checksum=checksum
        )
        for uid in uids
    ]
    plan, batches = planning.build(
        batches,
        planned,
        intent=intent,
        project=project,
        target=target,
        adapter=adapter,
        to=date(2024, 12, 31),
        request={"select": [], "exclude": [], "selector": None, "stages": [], "incremental_only": False, "vars": "{}"},
    )
    plan.run_id = run_id
    for name, value in fields.items():
        setattr(plan, name, value)
    return plan, batches


def a_result(batch: Batch, status: Any = "ok", *, run_id: str = "run-1", **fields: Any) -> BatchResult:
    return BatchResult(
        run_id=run_id,
        batch_id=batch.batch_id,
        plan_id=batch.plan_id,
        seq=batch.seq,
        total=batch.total,
        model=batch.model,
        stage=batch.stage,
        window=batch.window,
        status=status,
        **fields,
    )


def copy(record: Any) -> Any:
    return msgspec.convert(msgspec.to_builtins(record), type(record))


Step = str | Outcome | Callable[[], Outcome]


@dataclass
class FakeEngine:
    """A warehouse in memory. `steps` are what the coming attempts at each batch do; after them each succeeds.

    A step is "ok", "lost before" or "lost after" the rows were committed, "interrupted before" or "… after", any other
    text a failure with this message, or a function. `rows` counts how often the rows of each batch are in the tables.
    `unsure` is what it says in turn when it is asked whether something was committed, before it can look.
    """

    steps: dict[str, list[Step]] = field(default_factory=dict)
    knows_commits: bool = True
    unsure: list[str] = field(default_factory=list)
    rolls_back: bool = True
    rows: Counter = field(default_factory=Counter)
    ran: list[str] = field(default_factory=list)
    asked: list[dict] = field(default_factory=list)
    cancelled: int = 0
    closed: int = 0
    _markers: set[tuple] = field(default_factory=set)
    _owner: dict[str, str] = field(default_factory=dict)

    def run(self, *, batch_id: str, expect: list[str], marker: dict | None, full_refresh: bool, **_: Any) -> Outcome:
        self.ran.append(batch_id)
        queue = self.steps.get(batch_id)
        step = queue.pop(0) if queue else "ok"
        if callable(step):
            return step()
        if isinstance(step, Outcome):
            return step
        if step == "ok" or step.endswith(" after"):
            self._commit(batch_id, expect[0], marker, full_refresh)
        if step.startswith("interrupted"):
            raise Interrupted(15)
        if step.startswith("lost"):
            return Outcome(status="lost", error="the dbt process died")
        if step == "ok":
            return Outcome(status="ok", nodes=[NodeResult(uid, "ok", 0.1, 1) for uid in expect])
        return Outcome(status="failed", nodes=[NodeResult(expect[0], "failed", 0.1, message=step)])

    def running(self, **batch: Any) -> Job[Outcome]:
        return self.run(**batch)
        yield

    def cancelling(self) -> Job[None]:
        return self.cancel()
        yield

    def _commit(self, batch_id: str, model: str, marker: dict | None, full_refresh: bool) -> None:
        if full_refresh:
            for other in [b for b, owner in self._owner.items() if owner == model]:
                del self.rows[other]
        self._owner[batch_id] = model
        self.rows[batch_id] += 1
        if marker is not None:
            self._markers.add((marker["root_run_id"], marker["batch_id"], marker["attempt"]))

    def committed(self, marker: dict) -> bool | str:
        self.asked.append(marker)
        if self.unsure:
            return self.unsure.pop(0)
        if not self.knows_commits:
            return "nobody looked"
        return any(
            (root, batch) == (marker["root_run_id"], marker["batch_id"]) and attempt >= marker["attempt"]
            for root, batch, attempt in self._markers
        )

    def cancel(self, grace_s: float = 3.0) -> None:
        self.cancelled += 1

    def close(self) -> None:
        self.closed += 1


@dataclass
class FakeContext:
    """What a command's body sees of its process; `stream` are the records that come in."""

    config: Config
    stream: Iterable[Record] = ()
    dry_run: bool = False
    quiet: bool = True
    is_seen: bool = False
    upstream_exit: int = 0
    line: int = 0
    keeps: bool = False
    kept: list[Record] = field(default_factory=list)
    now: datetime = datetime(2024, 12, 31, 12, tzinfo=UTC)
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("sluice"))

    def keep(self, record: Record) -> None:
        self.kept.append(record)

    def waits(self, timeout_s: float) -> bool:
        return False

    def records(self) -> Iterator[Record]:
        for self.line, record in enumerate(self.stream, 1):
            yield record


# Text that any record may carry: what stands in a plan or a batch is never Jinja.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0{"), max_size=20)


def values_of(kind: object, texts: st.SearchStrategy[str] = texts) -> st.SearchStrategy:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind == RunId:
        return st.text("abcXYZ0189._-", max_size=30).map(lambda text: f"0{text}") | st.just("")
    if kind is str:
        return texts
    if kind is float:
        return st.floats(allow_nan=False, allow_infinity=False)
    if kind is date:
        return st.dates(date(1900, 1, 1), date(2200, 12, 31))
    if kind in (int, bool, type(None)):
        return st.from_type(typing.cast(type, kind))
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if origin is list:
        return st.lists(values_of(arguments[0], texts), max_size=3)
    if origin is dict:
        return st.dictionaries(values_of(arguments[0], texts), values_of(arguments[1], texts), max_size=3)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return records_of(kind, texts)
    return st.one_of(*(values_of(argument, texts) for argument in arguments))


def records_of(struct: type[msgspec.Struct], texts: st.SearchStrategy[str] = texts) -> st.SearchStrategy:
    """Any record of a type, with such texts in it."""
    fields = {f.name: values_of(f.type, texts) for f in msgspec.structs.fields(struct) if f.name != "v"}
    return st.builds(lambda **given_fields: struct(**given_fields), **fields)
