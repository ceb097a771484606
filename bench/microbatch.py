"""Claims: per batch at most what dbt's own microbatch takes in one invocation, whatever the project's size; a second start in 2.5 s.

Sixty months of one incremental model on DuckDB, in projects of 10, 100 and 500 models. `sluice` is plan-batches | run-dbt-batch,
each batch with its own vars, state and resume; `microbatch` is one `dbt run` of the same SQL. A batch is what sixty take more
than one, over 59; the start is a run of one batch, of files that did not change. The two take turns, five times; medians. Both must
leave the same rows.

    bench/microbatch.py [MODELS...]
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import duckdb
from measure import ROOT, is_quick, sized_project, write

SIZES = (10, 100, 500)
TURNS = 5
ONE, FEBRUARY = (
    ("--select", "sluice", "--to", "2020-01-31"),
    "2020-02-01",
)  # a run of one batch: of us, and until when of dbt
FIRST, LAST, MONTHS = "2020-01-01", "2024-12-31", 60
SQL = "select day, symbol, sum(amount) as amount from {{ source('raw', 'events') }} %s group by day, symbol"
WINDOW = """{% if var('start_month', none) %}
where day >= date '{{ var("start_month") }}' and day < date '{{ var("end_month") }}' + interval 1 month
{% endif %}"""
BLOCK = f"{{'full_refresh': {{'start_date': '{FIRST}'}}}}"
FILES = {
    "sources.yml": "sources: [{name: raw, schema: raw, tables: [{name: events, config: {event_time: day}}]}]\n",
    "sluice.sql": f"{{{{ config(materialized='incremental', incremental_strategy='append', meta={BLOCK}) }}}}\n{SQL % WINDOW}",
    "microbatch.sql": "{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='day',"
    f" batch_size='month', begin='{FIRST}', concurrent_batches=false) }}}}\n{SQL % ''}",
}


def main() -> None:
    figures: dict[str, float | int | str] = {}
    for size in [int(word) for word in sys.argv[1:]] or SIZES:
        with tempfile.TemporaryDirectory() as folder:
            project = Sized(Path(folder), size)
            project.parse()
            turns = [(*project.sluice(), *project.microbatch()) for _ in range(1 if is_quick() else TURNS)]
            project.assert_equal()
        ours_s, ours_start_s, dbts_s, dbts_start_s = map(median, zip(*turns, strict=True))
        ratios = sorted(ours / dbts for ours, _, dbts, _ in turns)
        figures |= {
            f"{size} models: sluice, ms per batch": round(ours_s * 1000, 1),
            f"{size} models: microbatch, ms per batch": round(dbts_s * 1000, 1),
            f"{size} models: sluice ÷ microbatch": round(median(ratios), 2),
            f"{size} models: the same, least and most": f"{ratios[0]:.2f} to {ratios[-1]:.2f}",
            f"{size} models: sluice, plan and run of one batch again, s": round(ours_start_s, 2),
            f"{size} models: dbt run of one batch again, s": round(dbts_start_s, 2),
        }
        print(figures, file=sys.stderr)
    write("microbatch", "A batch of ours and a batch of dbt's microbatch", (__doc__ or "").split("\n\n")[0], figures)


class Sized:
    """A project of so many models, two of which are measured."""

    def __init__(self, folder: Path, models: int):
        self.folder, self.database = folder, folder / "sized.duckdb"
        self.env = sized_project(folder, FILES | {f"filler_{n:04}.sql": f"select {n} as n" for n in range(models - 2)})
        with duckdb.connect(str(self.database)) as connection:
            connection.execute("create schema raw")
            connection.execute(
                "create table raw.events as select day::date as day, 's' || s as symbol, (s * day(day))::int as amount"
                f" from range(timestamp '{FIRST}', timestamp '2025-01-01', interval 1 day) as r(day), range(20) as t(s)"
            )

    def parse(self) -> None:
        """Each has dbt parse once, before anything is measured."""
        self._ours(*ONE)
        self._dbts(FEBRUARY)

    def sluice(self) -> tuple[float, float]:
        """Seconds per batch, and of a whole run of one batch."""
        start_s = min(self._ours(*ONE) for _ in range(2))
        return (self._ours("--select", "sluice", "--to", LAST) - start_s) / (MONTHS - 1), start_s

    def _ours(self, *flags: str) -> float:
        began = time.monotonic()
        plan, run = ([sys.executable, ROOT / "bin" / name] for name in ("plan-batches", "run-dbt-batch"))
        planner = subprocess.Popen([*plan, *flags], env=self.env, stdout=subprocess.PIPE)
        subprocess.run(run, env=self.env, stdin=planner.stdout, stdout=subprocess.DEVNULL, check=True)
        return time.monotonic() - began

    def microbatch(self) -> tuple[float, float]:
        """The same of dbt."""
        start_s = min(self._dbts(FEBRUARY) for _ in range(2))
        return (self._dbts("2025-01-01") - start_s) / (MONTHS - 1), start_s

    def _dbts(self, until: str) -> float:
        command = ["--quiet", "run", "--select", "microbatch", "--full-refresh"]
        command += ["--event-time-start", FIRST, "--event-time-end", until]
        began = time.monotonic()
        subprocess.run([ROOT / ".venv/bin/dbt", *command], env=self.env, check=True, cwd=self.folder)
        return time.monotonic() - began

    def assert_equal(self) -> None:
        with duckdb.connect(str(self.database), read_only=True) as connection:
            rows = [
                connection.execute(f"select * from {name} order by all").fetchall() for name in ("sluice", "microbatch")
            ]
        assert rows[0] == rows[1], "the two differ"
        assert len(rows[0]) > 30_000


if __name__ == "__main__":
    main()
