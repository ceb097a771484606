"""ClickHouse: a partition merged until each key has one row; judged by counting, never by what the statement says.

OPTIMIZE may say that all is well and have done nothing, and may go on after its client has given up. So it is never
sent while a merge of the partition runs, and what a lost connection left open is waited for.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sluice.errors import FAILED, SluiceError, refused
from sluice.records import Window
from sluice.signals import interruptible
from sluice.warehouse import WarehouseError
from sluice.warehouse.clickhouse import ClickHouse, number_of

NOTHING_DONE = 388  # CANNOT_ASSIGN_OPTIMIZE, with optimize_throw_if_noop
TOO_SLOW = 159
DISK_FACTOR = 1.2  # a merge writes the whole partition anew before it lets go of the old parts
CLOCK_S = 2  # how exactly the clock of one server is known
CLOCKS_S = 60  # how far the clocks of replicas may be from each other
KILL_S = 30.0
NOOP_TRIES = 6
COUNTING = {"max_bytes_before_external_group_by": 2 << 30, "optimize_aggregation_in_order": 1}


@dataclass(frozen=True)
class Table:
    """One table as the server describes it. `key` is SQL: what a row is identified by; None when nobody says."""

    schema: str
    name: str
    engine: str
    sorting_key: str
    storage_policy: str
    key: str | None = None

    @property
    def is_computing(self) -> bool:
        """Whether a merge adds rows up or sets them off: two equal rows are then two amounts."""
        return any(word in self.engine for word in ("Summing", "Aggregating", "Collapsing", "Coalescing", "Graphite"))

    @property
    def is_replacing(self) -> bool:
        return "ReplacingMergeTree" in self.engine

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True)
class Numbers:
    """What is in a partition. `duplicates` are the rows beyond one for each key, None without a key."""

    rows: int
    duplicates: int | None
    parts: int
    bytes: int


def find(warehouse: ClickHouse, schema: str, name: str, unique_key: list[str]) -> Table | None:
    """The table, or None when there is none of the MergeTree family. Raises SluiceError (2) for a Distributed one."""
    rows = warehouse.rows(
        "select engine, sorting_key, storage_policy, engine_full from system.tables"
        " where database = $schema and name = $name",
        {"schema": schema, "name": name},
    )
    if not rows:
        return None
    engine, sorting_key, storage_policy, engine_full = rows[0]
    if engine == "Distributed":
        raise refused(
            f"{schema}.{name} is {engine_full}: it holds no rows itself", code="optimize_distributed",
            hint="make the local table the model's relation, and pass --cluster",
        )  # fmt: skip
    if not engine.endswith("MergeTree"):
        return None
    found = Table(schema, name, engine, sorting_key, storage_policy)
    return Table(schema, name, engine, sorting_key, storage_policy, _key(warehouse, found, unique_key))


def _key(warehouse: ClickHouse, table: Table, unique_key: list[str]) -> str | None:
    """The declared key, else what the engine merges by."""
    if unique_key:
        return ", ".join(map(warehouse.quote, unique_key))
    return (table.sorting_key or "tuple()") if table.is_replacing else None


# -- which ------------------------------------------------------------------------------------------------


def touched(warehouse: ClickHouse, table: Table, windows: Iterable[Window | None], since: datetime | None) -> list[str]:
    """Ids of the partitions that hold days of the windows, in order.

    Where the partition key tells no days, or a batch had no window: those written since, by the server's own clock.
    """
    rows = warehouse.rows(
        "select partition_id, min(if(max_date > toDate(0), min_date, toDate(min_time, 'UTC'))),"
        " max(if(max_date > toDate(0), max_date, toDate(max_time, 'UTC'))), toUnixTimestamp(max(modification_time))"
        f" from {warehouse.system('parts')} where database = $schema and table = $table and active"
        " group by partition_id order by partition_id",
        {"schema": table.schema, "table": table.name},
    )  # fmt: skip
    windows = list(windows)
    uncertain_s = CLOCKS_S if warehouse.cluster else CLOCK_S
    after = since.timestamp() + _ahead_s(warehouse) - uncertain_s if since else 0
    chosen = []
    for partition, first, last, modified in rows:
        if None in windows or last.year == 1970 or last < first:
            is_touched = modified >= after
        else:
            is_touched = any(window and first < window.end and last >= window.start for window in windows)
        if is_touched:
            chosen.append(partition)
    return chosen


def _ahead_s(warehouse: ClickHouse) -> float:
    """How far the server's clock is ahead of ours, less the time that the question takes."""
    return float(warehouse.value("select toUnixTimestamp64Milli(now64(3))")) / 1000 - time.time()


def crowded(warehouse: ClickHouse, tables: list[Table], threshold: int) -> list[tuple[Table, str]]:
    """(table, partition id) with more than `threshold` active parts on a replica, the fullest first."""
    known = {(table.schema, table.name): table for table in tables}
    rows = warehouse.rows(
        "select database, table, partition_id, max(parts) from"
        " (select database, table, partition_id, hostName() as host,"
        f" count() as parts from {warehouse.system('parts')} where active and database in $schemas"
        " group by database, table, partition_id, host) group by database, table, partition_id"
        " having max(parts) > $threshold order by max(parts) desc, database, table, partition_id",
        {"schemas": sorted({schema for schema, _ in known}), "threshold": threshold},
    )  # fmt: skip
    return [(known[schema, name], partition) for schema, name, partition, _ in rows if (schema, name) in known]


def measure(warehouse: ClickHouse, table: Table, partition: str) -> Numbers:
    """Rows, duplicates, parts and bytes of a partition: of all shards together, of one replica each."""
    named = {"schema": table.schema, "table": table.name, "partition": partition}
    parts, size = warehouse.rows(
        "select sum(parts), sum(bytes) from (select shard, max(parts) as parts, max(bytes) as bytes from ("
        f"select {_shard(warehouse)} as shard, hostName() as host, count() as parts, sum(bytes_on_disk) as bytes"
        f" from {warehouse.system('parts')} where database = $schema and table = $table and partition_id = $partition"
        " and active group by shard, host) group by shard)",
        named,
    )[0]
    source = warehouse.relation(None, table.schema, table.name)
    if warehouse.cluster:
        source = f"cluster({', '.join(map(warehouse.quote, (warehouse.cluster, table.schema, table.name)))})"
    if table.key is None:
        rows, keys = (
            warehouse.value(f"select count() from {source} where _partition_id = $partition", {"partition": partition}),
            None,
        )
    else:
        group = f"{_shard(warehouse)}, {table.key}" if warehouse.cluster else table.key
        [(rows, keys)] = warehouse.rows(
            f"select sum(copies), count() from (select count() as copies from {source}"
            f" where _partition_id = $partition group by {group})",
            {"partition": partition},
            settings=COUNTING,
        )
    return Numbers(int(rows), None if keys is None else int(rows - keys), int(parts), int(size))


def _shard(warehouse: ClickHouse) -> str:
    return "_shard_num" if warehouse.cluster else "1"


# -- what must be true before -----------------------------------------------------------------------------


def refuse_unsafe(warehouse: ClickHouse, table: Table, partitions: list[str], *, deduplicate: bool) -> None:
    """Raises SluiceError (2) when a merge could lose rows or cannot succeed. Mutations: see `failing_mutations`."""
    named = {"schema": table.schema, "table": table.name}
    if deduplicate and table.key is None:
        raise refused(
            f"{table} is {table.engine} and declares no key: equal rows, which DEDUPLICATE removes, may be real rows",
            code="optimize_no_key",
            hint="declare unique_key in the model's config, or leave the model out of this pipe",
        )  # fmt: skip
    if deduplicate and table.is_computing:
        raise refused(
            f"{table} is {table.engine}: its equal rows are amounts that count, which DEDUPLICATE would remove",
            code="optimize_computing_engine",
            hint="leave the model out of this pipe, or make it a ReplacingMergeTree",
        )
    projections = [
        name
        for (name,) in warehouse.rows(
            "select name from system.projections where database = $schema and table = $table", named
        )
    ]
    if projections and (deduplicate or table.is_replacing):
        raise refused(
            f"{table} has projections ({', '.join(projections)}), which DEDUPLICATE does not keep true",
            code="optimize_projections",
            hint=f"alter table {table} drop projection {projections[0]}, and add it again afterwards",
        )  # fmt: skip
    largest = warehouse.value(
        "select max(bytes) from (select hostName() as host, partition_id, sum(bytes_on_disk) as bytes"
        f" from {warehouse.system('parts')} where database = $schema and table = $table"
        " and has($partitions, partition_id) and active group by host, partition_id)",
        {**named, "partitions": partitions},
    )  # fmt: skip
    free = _free_bytes(warehouse, table)
    if free < DISK_FACTOR * (largest or 0):
        raise refused(
            f"{table}: to merge its largest partition ({largest:,} bytes) takes {DISK_FACTOR} times as much disk;"
            f" {free:,} bytes are free",
            code="optimize_disk", hint="make room on the disks of the storage policy " + table.storage_policy,
        )  # fmt: skip


def _free_bytes(warehouse: ClickHouse, table: Table) -> int:
    """Unreserved bytes of the table's roomiest disk, on the replica that has least."""
    disks = [
        disk
        for (disks,) in warehouse.rows(
            "select disks from system.storage_policies where policy_name = $policy", {"policy": table.storage_policy}
        )
        for disk in disks
    ]
    return int(warehouse.value(
        "select min(free) from (select hostName() as host, max(unreserved_space) as free"
        f" from {warehouse.system('disks')} where has($disks, name) group by host)",
        {"disks": disks},
    ) or 0)  # fmt: skip


@dataclass(frozen=True)
class Mutation:
    """A mutation that fails again and again; what comes after it waits for ever."""

    mutation_id: str
    command: str
    reason: str


def failing_mutations(warehouse: ClickHouse, table: Table) -> list[Mutation]:
    """Unfinished mutations that have failed, the earliest first: that one is at fault, the others may wait for it."""
    rows = warehouse.rows(
        "select mutation_id, any(command), max(latest_fail_reason), min(create_time) as created"
        f" from {warehouse.system('mutations')} where database = $schema and table = $table and not is_done"
        " group by mutation_id having max(latest_fail_reason) != '' order by created, length(mutation_id), mutation_id",
        {"schema": table.schema, "table": table.name},
    )  # fmt: skip
    return [Mutation(mutation_id, command, " ".join(reason.split())[:300]) for mutation_id, command, reason, _ in rows]


def stuck_tables(warehouse: ClickHouse, schemas: list[str]) -> list[Table]:
    """The tables of these schemas that have unfinished mutations which failed."""
    rows = warehouse.rows(
        f"select distinct database, table from {warehouse.system('mutations')}"
        " where database in $schemas and not is_done and latest_fail_reason != '' order by database, table",
        {"schemas": schemas},
    )
    return [found for schema, name in rows if (found := find(warehouse, schema, name, []))]


def refuse_stuck(warehouse: ClickHouse, table: Table) -> None:
    """Raises SluiceError (2) that names the earliest failing mutation and the command that frees the table."""
    failing = failing_mutations(warehouse, table)
    if failing:
        first = failing[0]
        behind = f"; {len(failing) - 1} more wait behind it" if len(failing) > 1 else ""
        raise refused(
            f"{table}: mutation {first.mutation_id} ({first.command}) fails: {first.reason}{behind}",
            code="optimize_stuck_mutation",
            hint=f"--kill-failed-mutations, or: {_kill(warehouse, table, first.mutation_id)}",
        )  # fmt: skip


def kill_failed_mutation(warehouse: ClickHouse, table: Table) -> Mutation | None:
    """Kill the earliest failing mutation and see to it that it is gone; those behind it get their chance.

    Raises SluiceError (1) when it does not go away.
    """
    failing = failing_mutations(warehouse, table)
    if not failing:
        return None
    first = failing[0]
    warehouse.execute(_kill(warehouse, table, first.mutation_id))
    deadline = time.monotonic() + KILL_S
    while True:
        left = [mutation.mutation_id for mutation in failing_mutations(warehouse, table)]
        if not left or (first.mutation_id not in left and time.monotonic() > deadline):
            return first
        if time.monotonic() > deadline:
            raise SluiceError(
                f"{table}: mutation {first.mutation_id} was killed and is still there after {KILL_S:g} s",
                code="optimize_kill_failed",
                exit_code=FAILED, hint=f"select * from system.mutations where mutation_id = '{first.mutation_id}'",
            )  # fmt: skip
        _pause(0.2)


def _kill(warehouse: ClickHouse, table: Table, mutation_id: str) -> str:
    wanted = {"database": table.schema, "table": table.name, "mutation_id": mutation_id}
    return f"KILL MUTATION{warehouse.on_cluster} WHERE " + " AND ".join(
        f"{name} = {_literal(value)}" for name, value in wanted.items()
    )


# -- the merge --------------------------------------------------------------------------------------------


def merge(warehouse: ClickHouse, table: Table, partition: str, *, deduplicate: bool, wait_s: float) -> None:
    """Merge all parts of a partition into one, and equal rows with them; returns when no merge of it runs any more.

    Raises WarehouseError, also when `wait_s` did not suffice. What is merged is for `measure` to say.
    """
    relation = warehouse.relation(None, table.schema, table.name)
    sql = f"OPTIMIZE TABLE {relation}{warehouse.on_cluster} PARTITION ID {_literal(partition)} FINAL"
    sql += " DEDUPLICATE" if deduplicate else ""
    deadline = time.monotonic() + wait_s
    for tried in range(1, NOOP_TRIES + 1):
        _wait_for_merges(warehouse, table, partition, deadline)
        left_s = max(1.0, deadline - time.monotonic())
        settings: dict[str, int | str] = {
            "optimize_throw_if_noop": 1,
            "optimize_skip_merged_partitions": 0,
            "alter_sync": 2,
            "max_execution_time": 0,
        }
        if warehouse.cluster:
            settings |= {"distributed_ddl_task_timeout": round(left_s), "distributed_ddl_output_mode": "throw"}
        try:
            warehouse.execute(sql, settings=settings, timeout_s=left_s, abandon=True)
            return
        except WarehouseError as problem:
            number = number_of(problem)
            if number in (None, TOO_SLOW):  # its end was not heard of; it may well be at work
                _wait_for_merges(warehouse, table, partition, deadline, problem)
                return
            if number != NOTHING_DONE or tried == NOOP_TRIES or time.monotonic() > deadline:
                raise
        _pause(min(2 ** (tried - 2), max(0.0, deadline - time.monotonic())))


def _wait_for_merges(
    warehouse: ClickHouse, table: Table, partition: str, deadline: float, lost: WarehouseError | None = None
) -> None:
    """Returns when nobody merges the partition. Raises WarehouseError after the deadline: `lost`, if there is one."""
    wait_s = 0.05
    while True:
        try:
            if not _is_merging(warehouse, table, partition):
                return
            why = None
        except WarehouseError as problem:
            if problem.error_class != "transient":
                raise
            why = problem
        if time.monotonic() > deadline:
            raise lost or why or WarehouseError(
                f"{table}: partition {partition} is still being merged",
                code="optimize_still_merging", error_class="transient",
                why="another merge runs", number=None, hint="select * from system.merges",
            )  # fmt: skip
        _pause(wait_s)
        wait_s = min(wait_s * 2, 5.0)


def _is_merging(warehouse: ClickHouse, table: Table, partition: str) -> bool:
    """Whether a merge of the partition runs, or an OPTIMIZE of the table that may begin one."""
    names = [warehouse.relation(None, table.schema, table.name), f"{table.schema}.{table.name}"]
    return bool(warehouse.value(
        f"select (select count() from {warehouse.system('merges')} where database = $schema and table = $table"
        f" and partition_id = $partition) + (select count() from {warehouse.system('processes')}"
        " where query_kind = 'Optimize' and multiSearchAny(query, $names))",
        {"schema": table.schema, "table": table.name, "partition": partition, "names": names},
    ))  # fmt: skip


def _literal(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _pause(seconds: float) -> None:
    with interruptible():
        time.sleep(max(0.0, seconds))
