"""What stores on a server have in common: an address, a connection whose writes no signal cuts, values as people write them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from sluice.errors import SluiceError, busy, misconfigured, unavailable
from sluice.ids import timestamp
from sluice.profiles import Credentials
from sluice.warehouse import WarehouseError

TIMEOUT_S = 30.0  # of a statement


@dataclass(frozen=True, repr=False)
class Address(Credentials):
    """Where a store is. As text it is its URL without a password."""

    name: str = ""

    def __str__(self) -> str:
        return f"the state store {self.name}"


def address(url: str, adapter: str, *, origin: str, port: int) -> Address:
    """The parts of `scheme://user:password@host:port/database?schema=…&…`.

    Raises SluiceError (78) for a URL without host or database.
    """
    try:
        parts = urlsplit(url)
        given_port = parts.port or port
        more = dict(parse_qsl(parts.query, strict_parsing=True)) if parts.query else {}
    except ValueError:
        raise misconfigured(
            f"the state store ({origin}) is no URL", code="state_bad_url", hint=_FORM[adapter]
        ) from None
    database = unquote(parts.path.strip("/"))
    if not parts.hostname or not database or "/" in database:
        raise misconfigured(
            f"the state store ({origin}) has no host or no database", code="state_bad_url", hint=_FORM[adapter]
        )
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    schema = more.pop("schema", "sluice" if adapter == "postgres" else database)
    shown = f"{parts.scheme}://{user + '@' if user else ''}{parts.hostname}:{given_port}/{database}"
    return Address(
        adapter=adapter, profile="SLUICE_STATE", target=adapter, database=database if adapter == "postgres" else None,
        schema=schema, fields={**more, "host": parts.hostname, "port": given_port, "user": user, "password": password},
        name=f"{shown}?schema={schema}" if adapter == "postgres" else shown,
    )  # fmt: skip


_FORM = {
    "postgres": "use postgresql://USER:PASSWORD@HOST:5432/DATABASE?schema=sluice",
    "clickhouse": "use clickhouse://USER:PASSWORD@HOST:8123/DATABASE",
}


class Uninterrupted:
    """Mixed into a warehouse: a statement is waited for in place, so that a stop signal never cuts a state write.

    The driver's own limits bound the wait.
    """

    def _bounded(
        self, ask: Callable[[], Any], timeout_s: float, *, abandon: bool = False, code: str = "warehouse_error"
    ) -> Any:
        try:
            return ask()
        except Exception as problem:
            raise self._explained(problem, code) from None  # type: ignore[attr-defined]


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Turn what the server or the way to it says into an error of the state store."""
    try:
        yield
    except WarehouseError as problem:
        if "too many clients" in problem.message or "too many connections" in problem.message:
            raise busy(problem.message, code="state_busy", hint="wait for other runs to end") from None
        raise unavailable(problem.message, code="state_unusable", hint="see SLUICE_STATE") from None
    except SluiceError:
        raise
    except OSError as problem:
        raise unavailable(f"the state store {name}: {problem}", code="state_unusable") from None


def as_written(row: tuple) -> tuple:
    """A row with its timestamps and days as text, as records have them."""
    return tuple(_text(value) if isinstance(value, date) else value for value in row)


def _text(value: date) -> str:
    if isinstance(value, datetime):
        return timestamp(value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC))
    return value.isoformat()
