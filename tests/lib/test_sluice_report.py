"""The report as a person has it: a file that is whole or not there, and a page that a real browser opens."""

import json
import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
from builders import ORDERS, TOTALS, FakeContext, a_plan, a_result, window
from playwright.sync_api import Browser, Page, sync_playwright
from test_report_data import a_check, a_refill, a_run, at, batch, event

from sluice import sluice_report
from sluice.config import Config
from sluice.coverage import STATUSES, Cell, Recorded
from sluice.coverage_sources import Covered
from sluice.errors import REFUSED, UNAVAILABLE, SluiceError
from sluice.records import PartitionResult, ReportResult, SyncState
from sluice.report.page import embedded, render
from sluice.sluice_report import Facts, compose
from sluice.state import State

NOW = datetime(2024, 5, 2, tzinfo=UTC)
MONTHS = [date(2024, month, 1) for month in (1, 2, 3)]
EVIL = "</script><script>window.pwned = 1</script><img src=x onerror='window.pwned = 1'><b>&amp;{{ %{x} }}\u2028"
HOSTILE = f"model.shop.{EVIL}"


def facts(model: str = ORDERS, *, said: str = "it broke") -> Facts:
    """Something for every figure: `model` in two stages with a cell of every kind, and totals; `said` in every message."""
    failed = Recorded(model, said, None, False, "failed", at(3), run_id="run-1", message=said)
    words = [*STATUSES, "ok", "ok", "ok"]
    cells = [
        Cell(name, stage, month, window("2024-01-01", "2024-04-01"), words.pop(0), rows=5, record=failed)  # type: ignore[arg-type]
        for name, stage in ((model, said), (model, "us"), (TOTALS, "default"))
        for month in MONTHS
    ]
    runs = [
        a_run("run-1"),
        a_refill("run-2", 20),
        a_run("run-3", began_at=at(30), plan={"retry_of": "run-1", "saved_s": 4.0, "decision": said}),
    ]
    mine: dict[str, Any] = {"model_name": model, "stage": said, "message": said}
    attempts = [event("intent", "a", 1, **mine), event("outcome", "a", 2, status="failed", **mine)]
    attempts += [event("intent", "a", 4, attempt=2, **mine), event("outcome", "a", 5, attempt=2, **mine)]
    attempts += [event("intent", "b", 5, model_name=TOTALS), event("outcome", "b", 6, model_name=TOTALS)]
    found = Facts(runs=runs, attempts=attempts, covered=Covered(cells), place=said)
    found.batches = [
        batch(1, 3.0, model=model) | {"stage": said},
        batch(2, 4.0, model=model),
        batch(1, 1.0, model=TOTALS),
    ]
    checks = [a_check(25, run_id="run-2"), a_check(3, 9.0, status="failed")]
    for check in checks:
        check.subject, check.check, check.error = model, said, said
    found.records.checks = checks
    found.records.partitions = [
        PartitionResult(
            at=at(1),
            table=said,
            partition="202401",
            model=model,
            status="ok",
            parts_before=9,
            parts_after=1,
            duplicate_rows_before=4,
            duplicate_rows_after=0,
            error=said,
        )
    ]
    found.sources = [
        SyncState(
            source=said, sync_status="success", last_sync_ts=at(0), last_txid=None, updated_at=at(0), sync_count=1, failed_count=0,
            lag_s=60.0, received_rows=1, inserted_rows=1, updated_rows=0, rejected_rows=0, mean_s=None, saved_ratio=None,
        )
    ]  # fmt: skip
    found.sync_days = [(said, date(2024, 5, 1), 3, 1, NOW, NOW)]
    return found


@pytest.fixture(autouse=True)
def _no_project(_own_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBT_PROJECT_DIR", str(tmp_path / "no-project"))  # else dbt would parse the bundled one


# -- the page in a browser ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # --no-sandbox: as root, which tests in a container are, it does not start with one.
        opened = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield opened
        opened.close()


class Opened:
    """A report in a browser, drawn. `complaints` are errors of the console and of scripts, `requests` what was asked for."""

    def __init__(self, browser: Browser, path: Path, found: Facts, **options: Any):
        page, _ = compose(found, now=NOW, days=30)
        path.write_text(render(page), encoding="utf-8")
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page: Page = browser.new_page(viewport={"width": 1200, "height": 5000}, **options)
        self.page.on("console", lambda said: self.complaints.append(f"{said.type}: {said.text}"))
        self.page.on("pageerror", lambda problem: self.complaints.append(str(problem)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        self.drawn()

    def drawn(self) -> None:
        self.page.wait_for_selector("html[data-drawn]", state="attached")

    def plot(self, figure: str) -> Any:
        """The data of a figure as plotly has it now, [] for none."""
        return self.page.evaluate(
            f"() => {{ const p = document.querySelector('#{figure} .plot'); return p.hidden ? [] : p.data }}"
        )

    def figures(self) -> list[str]:
        return self.page.evaluate("() => report.figures.map((figure) => figure.id)")

    def chosen(self) -> str | None:
        bar = self.page.locator("#chosen")
        return bar.locator("b").text_content() if bar.is_visible() else None


@pytest.fixture(scope="module")
def opened(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """The report on `facts()`, which every test leaves as it found it."""
    return Opened(browser, tmp_path_factory.mktemp("report") / "report.html", facts(), color_scheme="dark")


def test_the_page_draws_every_figure_and_asks_for_nothing(opened: Opened) -> None:
    assert len(opened.figures()) == 8
    for figure in opened.figures():
        assert opened.page.locator(f"#{figure} .plot svg.main-svg").count(), figure
        assert opened.page.locator(f"#{figure} .none").is_hidden()
    assert opened.complaints == []
    assert opened.requests == [opened.page.url]


def test_the_map_has_the_right_cells(opened: Opened) -> None:
    (map_,) = opened.plot("coverage")
    drawn = {
        (row, month): STATUSES[code]
        for row, codes in zip(map_["y"], map_["z"], strict=True)
        for month, code in zip(map_["x"], codes, strict=True)
    }
    assert drawn == {
        (
            cell.model.rpartition(".")[2] + (f" · {cell.stage}" if cell.stage != "default" else ""),
            f"{cell.month:%Y-%m}",
        ): cell.status
        for cell in facts().covered.cells
    }
    shown = opened.page.locator("#coverage .ytick text").all_text_contents()
    assert sorted(shown) == ["orders · it broke", "orders · us", "totals"]


def test_a_click_shows_one_model_in_every_figure_and_another_shows_all_again(opened: Opened) -> None:
    everything = {figure: opened.plot(figure) for figure in opened.figures()}
    area = opened.page.locator("#coverage .nsewdrag").bounding_box()
    assert area is not None
    opened.page.mouse.click(
        area["x"] + area["width"] / 2, area["y"] + area["height"] * 5 / 6
    )  # the third of three rows
    opened.page.wait_for_selector("#chosen:not([hidden])")
    opened.drawn()
    assert opened.chosen() == TOTALS
    assert opened.plot("coverage")[0]["y"] == ["totals"]
    assert [trace["name"].partition(":")[0] for trace in opened.plot("slow-models")] == ["totals"]
    assert [trace["y"] for trace in opened.plot("slow-batches")] == [["totals: default, 2024-01-01 to x"]] * 2
    assert [(trace["name"], trace["x"]) for trace in opened.plot("timeline")] == [("ok", [1])]
    assert opened.plot("canaries") == opened.plot("partitions") == opened.plot("history") == []
    assert opened.page.locator("#canaries .none").is_visible()
    assert opened.plot("syncs") == everything["syncs"]
    opened.page.get_by_role("button", name="show all models").click()
    opened.drawn()
    assert opened.chosen() is None
    assert {figure: opened.plot(figure) for figure in opened.figures()} == everything
    opened.page.locator("#models button", has_text="orders").click()
    opened.drawn()
    assert opened.chosen() == ORDERS
    assert len(opened.plot("coverage")[0]["z"]) == 2
    assert len(opened.plot("history")) == 1
    opened.page.locator("#models button", has_text="orders").click()
    opened.drawn()
    assert opened.chosen() is None
    assert opened.complaints == []


def test_hostile_names_and_messages_are_shown_letter_by_letter(browser: Browser, tmp_path: Path) -> None:
    opened = Opened(browser, tmp_path / "report.html", facts(HOSTILE, said=EVIL))
    assert opened.page.evaluate("() => window.pwned") is None
    assert opened.page.locator("img, b:not(#chosen b), section script").count() == 0
    shown = opened.page.locator("#coverage .ytick text").all_text_contents()
    assert set(shown) == {"totals", f"{EVIL[:60]}…", f"{EVIL[:60]}… (2)"}
    area = opened.page.locator("#coverage .nsewdrag").bounding_box()
    assert area is not None
    opened.page.mouse.move(area["x"] + area["width"] / 2, area["y"] + area["height"] / 6)
    opened.page.wait_for_selector("#coverage .hoverlayer .hovertext")
    assert "<img src=x" in (opened.page.locator("#coverage .hoverlayer").text_content() or "")
    opened.page.locator("#models button").first.click()
    opened.drawn()
    assert opened.chosen() == HOSTILE
    assert opened.page.evaluate("() => window.pwned") is None
    assert opened.complaints == []


def test_the_page_is_as_light_or_dark_as_the_system_and_a_button_changes_it(browser: Browser, tmp_path: Path) -> None:
    opened = Opened(browser, tmp_path / "report.html", facts(), color_scheme="dark")
    ground = "() => getComputedStyle(document.body).backgroundColor"
    ink = "() => document.querySelector('#history .plot').layout.font.color"
    dark = (opened.page.evaluate(ground), opened.page.evaluate(ink))
    opened.page.locator("#theme").click()
    opened.drawn()
    light = (opened.page.evaluate(ground), opened.page.evaluate(ink))
    assert dark == ("rgb(18, 22, 28)", "#e4e8ee")
    assert light == ("rgb(246, 247, 249)", "#1c2430")


def test_what_has_no_data_says_so_in_words(browser: Browser, tmp_path: Path) -> None:
    found = Facts(uncovered="dbt cannot load it", unsynced="nobody answers")
    opened = Opened(browser, tmp_path / "report.html", found)
    for figure in opened.figures():
        assert opened.page.locator(f"#{figure} .none").is_visible(), figure
    said = opened.page.locator("body").inner_text()
    for words in (
        "Not known: dbt cannot load it",
        "No run in these days.",
        "No check was asked",
        "Not known: nobody answers",
        "No partition",
    ):
        assert words in said
    assert opened.complaints == []


# -- without a browser ----------------------------------------------------------------------------------------------------


def test_figures_are_what_plotly_takes() -> None:
    _, figures = compose(facts(), now=NOW, days=30)
    for figure in figures:
        go.Figure(data=figure.data, layout=figure.layout)  # raises for what it does not know


def test_nothing_in_embedded_data_can_end_its_element() -> None:
    text = embedded({EVIL: [EVIL, "\u2029"]})
    assert not set(text) & set("<>&\u2028\u2029")
    assert json.loads(text) == {EVIL: [EVIL, "\u2029"]}


def test_two_models_of_one_name_are_told_apart() -> None:
    found = facts()
    found.covered = Covered(
        [replace(cell, model="model.other.orders") if cell.model == TOTALS else cell for cell in found.covered.cells]
    )
    found.covered = Covered(
        [replace(cell, stage="us") if cell.model == "model.other.orders" else cell for cell in found.covered.cells]
    )
    (map_,) = compose(found, now=NOW, days=30)[1][0].data
    assert map_["y"] == ["orders · it broke", "model.shop.orders · us", "model.other.orders · us"]


# -- the command ----------------------------------------------------------------------------------------------------------


def reported(config: Config, output: Path | None = None, *, dry_run: bool = False, days: int = 30) -> ReportResult:
    context = FakeContext(config, dry_run=dry_run, now=datetime.now(UTC))
    (result,) = sluice_report.sluice_report(context, output=output, days=days)
    assert isinstance(result, ReportResult)
    return result


@pytest.fixture
def state(own_settings: Config) -> State:
    """A daily run with one good batch and one that failed."""
    opened = State.open(own_settings.state_url)
    plan, batches = a_plan(intent="daily")
    opened.begin_run(plan, "run-1")
    for one, status in zip(batches, ("ok", "failed"), strict=False):
        attempt = opened.intend("run-1", "run-1", one)
        opened.record("run-1", one, a_result(one, status, attempt=attempt, duration_s=0.5, wave=2), "shop")
    opened.end_run(plan, "run-1", "FAILED", models_run=1, models_failed=1)
    return opened


def test_a_report_is_a_file_for_its_owner_alone(
    own_settings: Config, state: State, heard: pytest.LogCaptureFixture
) -> None:
    result = reported(own_settings)
    path = own_settings.log_dir / "report.html"
    assert (result.path, result.status, result.runs, result.batches) == (str(path), "ok", 1, 2)
    assert "The last runs" not in result.empty
    assert "Coverage" in result.empty  # there is no project here
    assert "no coverage" in heard.text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_size == result.size_bytes
    assert os.listdir(own_settings.log_dir) == ["report.html"]


def test_a_rehearsal_writes_nothing(own_settings: Config, state: State) -> None:
    result = reported(own_settings, dry_run=True)
    assert result.status == "dry_run"
    assert not own_settings.log_dir.exists()


def test_without_a_state_there_is_a_report_and_still_no_state(own_settings: Config) -> None:
    assert len(reported(own_settings).empty) == 8
    assert not own_settings.state_dir.exists()


def test_runs_before_the_days_asked_for_are_left_out(own_settings: Config, state: State) -> None:
    context = FakeContext(own_settings, now=datetime(2099, 1, 1, tzinfo=UTC))
    (result,) = sluice_report.sluice_report(context, output=None, days=1)
    assert (result.runs, result.batches) == (0, 0)


@pytest.mark.parametrize(
    ("output", "code"), [("", REFUSED), ("none/report.html", UNAVAILABLE), ("a-file/report.html", UNAVAILABLE)]
)
def test_an_output_that_cannot_be_leaves_nothing_behind(
    own_settings: Config, tmp_path: Path, output: str, code: int
) -> None:
    (tmp_path / "a-file").write_text("mine")
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(SluiceError) as caught:
        reported(own_settings, tmp_path / output)
    assert caught.value.exit_code == code
    assert sorted(os.listdir(tmp_path)) == before


def test_a_device_is_not_replaced_by_a_file(own_settings: Config, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SluiceError, match="is no file"):
        reported(own_settings, tmp_path / "pipe")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_link_goes_on_to_be_one(own_settings: Config, tmp_path: Path) -> None:
    (tmp_path / "there.html").write_text("before")
    (tmp_path / "link.html").symlink_to(tmp_path / "there.html")
    assert reported(own_settings, tmp_path / "link.html").path == str(tmp_path / "there.html")
    assert (tmp_path / "link.html").is_symlink()
    assert (tmp_path / "there.html").read_text().startswith("<!doctype html>")
