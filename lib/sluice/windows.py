"""Windows: a span of months cut into half-open ranges that never overlap, leave no hole and never drift."""

from datetime import date

from sluice.records import Window


def month_start(day: date) -> date:
    """The first day of the month of `day`."""
    return day.replace(day=1)


def add_months(month: date, count: int) -> date:
    """The first day of the month `count` months after that of `month`."""
    years, months = divmod(month.year * 12 + month.month - 1 + count, 12)
    return date(years, months + 1, 1)


def monthly_windows(start: date, to: date, batch_months: int) -> list[Window]:
    """Windows of `batch_months` months from the month of `start` to the month of `to`, both included.

    Each is counted from the first, never from the one before; the last is cut at the end of the month of `to`.
    Empty when `start` lies in a later month than `to`.
    """
    first = month_start(start)
    months = (to.year - first.year) * 12 + to.month - first.month + 1
    return [
        Window(add_months(first, done), add_months(first, min(done + batch_months, months)))
        for done in range(0, months, batch_months)
    ]


def month_vars(window: Window) -> dict[str, str]:
    """`start_month` and `end_month` as models expect them: first days of the first and last month, both inclusive."""
    return {"start_month": window.start.isoformat(), "end_month": add_months(window.end, -1).isoformat()}
