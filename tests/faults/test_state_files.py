"""A state store that is damaged: the file is named, nothing is made anew in its place, nobody sees a traceback."""

import random
from pathlib import Path

import msgspec
import pytest
from builders import a_plan, a_result
from faults.forks import Call, Said, run_all
from lengths import SEED, figure, many

from sluice.state import State

pytestmark = pytest.mark.sized

# Every command that opens the store; a planner of an empty project would not come so far.
READERS = [
    ["sluice-state", "runs", "--json"],
    ["sluice-state", "pending", "--json"],
    ["sluice-state", "show", "run-1", "--json"],
]


LOADED = b"""{"type":"SCHEMA","stream":"t","key_properties":["id"],"schema":{"properties":{"id":{"type":"integer"}}}}
{"type":"RECORD","stream":"t","record":{"id":1}}
{"type":"STATE","value":{"n":1}}
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with a plan that was begun, of which one batch is done and one has failed."""
    path = tmp_path / "good" / "state.sqlite"
    state = State.open(f"sqlite:{path}")
    plan, batches = a_plan()
    state.begin_run(plan, "run-1")
    for batch, status in zip(batches, ("ok", "failed"), strict=False):
        attempt = state.intend("run-1", "run-1", batch)
        state.record("run-1", batch, a_result(batch, status, attempt=attempt), plan.project)
    state.close()
    return path


def asked(content: bytes, folder: Path) -> list[Call]:
    """Each reader on a copy with this content."""
    folder.mkdir(parents=True)
    (folder / "state.sqlite").write_bytes(content)
    return [Call(argv, env={"SLUICE_STATE": f"sqlite:{folder / 'state.sqlite'}"}) for argv in READERS]


def env_of(tmp_path: Path) -> dict[str, str]:
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "SLUICE_STATE_DIR": str(tmp_path / "x"),
        "SLUICE_LOG_DIR": str(tmp_path / "logs"),
    }


def judge(said: Said, folder: Path, content: bytes, right: Said) -> str:
    """'right', 'named' (69, with the file) or 'other': bytes of a text were changed, which no check can see."""
    where = f"{folder}\n{said.err}"
    assert "Traceback" not in said.err, where
    assert (folder / "state.sqlite").read_bytes() == content, f"{where}: the file was changed"
    if said.code == 69:
        assert str(folder / "state.sqlite") in said.err, where
        assert "sluice-state rebuild" in said.err or "unable to open" in said.err or "disk I/O" in said.err, where
        return "named"
    assert said.code == right.code, where
    return "right" if told(said) == told(right) else "other"


def told(said: Said) -> list[dict]:
    """Its records without what is never twice the same: the summary, and when they were written."""
    records = [record for record in map(msgspec.json.decode, said.out.splitlines()) if record["type"] != "summary"]
    return [{**record, "at": ""} for record in records]


def test_files_that_are_no_store_are_named_and_left_as_they_are(store: Path, tmp_path: Path) -> None:
    good = store.read_bytes()
    dice = random.Random(SEED)
    damaged = {
        "empty": b"",
        "one byte": b"\0",
        "garbage": dice.randbytes(len(good)),
        "text": b"this is no database\n" * 100,
        "header only": good[:100],
        "half": good[: len(good) // 2],
        "cut": good[:-1],
        "a page short": good[:-4096],
        "zeros": bytes(len(good)),
        "headless": dice.randbytes(100) + good[100:],
    }
    calls = {name: asked(content, tmp_path / name) for name, content in damaged.items()}
    said = iter(run_all([call for each in calls.values() for call in each], env_of(tmp_path)))
    for name, each in calls.items():
        for call in each:
            one = next(said)
            assert judge(one, tmp_path / name, damaged[name], Said(-99, b"", "")) == "named", (name, call.argv)
    figure("files that are no store", files=len(damaged), commands=len(READERS), named=len(damaged) * len(READERS))


def test_flipped_bytes_are_noticed_or_do_no_harm(store: Path, tmp_path: Path) -> None:
    good = store.read_bytes()
    dice = random.Random(f"{SEED} flips")
    flips = []
    for number in range(many(20, 500)):
        changed = bytearray(good)
        changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
        flips.append((tmp_path / f"flip-{number}", bytes(changed)))
    whole = run_all(asked(good, tmp_path / "whole"), env_of(tmp_path))
    assert [one.code for one in whole] == [0, 0, 0]
    calls = [call for folder, content in flips for call in asked(content, folder)]
    became = {"right": 0, "named": 0, "other": 0}
    for number, one in enumerate(run_all(calls, env_of(tmp_path))):
        folder, content = flips[number // len(READERS)]
        became[judge(one, folder, content, whole[number % len(READERS)])] += 1
    figure("flipped bytes", flips=len(flips), commands=len(READERS), **became)


def test_a_damaged_duckdb_that_holds_the_cursors_is_named_and_not_made_anew(tmp_path: Path) -> None:
    """What is changed where no check looks may pass, as one of these bytes in a text would; all else is 69 with the file's name."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "dbt_project.yml").write_text("name: shop\nprofile: shop\n")
    path = "{{ env_var('SLUICE_DUCKDB_PATH') }}"
    (project / "profiles.yml").write_text(
        f'shop: {{target: dev, outputs: {{dev: {{type: duckdb, path: "{path}"}}}}}}\n'
    )
    env = env_of(tmp_path) | {"DBT_PROJECT_DIR": str(project)}
    load, looks = ["sync-cursor", "load", "shop"], [["sync-cursor", "log", "--json"], ["sync-cursor", "state", "shop"]]
    made = tmp_path / "shop.duckdb"

    def of(database: Path) -> list[Call]:
        place = {"SLUICE_DUCKDB_PATH": str(database)}
        return [*(Call(look, env=place) for look in looks), Call(load, LOADED, place)]

    *_, first = of(made)
    assert [one.code for one in run_all([first, *of(made)], env)] == [0] * 4
    good = made.read_bytes()
    dice = random.Random(f"{SEED} duckdb")
    damaged = [
        b"",
        b"\0",
        dice.randbytes(len(good)),
        good[:100],
        good[: len(good) // 2],
        bytes(len(good)),
        bytes(8192) + good[8192:],
    ]
    surely = len(damaged)
    for _ in range(many(3, 30)):
        changed = bytearray(good)
        changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
        damaged.append(bytes(changed))
    places = [tmp_path / "damaged" / str(number) / "shop.duckdb" for number in range(len(damaged))]
    for place, content in zip(places, damaged, strict=True):
        place.parent.mkdir(parents=True)
        place.write_bytes(content)
    said = iter(run_all([call for place in places for call in of(place)], env))
    became = {"right": 0, "named": 0}
    for number, place in enumerate(places):
        for one in (next(said) for _ in of(place)):
            assert "Traceback" not in one.err, (number, one.err)
            assert one.code == 69 or (number >= surely and one.code == 0), (number, one.code, one.err)
            if one.code == 69:
                assert "target" in one.err and "(duckdb) of profile shop" in one.err, (number, one.err)
            if number < surely:
                assert str(place) in one.err and "restore the file from a copy" in one.err, (number, one.err)
            became["named" if one.code else "right"] += 1
        place.write_bytes(good)
    mended = run_all([of(place)[-1] for place in places], env)
    assert {one.code for one in mended} == {0}, "nothing is left beside them that a load would mind"
    figure("damaged files of DuckDB", files=len(damaged), commands=len(looks) + 1, **became)


def test_a_store_that_is_gone_with_its_journal_left_is_not_made_anew(store: Path, tmp_path: Path) -> None:
    folder = tmp_path / "orphan"
    folder.mkdir()
    (folder / "state.sqlite-wal").write_bytes(b"what was written last")
    said = run_all(
        [Call(argv, env={"SLUICE_STATE": f"sqlite:{folder / 'state.sqlite'}"}) for argv in READERS], env_of(tmp_path)
    )
    assert [one.code for one in said] == [69] * len(READERS), [one.err for one in said]
    assert sorted(path.name for path in folder.iterdir()) == ["state.sqlite-wal"]
