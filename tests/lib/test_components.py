"""The lines of the components in the digest of a daily refresh."""

from builders import a_batch, a_plan, a_result

from sluice.components import summary
from sluice.records import CheckResult, Node

BARS, EMAS = "model.shop.price_bars", "model.shop.ema"


def test_each_component_has_its_line_with_what_was_written_and_what_was_found() -> None:
    plan, batches = a_plan([a_batch(BARS, wave=1), a_batch(EMAS, wave=2)], intent="daily")
    plan.request = {"components": ["tag:bars", "tag:emas"]}
    rows = [Node(unique_id=BARS, status="ok", duration_s=1, rows=31402), Node(unique_id="x", status="ok", duration_s=1)]
    results = [a_result(batches[0], duration_s=28.5, nodes=rows), a_result(batches[1], "failed", duration_s=16.8)]
    for result, wave in zip(results, (1, 2), strict=True):
        result.wave = wave
    results.append(a_result(batches[1], duration_s=9, wave=3))  # of none of the components
    checks = [
        CheckResult(check=check, severity="WARNING", subject=BARS, status="failed", violation_rows=count)
        for check, count in (("no_gap", 2), ("sql:repairs", 1), ("sql:rejects", 3), ("no_duplicate", 9))
    ]
    assert summary(plan, results, checks) == [
        "components 2   successful 1   failed 1   time 45.3 s",
        "ok  bars   28.5 s   31,402 rows   2 gaps   1 repair   3 rejects",
        "failed  emas   16.8 s",
    ]


def test_a_plan_without_components_has_none() -> None:
    plan, batches = a_plan()
    assert summary(plan, map(a_result, batches), []) == []
