"""Windows: a span of months cut into half-open ranges that never overlap, leave no hole and never drift."""

from datetime import date, timedelta

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


def is_whole_months(window: Window) -> bool:
    """Whether no month is cut by the window."""
    return window.start.day == 1 and window.end.day == 1


def window_vars(window: Window) -> dict[str, str]:
    """The vars that make a model write this window: its months, and `start_date` and `end_date` where it cuts one.

    These are its first and its last day, both inclusive like the months; the macro month_window narrows the months by them.
    """
    last = window.end - timedelta(days=1)
    months = {"start_month": month_start(window.start).isoformat(), "end_month": month_start(last).isoformat()}
    if is_whole_months(window):
        return months
    return months | {"start_date": window.start.isoformat(), "end_date": last.isoformat()}
