"""The waves of a refill: which models are rewritten, widened or rebuilt, in which order, with a barrier where needed. Pure.

The known recipe (append all, OPTIMIZE all, append all again, OPTIMIZE all) is wrong: in its second pass, too, a source
is appended just before its aggregator reads it; the aggregator sums both copies, and its doubled row is the newest
version, which every later merge keeps. Here a batch comes in a later wave than every append to a table that it reads,
the table itself in an earlier month included, and between two waves lies the OPTIMIZE. One pass is then enough.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

from sluice.cumulative import reads_itself
from sluice.errors import refused
from sluice.manifest import Manifest, Node, meta_of
from sluice.records import Window
from sluice.windows import add_months, month_start

Phase = Literal["rewrite", "consumers", "rebuild"]
Passes = Literal["one", "two"]


@dataclass(frozen=True)
class Gap:
    """What is to be repaired: `first` is the first wrong day, `today` the last day that is covered."""

    first: date
    today: date
    buffer_days: int

    @property
    def days(self) -> int:
        """Days from the first wrong one to today, today not counted."""
        return (self.today - self.first).days

    @property
    def lookback_days(self) -> int:
        """How far back the consumers must look: (today - from) + 1 + buffer."""
        return self.days + 1 + self.buffer_days

    @property
    def months(self) -> list[Window]:
        """Every month that [first, today] touches."""
        month, windows = month_start(self.first), []
        while month <= self.today:
            windows.append(Window(month, add_months(month, 1)))
            month = add_months(month, 1)
        return windows

    @property
    def canary_since(self) -> date:
        """Three days before the first affected month, so that a jump at its edge is seen."""
        return self.months[0].start - timedelta(days=3)


def gap_from(*, from_date: date | None, lookback_days: int | None, buffer_days: int, today: date) -> Gap:
    """The gap that the flags describe. Raises SluiceError (2) for neither or both, a future day, nonsense."""
    if (from_date is None) == (lookback_days is None):
        raise refused(
            "neither --from-date nor --lookback-days" if from_date is None else "both --from-date and --lookback-days",
            code="refill_which_gap",
            hint="plan-refill --from-date with the first wrong day",
        )
    if lookback_days is not None:
        from_date = today - timedelta(days=lookback_days - 1 - buffer_days)
    assert from_date is not None
    if from_date > today:
        raise refused(f"--from-date {from_date} lies after {today}", code="refill_future", hint="the first wrong day")
    return Gap(from_date, today, buffer_days)


@dataclass(frozen=True)
class Later:
    """Months after the gap, up to the current one, and the models that go on into them."""

    models: set[str]
    months: list[Window]


@dataclass(frozen=True)
class Step:
    """One batch to be: a model, its window (None: as a whole), and how."""

    node: Node
    wave: int
    phase: Phase
    window: Window | None = None
    full_refresh: bool = False


def carried(manifest: Manifest, uids: Iterable[str]) -> set[str]:
    """Those of the models whose later months change with an earlier one: the cumulative, and all that is built on them."""
    planned = set(uids)
    roots = {uid for uid in planned if reads_itself(manifest.nodes[uid])}
    return {uid for uid in planned if uid in roots or manifest.ancestors(uid) & roots}


def rewrite(
    manifest: Manifest,
    cohort: list[str],
    months: list[Window],
    *,
    first_wave: int = 1,
    passes: Passes = "one",
    later: Later | None = None,
) -> list[Step]:
    """The cohort (unique_ids in dependency order) month by month, appended, in waves.

    `later` are months after the gap for those models that must go on into them. `passes="two"` gives the old recipe, for
    comparison only.
    """
    if passes == "two":
        nodes = [manifest.nodes[uid] for uid in cohort]
        return [
            Step(node, first_wave + again, "rewrite", month)
            for again in (0, 1)
            for node in nodes
            for month in _months_of(node, months, later)
        ]
    _refuse_between(manifest, cohort)
    last_wave: dict[str, int] = {}
    steps: list[Step] = []
    for uid in cohort:
        node = manifest.nodes[uid]
        wave = max((last_wave[up] for up in manifest.ancestors(uid) if up in last_wave), default=first_wave - 1) + 1
        cumulative = reads_itself(node)
        for i, month in enumerate(_months_of(node, months, later)):
            steps.append(Step(node, wave + (i if cumulative else 0), "rewrite", month))
        last_wave[uid] = steps[-1].wave
    return sorted(steps, key=lambda step: step.wave)


def downstream(
    manifest: Manifest,
    order: Iterable[str],
    consumers: set[str],
    months: list[Window],
    *,
    first_wave: int,
    later: Later | None = None,
) -> list[Step]:
    """What comes after the rewrite, each model once in dependency order: consumers widened, the rest rebuilt.

    A model that is appended month by month is rebuilt by its months, an incremental one without windows as a whole: run
    as every day, it would keep the wrong rows that lie behind its watermark.
    """
    wave: dict[str, int] = {}
    steps: list[Step] = []
    for uid in order:
        node = manifest.nodes[uid]
        at = max((wave[up] for up in manifest.ancestors(uid) if up in wave), default=first_wave - 1) + 1
        wave[uid] = at
        if uid in consumers:
            steps.append(Step(node, at, "consumers"))
        elif node.materialized == "incremental" and "full_refresh" in meta_of(node):
            cumulative = reads_itself(node)
            steps += [
                Step(node, at + (i if cumulative else 0), "rebuild", month)
                for i, month in enumerate(_months_of(node, months, later))
            ]
            wave[uid] = steps[-1].wave
        else:
            steps.append(Step(node, at, "rebuild", full_refresh=node.materialized == "incremental"))
    return sorted(steps, key=lambda step: step.wave)


def _months_of(node: Node, months: list[Window], later: Later | None) -> list[Window]:
    return months + later.months if later is not None and node.unique_id in later.models else months


def _refuse_between(manifest: Manifest, cohort: list[str]) -> None:
    """A stored table between two members of the cohort would feed its old rows to the second."""
    members = set(cohort)
    for uid in cohort:
        for up in manifest.ancestors(uid) - members:
            node = manifest.nodes[up]
            stored = node.resource_type == "model" and node.materialized not in ("view", "ephemeral")
            if stored and manifest.ancestors(up) & members:
                raise refused(
                    f"{node.name} lies between members of the cohort and is not in it: {manifest.nodes[uid].name} would be "
                    "rewritten from its old rows",
                    code="refill_cohort_hole",
                    hint=f"tag {node.name} like the cohort, or choose another --cohort",
                )
