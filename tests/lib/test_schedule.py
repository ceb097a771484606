"""Which batches may overlap: whatever order they end in, none runs beside one that it must not meet, and all run."""

from builders import ORDERS, TOTALS, a_batch, a_plan, months_of
from hypothesis import given
from hypothesis import strategies as st

from sluice.records import Batch
from sluice.schedule import Schedule, must_not_overlap

MODELS = [f"model.shop.m{number}" for number in range(5)]


@st.composite
def waves(draw: st.DrawFn) -> list[Batch]:
    """Batches of a few models in any order, which depend on any of the others, and some that are of no one model."""
    reads = {model: draw(st.sets(st.sampled_from(MODELS))) - {model} for model in MODELS}
    models = draw(st.lists(st.sampled_from([*MODELS, *MODELS, None]), max_size=12))
    batches = [
        a_batch(model or "", vars={"n": number}, depends_on=sorted(reads.get(model or "", ())))
        for number, model in enumerate(models)
    ]
    for batch in batches:
        batch.model = batch.model or None
    return a_plan(batches)[1]


@given(waves(), st.integers(1, 4), st.randoms())
def test_any_order_of_ends_keeps_apart_what_must_not_overlap_and_runs_everything(wave, workers, dice) -> None:
    schedule = Schedule(wave)
    running: list[Batch] = []
    begun: list[Batch] = []
    while True:
        while len(running) < workers and (batch := schedule.next()) is not None:
            assert not any(must_not_overlap(batch, other) for other in running)
            before = wave[: batch.seq - 1]
            ended = [one for one in begun if one not in running]
            assert all(one in ended for one in before if must_not_overlap(one, batch)), "what it needs is there"
            running.append(batch)
            begun.append(batch)
        if not running:
            break
        over = running.pop(dice.randrange(len(running)))
        schedule.ended(over)
    assert sorted(batch.seq for batch in begun) == [batch.seq for batch in wave]


@given(waves())
def test_nothing_waits_without_a_reason(wave) -> None:
    """What may start is exactly what overlaps with nothing before it that has not ended."""
    schedule = Schedule(wave)
    ended: set[int] = set()
    running: list[Batch] = []
    while len(ended) < len(wave):
        while (batch := schedule.next()) is not None:
            running.append(batch)
        may = [
            one
            for one in wave
            if not any(must_not_overlap(one, other) and other.seq not in ended for other in wave[: one.seq - 1])
        ]
        assert sorted(one.seq for one in running) == sorted(one.seq for one in may if one.seq not in ended)
        over = running.pop()
        ended.add(over.seq)
        schedule.ended(over)


@given(waves())
def test_one_worker_keeps_the_order_of_the_plan(wave) -> None:
    schedule = Schedule(wave)
    order = []
    while (batch := schedule.next()) is not None:
        order.append(batch.seq)
        schedule.ended(batch)
    assert order == list(range(1, len(wave) + 1))


def test_the_next_is_the_first_in_the_plan_that_may_start() -> None:
    _, batches = a_plan([*months_of(), *months_of(TOTALS, depends_on=[ORDERS]), *months_of("model.shop.other")])
    schedule = Schedule(batches)
    first, other = schedule.next(), schedule.next()
    assert (first, other, schedule.next()) == (batches[0], batches[6], None)
    schedule.ended(batches[0])
    assert (schedule.next(), schedule.next()) == (batches[1], None)


def test_a_table_is_not_written_before_who_was_planned_to_read_it_first() -> None:
    """A component that comes later writes what an earlier one reads: the reader sees the table as it was."""
    _, batches = a_plan([a_batch(TOTALS, depends_on=[ORDERS]), a_batch(ORDERS)])
    schedule = Schedule(batches)
    assert (schedule.next(), schedule.next()) == (batches[0], None)
    schedule.ended(batches[0])
    assert schedule.next() is batches[1]


def test_ten_thousand_batches_are_scheduled_without_comparing_each_with_each() -> None:
    models = [f"model.shop.m{number}" for number in range(100)]
    batches = [a_batch(model, depends_on=models[:20]) for _ in range(100) for model in models]
    schedule = Schedule(batches)
    edges = sum(map(len, schedule._followers.values()))
    assert edges < 150 * len(batches)
