"""What a state store must be able to do, whatever it is kept in: ask, add, all or nothing, and know who lives."""

import os
import socket
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from sluice.config import ROOT
from sluice.errors import SluiceError, busy, unavailable
from sluice.ids import timestamp
from sluice.records import Plan

SCHEMA_VERSION = 2
SQL = ROOT / "sql" / "state"
Params = Mapping[str, Any]


class Lock(Protocol):
    """A run's sign of life: gone when its owner is, however that came about."""

    def acquire(self) -> bool: ...

    def release(self) -> None: ...


@dataclass(frozen=True)
class Claimed:
    """What a run has claimed. Without a living owner it is in nobody's way: the next claim removes it."""

    run_id: str
    host: str
    pid: int
    command: str
    began_at: str
    models: list[str]
    is_alive: bool


def damaged(name: str, problem: Exception, *, way_out: str) -> SluiceError:
    """What to raise for a store that is not as it was written."""
    return unavailable(f"the state store {name} is damaged: {problem}", code="state_damaged", hint=way_out)


class Store(ABC):
    """An open store. A parameter is written `$name`; timestamps go in and come out as RFC 3339 in UTC.

    Every method raises SluiceError: 69 when the store is away, damaged or full, 75 when somebody else holds it.
    """

    name: str  # for people; without a password

    @abstractmethod
    def rows(self, sql: str, params: Params | None = None) -> list[tuple]:
        """All rows of a query."""

    @abstractmethod
    def execute(self, sql: str, params: Params | None = None) -> None:
        """Carry out one statement."""

    @abstractmethod
    def insert(self, table: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows that all have the same columns, all or none of them."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """All changes inside or none, on disk at the end. Where there are no transactions, each is kept by itself."""

    def damaged(self, problem: Exception) -> SluiceError:
        """What to raise when something in it is not what was written."""
        return damaged(self.name, problem, way_out=f"restore {self.name} from a copy, or move it away to start afresh")

    @abstractmethod
    def lock(self, run_id: str) -> Lock:
        """The lock of a run, not yet taken."""

    @abstractmethod
    def is_held(self, run_id: str) -> bool:
        """Whether the owner of this run is alive."""

    @abstractmethod
    def close(self) -> None: ...

    def refuse_at_work(self, plan: Plan) -> None:
        """Raises SluiceError (75) when a living run has one of the plan's models. A look that waits for nobody."""
        for rows in self._owned(plan).values():
            if self.is_held(rows[0][1]):
                _, run_id, host, pid, command, began_at = rows[0]
                shared = sorted(row[0] for row in rows)
                raise at_work(shared, command=command, pid=pid, host=host, began_at=began_at, run_id=run_id)

    def claim_models(self, plan: Plan, lock: Lock) -> None:
        """Take the plan's models for its run. Raises SluiceError (75) when a living run has one of them."""
        self.refuse_at_work(plan)
        for dead in (*self._owned(plan), plan.run_id):
            self.release_models(dead)
        own = whoami()
        self.insert(
            "model_lock",
            [
                {"project_name": plan.project, "environment": plan.target, "unique_id": model.unique_id, "run_id": plan.run_id, **own}
                for model in sorted(plan.models, key=lambda model: model.unique_id)
            ],
        )  # fmt: skip

    def _owned(self, plan: Plan) -> dict[str, list[tuple]]:
        """The rows of model_lock that other runs have on the plan's models, by run."""
        mine = {model.unique_id for model in plan.models}
        held = self.rows(
            """SELECT unique_id, run_id, host, pid, command, began_at FROM model_lock
               WHERE project_name = $project AND environment = $target""",
            {"project": plan.project, "target": plan.target},
        )
        owned: dict[str, list[tuple]] = {}
        for row in held:
            if row[0] in mine and row[1] != plan.run_id:
                owned.setdefault(row[1], []).append(row)
        return owned

    def claimed(self) -> list[Claimed]:
        """Who has claimed models, those among them whose process is gone."""
        rows = self.rows("SELECT run_id, host, pid, command, began_at, unique_id FROM model_lock ORDER BY 1, 6")
        models: dict[tuple, list[str]] = {}
        for *owner, uid in rows:
            models.setdefault(tuple(owner), []).append(uid)
        return [
            Claimed(run_id, host, pid, command, began_at, uids, self.is_held(run_id))
            for (run_id, host, pid, command, began_at), uids in models.items()
        ]

    def release_models(self, run_id: str) -> None:
        """Give the models of a run back."""
        self.execute("DELETE FROM model_lock WHERE run_id = $run", {"run": run_id})


def whoami() -> dict[str, Any]:
    """Who claims, as model_lock says it."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "command": os.path.basename(sys.argv[0]),
        "began_at": timestamp(),
    }


def at_work(unique_ids: Iterable[str], *, command: str, pid: int, host: str, began_at: str, run_id: str) -> SluiceError:
    """The refusal of a claim: who has the models, where, since when."""
    return busy(f"{some(unique_ids)}: {command} is at work on it, pid {pid} on {host}, since {began_at} (run {run_id})")


def some(unique_ids: Iterable[str], most: int = 3) -> str:
    """The first few names, and how many more there are."""
    names = [unique_id.rsplit(".", 1)[-1] for unique_id in unique_ids]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def wrong_version(name: str, version: object, way_out: str) -> SluiceError:
    """The refusal of a store whose schema is not the one that this Sluice speaks."""
    newer = isinstance(version, int) and version > SCHEMA_VERSION
    return unavailable(
        f"the state store {name} has schema {version}, this Sluice speaks {SCHEMA_VERSION}",
        code="state_schema",
        hint="run the newer Sluice that wrote it" if newer else way_out,
    )


def upgrades(dialect: str, name: str, version: int | None, way_out: str) -> list[str]:
    """The scripts that bring the tables of an older schema up to date, in order. Raises SluiceError (69) when there are none."""
    steps = [SQL / dialect / "upgrade" / f"{to}.sql" for to in range((version or 0) + 1, SCHEMA_VERSION + 1)]
    if version is None or not steps or not all(step.exists() for step in steps):
        raise wrong_version(name, version, way_out)
    return [step.read_text() for step in steps]


def schema(dialect: str) -> list[str]:
    """The scripts that make the schema: tables, then views on them, then views on views."""
    scripts = [path.read_text() for path in sorted((SQL / dialect).glob("*.sql"))]
    return sorted(scripts, key=lambda s: ("CREATE SEQUENCE" not in s, "CREATE VIEW" in s, "FROM run_log" in s))
