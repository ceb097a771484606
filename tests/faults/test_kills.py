"""A refresh killed with -9 at random moments, the runner or any process below it, and resumed each time, on each engine.

Its history is judged when it is over: nothing without an intent, nothing twice, and the tables are what the plan comes to.
"""

import os
import random
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from faults.appending import Appending
from faults.forks import ROOT, Commands
from lengths import SEED, figure, many
from test_kill_and_resume import processes_below

from sluice.profiles import Credentials

pytest_plugins = ["servers"]

PLAN = ["--to", "2024-12-31"]  # 24 batches


def test_killed_over_and_over_the_history_is_as_it_must_be(
    target: Credentials, commands: Commands, tmp_path: Path
) -> None:
    """Its dbt is its own here, not lent: what is killed may be that, too."""
    dice = random.Random(f"{SEED} {target.adapter} kills")
    shop = Appending(target, tmp_path, commands)
    shop.begin("whole")
    began = time.monotonic()
    assert run(shop, shop.planned(*PLAN), None, dice) == 0
    whole_s = time.monotonic() - began
    assert shop.judged() == []
    shop.begin("killed")
    kills, most = 0, many(2, 20)
    while True:
        plan = shop.planned(*(["--resume"] if shop.has_begun() else PLAN))
        code = run(shop, plan, dice.uniform(0.2, 1) * whole_s if kills < most else None, dice)
        if code == 0:
            break
        kills += 1
        assert kills < 3 * most, "it never ends"
    assert shop.judged() == []
    figure("kills at random moments", dialect=target.adapter, batches=len(shop.batches), kills=kills, wrong=0)


def run(shop: Appending, plan: bytes, after_s: float | None, dice: random.Random) -> int:
    """How the runner ended that was killed, or had one of its processes killed, after so many seconds."""
    env = {key: value for key, value in shop.env.items() if key != "SLUICE_LENT_LOADER"}
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stderr:
        stdin.write(plan)
        stdin.seek(0)
        runner = subprocess.Popen(
            [ROOT / "bin/run-dbt-batch"], env=env, stdin=stdin, stdout=subprocess.DEVNULL, stderr=stderr
        )
        try:
            runner.wait(after_s)
        except subprocess.TimeoutExpired:
            victims = processes_below(runner.pid)
            try:
                os.kill(dice.choice([runner.pid, *victims]), signal.SIGKILL)
            except ProcessLookupError:
                pass
        code = runner.wait(120)
        stderr.seek(0)
        said = stderr.read()
        assert b"Traceback" not in said, said.decode()
        return code
