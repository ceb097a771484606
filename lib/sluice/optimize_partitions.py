"""The partitions that batches have touched, each made right once: one row for each key, as few parts as can be.

It works when its input has ended. Everything that could make it refuse is looked at before anything is changed.
"""

import re
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sluice import aside, error_classes, merge_partitions, planning, profiles, progress, remove_duplicates
from sluice.command import Context
from sluice.errors import SluiceError, refused
from sluice.log import redact
from sluice.manifest import Manifest, Node
from sluice.profiles import Credentials
from sluice.project import Project
from sluice.records import BatchResult, PartitionResult, Plan, Record, Window
from sluice.warehouse import Warehouse, WarehouseError, connect
from sluice.warehouse.clickhouse import ClickHouse

_COLUMN = re.compile(r'^(?:"[^"]+"|`[^`]+`|\w+)$')


@dataclass(frozen=True)
class Options:
    """`threshold` None: the partitions of the batches that come in; a number: those with more active parts."""

    threshold: int | None = None
    max_partitions: int | None = None
    cluster: str | None = None
    kill_failed_mutations: bool = False
    wait_s: float = 3600.0


@dataclass
class Touched:
    """What batches did to one model: the windows they wrote, None for one without, and when the first began."""

    model: str
    windows: list[Window | None] = field(default_factory=list)
    since: datetime | None = None


@dataclass(frozen=True)
class Unit:
    """One partition: how it is measured (rows, duplicates, parts, bytes), how it is mended, given its numbers.

    `refused` or `skipped` say why it is not worked on; `explain` why duplicates may be left.
    """

    table: str
    partition: str | None
    model: str | None
    measure: Callable[[], Any]
    mend: Callable[[Any], None]
    explain: str = ""
    refused: str | None = None
    skipped: str | None = None


def optimize_partitions(ctx: Context, options: Options) -> Generator[Record, None, int | None]:
    """Yield a partition_result for each partition. The exit code is 1 when one failed, else that of the command before.

    Raises SluiceError: 2 for what could lose rows or cannot succeed (no key, projections, disk, a stuck mutation),
    before anything was changed; 69, 75 for the warehouse; 78 for profile and project.
    """
    plan, touched = (None, []) if options.threshold is not None else _read(ctx)
    if options.threshold is None and not touched:
        ctx.log.info("nothing to do")
        return None
    variables = planning.base_vars(plan)
    with Project(ctx.config, variables) as project:
        manifest, target = project.manifest, project.info.target
    if plan is not None and plan.target != target:
        raise refused(
            f"the plan is for target {plan.target}, this command's is {target} ({ctx.config.explain('DBT_TARGET')})",
            code="plan_other_target", hint="use the same --target for both",
        )  # fmt: skip
    unknown = [model.model for model in touched if model.model not in manifest.nodes]
    if unknown:
        raise refused(
            f"{', '.join(unknown)}: not in the project at {ctx.config.project_dir}", code="optimize_unknown_model",
            hint="use the same --project-dir for the whole pipe; of a model that is gone there is nothing to merge",
        )  # fmt: skip
    aside.redirect(manifest, plan)
    credentials = profiles.load(ctx.config, variables)
    warehouse = _connect(ctx, credentials, options)
    if warehouse is None:
        for model in touched:
            node = manifest.nodes[model.model]
            if _is_added_to(node):
                yield PartitionResult(
                    table=f"{node.schema}.{node.alias}", partition=None, model=model.model, status="dry_run"
                )
        return None
    ctx.keeps = True
    with warehouse:
        if isinstance(warehouse, ClickHouse):
            units = _partitions(ctx, warehouse, manifest, touched, options)
        elif options.threshold is not None:
            raise refused(
                "--threshold counts ClickHouse's parts; " + str(credentials) + " has none", code="optimize_no_parts"
            )
        else:
            units = _tables(warehouse, manifest, touched)
        with progress.counting("partitions", len(units)) as count:
            for place, unit in enumerate(_within(units, options.max_partitions)):
                ctx.log.info("partition %d of %d: %s %s", place + 1, len(units), unit.table, unit.partition or "")
                count.now(f"{unit.table} {unit.partition or ''}")
                result = _result(ctx, unit)
                count.add(failed=result.status == "failed")
                yield result
    return None


def _read(ctx: Context) -> tuple[Plan | None, list[Touched]]:
    """The plan, and what its good batches touched; in a rehearsal what they would touch."""
    plan: Plan | None = None
    touched: dict[str, Touched] = {}
    for record in ctx.records():
        if isinstance(record, Plan):
            plan = record
        elif isinstance(record, BatchResult) and record.status in (("ok", "dry_run") if ctx.dry_run else ("ok",)):
            for uid in [record.model] if record.model else [node.unique_id for node in record.nodes]:
                model = touched.setdefault(uid, Touched(uid))
                if record.window not in model.windows:
                    model.windows.append(record.window)
                began = datetime.fromisoformat(record.began_at) if record.began_at else None
                model.since = min(filter(None, (model.since, began)), default=None)
    return plan, list(touched.values())


def _connect(ctx: Context, credentials: Credentials, options: Options) -> Warehouse | None:
    """None when a rehearsal comes before the first run: there is no warehouse to look into."""
    try:
        return connect(
            credentials, tag=f"{ctx.name} {ctx.run_id}".strip(), read_only=ctx.dry_run, cluster=options.cluster,
            lock_wait_s=ctx.config.lock_wait_s, rules=error_classes.load(ctx.config.error_classes),
            timeout_s=options.wait_s,
        )  # fmt: skip
    except SluiceError as problem:
        if ctx.dry_run and problem.code == "warehouse_missing":
            return None
        raise


def _within(units: list[Unit], most: int | None) -> Iterator[Unit]:
    for place, unit in enumerate(units):
        yield unit if most is None or place < most else replace(unit, skipped=f"beyond --max-partitions {most}")


def _result(ctx: Context, unit: Unit) -> PartitionResult:
    """One partition measured, mended and measured again."""
    began = time.monotonic()
    result = PartitionResult(table=unit.table, partition=unit.partition, model=unit.model, status="ok")
    try:
        before = unit.measure()
        _note(result, before, "before")
        if unit.refused:
            result.status, result.error = "failed", unit.refused
        elif unit.skipped:
            result.status, result.error = "skipped", unit.skipped
        elif ctx.dry_run:
            result.status = "dry_run"
        else:
            unit.mend(before)
            after = unit.measure()
            _note(result, after, "after")
            if after.duplicates:
                result.status = "failed"
                result.error = f"{after.duplicates} of {after.rows} rows share their key with another: {unit.explain}"
    except WarehouseError as problem:
        result.status, result.error = "failed", redact(f"{problem.error_class}: {problem.message}")
    result.duration_s = round(time.monotonic() - began, 4)
    if result.status == "failed":
        ctx.log.error("%s, partition %s: %s", unit.table, unit.partition, result.error)
    return result


def _note(result: PartitionResult, numbers: Any, when: str) -> None:
    for name, value in (
        ("rows", numbers.rows), ("duplicate_rows", numbers.duplicates),
        ("parts", getattr(numbers, "parts", None)), ("bytes", numbers.bytes),
    ):  # fmt: skip
        setattr(result, f"{name}_{when}", value)


# -- ClickHouse: partitions of parts ----------------------------------------------------------------------


def _partitions(
    ctx: Context, warehouse: ClickHouse, manifest: Manifest, touched: list[Touched], options: Options
) -> list[Unit]:
    """The partitions of ClickHouse to work on. Raises SluiceError (2) where a touched one must not be."""
    if options.threshold is not None:
        return _crowded(ctx, warehouse, manifest, options, options.threshold)
    found = [
        (model, table) for model in touched if (table := _parts_of(warehouse, manifest.nodes[model.model])) is not None
    ]
    chosen = [
        (model, table, partitions)
        for model, table in found
        if (partitions := merge_partitions.touched(warehouse, table, model.windows, model.since))
    ]
    for _, table, partitions in chosen:
        merge_partitions.refuse_unsafe(warehouse, table, partitions, deduplicate=True)
    for _, table, _ in chosen:
        _free_from_mutations(ctx, warehouse, table, options)
    return [
        _partition(warehouse, table, partition, model.model, options, deduplicate=True)
        for model, table, partitions in chosen
        for partition in partitions
    ]


def _crowded(ctx: Context, warehouse: ClickHouse, manifest: Manifest, options: Options, threshold: int) -> list[Unit]:
    """Partitions of the project's tables with too many parts. What is wrong with one table does not stop the others."""
    models = {}
    for uid, node in manifest.of_type("model", "seed", "snapshot").items():
        try:
            table = merge_partitions.find(warehouse, node.schema or "", node.alias or node.name, _declared_key(node))
        except SluiceError as problem:
            if isinstance(problem, WarehouseError):
                raise
            continue  # it has no parts of its own
        if table is not None:
            models[table] = uid
    units = []
    for table, partition in merge_partitions.crowded(warehouse, list(models), threshold):
        is_keyed = table.key is not None and not table.is_computing
        unit = _partition(warehouse, table, partition, models[table], options, deduplicate=is_keyed)
        try:
            merge_partitions.refuse_unsafe(warehouse, table, [partition], deduplicate=is_keyed)
            _free_from_mutations(ctx, warehouse, table, options)
        except SluiceError as problem:
            if isinstance(problem, WarehouseError):
                raise
            unit = replace(unit, refused=f"{problem.message}; try: {problem.hint}")
        units.append(unit)
    return units


def _parts_of(warehouse: ClickHouse, node: Node) -> merge_partitions.Table | None:
    """The table of a model that batches add to, if it has one of the MergeTree family."""
    if not _is_added_to(node):
        return None
    return merge_partitions.find(warehouse, node.schema or "", node.alias or node.name, _declared_key(node))


def _free_from_mutations(ctx: Context, warehouse: ClickHouse, table: merge_partitions.Table, options: Options) -> None:
    if options.kill_failed_mutations and ctx.dry_run:
        for mutation in merge_partitions.failing_mutations(warehouse, table)[:1]:
            ctx.log.warning("%s: would kill mutation %s: %s", table, mutation.mutation_id, mutation.reason)
        return
    if options.kill_failed_mutations:
        killed = merge_partitions.kill_failed_mutation(warehouse, table)
        if killed is not None:
            ctx.log.warning("%s: killed mutation %s (%s): %s", table, killed.mutation_id, killed.command, killed.reason)
    merge_partitions.refuse_stuck(warehouse, table)


def _partition(
    warehouse: ClickHouse,
    table: merge_partitions.Table,
    partition: str,
    model: str,
    options: Options,
    *,
    deduplicate: bool,
) -> Unit:
    def mend(before: merge_partitions.Numbers) -> None:
        if before.parts > 1 or before.duplicates:
            merge_partitions.merge(warehouse, table, partition, deduplicate=deduplicate, wait_s=options.wait_s)

    merges_by = f"merges by ({table.sorting_key})" if table.is_replacing else "keeps rows that differ in any column"
    return Unit(
        table=str(table), partition=partition, model=model, mend=mend,
        measure=lambda: merge_partitions.measure(warehouse, table, partition),
        explain=f"{table.engine} {merges_by}, the key is ({table.key})",
    )  # fmt: skip


# -- DuckDB and Postgres: whole tables ----------------------------------------------------------------------


def _tables(warehouse: Warehouse, manifest: Manifest, touched: list[Touched]) -> list[Unit]:
    """The touched tables. Raises SluiceError (2) for one without a key: its equal rows may be real rows."""
    units = []
    for model in touched:
        node = manifest.nodes[model.model]
        name, schema = node.alias or node.name, node.schema or ""
        found = remove_duplicates.columns(warehouse, node.database, schema, name) if _is_added_to(node) else []
        if not found:
            continue
        declared = _declared_key(node)
        if not declared:
            raise refused(
                f"{schema}.{name} declares no key: equal rows may be real rows", code="optimize_no_key",
                hint="declare unique_key in the model's config, or leave the model out of this pipe",
            )  # fmt: skip
        key = remove_duplicates.true_names(declared, found, f"{schema}.{name}")
        units.append(
            _whole_table(
                warehouse, f"{schema}.{name}", warehouse.relation(node.database, schema, name), key, model.model
            )
        )
    return units


def _whole_table(warehouse: Warehouse, table: str, relation: str, key: list[str], model: str) -> Unit:
    return Unit(
        table=table, partition=None, model=model, explain="somebody writes to it",
        measure=lambda: remove_duplicates.measure(warehouse, relation, key),
        mend=lambda before: remove_duplicates.remove(warehouse, relation, key) if before.duplicates else None,
    )  # fmt: skip


def _is_added_to(node: Node) -> bool:
    """Whether batches add rows to what is there; any other model is replaced as a whole."""
    return "incremental" in (node.materialized or "")


def _declared_key(node: Node) -> list[str]:
    """The columns of unique_key. Raises SluiceError (2) for an expression: it is no list of columns."""
    declared = node.config.get("unique_key") or []
    names = (
        [part.strip() for part in declared.split(",")]
        if isinstance(declared, str)
        else [str(part).strip() for part in declared]
    )
    for name in names:
        if not _COLUMN.match(name):
            raise refused(
                f"unique_key of {node.unique_id} is {declared!r}: {name!r} is no column", code="optimize_bad_key",
                hint="make unique_key a list of columns",
            )  # fmt: skip
    return [name.strip('"`') for name in names]
