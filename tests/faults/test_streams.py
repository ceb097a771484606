"""Whatever comes in on a pipe: each consumer reads it right or names the line, and never shows a traceback."""

import random
import re
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from builders import a_batch, a_plan, a_result
from faults.forks import Call, Said, run_all
from lengths import SEED, figure, many
from test_pipe import mutated

pytestmark = pytest.mark.sized

PLAN, BATCHES = a_plan([a_batch(window=None)])
RECORDS = [PLAN, *BATCHES, a_result(BATCHES[0]), a_result(BATCHES[0], "failed", error="x")]
SUMMARY = b'{"type":"summary","command":"before"}'
PROPERTIES = b'{"id":{"type":"integer"},"at":{"type":"string","format":"date-time"},"x":{"type":["number","null"]}}'
SCHEMA = (
    b'{"type":"SCHEMA","stream":"t","key_properties":["id"],"bookmark_properties":["at"],"schema":{"properties":%b}}'
    % PROPERTIES
)
STATE = b'{"type":"STATE","value":{"bookmarks":{"t":{"at":"2026-01-01T00:00:00Z"}}}}'
PROFILES = "shop: {target: dev, outputs: {dev: {type: duckdb, path: shop.duckdb, schema: main}}}"


@dataclass(frozen=True)
class Consumer:
    """A command that reads lines: how it is called, lines that it reads, lines that may stand before them, and the last one."""

    argv: list[str]
    lines: list[bytes]
    ahead: list[bytes]
    end: bytes


def of_records(*argv: str) -> Consumer:
    lines = [msgspec.json.encode(record) for record in RECORDS]
    strangers = [b'{"type":"weather","x":1.50}', b'{"type":"weather","deep":[[[{"x":"\xe2\x98\x94"}]]]}']
    return Consumer([*argv], lines, strangers, SUMMARY)


PASS_ON = {
    "run-dbt-batch": of_records("run-dbt-batch", "--dry-run"),
    "each-wave": of_records("each-wave", "run-dbt-batch --dry-run", "--dry-run"),
    "optimize-partitions": of_records("optimize-partitions", "--dry-run"),
    "canary-check": of_records("canary-check", "--dry-run"),
    "publish-tables": of_records("publish-tables", "--dry-run"),
    "notify": of_records("notify"),
}
CONSUMERS = PASS_ON | {
    "sync-cursor": Consumer(
        ["sync-cursor", "load", "shop", "--dry-run"],
        [
            b'{"type":"RECORD","stream":"t","record":{"id":1,"at":"2026-01-01T00:00:00Z","x":1.5}}',
            b'{"type":"RECORD","stream":"t","version":2,"record":{"id":2,"at":"2026-01-01T00:00:01Z","x":null}}',
            b'{"type":"ACTIVATE_VERSION","stream":"t","version":2}',
            SCHEMA,
        ],
        [SCHEMA],
        STATE,
    )
}
SAID = {0, 1, 2, 3, 65, 69, 78}  # what a consumer may say of a stream; 70 would be a bug of ours


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "dbt_project.yml").write_text("name: shop\nprofile: shop\n")
    (tmp_path / "project" / "profiles.yml").write_text(PROFILES)
    return {
        "PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "DBT_PROJECT_DIR": str(tmp_path / "project"),
        "SLUICE_STATE_DIR": str(tmp_path / "state"), "SLUICE_LOG_DIR": str(tmp_path / "logs"),
    }  # fmt: skip


def judge(given: bytes, said: Said, malformed: int | None = None) -> str:
    """'refused' or 'read'. `malformed`: the line that may be at fault."""
    about = f"{given!r}\n{said.err}"
    assert said.code in SAID, about
    assert "Traceback" not in said.err, about
    assert "bug of ours" not in said.err, about
    if said.code != 65:
        return "read"
    named = re.search(r"line (\d+)", said.err)
    assert named or "the input ended before its first line" in said.err, about
    if malformed is not None:
        assert named
        # What is wrong with a line may show only at the next: a plan is missing, or ends nowhere.
        assert int(named[1]) in (malformed, malformed + 1), about
    return "refused"


@pytest.mark.parametrize("consumer", CONSUMERS)
def test_malformed_lines(consumer: str, env: dict[str, str]) -> None:
    reader = CONSUMERS[consumer]
    dice = random.Random(f"{SEED} {consumer}")
    streams = []
    for _ in range(many(20, 1000)):
        ahead = [*dice.choices(reader.ahead, k=dice.randint(0, 3))]
        line = mutated(dice, dice.choice([*reader.lines, reader.end]))
        streams.append((len(ahead) + 1, b"\n".join([*ahead, line, reader.end]) + b"\n"))
    said = run_all([Call(reader.argv, stream) for _, stream in streams], env)
    told = [judge(stream, one, line) for (line, stream), one in zip(streams, said, strict=True)]
    assert told.count("refused") > len(told) / 2
    figure("malformed lines", consumer=consumer, lines=len(told), refused=told.count("refused"), tracebacks=0)


def generated(dice: random.Random, reader: Consumer) -> bytes:
    """Any bytes: lines that are right, wrong, cut, glued, doubled, with odd ends, or no lines at all."""
    pieces = []
    for _ in range(dice.randint(0, 6)):
        match dice.randrange(6):
            case 0:
                pieces.append(dice.choice(reader.lines))
            case 1:
                pieces.append(mutated(dice, dice.choice([*reader.lines, reader.end])))
            case 2:
                pieces.append(dice.choice(reader.ahead))
            case 3:
                pieces.append(reader.end)
            case 4:
                pieces.append(dice.randbytes(dice.randint(0, 60)))
            case 5:
                pieces.append(
                    dice.choice([b"", b"\r", b"\xef\xbb\xbf", b"null", b"[" * 5000, b'{"type":"batch"', b"\0"])
                )
    ends = [b"\n"] * 8 + [b"\r\n", b"", b"\n\n"]
    return b"".join(piece + dice.choice(ends) for piece in pieces)


@pytest.mark.parametrize("consumer", CONSUMERS)
def test_generated_streams(consumer: str, env: dict[str, str]) -> None:
    dice = random.Random(f"{SEED} {consumer} streams")
    reader = CONSUMERS[consumer]
    streams = [generated(dice, reader) for _ in range(many(20, 10_000))]
    said = run_all([Call(reader.argv, stream) for stream in streams], env, in_a_row=50)
    told = [judge(stream, one) for stream, one in zip(streams, said, strict=True)]
    figure("generated streams", consumer=consumer, streams=len(told), refused=told.count("refused"), tracebacks=0)


@pytest.mark.parametrize("consumer", PASS_ON)
def test_an_upstream_that_dies_at_any_byte(consumer: str, env: dict[str, str]) -> None:
    """A stream of three lines, cut anywhere: exit 65, and what was whole is passed on."""
    reader = CONSUMERS[consumer]
    whole = b"\n".join([*reader.ahead, reader.end]) + b"\n"
    cuts = range(0, len(whole), many(23, 1))
    said = run_all([Call(reader.argv, whole[:cut]) for cut in cuts], env)
    for cut, one in zip(cuts, said, strict=True):
        assert one.code == 65, (cut, one.err)
        assert judge(whole[:cut], one) == "refused"
        complete = whole[:cut].rpartition(b"\n")[0]
        assert one.out.startswith(complete + b"\n" if complete else b"")
    figure("streams cut at a byte", consumer=consumer, cuts=len(said), detected=len(said))


def test_a_tap_that_dies_at_any_byte(env: dict[str, str]) -> None:
    """65 inside a line. Between two lines Singer says nothing of an end: records that no STATE covers are partial (1)."""
    reader = CONSUMERS["sync-cursor"]
    whole = b"\n".join([SCHEMA, reader.lines[0], STATE]) + b"\n"
    cuts = range(0, len(whole), many(23, 1))
    said = run_all([Call(reader.argv, whole[:cut]) for cut in cuts], env)
    for cut, one in zip(cuts, said, strict=True):
        is_whole_line = whole[:cut].endswith(b"\n")
        has_uncovered = whole[:cut].count(b"\n") == 2
        assert one.code == (int(has_uncovered) if is_whole_line else 1 if cut == 0 else 65), (cut, one.err)
        assert b'"STATE"' not in one.out
    figure("streams cut at a byte", consumer="sync-cursor", cuts=len(said), detected=len(said))
