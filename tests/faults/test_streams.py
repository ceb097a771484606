"""Whatever comes in on a pipe: each consumer reads it right or names the line, and never shows a traceback."""

import random
import re
from pathlib import Path

import msgspec
import pytest
from builders import a_batch, a_plan, a_result
from faults.forks import Call, Said, run_all
from lengths import SEED, figure, many
from test_pipe import mutated

CONSUMERS = {
    "run-dbt-batch": ["--dry-run"],
    "each-wave": ["run-dbt-batch --dry-run", "--dry-run"],
    "optimize-partitions": ["--dry-run"],
    "canary-check": ["--dry-run"],
    "notify": [],
}
PLAN, BATCHES = a_plan([a_batch(window=None)])
RECORDS = [PLAN, *BATCHES, a_result(BATCHES[0]), a_result(BATCHES[0], "failed", error="x")]
LINES = [msgspec.json.encode(record) for record in RECORDS]
SUMMARY = b'{"type":"summary","command":"before"}'
STRANGERS = [b'{"type":"weather","x":1.50}', b'{"type":"weather","deep":[[[{"x":"\xe2\x98\x94"}]]]}']
SAID = {0, 1, 2, 3, 65, 69, 78}  # what a consumer may say of a stream; 70 would be a bug of ours


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "project").mkdir()
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
    dice = random.Random(f"{SEED} {consumer}")
    streams = []
    for _ in range(many(20, 1000)):
        ahead = [*dice.choices(STRANGERS, k=dice.randint(0, 3))]
        line = mutated(dice, dice.choice([*LINES, SUMMARY]))
        streams.append((len(ahead) + 1, b"\n".join([*ahead, line, SUMMARY]) + b"\n"))
    said = run_all([Call([consumer, *CONSUMERS[consumer]], stream) for _, stream in streams], env)
    told = [judge(stream, one, line) for (line, stream), one in zip(streams, said, strict=True)]
    assert told.count("refused") > len(told) / 2
    figure("malformed lines", consumer=consumer, lines=len(told), refused=told.count("refused"), tracebacks=0)


def generated(dice: random.Random) -> bytes:
    """Any bytes: lines that are right, wrong, cut, glued, doubled, with odd ends, or no lines at all."""
    pieces = []
    for _ in range(dice.randint(0, 6)):
        match dice.randrange(6):
            case 0:
                pieces.append(dice.choice(LINES))
            case 1:
                pieces.append(mutated(dice, dice.choice([*LINES, SUMMARY])))
            case 2:
                pieces.append(dice.choice(STRANGERS))
            case 3:
                pieces.append(SUMMARY)
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
    streams = [generated(dice) for _ in range(many(20, 10_000))]
    said = run_all([Call([consumer, *CONSUMERS[consumer]], stream) for stream in streams], env)
    told = [judge(stream, one) for stream, one in zip(streams, said, strict=True)]
    figure("generated streams", consumer=consumer, streams=len(told), refused=told.count("refused"), tracebacks=0)


@pytest.mark.parametrize("consumer", CONSUMERS)
def test_an_upstream_that_dies_at_any_byte(consumer: str, env: dict[str, str]) -> None:
    """A stream of three lines, cut anywhere: exit 65, and what was whole is passed on."""
    whole = b"\n".join([STRANGERS[0], STRANGERS[1], SUMMARY]) + b"\n"
    cuts = range(0, len(whole), many(23, 1))
    said = run_all([Call([consumer, *CONSUMERS[consumer]], whole[:cut]) for cut in cuts], env)
    for cut, one in zip(cuts, said, strict=True):
        assert one.code == 65, (cut, one.err)
        assert judge(whole[:cut], one) == "refused"
        complete = whole[:cut].rpartition(b"\n")[0]
        assert one.out.startswith(complete + b"\n" if complete else b"")
    figure("streams cut at a byte", consumer=consumer, cuts=len(said), detected=len(said))
