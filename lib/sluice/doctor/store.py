"""The state store: can it be read, is it ours, who holds its locks."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from sluice.doctor.visit import Found, Visit, some
from sluice.planning import GO_ON
from sluice.state import State
from sluice.state.store import SCHEMA_VERSION

DEAD_HINT = "sluice-state pending"


def state_store(visit: Visit) -> Iterator[Found]:
    """Whether it can be read, and its schema is the one that this Sluice speaks."""
    origin = visit.config.explain("SLUICE_STATE")
    older = _older_schema(visit.config.state_url)
    if older is not None:
        yield Found("warn", f"{visit.config.state_url} has schema {older}: the next command upgrades it to {SCHEMA_VERSION}, "
                    "after a copy beside it", "sluice-state runs")  # fmt: skip
        return
    state = visit.state
    if state is None:
        yield Found("ok", f"none yet: the first run makes it ({origin})")
        return
    last = state.last_success()
    ending = f"a run last succeeded at {last}" if last else "no run has succeeded yet"
    yield Found("ok", f"{state.store.name} ({origin}), schema {SCHEMA_VERSION}; {ending}")


def _older_schema(url: str) -> int | None:
    """The version of a SQLite store that opening it would upgrade; None for any other, broken ones too."""
    scheme, _, path = url.partition(":")
    if scheme != "sqlite" or not Path(path).exists():
        return None
    try:
        with closing(sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True, timeout=1)) as store:
            ((version,),) = store.execute("SELECT version FROM schema_version").fetchall()
    except (sqlite3.Error, ValueError):
        return None  # State tells it better
    return version if isinstance(version, int) and version < SCHEMA_VERSION else None


def locks(visit: Visit) -> Iterator[Found]:
    """Who has claimed models, and whether they live."""
    state = visit.state
    held = state.store.claimed() if state is not None else []
    for one in held:
        who = f"{one.command}, pid {one.pid} on {one.host}, since {one.began_at} (run {one.run_id})"
        names = some([uid.rsplit(".", 1)[-1] for uid in one.models])
        if one.is_alive:
            yield Found("ok", f"{names}: {who} is at work")
        else:
            yield Found(
                "warn",
                f"{names}: {who} is gone and has not given them back; the next run takes them",
                _go_on(state, one.run_id),
            )
    if not held:
        yield Found("ok", "nobody holds any")


def _go_on(state: State | None, run_id: str) -> str:
    """The command that goes on where a dead run left off."""
    runs = state.runs(root_run_id=run_id, limit=1) if state else []
    return GO_ON.get(runs[0].plan.intent, DEAD_HINT) if runs else DEAD_HINT
