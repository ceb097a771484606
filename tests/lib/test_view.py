"""What a terminal shows: every record, whatever is in it, and nothing that could steer the terminal."""

import os
import re

import msgspec
import pytest
from builders import ORDERS, a_batch, a_plan, a_result, months_of, records_of
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.records import TYPES, Error, PlannedModel, Record, Summary, SyncState
from sluice.view import Screen

EVIL = "\x1b[2J\x1b]0;title\x07 [bold]not bold[/] [/] \x9b31m \r gone"


def shown(*records: Record, copied: tuple[bytes, ...] = (), all_of_it: bool = False) -> str:
    read_end, write_end = os.pipe()
    screen = Screen(write_end)
    screen.shows_all = all_of_it
    for record in records:
        screen.write(record)
    for line in copied:
        screen.copy(line)
    screen.flush()
    screen._console.file.close()
    os.close(write_end)
    with open(read_end, "rb") as seen:
        return seen.read().decode()


def test_a_plan_is_read_as_a_person_reads_it() -> None:
    plan, batches = a_plan([*months_of(months=2, stage="usdc"), a_batch("model.shop.other", full_refresh=True)])
    plan.models[0].stages = ["legacy", "usdc"]
    text = shown(plan, *batches, Summary(command="plan-batches", counts={}, duration_s=0.25))
    assert "full refresh of shop on dev, to 2024-12-31: 3 batches" in text
    assert re.search(r"orders +replace +legacy, usdc +2", text)
    assert text.splitlines()[4:] == [
        "orders",
        "  [1/3] 2024-01  usdc  --full-refresh",
        "  [2/3] 2024-02  usdc",
        "other",
        "  [3/3] everything  --full-refresh",
        "plan-batches: done   0.2 s   exit 0",
    ]


def test_a_resumed_plan_says_what_is_left() -> None:
    assert "1 are done, 2 to go" in shown(a_plan(pending=2)[0])


def test_many_stages_are_counted() -> None:
    plan = a_plan()[0]
    plan.models[0].stages = [f"s{n}" for n in range(40)]
    assert "s0, s1, s2, s3, s4, s5 and 34 more" in shown(plan)


def test_a_result_is_a_line_and_its_error() -> None:
    batch = a_plan()[1][1]
    assert shown(a_result(batch, duration_s=1.234, recovered=True)) == (
        "[2/3] ok        orders  2024-02  1.23 s  (rows were there already)\n"
    )
    assert shown(a_result(batch, "failed", error="no such column")) == (
        "[2/3] failed    orders  2024-02\n    no such column\n"
    )


def test_of_what_others_do_for_a_command_all_is_shown() -> None:
    line = msgspec.json.encode(a_result(a_plan()[1][1])) + b"\n"
    assert (shown(copied=(line,)), shown(copied=(line,), all_of_it=True)) == ("", "[2/3] ok        orders  2024-02\n")


def test_of_what_passes_only_what_went_wrong_is_shown() -> None:
    batch = a_plan()[1][1]
    lines = [
        msgspec.json.encode(a_result(batch, status)) + b"\r\n" for status in ("ok", "dry_run", "failed", "skipped")
    ]
    others = (
        b'{"type":"weather"}\n',
        b'{"type":"batch_result"}\n',
        b"\xef\xbb\xbf" + lines[2],
        msgspec.json.encode(batch),
    )
    text = shown(copied=(*lines, *others))
    assert [line.split()[1] for line in text.splitlines()] == ["failed", "skipped"]


def test_how_far_a_source_is_is_a_line() -> None:
    known = SyncState(
        source="cb", sync_status="success", last_sync_ts="2026-01-01T00:00:00.000Z", last_txid="t1", sync_count=4, failed_count=1,
        updated_at="2026-01-01T02:00:00.000Z", lag_s=7200.0, received_rows=9, inserted_rows=8, updated_rows=0, rejected_rows=0,
        mean_s=1.52, saved_ratio=0.48,
    )  # fmt: skip
    assert shown(known) == (
        "success   cb  to 2026-01-01T00:00:00.000Z t1  lag 2:00:00  rows 8  runs 4, not well 1  1.5 s each"
        "  48% not fetched again  last 2026-01-01T02:00:00\n"
    )


def test_errors_stand_on_stderr_already() -> None:
    assert shown(Error(code="a_b", message="x")) == ""


@pytest.mark.parametrize("record_type", TYPES.values(), ids=TYPES)
@given(data=st.data())
@settings(max_examples=30)
def test_every_record_can_be_shown_and_none_steers_the_terminal(record_type: type[Record], data: st.DataObject) -> None:
    text = shown(data.draw(records_of(record_type, st.just(EVIL) | st.text(st.characters(exclude_categories=["Cs"])))))
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)


def test_markup_in_a_text_is_text() -> None:
    plan, batches = a_plan(project=EVIL)
    plan.models[0].stages, batches[0].stage = [EVIL], EVIL
    for record in (plan, batches[0], a_result(batches[0], "failed", error=EVIL)):
        assert "\\x1b[2J" in shown(record)
        assert "[bold]not bold[/] [/]" in shown(record)


def test_a_model_of_markup_is_a_model() -> None:
    plan = a_plan()[0]
    plan.models.append(PlannedModel(unique_id=f"{ORDERS}[/]", mode="append", batches=1, stages=[], checksum=""))
    assert "orders[/]" in shown(plan)
