"""Two models that append, on any engine, run by commands that are lent one dbt: a batch that ran twice, or never, would show."""

import os
import subprocess
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import msgspec
import yaml
from faults.forks import Call, Commands
from history import effects, events, wrong

from sluice.dbt_engine.loader_process import Lender
from sluice.profiles import Credentials
from sluice.state import State
from sluice.warehouse import connect

ROWS = 20  # a month
NUMBERS = {
    "duckdb": "range(1, 21) as numbers (n)",
    "postgres": "generate_series(1, 20) as numbers (n)",
    "clickhouse": "(select number as n from numbers(1, 20))",
}
CONFIG = (
    "materialized='incremental', incremental_strategy='append', meta={'full_refresh': {'start_date': '2024-01-01'}}"
)
# On ClickHouse a merge that is quicker than the next start leaves it to a person what half an append was; with this it does not.
MORE = {"clickhouse": ", settings={'enable_block_number_column': 1}"}
MODELS = {
    "entries": "select cast('{{ var(\"start_month\", \"2024-01-01\") }}' as date) as day, n from {numbers}",
    "totals": "select day, sum(n) as n from {{ ref('entries') }} where day = cast('{{ var(\"start_month\", \"2024-01-01\") }}' as date) group by day",
}  # fmt: skip


def own_environment(lender: Lender | None = None) -> dict[str, str]:
    """A command's: nothing is set for Sluice and dbt, but that it is lent a loader."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("SLUICE_", "DBT_"))}
    if lender is None:
        return clean
    return clean | {key: value for key, value in lender.environment.items() if key == "SLUICE_LENT_LOADER"}


def has_ended(state: State | None) -> bool:
    """Whether all that was begun is done: a runner that is killed in its last moment leaves nothing to go on with."""
    return state is not None and bool(state.runs()) and not state.unfinished()


@dataclass
class Appending:
    """The project on one target. `port`, of a proxy on the way there; `state_url`, else the state is a file."""

    target: Credentials
    folder: Path
    commands: Commands
    port: int | None = None
    state_url: str = ""
    batches: list[dict] = field(default_factory=list)  # of the latest plan from the beginning

    def __post_init__(self) -> None:
        (self.folder / "models").mkdir()
        config = CONFIG + MORE.get(self.target.adapter, "")
        for name, sql in MODELS.items():
            text = sql.replace("{numbers}", NUMBERS[self.target.adapter])
            (self.folder / "models" / f"{name}.sql").write_text(f"{{{{ config({config}) }}}}\n{text}\n")
        (self.folder / "dbt_project.yml").write_text(
            "name: shop\nprofile: shop\nflags: {send_anonymous_usage_stats: false}\n"
        )
        place = {"dbname": self.target.database} if self.target.adapter == "postgres" else {}
        fields = {
            **self.target.fields,
            "type": self.target.adapter,
            "schema": self.target.schema,
            "threads": 1,
            **place,
        }
        fields |= {"port": self.port} if self.port is not None else {}
        (self.folder / "profiles.yml").write_text(
            yaml.safe_dump({"shop": {"target": "dev", "outputs": {"dev": fields}}})
        )

    def begin(self, name: str) -> None:
        """Nothing in the warehouse, and a state of its own."""
        with connect(self.target, tag="begin") as warehouse:
            for table in (*MODELS, "sluice_commit"):
                warehouse.execute(f"drop table if exists {self._relation(warehouse, table)}")
        self.own = {
            "DBT_PROJECT_DIR": str(self.folder), "SLUICE_LOG_DIR": str(self.folder / "logs"),
            "SLUICE_STATE_DIR": str(self.folder / "kept"),  # dbt's parse is the same for all
            "SLUICE_STATE": f"{self.state_url}&schema={name}" if self.state_url else f"sqlite:{self.folder}/{name}/state.sqlite",
        }  # fmt: skip
        self.env = self.commands.env | self.own

    def state(self) -> State | None:
        return State.open_existing(self.env["SLUICE_STATE"])

    def has_begun(self) -> bool:
        """Whether the state knows of a run; one that was ended too early for that is planned anew."""
        state = self.state()
        return state is not None and bool(state.runs())

    def planned(self, *flags: str) -> bytes:
        """What the planner says; `flags` go on with a plan, or begin one."""
        done = self.command("plan-batches", *flags)
        assert done.returncode == 0, done.stderr.decode()
        if "--resume" not in flags:
            records = map(msgspec.json.decode, done.stdout.splitlines())
            self.batches = [record for record in records if record["type"] == "batch"]
        return done.stdout

    def run(self, plan: bytes, *tracer: str) -> subprocess.CompletedProcess[bytes]:
        """The runner on a plan, under a tracer."""
        return self.command("run-dbt-batch", given=plan, tracer=tracer)

    def command(
        self, name: str, *flags: str, given: bytes = b"", tracer: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[bytes]:
        return self.commands.run(Call([name, *flags], given, self.own), tracer)

    def tables(self) -> dict[str, list[tuple]]:
        with connect(self.target, tag="look") as warehouse:
            return {
                name: warehouse.rows(f"select day, n from {self._relation(warehouse, name)} order by day, n")
                for name in MODELS
            }

    def folded(self) -> dict[str, list[tuple]]:
        """What the batches of the plan come to, each once."""
        days = sorted({date.fromisoformat(batch["window"]["start"]) for batch in self.batches})
        every = range(1, ROWS + 1)
        return {"entries": [(day, n) for day in days for n in every], "totals": [(day, sum(every)) for day in days]}

    def judged(self) -> list[str]:
        """What must not be in the history of the plan that has ended, and of its tables."""
        state = self.state()
        assert state is not None
        with connect(self.target, tag="judge") as warehouse:
            found = wrong(events(state), effects(warehouse, self._database, self.target.schema), self.batches)
        state.close()
        if (tables := self.tables()) != self.folded():
            found.append(f"the tables are not what the plan comes to: {tables}")
        return found

    @property
    def _database(self) -> str | None:
        return self.target.database if self.target.adapter == "duckdb" else None

    def _relation(self, warehouse, table: str) -> str:
        return warehouse.relation(self._database, self.target.schema, table)
