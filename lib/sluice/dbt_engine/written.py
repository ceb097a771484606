"""DuckDB: how many rows a statement wrote. The driver knows, dbt-duckdb answers OK whatever it was."""

from __future__ import annotations

from typing import Any


def install(credentials: Any) -> None:
    """See to it that dbt's results have `rows_affected` from now on."""
    if credentials.type != "duckdb":
        return
    from dbt.adapters.contracts.connection import AdapterResponse
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager

    def response(cursor: Any) -> AdapterResponse:
        rows = getattr(cursor, "rowcount", -1)  # -1: it was no statement that writes
        return AdapterResponse(_message="OK", rows_affected=rows if isinstance(rows, int) and rows >= 0 else None)

    DuckDBConnectionManager.get_response = staticmethod(response)
