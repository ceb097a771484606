"""What the guards cost: all of them over a project of 1,300 models, without the warehouse."""

import json
import statistics
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

from measure import ROOT, write

sys.path.insert(0, str(ROOT / "lib"))

from sluice import full_refresh, manifest, planning
from sluice.guards import check, rendered
from sluice.guards.case import Case
from sluice.records import Batch
from sluice.windows import month_vars, monthly_windows

MODELS, STAGED, TIMES = 1300, 300, 7
START, TO = "2021-01-01", date(2025, 12, 31)
SQL = """{{ config(materialized='incremental', incremental_strategy=('append' if var('start_month', none) else 'merge')) }}
select symbol, day, sum(amount) as amount from {{ ref('model_0001') }}
{% if is_incremental() %} where day >= (select max(day) from {{ this }}) {% endif %}
and {{ sluice.symbol_filter('symbol') }} group by symbol, day
"""
BLOCK = {
    "start_date": START,
    "stages": [{"name": "rest", "vars": {"symbol_exclude": "A,B"}}, {"name": "few", "vars": {"symbol": ["A", "B"]}}],
}


def project(folder: Path) -> manifest.Manifest:
    """A chain ten models deep, a fifth of it staged by month; every model has code of its own."""
    nodes = {}
    for n in range(MODELS):
        uid, ups = f"model.shop.model_{n:04}", [f"model.shop.model_{n - 130 * k:04}" for k in (1, 2) if n >= 130 * k]
        config = {"materialized": "incremental", "incremental_strategy": "merge", "unique_key": ["symbol", "day"],
                  "engine": "ReplacingMergeTree()", "order_by": "(symbol, day)", "partition_by": "toStartOfMonth(day)",
                  "meta": {"full_refresh": BLOCK} if n < STAGED else {}}  # fmt: skip
        nodes[uid] = {
            "unique_id": uid, "name": uid[11:], "resource_type": "model", "package_name": "shop", "path": f"{uid[11:]}.sql",
            "original_file_path": f"models/{uid[11:]}.sql", "fqn": ["shop", uid[11:]], "config": config,
            "raw_code": f"-- {n}\n{SQL}" * 3, "depends_on": {"nodes": ups},
        }  # fmt: skip
    metadata = {"dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v12.json", "adapter_type": "clickhouse"}
    path = folder / "manifest.json"
    path.write_text(json.dumps({"metadata": metadata, "nodes": nodes}))
    return manifest.load(path)


def plan(known: manifest.Manifest, *, replace: bool) -> list[Batch]:
    stages = full_refresh.resolve(BLOCK, file="", model="")
    batches = []
    for uid in known.order(known.nodes):
        common = {"batch_id": "", "plan_id": "", "seq": 0, "total": 0, "reason": "full_refresh", "model": uid, "select": [uid],
                  "expect": [uid]}  # fmt: skip
        own = [
            Batch(**common, stage=stage.name, window=window, vars=stage.vars | month_vars(window))
            for stage in (stages if int(uid[-4:]) < STAGED else [])
            for window in monthly_windows(stage.start_date, TO, 1)
        ] or [Batch(**common)]
        own[0].full_refresh = replace
        batches += own
    return planning.build(
        batches, [], intent="full_refresh", project="shop", target="dev", adapter="clickhouse", to=TO, request={}
    )[1]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        known = project(Path(folder))
    seconds: dict[str, list[float]] = {"table replaced": [], "appended": []}
    for kind in seconds:
        batches = plan(known, replace=kind == "table replaced")
        for _ in range(TIMES):
            began = time.process_time()
            asked = rendered.questions(known, batches, {})
            configs = {
                one: {**known.nodes[q.model].config, "incremental_strategy": "append"} for one, q in asked.items()
            }
            blocks = check.blocks(known, {batch.model for batch in batches if batch.model})
            case = Case(known, "clickhouse", "full_refresh", batches, TO, TO, blocks, configs, {"other": "x.yml"})
            check.judge(case)
            seconds[kind].append(time.process_time() - began)
    worst = max(map(statistics.median, seconds.values()))
    figures = {"models": MODELS, "batches": len(batches)} | {
        f"{kind}: median of {TIMES}, CPU s": round(statistics.median(taken), 3) for kind, taken in seconds.items()
    }
    write(
        "guards",
        "What the guards cost",
        "Claim: all guards over 1,300 models take under a second of CPU, without the warehouse.",
        figures,
    )
    print(figures)
    assert worst < 1.0, figures


if __name__ == "__main__":
    main()
