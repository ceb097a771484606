"""The table of commits: a row per batch and node, written in the transaction that writes the batch's rows.

root_run_id   the run and batch that the row belongs to
batch_id
unique_id     the node; '' in a row that was written before a batch which cannot carry markers
attempt       which attempt at the batch it was
nodes         how many nodes of the batch carry a marker
committed_at  null in a row whose unique_id is ''
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from dbt.artifacts.resources import Hook
from dbt.contracts.graph.nodes import ModelNode

from sluice.dbt_engine import wire

if TYPE_CHECKING:
    from sluice.dbt_engine.clickhouse_marker import ClickHouseMarkers

TABLE = "sluice_commit"
_TRANSACTIONAL = {"duckdb", "postgres"}
_MATERIALIZATION_PACKAGES = {"dbt", "dbt_duckdb", "dbt_postgres"}


def of(adapter: Any, config: Any, manifest: Any) -> Markers | ClickHouseMarkers | None:
    """What keeps the table of commits here; None where an attempt can neither commit as a whole nor be undone."""
    credentials = config.credentials
    if credentials.type == "clickhouse":
        from sluice.dbt_engine.clickhouse_marker import ClickHouseMarkers

        return ClickHouseMarkers(adapter, config, manifest)
    if credentials.type in _TRANSACTIONAL and not getattr(credentials, "disable_transactions", False):
        return Markers(adapter, config, manifest)
    return None


class Markers:
    """Reads and writes the table of commits of one target."""

    def __init__(self, adapter: Any, config: Any, manifest: Any):
        self._adapter, self._config, self._manifest = adapter, config, manifest
        self._table = adapter.Relation.create(
            database=config.credentials.database, schema=config.credentials.schema, identifier=TABLE
        )
        self._created = False

    def _create(self) -> None:
        """In a transaction of its own."""
        if self._created:
            return
        with self._adapter.connection_named("sluice"):
            self._adapter.create_schema(self._table.without_identifier())
            self._execute(
                f"create table if not exists {self._table} (root_run_id varchar not null, batch_id varchar not null,"
                " unique_id varchar not null, attempt integer not null, nodes integer not null,"
                " committed_at timestamp with time zone)"
            )
        self._created = True

    def begin(self, marker: wire.Marker, nodes: list[ModelNode]) -> dict[str, Hook]:
        """The hooks {unique_id: hook} that write the rows; for a batch that cannot carry them, a row that says so."""
        self._create()
        incremental = [node for node in nodes if node.config.materialized == "incremental"]
        if not all(map(self._carries, incremental)):
            with self._adapter.connection_named("sluice"):
                self._execute(self._insert(marker, "", 0, "null"))
            return {}
        return {
            node.unique_id: Hook(
                sql=self._insert(marker, node.unique_id, len(incremental), "current_timestamp"), transaction=True
            )
            for node in incremental
        }

    def committed(self, marker: wire.Marker) -> bool | str:
        """True: every node is committed, in this attempt or a later one; False: none is; a text: why nobody can tell."""
        credentials = self._config.credentials
        if _is_missing_file(credentials):
            return False  # to look into a file that is not there would create it
        with self._adapter.connection_named("sluice"):
            # Not adapter.get_relation: its cache is older than the table.
            _, found = self._adapter.execute(
                "select count(*) from information_schema.tables"
                f" where lower(table_schema) = lower({_literal(self._table.schema)}) and table_name = '{TABLE}'",
                fetch=True,
            )
            if not found.rows[0][0]:
                return False
            _, rows = self._adapter.execute(
                f"select count(distinct unique_id), max(nodes), min(nodes) from {self._table}"
                f" where root_run_id = {_literal(marker.root_run_id)} and batch_id = {_literal(marker.batch_id)}"
                f" and attempt >= {marker.attempt}",  # the rows of those before may have gone with a replaced table
                fetch=True,
            )
        written, expected, least = rows.rows[0]
        if not written:
            return False
        if not least:
            return "not all of its nodes commit with their marker"
        return True if written >= expected else f"{written} of its {expected} nodes are committed"

    def _carries(self, node: ModelNode) -> bool:
        """Only dbt's own materializations surely run hooks before they commit; DuckDB writes one database at a time."""
        macro = self._manifest.find_materialization_macro_by_name(
            self._config.project_name, "incremental", self._adapter.type()
        )
        return (
            macro.package_name in _MATERIALIZATION_PACKAGES
            and node.database == self._config.credentials.database
            and node.config.incremental_strategy != "microbatch"
        )

    def _insert(self, marker: wire.Marker, unique_id: str, nodes: int, committed_at: str) -> str:
        values = [_literal(marker.root_run_id), _literal(marker.batch_id), _literal(unique_id)]
        values += [str(marker.attempt), str(nodes), committed_at]
        return f"insert into {self._table} values ({', '.join(values)})"

    def _execute(self, sql: str) -> None:
        self._adapter.execute(sql, auto_begin=True)
        self._adapter.commit_if_has_connection()


def _literal(text: str) -> str:
    """`text` as an SQL literal in a hook, which dbt renders: no Jinja can be in it."""
    if any(opening in text for opening in ("{{", "{%", "{#", "\\", "\0")):
        raise ValueError(f"not a name: {text!r}")
    return "'" + text.replace("'", "''") + "'"


def _is_missing_file(credentials: Any) -> bool:
    if credentials.type != "duckdb" or credentials.is_motherduck or credentials.remote:
        return False
    return credentials.path != ":memory:" and "://" not in credentials.path and not os.path.exists(credentials.path)
