"""Postgres: one session, its limits set before the first statement, its name what the tag says."""

from collections.abc import Mapping
from typing import Any, BinaryIO

from sluice.errors import misconfigured, refused
from sluice.profiles import Credentials
from sluice.warehouse import Warehouse, with_placeholders

LONGEST_NAME_BYTES = 63  # Postgres cuts off the rest silently
LOCK_TIMEOUT_S = 30


class Postgres(Warehouse):
    """A session in UTC. Every statement commits by itself, except inside `transaction`."""

    adapter = "postgres"

    def __init__(self, credentials: Credentials, *, read_only: bool, **more: Any):
        super().__init__(credentials, **more)
        import psycopg2

        get = credentials.get
        missing = [name for name in ("host", "user") if not get(name)] + ([] if credentials.database else ["dbname"])
        if missing:
            raise misconfigured(
                f"{credentials} has no {' and no '.join(missing)}", code="profile_broken", hint="dbt debug"
            )
        session = {
            "statement_timeout": round(self.timeout_s * 1000),
            "lock_timeout": LOCK_TIMEOUT_S * 1000,
            "idle_in_transaction_session_timeout": round(self.timeout_s * 1000),
            "default_transaction_read_only": "on" if read_only else "off",
            "timezone": "UTC",
        }
        if get("search_path"):
            session["search_path"] = get("search_path")
        passed_on = {name: get(name) for name in ("sslmode", "sslcert", "sslkey", "sslrootcert") if get(name)}
        try:
            self._connection = psycopg2.connect(
                host=get("host"), port=get("port", 5432), user=get("user"), password=get("password"),
                dbname=credentials.database,
                connect_timeout=credentials.whole_number("connect_timeout", 10), application_name=self.tag[:LONGEST_NAME_BYTES],
                keepalives_idle=credentials.whole_number("keepalives_idle", 30), keepalives_interval=10, keepalives_count=3,
                options=" ".join(f"-c {name}={_escaped(value)}" for name, value in session.items()), **passed_on,
            )  # fmt: skip
        except psycopg2.Error as problem:
            raise self._explained(problem, "warehouse_away") from None
        self._connection.autocommit = True
        if get("role"):
            self.execute(f"set role {self.quote(get('role'))}")

    def quote(self, name: str) -> str:
        """As an identifier. Raises SluiceError (2) for one that is too long: it would become another one's."""
        if len(name.encode()) > LONGEST_NAME_BYTES:
            raise refused(f"{name!r} is longer than Postgres's {LONGEST_NAME_BYTES} bytes", code="warehouse_bad_name")
        return super().quote(name)

    def relation(self, database: str | None, schema: str | None, name: str) -> str:
        """Schema and name: a session sees only its own database."""
        return super().relation(None, schema, name)

    def copy(self, sql: str, lines: BinaryIO) -> None:
        """Carry out a `COPY … FROM STDIN` with these lines. Raises WarehouseError."""

        def ask() -> None:
            with self._connection.cursor() as cursor:
                cursor.copy_expert(sql, lines)

        self._bounded(ask, self.timeout_s)

    def close(self) -> None:
        self._connection.close()

    def _rows(self, sql: str, params: Mapping[str, Any], settings: dict[str, Any]) -> list[tuple]:
        with self._connection.cursor() as cursor:
            for name, value in settings.items():
                cursor.execute("select set_config(%s, %s, false)", (name, str(value)))
            self._ask(cursor, sql, params)
            return cursor.fetchall() if cursor.description else []

    def _execute(self, sql: str, params: Mapping[str, Any], settings: dict[str, Any]) -> None:
        self._rows(sql, params, settings)

    def _ask(self, cursor: Any, sql: str, params: Mapping[str, Any]) -> None:
        if not params:
            cursor.execute(sql)
            return
        # psycopg2 takes every % for a parameter, those in quotes too.
        text = with_placeholders(sql.replace("%", "%%"), params, lambda name: f"%({name})s")
        cursor.execute(text, dict(params))

    def _interrupt(self) -> None:
        self._connection.cancel()

    def _is_ours(self, problem: Exception) -> bool:
        import psycopg2

        return isinstance(problem, psycopg2.Error)

    def _number(self, problem: Exception) -> str | None:
        return getattr(problem, "pgcode", None)


def _escaped(value: Any) -> str:
    return str(value).replace("\\", "\\\\").replace(" ", "\\ ")
