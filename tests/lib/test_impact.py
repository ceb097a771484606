"""The blast radius: what lies below a source, what would be done to it, in which order, and who reads it."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from builders import FakeContext

from sluice import forecasting, impact, manifest, plan_refill
from sluice.config import Config
from sluice.dbt_engine.wire import ProjectInfo
from sluice.errors import REFUSED, SluiceError, refused, unavailable
from sluice.plan_refill import Request
from sluice.records import Batch, Forecast, Gate, Impact, PlannedGap, Record, Window

PRICES, TRADES = "source.shop.raw.prices", "source.shop.raw.trades"
BLOCK = {"full_refresh": {"start_date": "2024-01-01"}}
# raw.prices → stg (view) → int_prices (a consumer) → balances (cohort, by months) → totals (table) → the dashboard
MODELS: dict[str, dict[str, Any]] = {
    "stg_prices": {"on": [PRICES], "materialized": "view"},
    "int_prices": {"on": ["model.shop.stg_prices"]},
    "balances": {"on": ["model.shop.int_prices", TRADES], "meta": BLOCK},
    "running": {"on": ["model.shop.balances"], "meta": BLOCK, "sql": "select * from {{ this }}"},
    "totals": {"on": ["model.shop.balances"], "materialized": "table"},
    "fct_trades": {"on": [TRADES], "materialized": "table"},
}
SELECTIONS = {"tag:cohort": ["balances"], "int_prices": ["int_prices"], "tag:other": ["fct_trades"]}


class Shop:
    """A project with two sources; what it is asked to select it looks up."""

    def __init__(self, folder: Path):
        def node(uid: str, **fields: Any) -> dict[str, Any]:
            kind, package, *_, name = uid.split(".")
            both = {
                "unique_id": uid,
                "name": name,
                "resource_type": kind,
                "package_name": package,
                "fqn": [package, name],
            }
            return both | {"path": f"{name}.sql", "original_file_path": f"models/{name}.sql"} | fields

        models = {
            f"model.shop.{name}": node(
                f"model.shop.{name}", raw_code=one.get("sql", "select 1"), depends_on={"nodes": one["on"]},
                config={"materialized": one.get("materialized", "incremental"), "meta": one.get("meta", {})},
            )
            for name, one in MODELS.items()
        }  # fmt: skip
        sources = {uid: node(uid, source_name="raw") for uid in (PRICES, TRADES)}
        board = "exposure.shop.board"
        content = {
            "metadata": {"dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v12.json"},
            "nodes": models, "sources": sources,
            "exposures": {board: node(board, depends_on={"nodes": ["model.shop.totals"]})},
        }  # fmt: skip
        path = folder / "manifest.json"
        path.write_bytes(msgspec.json.encode(content))
        self.manifest = manifest.load(path)
        self.info = ProjectInfo("shop", "dev", "duckdb", None, "main", "1.11", "")

    def __call__(self, *_: object) -> "Shop":
        return self

    def __enter__(self) -> "Shop":
        return self

    def __exit__(self, *_: object) -> None: ...

    def connect(self, tag: str) -> None:
        raise unavailable("nobody answers", code="warehouse_away")

    def select(self, select: list[str], exclude: list[str], selector: str | None) -> list[str]:
        (asked,) = select
        if asked.startswith("source:raw."):
            source = f"source.shop.{asked.removeprefix('source:').removesuffix('+')}"
            chosen = impact.below(self.manifest, source) & self.manifest.of_type("model").keys()
        else:
            chosen = {f"model.shop.{name}" for name in SELECTIONS.get(asked, [])}
        if not chosen:
            raise refused("no model", code="plan_empty_selection")
        return self.manifest.order(chosen)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    made = Shop(tmp_path)
    for module in (plan_refill, forecasting):
        monkeypatch.setattr(module, "Project", made)
    return made


def planned(
    config: Config, source: str = "raw.prices", *, cohort: str = "tag:cohort", only_impact: bool = False
) -> list[Record]:
    request = Request(
        "2024-04-17", 1, cohort, "int_prices", "lookback", False, False, "one", "{}", ["G03", "G13"], source
    )
    today = date(2024, 5, 2)
    context = FakeContext(config, now=datetime(2024, 5, 2, 6, tzinfo=UTC))
    options = {"resume": False, "accept_drift": False, "only_impact": only_impact}
    return list(plan_refill.plan_refill(context, request, today=today, **options))


def told(records: list[Record]) -> list[tuple]:
    batches = [one for one in records if isinstance(one, Batch)]
    return [((b.model or "")[11:], b.wave, b.window.start.month if b.window else None, b.phase) for b in batches]


def test_a_refill_of_a_source_begins_above_the_cohort_and_leaves_out_what_is_not_made_from_it(
    shop: Shop, own_settings: Config
) -> None:
    records = planned(own_settings)
    assert told(records) == [
        ("stg_prices", 1, None, "rebuild"), ("int_prices", 2, None, "consumers"), ("balances", 3, 4, "rewrite"),
        ("balances", 3, 5, "rewrite"), ("running", 5, 4, "rebuild"), ("totals", 5, None, "rebuild"),
        ("running", 6, 5, "rebuild"),
    ]  # fmt: skip
    assert [(gate.wave, gate.models) for gate in records if isinstance(gate, Gate)] == [(4, ["model.shop.balances"])]


@pytest.mark.parametrize("cohort", ["tag:other", "tag:none"])
def test_without_a_cohort_below_it_everything_is_rebuilt_in_order_and_no_gate_asked(
    shop: Shop, own_settings: Config, cohort: str
) -> None:
    records = planned(own_settings, cohort=cohort)
    assert [model for model, *_ in told(records)] == [
        "stg_prices", "int_prices", "balances", "balances", "running", "totals", "running",
    ]  # fmt: skip
    assert not any(isinstance(record, Gate) for record in records)
    waves = {model: wave for model, wave, *_ in told(records)}
    assert waves["stg_prices"] < waves["int_prices"] < waves["balances"] < waves["totals"]


def test_the_impact_is_a_tree_with_windows_waves_and_readers_and_plans_nothing(
    shop: Shop, own_settings: Config
) -> None:
    *tree, forecast = planned(own_settings, only_impact=True)
    assert all(isinstance(one, Impact) for one in tree)
    assert [(one.depth, one.node.rpartition(".")[2], one.effect, one.waves) for one in tree if isinstance(one, Impact)] == [
        (0, "prices", "source", []), (1, "stg_prices", "none", [1]), (2, "int_prices", "lookback", [2]),
        (3, "balances", "months", [3]), (4, "running", "months", [5, 6]), (4, "totals", "whole", [5]),
        (5, "board", "read", []),
    ]  # fmt: skip
    windows = {one.node.rpartition(".")[2]: one.window for one in tree if isinstance(one, Impact)}
    assert windows["prices"] == Window(date(2024, 4, 17), date(2024, 5, 3))
    assert windows["int_prices"] == Window(date(2024, 4, 16), date(2024, 5, 3))  # a day of buffer
    assert windows["balances"] == Window(date(2024, 4, 1), date(2024, 6, 1))
    assert windows["totals"] is windows["board"] is None
    assert isinstance(forecast, Forecast)
    assert (forecast.unknown, forecast.p50_s) == (7, None)


def test_a_cohort_that_cannot_be_selected_is_no_cohort_of_nothing(
    shop: Shop, own_settings: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    select = shop.select

    def strict(asked: list[str], *more: Any) -> list[str]:
        if asked == ["tga:cohort"]:
            raise refused("no such method", code="plan_bad_selection")
        return select(asked, *more)

    monkeypatch.setattr(shop, "select", strict)
    with pytest.raises(SluiceError, match="no such method"):
        planned(own_settings, cohort="tga:cohort")


def test_what_two_ways_lead_to_is_told_once_and_what_no_batch_touches_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        MODELS, "report", {"on": ["model.shop.totals", "model.shop.int_prices"], "materialized": "table"}
    )
    known = Shop(tmp_path).manifest
    gap = PlannedGap(
        first=date(2024, 4, 17), days=15, buffer_days=1, lookback_days=17, months=[], planned_on=date(2024, 5, 2)
    )
    found = list(impact.impacts(known, PRICES, gap, []))
    names = [one.node.rpartition(".")[2] for one in found]
    assert sorted(names) == sorted({*names})
    effects = {one.node.rpartition(".")[2]: (one.effect, one.through) for one in found}
    assert effects["report"] == ("not_planned", ["model.shop.totals", "model.shop.int_prices"])
    assert effects["stg_prices"] == ("none", [PRICES])


def test_a_table_is_rebuilt_as_a_whole_also_where_it_is_told_to_look_back(
    shop: Shop, own_settings: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SELECTIONS, "int_prices", ["int_prices", "totals"])
    found = {
        one.node.rpartition(".")[2]: one for one in planned(own_settings, only_impact=True) if isinstance(one, Impact)
    }
    assert (found["totals"].effect, found["totals"].window) == ("whole", None)
    assert found["int_prices"].effect == "lookback"


def test_a_source_that_is_not_there_is_refused_with_those_that_are(shop: Shop, own_settings: Config) -> None:
    with pytest.raises(SluiceError, match=r"did you mean 'raw\.prices'") as caught:
        planned(own_settings, "raw.price")
    assert (caught.value.exit_code, caught.value.code) == (REFUSED, "refill_unknown_source")
    assert impact.source_named(shop.manifest, "trades").unique_id == TRADES
