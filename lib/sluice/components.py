"""How each component of a daily refresh went, a line for each: what a person looks at in the morning. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from sluice.records import BatchResult, CheckResult, Plan

# What a red check adds to the line of a component, by the check's name behind its kind. Of two that count the same thing
# the one that found more: days missing now, and bars that were flagged for it.
_COUNTED = {"no_gap": "gap", "gaps": "gap", "repairs": "repair", "rejects": "reject", "stale": "stale id"}


@dataclass
class Component:
    """The batches of one component: statuses, seconds, rows as far as the warehouse tells, and what checks counted."""

    name: str
    statuses: set[str] = field(default_factory=set)
    duration_s: float = 0.0
    rows: int | None = None
    models: set[str] = field(default_factory=set)
    counted: dict[str, int] = field(default_factory=dict)

    @property
    def status(self) -> str:
        return next((word for word in ("failed", "cancelled", "skipped", "ok") if word in self.statuses), "-")

    def line(self) -> str:
        parts = [f"{self.status}  {self.name}", f"{self.duration_s:.1f} s"]
        if self.rows is not None:
            parts.append(f"{self.rows:,} rows")
        parts += [f"{count:,} {word}{'' if count == 1 else 's'}" for word, count in self.counted.items()]
        return "   ".join(parts)


def summary(plan: Plan, batches: Iterable[BatchResult], checks: Iterable[CheckResult]) -> list[str]:
    """The lines of a plan that has components (`request.components`; a batch's wave is the number of its own), else none."""
    names = plan.request.get("components")
    if not isinstance(names, list) or not names:
        return []
    parts = [Component(str(name).removeprefix("tag:")) for name in names]
    for result in batches:
        if 1 <= result.wave <= len(parts):
            part = parts[result.wave - 1]
            part.statuses.add(result.status)
            part.duration_s += result.duration_s
            part.models.add(result.model or "")
            for node in result.nodes:
                if node.rows is not None:
                    part.rows = (part.rows or 0) + node.rows
    for check in checks:
        word = _COUNTED.get(check.check.rpartition(":")[2])
        count = check.violation_rows or 0
        if word and count:
            for part in parts:
                if check.subject in part.models:
                    part.counted[word] = max(part.counted.get(word, 0), count)
    good = sum(part.status == "ok" for part in parts)
    failed = sum(part.status in ("failed", "cancelled") for part in parts)
    time_s = sum(part.duration_s for part in parts)
    head = f"components {len(parts)}   successful {good}   failed {failed}   time {time_s:.1f} s"
    return [head, *(part.line() for part in parts)]
