"""The bar of a long run: what each worker runs now, and how far the plan is."""

from builders import ORDERS, TOTALS, a_plan, a_result, months_of

from sluice.progress import Bar


def shown(bar: Bar) -> tuple[list[str], float, str]:
    task = bar._bar.tasks[0]
    now = [line.partition(" 2024")[0] for line in task.fields["now"].splitlines()]
    return now, task.completed, task.fields["failed"]


def test_each_worker_has_a_line_and_whatever_ends_counts() -> None:
    plan, batches = a_plan([*months_of(months=2), *months_of(TOTALS, months=2, stage="[bold]x[/]")])
    bar = Bar(plan)
    bar.starts(batches[0])
    bar.starts(batches[2])
    assert shown(bar) == (["orders default", r"totals \[bold]x\[/]"], 0, "")
    bar.advance(a_result(batches[2]))
    assert shown(bar) == (["orders default"], 1, "")
    bar.advance(a_result(batches[0], "failed"))
    assert shown(bar) == (["orders default"], 2, "1 failed"), "the last stays until another begins"


def test_a_wave_in_mid_plan_begins_where_it_is() -> None:
    plan, batches = a_plan(months_of(ORDERS))
    bar = Bar(plan)
    bar.advance(a_result(batches[1]))
    assert shown(bar)[1] == 2
