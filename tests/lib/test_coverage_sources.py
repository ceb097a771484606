"""Coverage as it is now: a plan, a state store and a real table say together what each cell is."""

from collections import Counter
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from builders import FakeContext
from test_plan_batches import Shop

from sluice import plan_batches
from sluice.config import Config
from sluice.coverage import Cell
from sluice.coverage_sources import Covered, look
from sluice.errors import REFUSED, SluiceError, unavailable
from sluice.profiles import Credentials
from sluice.state import State
from sluice.warehouse import connect

pytest_plugins = ["servers"]


@pytest.fixture
def shop(own_settings: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    made = Shop(own_settings, tmp_path)
    monkeypatch.setattr(plan_batches, "Project", made)
    return made


def looked(shop: Shop, state: State | None, connection: Any = None, *, now: date = date(2024, 3, 31)) -> Covered:
    """What coverage is of the shop; `connection` is its warehouse's credentials, or why there is none."""
    project = shop(shop.config, {})
    if isinstance(connection, Credentials):
        credentials = connection
        place = {"database": credentials.database, "schema": credentials.schema}
        nodes = {
            uid: msgspec.structs.replace(node, alias=node.name, **place) for uid, node in project.manifest.nodes.items()
        }
        project.manifest.nodes.update(nodes)
        project.connect = lambda tag: connect(credentials, tag=tag, read_only=True)
    elif connection is not None:

        def away(tag: str) -> None:
            raise connection

        project.connect = away
    context = FakeContext(shop.config)
    context.now = SimpleNamespace(date=lambda: now)
    return look(context, project, state)


def of(covered: Covered, stage: str) -> list[Cell]:
    return [cell for cell in covered.cells if cell.model == "model.shop.balances" and cell.stage == stage]


def test_what_is_meant_recorded_and_counted_is_put_together(shop: Shop, target: Credentials) -> None:
    shop.models["balances"]["code"] = "select symbol, day from x"
    plan, batches = shop.plan(("balances", "accounts"))
    state = shop.carry_out(plan, batches, "ok", "ok", "ok", "failed")  # accounts, legacy: January to March
    with connect(target, tag="test") as warehouse:
        table = warehouse.relation(target.database, target.schema, "balances")
        engine = " engine = Memory" if target.adapter == "clickhouse" else ""
        warehouse.execute(f"create table {table} (day date, symbol varchar(9)){engine}")
        for day, symbol in [("2024-01-15", "DAI"), ("2024-01-16", "DAI"), ("2024-02-02", "USDC")]:
            warehouse.execute(f"insert into {table} values ('{day}', '{symbol}')")
    found = looked(shop, state, target)
    assert found.uncounted is None
    assert [(cell.status, cell.rows) for cell in of(found, "legacy")] == [("ok", 2), ("empty", 0), ("failed", 0)]
    assert [(cell.status, cell.rows) for cell in of(found, "usdc")] == [("unrecorded", 1), ("never_run", 0)]
    whole = Counter((cell.status, cell.month) for cell in found.cells if cell.model != "model.shop.balances")
    assert whole == {("ok", None): 1, ("never_run", None): 2}


def test_without_a_state_or_a_warehouse_all_is_yet_to_be_run(shop: Shop) -> None:
    found = looked(shop, None)
    assert {cell.status for cell in found.cells} == {"never_run"}
    assert {cell.rows for cell in of(found, "legacy")} == {0}  # a file that is not there has no rows


def test_a_warehouse_that_is_away_leaves_the_rows_unknown(shop: Shop) -> None:
    plan, batches = shop.plan(("balances",))
    found = looked(shop, shop.carry_out(plan, batches, "ok"), unavailable("nobody answers", code="warehouse_away"))
    assert found.uncounted == "nobody answers"
    assert [(cell.status, cell.rows) for cell in of(found, "legacy")] == [("ok", None), *[("never_run", None)] * 2]


def test_code_that_changed_since_makes_its_cells_stale(shop: Shop) -> None:
    plan, batches = shop.plan(("balances",))
    state = shop.carry_out(plan, batches, *["ok"] * len(batches))
    away = unavailable("nobody answers", code="warehouse_away")
    assert {cell.status for cell in of(looked(shop, state, away), "usdc")} == {"ok"}
    shop.models["balances"]["code"] = "select 2"
    assert {cell.status for cell in of(looked(shop, state, away), "usdc")} == {"stale"}


def test_what_is_at_work_is_not_taken_for_a_failure(shop: Shop) -> None:
    plan, batches = shop.plan(("balances",))
    state = shop.carry_out(plan, batches, "ok", "unknown")
    away = unavailable("nobody answers", code="warehouse_away")
    lock = state.store.lock(plan.run_id)
    lock.acquire()
    assert [cell.status for cell in of(looked(shop, state, away), "legacy")] == ["ok", "never_run", "never_run"]
    lock.release()
    assert [cell.status for cell in of(looked(shop, state, away), "legacy")] == ["ok", "failed", "never_run"]


def test_records_of_another_target_are_none_of_its(shop: Shop) -> None:
    plan, batches = shop.plan(("balances",))
    state = shop.carry_out(plan, batches, "ok")
    shop.target = "prod"
    assert {cell.status for cell in looked(shop, state).cells} == {"never_run"}


def test_a_bad_block_is_refused_with_where_it_stands(shop: Shop) -> None:
    shop.models["balances"]["meta"] = {"full_refresh": {"start_date": "soon"}}
    with pytest.raises(SluiceError, match="balances") as caught:
        looked(shop, None)
    assert caught.value.exit_code == REFUSED
