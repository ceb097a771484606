"""never-seeded and stale-code: models that nothing will ever fill, or that were built by code which is no longer theirs."""

from collections.abc import Iterable, Mapping

from sluice.manifest import Manifest
from sluice.records import PlannedModel
from sluice.warehouse import Warehouse


def never_seeded(warehouse: Warehouse, relation: str, select: str) -> bool:
    """Whether an incremental model's table is empty though its SELECT is not.

    Its watermark is then NULL, no row is after NULL, and every run succeeds with nothing. `relation` is quoted SQL, `select`
    the model's compiled SQL as a full refresh has it. Raises what the warehouse raises.
    """
    if warehouse.rows(f"select 1 from {relation} limit 1"):
        return False
    return bool(warehouse.rows(f"select 1 from ({select}\n) as made limit 1"))


def stale_code(manifest: Manifest, built: Mapping[str, str]) -> list[str]:
    """The models, of those that still exist, whose code, macros or config changed since they were built.

    `built` are the checksums of the plans that built them, by unique_id: see `checksums`.
    """
    return sorted(
        uid for uid, checksum in built.items() if uid in manifest.nodes and manifest.code_checksum(uid)[:16] != checksum
    )


def checksums(models: Iterable[PlannedModel]) -> dict[str, str]:
    """What plans say of their models, the latest plan last."""
    return {model.unique_id: model.checksum for model in models}
