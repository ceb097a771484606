"""Fifty processes start the same job at once: one works, the others are told so at once and end with 75. Over and over, on both stores."""

import multiprocessing
import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import a_plan
from lengths import figure
from servers import Postgres
from test_kill_and_resume import ROOT, TO, results

from sluice.errors import BUSY, SluiceError
from sluice.state import State

pytest_plugins = ["test_kill_and_resume"]
fork = multiprocessing.get_context("fork")
ROUNDS = int(os.environ.get("SLUICE_TEST_ROUNDS", "100"))
RIVALS = 50


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:{tmp_path / 'state' / 'state.sqlite'}"
        return
    server = Postgres(connections=2 * RIVALS)
    try:
        yield f"postgresql://test:unasked@127.0.0.1:{server.port}/postgres?sslmode=disable&schema=f_{uuid.uuid4().hex[:12]}"
    finally:
        server.stop()


def test_one_of_fifty_gets_the_job_in_every_round(url: str) -> None:
    """The rivals are there before the start: what is timed is the way from there to the refusal."""
    said, start, answered = fork.Queue(), fork.Barrier(RIVALS), fork.Barrier(RIVALS)
    State.open(url).close()

    def compete(number: int) -> None:
        for round_ in range(ROUNDS):
            plan = a_plan(run_id=f"run-{round_}-{number}", intent="daily")[
                0
            ]  # each has a plan of its own for the same models
            start.wait(120)
            began, outcome, lock = time.monotonic(), 0, None
            state = State.open(url)
            try:
                lock = state.store.lock(plan.run_id)
                state.claim(plan, lock)
            except SluiceError as problem:
                outcome = problem.exit_code
            took_s = time.monotonic() - began
            answered.wait(120)  # the winner keeps what it has until all have asked
            if outcome == 0:
                state.release(plan)
            lock.release()
            state.close()
            said.put((round_, outcome, took_s))

    rivals = [fork.Process(target=compete, args=(number,), daemon=True) for number in range(RIVALS)]
    for rival in rivals:
        rival.start()
    told = [said.get(timeout=300) for _ in range(ROUNDS * RIVALS)]
    for rival in rivals:
        rival.join(30)
    for round_ in range(ROUNDS):
        outcomes = [outcome for number, outcome, _ in told if number == round_]
        assert sorted(outcomes) == [0] + [BUSY] * (RIVALS - 1), (round_, outcomes)
    refused = sorted(took_s for _, outcome, took_s in told if outcome == BUSY)
    figure(
        "one of fifty", state=url.partition(":")[0], rounds=ROUNDS, rivals=RIVALS, winners=ROUNDS,
        refused_p50_s=round(refused[len(refused) // 2], 3), refused_most_s=round(refused[-1], 3),
    )  # fmt: skip


def test_of_fifty_commands_one_works(url: str, ledger: dict[str, str], tmp_path: Path) -> None:
    """The real command, from its start: who comes when the winner has begun is refused like those who come with it."""
    env = ledger | {"SLUICE_STATE": url}
    plan = tmp_path / "plan.jsonl"
    with plan.open("wb") as planned:
        subprocess.run(
            [ROOT / "bin/plan-batches", "--to", TO], env=env, stdout=planned, stderr=subprocess.DEVNULL, check=True
        )
    command = [ROOT / "bin/run-dbt-batch", "--delay", "0.5"]  # so long that it is at work when the last one comes
    rivals = []
    for _ in range(RIVALS):
        with plan.open("rb") as planned:
            rivals.append(
                subprocess.Popen(command, env=env, stdin=planned, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            )
    told = [rival.communicate(timeout=300) for rival in rivals]
    codes = [rival.returncode for rival in rivals]
    assert sorted(codes) == [0] + [BUSY] * (RIVALS - 1), [
        err for (_, err), code in zip(told, codes, strict=True) if code not in (0, BUSY)
    ]
    assert [code for (out, _), code in zip(told, codes, strict=True) if results(out)] == [0]
    assert all(b"at work" in err for (_, err), code in zip(told, codes, strict=True) if code == BUSY)
