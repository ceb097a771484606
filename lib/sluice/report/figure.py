"""What a figure is: data and layout as plotly.js takes them, and the models that each point is about.

A trace's `meta.of` has for each point (of a map: for each row) the place of its models in `Groups`, or one place for the
whole trace; ALL is kept whatever is chosen. Whatever came from elsewhere is escaped: plotly takes texts for a kind of HTML.
"""

import html
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import msgspec

from sluice.coverage import CellStatus

ALL = -1
FRAME_PX = 110
DAY_MS = 86_400_000
FEW_DAYS = 10
# Told apart on light and dark ground, and by those who do not tell red from green: by lightness, too.
COLOURS: dict[str, str] = {
    "ok": "#3aa675", "never_run": "#a9b1bd", "failed": "#c9302c", "empty": "#eab308", "unrecorded": "#38a3eb", "stale": "#8b5cf6",
    "skipped": "#a9b1bd", "cancelled": "#eab308", "unknown": "#8b5cf6", "wait": "#f59e0b",
    "SUCCESS": "#3aa675", "FAILED": "#c9302c", "CANCELLED": "#eab308", "RUNNING": "#38a3eb",
}  # fmt: skip
WORDS: dict[CellStatus, str] = {
    "ok": "ok", "never_run": "never run", "failed": "failed", "empty": "empty in the data",
    "unrecorded": "data without record", "stale": "code changed since",
}  # fmt: skip
SERIES = ("#38a3eb", "#f59e0b", "#3aa675", "#8b5cf6", "#e0567a", "#14a3a8", "#b5893a", "#7a8ba3")


class Figure(msgspec.Struct, kw_only=True):
    """One figure. `note` says what it shows, in words; without `data` it is all that there is.

    `line_px`: what a line of it takes, where its height goes by its lines.
    """

    id: str
    title: str
    note: str
    data: list[dict[str, Any]] = []
    layout: dict[str, Any] = {}
    height: int = 320
    line_px: int = 0


class Groups:
    """Sets of models, each told once: `of` gives their place."""

    def __init__(self) -> None:
        self.models: dict[str, int] = {}
        self._groups: dict[tuple[int, ...], int] = {}

    def of(self, models: Iterable[str]) -> int:
        group = tuple(self.place(model) for model in models)
        return self._groups.setdefault(group, len(self._groups))

    def place(self, model: str) -> int:
        """Its place in `models`."""
        return self.models.setdefault(model, len(self.models))

    @property
    def groups(self) -> list[tuple[int, ...]]:
        return list(self._groups)


def text(value: object) -> str:
    """A text as plotly shows it, letter by letter."""
    return html.escape(str(value), quote=False)


def short(model: str) -> str:
    """A model's name without its package."""
    return ".".join(model.split(".")[2:]) or model


def labels(names: Iterable[str], most: int = 60) -> list[str]:
    """Names for lines of a figure, escaped: none so long that it takes the figure's room, no two alike."""
    cut = [name if len(name) <= most else f"{name[:most]}…" for name in names]
    seen: Counter[str] = Counter()
    found = []
    for name in cut:
        seen[name] += 1
        found.append(text(name if seen[name] == 1 else f"{name} ({seen[name]})"))
    return found


def seconds(value: float | None) -> str:
    """`12.3 s`, `4 min 10 s` or `2 h 5 min`."""
    if value is None:
        return "not ended"
    if value < 60:
        return f"{value:.3g} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def moment(at: str) -> str:
    """`2026-11-21 10:31` of a timestamp."""
    return text(at[:16].replace("T", " "))


def message(said: str, most: int = 200) -> str:
    """The beginning of a message, in lines."""
    cut = said if len(said) <= most else said[:most] + "…"
    lines = [cut[start : start + 80] for start in range(0, len(cut), 80)]
    return "<br>".join(map(text, lines))


def days_axis(days: list[str]) -> dict[str, Any]:
    """An axis of days: never a part of one, and not a moment alone where there is but one day."""
    axis: dict[str, Any] = {"type": "date", "tickformat": "%Y-%m-%d"}
    if days and len(set(days)) <= FEW_DAYS:
        first, last = (datetime.fromisoformat(day) for day in (min(days), max(days)))
        axis |= {"dtick": DAY_MS, "tick0": min(days)}
        axis["range"] = [(first - timedelta(days=1)).isoformat(), (last + timedelta(days=1)).isoformat()]
    return axis


def by_lines(figure: Figure, lines: int, line_px: int, *, most_px: int) -> None:
    """Let the figure be as high as its lines need."""
    figure.line_px = line_px
    figure.height = min(most_px, FRAME_PX + line_px * lines)
