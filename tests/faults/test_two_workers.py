"""Two workers on real servers, killed and stopped at random moments: nothing is lost, nothing doubled, all of it stops."""

import os
import random
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import pairs
import pytest
from faults.appending import has_ended
from lengths import SEED, figure, many
from test_kill_and_resume import processes_below
from test_stops import LIMIT_S, stopped, until

from sluice.dbt_engine.loader_process import Lender
from sluice.profiles import Credentials
from sluice.state import State
from sluice.warehouse import connect

AT_WORK = {
    "postgres": "select count(*) from pg_stat_activity where query like '%pg_sleep(%' and state = 'active'"
    " and pid <> pg_backend_pid()",
    "clickhouse": "select count() from system.processes where query_kind in ('Insert', 'Create')"
    " and query_id like 'sluice:%'",
}

pytest_plugins = ["servers"]


@pytest.fixture(params=["clickhouse", "postgres"])
def server(request: pytest.FixtureRequest) -> Credentials:
    return request.getfixturevalue(f"{request.param}_target")


def state_of(env: dict[str, str]) -> State | None:
    return State.open_existing(f"sqlite:{env['SLUICE_STATE_DIR']}/state.sqlite")


def killed_at_random(runner: subprocess.Popen, server: Credentials, dice: random.Random) -> tuple[int | None, bytes]:
    """The process that was killed, the runner or one below it, and what it had said; none when all was over before."""
    assert runner.stdout
    seen = b""
    for _ in range(dice.randint(0, 3)):
        seen += (line := runner.stdout.readline())
        if not line or b'"summary"' in line:
            break
    if dice.random() < 0.7:  # in the middle of something
        with connect(server, tag="watch") as watch:
            until(lambda: watch.value(AT_WORK[server.adapter]) or runner.poll() is not None, 60)
    time.sleep(dice.uniform(0, 0.2))
    victims = processes_below(runner.pid)
    victim = runner.pid if dice.random() < 0.4 else dice.choice(victims)
    try:
        os.kill(victim, signal.SIGKILL)
    except ProcessLookupError:
        return None, seen
    return victim, seen


def test_whatever_is_killed_every_row_is_there_once(server: Credentials, tmp_path: Path) -> None:
    dice = random.Random(f"{SEED} workers {server.adapter}")
    env = pairs.make(tmp_path / "project", server, nap_s=0.2)
    runner = pairs.start(env | {"SLUICE_STATE_DIR": str(tmp_path / "other")}, workers=1)
    _, err = runner.communicate(timeout=300)
    assert runner.returncode == 0, err.decode()
    whole = pairs.tables(server)
    kills, of = 0, {"the runner": 0, "a process of dbt": 0}
    wanted, lives = many(2, 12), 0
    while kills < wanted:
        lives += 1
        assert lives <= 4 * wanted, f"only {kills} kills hit what was running"
        with connect(server, tag="clear") as connection:
            for name in pairs.TABLES:
                connection.execute(f"drop table {connection.relation(None, server.schema, name)}")
        life = env | {"SLUICE_STATE_DIR": str(tmp_path / f"life-{lives}")}
        flags: tuple[str, ...] = ()
        while True:
            runner = pairs.start(life, *flags, workers=2)
            victim, seen = None, b""
            if kills < wanted:
                victim, seen = killed_at_random(runner, server, dice)
                if victim is not None:
                    kills += 1
                    of["the runner" if victim == runner.pid else "a process of dbt"] += 1
            rest, err = runner.communicate(timeout=300)
            pairs.results((seen + rest).rpartition(b"\n")[0])  # whole lines, whatever was killed
            assert b"Traceback" not in err, err.decode()
            assert runner.returncode == 0 or victim is not None, err.decode()
            state = state_of(life)
            if runner.returncode == 0 or has_ended(state):
                break
            flags = ("--resume",) if state is not None and state.unfinished() else ()
        assert pairs.tables(server) == whole
    figure("two workers killed", dialect=server.adapter, kills=kills, **of, rows_lost=0, rows_doubled=0)


def test_a_stop_signal_ends_what_both_workers_run(server: Credentials, tmp_path: Path, lender: Lender) -> None:
    """Their dbt is one that the runner was lent, or, of two in ten, its own."""
    dice = random.Random(f"{SEED} stops {server.adapter}")
    nap_s = 3.0 if server.adapter == "clickhouse" else 30.0
    env = pairs.make(tmp_path / "project", server, nap_s=nap_s, lender=lender)
    took_s = []
    flags: tuple[str, ...] = ()
    for number in range(many(1, 10)):
        signum = (signal.SIGINT, signal.SIGTERM)[number % 2]
        with connect(server, tag="watch") as watch:
            runner = pairs.start(env, *flags, workers=2, pass_fds=lender.pass_fds if number % 10 > 1 else ())
            flags = ("--resume",)
            at_work = partial(watch.value, AT_WORK[server.adapter])
            gone_s, out = stopped(runner, signum, at_work, 2, dice.uniform(0, 0.3))
        took_s.append(gone_s)
        assert [result["status"] for result in pairs.results(out)] == ["cancelled"] * 2
    took_s.sort()
    figure("stop signals, two workers", dialect=server.adapter, signals=len(took_s), slowest_s=round(took_s[-1], 2))
    assert took_s[int(len(took_s) * 0.95) - 1] <= LIMIT_S
