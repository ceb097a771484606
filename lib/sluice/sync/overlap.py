"""A tap's state, moved: back by an overlap, so that rows which came late are fetched again, or to a moment.

A state is the tap's own affair, but every tap keeps its bookmarks as texts that are moments, below `bookmarks` where it
follows the conventions. Those are moved, in the form in which they are written; all else stays.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

_MOMENT = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def duration(text: str) -> timedelta:
    """`90s`, `30m`, `24h`, `2d`. Raises ValueError."""
    found = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if found is None:
        raise ValueError(f"{text!r} is no duration such as 24h")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def back(state: Any, overlap: timedelta) -> tuple[Any, int]:
    """The state with its bookmarks earlier by `overlap`, and how many were found."""
    return _moved(state, lambda moment: max(moment, datetime.min.replace(tzinfo=UTC) + overlap) - overlap)


def to(state: Any, moment: datetime) -> tuple[Any, int]:
    """The state with its bookmarks at `moment`, and how many were found."""
    return _moved(state, lambda _: moment)


def _moved(state: Any, move: Callable[[datetime], datetime]) -> tuple[Any, int]:
    found = 0

    def walk(value: Any) -> Any:
        nonlocal found
        if isinstance(value, dict):
            return {key: walk(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [walk(inner) for inner in value]
        if isinstance(value, str) and _MOMENT.fullmatch(value):
            found += 1
            return _like(value, move)
        return value

    if isinstance(state, dict) and isinstance(state.get("bookmarks"), dict):
        return {**state, "bookmarks": walk(state["bookmarks"])}, found
    return walk(state), found


def _like(text: str, move: Callable[[datetime], datetime]) -> str:
    moment = datetime.fromisoformat(text)
    moved = move(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    if len(text) == 10:
        return moved.date().isoformat()
    if moment.tzinfo is None:
        return moved.astimezone(UTC).replace(tzinfo=None).isoformat(sep=text[10])
    written = moved.astimezone(moment.tzinfo).isoformat(sep=text[10])
    return written.replace("+00:00", "Z") if text.endswith("Z") else written
