"""How a batch writes to its model's table, judged as dbt's materializations judge it."""

from collections.abc import Mapping
from typing import Any, Literal

from sluice.guards.case import Case
from sluice.records import Batch

Writing = Literal["replaces", "appends", "overwrites", "exchanges"]

REPLACED = ("table", "view", "materialized_view", "distributed_table", "dictionary")
INCREMENTAL = ("incremental", "distributed_incremental")
# Without a key there is nothing to delete or match by, and dbt inserts.
KEYED = ("delete+insert", "delete_insert", "merge", "legacy", None)


def writing(case: Case, batch: Batch) -> Writing | None:
    """What becomes of the rows that are there: all replaced, all kept, those of the same partitions or keys exchanged.

    None for a materialization that is not known here.
    """
    config = case.config(batch)
    kind = config.get("materialized")
    if kind in REPLACED or (kind in INCREMENTAL and rebuilds(config, batch)):
        return "replaces"
    if kind not in INCREMENTAL:
        return None
    strategy, keyed = config.get("incremental_strategy"), bool(config.get("unique_key"))
    if strategy == "insert_overwrite":
        return "overwrites"
    if strategy == "append" or config.get("inserts_only"):
        return "appends"
    if strategy in KEYED and not keyed and not (strategy == "delete+insert" and _deletes_its_own_way(case)):
        return "appends"
    return "exchanges"


def rebuilds(config: Mapping[str, Any], batch: Batch) -> bool:
    """Whether an incremental model is built from nothing: its own word goes before --full-refresh."""
    own = config.get("full_refresh")
    return batch.full_refresh if own is None else bool(own)


def _deletes_its_own_way(case: Case) -> bool:
    """Whether a macro of the project takes the place of dbt's DELETE, which needs a key."""
    names = ("default__get_delete_insert_merge_sql", f"{case.adapter}__get_delete_insert_merge_sql")
    dbts_own = {"dbt", f"dbt_{case.adapter}", "dbt_postgres"}
    return any(uid.rpartition(".")[2] in names and uid.split(".")[1] not in dbts_own for uid in case.manifest.macros)
