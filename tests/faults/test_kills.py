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

from faults.appending import Appending, has_ended
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
    assert run(shop, shop.planned(*PLAN), None, dice)[:2] == (0, False)
    whole_s = time.monotonic() - began
    assert shop.judged() == []
    kills = lives = 0
    most = many(2, 20)
    while kills < most:
        lives += 1
        assert lives <= 4 * most, f"only {kills} kills hit what was running"
        shop.begin(f"life_{lives}")
        code = None
        while code != 0 and not has_ended(shop.state()):
            plan = shop.planned(*(["--resume"] if shop.has_begun() else PLAN))
            code, killed, said = run(shop, plan, dice.uniform(0.1, 0.5) * whole_s if kills < most else None, dice)
            assert code == 0 or killed, said
            kills += killed
        assert shop.judged() == []
    of = {"batches": len(shop.batches), "kills": kills, "lives": lives}
    figure("kills at random moments", dialect=target.adapter, **of, wrong=0, wrong_tables=0)


def run(shop: Appending, plan: bytes, after_s: float | None, dice: random.Random) -> tuple[int, bool, str]:
    """How the runner ended, whether it, or one of its processes, was there to be killed after so many seconds, its stderr."""
    env = {key: value for key, value in shop.env.items() if key != "SLUICE_LENT_LOADER"}
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stderr:
        stdin.write(plan)
        stdin.seek(0)
        runner = subprocess.Popen(
            [ROOT / "bin/run-dbt-batch"], env=env, stdin=stdin, stdout=subprocess.DEVNULL, stderr=stderr
        )
        killed = False
        try:
            runner.wait(after_s)
        except subprocess.TimeoutExpired:
            victims = processes_below(runner.pid)
            try:
                os.kill(dice.choice([runner.pid, *victims]), signal.SIGKILL)
                killed = True
            except ProcessLookupError:
                pass
        code = runner.wait(120)
        stderr.seek(0)
        said = stderr.read().decode()
        assert "Traceback" not in said, said
        return code, killed, said
