"""The digest: what people are told in the morning."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from builders import ORDERS, TOTALS, FakeContext, a_plan, a_result, months_of
from terminal import watched

from sluice.config import Config, load
from sluice.digest import Digest
from sluice.errors import SluiceError, bad_stream
from sluice.notify import notify
from sluice.records import CheckResult, Error, NotifyResult, PartitionResult, Record, Summary, SyncResult

PLAN, BATCHES = a_plan(months_of() + months_of(TOTALS))


def a_check(status: Any = "failed", severity: Any = "ERROR", subject: str = TOTALS) -> CheckResult:
    return CheckResult(check="canary", severity=severity, subject=subject, status=status, error="a jump to 2")


def a_partition(status: Any, table: str = "shop.orders", **fields: Any) -> PartitionResult:
    return PartitionResult(table=table, partition="202401", status=status, **fields)


def digest(*records: Record) -> Digest:
    made = Digest()
    for record in records:
        made.add(record)
    return made


def test_a_good_run_is_two_lines() -> None:
    told = digest(
        PLAN, *map(a_result, BATCHES), Summary(command="a", duration_s=3.0), Summary(command="b", duration_s=2.0)
    )
    assert told.severity == "INFO"
    assert told.lines() == ["FULL REFRESH OF SHOP (DEV): ok", "time 3.0 s   batches 6   ok 6"]


def test_failures_are_named_with_their_error() -> None:
    told = digest(
        PLAN,
        a_result(BATCHES[0]),
        a_result(BATCHES[1], "failed", error="boom"),
        a_result(BATCHES[2], "skipped"),
        Error(code="plan_drift", message="it is", hint="mend it"),
        Summary(command="a", exit_code=1),
    )
    assert told.severity == "ERROR"
    assert told.lines() == [
        "FULL REFRESH OF SHOP (DEV): ERROR, exit 1",
        "time 0.0 s   batches 3   ok 1   failed 1   skipped 1",
        f"failed  {ORDERS} (batch 2 of 6, stage default, 2024-02-01 to 2024-03-01): boom",
        "plan_drift: it is   try: mend it",
    ]


def test_what_a_sync_brought_is_told_and_what_a_rehearsal_cannot_know_is_not() -> None:
    brought = {"source": "cb", "stream": "trades", "received_rows": 3}
    real = SyncResult(**brought, sync_status="partial", status="failed", inserted_rows=1, updated_rows=2, error="cut")
    rehearsed = SyncResult(**brought, sync_status="success", status="dry_run")
    away = SyncResult(source="cb", stream="", sync_status="failed", status="failed", error="it is locked")
    assert digest(real, rehearsed, away).lines()[2:] == [
        "partial  cb trades: received 3, inserted 1, updated 2: cut",
        "dry_run  cb trades: received 3",
        "failed   cb: received 0: it is locked",
    ]


def test_a_thousand_failures_are_not_a_thousand_lines() -> None:
    told = digest(PLAN, *(a_result(BATCHES[0], "failed", error="boom") for _ in range(1000))).lines()
    assert len(told) < 30
    assert "… and 980 more failed batches" in told
    assert not any("more" in line for line in digest(PLAN, *[a_result(BATCHES[0], "failed")] * 20).lines())


def test_red_checks_and_partitions_that_are_not_right_are_named() -> None:
    told = digest(
        PLAN,
        a_result(BATCHES[0]),
        a_partition("ok", duplicate_rows_before=7, duplicate_rows_after=0),
        a_partition("failed", error="3 of 9 rows share their key with another"),
        a_partition("skipped", "shop.totals", duplicate_rows_before=4, error="beyond --max-partitions 2"),
        a_partition("skipped", "shop.well", duplicate_rows_before=0, error="beyond --max-partitions 2"),
        a_check("ok"),
        a_check(),
        Summary(command="canary-check", exit_code=3),
    )
    assert told.lines() == [
        "FULL REFRESH OF SHOP (DEV): ERROR, exit 3",
        "time 0.0 s   batches 1   ok 1   partitions 4 (not right 2)   checks 2 (red 1)",
        f"red  canary of {TOTALS}: a jump to 2",
        "failed  shop.orders, partition 202401: 3 of 9 rows share their key with another",
        "left  shop.totals, partition 202401: 4 rows share their key with another; beyond --max-partitions 2",
    ]


def test_a_thousand_red_checks_are_not_a_thousand_lines() -> None:
    told = digest(PLAN, *[a_check()] * 1000, *[a_partition("failed")] * 1000).lines()
    assert len(told) < 50
    assert "… and 980 more red checks" in told
    assert "… and 980 more such partitions" in told


@pytest.mark.parametrize(
    ("records", "severity"),
    [
        ([], "INFO"),
        ([a_result(BATCHES[0], "skipped")], "WARNING"),
        ([a_result(BATCHES[0], "cancelled")], "WARNING"),
        ([a_result(BATCHES[0], "failed")], "ERROR"),
        ([Summary(command="a", exit_code=69), Summary(command="b", exit_code=0)], "ERROR"),
        ([Error(code="a_b", message="x")], "ERROR"),
        ([Error(code="warehouse_away", message="x"), Summary(command="a", exit_code=69)], "CRITICAL"),
        ([a_result(BATCHES[0], "dry_run")], "INFO"),
        ([a_check("ok"), a_partition("ok", duplicate_rows_before=3), a_partition("skipped")], "INFO"),
        ([a_check(severity="WARNING")], "WARNING"),
        ([a_check(), a_check(severity="WARNING")], "ERROR"),
        ([a_check(severity="CRITICAL"), Summary(command="a", exit_code=3)], "CRITICAL"),
        ([a_check("dry_run"), a_partition("dry_run", duplicate_rows_before=3)], "INFO"),
        ([a_partition("failed")], "ERROR"),
        ([a_partition("skipped", duplicate_rows_before=3)], "WARNING"),
    ],
)
def test_how_bad_it_is(records: list[Record], severity: str) -> None:
    assert digest(*records).severity == severity


def test_the_same_trouble_has_the_same_key_every_night() -> None:
    def key(**changes: Any) -> str:
        plan, batches = a_plan(**changes)
        return digest(plan, a_result(batches[0], "failed", error="at 03:00"), Error(code="a_b", message="x")).dedupe_key

    assert key() == key(run_id="another night", checksum="other")
    others = [digest(), digest(PLAN), digest(PLAN, a_check()), digest(PLAN, a_check(subject=ORDERS))]
    keys = [key(), key(target="prod"), key(batches=months_of(TOTALS)), *(told.dedupe_key for told in others)]
    assert len(set(keys)) == 7


@pytest.fixture
def told(own_settings, monkeypatch: pytest.MonkeyPatch, heard: pytest.LogCaptureFixture):
    """What `notify` yields for a stream, its exit code, and what it logs."""

    def run(*stream: Record, level: str = "ERROR", **options: Any) -> tuple[NotifyResult, int, list[tuple[str, str]]]:
        monkeypatch.setenv("SLUICE_NOTIFY_LEVEL", level)
        heard.clear()
        running = notify(FakeContext(load(), stream, **options))
        result = next(running)
        with pytest.raises(StopIteration) as end:
            next(running)
        return (
            result,
            end.value.value,
            [(line.levelname, line.message) for line in heard.records if line.name == "sluice"],
        )

    return run


def test_the_digest_goes_to_the_log_and_on(told) -> None:
    result, code, logged = told(PLAN, a_result(BATCHES[0], "failed", error="boom"), upstream_exit=1)
    assert (result.status, result.severity, code) == ("ok", "ERROR", 1)
    assert logged[:-1] == [("ERROR", line) for line in result.digest]
    assert logged[-1][0] == "WARNING" and "TELEGRAM_BOT_TOKEN" in logged[-1][1]


@pytest.mark.parametrize(("level", "status"), [("INFO", "ok"), ("WARNING", "skipped"), ("CRITICAL", "skipped")])
def test_what_is_below_the_threshold_is_only_logged(told, level: str, status: str) -> None:
    result, code, logged = told(PLAN, a_result(BATCHES[0]), level=level)
    assert (result.status, code) == (status, 0)
    assert len(logged) == 2


@pytest.mark.parametrize(("plan", "options"), [(a_plan(dry_run=True)[0], {}), (PLAN, {"dry_run": True})])
def test_a_rehearsal_is_told_to_nobody(told, plan: Record, options: dict) -> None:
    result, _, logged = told(plan, a_result(BATCHES[0], "dry_run"), level="INFO", **options)
    assert (result.status, logged) == ("dry_run", [])


def test_a_run_that_died_is_told_too(own_settings) -> None:
    def dies() -> Iterator[Record]:
        yield PLAN
        raise bad_stream("the input ended after line 1 without a summary", code="stream_cut")

    running = notify(FakeContext(own_settings, dies()))
    result = next(running)
    assert (result.severity, result.digest[-1]) == (
        "ERROR",
        "stream_cut: the input ended after line 1 without a summary",
    )
    with pytest.raises(SluiceError, match="without a summary"):
        next(running)


def test_who_reads_the_digest_on_a_terminal_is_not_told_it_again_by_the_log(
    own_settings: Config, tmp_path: Path
) -> None:
    lines = tmp_path / "lines"
    end = Summary(command="run-dbt-batch", exit_code=1)
    lines.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in (PLAN, a_result(BATCHES[0], "failed"), end)))
    typed = ["bash", "-c", f"'{Path(__file__).resolve().parents[2]}/bin/notify' <'{lines}'"]
    on_terminal = [line for line in watched(typed, os.environ).left if "FULL REFRESH OF SHOP (DEV)" in line]
    assert on_terminal == ["FULL REFRESH OF SHOP (DEV): ERROR, exit 1"]
    in_a_mail = subprocess.run(typed, capture_output=True, text=True).stderr
    assert "notify: FULL REFRESH OF SHOP (DEV): ERROR, exit 1" in in_a_mail
