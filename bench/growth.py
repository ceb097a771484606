"""Claim: cost grows as work grows: from 100 to 10,000 batches and from 10 to 5,000 models a batch takes the same time, within 20 %, and memory stays flat.

One staged model among so many on DuckDB; each batch, a month of a stage, writes a row, and the rows are counted in the end. A batch is
the median of what lies between a result and the next; memory is the most that the runner and all below it had (PSS). The largest
run takes minutes, in which a machine may change by more than is claimed: all runs are open at once, and go on by turns, a tenth
of each.

    bench/growth.py [BATCHES:MODELS...]
"""

import subprocess
import sys
import tempfile
import time
from datetime import date
from itertools import islice, pairwise
from pathlib import Path
from statistics import median
from typing import NamedTuple

import duckdb
from measure import ROOT, is_quick, sized_project, write
from memory import resident_mb

FIRST = date(1930, 1, 1)
STAGE_MONTHS = 1000  # most months of a stage
BATCHES, MODELS = 300, 10  # while the other grows
SIZES = ["100:10", "300:10", "1000:10", "10000:10", "300:100", "300:1000", "300:5000"]
ROUNDS = 10
AHEAD = 8  # batches
STAGED = """{{ config(materialized='incremental', incremental_strategy='append', meta={'full_refresh': %s}) }}
select date '{{ var("start_month", "1999-01-01") }}' as month, '{{ var("part", "") }}' as part -- {{ var('end_month', '') }}
"""


class Point(NamedTuple):
    batches: int
    models: int
    batch_ms: float
    most_mb: float


def main() -> None:
    sizes = [tuple(map(int, size.split(":"))) for size in sys.argv[1:] or SIZES]
    figures: dict[str, float | str] = {}
    with tempfile.TemporaryDirectory() as folder:
        projects = [Project(Path(folder, f"{batches}-{models}"), batches, models) for batches, models in sizes]
        for _ in range(ROUNDS):
            for project in projects:
                project.advance()
        points = [project.point() for project in projects]
    for point in points:
        figures[f"{point.batches} batches, {point.models} models: ms per batch"] = round(point.batch_ms, 1)
        figures[f"{point.batches} batches, {point.models} models: memory at most, MB"] = round(point.most_mb)
    for what, line in (("batches", over_batches(points)), ("models", over_models(points))):
        if len(line) > 1:
            times = [point.batch_ms for point in line]
            figures[f"slowest ÷ quickest batch over the number of {what}"] = round(max(times) / min(times), 2)
    print(figures, file=sys.stderr)
    write("growth", "As work grows", (__doc__ or "").split("\n\n")[0], figures)
    if not is_quick():
        draw(points)


def over_batches(points: list[Point]) -> list[Point]:
    return sorted(point for point in points if point.models == MODELS)


def over_models(points: list[Point]) -> list[Point]:
    return sorted((point for point in points if point.batches == BATCHES), key=lambda point: point.models)


class Project:
    """So many models, the staged one among them, and a full refresh of so many batches that goes on when it is told to."""

    def __init__(self, root: Path, batches: int, models: int):
        """The runner is started, and has read the plan's head."""
        self.root, self.batches, self.models = root, batches, models
        stages = max(1, batches // STAGE_MONTHS)
        parts = [{"name": f"p{n}", "vars": {"part": f"p{n}"}} for n in range(stages)]
        block = {"start_date": str(FIRST), "batch_months": 1, "stages": parts}
        fill = {f"f{n % 100}/filler_{n:04}.sql": f"select {n} as n" for n in range(models - 1)}
        env = sized_project(root, fill | {"staged.sql": STAGED % block})
        years, after = divmod(batches // stages - 1, 12)
        last = date(FIRST.year + years, 1 + after, 15)
        planned = subprocess.run(
            [sys.executable, ROOT / "bin/plan-batches", "--select", "staged", "--to", str(last), "--allow", "G14"],
            env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True,
        )  # fmt: skip
        self._plan = iter(planned.stdout.splitlines(keepends=True))
        self._runner = subprocess.Popen(
            [sys.executable, ROOT / "bin/run-dbt-batch"], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._give(1)
        self._between_s: list[float] = []
        self._most_mb = 0.0

    def advance(self) -> None:
        """A round: its share of the batches. A few lie in the pipe ahead, as a planner's do."""
        assert self._runner.stdout
        share = self.batches // ROUNDS
        self._give(min(AHEAD, share))
        at_s: list[float] = []
        while len(at_s) < share:
            line = self._runner.stdout.readline()
            assert line, f"the runner ended after {len(at_s)} of {share} batches"
            if b'"batch_result"' in line:
                at_s.append(time.monotonic())
                if len(at_s) <= share - AHEAD:
                    self._give(1)
        self._between_s += [after - before for before, after in pairwise(at_s)]
        self._most_mb = max(self._most_mb, resident_mb(self._runner.pid))

    def point(self) -> Point:
        """What it took, when its plan has come to the end and its rows are there."""
        self._runner.communicate(b"".join(self._plan))
        assert self._runner.returncode == 0
        with duckdb.connect(str(self.root / "sized.duckdb")) as connection:
            found = connection.execute("select count(*), count(distinct (month, part)) from staged").fetchone()
        assert found == (self.batches, self.batches), f"{found} rows and distinct ones"
        return Point(self.batches, self.models, median(self._between_s) * 1000, self._most_mb)

    def _give(self, lines: int) -> None:
        assert self._runner.stdin
        self._runner.stdin.write(b"".join(islice(self._plan, lines)))
        self._runner.stdin.flush()


def draw(points: list[Point]) -> None:
    """bench/results/growth.png, log-log: what a batch takes, over the batches and over the models."""
    from playwright.sync_api import sync_playwright
    from plotly.subplots import make_subplots

    titles = [f"over batches ({MODELS} models)", f"over models ({BATCHES} batches)"]
    figure = make_subplots(cols=2, shared_yaxes=True, subplot_titles=titles)
    for at, line in enumerate((over_batches(points), over_models(points))):
        for what, value in (("ms per batch", 2), ("MB at most", 3)):
            figure.add_scatter(x=[p[at] for p in line], y=[p[value] for p in line], name=what, row=1, col=at + 1,
                               showlegend=at == 0, line={"color": ["#1f6f8b", "#b5651d"][value - 2]})  # fmt: skip
    figure.update_xaxes(type="log").update_yaxes(type="log", range=[1, 3.2])
    figure.update_layout(template="plotly_white", width=900, height=360, margin={"t": 40, "b": 40})
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 900, "height": 360})
        page.set_content(figure.to_html(include_plotlyjs=True))
        page.wait_for_selector(".main-svg")
        page.screenshot(path=ROOT / "bench/results/growth.png")


if __name__ == "__main__":
    main()
