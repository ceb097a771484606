"""Coverage as a map: a row for each model and stage, a column for each month, and how many cells of each kind a model has."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date

from sluice.coverage import STATUSES, Cell, CellStatus, counts
from sluice.windows import add_months


@dataclass(frozen=True)
class CoverageMap:
    """`cells` has a row for each of `rows` (model, stage) and in it a cell or None for each of `months`.

    `models` are by unique_id the numbers of cells of each status, those of models built as a whole among them.
    """

    rows: list[tuple[str, str]] = field(default_factory=list)
    months: list[date] = field(default_factory=list)
    cells: list[list[Cell | None]] = field(default_factory=list)
    models: dict[str, dict[CellStatus, int]] = field(default_factory=dict)


def coverage_map(cells: Iterable[Cell]) -> CoverageMap:
    """Rows in the order of the cells, months without a gap."""
    by_model: dict[str, list[Cell]] = {}
    by_row: dict[tuple[str, str], dict[date, Cell]] = {}
    for cell in cells:
        by_model.setdefault(cell.model, []).append(cell)
        if cell.month is not None:
            by_row.setdefault((cell.model, cell.stage), {})[cell.month] = cell
    seen = [month for row in by_row.values() for month in row]
    months = _from_to(min(seen), max(seen)) if seen else []
    return CoverageMap(
        rows=list(by_row),
        months=months,
        cells=[[row.get(month) for month in months] for row in by_row.values()],
        models={model: counts(own) for model, own in by_model.items()},
    )


def worst_first(models: dict[str, dict[CellStatus, int]]) -> list[str]:
    """The models with the most trouble first, those without in their order."""
    return sorted(models, key=lambda model: sum(models[model][status] for status in STATUSES[1:]), reverse=True)


def _from_to(first: date, last: date) -> list[date]:
    months = [first]
    while months[-1] < last:
        months.append(add_months(months[-1], 1))
    return months
