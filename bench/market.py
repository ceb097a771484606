"""Claim: on two cores and DuckDB the full history of 100 ids × 8 years of bars and EMAs takes at most 90 s; the daily increment of 100 ids at most 20 s, start-up included, and it grows less than linearly from 10 to 1,000 ids.

`pipelines/daily-refresh` on the models tagged market, as a person runs it: on an empty warehouse, then with one more day.
The 1,000 ids have two years of history. CPU seconds are those of all processes, and say what a busy machine hides.

    bench/market.py [IDS ...]     only these sizes, and no result is written
"""

import resource
import subprocess
import sys
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path

from measure import ROOT, environment, write

WAREHOUSE = ROOT / "warehouse"
EIGHT_YEARS, TWO_YEARS = date.today() - timedelta(days=1), date(2020, 11, 20)
SIZES = {10: EIGHT_YEARS, 100: EIGHT_YEARS, 1000: TWO_YEARS}


def main() -> None:
    sizes = {int(size): SIZES[int(size)] for size in sys.argv[1:]} or SIZES
    figures: dict[str, float | int | str] = {}
    for ids, end in sizes.items():
        with tempfile.TemporaryDirectory() as folder:
            figures |= measure(ids, end, Path(folder))
        print(figures, file=sys.stderr, flush=True)
    if sizes == SIZES:
        write("market", "Bars and EMAs: full history and daily increment", (__doc__ or "").split("\n\n")[0], figures)


def measure(ids: int, end: date, work: Path) -> dict[str, float | int | str]:
    database = work / "market.duckdb"
    env = environment(work, DBT_PROJECT_DIR=WAREHOUSE, SLUICE_DUCKDB_PATH=database, SELECT="tag:market")

    def load(to: date) -> None:
        args = f"{{ids: {ids}, end: {to}}}"
        place = ["--project-dir", WAREHOUSE, "--profiles-dir", WAREHOUSE, "--log-path", work]
        place += ["--target-path", work / "target"]
        command = [ROOT / ".venv/bin/dbt", "run-operation", "make_price_histories", "--args", args, *place]
        subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)

    def refresh(what: str, to: date) -> dict[str, float | int | str]:
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        as_of = env | ({} if end == EIGHT_YEARS else {"TO": str(to)})  # or all would be stale
        subprocess.run([ROOT / "pipelines/daily-refresh"], env=as_of, check=True, stdout=subprocess.DEVNULL)
        took, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return {f"{ids} ids, {what}, s": round(took, 1), f"{ids} ids, {what}, CPU s": round(cpu, 1)}

    next_day = end + timedelta(days=1)
    load(end)
    figures = refresh("full history", end)
    load(next_day)
    return figures | refresh("one more day", next_day)


if __name__ == "__main__":
    main()
