"""The runner at each of its system calls that could be its last: killed there, or told that the disk is full or broken.

strace makes the N-th call of the runner's own process end so. Then it is resumed, and what it leaves is what an
uninterrupted run leaves: nothing is lost, nothing is there twice.
"""

import random
from pathlib import Path

import pytest
from faults.appending import Appending
from faults.forks import Commands
from faults.strace import CALLS, FAULTS, counted, counting, striking
from lengths import EVERYTHING, SEED, figure, many
from servers import Postgres

from sluice.profiles import Credentials

pytest_plugins = ["servers"]

PLAN = ["--to", "2024-02-29"]
# Of the many at which the same is done again, and of engines of which the runner knows as little as of the others.
MOST = {"duckdb": {"pwrite64": 24}, "postgres": dict.fromkeys(CALLS, 4), "clickhouse": dict.fromkeys(CALLS, 4)}


@pytest.mark.parametrize("fault", FAULTS)
def test_whichever_call_is_the_last(fault: str, target: Credentials, commands: Commands, tmp_path: Path) -> None:
    shop = Appending(target, tmp_path, commands)
    ends_as_if_nothing_had_been(shop, target.adapter, fault, {call: MOST[target.adapter].get(call) for call in CALLS})


@pytest.mark.sized
def test_whichever_message_to_the_state_is_the_last(
    postgres: Postgres, duckdb_target: Credentials, commands: Commands, tmp_path: Path
) -> None:
    """Of a state on a server. What fails on the way there is tests/faults/test_network.py's."""
    url = f"postgresql://test:unasked@127.0.0.1:{postgres.port}/postgres?sslmode=disable"
    shop = Appending(duckdb_target, tmp_path, commands, state_url=url)
    ends_as_if_nothing_had_been(shop, "state on postgres", "killed", {"sendto": 30})


def ends_as_if_nothing_had_been(shop: Appending, way: str, fault: str, most: dict[str, int | None]) -> None:
    """At so many of each of these calls, None: at all of them."""
    counts, plan = calls(shop)
    for call, points in most.items():
        each_point(shop, plan, way, fault, call, counts.get(call, 0), points)


def each_point(shop: Appending, plan: bytes, way: str, fault: str, call: str, made: int, most: int | None) -> None:
    assert made >= 5, f"the runner makes {made} calls of {call}"
    chance = random.Random(f"{SEED} {way} {call} {fault}")
    points = sorted(chance.sample(range(1, made + 1), min(made, many(1, most or made))))
    hit = 0
    for point in points:
        shop.begin(f"{call}_{fault}_{point}".replace(" ", "_"))
        struck = shop.run(plan, *striking(call, fault, point))
        said = struck.stderr.decode()
        assert "Traceback" not in said, (point, said)
        assert struck.returncode in (0, 1, 69, 78, -9, 137), (point, struck.returncode, said)
        hit += struck.returncode != 0
        for _ in range(3):  # a batch whose outcome could not be written is told, and asked for once more
            again = shop.run(shop.planned(*(["--resume"] if shop.has_begun() else PLAN)))
            assert "Traceback" not in again.stderr.decode(), (point, again.stderr.decode())
            if again.returncode == 0:
                break
        assert again.returncode == 0, (point, said, again.stderr.decode())
        assert shop.judged() == [], (point, said)
    figure("system calls", way=way, call=call, fault=fault, calls=made, points=len(points), stopped=hit)
    if EVERYTHING and fault == "killed":
        assert hit == len(points)


def calls(shop: Appending) -> tuple[dict[str, int], bytes]:
    """How often an uninterrupted run makes each, and the plan that it carries out: the planner is not what is hit."""
    counts = shop.folder / "counts"
    shop.begin("whole")
    plan = shop.planned(*PLAN)
    done = shop.run(plan, *counting(counts))
    assert done.returncode == 0, done.stderr.decode()
    assert shop.judged() == []
    return counted(counts), plan
