"""The refill under kill -9, twice, and again after another gap, on each engine. Long: `make test-faults` runs it."""

import os
import random
import subprocess
import time
from datetime import date

import pytest
from gaps import END, ENGINES, ROOT, Gap
from lengths import figure

pytest_plugins = ["servers", "gaps"]

KILLS = (int(os.environ.get("SLUICE_TEST_KILLS", "20")) + 1) // 2  # half: each is a start of four commands and dbt
DAY = date(2022, 5, 20)


@pytest.mark.parametrize("engine", ENGINES)
def test_killed_at_random_points_it_ends_in_what_a_build_from_scratch_gives(engine: str, open_gap):
    gap: Gap = open_gap(engine, DAY)
    gap.spoil()
    gap.fill()
    began = time.monotonic()
    gap.refill()
    longest_s = time.monotonic() - began
    assert gap.zeros() == 0
    once = gap.relations()
    gap.refill()
    assert gap.relations() == once, "a second refill changes nothing"
    built = gap.rebuilt()
    assert once == built

    chance = random.Random(f"20261121 {engine}")
    kills = lives = 0
    while kills < KILLS:
        lives += 1
        gap.spoil_again()
        gap.fill()
        # Each goes on where the one before was killed, so that halves come to the end, too, and it is not begun so often.
        while kills < KILLS and gap.refill_killed_at(chance, longest_s / 2):
            kills += 1
            print(f"{engine}: killed {kills} times, life {lives}, {time.monotonic() - began:.0f} s", flush=True)
        if gap.was_begun:
            gap.refill(RESUME="1")
        elif gap.zeros():  # killed before it began
            gap.refill()
        assert gap.zeros() == 0
        assert gap.relations() == built, f"after {kills} kills, in life {lives}"
        assert not gap.was_begun, "nothing is left to resume"
    figure("kills in refills", engine=engine, kills=kills, refills=lives, wrong_tables=0)


def test_two_passes_double_the_supply_of_the_bundled_warehouse_and_waves_put_it_right(open_gap):
    gap: Gap = open_gap("clickhouse", DAY)
    gap.spoil()
    gap.fill()
    built = gap.rebuilt()
    supply = "select token, day, supply from analytics.int_supply_holders_daily final order by token, day"
    true = gap.warehouse.query(supply)
    old_recipe = (
        f"bin/plan-refill --passes 2 --from-date {DAY} --to {END} --allow G05 --consumers int_prices_daily+"
        " | bin/each-wave 'run-dbt-batch | optimize-partitions'"
    )
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", old_recipe], cwd=ROOT, env=gap.environment, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    for (token, day, wrong), (*same, right) in zip(gap.warehouse.query(supply), true, strict=True):
        assert [token, day] == same
        assert wrong == right if day < date(2022, 5, 1) else wrong > 1.9 * float(right), (token, day, wrong, right)
    gap.refill()
    assert gap.relations() == built
