"""Loading behaves alike on every dialect: what the rows, the history, the rejects and the cursor are after any input."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from taps import AMOUNT, TRADE, Source, opened, record, schema, state, trade

from sluice.errors import SluiceError
from sluice.profiles import Credentials
from sluice.sync import load as loading

pytest_plugins = ["servers"]


@pytest.fixture
def source(target: Credentials, tmp_path: Path) -> Iterator[Source]:
    """A source on each dialect in turn."""
    with opened(target, tmp_path) as source:
        yield source


def counts(result) -> tuple:
    return result.received_rows, result.inserted_rows, result.updated_rows, result.unchanged_rows, result.rejected_rows


def test_rows_are_upserted_by_their_key_and_unchanged_ones_are_left_alone(source: Source) -> None:
    (first,) = source.load(schema(), trade("1", amount="1.5"), trade("2", amount="2.5"), state())
    assert counts(first) == (2, 2, 0, 0, 0) and first.status == "ok"
    before = dict(source.rows("txid, _synced_at"))
    (second,) = source.load(schema(), trade("1", amount="1.50"), trade("2", amount="7"), trade("3"), state())
    assert counts(second) == (3, 1, 1, 1, 0)
    assert source.rows("txid, amount") == [("1", Decimal("1.5")), ("2", Decimal("7")), ("3", None)]
    after = dict(source.rows("txid, _synced_at"))
    assert after["1"] == before["1"] and after["2"] > before["2"]


def test_the_last_record_of_a_key_in_a_batch_wins(source: Source) -> None:
    (result,) = source.load(schema(), *(trade("1", n=n) for n in range(50)), trade("2", n=1), trade("1", n=99), state())
    assert source.rows("txid, n") == [("1", 99), ("2", 1)]
    assert counts(result) == (52, 2, 0, 50, 0)


def test_keys_that_are_written_differently_are_one_when_the_database_says_so(source: Source) -> None:
    properties = {
        "at": {"type": "string", "format": "date-time"},
        "amount": {**AMOUNT, "type": "string"},
        "n": {"type": "integer"},
    }
    asked = schema(properties, keys=["at", "amount"])
    source.load(
        asked,
        record(at="2026-01-01T00:00:00Z", amount="1.0", n=1),
        record(at="2026-01-01T01:00:00+01:00", amount="1.00", n=2),
        record(at="2026-01-01 00:00:00", amount="1", n=3),
        state(),
    )
    assert source.rows("n") == [(3,)]


def test_null_and_missing_keys_are_rejected_with_their_reason_and_line(source: Source) -> None:
    (result,) = source.load(schema(), trade("1"), record(source="cb", txid=None), record(source="cb"), state())
    assert counts(result) == (3, 1, 0, 0, 2) and result.status == "failed" and result.sync_status == "partial"
    assert source.rows("line, reason", "sync_reject") == [(3, "txid is null"), (4, "txid is missing")]
    assert json.loads(source.rows("record", "sync_reject")[0][0])["type"] == "RECORD"


def test_what_breaks_its_schema_is_rejected_and_what_comes_after_is_loaded(source: Source) -> None:
    (result,) = source.load(
        schema(), trade("1", n="7"), trade("2", raw=[1]), trade("3", n=True), trade("4", n=4), state()
    )
    assert counts(result) == (4, 1, 0, 0, 3)
    reasons = [reason for _, reason in source.rows("line, reason", "sync_reject")]
    assert reasons == ['n is "7", no integer', "raw is [1], no object", "n is true, no integer"]
    assert source.position.state is not None  # they are kept: no need to fetch them again


def test_decimals_are_exact_however_they_are_written(source: Source) -> None:
    properties = TRADE | {"price": {"type": ["null", "number"], "multipleOf": 1e-18}}
    exact = ["123456789012345678.123456789012345678", "0.000000000000000001", "-1e-18", "12E+3", "0.1"]
    lines = [json.dumps(trade(str(i), amount=text)) for i, text in enumerate(exact)]
    lines += [
        line.replace('"amount": "', '"price": ').replace('"}}', "}}").replace('"txid": "', '"txid": "p')
        for line in lines
    ]
    source.load(schema(properties), *lines, state())
    wanted = [Decimal(text) for text in exact]
    assert [amount for _, amount in source.rows("txid, amount") if amount is not None] == wanted
    assert [price for _, price in source.rows("txid, price") if price is not None] == wanted


def test_nested_values_are_json_and_their_numbers_exact(source: Source) -> None:
    line = '{"type":"RECORD","stream":"trades","record":{"source":"cb","txid":"1","raw":{"a":0.123456789012345678,"b":["\\u00e4",{"c":null}]}}}'
    source.load(schema(), line, trade("2", raw={"a": 1.5}), trade("3", raw=None), state())
    found = {txid: raw if isinstance(raw, dict | None) else json.loads(raw) for txid, raw in source.rows("txid, raw")}
    assert found["1"]["b"] == ["ä", {"c": None}] and found["2"] == {"a": 1.5} and found["3"] is None
    cast = {"duckdb": "CAST(raw AS VARCHAR)", "postgres": "raw::text", "clickhouse": "raw"}[source.target.dialect]
    assert "0.123456789012345678" in source.rows(f"txid, {cast}")[0][1]


def test_what_its_column_cannot_hold_goes_to_a_typed_sibling(source: Source) -> None:
    huge = "1" * 60
    (result,) = source.load(
        schema(),
        trade("1", n=2**63, amount=huge),
        trade("2", at="0000-00-00", n=1),
        trade("3", amount="n/a", n=2),
        state(),
    )
    assert result.rejected_rows == 0
    found = source.rows("txid, n, n__decimal, amount, amount__text, at__text")
    assert found[0] == ("1", None, Decimal(2**63), None, huge, None)
    assert found[1][:3] == ("2", 1, None) and found[1][-1] == "0000-00-00"
    assert found[2] == ("3", 2, None, None, "n/a", None)
    source.load(schema(), trade("1", n=5, amount="1"), state())
    assert source.rows("txid, n, n__decimal, amount, amount__text")[0] == ("1", 5, None, Decimal(1), None)


def test_a_new_type_in_the_schema_goes_to_a_sibling_and_the_old_value_does_not_stay(source: Source) -> None:
    source.load(schema(), trade("1", n=1), trade("2", n=2), state())
    source.load(schema(TRADE | {"n": {"type": ["null", "string"]}}), trade("1", n="one"), state())
    assert source.rows("txid, n, n__text") == [("1", None, "one"), ("2", 2, None)]


def test_new_columns_are_added_from_a_schema_and_from_a_record(source: Source) -> None:
    source.load(schema(), trade("1"), state())
    (result,) = source.load(
        schema(TRADE | {"fee": AMOUNT}), trade("2", fee="0.1"), trade("3", unheard={"of": 1}), trade("4"), state()
    )
    assert result.rejected_rows == 0
    rows = source.rows("txid, fee, unheard")
    assert [row[:2] for row in rows] == [("1", None), ("2", Decimal("0.1")), ("3", None), ("4", None)]
    assert [bool(row[2]) for row in rows] == [False, False, True, False]


def test_a_field_that_the_schema_forbids_is_a_reject(source: Source) -> None:
    (result,) = source.load(schema(additionalProperties=False), trade("1", extra=1), trade("2"), state())
    assert counts(result) == (2, 1, 0, 0, 1)


def test_a_line_that_the_database_cannot_read_takes_no_other_with_it(source: Source) -> None:
    """These are good at first sight: only the database, or a thorough look, knows better."""
    (result,) = source.load(
        schema(), trade("1", amount="1e-30"), trade("2", amount="0.1234567890123456789"), trade("3", n=3), state()
    )
    assert (result.received_rows, result.inserted_rows, result.rejected_rows) == (3, 3, 0)
    assert source.rows("txid, amount, amount__text, n") == [
        ("1", None, "1e-30", None), ("2", None, "0.1234567890123456789", None), ("3", None, None, 3),
    ]  # fmt: skip


def test_hostile_texts_and_names_arrive_as_they_are(source: Source) -> None:
    hostile = ["'; drop table trades; --", '"', "\\", "\\n", "\t", "\r\n", "\u2028", "🜂", "$1 {x:String} %s", "\\N", ""]
    name = "we\"ird'; --"
    source.load(
        schema(TRADE | {name: {"type": ["null", "string"]}}),
        *(trade(f"{i:02}", **{name: text}, raw={"t": text}) for i, text in enumerate(hostile)),
        state(),
    )
    assert [text for _, text in source.rows(f"txid, {source.target.warehouse.quote(name)}")] == hostile
    found = [raw if isinstance(raw, dict) else json.loads(raw) for _, raw in source.rows("txid, raw")]
    assert [raw["t"] for raw in found] == hostile


def test_the_cursor_is_the_newest_time_and_key_that_a_state_covers(source: Source) -> None:
    (result,) = source.load(
        schema(), trade("1", "2026-01-03T00:00:00Z"), trade("2", "2026-01-02T00:00:00Z"), state("2026-01-03T00:00:00Z"),
        trade("3", "2026-01-04T00:00:00Z"),
    )  # fmt: skip
    assert result.sync_status == "partial" and "after the last STATE" in (result.error or "")
    assert source.position.bookmarks == {"trades": (datetime(2026, 1, 3, tzinfo=UTC), "cb/1")}
    assert len(source.rows("txid")) == 3  # rows may be ahead of the cursor
    assert source.told == [{"bookmarks": {"trades": {"at": "2026-01-03T00:00:00Z"}}}]
    (result,) = source.load(schema(), trade("3", "2026-01-04T00:00:00Z"), state("2026-01-04T00:00:00Z"))
    assert (
        result.cursor_before == "2026-01-03T00:00:00.000Z cb/1"
        and result.cursor_after == "2026-01-04T00:00:00.000Z cb/3"
    )


def test_an_empty_state_undoes_nothing(source: Source) -> None:
    source.load(schema(), trade("1"), state())
    source.load({"type": "STATE", "value": {}}, {"type": "STATE", "value": None}, schema())
    assert json.loads(source.position.state or "") == state()["value"]


def test_a_source_whose_newest_record_is_older_than_its_cursor_is_an_alarm_and_the_cursor_stays(source: Source) -> None:
    source.load(schema(), trade("1", "2026-02-01T00:00:00Z"), state("2026-02-01T00:00:00Z"))
    run = source.begin()
    source.take(run, [schema(), trade("2", "2026-01-01T00:00:00Z"), state("2026-01-01T00:00:00Z")])
    (result,) = run.end()
    assert run.is_behind and result.sync_status == "failed" and "restored" in (result.error or "")
    assert len(source.rows("txid")) == 2 and source.told == [state("2026-02-01T00:00:00Z")["value"]]
    assert json.loads(source.position.state or "") == state("2026-02-01T00:00:00Z")["value"]


def test_a_backfill_brings_rows_and_leaves_the_cursor(source: Source) -> None:
    source.load(schema(), trade("1", "2026-02-01T00:00:00Z"), state("2026-02-01T00:00:00Z"))
    before = source.position
    (result,) = source.load(
        schema(), trade("2", "2025-01-01T00:00:00Z"), state("2025-01-01T00:00:00Z"), is_backfill=True
    )
    assert result.status == "ok" and len(source.rows("txid")) == 2 and source.position == before


def test_history_keeps_what_was_replaced(source: Source) -> None:
    for n in (1, 2, 2, 3):
        source.load(schema(), trade("1", n=n), trade("2", n=0), state(), has_history=True)
    assert source.rows("txid, n") == [("1", 3), ("2", 0)]
    assert source.rows("txid, n", "trades_history") == [("1", 1), ("1", 2)]


def test_an_activated_version_leaves_only_its_own_rows(source: Source) -> None:
    activate = {"type": "ACTIVATE_VERSION", "stream": "trades", "version": 2}
    source.load(schema(), trade("1") | {"version": 1}, trade("2") | {"version": 1}, state())
    source.load(schema(), trade("2") | {"version": 2}, trade("3") | {"version": 2}, activate, state())
    assert source.rows("txid") == [("2",), ("3",)]


def test_streams_without_a_key_are_appended(source: Source) -> None:
    source.has_key = False
    for _ in range(2):
        (result,) = source.load(schema(keys=[]), trade("1"), trade("1"), state())
        assert counts(result) == (2, 2, 0, 0, 0)
    assert len(source.rows("txid")) == 4


def test_streams_that_take_turns_each_get_their_rows(source: Source) -> None:
    other = schema({"id": {"type": "integer"}, "t": {"type": "string"}}, stream="Other-Stream", keys=["id"])
    turns = [m for i in range(20) for m in (trade(f"{i:02}", n=i), record("Other-Stream", id=i, t=str(i)))]
    source.load(schema(), other, *turns, state())
    assert len(source.rows("txid")) == 20
    assert len(source.rows("id", "other_stream")) == 20


def test_commits_come_while_lines_come_and_memory_is_bounded(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "MOST_LINES", 10)
    (result,) = source.load(schema(), *(trade(f"{i % 35:02}", n=i) for i in range(100)), state())
    assert result.received_rows == 100 and len(source.rows("txid")) == 35
    assert sorted(n for (n,) in source.rows("n")) == list(range(65, 100))
    commits = source.target.warehouse.value(
        f"SELECT count(*) FROM {source.target.place('sync_event')} WHERE event = 'commit'"
    )
    assert commits == 11  # the last with the STATE alone


def test_too_many_rejects_stop_the_load_before_anything_of_the_batch_is_written(source: Source) -> None:
    with pytest.raises(SluiceError, match="more than 1 records") as stopped:
        source.load(schema(), trade("1"), trade("2", n="x"), trade("3", n="x"), state(), most_rejects=1)
    assert stopped.value.exit_code == 1 and source.rows("txid") == []


def test_no_singer_is_refused_with_its_line(source: Source) -> None:
    for line, word in (
        ('{"type":"RECORD"}', "not a RECORD"),
        ("nonsense", "not a Singer message"),
        (record("who"), "no SCHEMA"),
    ):
        with pytest.raises(SluiceError, match=word) as refusal:
            source.load(schema(), line)
        assert refusal.value.exit_code == 65 and refusal.value.message.startswith("line 2: ")


def test_sync_log_is_one_row_a_source_with_its_state(source: Source) -> None:
    source.load(schema(), trade("1"), state(), run="one")
    Source(source.target, "other").load(schema(), trade("9", "2026-05-05T00:00:00Z"), run="two")
    source.load(schema(), trade("1"), state(), run="three")
    rows = source.rows("source, sync_count, sync_status, last_txid, state", "sync_log")
    assert [row[:4] for row in rows] == [("other", 1, "partial", None), ("s", 2, "success", "cb/1")]
    assert json.loads(rows[1][4]) == state()["value"]
    source.target.commit("s", "killed", [], [], [])
    assert [row[1] for row in source.rows("source, sync_status", "sync_log")] == ["partial", "success"]


def test_rows_and_cursor_are_written_together_or_the_rows_first(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise SluiceError("the disk is full", code="test", exit_code=69)

    source.load(schema(), trade("0"), state("2025-01-01T00:00:00Z"))
    before = source.position
    with monkeypatch.context() as broken:
        broken.setattr(source.target, "_write_event", fail)
        with pytest.raises(SluiceError, match="the disk is full"):
            source.load(schema(), trade("1"), state())
    is_transactional = source.target.warehouse.is_transactional
    assert source.rows("txid") == ([("0",)] if is_transactional else [("0",), ("1",)])
    assert source.position == before and len(source.told) == 1
    (result,) = source.load(schema(), trade("1"), state())
    assert source.rows("txid") == [("0",), ("1",)] and counts(result)[1] == is_transactional


def test_a_tap_that_failed_is_told_by_who_started_it(source: Source) -> None:
    ended = {"type": "TAP_EXIT", "exit_code": 69}
    (result,) = source.load(schema(), trade("1"), state(), ended)
    assert result.sync_status == "partial" and "ended with 69" in (result.error or "") and source.told
    (result,) = source.load(ended)
    assert (result.stream, result.sync_status, result.status) == ("", "failed", "failed")
    (result,) = source.load({"type": "TAP_EXIT", "exit_code": 0})
    assert result.status == "ok"
    (result,) = source.load()
    assert result.sync_status == "failed" and "nothing at all" in (result.error or "")
