"""Forecasts: from the same cell, its model, or any model; else unknown. And what of a plan fits into a time."""

from datetime import date

import pytest
from builders import ORDERS, TOTALS, a_batch, window
from hypothesis import given
from hypothesis import strategies as st

from sluice.coverage import Recorded
from sluice.forecast import LATEST, History, Sources, error_ratio, total, within
from sluice.records import Estimate, Window

JAN, FEB, MAR = (date(2024, month, 1) for month in (1, 2, 3))
MONTH, NEXT = window("2024-01-01", "2024-02-01"), window("2024-02-01", "2024-03-01")
BOTH = window("2024-01-01", "2024-03-01")


def measured(seconds: float, when: Window | None = MONTH, *, model: str = ORDERS, **fields) -> Recorded:
    given_fields = {"replaces": False, "status": "ok", "at": "2024-05-01", "stage": "default"}
    return Recorded(model=model, window=when, duration_s=seconds, **(given_fields | fields))


def estimated(records: list[Recorded], rows: dict | None = None, **batch) -> tuple[float, float, str, int] | None:
    return foreseen(records, Sources(rows or {}), **batch)


def foreseen(records: list[Recorded], sources: Sources, **batch) -> tuple[float, float, str, int] | None:
    found = History(records, sources).estimate(a_batch(**({"window": MONTH} | batch)))
    return found and (found.p50_s, found.p90_s, found.basis, found.samples)


def test_the_same_cell_knows_best() -> None:
    others = [measured(99, NEXT), measured(98, stage="usdc")]
    assert estimated([*others, measured(3), measured(5), measured(4)]) == (4, 5, "cell", 3)
    assert estimated([measured(1)]) == (1, 1, "cell", 1)


def test_the_same_cell_of_other_rows_than_it_had_then() -> None:
    rows, then = {(ORDERS, "default"): {JAN: 3000, FEB: 500}}, {("r1", "b"): 1000, ("r2", "b"): 2000}
    once, twice = measured(2, run_id="r1", batch_id="b"), measured(3, run_id="r2", batch_id="b", at="2024-06-01")
    uncounted = measured(9, at="2024-07-01")

    def moved(records: list[Recorded], of: dict | None = None) -> tuple[float, float, str, int] | None:
        found = History(records, Sources(rows if of is None else of), then).estimate(a_batch(window=MONTH))
        return found and (found.p50_s, found.p90_s, found.basis, found.samples)

    assert moved([once]) == (6, 6, "cell, by source rows", 1)
    # 1 s a thousand, and 1 s whatever they are
    assert moved([once, twice, uncounted]) == (4, 4, "cell, by source rows", 2)
    other_month = measured(1.5, NEXT)  # 500 rows: a row adds 1 ms here as well
    assert moved([once, other_month]) == (4, 4, "cell, by source rows", 1)
    assert moved([once, uncounted], {}) == (5.5, 9, "cell", 2)
    assert moved([uncounted]) == (9, 9, "cell", 1)
    # What it had then is what its model is judged by, too.
    found = History([once], Sources(rows), then).estimate(a_batch(window=NEXT))
    assert found and (found.p50_s, found.basis) == (1, "model, by source rows")


def test_p90_is_a_time_that_was_measured_of_the_latest_runs_alone() -> None:
    records = [measured(1000, at="2023-01-01")] + [measured(float(n)) for n in range(1, LATEST + 1)]
    assert estimated(records) == (10.5, 18, "cell", LATEST)


def test_of_its_model_by_source_rows_and_where_they_are_not_known_by_months() -> None:
    rows = {(ORDERS, "default"): {JAN: 1000, FEB: 3000}}
    assert estimated([measured(2)], rows, window=NEXT) == (6, 6, "model, by source rows", 1)
    assert estimated([measured(4, BOTH)], window=NEXT) == (2, 2, "model, by months", 1)
    # A month without rows says nothing of seconds a row.
    assert estimated([measured(2)], {(ORDERS, "default"): {FEB: 1}}, window=NEXT) == (2, 2, "model, by months", 1)


def test_what_any_batch_costs_is_not_put_down_to_its_rows() -> None:
    rows = {(ORDERS, "default"): {JAN: 10, FEB: 1010, MAR: 4010}}
    records = [measured(3), measured(5, NEXT)]  # 2 s a thousand, and 2.98 s whatever they are
    assert estimated(records, rows, window=window("2024-03-01", "2024-04-01")) == (11, 11, "model, by source rows", 2)
    rows[ORDERS, "default"][MAR] = 1
    assert estimated(records, rows, window=window("2024-03-01", "2024-04-01")) == (3, 3, "model, by source rows", 2)
    slower_when_small = [measured(5), measured(3, NEXT)]
    assert estimated(slower_when_small, rows, window=BOTH) == (4, 5, "model, by source rows", 2)


def test_of_a_whole_model_by_the_rows_of_all_that_it_is_made_from() -> None:
    sources = Sources({(TOTALS, "default"): {JAN: 100}}, {ORDERS: 500})
    records = [measured(1, model=TOTALS)]
    assert foreseen(records, sources, window=None, full_refresh=True) == (5, 5, "all models, by source rows", 1)
    assert foreseen([measured(1, None, model=TOTALS)], sources, window=None, full_refresh=True) is None


def test_of_a_view_what_views_took_and_nothing_else() -> None:
    sources = Sources({(TOTALS, "default"): {JAN: 100}}, {ORDERS: 500}, [ORDERS, "model.shop.latest"])
    assert foreseen([measured(1, model=TOTALS)], sources, window=None) is None
    records = [measured(1, model=TOTALS), measured(0.2, None, model="model.shop.latest")]
    assert foreseen(records, sources, window=None) == (0.2, 0.2, "all views", 1)


def test_of_any_model_only_by_source_rows() -> None:
    rows = {(TOTALS, "default"): {JAN: 100}, (ORDERS, "default"): {JAN: 500}}
    records = [measured(1, model=TOTALS)]
    assert estimated(records, rows) == (5, 5, "all models, by source rows", 1)
    assert estimated(records) is None


@pytest.mark.parametrize(
    "records",
    [[], [measured(1, status="failed")], [measured(0.0)], [measured(1, None)], [measured(1, None, replaces=True)]],
)
def test_what_nobody_measured_is_unknown(records: list[Recorded]) -> None:
    assert estimated(records) is None


def test_of_a_whole_model_a_rebuild_and_an_addition_are_different_work() -> None:
    records = [measured(60, None, replaces=True), measured(1, None)]
    assert estimated(records, window=None) == (1, 1, "cell", 1)
    assert estimated(records, window=None, full_refresh=True) == (60, 60, "cell", 1)


def an_estimate(p50_s: float, p90_s: float) -> Estimate:
    return Estimate(p50_s=p50_s, p90_s=p90_s, basis="cell", samples=1)


def test_a_total_needs_every_batch() -> None:
    assert total([an_estimate(1, 2), an_estimate(3, 4)], delay_s=10) == (14, 16)
    assert total([an_estimate(1, 2), None]) is None
    assert total([]) is None


@given(
    st.lists(st.none() | st.floats(0, 100).map(lambda s: an_estimate(s / 2, s))), st.floats(0, 1000), st.floats(0, 10)
)
def test_what_fits_is_the_longest_beginning_that_ends_in_time(plan: list, budget_s: float, delay_s: float) -> None:
    fits = within(plan, budget_s, delay_s=delay_s)
    begin = total(plan[:fits], delay_s=delay_s)
    assert fits == 0 or (begin is not None and begin[1] <= budget_s + 1e-6)
    if fits < len(plan):
        longer = total(plan[: fits + 1], delay_s=delay_s)
        assert longer is None or longer[1] > budget_s - 1e-6


def test_the_error_is_of_what_had_a_forecast() -> None:
    assert error_ratio([(an_estimate(4, 5), 5.0), (None, 100.0)]) == pytest.approx(0.25)
    assert error_ratio([(None, 1.0)]) is None
