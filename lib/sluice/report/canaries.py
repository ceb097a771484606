"""Checks around the last refill: what each observed before it, during it and since."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from sluice.records import CheckResult
from sluice.state import Run


@dataclass(frozen=True)
class Seen:
    """One answer. `observed` is None where it was no finite number; `error` says why it is red."""

    at: str
    observed: float | None
    is_red: bool
    error: str | None = None


@dataclass(frozen=True)
class Series:
    """The answers to one check of a model, oldest first."""

    model: str
    check: str
    unit: str | None
    threshold: float | None
    seen: list[Seen]


@dataclass(frozen=True)
class Canaries:
    """`refill` are begin and end of the last one (None: it has not ended), None where there was none."""

    series: list[Series] = field(default_factory=list)
    refill: tuple[str, str | None] | None = None
    first_wrong_day: str | None = None


def canaries(checks: Iterable[CheckResult], runs: Iterable[Run], *, most: int) -> Canaries:
    """The series of the checks that the last refill asked; of all checks where it asked none. Those that were ever red come first."""
    refill = max((run for run in runs if run.plan.gap is not None), key=lambda run: run.run_started_at, default=None)
    asked: dict[tuple[str, str], list[CheckResult]] = {}
    for check in checks:
        if check.status in ("ok", "failed") and check.check != "gate":
            asked.setdefault((check.subject, check.check), []).append(check)
    own = {key for key, answers in asked.items() if refill and any(one.run_id == refill.run_id for one in answers)}
    series = [_series(*key, answers) for key, answers in asked.items() if key in own or not own]
    series.sort(key=lambda one: not any(seen.is_red for seen in one.seen))
    if refill is None or refill.plan.gap is None:
        return Canaries(series[:most])
    began = refill.plan.at or refill.run_started_at  # the run is said to begin anew with each wave
    return Canaries(series[:most], (began, refill.run_ended_at), str(refill.plan.gap.first))


def _series(model: str, check: str, answers: list[CheckResult]) -> Series:
    last = max(answers, key=lambda one: one.at)
    return Series(
        model, check, last.unit, number(last.threshold),
        [Seen(one.at, number(one.observed), one.status == "failed", one.error) for one in sorted(answers, key=lambda one: one.at)],
    )  # fmt: skip


def number(value: object) -> float | None:
    """A finite number, or None: NaN and the infinities are texts in a record."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
