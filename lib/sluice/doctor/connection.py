"""The warehouse: does it answer, may we do there what dbt does, does a mutation stand in the way of all others."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

from sluice import merge_partitions, profiles
from sluice.doctor.visit import Found, NotThere, Visit, as_found, is_to_come, some
from sluice.errors import BUSY, SluiceError
from sluice.profiles import Credentials
from sluice.warehouse import Warehouse
from sluice.warehouse.clickhouse import ClickHouse

_VERSION = {"duckdb": "select version()", "postgres": "show server_version", "clickhouse": "select version()"}
# What dbt and the commands after it do to tables; with `ALTER TABLE` come deletes, updates and partitions.
_CLICKHOUSE_RIGHTS = ("SELECT", "INSERT", "CREATE TABLE", "CREATE VIEW", "DROP TABLE", "ALTER TABLE", "OPTIMIZE")
_SYNTAX_ERROR = 62  # of a server that does not know CHECK GRANT yet


def connection(visit: Visit) -> Iterator[Found]:
    """Whether the target in use answers."""
    yield _answers(visit, visit.credentials)


def other_targets(visit: Visit) -> Iterator[Found]:
    """The same of the profile's other targets: none of them is needed, so none of them fails."""
    for name in profiles.targets(visit.config):
        if name != visit.credentials.target:
            try:
                found = _answers(visit, profiles.load(replace(visit.config, target=name)))
            except SluiceError as problem:
                found = as_found(problem)
            yield found if found.verdict == "ok" else replace(found, verdict="warn")


def _answers(visit: Visit, credentials: Credentials) -> Found:
    try:
        with visit.warehouse(credentials) as warehouse:
            version = warehouse.value(_VERSION[warehouse.adapter])
            return Found("ok", f"{credentials} answers: {warehouse.adapter} {version}")
    except SluiceError as problem:
        if is_to_come(problem):
            return Found("ok", f"{problem.message}: the first run makes it")
        return as_found(problem, "warn" if problem.exit_code == BUSY else "fail")


def rights(visit: Visit) -> Iterator[Found]:
    """Whether we may make tables where the models are to be."""
    credentials = visit.credentials
    if credentials.adapter == "duckdb":
        yield _duckdb_rights(credentials)
        return
    with visit.warehouse(read_only=False) as warehouse:  # a session that only reads is allowed nothing else
        ask = {"postgres": _postgres_rights, "clickhouse": _clickhouse_rights}[credentials.adapter]
        lacking, fix = ask(warehouse, credentials.schema)
    where = f"schema {credentials.schema} of {credentials}"
    if lacking:
        yield Found("fail", f"{where}: no right to {some(lacking, 9)}", fix)
    else:
        yield Found("ok", f"{where}: tables can be made and filled")


def _duckdb_rights(credentials: Credentials) -> Found:
    path = str(credentials.get("path", ":memory:"))
    if ":" in path:
        return Found("ok", f"{path} is no file of ours")
    folder = Path(path).parent
    for place, what in ((Path(path), "the file"), (folder, "the folder")):
        if place.exists() and not os.access(place, os.W_OK):
            return Found("fail", f"{what} {place} of {credentials} cannot be written", f"ls -ld {place}")
    if not folder.exists():
        return Found("fail", f"there is no folder {folder} for {credentials}", f"mkdir -p {folder}")
    return Found("ok", f"{path} can be written")


def _postgres_rights(warehouse: Warehouse, schema: str) -> tuple[list[str], str]:
    is_standby, may_create_schema, database, user = warehouse.rows(
        "select pg_is_in_recovery(), has_database_privilege(current_database(), 'CREATE'), current_database(), current_user"
    )[0]
    if is_standby:
        return ["write: the server is a standby"], "pass --target with one of the primary"
    held = warehouse.rows(
        "select has_schema_privilege(oid, 'USAGE'), has_schema_privilege(oid, 'CREATE') from pg_namespace where nspname = $schema",
        {"schema": schema},
    )
    at, to = warehouse.quote(schema), warehouse.quote(user)
    if not held:
        return (
            [] if may_create_schema else ["make it"]
        ), f"GRANT CREATE ON DATABASE {warehouse.quote(database)} TO {to}"
    lacking = [name for name, has in zip(("use it", "make tables in it"), held[0], strict=True) if not has]
    return lacking, f"GRANT USAGE, CREATE ON SCHEMA {at} TO {to}"


def _clickhouse_rights(warehouse: Warehouse, schema: str) -> tuple[list[str], str]:
    there = warehouse.rows("select 1 from system.databases where name = $schema", {"schema": schema})
    at = f"{warehouse.quote(schema)}.*"
    wanted = [*_CLICKHOUSE_RIGHTS, *([] if there else ["CREATE DATABASE"])]
    try:
        lacking = [right for right in wanted if not warehouse.value(f"CHECK GRANT {right} ON {at}")]
    except SluiceError as problem:
        if getattr(problem, "number", None) != _SYNTAX_ERROR:
            raise
        lacking = []
    if lacking and warehouse.value("select getSetting('readonly')"):
        return ["write: the user's setting readonly forbids it"], "pass --target, or give dbt a user that may write"
    user = warehouse.quote(warehouse.value("select currentUser()"))
    return lacking, f"GRANT {', '.join(lacking)} ON {at} TO {user}"


def mutations(visit: Visit) -> Iterator[Found]:
    """Whether a mutation fails again and again: all that follow on its table wait for ever (ClickHouse)."""
    if visit.credentials.adapter != "clickhouse":
        yield Found("ok", f"{visit.credentials.adapter} has none")
        return
    with visit.warehouse() as warehouse:
        stuck = merge_partitions.stuck_tables(cast(ClickHouse, warehouse), _schemas(visit))
        for table in stuck:
            try:
                merge_partitions.refuse_stuck(cast(ClickHouse, warehouse), table)
            except SluiceError as problem:
                yield Found("fail", problem.message, f"optimize-partitions {problem.hint}")
    if not stuck:
        yield Found("ok", "none fails")


def _schemas(visit: Visit) -> list[str]:
    """Where the models are, as far as the project can be loaded."""
    found = {visit.credentials.schema}
    try:
        found |= {node.schema for node in visit.project.manifest.of_type("model").values() if node.schema}
    except (SluiceError, NotThere):
        pass  # another check tells of it
    return sorted(found)
