"""ClickHouse's table of commits. Nothing commits together there: what came before a marker is removed when it is missing.

root_run_id   the run and batch that the row belongs to
batch_id
unique_id     the node; '' when the batch has nodes whose effect cannot be told
attempt       which attempt at the batch it was
nodes         how many nodes of the batch add rows
event         begun (before its first statement), committed (after its INSERT), undone (what it left is removed)
table_uuid    begun: which table it was, '' when there was none
blocks        begun: the highest block number of each of its partitions
at            UTC
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from dbt.artifacts.resources import Hook
from dbt.contracts.graph.nodes import ModelNode

from sluice.dbt_engine import leftovers, statements, wire
from sluice.dbt_engine.leftovers import History, Part, Unknown
from sluice.dbt_engine.statements import literal, on_cluster, system

TABLE = "sluice_commit"
_COLUMNS = (
    "root_run_id String, batch_id String, unique_id String, attempt UInt32, nodes UInt32, event LowCardinality(String),"
    " table_uuid String, blocks Map(String, Int64), at DateTime64(3, 'UTC')"
)
_KEEPS_BLOCKS = re.compile(r"\benable_block_number_column\s*=\s*(1|true)\b")


class ClickHouseMarkers:
    """Notes what an attempt is about to add to, and that it did; undoes one that did not."""

    def __init__(self, adapter: Any, config: Any, manifest: Any):
        self._adapter, self._config, self._manifest = adapter, config, manifest
        self._credentials = config.credentials
        self._schema = self._credentials.schema
        self._table = f"{statements.name(self._schema)}.{TABLE}"
        self._created = False

    def begin(self, marker: wire.Marker, nodes: list[ModelNode]) -> dict[str, Hook]:
        """Note each table that is to be added to as it is; the hooks {unique_id: hook} note that it was."""
        adding = [node for node in nodes if self._adds(node)]
        if not adding:
            return {}
        with self._adapter.connection_named("sluice"):
            self._create()
            if not all(map(self._can_be_undone, adding)):
                self._note(marker, "", 0, "begun", "'', map()")
                return {}
            for node in adding:
                self._note(marker, node.unique_id, len(adding), "begun", _state_of(node))
        return {
            node.unique_id: Hook(sql=self._insert(marker, node.unique_id, len(adding), "committed", "'', map()"))
            for node in adding
        }

    def committed(self, marker: wire.Marker) -> bool | str:
        """True: every node is committed; False: none is, and nothing is left of it; a text: why that cannot be known.

        What still runs of the batch is stopped first.
        """
        try:
            statements.stop(self._credentials, statements.batch_prefix(marker))
            with self._adapter.connection_named("sluice"):
                return self._settled(marker)
        except (Unknown, TimeoutError) as why:
            return str(why)

    def _settled(self, marker: wire.Marker) -> bool:
        rows = self._rows(
            f"select unique_id, attempt, nodes, event, table_uuid, blocks, at from {self._everywhere()}"
            f" where root_run_id = {literal(marker.root_run_id)} and batch_id = {literal(marker.batch_id)}"
            f" and attempt >= {marker.attempt} order by attempt, at"
        )  # fmt: skip
        undone = max((attempt for _, attempt, _, event, *_ in rows if event == "undone"), default=0)
        rows = [row for row in rows if row[1] > undone]
        if not rows:
            return False
        nodes = rows[0][2]
        if nodes and len({row[0] for row in rows if row[3] == "committed"}) >= nodes:
            return True
        if not nodes:
            raise Unknown("not all of its nodes are added to by dbt's own materialization `incremental`")
        seen: set[str] = set()
        for unique_id, _, _, event, table_uuid, blocks, at in rows:
            if (
                event == "begun" and unique_id not in seen
            ):  # the first attempt saw the table as it was before all of them
                seen.add(unique_id)
                self._undo(marker, self._manifest.nodes[unique_id], table_uuid, dict(blocks), at)
        self._note(marker, "", nodes, "undone", "'', map()", attempt=max(row[1] for row in rows))
        return False

    def _undo(
        self, marker: wire.Marker, node: ModelNode, table_uuid: str, before: dict[str, int], since: datetime
    ) -> None:
        found = self._rows(f"select toString(uuid), engine, engine_full from system.tables where {_where(node)}")
        if not found:
            return
        uuid, engine, engine_full = found[0]
        name = f"{statements.name(node.schema)}.{statements.name(node.alias)}"
        if table_uuid not in ("", uuid):
            raise Unknown(f"{name} is another table than when it began")
        if not engine.endswith("MergeTree"):
            raise Unknown(f"{name} is {engine}, which has no parts to tell new rows from old by")
        if engine.startswith(("Replicated", "Shared")):  # what another replica was told may not have come here yet
            self._execute(f"system sync replica {name}")
        leftovers.remove(
            leftovers.Table(
                name=name, keeps_blocks=bool(_KEEPS_BLOCKS.search(engine_full)), parts=lambda: self._parts(node),
                history=lambda: self._history(marker, uuid, since), value=lambda sql: self._rows(sql)[0][0],
                execute=self._execute,
            ),
            before,
        )  # fmt: skip

    def _parts(self, node: ModelNode) -> list[Part]:
        return [
            Part(*row)
            for row in self._rows(
                "select name, partition_id, min_block_number, max_block_number, rows from system.parts"
                f" where {_where(node, 'table')} and active"
            )
        ]

    def _history(self, marker: wire.Marker, uuid: str, since: datetime) -> History:
        """What part_log says since the batch began (less an hour, for a server that sets its clock). Raises Unknown."""
        prefix = literal(statements.batch_prefix(marker))
        try:
            self._execute(f"system flush logs{on_cluster(self._credentials)}")
            rows = self._rows(
                f"select event_type, part_name, merged_from, startsWith(query_id, {prefix})"
                f" and toUInt32OrZero(splitByChar(':', query_id)[4]) >= {marker.attempt}, rows"
                f" from {system(self._credentials, 'part_log')} where table_uuid = {literal(uuid)} and error = 0"
                f" and event_type in ('NewPart', 'MergeParts', 'MutatePart')"
                f" and event_date >= toDate({literal(str(since.date()))}) - 1"
            )
        except Exception as problem:
            raise Unknown(f"system.part_log, which says who wrote a part, cannot be read: {_brief(problem)}") from None
        history = History()
        for event, part, merged_from, is_ours, count in rows:
            if event == "NewPart":
                history.written[part] = bool(is_ours)
                history.rows[part] = count
            else:
                history.merged[part] = list(merged_from)
        return history

    def _adds(self, node: ModelNode) -> bool:
        """Whether a run of the node puts rows beside those that are there; a strategy that replaces may be repeated."""
        if "incremental" not in node.config.materialized:
            return False
        strategy = node.config.incremental_strategy
        return bool(
            node.config.materialized != "incremental"
            or node.config.get("inserts_only")
            or strategy in ("append", "microbatch")
            or (not node.config.unique_key and strategy != "insert_overwrite")
        )

    def _can_be_undone(self, node: ModelNode) -> bool:
        macro = self._manifest.find_materialization_macro_by_name(
            self._config.project_name, node.config.materialized, self._adapter.type()
        )
        return (
            node.config.materialized == "incremental"
            and macro.package_name == "dbt_clickhouse"
            and node.config.incremental_strategy != "microbatch"
        )

    def _create(self) -> None:
        if self._created:
            return
        cluster = on_cluster(self._credentials)
        self._execute(f"create database if not exists {statements.name(self._schema)}{cluster}")
        self._execute(
            f"create table if not exists {self._table}{cluster} ({_COLUMNS})"
            " engine = MergeTree order by (root_run_id, batch_id, attempt)"
        )
        self._created = True

    def _everywhere(self) -> str:
        """The table of commits, of all replicas; an empty one where there is none yet."""
        exists = f"select count() from system.tables where database = {literal(self._schema)} and name = '{TABLE}'"
        if not self._rows(exists)[0][0]:
            return f"null('{_COLUMNS.replace(chr(39), chr(92) + chr(39))}')"
        if not self._credentials.cluster:
            return self._table
        return f"clusterAllReplicas({statements.name(self._credentials.cluster)}, {statements.name(self._schema)}, {TABLE})"

    def _note(self, marker: wire.Marker, unique_id: str, nodes: int, event: str, state: str, **more: int) -> None:
        self._execute(self._insert(marker, unique_id, nodes, event, state, **more))

    def _insert(
        self, marker: wire.Marker, unique_id: str, nodes: int, event: str, state: str, attempt: int | None = None
    ) -> str:
        ids = ", ".join(map(literal, (marker.root_run_id, marker.batch_id, unique_id)))
        return (
            f"insert into {self._table} select {ids}, {attempt or marker.attempt}, {nodes}, '{event}', {state},"
            " now64(3, 'UTC')"
        )

    def _rows(self, sql: str) -> list[tuple]:
        return [tuple(row) for row in self._client().query(sql).result_set]

    def _execute(self, sql: str) -> None:
        self._client().command(sql)

    def _client(self) -> Any:
        """The connection's client, for answers as they are: dbt's tables would guess at types."""
        return self._adapter.connections.get_thread_connection().handle


def _where(node: ModelNode, column: str = "name") -> str:
    return f"database = {literal(node.schema)} and {column} = {literal(node.alias)}"


def _state_of(node: ModelNode) -> str:
    """SQL for the columns table_uuid and blocks: the node's table as it is when the statement runs."""
    numbers = (
        "select partition_id, max(max_block_number) as highest from system.parts"
        f" where {_where(node, 'table')} and active group by partition_id"
    )
    return (
        f"ifNull((select toString(any(uuid)) from system.tables where {_where(node)} having count() > 0), ''),"
        f" (select mapFromArrays(groupArray(partition_id), groupArray(highest)) from ({numbers}))"
    )


def _brief(problem: Exception) -> str:
    return " ".join(str(problem).split())[:200]
