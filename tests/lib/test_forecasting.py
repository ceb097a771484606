"""A plan with its forecast: in time, refused, trimmed; and what the runner keeps of it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from builders import FakeContext, a_result
from test_plan_batches import Shop

from sluice import forecasting, plan_batches
from sluice.config import Config
from sluice.errors import REFUSED, SluiceError
from sluice.forecast import error_in_words
from sluice.forecasting import Asked, foretold
from sluice.records import Batch, Forecast, Plan, Record
from sluice.state import State

NOW = datetime(2024, 3, 31, 5, tzinfo=UTC)
BALANCES = "balances"  # four batches; all took 10 s, last time


@pytest.fixture
def shop(own_settings: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    made = Shop(own_settings, tmp_path)
    for module in (plan_batches, forecasting):
        monkeypatch.setattr(module, "Project", made)
    return made


def built(shop: Shop, *, batches: int = 4, seconds: float = 10.0) -> State:
    """The first batches were carried out before, each in so many seconds."""
    plan, planned = shop.plan((BALANCES,), run_id="before")
    state = State.open(shop.config.state_url)
    state.begin_run(plan, "before")
    for batch in planned[:batches]:
        attempt = state.intend("before", "before", batch)
        state.record("before", batch, a_result(batch, run_id="before", attempt=attempt, duration_s=seconds), "shop")
    state.end_run(plan, "before", "SUCCESS", models_run=1, models_failed=0)
    return state


def planned(shop: Shop, *select: str, resume: bool = False, **asked: Any) -> list[Record]:
    request = plan_batches.Request([*(select or [BALANCES])], [], None, [], False, "{}")
    planner = foretold(plan_batches.plan_batches, Asked(**asked))
    options = {"to": None, "resume": resume, "accept_drift": False, "delay_s": 0.0}
    return list(planner(FakeContext(shop.config, now=NOW), request=request, **options))


def refused(shop: Shop, *select: str, **asked: Any) -> SluiceError:
    with pytest.raises(SluiceError) as caught:
        planned(shop, *select, **asked)
    assert caught.value.exit_code == REFUSED
    return caught.value


def test_every_batch_and_the_whole_plan_have_a_forecast(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    built(shop)
    plan, forecast, *batches = planned(shop, estimate=True)
    assert isinstance(plan, Plan)
    assert isinstance(forecast, Forecast)
    assert (forecast.p50_s, forecast.p90_s, forecast.unknown, forecast.bases) == (40.0, 40.0, 0, {"cell": 4})
    assert (forecast.p50_end_at, forecast.cost) == ("2024-03-31T05:00:40.000Z", None)
    assert [batch.estimate.p50_s for batch in batches if isinstance(batch, Batch) and batch.estimate] == [10.0] * 4


def test_what_an_hour_costs_gives_the_money(shop: Shop) -> None:
    built(shop, seconds=900.0)
    object.__setattr__(shop.config, "cost_per_hour", 3.5)
    assert [one.cost for one in planned(shop, estimate=True) if isinstance(one, Forecast)] == [3.5]


def test_a_plan_in_time_is_a_plan_and_one_that_is_not_is_refused_with_what_to_do(shop: Shop) -> None:
    built(shop, seconds=900.0)  # one hour
    assert len(planned(shop, deadline="06:00")) == 6
    assert len(planned(shop, deadline="04:00")) == 6  # tomorrow's
    said = refused(shop, deadline="05:59")
    assert said.code == "forecast_too_long"
    assert said.message == "the plan may need 1:00:00 (median 1:00:00), and there are 0:59:00"
    assert "--trim to plan the first 3 of 4 batches" in (said.hint or "")
    assert refused(shop, deadline="06:00", max_seconds=100).code == "forecast_too_long"
    assert refused(shop, deadline="6 o'clock").code == "forecast_bad_deadline"
    assert refused(shop, trim=True).code == "forecast_trim"


def test_what_nobody_measured_is_said_to_be_unknown_and_promises_nothing(shop: Shop) -> None:
    _, forecast, *batches = planned(shop, estimate=True)
    assert isinstance(forecast, Forecast)
    assert (forecast.unknown, forecast.p50_s, forecast.p50_end_at) == (4, None, None)
    assert all(isinstance(batch, Batch) and batch.estimate is None for batch in batches)
    assert refused(shop, max_seconds=1e6).code == "forecast_unknown"
    assert refused(shop, max_seconds=1e6, trim=True).code == "forecast_unknown"


def test_what_is_trimmed_is_left_for_a_resume(shop: Shop, heard: pytest.LogCaptureFixture) -> None:
    built(shop)
    plan, forecast, *batches = planned(shop, max_seconds=25, trim=True)
    assert isinstance(forecast, Forecast)
    assert isinstance(plan, Plan)
    assert (plan.total, plan.pending, len(batches), forecast.batches, forecast.left_out) == (4, 4, 2, 2, 2)
    assert "2 of 4 batches are left for another time: plan-batches --resume" in heard.text
    plan.run_id = "run-1"
    shop.carry_out(plan, [batch for batch in batches if isinstance(batch, Batch)], "ok", "ok")
    _, rest = shop.resume()
    assert [batch.seq for batch in rest] == [3, 4]


def test_the_estimate_comes_with_the_result(shop: Shop) -> None:
    from sluice.attempts import result_of

    built(shop)
    plan, _, batch, *_ = planned(shop, estimate=True)
    assert isinstance(plan, Plan) and isinstance(batch, Batch)
    result = result_of(plan, batch, "ok", duration_s=12.5)
    assert result.estimate == batch.estimate
    said = error_in_words([(result.estimate, result.duration_s)])
    assert said == "the forecast was 10.0 s, it took 12.5 s (+25 %)"
