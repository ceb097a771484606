"""Results drawn: checks around the last refill, syncs, partitions."""

from sluice.records import PartitionResult
from sluice.report.canaries import Canaries
from sluice.report.figure import (
    ALL,
    COLOURS,
    DAY_MS,
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
from sluice.report.syncs import Source


def canaries(found: Canaries, groups: Groups, note: str) -> Figure:
    figure = Figure(id="canaries", title="Checks around the last refill", note=note)
    if not found.series:
        return figure
    share = 1 / len(found.series)
    figure.layout = {
        "xaxis": {"type": "date", "anchor": f"y{len(found.series)}"},
        "hovermode": "closest",
        "showlegend": False,
    }
    for place, series in enumerate(found.series):
        number = "" if place == 0 else str(place + 1)
        name = text(f"{short(series.model)}: {series.check}" + (f", {series.unit}" if series.unit else ""))
        figure.data.append(
            {
                "type": "scatter", "mode": "lines+markers", "name": name, "yaxis": f"y{number}", "x": [one.at for one in series.seen],
                "y": [one.observed if one.observed is not None else 0 for one in series.seen], "line": {"color": SERIES[0], "width": 1},
                "marker": {"size": 9, "color": [COLOURS["failed" if one.is_red else "ok"] for one in series.seen]},
                "customdata": [
                    f"{name}<br>{moment(one.at)}: {'nothing' if one.observed is None else f'{one.observed:g}'}"
                    + (f"<br>{message(one.error)}" if one.error else "") for one in series.seen
                ],
                "hovertemplate": "%{customdata}<extra></extra>", "meta": {"of": groups.of([series.model])},
            }
        )  # fmt: skip
        top = 1 - place * share
        figure.layout[f"yaxis{number}"] = {
            "domain": [round(max(0.0, top - share * 0.62), 4), round(top - share * 0.2, 4)], "nticks": 3, "rangemode": "tozero",
        }  # fmt: skip
        limit = f", threshold {series.threshold:g}" if series.threshold is not None else ""
        figure.layout.setdefault("annotations", []).append(
            {"text": name + limit, "xref": "paper", "yref": "paper", "x": 0, "y": round(top - share * 0.02, 4), "showarrow": False,
             "xanchor": "left", "yanchor": "top"}
        )  # fmt: skip
    if found.refill is not None:
        begin, end = found.refill
        figure.layout["shapes"] = [
            {"type": "rect", "xref": "x", "yref": "paper", "x0": begin, "x1": end or begin, "y0": 0, "y1": 1,
             "fillcolor": SERIES[0], "opacity": 0.18, "line": {"width": 1, "color": SERIES[0]}}
        ]  # fmt: skip
    figure.height = 70 + 130 * len(found.series)
    return figure


def syncs(sources: list[Source], note: str) -> Figure:
    figure = Figure(id="syncs", title="Syncs", note=note)
    for place, source in enumerate(sources):
        colour, name, now = SERIES[place % len(SERIES)], text(source.name), source.now
        days = [day.day.isoformat() for day in source.days]
        told = (
            f"{name}: {now.sync_count} syncs, {now.inserted_rows:,} rows, {now.updated_rows:,} updated, {now.failed_count} failed<br>"
            f"now {seconds(now.lag_s) if now.lag_s is not None else 'without a bookmark'} behind"
        )
        figure.data += [
            {
                "type": "bar", "name": name, "legendgroup": name, "x": days, "y": [day.inserted_rows + day.updated_rows for day in source.days],
                "marker": {"color": colour}, "width": DAY_MS * 0.8, "customdata": [told] * len(days), "meta": {"of": ALL},
                "hovertemplate": "%{x}: %{y} rows<br>%{customdata}<extra></extra>",
            },
            {
                "type": "scatter", "mode": "lines+markers", "name": name, "legendgroup": name, "showlegend": False, "yaxis": "y2",
                "x": days, "y": [None if day.lag_s is None else round(day.lag_s / 3600, 3) for day in source.days], "line": {"color": colour},
                "customdata": [told] * len(days), "hovertemplate": "%{x}: %{y} h behind<br>%{customdata}<extra></extra>", "meta": {"of": ALL},
            },
        ]  # fmt: skip
    if figure.data:
        figure.layout = {
            "barmode": "stack", "xaxis": {**days_axis([day.day.isoformat() for one in sources for day in one.days]), "anchor": "y2"}, "showlegend": True,
            "yaxis": {"domain": [0.55, 1], "title": {"text": "rows"}},
            "yaxis2": {"domain": [0, 0.42], "title": {"text": "hours behind"}, "rangemode": "tozero"},
        }  # fmt: skip
        figure.height = 420
    return figure


def partitions(results: list[PartitionResult], groups: Groups, note: str) -> Figure:
    figure = Figure(id="partitions", title="Partitions", note=note)
    if not results:
        return figure
    lines = labels(f"{one.table} {one.partition or ''}".strip() for one in results)
    of = {"of": [groups.of([one.model]) if one.model else ALL for one in results]}
    told = [
        f"{label}<br>{moment(one.at)}, {one.status}, {seconds(one.duration_s)}" + (f"<br>{message(one.error)}" if one.error else "")
        for label, one in zip(lines, results, strict=True)
    ]  # fmt: skip
    for what, axis in (("parts", "x"), ("duplicate_rows", "x2")):
        for when, colour in (("before", SERIES[1]), ("after", SERIES[2])):
            figure.data.append(
                {
                    "type": "bar", "orientation": "h", "name": when, "legendgroup": when, "showlegend": axis == "x", "xaxis": axis,
                    "y": lines, "x": [getattr(one, f"{what}_{when}") for one in results], "marker": {"color": colour},
                    "customdata": told, "hovertemplate": f"%{{customdata}}<br>%{{x}} {what.replace('_', ' ')} {when}<extra></extra>",
                    "meta": of,
                }
            )  # fmt: skip
    figure.layout = {
        "barmode": "group", "showlegend": True, "yaxis": {"type": "category", "autorange": "reversed"},
        "xaxis": {"domain": [0, 0.48], "rangemode": "tozero", "title": {"text": "parts"}},
        "xaxis2": {"domain": [0.52, 1], "rangemode": "tozero", "title": {"text": "duplicate rows"}, "anchor": "y"},
    }  # fmt: skip
    by_lines(figure, len(results), 30, most_px=1000)
    return figure
