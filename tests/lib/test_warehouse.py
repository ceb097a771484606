"""The token domain of the bundled dbt project: in batches, again, or day by day, it leaves what one full refresh leaves."""

import json
import shutil
from collections import Counter
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path

import pytest
from plain_dbt import PlainDbt

PROJECT = Path(__file__).parents[2] / "warehouse"
SCALE = 0.05
TOKEN = ["--exclude", "tag:market"]  # what depends on raw.price_histories is tested by itself
FULL_REFRESH, DAILY = ["run", "--full-refresh", *TOKEN], ["run", *TOKEN]
COARSER = 2  # windows twice as wide as planned: the same stages and the same joints, in half the time
REFUSED = [
    {"start_month": "2024-01-15", "end_month": "2024-02-01"},
    {"start_month": "2024-01-01"},
    {"start_month": "2024-03-01", "end_month": "2024-02-01"},
    {"symbol": " , "},
    {"validator_index_start": "0 or true"},
]


def sample(end: date, **args) -> list[str]:
    args = {"sample_scale": SCALE, "sample_end": str(end), "market": False, **args}
    return ["run-operation", "make_sample_data", "--args", json.dumps(args)]


# The third domain is filled by syncs and has tests of its own: test_warehouse_transactions.py.
SYNCED = ("staged_exchanges", "staged_onchain", "tx_unified", "daily_balances")


class Warehouse:
    """A copy of the project with a database of its own."""

    target = "duckdb"

    def __init__(self, folder: Path, **environment: str):
        self.project = folder / "warehouse"
        self.database = folder / "test.duckdb"
        self.environment = {"SLUICE_DUCKDB_PATH": str(self.database), **environment}
        shutil.copytree(PROJECT, self.project, ignore=shutil.ignore_patterns("target", "logs", "*.duckdb*"))

    def dbt(self, *invocations: list[str]) -> list[str | None]:
        """Runs dbt once for each list of arguments. Returns each one's error, None where it succeeded."""
        return self.plain_dbt.invoke(*invocations)

    @cached_property
    def plain_dbt(self) -> PlainDbt:
        return PlainDbt(self.project, self.target, **self.environment)

    def close(self) -> None:
        """End what runs dbt, if anything does."""
        if "plain_dbt" in self.__dict__:
            self.plain_dbt.close()

    def run(self, *invocations: list[str]) -> None:
        for invocation, error in zip(invocations, self.dbt(*invocations), strict=True):
            assert error is None, f"dbt {' '.join(invocation)}: {error}"

    def models(self) -> list[dict]:
        """The models of the token domain in dependency order, ties by name."""
        self.run(["parse"])
        nodes = json.loads((self.project / "target" / "manifest.json").read_text())["nodes"]
        waiting = {
            key: node
            for key, node in nodes.items()
            if node["resource_type"] == "model" and not {"market", "transactions"} & set(node["tags"])
        }
        models = []
        while waiting:
            ready = [key for key, node in waiting.items() if not waiting.keys() & set(node["depends_on"]["nodes"])]
            models += [waiting.pop(key) for key in sorted(ready)]
        return models

    def query(self, sql: str) -> list[tuple]:
        import duckdb

        with duckdb.connect(str(self.database)) as connection:
            return connection.execute(sql).fetchall()

    def rows(self, schema: str) -> dict[str, Counter]:
        """Every row of every relation, with how often it is there."""
        relations = self.query(f"select table_name from information_schema.tables where table_schema = '{schema}'")
        return {
            name: Counter(self.query(f'select * from {schema}."{name}"')) for (name,) in relations if name not in SYNCED
        }


def months(start: str, step: int, end: date) -> list[dict[str, str]]:
    first, last = (day.year * 12 + day.month - 1 for day in (date.fromisoformat(start), end))

    def name(month: int) -> str:
        return f"{month // 12}-{month % 12 + 1:02}-01"

    return [
        {"start_month": name(month), "end_month": name(min(month + step - 1, last))}
        for month in range(first, last + 1, step)
    ]


def batches(model: dict, end: date, coarser: int = COARSER) -> list[dict]:
    """The vars of each batch of a model; one batch without vars for a model that has no plan."""
    plan = model["config"]["meta"].get("full_refresh")
    if plan is None:
        return [{}]
    return [
        stage.get("vars", {}) | window
        for stage in plan.get("stages", [{}])
        for window in months(
            stage.get("start_date", plan.get("start_date")),
            stage.get("batch_months", plan.get("batch_months", 1)) * coarser,
            end,
        )
    ]


def batch(model: dict, variables: dict) -> list[str]:
    return ["run", "--select", model["name"], "--vars", json.dumps(variables)]


def assert_same(left: dict[str, Counter], right: dict[str, Counter]) -> None:
    assert left.keys() == right.keys()
    for name, rows in left.items():
        assert rows, f"{name} is empty: the comparison would prove nothing"
        assert not rows - right[name], f"{name}: only in the first"
        assert not right[name] - rows, f"{name}: only in the second"


@pytest.mark.long
def test_batches_repeated_ones_and_refused_ones_leave_what_one_full_refresh_leaves(tmp_path):
    end = date(2024, 2, 11)
    warehouse = Warehouse(tmp_path)
    models = warehouse.models()

    rebuild, repeat = [], []
    for model in models:
        first, *rest = [batch(model, variables) for variables in batches(model, end)]
        rebuild += [[*first, "--full-refresh"], *rest]
        repeat += rest[:: max(1, len(rest) // 3)]
    warehouse.run(sample(end), *rebuild)
    batched = warehouse.rows("analytics")

    balances = next(model for model in models if model["name"] == "int_balances_daily")
    window = {"start_month": "2023-11-01", "end_month": "2023-11-01"}
    hostile = [{"symbol": symbol} | window for symbol in ("O'SYN", "x' or 'a' = 'a", "x'); drop table y; --")]
    warehouse.run(*repeat, *(batch(balances, variables) for variables in hostile))
    assert_same(warehouse.rows("analytics"), batched)

    *errors, full_refresh = warehouse.dbt(
        *([*DAILY, "--vars", json.dumps(variables)] for variables in REFUSED), FULL_REFRESH
    )
    for variables, error in zip(REFUSED, errors, strict=True):
        assert error
        assert next(iter(variables)) in error
    assert full_refresh is None
    assert_same(warehouse.rows("analytics"), batched)


@pytest.mark.long
def test_ten_daily_runs_leave_what_one_full_build_leaves_and_its_tests_pass(tmp_path):
    days = [date(2023, 12, 27) + timedelta(days=number) for number in range(11)]
    warehouse = Warehouse(tmp_path)
    warehouse.run(sample(days[0]), FULL_REFRESH, *(step for day in days[1:6] for step in (sample(day), DAILY)))

    # A transfer that comes a day late and that the source then takes back: its balances come, and go again.
    warehouse.query(
        f"insert into raw.transfers select timestamp '{days[4]} 12:00:00', 'USDC', '0x{0:040}', '0x{1:040}', 5"
    )
    warehouse.run(DAILY)
    assert warehouse.query(
        f"select day from analytics.int_balances_daily where address = '0x{1:040}' order by day"
    ) == [
        (days[4],),
        (days[5],),
    ]
    withdraw = sample(days[5], rewrite_from=str(days[4]))
    warehouse.run(withdraw, *(step for day in days[6:] for step in (DAILY, sample(day))), DAILY)
    daily, raw = warehouse.rows("analytics"), warehouse.rows("raw")

    warehouse.run(sample(days[-1], rewrite_from="2021-01-01"), ["build", "--full-refresh", *TOKEN])
    assert_same(warehouse.rows("raw"), raw)
    assert_same(warehouse.rows("analytics"), daily)
