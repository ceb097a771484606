"""A damaged store made anew: what can be read is saved, what the log folder has is added, nothing unfinished is resumed, the old one stays."""

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from builders import FakeContext, a_plan, a_result

from sluice.config import Config, load
from sluice.errors import BUSY, REFUSED, SluiceError
from sluice.rebuild import rebuild
from sluice.records import Record, RunState, Summary
from sluice.state import State, salvage

DAMAGE = ("emptied", "garbage", "cut", "headless", "gone", "half a record", "a column renamed")


@pytest.fixture
def path(own_settings: Config) -> Path:
    """A store with 60 runs that went well and one that was killed after its first batch; the log folder has the last of each."""
    state = State.open(own_settings.state_url)
    records = own_settings.log_dir / "records"
    records.mkdir(parents=True)
    for number in range(61):
        run_id, is_killed = f"run-{number:02}", number == 60
        plan, batches = a_plan(run_id=run_id)
        plan.run_id, plan.at = run_id, f"2026-01-01T00:{number:02}:00.000Z"
        state.begin_run(plan, run_id)
        kept: list[Record] = [plan]
        for batch in batches[: 1 if is_killed else None]:
            result = a_result(
                batch, run_id=run_id, attempt=state.intend(run_id, run_id, batch), at=plan.at, ended_at=plan.at
            )
            state.record(run_id, batch, result, plan.project)
            kept.append(result)
        if not is_killed:
            state.end_run(plan, run_id, "SUCCESS", models_run=1, models_failed=0)
            kept.append(Summary(command="run-dbt-batch", at=plan.at))
        if number >= 59:
            lines = b"".join(msgspec.json.encode(record) + b"\n" for record in kept)
            (records / f"{run_id}.jsonl").write_bytes(lines + b'{"type":"check_result"')
    state.close()
    return Path(own_settings.state_url.removeprefix("sqlite:"))


def damage(path: Path, how: str) -> None:
    good = path.read_bytes()
    if how == "gone":
        path.rename(path.with_name("elsewhere"))
        path.with_name(f"{path.name}-wal").write_bytes(b"what was written last")
    elif how == "half a record":
        state = State.open(f"sqlite:{path}")
        state.store.execute(
            "UPDATE run_event SET plan = substr(plan, 1, 50) WHERE run_id = 'run-07' AND event = 'began'"
        )
        state.close()
    else:
        path.write_bytes(
            {
                "a column renamed": good.replace(b"run_duration_seconds", b"run_duration_sec0nds"),
                "emptied": b"",
                "garbage": random.Random(1).randbytes(len(good)),
                "cut": good[: len(good) // 2],
                "headless": b"\0" * 100 + good[100:],
            }[how]
        )


def rebuilt(config: Config, *, dry_run: bool = False) -> list[Record]:
    return list(rebuild(FakeContext(config, dry_run=dry_run)))


@pytest.mark.parametrize("how", DAMAGE)
def test_what_is_damaged_is_set_aside_and_made_anew_of_what_is_left(
    own_settings: Config, path: Path, how: str, heard: pytest.LogCaptureFixture
) -> None:
    damage(path, how)
    found = path.read_bytes() if path.exists() else None
    with pytest.raises(SluiceError, match=str(path)) as told:
        State.open_existing(own_settings.state_url).runs()
    assert (told.value.exit_code, "sluice-state rebuild" in (told.value.hint or "")) == (69, True)
    before = sorted(one.name for one in path.parent.iterdir())
    assert rebuilt(own_settings, dry_run=True) == []
    assert sorted(one.name for one in path.parent.iterdir() if one.name != "locks") == before

    unfinished = [run for run in rebuilt(own_settings) if isinstance(run, RunState)]
    killed = next(run for run in unfinished if run.run_id == "run-60")
    assert (killed.is_discarded, killed.done) == (True, 1)
    assert len(unfinished) == 1 or how == "cut", "of some the end was in the half that is lost"
    aside = [
        one for one in path.parent.iterdir() if ".damaged-" in one.name and not one.name.endswith(("-wal", "-shm"))
    ]
    assert [one.read_bytes() for one in aside] == ([found] if found is not None else [])
    assert not [one for one in path.parent.iterdir() if one.name.startswith((".new", ".salvage"))]

    state = State.open(own_settings.state_url)
    runs = {run.run_id: run for run in state.runs()}
    assert {"run-59", "run-60"} <= runs.keys()
    assert (runs["run-59"].run_status, len(state.done("run-59"))) == ("SUCCESS", 3)
    if how == "half a record":
        assert len(runs) == 60 and "run-07" not in runs
    elif how == "a column renamed":
        assert len(runs) == 61
    elif how == "cut":
        assert 2 < len(runs) < 61, "some of the half that is there is saved"
    assert state.unfinished() == []
    state.begin_run(a_plan(run_id="next")[0], "next")
    state.close()
    assert salvage.readable(path)[1]
    assert "rebuilt" in heard.text and "sluice-state coverage" in heard.text


def test_a_sound_store_and_one_at_work_are_left_alone(own_settings: Config, path: Path) -> None:
    def refused(code: int) -> str:
        with pytest.raises(SluiceError) as told:
            rebuilt(own_settings)
        assert told.value.exit_code == code
        return told.value.code

    good = path.read_bytes()
    assert refused(REFUSED) == "state_sound"
    state = State.open(own_settings.state_url)
    path.write_bytes(good[: len(good) // 2])
    for name in ("run-60", "rebuild"):
        lock = state.store.lock(name)
        assert lock.acquire()
        assert refused(BUSY) == "lock_held"
        lock.release()
    path.unlink()
    for end in ("-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)
    assert refused(REFUSED) == "state_none"
    assert not path.exists()


def test_an_older_store_is_for_the_next_command_to_bring_up_to_date(own_settings: Config, path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE schema_version SET version = 1")
    with pytest.raises(SluiceError) as told:
        rebuilt(own_settings)
    assert told.value.code == "state_sound"


def test_a_row_that_breaks_a_rule_of_its_table_is_left_out_and_counted(
    own_settings: Config, path: Path, heard: pytest.LogCaptureFixture
) -> None:
    damage(path, "half a record")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("UPDATE run_event SET event = 'begun' WHERE run_id = 'run-08' AND event = 'began'")
    rebuilt(own_settings)
    assert "2 rows could not be used" in heard.text
    state = State.open(own_settings.state_url)
    assert {"run-07", "run-08"}.isdisjoint(run.run_id for run in state.runs())
    state.close()


def test_a_store_on_a_server_is_the_servers_to_restore(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_STATE", "postgresql://u:pa55word@127.0.0.1:1/d")
    with pytest.raises(SluiceError) as told:
        rebuilt(load())
    assert (told.value.exit_code, told.value.code) == (REFUSED, "state_rebuild_server")


def test_a_rebuild_that_was_cut_off_after_it_set_the_old_one_aside_is_done_again(
    own_settings: Config, path: Path
) -> None:
    damage(path, "half a record")
    copy = shutil.copy(path, path.with_name("copy"))
    aside = path.with_name(f"{path.name}.damaged-x")
    path.rename(aside)
    path.write_bytes(salvage._MARK + aside.name.encode() + b"\n")
    with pytest.raises(SluiceError, match="damaged"):
        State.open(own_settings.state_url)
    rebuilt(own_settings)
    state = State.open(own_settings.state_url)
    assert len(state.runs()) == 60
    assert aside.read_bytes() == Path(copy).read_bytes()
    state.close()
