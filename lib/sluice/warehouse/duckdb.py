"""DuckDB: a file in this process. One process has it at a time, so a locked file is waited for."""

import os
import time
from collections.abc import Mapping
from typing import Any

from sluice.errors import unavailable
from sluice.profiles import Credentials
from sluice.signals import interruptible
from sluice.warehouse import Warehouse, WarehouseError, with_placeholders


class DuckDB(Warehouse):
    """A connection to the file of a target, with the settings, extensions and attachments of its profile."""

    adapter = "duckdb"

    def __init__(self, credentials: Credentials, *, read_only: bool, lock_wait_s: float, **more: Any):
        super().__init__(credentials, **more)
        path = credentials.get("path", ":memory:")
        if path != ":memory:" and ":" not in path and not os.path.exists(path):
            # To connect would create it, empty.
            raise unavailable(
                f"{credentials}: there is no file {path}", code="warehouse_missing", hint="dbt run, which creates it"
            )
        self._connection = self._open(path, read_only, time.monotonic() + lock_wait_s)
        try:
            self._prepare()
        except Exception as problem:
            self.close()
            raise self._explained(problem, "warehouse_away") from None

    def _open(self, path: str, read_only: bool, deadline: float) -> Any:
        import duckdb

        config = dict(self.credentials.get("config_options", {}))
        while True:
            try:
                return duckdb.connect(path, read_only=read_only and path != ":memory:", config=config)
            except duckdb.Error as problem:
                explained = self._explained(problem, "warehouse_away")
                is_locked = isinstance(explained, WarehouseError) and explained.error_class == "busy"
                if not is_locked or time.monotonic() >= deadline:
                    raise explained from None
            with interruptible():
                time.sleep(0.1)

    def _prepare(self) -> None:
        get = self.credentials.get
        for extension in get("extensions", []):
            self._connection.load_extension(extension if isinstance(extension, str) else extension["name"])
        for attachment in get("attach", []):
            options = [f"type {self.quote(attachment['type'])}"] if attachment.get("type") else []
            options += ["read_only"] if attachment.get("read_only") else []
            alias = f" as {self.quote(attachment['alias'])}" if attachment.get("alias") else ""
            path = attachment["path"].replace("'", "''")
            self._connection.execute(
                f"attach if not exists '{path}'{alias}" + (f" ({', '.join(options)})" if options else "")
            )
        for name, value in get("settings", {}).items():
            self._set(name, value)

    def _set(self, name: str, value: Any) -> None:
        text = str(value).replace("'", "''")
        self._connection.execute(f"set {self.quote(name)} = '{text}'")

    def close(self) -> None:
        """Frees the file for other processes."""
        self._connection.close()

    def _rows(self, sql: str, params: Mapping[str, Any], settings: dict[str, Any]) -> list[tuple]:
        for name, value in settings.items():
            self._set(name, value)
        text = with_placeholders(sql, params, lambda name: f"${name}")
        return self._connection.execute(text, dict(params) or None).fetchall()

    def _execute(self, sql: str, params: Mapping[str, Any], settings: dict[str, Any]) -> None:
        self._rows(sql, params, settings)

    def _interrupt(self) -> None:
        self._connection.interrupt()

    def _is_ours(self, problem: Exception) -> bool:
        import duckdb

        return isinstance(problem, duckdb.Error)
