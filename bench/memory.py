"""Claim: the runner's memory stays flat: over 1,000 batches it grows by less than 20 MB.

The resident memory of run-dbt-batch and all processes below it, looked at after every tenth batch; the highest of
batches 100 to 300 against the highest of the last 200. A worker lives for 100 batches, so both spans hold whole lives.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import ROOT, environment, write


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        project = Path(shutil.copytree(ROOT / "tests/fixtures/ledger", work / "ledger"))
        model = project / "models/entries.sql"
        model.write_text(model.read_text().replace('"start_date": "2022-01-01"', '"start_date": "1940-09-01"'))
        env = environment(work, DBT_PROJECT_DIR=project, SLUICE_DUCKDB_PATH=work / "ledger.duckdb")
        command = [ROOT / "bin/plan-batches", "--select", "entries", "--to", "2023-12-31"]
        planner = subprocess.Popen(command, env=env, stdout=subprocess.PIPE)
        runner = subprocess.Popen([ROOT / "bin/run-dbt-batch"], env=env, stdin=planner.stdout, stdout=subprocess.PIPE)
        assert runner.stdout
        memory_mb: dict[int, float] = {}
        batches = 0
        for line in runner.stdout:
            if b'"batch_result"' in line:
                batches += 1
                if batches % 10 == 0:
                    memory_mb[batches] = resident_mb(runner.pid)
        assert runner.wait() == 0
    early = max(mb for batch, mb in memory_mb.items() if 100 <= batch <= 300)
    late = max(mb for batch, mb in memory_mb.items() if batch > batches - 200)
    figures = {
        "batches": batches, "highest of batches 100 to 300, MB": round(early, 1),
        "highest of the last 200, MB": round(late, 1), "growth, MB": round(late - early, 1),
    }  # fmt: skip
    print(figures, file=sys.stderr)
    write("memory", "The runner's memory over 1,000 batches", (__doc__ or "").split("\n\n")[0], figures)


def resident_mb(pid: int) -> float:
    """Resident memory of a process and all below it, pages that they share counted once (PSS)."""
    found, total_kb = [pid], 0
    for process in found:
        try:
            rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
            total_kb += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
            for task in Path(f"/proc/{process}/task").glob("*/children"):
                found += map(int, task.read_text().split())
        except OSError:
            continue  # a worker that retired in between
    return total_kb / 1024


if __name__ == "__main__":
    main()
