"""What one partition of a table holds, read from `partition_by`: a span of time, values of columns, a hash's bucket."""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from sluice.records import Window
from sluice.windows import add_months

Unit = Literal["hour", "day", "week", "month", "quarter", "year"]

# Functions of ClickHouse and of the others that cut time, in lower case.
FUNCTIONS: dict[str, Unit] = {
    "tostartofhour": "hour", "todate": "day", "todate32": "day", "tostartofday": "day", "toyyyymmdd": "day", "date": "day",
    "tomonday": "week", "tostartofweek": "week", "toyearweek": "week", "tolastdayofweek": "week",
    "tostartofmonth": "month", "toyyyymm": "month", "tolastdayofmonth": "month", "months": "month",
    "tostartofquarter": "quarter", "tostartofyear": "year", "toyear": "year", "years": "year", "days": "day", "hours": "hour",
}  # fmt: skip
UNITS: tuple[Unit, ...] = ("hour", "day", "week", "month", "quarter", "year")
MONTHS: dict[Unit, int] = {"month": 1, "quarter": 3, "year": 12}
TRUNCATE = ("date_trunc", "datetrunc", "timestamp_trunc", "datetime_trunc")
TIME = re.compile(r"(?:^|_)(day|date|dt|ds|hour|week|month|quarter|year|time|timestamp|ts|at)$", re.IGNORECASE)
_CALL = re.compile(r"(\w+)\s*\((.*)\)", re.DOTALL)
_NAME = re.compile(r'[`"]?([A-Za-z_]\w*)[`"]?')
_COLUMNS = re.compile(r"'[^']*'|`([^`]+)`|\"([^\"]+)\"|\b([A-Za-z_]\w*)\b(?!\s*\()")
_BUCKETS = re.compile(r"(?:%|\bmod(?:ulo)?\b.*,)\s*(\d+)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Part:
    """One element of the partition key. `unit` when it cuts time, `column` when it is one, `buckets` of a hash."""

    text: str
    unit: Unit | None = None
    column: str | None = None
    buckets: int | None = None


def parts(partition_by: Any) -> list[Part]:
    """The elements of a model's `partition_by`: text, a list, or BigQuery's mapping. [] when it has none."""
    if isinstance(partition_by, dict):
        unit = str(partition_by.get("granularity") or "day").lower()
        field = str(partition_by.get("field"))
        if partition_by.get("range"):
            return [Part(field)]
        return [Part(field, unit if unit in UNITS else None, None)]  # type: ignore[arg-type]
    texts = partition_by if isinstance(partition_by, list | tuple) else [partition_by]
    return [part for text in texts if text for part in _parts(str(text))]


@lru_cache(maxsize=4096)
def _parts(text: str) -> tuple[Part, ...]:
    return tuple(_part(element) for element in _elements(text))


def columns(expression: Any) -> set[str]:
    """The columns that an expression, or a list of them, is computed from."""
    texts = expression if isinstance(expression, list | tuple) else [expression]
    found = (match for text in texts if text for match in _COLUMNS.finditer(str(text)))
    return {name for match in found for name in match.groups() if name and name.lower() not in ("asc", "desc")}


def holds_whole(unit: Unit, window: Window) -> tuple[bool, bool]:
    """Whether a span of time begins where the window begins, and ends where it ends."""
    if unit in ("hour", "day"):
        return True, True
    if unit == "week":
        return window.start.weekday() == 0, window.end.weekday() == 0
    months = MONTHS[unit]
    return (window.start.month - 1) % months == 0, (window.end.month - 1) % months == 0


def spans(unit: Unit, window: Window) -> int:
    """How many spans of time the window touches."""
    days = (window.end - window.start).days
    if unit == "hour":
        return days * 24
    if unit == "day":
        return days
    if unit == "week":
        return (days + window.start.weekday() + 6) // 7
    months, count, first = MONTHS[unit], 0, window.start
    first = add_months(first, -((first.month - 1) % months))
    while first < window.end:
        first, count = add_months(first, months), count + 1
    return count


def _elements(text: str) -> list[str]:
    """`(a, f(b, c))` as `a` and `f(b, c)`."""
    text = text.strip()
    if text.startswith("tuple("):
        text = text.removeprefix("tuple")
    if text.startswith("(") and _closes_at_end(text):
        text = text[1:-1]
    depth, elements = 0, [""]
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and not depth:
            elements.append("")
        else:
            elements[-1] += letter
    return [element.strip() for element in elements if element.strip()]


def _closes_at_end(text: str) -> bool:
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            return place == len(text) - 1
    return False


def _part(text: str) -> Part:
    if name := _NAME.fullmatch(text):
        column = name[1]
        time = TIME.search(column)
        word = time[1].lower() if time else ""
        unit = word if word in UNITS else "day" if time else None
        return Part(text, unit, column)  # type: ignore[arg-type]
    if call := _CALL.fullmatch(text):
        function = call[1].lower()
        if function in FUNCTIONS:
            return Part(text, FUNCTIONS[function])
        if function in TRUNCATE:
            # 'month', day in most dialects; day, month in BigQuery's.
            words = _elements(call[2])
            word = next((word for word in words if word[0] in "'\""), words[-1]).strip("'\"").lower()
            return Part(text, next((unit for unit in UNITS if unit == word), None))
    buckets = _BUCKETS.search(text)
    return Part(text, buckets=int(buckets[1]) if buckets else None)
