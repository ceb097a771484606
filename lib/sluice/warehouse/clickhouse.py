"""ClickHouse over HTTP: no session that could be locked, a query id per statement, the tag as log_comment.

A cluster is told what to do by statements ON CLUSTER, and system tables are read on all of its replicas.
"""

import logging
import math
import uuid
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sluice.errors import refused
from sluice.profiles import Credentials
from sluice.warehouse import Warehouse, WarehouseError, with_placeholders

FIRST_DAY, LAST_DAY = date(1970, 1, 1), date(2149, 6, 6)  # of the type Date, which silently saturates outside


class ClickHouse(Warehouse):
    """A client of one server. Nothing is sent twice, but a read whose connection was dropped is asked once more."""

    adapter = "clickhouse"
    is_transactional = False

    def __init__(self, credentials: Credentials, *, read_only: bool, **more: Any):
        super().__init__(credentials, **more)
        import clickhouse_connect

        logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)  # what it logs it also raises
        get = credentials.get
        is_native = get("driver") == "native" or (not get("driver") and get("port") in (9000, 9440))
        self._query_id = ""
        connect_s = credentials.whole_number("connect_timeout", 10)

        def client() -> Any:
            return clickhouse_connect.get_client(
                host=get("host", "localhost"),
                port=None if is_native else get("port"),  # what listens beside the native port is on HTTP's own
                username=get("user", "default"), password=get("password", ""),
                interface="https" if get("secure") else "http",
                verify=get("verify", True), client_cert=get("client_cert"), client_cert_key=get("client_cert_key"),
                server_host_name=get("server_host_name"), compress=False,
                connect_timeout=connect_s, send_receive_timeout=math.ceil(self.timeout_s) + 30,
                query_limit=0, query_retries=0, autogenerate_session_id=False, client_name="sluice",
                dedicated_pool=not get("secure"),  # else its connections outlive close()
            )  # fmt: skip

        # It asks for version and settings at once, and would wait for them as long as for a statement.
        self._client = self._bounded(client, connect_s + 20, abandon=True, code="warehouse_away")
        self._client.http_retries = 0  # type: ignore[attr-defined]
        self._settings: dict[str, Any] = {}
        is_restricted = self._setting("readonly") == "1"  # such a user may not even say who is asking
        if not is_restricted:
            self._settings = {
                **get("custom_settings", {}),
                "log_comment": self.tag,
                **({"readonly": 2} if read_only else {}),
            }

    @property
    def on_cluster(self) -> str:
        """` ON CLUSTER name` for a statement that all replicas must carry out, or nothing."""
        return f" ON CLUSTER {self.quote(self.cluster)}" if self.cluster else ""

    def system(self, table: str) -> str:
        """A system table to read from: where there is a cluster, of all replicas; hostName() tells which."""
        return (
            f"clusterAllReplicas({self.quote(self.cluster)}, system.{self.quote(table)})"
            if self.cluster
            else f"system.{self.quote(table)}"
        )

    def quote(self, name: str) -> str:
        """As an identifier; ClickHouse reads a backslash inside the backticks, too."""
        if not name or "\0" in name:
            raise refused(f"{name!r} cannot be a name", code="warehouse_bad_name")
        return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"

    def relation(self, database: str | None, schema: str | None, name: str) -> str:
        """Schema and name: what dbt calls a schema is ClickHouse's database."""
        return super().relation(None, schema, name)

    def insert_block(self, table: str, block: bytes, form: str) -> None:
        """Insert a block of text in one of ClickHouse's formats into a table (quoted). Raises WarehouseError."""
        settings = self._with_id({})
        self._bounded(
            lambda: self._client.raw_insert(table, insert_block=block, settings=settings, fmt=form), self.timeout_s
        )

    def close(self) -> None:
        self._client.close()

    def _setting(self, name: str) -> str | None:
        found = self._client.server_settings.get(name)
        return found.value if found else None

    def _rows(self, sql: str, params: Mapping[str, Any], settings: dict[str, Any]) -> list[tuple]:
        text = with_placeholders(sql, params, lambda name: f"{{{name}:{_type(params[name])}}}")
        return [
            tuple(row)
            for row in self._client.query(text, dict(params) or None, settings=self._with_id(settings)).result_rows
        ]

    def _execute(self, sql: str, params: Mapping[str, Any], settings: dict[str, Any]) -> None:
        text = with_placeholders(sql, params, lambda name: f"{{{name}:{_type(params[name])}}}")
        self._client.command(text, dict(params) or None, settings=self._with_id(settings))

    def _with_id(self, settings: dict[str, Any]) -> dict[str, Any]:
        self._query_id = f"sluice-{uuid.uuid4()}"
        return {**self._settings, **settings, "query_id": self._query_id}

    def _interrupt(self) -> None:
        try:
            self._client.command("KILL QUERY WHERE query_id = {id:String} ASYNC", {"id": self._query_id})
        except Exception as problem:  # the server may be what is slow: nothing more can be done from here
            if not self._is_ours(problem):
                raise

    def _is_ours(self, problem: Exception) -> bool:
        from clickhouse_connect.driver.exceptions import ClickHouseError

        return isinstance(problem, ClickHouseError)

    def _number(self, problem: Exception) -> int | None:
        return getattr(problem, "code", None)


def _type(value: Any) -> str:
    """ClickHouse's type for a parameter. Raises SluiceError (2) for a day that no type here holds."""
    if isinstance(value, bool):
        return "Bool"
    if isinstance(value, int):
        return "Int64" if abs(value) < 1 << 63 else "Int256"
    if isinstance(value, datetime):
        return "DateTime64(6, 'UTC')" if value.tzinfo else "DateTime64(6)"
    if isinstance(value, date):
        if not FIRST_DAY <= value <= LAST_DAY:
            raise refused(
                f"ClickHouse's Date ends at {FIRST_DAY} and {LAST_DAY}; {value} is outside", code="warehouse_bad_day"
            )
        return "Date"
    if isinstance(value, list | tuple):
        kinds = {_type(inner) for inner in value} or {"String"}
        if len(kinds) > 1:
            raise TypeError(f"a list of {' and '.join(sorted(kinds))}")
        return f"Array({kinds.pop()})"
    known = {
        str: "String",
        float: "Float64",
        type(None): "Nullable(String)",
        Decimal: "Decimal(38, 12)",
        uuid.UUID: "UUID",
    }
    if type(value) not in known:
        raise TypeError(f"no type for a {type(value).__name__}")
    return known[type(value)]


def number_of(problem: WarehouseError) -> int | None:
    """ClickHouse's error code, such as 388, or None when the server did not answer."""
    return problem.number if isinstance(problem.number, int) else None
