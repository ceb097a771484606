"""Why waves: the recipe of two passes doubles what is summed, on a real ClickHouse, and no merge ever takes it back.

The planner's own steps are carried out in plain SQL: an append for each batch, OPTIMIZE where a wave ends.
"""

from datetime import date

import pytest
from test_refill import a_manifest, uids

from sluice import refill
from sluice.clickhouse_server import ClickHouseServer
from sluice.profiles import Credentials

pytest_plugins = ["servers"]

TRUE_SUPPLY = 10_000  # ten holders of 1,000 each
MONTHS = refill.Gap(date(2026, 3, 30), date(2026, 4, 27), 1).months
APPEND = {
    "balances": "insert into {db}.balances select toDate('{start}') + day.number, holder.number, 1000"
    " from numbers(dateDiff('day', toDate('{start}'), toDate('{end}'))) as day, numbers(10) as holder",
    "supply": "insert into {db}.supply select day, sum(balance) from {db}.balances"
    " where day >= '{start}' and day < '{end}' group by day",
}


class Tables:
    """Two tables of ClickHouse in which nothing merges unasked, built from scratch."""

    def __init__(self, server: ClickHouseServer, database: str):
        self.server, self.database = server, database
        settings = "partition by toYYYYMM(day) settings max_bytes_to_merge_at_max_space_in_pool = 1"
        for name, columns, key in (
            ("balances", "day Date, holder UInt32, balance UInt64", "(day, holder)"),
            ("supply", "day Date, supply UInt64", "day"),
        ):
            self.run(f"create table {{db}}.{name} ({columns}) engine = ReplacingMergeTree order by {key} {settings}")
        for name in APPEND:
            for month in MONTHS:
                self.run(APPEND[name], start=month.start, end=month.end)

    def run(self, sql: str, **values: object) -> str:
        return self.server.query(sql.format(db=self.database, **values)).strip()

    def carry_out(self, steps: list[refill.Step]) -> list[int]:
        """The largest supply of a day as every wave leaves it."""
        found = []
        for wave in sorted({step.wave for step in steps}):
            own = [step for step in steps if step.wave == wave]
            for step in own:
                assert step.window
                self.run(APPEND[step.node.name], start=step.window.start, end=step.window.end)
            for name, month in {(step.node.name, f"{step.window.start:%Y%m}") for step in own if step.window}:
                self.run(f"optimize table {{db}}.{name} partition {month} final deduplicate")
            found.append(int(self.run("select max(supply) from {db}.supply final")))
        return found

    def rows(self) -> list[str]:
        return [self.run(f"select *, count() over () from {{db}}.{name} order by all") for name in APPEND]


@pytest.fixture
def tables(clickhouse: ClickHouseServer, clickhouse_target: Credentials) -> Tables:
    return Tables(clickhouse, clickhouse_target.schema)


@pytest.fixture
def cohort(tmp_path):
    found = a_manifest(tmp_path, {"balances": {}, "supply": {"on": ["balances"]}})
    return found, uids("balances", "supply")


def test_two_passes_double_what_is_summed_and_keep_it(tables: Tables, cohort):
    steps = refill.rewrite(*cohort, MONTHS, passes="two")
    assert tables.carry_out(steps) == [2 * TRUE_SUPPLY, 2 * TRUE_SUPPLY]


def test_waves_leave_what_a_build_from_scratch_leaves(tables: Tables, cohort):
    built = tables.rows()
    steps = refill.rewrite(*cohort, MONTHS)
    assert len(steps) == len(refill.rewrite(*cohort, MONTHS, passes="two")) / 2
    assert tables.carry_out(steps) == [TRUE_SUPPLY, TRUE_SUPPLY]
    assert tables.rows() == built


def test_waves_put_right_what_two_passes_have_doubled(tables: Tables, cohort):
    built = tables.rows()
    tables.carry_out(refill.rewrite(*cohort, MONTHS, passes="two"))
    assert tables.rows() != built
    tables.carry_out(refill.rewrite(*cohort, MONTHS))
    assert tables.rows() == built
