"""A connection to the warehouse, alike on all dialects: values bound, names quoted, statements tagged, nothing retried.

    with connect(profiles.load(config), tag="optimize-partitions RUN") as warehouse:
        warehouse.rows("select count(*) from x where day >= $since", {"since": date(2026, 4, 1)})

A parameter is written `$name` in every dialect and never becomes part of the statement's text. Drivers are imported
when they are used: DuckDB 0.1 s, ClickHouse 0.15 s.
"""

import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sluice import error_classes
from sluice.error_classes import ErrorClass, Rule
from sluice.errors import BUSY, UNAVAILABLE, SluiceError, misconfigured, refused
from sluice.profiles import Credentials
from sluice.signals import interruptible

Params = Mapping[str, Any] | None
TIMEOUT_S = 300.0

# What cannot hold a parameter comes first, so that it is skipped as a whole.
_PARAMETER = re.compile(
    r"""'(?:[^'\\]|\\.|'')*'|"(?:[^"]|"")*"|`(?:[^`\\]|\\.|``)*`|--[^\n]*|/\*.*?\*/|\$([a-zA-Z_]\w*)(?![\w$])""",
    re.DOTALL,
)


class WarehouseError(SluiceError):
    """A statement or a connection failed; `error_class` and `why` are from error_classes.toml.

    `number` is what the warehouse calls it: ClickHouse's code, Postgres's SQLSTATE, DuckDB's exception.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        error_class: ErrorClass,
        why: str,
        number: int | str | None,
        hint: str | None = None,
    ):
        super().__init__(message, code=code, exit_code=BUSY if error_class == "busy" else UNAVAILABLE, hint=hint)
        self.error_class = error_class
        self.why = why
        self.number = number


class Warehouse(ABC):
    """One connection; a context manager. Use it from one thread.

    Every method that asks the warehouse raises WarehouseError. A stop signal interrupts the wait (Interrupted) and the
    statement, unless it was to go on by itself.
    """

    adapter: str
    is_transactional = True

    def __init__(
        self, credentials: Credentials, *, tag: str, timeout_s: float, rules: list[Rule], cluster: str | None = None
    ):
        self.credentials = credentials
        self.tag = tag
        self.timeout_s = timeout_s
        self.cluster = cluster
        self._rules = rules

    def rows(
        self,
        sql: str,
        params: Params = None,
        *,
        settings: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
    ) -> list[tuple]:
        """All rows of a query, as tuples."""
        return self._bounded(lambda: self._rows(sql, params or {}, dict(settings or {})), timeout_s or self.timeout_s)

    def value(self, sql: str, params: Params = None, **more: Any) -> Any:
        """The only value of a query that has one; None when it has no row."""
        found = self.rows(sql, params, **more)
        return found[0][0] if found else None

    def execute(
        self, sql: str, params: Params = None, *, settings: Mapping[str, Any] | None = None,
        timeout_s: float | None = None, abandon: bool = False,
    ) -> None:  # fmt: skip
        """Carry out one statement. `settings` are of the session or, on ClickHouse, of the statement.

        With `abandon` a statement that takes too long, or is waited for when a stop signal comes, goes on by itself
        where the warehouse is a server; without, it is interrupted.
        """
        self._bounded(
            lambda: self._execute(sql, params or {}, dict(settings or {})), timeout_s or self.timeout_s, abandon=abandon
        )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All statements inside or none. Raises TypeError where the warehouse has no transactions."""
        if not self.is_transactional:
            raise TypeError(f"{self.adapter} has no transactions")
        self.execute("begin")
        try:
            yield
        except BaseException:
            self._roll_back()
            raise
        self.execute("commit")

    def quote(self, name: str) -> str:
        """A name as an identifier. Raises SluiceError (2) for one that cannot be."""
        if not name or "\0" in name:
            raise refused(f"{name!r} cannot be a name", code="warehouse_bad_name")
        return '"' + name.replace('"', '""') + '"'

    def relation(self, database: str | None, schema: str | None, name: str) -> str:
        """The full, quoted name of a table, as far as the dialect goes."""
        return ".".join(self.quote(part) for part in (database, schema, name) if part)

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def _rows(self, sql: str, params: Mapping[str, Any], settings: dict[str, Any]) -> list[tuple]: ...

    @abstractmethod
    def _execute(self, sql: str, params: Mapping[str, Any], settings: dict[str, Any]) -> None: ...

    @abstractmethod
    def _interrupt(self) -> None:
        """Stop the running statement; called from another thread."""

    @abstractmethod
    def _is_ours(self, problem: Exception) -> bool:
        """Whether the exception is the driver's."""

    def _number(self, problem: Exception) -> int | str | None:
        return type(problem).__name__

    def _roll_back(self) -> None:
        try:
            self._execute("rollback", {}, {})
        except Exception as problem:  # the connection is gone, and the transaction with it
            if not self._is_ours(problem):
                raise

    def __enter__(self) -> "Warehouse":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _bounded(
        self, ask: Callable[[], Any], timeout_s: float, *, abandon: bool = False, code: str = "warehouse_error"
    ) -> Any:
        """`ask` in a thread of its own: drivers wait in C, where neither a signal nor a deadline would reach them."""
        answers: list[Any] = []
        problems: list[BaseException] = []
        ended = threading.Event()  # not Thread.join: in Python 3.11 an exception out of it takes the thread for ended

        def run() -> None:
            try:
                answers.append(ask())
            except BaseException as problem:
                problems.append(problem)
            ended.set()

        threading.Thread(target=run, daemon=True).start()
        try:
            with interruptible():
                ended.wait(timeout_s)
        except BaseException:
            if not abandon:
                self._stop(ended)
            raise
        if not ended.is_set():
            if not abandon:
                self._stop(ended)
            raise WarehouseError(
                f"{self.credentials}: no answer within {timeout_s:g} s",
                code="warehouse_timeout",
                error_class="transient",
                why="the statement took longer than it may",
                number=None,
            )
        if problems:
            raise self._explained(problems[0], code) from None
        return answers[0]

    def _stop(self, ended: threading.Event) -> None:
        self._interrupt()
        ended.wait(5)

    def _explained(self, problem: BaseException, code: str = "warehouse_error") -> BaseException:
        """The driver's exception as a WarehouseError, without secrets; any other as it is."""
        if not isinstance(problem, Exception) or not self._is_ours(problem):
            return problem
        number = self._number(problem)
        text = " ".join(str(problem).split())
        message = self.credentials.hide(f"{number} {text}" if isinstance(number, str) and number not in text else text)
        rule = error_classes.rule_for(message, self.adapter, self._rules)
        is_busy = rule.error_class == "busy"
        general = rule.hint if "{" not in rule.hint else ""  # the others need to know of which model
        return WarehouseError(
            f"{self.credentials}: {message}", code="warehouse_locked" if is_busy else code,
            error_class=rule.error_class, why=rule.why, number=number,
            hint="wait for it to end" if is_busy else general or ("dbt debug" if code == "warehouse_away" else None),
        )  # fmt: skip


def connect(
    credentials: Credentials, *, tag: str, read_only: bool = False, cluster: str | None = None,
    timeout_s: float = TIMEOUT_S, lock_wait_s: float = 0.0, rules: list[Rule] | None = None,
) -> Warehouse:  # fmt: skip
    """Connect to a target. `tag` says in the warehouse who asks: a command and its run.

    `timeout_s` bounds every statement. A DuckDB file that another process has open is waited for up to `lock_wait_s`.
    `cluster` is of use on ClickHouse only. Raises WarehouseError: 69, 75 for the locked file; SluiceError 78 for an
    adapter that is not known here.
    """
    from sluice.warehouse import clickhouse, duckdb, postgres

    if cluster is not None and credentials.adapter != "clickhouse":
        raise refused(
            f"--cluster {cluster}: {credentials} is no ClickHouse",
            code="warehouse_no_cluster",
            hint="leave out --cluster",
        )
    rules = error_classes.load() if rules is None else rules
    more: dict[str, Any] = {"tag": tag, "read_only": read_only, "timeout_s": timeout_s, "rules": rules}
    if credentials.adapter == "duckdb":
        return duckdb.DuckDB(credentials, lock_wait_s=lock_wait_s, **more)
    if credentials.adapter == "clickhouse":
        return clickhouse.ClickHouse(credentials, cluster=cluster, **more)
    if credentials.adapter == "postgres":
        return postgres.Postgres(credentials, **more)
    raise misconfigured(
        f"{credentials}: this command works on clickhouse, duckdb and postgres",
        code="warehouse_adapter",
        hint="pass --target",
    )


def with_placeholders(sql: str, params: Mapping[str, Any], placeholder: Callable[[str], str]) -> str:
    """`sql` with each `$name` of `params` in the driver's own style; what is in quotes or comments stays.

    Raises ValueError for a parameter that the statement does not use: a typing error would go unseen.
    """
    used: set[str] = set()

    def replace(match: re.Match[str]) -> str:
        if match[1] not in params:
            return match[0]
        used.add(match[1])
        return placeholder(match[1])

    text = _PARAMETER.sub(replace, sql)
    if set(params) - used:
        raise ValueError(f"not in the statement: {', '.join(sorted(set(params) - used))}")
    return text
