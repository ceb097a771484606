"""How long the fault suite is, a sample in `make test` and everything in `make test-faults`, and where its figures go."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

EVERYTHING = os.environ.get("SLUICE_TEST_FAULTS") == "all"
SEED = int(os.environ.get("SLUICE_TEST_SEED", "20261121"))
_FIGURES = Path(__file__).parents[1] / "bench" / "reliability.jsonl"


def many(sample: int, everything: int) -> int:
    """How many cases to try."""
    return everything if EVERYTHING else sample


def figure(name: str, **numbers: Any) -> None:
    """Append what was shown. `make test` and `make test-faults` begin the file anew; bench/results keeps the latter's."""
    length = "everything" if EVERYTHING else "sample"
    at = datetime.now(UTC).isoformat(timespec="seconds")
    line = {"at": at, "figure": name, "length": length, "seed": SEED, **numbers}
    with open(_FIGURES, "ab") as figures:
        figures.write(msgspec.json.encode(line) + b"\n")
