"""The warehouse is looked at before each batch, and waited for while it is busy. The rules are data: pace.toml."""

import logging
import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sluice.errors import SluiceError
from sluice.signals import interruptible
from sluice.warehouse import Warehouse

POLL_S = 5.0
MOST_WAIT_S = 900.0  # for one batch; then it runs all the same: a limit that is never left must not stop a refresh
TIMEOUT_S = 10.0  # for one question
_log = logging.getLogger("sluice")


@dataclass(frozen=True)
class Rule:
    """One entry of the table; `busy` and `full` are shares of the limit that `query` returns beside what it observed."""

    adapter: str
    name: str
    unit: str
    query: str
    busy: float
    full: float
    why: str


@dataclass(frozen=True)
class Reading:
    """What a rule has found: both figures in the rule's unit."""

    rule: Rule
    observed: float
    limit: float

    @property
    def ratio(self) -> float:
        return self.observed / self.limit

    @property
    def is_full(self) -> bool:
        return self.ratio >= self.rule.full

    def __str__(self) -> str:
        rule = self.rule
        return f"{rule.name}: {self.observed:,.0f} of {self.limit:,.0f} {rule.unit} ({self.ratio:.0%}, waiting from {rule.full:.0%} on): {rule.why}"


def load(adapter: str) -> list[Rule]:
    """The rules for an adapter; none where there is nothing to look at."""
    rules = [Rule(**entry) for entry in tomllib.loads(Path(__file__).with_suffix(".toml").read_text())["rule"]]
    return [rule for rule in rules if rule.adapter == adapter]


def look(warehouse: Warehouse, rules: Sequence[Rule]) -> list[Reading]:
    """What the rules find now. One whose question is not answered, or not allowed, is left out and told to the log."""
    found = []
    for rule in rules:
        params = {"schema": warehouse.credentials.schema} if "$schema" in rule.query else {}
        try:
            rows = warehouse.rows(rule.query, params, timeout_s=TIMEOUT_S)
        except SluiceError as problem:
            _log.info("--pace could not ask for %s: %s", rule.name, problem.message)
            continue
        if rows and rows[0][0] is not None and rows[0][1]:
            found.append(Reading(rule, float(rows[0][0]), float(rows[0][1])))
    return found


def advisable_workers(readings: Sequence[Reading], most: int) -> int:
    """How many workers the warehouse bears, of `most`: all below `busy`, none from `full` on, between them ever fewer."""
    share = min((_share(one) for one in readings), default=1.0)
    return 0 if share <= 0 else max(1, int(most * share))


def _share(one: Reading) -> float:
    free = (one.rule.full - one.ratio) / (one.rule.full - one.rule.busy)
    return min(max(free, 0.0), 1.0)


@dataclass
class Pace:
    """Holds a run back while its warehouse is full. `connect` opens a connection that only reads; a context manager."""

    connect: Callable[[], Warehouse]
    rules: list[Rule]
    poll_s: float = POLL_S
    most_wait_s: float = MOST_WAIT_S
    clock: Callable[[], float] = time.monotonic
    _warehouse: Warehouse | None = field(default=None, init=False)

    def __enter__(self) -> "Pace":
        return self

    def __exit__(self, *_: object) -> None:
        self._let_go()

    def wait(self) -> list[Reading]:
        """Return when no rule is full any more, or after `most_wait_s`; returns what was found last.

        Says why it waits, each time that the reasons change. A stop signal raises Interrupted.
        """
        began, told = self.clock(), ""
        while True:
            readings = self.look()
            full = [one for one in readings if one.is_full]
            if not full:
                break
            reasons = ", ".join(one.rule.name for one in full)
            waited_s = self.clock() - began
            if waited_s >= self.most_wait_s:
                _log.warning("going on after %.0f s, although the warehouse is still full: %s", waited_s, reasons)
                return readings
            if reasons != told:
                _log.warning("waiting for the warehouse: %s", "; ".join(map(str, full)))
                told = reasons
            with interruptible():
                time.sleep(self.poll_s)
        if told:
            _log.warning("the warehouse is free again after %.0f s", self.clock() - began)
        return readings

    def look(self) -> list[Reading]:
        """What the rules find now; nothing where the warehouse cannot be asked: the batch itself will say so better."""
        if not self.rules:
            return []
        try:
            self._warehouse = self._warehouse or self.connect()
        except SluiceError as problem:
            _log.warning("--pace cannot look at the warehouse: %s", problem.message)
            return []
        found = look(self._warehouse, self.rules)
        if not found:
            self._let_go()  # perhaps the connection is gone
        return found

    def _let_go(self) -> None:
        if self._warehouse is not None:
            self._warehouse.close()
            self._warehouse = None
