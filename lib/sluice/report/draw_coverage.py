"""Coverage drawn: a map of months, a row for each model and stage."""

from collections import Counter

from sluice.coverage import STATUSES, Cell
from sluice.report.coverage_map import CoverageMap
from sluice.report.figure import (
    COLOURS,
    WORDS,
    Figure,
    Groups,
    by_lines,
    labels,
    message,
    moment,
    seconds,
    short,
    text,
)


def coverage(found: CoverageMap, groups: Groups, note: str, *, most_rows: int = 2000) -> Figure:
    figure = Figure(id="coverage", title="Coverage", note=note)
    if not found.rows:
        return figure
    rows = range(min(most_rows, len(found.rows)))
    if len(found.rows) > most_rows:
        figure.note += f" The first {most_rows} of {len(found.rows)} rows are shown."
    codes = {status: code for code, status in enumerate(STATUSES)}
    steps = len(STATUSES)
    scale = [[(code + end) / steps, COLOURS[status]] for status, code in codes.items() for end in (0, 1)]
    figure.data = [
        {
            "type": "heatmap", "xgap": 1, "ygap": 1, "zmin": -0.5, "zmax": steps - 0.5, "colorscale": scale, "hoverongaps": False,
            "x": [f"{month:%Y-%m}" for month in found.months], "y": labels(_names(found.rows[: len(rows)])),
            "z": [[codes[cell.status] if cell else None for cell in found.cells[row]] for row in rows],
            "customdata": [[_cell(cell) if cell else None for cell in found.cells[row]] for row in rows],
            "hovertemplate": "%{y}<br>%{x}<br>%{customdata}<extra></extra>",
            "colorbar": {"tickvals": list(codes.values()), "ticktext": [WORDS[status] for status in codes], "thickness": 12,
                         "outlinewidth": 0},
            "meta": {"of": [groups.of([found.rows[row][0]]) for row in rows], "rows": True},
        }
    ]  # fmt: skip
    figure.layout = {"xaxis": {"type": "category"}, "yaxis": {"type": "category", "autorange": "reversed"}}
    by_lines(figure, len(rows), 18, most_px=1000)
    return figure


def _names(rows: list[tuple[str, str]]) -> list[str]:
    """`model · stage`, the stage left out where it has no name; with the package where two are called the same."""
    plain = [short(model) + (f" · {stage}" if stage != "default" else "") for model, stage in rows]
    times = Counter(plain)
    return [
        name if times[name] == 1 else f"{model} · {stage}" for name, (model, stage) in zip(plain, rows, strict=True)
    ]


def _cell(cell: Cell) -> str:
    parts = [WORDS[cell.status]]
    if cell.rows is not None:
        parts[0] += f", {cell.rows:,} rows"
    if cell.record is not None:
        parts.append(f"{moment(cell.record.at)}, attempt {cell.record.attempt}, run {text(cell.record.run_id[-12:])}")
        if cell.record.duration_s:
            parts[-1] += f", {seconds(cell.record.duration_s)}"
        if cell.record.message and cell.status == "failed":
            parts.append(message(cell.record.message))
    if cell.code_changed and cell.status != "stale":
        parts.append("its code changed since, too")
    return "<br>".join(parts)
