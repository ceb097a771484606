"""What takes longest: models by all their seconds, batches by their last, each with its trend."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from sluice.report.timeline import cell


@dataclass(frozen=True)
class SlowModel:
    """`days` are the medians of its good batches by day, in seconds, oldest first. `trend_ratio` is that of the later half of
    the days to the earlier, None for a single day."""

    model: str
    total_s: float
    batches: int
    days: list[tuple[str, float]]
    trend_ratio: float | None


@dataclass(frozen=True)
class SlowBatch:
    """`last_s` is its last good duration, `before_s` the median of those before, None where there are none."""

    model: str
    what: str
    last_s: float
    at: str
    before_s: float | None

    @property
    def trend_ratio(self) -> float | None:
        return self.last_s / self.before_s if self.before_s else None


@dataclass(frozen=True)
class Slowest:
    """The slowest first."""

    models: list[SlowModel] = field(default_factory=list)
    batches: list[SlowBatch] = field(default_factory=list)


def slowest(rows: Iterable[Mapping[str, Any]], *, most_models: int, most_batches: int) -> Slowest:
    """`rows` are those of batch_log; only good ones count."""
    by_model: dict[str, dict[str, list[float]]] = {}
    by_cell: dict[tuple[str, str], list[tuple[str, float]]] = {}
    for row in rows:
        if row["status"] != "ok" or row["duration_seconds"] is None:
            continue
        model, at, took_s = row["model_name"] or "", str(row["at"]), row["duration_seconds"]
        by_model.setdefault(model, {}).setdefault(at[:10], []).append(took_s)
        by_cell.setdefault((model, cell(row)), []).append((at, took_s))
    models = [_model(model, days) for model, days in by_model.items()]
    batches = [_batch(*key, sorted(times)) for key, times in by_cell.items()]
    return Slowest(
        sorted(models, key=lambda one: one.total_s, reverse=True)[:most_models],
        sorted(batches, key=lambda one: one.last_s, reverse=True)[:most_batches],
    )


def _model(model: str, days: Mapping[str, list[float]]) -> SlowModel:
    medians = [(day, round(median(days[day]), 3)) for day in sorted(days)]
    middle = len(medians) // 2
    earlier, later = ([took_s for _, took_s in half] for half in (medians[:middle], medians[middle:]))
    before_s = median(earlier) if earlier else 0.0
    return SlowModel(
        model, round(sum(map(sum, days.values())), 3), sum(map(len, days.values())), medians,
        median(later) / before_s if before_s else None,
    )  # fmt: skip


def _batch(model: str, what: str, times: list[tuple[str, float]]) -> SlowBatch:
    *before, (at, last_s) = times
    return SlowBatch(model, what, last_s, at, round(median(took_s for _, took_s in before), 3) if before else None)
