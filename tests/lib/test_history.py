"""The judge of histories: what must not be is found by name, what may be passes."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from history import Effect, Event, wrong

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
PLANNED = [{"batch_id": one, "seq": seq, "model": "m", "full_refresh": seq == 1} for seq, one in enumerate("abc", 1)]


def event(seq: int, what: str, batch: str, attempt: int = 1, status: str | None = None) -> Event:
    return Event(seq, what, NOON + timedelta(seconds=seq), "root", batch, "m", batch == "a", attempt, status)


def effect(batch: str, second: float, attempt: int = 1) -> Effect:
    return Effect("root", batch, "m", attempt, NOON + timedelta(seconds=second))


# a whole; b is killed after its intent, tried again; c is killed after it committed, and found to be there.
TOLD = [
    event(1, "intent", "a"), event(2, "outcome", "a", 1, "ok"),
    event(3, "intent", "b"), event(4, "intent", "b", 2), event(5, "outcome", "b", 2, "ok"),
    event(6, "intent", "c"), event(8, "outcome", "c", 0, "ok"),
]  # fmt: skip
DONE = [effect("b", 4.5, 2), effect("c", 6.5)]


def test_a_history_of_kills_and_resumes_may_be() -> None:
    assert wrong(TOLD, DONE, PLANNED) == []


@pytest.mark.parametrize(
    ("told", "done", "named"),
    [
        (TOLD, [*DONE, effect("d", 7)], "batch d, attempt 1 without an intent"),
        (TOLD, [effect("b", 4.5, 3), DONE[1]], "batch b, attempt 3 without an intent"),
        (TOLD, [*DONE, effect("b", 3.5, 1)], "and one of attempt 2"),
        (TOLD, [effect("b", 3.5, 2), DONE[1]], "before its intent"),
        (TOLD, [DONE[0], effect("c", 9)], "after outcome ok"),
        (TOLD, DONE[:1], "batch 3 of m has left no effect"),
        (TOLD[:-1], DONE, "batch 3 of m ended as []"),
        ([*TOLD[:-1], replace(TOLD[-1], status="failed")], DONE, "batch 3 of m ended as"),
        ([*TOLD[:4], *TOLD[5:], replace(TOLD[4], seq=9)], DONE, "two intents are open"),
        ([*TOLD[:3], *TOLD[4:]], DONE, "was never intended|without an intent"),
        ([*TOLD, event(9, "intent", "c", 3)], DONE, "follows attempt 1"),
        ([*TOLD, event(9, "outcome", "c", 1, "failed")], DONE, "comes after outcome ok"),
        ([TOLD[0], *TOLD[2:]], DONE, "two intents are open"),
        ([*TOLD, event(9, "outcome", "z", 1, "ok")], DONE, "batch z, attempt 1 was never intended"),
    ],
)
def test_what_must_not_be_is_found(told: list[Event], done: list[Effect], named: str) -> None:
    found = wrong(told, done, PLANNED)
    assert any(word in one for one in found for word in named.split("|")), found
