"""Runs drawn: the timeline of the last, the history, and what takes longest."""

from collections.abc import Mapping

from sluice.report.figure import (
    COLOURS,
    SERIES,
    Figure,
    Groups,
    by_lines,
    days_axis,
    labels,
    message,
    moment,
    seconds,
    short,
    text,
)
from sluice.report.history import History, Point
from sluice.report.slowest import Slowest
from sluice.report.timeline import Bar, Timeline


def timeline(found: Timeline, runs: Mapping[str, str], groups: Groups, note: str) -> Figure:
    """`runs` are names of the runs by run_id, in the order in which they are shown."""
    figure = Figure(id="timeline", title="The last runs", note=note)
    if not found.bars:
        return figure
    if found.joined > 1:
        figure.note += f" Up to {found.joined} of one kind are one bar."
    by_status: dict[str, list[Bar]] = {}
    for bar in found.bars:
        by_status.setdefault(bar.status, []).append(bar)
    lines = {(bar.run_id, bar.wave, bar.worker) for bar in found.bars}
    places = {run_id: place for place, run_id in enumerate(runs)}
    names = {line: _line(runs, *line) for line in sorted(lines, key=lambda line: (places[line[0]], *line[1:]))}
    for status, bars in sorted(
        by_status.items(), key=lambda one: (one[0] != "ok", one[0])
    ):  # what went wrong lies above
        colour = COLOURS.get(status, COLOURS["unknown"])
        pattern = {"pattern": {"shape": "/", "size": 4}} if status == "wait" else {}
        figure.data.append(
            {
                "type": "bar", "orientation": "h", "name": text(status),
                "marker": {"color": colour, "line": {"width": 0.5, "color": colour}, **pattern},
                "y": [names[bar.run_id, bar.wave, bar.worker] for bar in bars], "base": [bar.start_s for bar in bars],
                "x": [round(bar.end_s - bar.start_s, 3) for bar in bars], "customdata": [_bar(bar) for bar in bars],
                "hovertemplate": "%{customdata}<extra></extra>", "textposition": "none",
                "meta": {"of": [groups.of(bar.models) for bar in bars]},
            }
        )  # fmt: skip
    figure.layout = {
        "barmode": "overlay", "bargap": 0.25, "xaxis": {"title": {"text": "seconds since the run began"}},
        "yaxis": {"type": "category", "autorange": "reversed", "categoryorder": "array", "categoryarray": list(names.values())},
    }  # fmt: skip
    by_lines(figure, len(names), 24, most_px=900)
    return figure


def _line(runs: Mapping[str, str], run_id: str, wave: int, worker: int) -> str:
    return text(f"{runs[run_id]} · wave {wave}" + (f" · worker {worker}" if worker > 1 else ""))


def _bar(bar: Bar) -> str:
    took = f"{seconds(bar.end_s - bar.start_s)} from {seconds(bar.start_s)} on"
    if bar.batches > 1:
        return f"{bar.batches} {text(bar.status)}, of {text(', '.join(map(short, bar.models[:5])))}<br>{took}"
    head = f"{text(short(bar.models[0]))}: {text(bar.what)}"
    said = [message(bar.message)] if bar.message and bar.status != "ok" else []
    attempt = "waiting for the next attempt" if bar.status == "wait" else f"{bar.status}, attempt {bar.attempt}"
    return "<br>".join([head, f"{attempt}, {took}", *said])


def history(found: History, groups: Groups, note: str) -> Figure:
    figure = Figure(id="history", title="Run history", note=note)
    if not found.points:
        return figure
    figure.note += (
        f" {found.retries} retr{'y' if found.retries == 1 else 'ies'} saved {seconds(found.saved_s)}."
        if found.retries
        else " No run was a retry."
    )
    if found.left_out:
        figure.note += f" {found.left_out} earlier runs are not shown."
    by_status: dict[str, list[Point]] = {}
    for point in found.points:
        by_status.setdefault(point.status, []).append(point)
    for status, points in sorted(by_status.items()):
        figure.data.append(
            {
                "type": "scatter", "mode": "markers", "name": text(status.lower()), "x": [point.began_at for point in points],
                "y": [point.duration_s or 0 for point in points], "customdata": [_run(point) for point in points],
                "error_y": {"type": "data", "symmetric": False, "array": [point.saved_s for point in points],
                            "arrayminus": [0] * len(points), "thickness": 1.5, "width": 5},
                "marker": {"color": COLOURS.get(status, COLOURS["unknown"]), "size": 9,
                           "symbol": ["diamond" if point.is_retry else "circle" for point in points]},
                "hovertemplate": "%{customdata}<extra></extra>", "meta": {"of": [groups.of(point.models) for point in points]},
            }
        )  # fmt: skip
    figure.layout = {
        "xaxis": {"type": "date"}, "yaxis": {"title": {"text": "seconds"}, "rangemode": "tozero"}, "hovermode": "closest",
    }  # fmt: skip
    return figure


def _run(point: Point) -> str:
    parts = [
        f"{text(point.intent)}, {text(point.status.lower())}, {moment(point.began_at)}, {seconds(point.duration_s)}"
    ]
    ran = [
        f"{count} models {what}"
        for count, what in ((point.models_run, "run"), (point.models_failed, "failed"))
        if count
    ]
    parts += [", ".join([*ran, f"attempt {point.attempt}", f"run {text(point.run_id[-12:])}"])]
    if point.is_retry:
        parts.append(f"saved {seconds(point.saved_s)}")
    return "<br>".join([*parts, *([message(point.decision)] if point.decision else [])])


def slow_models(found: Slowest, groups: Groups, note: str) -> Figure:
    figure = Figure(id="slow-models", title="Slowest models", note=note)
    for place, model in enumerate(found.models):
        figure.data.append(
            {
                "type": "scatter", "mode": "lines+markers", "x": [day for day, _ in model.days], "y": [took for _, took in model.days],
                "name": text(f"{short(model.model)}: {seconds(model.total_s)}{trend(model.trend_ratio)}"),
                "line": {"color": SERIES[place % len(SERIES)], "dash": ("solid", "dash", "dot")[place // len(SERIES) % 3]},
                "customdata": [text(f"{short(model.model)}: {model.batches} batches, {seconds(model.total_s)} together")] * len(model.days),
                "hovertemplate": "%{customdata}<br>%{x|%Y-%m-%d}: median %{y} s a batch<extra></extra>",
                "meta": {"of": groups.of([model.model])},
            }
        )  # fmt: skip
    if figure.data:
        figure.layout = {
            "xaxis": days_axis([day for model in found.models for day, _ in model.days]), "hovermode": "closest",
            "yaxis": {"title": {"text": "seconds a batch, median of the day"}, "rangemode": "tozero"},
        }  # fmt: skip
        figure.height = 400
    return figure


def slow_batches(found: Slowest, groups: Groups, note: str) -> Figure:
    figure = Figure(id="slow-batches", title="Slowest batches", note=note)
    if not found.batches:
        return figure
    lines = labels(f"{short(one.model)}: {one.what}" for one in found.batches)
    of = {"of": [groups.of([one.model]) for one in found.batches]}
    figure.data = [
        {
            "type": "bar", "orientation": "h", "name": "last", "y": lines, "x": [one.last_s for one in found.batches],
            "text": [trend(one.trend_ratio).strip(", ") for one in found.batches], "marker": {"color": SERIES[0]},
            "customdata": [f"{moment(one.at)}, {seconds(one.last_s)}" for one in found.batches],
            "hovertemplate": "%{y}<br>%{customdata}<extra>last</extra>", "meta": of,
        },
        {
            "type": "scatter", "mode": "markers", "name": "before, median", "y": lines, "x": [one.before_s for one in found.batches],
            "marker": {"symbol": "line-ns-open", "size": 14, "color": SERIES[1], "line": {"width": 3}},
            "hovertemplate": "%{y}<br>%{x} s<extra>before</extra>", "meta": of,
        },
    ]  # fmt: skip
    figure.layout = {
        "yaxis": {"type": "category", "autorange": "reversed"}, "xaxis": {"title": {"text": "seconds"}, "rangemode": "tozero"},
    }  # fmt: skip
    by_lines(figure, len(lines), 22, most_px=700)
    return figure


def trend(ratio: float | None) -> str:
    """`, +12 %`, or nothing where there is nothing to compare with."""
    return f", {(ratio - 1) * 100:+.0f} %" if ratio is not None else ""
