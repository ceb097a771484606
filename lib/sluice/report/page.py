"""The page: figures, the table of models, plotly's script and ours in one HTML file that loads nothing.

A policy in its head lets only these two scripts run, by their hashes, and forbids every request: what stands in a name
or a message can neither be markup nor become code.
"""

import base64
import hashlib
import html
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from sluice.coverage import STATUSES, CellStatus
from sluice.report.coverage_map import worst_first
from sluice.report.figure import COLOURS, FRAME_PX, WORDS, Figure, Groups, short

_HERE = Path(__file__).parent
_MARKUP = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


@dataclass(frozen=True)
class Page:
    """`subtitle` says of what and when; `models` are by unique_id their cells by status, for the table."""

    title: str
    subtitle: str
    figures: list[Figure]
    groups: Groups
    models: dict[str, dict[CellStatus, int]] = field(default_factory=dict)


def render(page: Page) -> str:
    """The HTML."""
    from plotly.offline import get_plotlyjs

    table = _table(page)  # before the models are told: it may name some that no figure has
    scripts = [get_plotlyjs(), (_HERE / "page.js").read_text()]
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    policy = f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"
    data = {
        "models": list(page.groups.models), "groups": page.groups.groups, "frame_px": FRAME_PX,
        "figures": [{"id": one.id, "data": one.data, "layout": one.layout, "height": one.height, "line_px": one.line_px} for one in page.figures],
    }  # fmt: skip
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">',
        f"<title>{_text(page.title)}</title><style>{(_HERE / 'page.css').read_text()}</style></head><body>",
        f"<header><h1>{_text(page.title)}</h1><p>{_text(page.subtitle)}</p>",
        '<button id="theme" type="button">light / dark</button></header>',
        '<div id="chosen" hidden>only <b></b> <button id="all" type="button">show all models</button></div>',
        table,
        *(_section(figure) for figure in page.figures),
        f'<script type="application/json" id="report">{embedded(data)}</script>',
        *(f"<script>{script}</script>" for script in scripts),
        "</body></html>\n",
    ]
    return "".join(parts)


def embedded(data: object) -> str:
    """JSON that may stand in a script element: no text in it can end the element or begin another."""
    encoded = msgspec.json.encode(data).decode()
    for mark, escape in _MARKUP.items():
        encoded = encoded.replace(mark, escape)
    return encoded


def _section(figure: Figure) -> str:
    none = "Nothing of this model." if figure.data else "Nothing to show."
    return (
        f'<section id="{_text(figure.id)}"><h2>{_text(figure.title)}</h2><p>{_text(figure.note)}</p>'
        f'<p class="none"{" hidden" if figure.data else ""}>{none}</p><div class="plot" style="min-height: {figure.height if figure.data else 0}px"></div></section>'
    )


def _table(page: Page) -> str:
    if not page.models:
        return ""
    head = "".join(
        f'<th><span class="key" style="background:{COLOURS[status]}"></span>{WORDS[status]}</th>' for status in STATUSES
    )
    rows = "".join(
        f'<tr><td><button type="button" data-model="{page.groups.place(model)}" title="{_text(model)}">{_text(short(model))}</button></td>'
        + "".join(f"<td>{page.models[model][status] or ''}</td>" for status in STATUSES)
        + "</tr>"
        for model in worst_first(page.models)
    )
    return (
        '<section id="models"><h2>Models</h2><p>Cells of each kind; a click shows one model in every figure.</p>'
        f'<div class="models"><table><thead><tr><th>model</th>{head}</tr></thead><tbody>{rows}</tbody></table></div></section>'
    )


def _text(value: str) -> str:
    return html.escape(value)
