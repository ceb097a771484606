"""Claim: a report on 100,000 batches is written in a few seconds and opens in under 2 s.

The state (SQLite) holds four full refreshes of 50 models in five stages, 100 months each, and a daily run of each of 30 days.
Timed: state and cells to the file, and a fresh page in headless Chromium from the file to the last figure on
the screen of a laptop (1280 x 900); the others follow as one comes to them.
"""

import os
import statistics
import sys
import tempfile
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec
from measure import ROOT, write

sys.path[:0] = [str(ROOT / "lib"), str(ROOT / "tests")]
from builders import a_batch, a_plan  # noqa: E402
from playwright.sync_api import sync_playwright  # noqa: E402

from sluice import coverage, coverage_sources, sluice_report  # noqa: E402
from sluice.coverage_sources import Covered  # noqa: E402
from sluice.ids import timestamp  # noqa: E402
from sluice.records import Batch, Plan  # noqa: E402
from sluice.report.page import render  # noqa: E402
from sluice.sluice_report import MOST_ON_TIMELINE, Facts, compose  # noqa: E402
from sluice.state import State  # noqa: E402
from sluice.windows import add_months, monthly_windows  # noqa: E402

MODELS, STAGES, MONTHS, REFRESHES, DAYS, OPENED = 50, 5, 100, 4, 30, 7
NOW = datetime(2026, 5, 1, tzinfo=UTC)
FIRST = date(2018, 1, 1)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        state = State.open(f"sqlite:{folder}/state.sqlite")
        plan, batches = fill(state)
        began = time.perf_counter()
        content = report(state, plan, batches)
        written_s = time.perf_counter() - began
        path = Path(folder) / "report.html"
        path.write_text(content)
        ((count,),) = state.store.rows("SELECT count(*) FROM batch_event WHERE event = 'outcome'")
        opened = opening(path)
    figures: dict[str, float | int | str] = {
        "batches": count,
        "cells of the map": MODELS * STAGES * MONTHS,
        "written in, s": round(written_s, 2),
        "size, MB": round(len(content.encode()) / 1e6, 2),
        f"the table of models is there, median of {OPENED}, s": round(
            statistics.median(paint for paint, _, _ in opened), 2
        ),
        f"what is on the screen is drawn, median of {OPENED}, s": round(
            statistics.median(drawn for _, drawn, _ in opened), 2
        ),
        "what is on the screen is drawn, fastest, s": round(min(drawn for _, drawn, _ in opened), 2),
        f"seconds of processor for that, median of {OPENED}": round(
            statistics.median(busy for _, _, busy in opened), 2
        ),
        "processes waiting for the cores meanwhile (load)": round(os.getloadavg()[0], 1),
    }
    write("report", "What a report costs", __doc__.splitlines()[0], figures)


def fill(state: State) -> tuple[Plan, list[Batch]]:
    """The plan of a full refresh, carried out REFRESHES times in the last days, and daily runs; every hundredth batch failed once."""
    windows = monthly_windows(FIRST, add_months(FIRST, MONTHS - 1), 1)
    names = [f"model.shop.int_balances_{number:02}" for number in range(MODELS)]
    staged = [a_batch(m, stage=f"stage_{s}", window=w) for m in names for s in range(STAGES) for w in windows]
    plan, batches = a_plan(staged)
    daily, whole = a_plan([a_batch(name) for name in names], intent="daily")
    for number in range(REFRESHES):
        carry_out(state, plan, batches, f"refresh-{number}", NOW - timedelta(days=20 - number * 5))
    for day in range(DAYS):
        carry_out(state, daily, whole, f"daily-{day:02}", NOW - timedelta(days=DAYS - day))
    return plan, batches


def carry_out(state: State, plan: Plan, batches: list[Batch], run_id: str, at: datetime) -> None:
    plan.run_id = run_id
    identity = {"run_id": run_id, "root_run_id": run_id, "plan_id": plan.plan_id}
    run = {**identity, "project_name": "shop", "environment": "dev", "intent": plan.intent, "attempt": 1}
    events = []
    for place, batch in enumerate(batches):
        cell = {**identity, "batch_id": batch.batch_id, "batch_seq": batch.seq, "model_name": batch.model, "stage": batch.stage,
                "window_start": batch.window and str(batch.window.start), "window_end": batch.window and str(batch.window.end),
                "full_refresh": False}  # fmt: skip
        for attempt in (1, 2) if place % 100 == 99 else (1,):
            began, at = at, at + timedelta(seconds=0.5 + place % 7 / 4)
            good = attempt == 2 or place % 100 != 99
            events.append({**cell, "event": "intent", "at": timestamp(began), "attempt": attempt, "status": None,
                           "duration_seconds": None, "message": None, "result": None})  # fmt: skip
            events.append({**cell, "event": "outcome", "at": timestamp(at), "attempt": attempt, "status": "ok" if good else "failed",
                           "duration_seconds": (at - began).total_seconds(), "message": None if good else "the server went away",
                           "result": '{"wave":1}'})  # fmt: skip
    with state.store.transaction():
        first = {**run, "event": "began", "at": events[0]["at"], "plan": msgspec.json.encode(plan).decode(), "vars": "{}",
                 "host": "bench", "pid": 1, "models_planned": MODELS, "models_total": MODELS}  # fmt: skip
        state.store.insert("run_event", [first])
        for start in range(0, len(events), 1000):
            state.store.insert("batch_event", events[start : start + 1000])
        state.store.insert("run_event", [{**run, "event": "ended", "at": timestamp(at), "run_status": "SUCCESS"}])


def report(state: State, plan: Plan, batches: list[Batch]) -> str:
    """What the command does, but for the project and the warehouse, whose answers are the plan and a count of rows."""
    found = Facts(place="shop / dev")
    records = coverage_sources.recorded(state, plan)
    observed = {(batch.model or "", batch.stage): dict.fromkeys(_months(), 12345) for batch in batches}
    found.covered = Covered(coverage.cells(coverage.expected(batches, plan.models), records, observed))
    sluice_report.ask_state(state, found, NOW - timedelta(days=DAYS), ("shop", "dev"))
    assert len(found.attempts) > 40_000, MOST_ON_TIMELINE
    return render(compose(found, now=NOW, days=DAYS)[0])


def _months() -> list[date]:
    return [add_months(FIRST, number) for number in range(MONTHS - 1)]


def opening(path: Path) -> list[tuple[float, float, float]]:
    """Seconds until the first paint, until what is on the screen is drawn, and of processor for that; a page of its own each time."""
    found = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        for _ in range(OPENED):
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            chrome = page.context.new_cdp_session(page)
            chrome.send("Performance.enable", {"timeDomain": "threadTicks"})
            page.goto(path.as_uri(), wait_until="commit")
            page.wait_for_selector("html[data-drawn]", state="attached", timeout=120_000)
            paint, drawn = page.evaluate(
                "() => [performance.getEntriesByType('paint')[0].startTime, performance.getEntriesByName('drawn').at(-1).startTime]"
            )
            metrics = {one["name"]: one["value"] for one in chrome.send("Performance.getMetrics")["metrics"]}
            found.append((paint / 1000, drawn / 1000, metrics["ThreadTime"]))
            page.close()
        browser.close()
    return found


if __name__ == "__main__":
    main()
