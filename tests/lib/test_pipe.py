"""The stream: what comes in is judged line by line, what passes is not touched."""

import contextlib
import json
import os
import random
import signal
import tempfile
import threading
from collections.abc import Iterable

import msgspec
import pytest
from builders import a_plan, a_result
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sluice import signals
from sluice.errors import BAD_STREAM, SluiceError
from sluice.pipe import MAX_LINE_BYTES, StreamClosed, Writer, decode, read_lines, read_records, sniff
from sluice.records import TYPES, Record, Summary
from sluice.signals import Interrupted

PLAN, BATCHES = a_plan()
SUMMARY = b'{"type":"summary","v":1,"run_id":"r","at":"","command":"x"}\n'
BATCH = msgspec.json.encode(BATCHES[0]) + b"\n"


def ran(
    data: bytes, reads: Iterable[str] = (), sees: Iterable[str] = ()
) -> tuple[list[tuple[int, Record]], bytes, SluiceError | None]:
    """What read_records yields for `data`, what it copies, and what it raises."""
    records, problem = [], None
    with tempfile.TemporaryFile() as given_in, tempfile.TemporaryFile() as copied:
        given_in.write(data)
        given_in.seek(0)
        writer = Writer(copied.fileno())
        try:
            for numbered in read_records(given_in.fileno(), writer, frozenset(reads), frozenset(sees)):
                records.append(numbered)
        except SluiceError as raised:
            problem = raised
        writer.flush()
        copied.seek(0)
        return records, copied.read(), problem


def through(data: bytes, **types: Iterable[str]) -> tuple[list[tuple[int, Record]], bytes]:
    records, copied, problem = ran(data, **types)
    assert problem is None
    return records, copied


def refusal(data: bytes, reads: Iterable[str] = ("batch", "plan")) -> SluiceError:
    problem = ran(data, reads)[2]
    assert problem is not None
    assert problem.exit_code == BAD_STREAM
    return problem


def with_var(value: bytes) -> bytes:
    return BATCH.replace(b'"vars":{}', b'"vars":{"x":%s}' % value)


# -- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"", "empty"),
        (b"   ", "not JSON"),
        (b"{", "not JSON"),
        (b"not json", "not JSON"),
        (BATCH[:-2], "not JSON"),
        (BATCH[:-1] * 2, "trailing"),
        (b"[]", "Expected `object`"),
        (b"1", "Expected `object`"),
        (b"{}", "missing required field `type`"),
        (b'{"type":null}', "$.type"),
        (b'{"type":"batch"}', "missing required field"),
        (b'{"type":"batch","v":"1"}', "$.v"),
        (b'{"type":"unheard_of","x":"\xff"}', "not UTF-8"),
        (b'{"type":"unheard_of","x":NaN}', "not JSON"),
        (b'{"type":"unheard_of","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (BATCH[:-1].replace(b'"v":1', b'"v":2'), "batch has version 2, this command speaks up to 1: upgrade"),
        (BATCH[:-1].replace(b'"seq":1', b'"seq":"1"'), "$.seq"),
        (BATCH[:-1].replace(b'"seq":1', b'"seq":1,"seq":1'), "duplicate key 'seq'"),
        (BATCH[:-1].replace(b'"type":', b'"type":"x","type":'), "duplicate key 'type'"),
        (with_var(b'1,"x":2')[:-1], "duplicate key 'x'"),
        (with_var(b"NaN")[:-1], "not JSON"),
        (with_var(b"Infinity")[:-1], "not JSON"),
        (with_var(b"1e999")[:-1], "out of range"),
        (with_var(b"-1e999")[:-1], "out of range"),
        (BATCH[:-2] + b',"extra":1e999}', "out of range"),
        (with_var(b"1" * 5000)[:-1], "4300 digits"),
        (with_var(b'"\\u0000"')[:-1], "NUL"),
        (with_var(b'"\x00"')[:-1], "not JSON"),
        (with_var(b'"\\ud800"')[:-1], "not JSON"),
        (with_var(b'"\\udc00"')[:-1], "not JSON"),
        (with_var(b'"\xed\xa0\x80"')[:-1], "not UTF-8"),
        (with_var(b'{"y":1}')[:-1], "$.vars"),
        (with_var(b"[[1]]")[:-1], "$.vars"),
        (BATCH[:-2] + b',"extra":' + b"[" * 40 + b"]" * 40 + b"}", "nested too deeply"),
        (b"\xef\xbb\xbf" + BATCH[:-1], "not JSON"),  # a BOM stands at the beginning of the stream only
    ],
)
def test_a_bad_line_is_refused_with_its_number(line: bytes, says: str) -> None:
    problem = refusal(SUMMARY + SUMMARY + line + b"\n" + SUMMARY)
    assert problem.line == 3
    assert problem.message.startswith("line 3: ")
    assert says in problem.message


def test_nesting_of_any_depth_is_refused_and_breaks_nothing() -> None:
    for depth in [*range(33, 60), *range(60, 1200, 7)]:
        line = BATCH[:-2] + b',"extra":' + b"[" * depth + b"]" * depth + b"}"
        assert "nested too deeply" in refusal(line + b"\n").message
        line = BATCH[:-2] + b',"extra":' + b'{"x":' * depth + b"1" + b"}" * depth + b"}"
        assert "nested too deeply" in refusal(line + b"\n").message


@pytest.mark.parametrize("mark", ["{{", "{%", "{#"])
def test_jinja_is_refused_wherever_it_would_instruct_dbt(mark: str) -> None:
    text = json.dumps(f"a {mark} b").encode()
    assert "Jinja" in refusal(with_var(text) + SUMMARY).message
    assert "Jinja" in refusal(with_var(b"[%s]" % text) + SUMMARY).message
    assert "Jinja" in refusal(BATCH.replace(b'"vars":{}', b'"vars":{%s:1}' % text) + SUMMARY).message
    assert "Jinja" in refusal(BATCH.replace(b'"stage":"default"', b'"stage":%s' % text) + SUMMARY).message
    assert "Jinja" in refusal(msgspec.json.encode(PLAN).replace(b'"shop"', text) + b"\n" + SUMMARY).message


def test_jinja_in_what_dbt_said_is_only_text() -> None:
    result = msgspec.json.encode(a_result(BATCHES[0], "failed", error="unknown macro {{ x }}")) + b"\n"
    ((_, record), _), _ = through(result + SUMMARY, sees=["batch_result"])
    assert record.error == "unknown macro {{ x }}"


def test_a_line_over_one_mebibyte_is_refused() -> None:
    fits = b'{"type":"unheard_of","x":"%s"}' % (b"x" * (MAX_LINE_BYTES - 29))
    assert len(fits) == MAX_LINE_BYTES - 1
    _, copied = through(fits + b" \n" + SUMMARY)
    assert copied == fits + b" \n" + SUMMARY
    for rest in (b"  \n" + SUMMARY, b"  ", b"  " + b"x" * 200_000):
        problem = refusal(SUMMARY + fits + rest)
        assert (problem.line, problem.code) == (2, "stream_bad_line")
        assert "longer than 1048576 bytes" in problem.message


def test_an_endless_line_is_refused_before_it_has_been_read() -> None:
    read_end, write_end = os.pipe()

    def pour() -> None:
        try:
            while True:
                os.write(write_end, b"x" * 65_536)
        except BrokenPipeError:
            pass

    pouring = threading.Thread(target=pour)
    pouring.start()
    with pytest.raises(SluiceError, match="line 1: longer"):
        list(read_lines(read_end, lambda: None))
    os.close(read_end)
    pouring.join(10)
    os.close(write_end)


def mutated(dice: random.Random, line: bytes) -> bytes:
    """`line` with one to three bytes, or a stretch of them, made wrong."""
    changed = bytearray(line)
    for _ in range(dice.randint(1, 3)):
        at = dice.randrange(len(changed))
        match dice.randrange(5):
            case 0:
                changed[at] = dice.randrange(256)
            case 1:
                del changed[at : at + dice.randint(1, 20)]
            case 2:
                changed[at:at] = dice.choice(
                    [b"NaN", b"1e999", b"{", b"[", b'"', b"\\u0000", b"\\ud800", b"\0", b"\xff", b"{{"]
                )
            case 3:
                changed[at:at] = changed[at : at + dice.randint(1, 40)]
            case 4:
                changed[at : at + 1] = b""
        if not changed:
            break
    return bytes(changed).replace(b"\n", b" ")


def test_a_thousand_malformed_lines_are_read_right_or_refused_by_number() -> None:
    dice = random.Random(7)
    refused_lines = 0
    for _ in range(1000):
        line = mutated(dice, dice.choice([BATCH, SUMMARY, msgspec.json.encode(PLAN)]).rstrip(b"\n"))
        records, copied, problem = ran(SUMMARY + line + b"\n" + SUMMARY, reads=["batch", "plan"])
        if problem is not None:
            assert (problem.exit_code, problem.line) == (BAD_STREAM, 2), line
            assert problem.message.startswith("line 2: ")
            refused_lines += 1
        else:
            assert line in copied or len(records) == 3
    assert refused_lines > 600


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
@example(b"\xef\xbb\xbf")
@example(b"\n")
@example(b"\r\n")
@example(b"[" * 100_000 + b"\n")
@settings(max_examples=500)
def test_random_bytes_are_refused_and_nothing_else_is_raised(data: bytes) -> None:
    problem = refusal(data)
    assert problem.line == 1 or "line 1:" not in problem.message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
field_names = st.sampled_from(["v", "run_id", "seq", "vars", "window", "expect", "models", "request", "to"])


@given(st.sampled_from(sorted(TYPES)), st.dictionaries(field_names, json_values))
@settings(max_examples=200)
def test_random_records_are_read_or_refused_and_nothing_else_is_raised(name: str, fields: dict) -> None:
    line = json.dumps({"type": name, **fields}).encode()
    problem = ran(line + b"\n" + SUMMARY, reads=TYPES)[2]
    assert problem is None or (problem.exit_code, problem.line) == (BAD_STREAM, 1)


# -- what passes --------------------------------------------------------------------------------------------


def test_strangers_pass_byte_for_byte_and_in_order_with_own_records_between() -> None:
    strangers = [
        b'{"type":"weather", "x" : 1.50, "x":2}\r\n',
        b'{"type":"weather","v":99,"big":%s}\n' % (b"9" * 5000),
        b'{"type":"weather","jinja":"{{ x }}","huge":1e999}\n',
        '{"type":"weather","x":"☔\\u00e9"}\n'.encode(),
        b'  {"v":1,"type":"weather"}  \n',
    ]
    with tempfile.TemporaryFile() as given_in, tempfile.TemporaryFile() as out:
        given_in.write(b"".join(line + BATCH for line in strangers) + SUMMARY)
        given_in.seek(0)
        writer = Writer(out.fileno())
        own = []
        for number, record in read_records(given_in.fileno(), writer, frozenset({"batch"})):
            if not isinstance(record, Summary):
                own.append(Summary(command=f"after line {number}"))
                writer.write(own[-1])
        writer.flush()
        out.seek(0)
        written = out.read().splitlines(keepends=True)
    assert written == [
        line for pair in zip(strangers, own, strict=True) for line in (pair[0], msgspec.json.encode(pair[1]) + b"\n")
    ] + [SUMMARY]


@given(
    st.lists(
        st.dictionaries(st.text().filter(lambda key: key not in ("type", "v")), json_values, max_size=4), max_size=5
    )
)
def test_any_stranger_passes_unchanged(bodies: list[dict]) -> None:
    lines = b"".join(json.dumps({"type": "weather", **body}, allow_nan=True).encode() + b"\n" for body in bodies)
    if b"NaN" in lines or b"Infinity" in lines or b"\\ud" in lines:
        return
    assert through(lines + SUMMARY)[1] == lines + SUMMARY


def test_what_is_seen_is_copied_and_what_is_read_is_not() -> None:
    records, copied = through(BATCH + SUMMARY, reads=["batch"])
    assert [type(record).__name__ for _, record in records] == ["Batch", "Summary"]
    assert copied == SUMMARY
    assert through(BATCH + SUMMARY, sees=["batch"]) == (records, BATCH + SUMMARY)


def test_crlf_and_a_bom_are_accepted() -> None:
    ((number, record), _), copied = through(
        b"\xef\xbb\xbf" + BATCH[:-1] + b"\r\n" + SUMMARY[:-1] + b"\r\n", sees=["batch"]
    )
    assert (number, record) == (1, BATCHES[0])
    assert copied == b"\xef\xbb\xbf" + BATCH[:-1] + b"\r\n" + SUMMARY[:-1] + b"\r\n"


def test_unknown_fields_of_a_known_type_are_ignored_and_kept() -> None:
    line = BATCH[:-2] + b',"colour":"red"}\n'
    ((_, record), _), copied = through(line + SUMMARY, sees=["batch"])
    assert record == BATCHES[0]
    assert copied == line + SUMMARY


@pytest.mark.parametrize(
    "value", ["1", "-9223372036854775808", "123456789012345678901234567890", "1.0", "1e308", '"😀"', "[1,null]"]
)
def test_vars_keep_value_and_type(value: str) -> None:
    record = decode(with_var(value.encode())[:-1])
    expected = json.loads(value)
    assert record.vars == {"x": expected}
    assert type(record.vars["x"]) is type(expected)


def test_the_type_of_a_line_is_sniffed_wherever_it_stands() -> None:
    assert sniff(b'{"a":{"type":"no"},"type":"yes"}') == "yes"


# -- how a stream ends ----------------------------------------------------------------------------------------


def test_a_stream_cut_at_any_byte_is_noticed_and_no_half_line_is_parsed() -> None:
    lines = [msgspec.json.encode(PLAN) + b"\n", BATCH, SUMMARY]
    whole = b"".join(lines)
    ends = [len(b"".join(lines[:n])) for n in range(len(lines) + 1)]
    for cut in range(len(whole)):
        _, copied, problem = ran(whole[:cut], sees=TYPES)
        complete = max(n for n, end in enumerate(ends) if end <= cut)
        assert problem is not None
        assert (problem.exit_code, problem.code) == (BAD_STREAM, "stream_cut")
        assert copied == b"".join(lines[:complete])
        if cut in ends:
            assert ("before its first line" if cut == 0 else f"after line {complete}") in problem.message
        else:
            assert problem.line == complete + 1
            assert "ended inside this line" in problem.message
    assert len(through(whole, reads=TYPES)[0]) == 3


def test_what_comes_after_a_summary_needs_a_summary_of_its_own() -> None:
    assert "without a summary" in refusal(SUMMARY + BATCH).message
    assert len(through(SUMMARY + BATCH + SUMMARY, reads=["batch"])[0]) == 3


@given(st.lists(st.integers(1, 50), min_size=1), st.data())
@settings(max_examples=50)
def test_how_the_bytes_arrive_makes_no_difference(sizes: list[int], data: st.DataObject) -> None:
    lines = [b"x" * size + b"\n" for size in sizes]
    whole = b"".join(lines)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)), max_size=6)))
    read_end, write_end = os.pipe()
    reading = read_lines(read_end, lambda: None)
    os.set_blocking(write_end, False)
    seen = []
    for left, right in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        os.write(write_end, whole[left:right])
        complete = whole[:right].count(b"\n")
        while len(seen) < complete:
            seen.append(next(reading))
    os.close(write_end)
    assert list(reading) == []
    os.close(read_end)
    assert seen == list(enumerate(lines, 1))


# -- the writer -------------------------------------------------------------------------------------------------


def test_own_records_leave_at_once_and_copies_before_the_next_wait() -> None:
    in_read, in_write = os.pipe()
    out_read, out_write = os.pipe()
    os.set_blocking(out_read, False)
    writer = Writer(out_write)
    reading = read_records(in_read, writer, frozenset({"batch"}))
    stranger = b'{"type":"weather"}\n'
    os.write(in_write, stranger + BATCH)
    next(reading)
    with pytest.raises(BlockingIOError):
        os.read(out_read, 100)
    writer.write(Summary(command="x"))
    assert os.read(out_read, 1000).startswith(stranger + b'{"type":"summary"')

    os.write(in_write, stranger)
    waiting = threading.Thread(target=lambda: list(reading))
    waiting.start()
    os.set_blocking(out_read, True)
    assert os.read(out_read, 100) == stranger  # though the input stays open
    os.write(in_write, SUMMARY)
    os.close(in_write)
    waiting.join(10)
    for fd in (in_read, out_read, out_write):
        os.close(fd)


def test_a_reader_that_left_is_told_as_such() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    writer = Writer(write_end)
    writer.flush()  # nothing to write, nothing to notice
    with pytest.raises(StreamClosed):
        writer.write(Summary(command="x"))
    os.close(write_end)


def test_a_full_disk_is_told_by_the_system() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(OSError, match="No space left"):
        Writer(full).write(Summary(command="x"))
    os.close(full)


def test_a_reader_slower_than_the_writer_gets_everything() -> None:
    read_end, write_end = os.pipe()
    lines = [b"x" * 50_000 + b"\n"] * 20
    got = bytearray()

    def drain() -> None:
        while chunk := os.read(read_end, 4000):
            got.extend(chunk)

    draining = threading.Thread(target=drain)
    draining.start()
    writer = Writer(write_end)
    for line in lines:
        writer.copy(line)
    writer.flush()
    os.close(write_end)
    draining.join(10)
    os.close(read_end)
    assert bytes(got) == b"".join(lines)


def test_a_stop_signal_ends_the_wait_for_a_reader_and_a_later_flush_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    read_end, write_end = os.pipe()
    writer = Writer(write_end)
    lines = [b"x" * 50_000 + b"\n"] * 3
    for line in lines:
        writer.copy(line)
    monkeypatch.setattr(signals, "_pending", signal.SIGTERM)
    got = bytearray()
    for _ in lines:
        with contextlib.suppress(Interrupted):
            writer.flush()
        got += os.read(read_end, 1 << 20)
    assert bytes(got) == b"".join(lines)
    os.close(read_end)
    os.close(write_end)
