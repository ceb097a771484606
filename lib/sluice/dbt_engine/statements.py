"""ClickHouse: each statement of a batch says by its query id whose it is, and can be stopped by it from elsewhere.

A query id is `sluice:RUN:BATCH:ATTEMPT:` and something unique; system.processes, query_log and part_log all keep it. It
is also the statement's insert_deduplication_token: a block that was inserted before is not taken for a repetition.
"""

from __future__ import annotations

import functools
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sluice.dbt_engine import wire

PATIENCE_S = 20.0  # how long a statement that was killed may take to be gone
_prefix: str | None = None  # of the batch that runs now: one at a time in a process, in any number of threads


def batch_prefix(marker: wire.Marker) -> str:
    """What the query ids of all attempts at a batch begin with."""
    return f"sluice:{marker.root_run_id}:{marker.batch_id}:"


def possible(credentials: Any) -> bool:
    return credentials.type == "clickhouse"


def install(credentials: Any) -> None:
    """See to it that the clients that dbt makes from now on name their statements."""
    if not possible(credentials):
        return
    from dbt.adapters.clickhouse import connections, dbclient

    def client(of: Any) -> Any:
        made = dbclient.get_db_client(of)
        made.query, made.command = functools.partial(_send, made.query), functools.partial(_send, made.command)
        return made

    connections.get_db_client = client


def _send(send: Callable[..., Any], sql: str, **more: Any) -> Any:
    if _prefix is not None:
        query_id = f"{_prefix}{uuid.uuid4()}"
        more["query_id"] = query_id
        more["settings"] = {**more.get("settings", {}), "insert_deduplication_token": query_id}
    return send(sql, **more)


@contextmanager
def named(marker: wire.Marker | None, credentials: Any) -> Iterator[None]:
    """Inside, statements carry the attempt's name; what an earlier attempt has left running is stopped first.

    Raises TimeoutError when it does not stop.
    """
    global _prefix
    if marker is not None and possible(credentials):
        if marker.attempt > 1:
            stop(credentials, batch_prefix(marker))
        _prefix = f"{batch_prefix(marker)}{marker.attempt}:"
    try:
        yield
    finally:
        _prefix = None


def interrupt(adapter: Any, credentials: Any) -> bool:
    """Stop what this process has running in the warehouse, from another thread. False when nothing was running.

    ClickHouse carries a statement on when its client hangs up, so there it is killed by name.
    """
    if possible(credentials):
        if _prefix is not None:
            stop(credentials, _prefix)
        return _prefix is not None
    with adapter.connection_named("stop"):
        return bool(adapter.cancel_open_connections())


def stop(credentials: Any, prefix: str) -> None:
    """Kill the statements whose id begins with `prefix`, on all replicas, and wait until they are gone.

    Raises TimeoutError when one is still there after PATIENCE_S.
    """
    from dbt.adapters.clickhouse.dbclient import get_db_client

    which = f"startsWith(query_id, {literal(prefix)})"
    client = get_db_client(credentials)  # of its own: the one of dbt's thread waits for the statement
    try:
        deadline = time.monotonic() + PATIENCE_S
        while client.query(f"select 1 from {system(credentials, 'processes')} where {which} limit 1").result_set:
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"a statement is killed and still runs: select * from system.processes where {which}"
                )
            client.command(f"kill query{on_cluster(credentials)} where {which} async")
            time.sleep(0.05)
    finally:
        client.close()


def system(credentials: Any, table: str) -> str:
    """A system table to read from: of all replicas where the profile names a cluster."""
    return (
        f"clusterAllReplicas({name(credentials.cluster)}, system.{table})" if credentials.cluster else f"system.{table}"
    )


def on_cluster(credentials: Any) -> str:
    return f" ON CLUSTER {name(credentials.cluster)}" if credentials.cluster else ""


def name(text: str) -> str:
    """`text` as an identifier of ClickHouse."""
    return "`" + text.replace("\\", "\\\\").replace("`", "\\`") + "`"


def literal(text: str) -> str:
    """`text` as a string of ClickHouse."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
