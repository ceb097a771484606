"""Windows against another arithmetic of months: dateutil's."""

import itertools
import random
from datetime import date, timedelta

import pytest
from dateutil.relativedelta import relativedelta
from hypothesis import example, given
from hypothesis import strategies as st

from sluice.records import Window
from sluice.windows import add_months, month_start, month_vars, monthly_windows, window_vars

days = st.dates(date(1900, 1, 1), date(2200, 12, 31))


def test_ten_thousand_random_plans_cover_every_month_once() -> None:
    dice = random.Random(20240229)
    calendar = [date(1970, 1, 1) + relativedelta(months=k) for k in range(12 * 300)]
    for _ in range(10_000):
        first, last = dice.randrange(1200), dice.randrange(1200)
        months = dice.choice([1, 2, 3, 5, 6, 12, dice.randint(1, 1200)])
        start = calendar[first + 1] - timedelta(
            days=dice.choice([1, 1, dice.randint(1, 28)])
        )  # often a month's last day
        to = calendar[last] + timedelta(days=dice.randrange(28))
        edges = [*calendar[first : last + 1 : months], calendar[last + 1]]
        expected = [Window(*edge) for edge in itertools.pairwise(edges)] if first <= last else []
        assert monthly_windows(start, to, months) == expected


@given(days, st.integers(0, 3000))
def test_months_are_added_as_dateutil_adds_them(day: date, count: int) -> None:
    assert add_months(day, count) == day.replace(day=1) + relativedelta(months=count)
    assert month_start(day) == day.replace(day=1)


@given(days, st.integers(1, 1200))
def test_month_vars_are_the_first_days_of_the_first_and_last_month(day: date, months: int) -> None:
    first = day.replace(day=1)
    last = first + relativedelta(months=months - 1)
    assert month_vars(Window(first, first + relativedelta(months=months))) == {
        "start_month": first.isoformat(),
        "end_month": last.isoformat(),
    }


@given(days, st.integers(1, 400))
@example(date(2024, 2, 1), 29)
def test_a_window_that_cuts_a_month_says_its_first_and_last_day_as_well(first: date, length: int) -> None:
    end = first + timedelta(days=length)
    given_vars = window_vars(Window(first, end))
    last = end - timedelta(days=1)
    assert (given_vars["start_month"], given_vars["end_month"]) == (f"{first:%Y-%m}-01", f"{last:%Y-%m}-01")
    if first.day == end.day == 1:
        assert given_vars == month_vars(Window(first, end))
    else:
        assert (given_vars["start_date"], given_vars["end_date"]) == (str(first), str(last))


@pytest.mark.parametrize(
    ("start", "to", "months", "expected"),
    [
        ("2024-01-31", "2024-03-01", 1, ["2024-01-01", "2024-02-01", "2024-03-01", "2024-04-01"]),  # month end
        ("2024-02-29", "2024-02-29", 1, ["2024-02-01", "2024-03-01"]),  # leap day
        ("2023-12-15", "2024-12-15", 12, ["2023-12-01", "2024-12-01", "2025-01-01"]),  # the last one is cut
        ("2024-05-20", "2024-05-01", 3, ["2024-05-01", "2024-06-01"]),  # starts later in the month that it ends with
        ("2024-06-01", "2024-05-31", 1, []),  # starts in the future
        ("2020-01-01", "2026-01-01", 1200, ["2020-01-01", "2026-02-01"]),
        ("9999-10-01", "9999-11-30", 1200, ["9999-10-01", "9999-12-01"]),  # no later day than the calendar has
    ],
)
def test_windows(start: str, to: str, months: int, expected: list[str]) -> None:
    windows = monthly_windows(date.fromisoformat(start), date.fromisoformat(to), months)
    edges = [date.fromisoformat(day) for day in expected]
    assert windows == [Window(*pair) for pair in itertools.pairwise(edges)]
