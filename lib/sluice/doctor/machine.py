"""Disk and clock."""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from sluice.doctor.visit import Found, NotThere, Visit
from sluice.errors import SluiceError

LEAST_BYTES = 200_000_000  # below this a run is likely to end in the middle of something
FEW_BYTES = 2_000_000_000
AHEAD_S, FAR_S = 60.0, 600.0
_NOW = {
    "postgres": "select extract(epoch from clock_timestamp())",
    "clickhouse": "select toUnixTimestamp64Milli(now64(3)) / 1000",
}


def disk(visit: Visit) -> Iterator[Found]:
    """Free space where state, logs and a DuckDB file are. A rebuild of the file may need as much again as it has."""
    config = visit.config
    wanted = {"logs": (config.log_dir, 0), "state": (config.state_dir, 0)}
    try:
        path = str(visit.credentials.get("path", ":memory:"))
        if visit.credentials.adapter == "duckdb" and ":" not in path:
            wanted["the DuckDB file"] = (Path(path).parent, Path(path).stat().st_size if Path(path).exists() else 0)
    except (SluiceError, NotThere):
        pass  # another check tells of it
    for what, (folder, used) in wanted.items():
        there = next(place for place in (folder, *folder.parents) if place.exists())
        free = shutil.disk_usage(there).free
        told = f"{free / 1e9:.1f} GB free for {what} in {folder}"
        if free < LEAST_BYTES:
            yield Found("fail", told, f"df -h {there}")
        elif free < max(FEW_BYTES, used):
            yield Found("warn", told, "make clean-logs" if what == "logs" else f"df -h {there}")
        else:
            yield Found("ok", told)


def clock(visit: Visit) -> Iterator[Found]:
    """Whether this machine's clock can be right: against what was written before, and the warehouse's own."""
    now = datetime.now(UTC)
    installed = datetime.fromtimestamp(Path(__file__).stat().st_mtime, UTC)
    if now < installed:
        yield Found(
            "fail", f"it says {now:%F %T} UTC, and these files were installed at {installed:%F %T}", "timedatectl"
        )
        return
    last = _last_event(visit)
    if last is not None and (last - now).total_seconds() > AHEAD_S:
        yield Found(
            "fail", f"it says {now:%F %T} UTC, and the state store's latest event is of {last:%F %T}", "timedatectl"
        )
        return
    yield _against_warehouse(visit, now)


def _last_event(visit: Visit) -> datetime | None:
    try:
        rows = visit.state.store.rows("SELECT at FROM run_event ORDER BY seq DESC LIMIT 1") if visit.state else []
    except (SluiceError, NotThere):
        return None
    return datetime.fromisoformat(rows[0][0]) if rows else None


def _against_warehouse(visit: Visit, now: datetime) -> Found:
    told = f"{now:%F %T} UTC"
    try:
        if visit.credentials.adapter not in _NOW:
            return Found("ok", f"{told}; {visit.credentials.adapter} has no clock of its own")
        with visit.warehouse() as warehouse:
            before = datetime.now(UTC).timestamp()
            theirs = float(warehouse.value(_NOW[warehouse.adapter]))
            after = datetime.now(UTC).timestamp()
    except (SluiceError, NotThere):
        return Found("ok", f"{told}; the warehouse's could not be asked")
    ahead = max(before - theirs, theirs - after, 0.0)
    if ahead <= AHEAD_S:
        return Found("ok", f"{told}, as the warehouse's")
    which = "behind" if theirs > after else "ahead of"
    return Found("fail" if ahead > FAR_S else "warn", f"{told}, {ahead:.0f} s {which} the warehouse's", "timedatectl")
