"""Claims: per batch at most what dbt's own microbatch takes in one invocation, whatever the project's size; a second start in 2.5 s.

Sixty months of one incremental model on DuckDB, in projects of 10, 100 and 500 models. `sluice` is plan-batches | run-dbt-batch,
each batch with its own vars, state and resume; `microbatch` is one `dbt run` of the same SQL. A batch is what sixty take more
than one, over 59; the start is a run of one batch, of files that did not change. The two take turns, three times; medians. Both must
leave the same rows. Processor time, of all processes, is given, too: it does not depend on who else is at work.

    bench/microbatch.py [MODELS...]
"""

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import duckdb
from measure import ROOT, is_quick, sized_project, write

SIZES = (10, 100, 500)
TURNS = 3
ONE, FEBRUARY = ("--select", "sluice", "--to", "2020-01-31"), "2020-02-01"  # a run of one batch, of us and of dbt
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


Took = tuple[float, float]  # seconds by the clock, and of the processors


@contextmanager
def measured() -> Iterator[list[Took]]:
    """What the processes that are started and ended inside took."""
    took: list[Took] = []
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    yield took
    wall_s, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    took.append((wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime))


def _a_batch(all_: Took, start: Took) -> Took:
    return (all_[0] - start[0]) / (MONTHS - 1), (all_[1] - start[1]) / (MONTHS - 1)


def main() -> None:
    figures: dict[str, float | int | str] = {}
    for size in [int(word) for word in sys.argv[1:]] or SIZES:
        with tempfile.TemporaryDirectory() as folder:
            project = Sized(Path(folder), size)
            project.parse()
            turns = [(*project.sluice(), *project.microbatch()) for _ in range(1 if is_quick() else TURNS)]
            project.assert_equal()
        ours, ours_start, dbts, dbts_start = zip(*turns, strict=True)
        figures |= {
            f"{size} models: sluice, ms per batch": _ms(ours, 0),
            f"{size} models: microbatch, ms per batch": _ms(dbts, 0),
            f"{size} models: sluice ÷ microbatch": _ratios(ours, dbts, 0),
            f"{size} models: sluice ÷ microbatch, processor time": _ratios(ours, dbts, 1),
            f"{size} models: sluice, plan and run of one batch again, s": round(median(s for s, _ in ours_start), 2),
            f"{size} models: dbt run of one batch again, s": round(median(s for s, _ in dbts_start), 2),
        }
        print(figures, file=sys.stderr)
    write("microbatch", "A batch of ours and a batch of dbt's microbatch", (__doc__ or "").split("\n\n")[0], figures)


def _ms(turns: tuple[Took, ...], which: int) -> float:
    return round(median(took[which] for took in turns) * 1000, 1)


def _ratios(ours: tuple[Took, ...], dbts: tuple[Took, ...], which: int) -> str:
    """The median of the turns' ratios, least and most."""
    ratios = sorted(one[which] / other[which] for one, other in zip(ours, dbts, strict=True))
    return f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"


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

    def sluice(self) -> tuple[Took, Took]:
        """What a batch takes, and a whole run of one batch."""
        start = min(self._ours(*ONE) for _ in range(2))
        return _a_batch(self._ours("--select", "sluice", "--to", LAST), start), start

    def _ours(self, *flags: str) -> Took:
        with measured() as took:
            plan, run = ([sys.executable, ROOT / "bin" / name] for name in ("plan-batches", "run-dbt-batch"))
            planner = subprocess.Popen([*plan, *flags], env=self.env, stdout=subprocess.PIPE)
            subprocess.run(run, env=self.env, stdin=planner.stdout, stdout=subprocess.DEVNULL, check=True)
            planner.wait()
        return took[0]

    def microbatch(self) -> tuple[Took, Took]:
        """The same of dbt."""
        start = min(self._dbts(FEBRUARY) for _ in range(2))
        return _a_batch(self._dbts("2025-01-01"), start), start

    def _dbts(self, until: str) -> Took:
        command = ["--quiet", "run", "--select", "microbatch", "--full-refresh"]
        command += ["--event-time-start", FIRST, "--event-time-end", until]
        with measured() as took:
            subprocess.run([ROOT / ".venv/bin/dbt", *command], env=self.env, check=True, cwd=self.folder)
        return took[0]

    def assert_equal(self) -> None:
        with duckdb.connect(str(self.database), read_only=True) as connection:
            rows = [
                connection.execute(f"select * from {name} order by all").fetchall() for name in ("sluice", "microbatch")
            ]
        assert rows[0] == rows[1], "the two differ"
        assert len(rows[0]) > 30_000


if __name__ == "__main__":
    main()
