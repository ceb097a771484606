"""What every benchmark needs: the machine, the versions, medians, and a result file that the README can quote."""

import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"


def machine() -> dict[str, str | int]:
    """Enough to judge a figure by: processor, cores, memory in GiB, system, versions."""
    processor = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**30
    packages = {name: version(name) for name in ("dbt-core", "dbt-duckdb", "duckdb")}
    return {
        "processor": processor,
        "cores": os.cpu_count() or 0,
        "memory_gib": memory_gib,
        "python": platform.python_version(),
        **packages,
    }


def environment(folder: Path, **named: str | Path) -> dict[str, str]:
    """A process's: nothing is set for Sluice and dbt but what is `named`, and that state and logs are in `folder`."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SLUICE_", "DBT_"))}
    own = {"SLUICE_STATE_DIR": folder / "state", "SLUICE_LOG_DIR": folder / "logs"} | named
    return clean | {name: str(value) for name, value in own.items()}


def sized_project(root: Path, models: Mapping[str, str]) -> dict[str, str]:
    """A project on DuckDB of the files of `models`, by their names in that folder; its database is sized.duckdb. Its environment."""
    files = {
        "dbt_project.yml": "name: sized\nversion: '1.0'\nprofile: sized\nflags: {send_anonymous_usage_stats: false}\n",
        "profiles.yml": f"sized: {{target: dev, outputs: {{dev: {{type: duckdb, path: {root}/sized.duckdb, threads: 1}}}}}}",
    }
    for name, text in (files | {f"models/{name}": text for name, text in models.items()}).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return environment(root, DBT_PROJECT_DIR=root, DBT_PROFILES_DIR=root)


def is_quick() -> bool:
    """A look (make bench-quick): smaller sizes, whose figures are shown and not kept."""
    return "BENCH_QUICK" in os.environ


def write(name: str, title: str, claim: str, figures: dict[str, float | int | str]) -> None:
    """Write bench/results/<name>.json and .md: the claim, the figures, the machine. Nothing in a quick look."""
    if is_quick():
        return
    RESULTS.mkdir(exist_ok=True)
    at = datetime.now(UTC).strftime("%Y-%m-%d")
    result = {"at": at, "figures": figures, "machine": machine()}
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
    rows = "\n".join(f"| {what} | {value} |" for what, value in figures.items())
    hardware = ", ".join(f"{key} {value}" for key, value in machine().items())
    (RESULTS / f"{name}.md").write_text(f"# {title}\n\n{claim}\n\n| | |\n|---|---|\n{rows}\n\n{at}; {hardware}\n")
