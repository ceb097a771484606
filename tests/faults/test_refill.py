"""The refill under kill -9, twice, and again after another gap, on each engine. Long: `make test-faults` runs it."""

import os
import random
import time
from datetime import date

import pytest
from gaps import ENGINES, Gap

pytest_plugins = ["servers", "gaps"]

KILLS = int(os.environ.get("SLUICE_TEST_KILLS", "20"))
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
        while kills < KILLS and not gap.refill_killed_at(chance, longest_s):
            kills += 1
            print(f"{engine}: killed {kills} times, life {lives}, {time.monotonic() - began:.0f} s", flush=True)
        if gap.was_begun:
            gap.refill(RESUME="1")
        elif gap.zeros():  # killed before it began
            gap.refill()
        assert gap.zeros() == 0
        assert gap.relations() == built, f"after {kills} kills, in life {lives}"
    print(f"{engine}: {kills} kills in {lives} refills")
