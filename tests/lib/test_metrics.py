"""The metrics file: read back by Prometheus's own parser, whole for all jobs after each run, and never in a run's way."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import ORDERS, TOTALS, a_batch, a_plan, months_of
from prometheus_client.parser import text_string_to_metric_families
from test_run_dbt_batch import BROKEN, Stand, stand  # noqa: F401

from sluice.state import State


def read(path: Path) -> dict[tuple[str, ...], float]:
    """(name, intent, status) and value of each sample; the status is empty where there is none."""
    samples = [sample for family in text_string_to_metric_families(path.read_text()) for sample in family.samples]
    assert all((s.labels["project"], s.labels["target"]) == ("shop", "dev") for s in samples)
    return {
        (s.name.removeprefix("sluice_last_"), s.labels["intent"], s.labels.get("status", "")): s.value for s in samples
    }


@pytest.fixture
def path(stand: Stand, tmp_path: Path) -> Path:  # noqa: F811
    stand.config = replace(stand.config, metrics_file=tmp_path / "sluice.prom")
    return tmp_path / "sluice.prom"


def test_each_job_has_its_numbers_and_a_failure_keeps_the_last_success(stand: Stand, path: Path) -> None:  # noqa: F811
    stand.run(*a_plan(months_of(months=3)))
    first = read(path)
    ended = stand.state.run("run-1")
    assert first["success_timestamp_seconds", "full_refresh", ""] > 1.7e9
    assert first["run_duration_seconds", "full_refresh", ""] == ended.run_duration_seconds
    assert first["run_rows", "full_refresh", ""] == 3
    assert first["run_batches", "full_refresh", "ok"] == 3
    plan, batches = a_plan([a_batch(ORDERS), a_batch(TOTALS, depends_on=[ORDERS])], run_id="run-2", intent="daily")
    stand.engine.steps[batches[0].batch_id] = [BROKEN]
    stand.run(plan, batches)
    both = read(path)
    assert {key: value for key, value in both.items() if key[1] == "full_refresh"} == first
    assert (
        both["run_success", "daily", ""],
        both["run_batches", "daily", "failed"],
        both["run_batches", "daily", "skipped"],
    ) == (0, 1, 1)
    assert ("success_timestamp_seconds", "daily", "") not in both
    retry, again = a_plan([a_batch(TOTALS)], run_id="run-3", intent="retry")
    stand.run(retry, again)
    now = read(path)
    assert now["run_success", "daily", ""] == 1
    assert now["success_timestamp_seconds", "daily", ""] == now["run_timestamp_seconds", "daily", ""]
    assert path.stat().st_mode & 0o777 == 0o644
    assert [name for name in os.listdir(path.parent) if name.startswith("sluice.prom")] == ["sluice.prom"]


def test_a_file_that_cannot_be_written_changes_no_result(stand: Stand, path: Path, heard: Any) -> None:  # noqa: F811
    path.mkdir()
    assert stand.run(*a_plan()) == ["ok"] * 3
    assert stand.run_status() == "SUCCESS"
    assert "SLUICE_METRICS_FILE is" in heard.text


def test_without_the_setting_there_is_no_file_and_a_rehearsal_writes_none(stand: Stand, path: Path) -> None:  # noqa: F811
    stand.run(*a_plan(), dry_run=True)
    assert not path.exists()
    stand.config = replace(stand.config, metrics_file=None)
    stand.run(*a_plan())
    assert not path.exists()


def test_a_name_with_quotes_and_line_breaks_stays_one_label(own_settings: Any, tmp_path: Path) -> None:
    from sluice import metrics

    state = State.open(own_settings.state_url)
    plan, _ = a_plan(project='sh"op\n# HELP x y\\', target="dev")
    state.begin_run(plan, "run-1")
    state.end_run(plan, "run-1", "SUCCESS", models_run=0, models_failed=0)
    metrics.write(state, tmp_path / "m.prom")
    families = list(text_string_to_metric_families((tmp_path / "m.prom").read_text()))
    assert {s.labels["project"] for family in families for s in family.samples} == {plan.project}
