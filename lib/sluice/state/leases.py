"""Claims on a server without locks or transactions, ClickHouse: written down, looked at, renewed while their owner lives.

Whoever wants names writes so first and looks then. It may hold them when it sees nobody else who wants or holds one; it
gives way to whoever holds one or wanted it earlier, and waits for whoever came later to give way. Of two that want the
same, the one whose row came second sees the other's: at most one holds. That needs one server, or reads that see all
acknowledged writes. A claim ends LEASE_S after its last renewal, so the names of an owner that died are free a minute
later, not at once.
"""

import random
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from sluice.errors import SluiceError, busy
from sluice.state.store import whoami

LEASE_S = 60
RENEW_EVERY = 1 / 3  # of the lease
LOST_AFTER = 2 / 3  # of the lease without a renewal: the owner stops before anybody else may begin


class Table(Protocol):
    """Where the claims are written down: model_lock."""

    def insert(self, table: str, rows: list[dict[str, Any]]) -> None: ...

    def rows(self, sql: str, params: dict[str, Any]) -> list[tuple]: ...


@dataclass(frozen=True)
class Holder:
    """Somebody's claim, as others see it."""

    seq: int
    status: str
    names: list[str]
    run_id: str
    host: str
    pid: int
    command: str
    began_at: str


def claims_on(table: Table, names: list[str], *, but: str = "") -> list[Holder]:
    """The living claims on any of these names, but one owner's."""
    rows = table.rows(
        """SELECT seq, status, names, run_id, host, pid, command, began_at
           FROM (SELECT * FROM model_lock ORDER BY seq DESC LIMIT 1 BY owner)
           WHERE status != 'free' AND written_at + toIntervalSecond(lasts_seconds) > now64(3, 'UTC')
               AND hasAny(names, $names) AND owner != $owner
           ORDER BY seq""",
        {"names": names, "owner": but},
    )
    return [Holder(*row) for row in rows]


@dataclass
class Claim:
    """A claim of this process on some names."""

    table: Table
    run_id: str
    names: list[str]
    owner: str = field(default_factory=lambda: str(uuid.uuid4()))
    renewed_at: float = 0.0

    def take(self) -> Holder | None:
        """Hold the names, or return who has one of them; then nothing is claimed."""
        self._write("wanted")
        mine = self.table.rows("SELECT max(seq) FROM model_lock WHERE owner = $owner", {"owner": self.owner})[0][0]
        while True:
            rivals = claims_on(self.table, self.names, but=self.owner)
            before_me = [rival for rival in rivals if rival.status == "held" or rival.seq < mine]
            if before_me:
                self._write("free")
                return before_me[0]
            if not rivals:
                self._write("held")
                return None
            time.sleep(random.uniform(0.01, 0.05))

    def renew(self) -> None:
        """Hold on for another lease. Raises SluiceError when the last one may have run out."""
        self.check()
        before = self.renewed_at
        self._write("held")
        if _now() - before > LEASE_S:
            self.renewed_at = before
            self.check()

    def check(self) -> None:
        """Raises SluiceError (75) when it was not renewed for so long that others may soon hold the names."""
        if _now() - self.renewed_at > LOST_AFTER * LEASE_S:
            raise busy(
                f"the claim of run {self.run_id} in the state store was not renewed for {_now() - self.renewed_at:.0f} s: "
                "somebody else may be at work",
                code="state_lock_lost",
                hint="sluice-state runs, then resume",
            )

    def free(self) -> None:
        self._write("free")

    def _write(self, status: str) -> None:
        at = _now()
        row = {
            "owner": self.owner,
            "status": status,
            "lasts_seconds": LEASE_S,
            "names": self.names,
            "run_id": self.run_id,
        }
        self.table.insert("model_lock", [row | whoami()])
        self.renewed_at = at


class Lease:
    """A run's lock: its claims, renewed by a thread of its own over a connection of its own."""

    def __init__(self, table: Table, run_id: str, connect: Callable[[], Any]):
        self._table, self._run_id, self._connect = table, run_id, connect
        self._claims: list[Claim] = []
        self._over = threading.Event()

    def acquire(self) -> bool:
        """Take the lock without waiting. False when another process holds it."""
        return self.claim([f"run {self._run_id}"]) is None

    def claim(self, names: list[str]) -> Holder | None:
        """Claim names for as long as the lock is held; or return who has one of them."""
        claim = Claim(self._table, self._run_id, names)
        holder = claim.take()
        if holder is None:
            self._claims.append(claim)
            if len(self._claims) == 1:
                threading.Thread(target=self._renew, daemon=True).start()
        return holder

    def check(self) -> None:
        """Raises SluiceError (75) when a claim was not renewed in time."""
        for claim in list(self._claims):
            claim.check()

    def release_models(self) -> None:
        """Give up all but the run itself."""
        while len(self._claims) > 1:
            self._claims.pop().free()

    def release(self) -> None:
        """Free everything. Calling it again does nothing."""
        self._over.set()
        while self._claims:
            self._claims.pop().free()

    def _renew(self) -> None:
        store = None
        while not self._over.wait(RENEW_EVERY * LEASE_S):
            try:
                store = store or self._connect()
                for claim in list(self._claims):
                    claim.table = store
                    if not self._over.is_set():
                        claim.renew()
            except SluiceError:
                if store is not None:
                    with suppress(SluiceError):
                        store.close()
                store = None  # again at the next turn; `check` stops whoever writes when there is none in time
        if store is not None:
            store.close()


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)  # goes on while a laptop sleeps
