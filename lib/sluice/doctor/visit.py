"""What the checks share: each part is made when the first check asks for it, and what cannot be made is told only once."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

from sluice import error_classes, profiles
from sluice.command import Context
from sluice.errors import SluiceError
from sluice.profiles import Credentials
from sluice.project import Project
from sluice.records import Verdict
from sluice.state import State
from sluice.warehouse import Warehouse, connect

T = TypeVar("T")


@dataclass(frozen=True)
class Found:
    """What one look told. `next` is a command, or in words what to change."""

    verdict: Verdict
    what: str
    next: str | None = None


class NotThere(Exception):
    """What a check needs is not there, and another check has told why; the text says what. `verdict`: whether that is bad."""

    def __init__(self, what: str, verdict: Verdict):
        super().__init__(what)
        self.verdict = verdict


class Visit:
    """One look at everything; a context manager. `timeout_s` bounds each attempt to connect and each statement."""

    def __init__(self, ctx: Context, *, timeout_s: float):
        self.ctx = ctx
        self.config = ctx.config
        self.timeout_s = timeout_s
        self._broken: dict[str, Verdict] = {}
        self._stack = ExitStack()

    def __enter__(self) -> "Visit":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @cached_property
    def credentials(self) -> Credentials:
        return self._once("the profile", lambda: profiles.load(self.config))

    @cached_property
    def project(self) -> Project:
        return self._once("the dbt project", lambda: self._stack.enter_context(Project(self.config, {})))

    @cached_property
    def state(self) -> State | None:
        """None when there is no store yet."""

        def opened() -> State | None:
            state = State.open_existing(self.config.state_url, origin=self.config.explain("SLUICE_STATE"))
            if state is not None:
                self._stack.callback(state.close)
            return state

        return self._once("the state store", opened)

    @contextmanager
    def warehouse(self, credentials: Credentials | None = None, *, read_only: bool = True) -> Iterator[Warehouse]:
        """A connection to ask over, to the target in use where no other is given, for one check alone.

        Not kept: a DuckDB file that is open here is shut for dbt. `read_only` False is for who asks what else is allowed.
        """
        target = credentials or self.credentials
        impatient = replace(target, fields={**target.fields, "connect_timeout": max(1, round(self.timeout_s))})
        what = f"the warehouse of target {target.target}"

        def opened() -> Warehouse:
            return connect(
                impatient, tag="sluice-doctor", read_only=read_only, timeout_s=self.timeout_s,
                rules=error_classes.load(self.config.error_classes),
            )  # fmt: skip

        with self._once(what, opened) as warehouse:
            yield warehouse

    def _once(self, what: str, make: Callable[[], T]) -> T:
        if what in self._broken:
            raise NotThere(what, self._broken[what])
        try:
            return make()
        except Exception as problem:
            self._broken[what] = "ok" if is_to_come(problem) else "warn"
            raise


def is_to_come(problem: Exception) -> bool:
    """Whether it is a DuckDB file that the first run makes."""
    return isinstance(problem, SluiceError) and problem.code == "warehouse_missing"


def as_found(problem: SluiceError, verdict: Verdict = "fail") -> Found:
    """An error as a finding."""
    return Found(verdict, problem.message, problem.hint)


def some(names: list[Any], most: int = 5) -> str:
    """`a, b and 3 more`"""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more
