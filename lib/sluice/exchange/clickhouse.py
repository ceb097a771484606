"""ClickHouse: EXCHANGE TABLES, one pair after the other, what is read before what reads it.

Nothing commits together there, so each pair is told by the ids (UUIDs) of its tables how far an earlier start had come:
an exchange that was done is not done again, which would bring the old back. Grants, row policies and views go by name.
"""

from collections.abc import Iterable

from sluice.aside import ASIDE
from sluice.errors import refused
from sluice.exchange import Exchange, Move, Relation, repointed
from sluice.warehouse import Warehouse
from sluice.warehouse.clickhouse import ClickHouse

_EXCHANGING = ("Atomic", "Replicated", "Shared")  # engines of databases
_NO_LIMIT = {"max_table_size_to_drop": 0, "max_partition_size_to_drop": 0}


def look(warehouse: Warehouse, move: Move, name: str) -> Relation | None:
    assert isinstance(warehouse, ClickHouse)
    found = warehouse.rows(
        f"select arrayStringConcat(arraySort(groupUniqArray(toString(uuid))), ','), any(engine) from {warehouse.system('tables')}"
        " where database = $schema and name = $name having count() > 0",
        {"schema": move.schema, "name": name},
    )
    if not found:
        return None
    columns = warehouse.rows(
        "select name from system.columns where database = $schema and table = $name order by position",
        {"schema": move.schema, "name": name},
    )
    return Relation(found[0][0], found[0][1] == "View", [column for (column,) in columns])


def blockers(warehouse: Warehouse, moves: list[Move]) -> list[str]:
    """Materialised views go by name, too: they would hold what the old rows gave them and miss what was built aside."""
    found = []
    for schema in dict.fromkeys(move.schema for move in moves):
        engine = warehouse.value("select engine from system.databases where name = $schema", {"schema": schema})
        if engine not in _EXCHANGING:
            found.append(f"the database {schema} is {engine}, which exchanges no tables: {', '.join(_EXCHANGING)} do")
    reading = warehouse.rows(
        "select database, name, arrayJoin(arrayZip(dependencies_database, dependencies_table)) as view from system.tables"
        " where length(dependencies_table) > 0"
    )
    views = warehouse.rows(
        "select database, name, create_table_query from system.tables where engine = 'MaterializedView'"
    )
    for move in moves:
        found += [
            f"the materialised view {'.'.join(view)} reads {move.table} as rows are inserted, and misses what was built aside"
            for database, name, view in reading
            if (database, name) == (move.schema, move.live)
        ]
        targets = [f" TO {place} " for place in _spellings(warehouse, move.schema, move.live)]
        found += [
            f"the materialised view {database}.{name} writes to {move.table}: what it wrote meanwhile is not in what was built"
            for database, name, query in views
            if any(target in query for target in targets)
        ]
    return found


def _spellings(warehouse: Warehouse, schema: str, name: str) -> Iterable[str]:
    """How ClickHouse may write a table's name: it quotes where it has to."""
    return [f"{s}.{n}" for s in (schema, warehouse.quote(schema)) for n in (name, warehouse.quote(name))]


def prepare(warehouse: Warehouse, moves: list[Move]) -> None:
    """Views that were built aside read by a name that is about to go; to be replaced gives them another id."""
    for move in moves:
        query = warehouse.value(
            "select create_table_query from system.tables where database = $schema and name = $name and engine = 'View'",
            {"schema": move.schema, "name": move.coming},
        )
        if query is not None and ASIDE in move.coming and ASIDE in query.partition(ASIDE)[2]:
            head, ending, body = repointed(query, ASIDE).partition(ASIDE)
            quote = "`" if body.startswith("`") else ""
            head = head.replace("CREATE VIEW", "CREATE OR REPLACE VIEW", 1)
            warehouse.execute(f"{head}{ending}{quote}{_cluster(warehouse)}{body.removeprefix(quote)}")


def exchange(warehouse: Warehouse, moves: list[Move], ids: dict[str, tuple[str, str]]) -> None:
    for move in moves:
        live_id, coming_id = ids[move.model]
        live = look(warehouse, move, move.live)
        now = live.id if live is not None else ""
        if now != coming_id:
            _refuse_other(move, now, live_id)
            drop(warehouse, move, move.going)
            if not live_id:
                _rename(warehouse, move, move.coming, move.live)
                continue
            warehouse.execute(
                f"exchange tables {_place(warehouse, move, move.live)} and {_place(warehouse, move, move.coming)}{_cluster(warehouse)}"
            )
        left = look(warehouse, move, move.coming)
        if left is not None and left.id == live_id:
            _rename(warehouse, move, move.coming, move.going)


def _refuse_other(move: Move, now: str, live_id: str) -> None:
    if now != live_id:
        raise refused(
            f"{move.table} is neither what it was nor what was built for it: somebody replaced it, or not all replicas have"
            " been told yet",
            code="publish_moved",
            hint="look at it; then resume, or sluice-state discard RUN",
        )


def drop(warehouse: Warehouse, move: Move, name: str) -> None:
    warehouse.execute(
        f"drop table if exists {_place(warehouse, move, name)}{_cluster(warehouse)} sync", settings=_NO_LIMIT
    )


def _rename(warehouse: Warehouse, move: Move, name: str, to: str) -> None:
    warehouse.execute(
        f"rename table {_place(warehouse, move, name)} to {_place(warehouse, move, to)}{_cluster(warehouse)}"
    )


def _place(warehouse: Warehouse, move: Move, name: str) -> str:
    return warehouse.relation(None, move.schema, name)


def _cluster(warehouse: Warehouse) -> str:
    assert isinstance(warehouse, ClickHouse)
    return warehouse.on_cluster


EXCHANGE = Exchange(look, blockers, prepare, exchange, drop)
