"""Did a run succeed lately? For health checks, so one query and no imports to speak of."""

from collections.abc import Generator
from datetime import datetime, timedelta

from sluice.command import Context
from sluice.errors import RED, SluiceError
from sluice.records import SetupCheck, Verdict
from sluice.state import State


def judged(ctx: Context, max_age: timedelta) -> Generator[SetupCheck, None, int]:
    """Yield the one line. The exit code is 3 when no run succeeded for `max_age`, or when nobody can know."""
    state = None
    try:
        state = State.open_existing(ctx.config.state_url, origin=ctx.config.explain("SLUICE_STATE"))
        line = _judged(state.last_success() if state else None, ctx.now, max_age)
    except SluiceError as problem:
        line = _line("fail", problem.message, problem.hint)
    finally:
        if state is not None:
            state.close()
    yield line
    return RED if line.verdict == "fail" else 0


def _judged(at: str | None, now: datetime, max_age: timedelta) -> SetupCheck:
    if at is None:
        return _line("fail", "no run has ever succeeded here", "sluice-state runs")
    age = now - datetime.fromisoformat(at)
    hours = f"{age.total_seconds() / 3600:.1f} h"
    if age > max_age:
        return _line("fail", f"no run has succeeded since {at}, {hours} ago", "sluice-state runs")
    return _line("ok", f"a run succeeded at {at}, {hours} ago")


def _line(verdict: Verdict, found: str, next: str | None = None) -> SetupCheck:
    return SetupCheck(check="last-success", verdict=verdict, found=found, next=next)
