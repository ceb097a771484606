"""DuckDB: renamed in one transaction for each attached database, since one transaction writes to one of them."""

from sluice.aside import ASIDE
from sluice.exchange import Exchange, Move, Relation, repointed
from sluice.warehouse import Warehouse


def look(warehouse: Warehouse, move: Move, name: str) -> Relation | None:
    columns = warehouse.rows(
        "select column_name from duckdb_columns() where database_name = coalesce($database, current_database())"
        " and schema_name = $schema and table_name = $name order by column_index",
        {"database": move.database, "schema": move.schema, "name": name},
    )
    if not columns:
        return None
    return Relation("", _view(warehouse, move, name) is not None, [column for (column,) in columns])


def blockers(warehouse: Warehouse, moves: list[Move]) -> list[str]:
    """Indexes: DuckDB renames no table that has one. Views read by name, and follow."""
    found = []
    for move in moves:
        for index, table in warehouse.rows(
            "select index_name, table_name from duckdb_indexes() where"
            " database_name = coalesce($database, current_database()) and schema_name = $schema and table_name in ($live, $coming)",
            {"database": move.database, "schema": move.schema, "live": move.live, "coming": move.coming},
        ):
            found.append(f"{move.schema}.{table} has the index {index}, and DuckDB renames no table with one")
    return found


def prepare(warehouse: Warehouse, moves: list[Move]) -> None:
    """Nothing: all that there is to do is done in the transaction."""


def exchange(warehouse: Warehouse, moves: list[Move], _ids: dict[str, tuple[str, str]]) -> None:
    for database in dict.fromkeys(move.database for move in moves):
        group = [move for move in moves if move.database == database and look(warehouse, move, move.coming)]
        with warehouse.transaction():
            for move in reversed(group):
                drop(warehouse, move, move.going)
            for move in group:
                _follow(warehouse, move)
                if look(warehouse, move, move.live) is not None:
                    _rename(warehouse, move, move.live, move.going)
                _rename(warehouse, move, move.coming, move.live)


def drop(warehouse: Warehouse, move: Move, name: str) -> None:
    relation = look(warehouse, move, name)
    if relation is not None:
        warehouse.execute(f"drop {_kind(relation)} {warehouse.relation(move.database, move.schema, name)}")


def _follow(warehouse: Warehouse, move: Move) -> None:
    """A view that reads what was built aside reads it by a name that is about to go."""
    view = _view(warehouse, move, move.coming)
    if view is None or ASIDE not in move.coming:
        return
    sql, comment = view
    place = warehouse.relation(move.database, move.schema, move.coming)
    body = repointed(sql, ASIDE).partition(ASIDE)[2].removeprefix('"')
    # Names in a view's text leave out the database that it is in, and the schema main.
    warehouse.execute(f"use {warehouse.relation(move.database, move.schema, '')}")
    warehouse.execute(f"create or replace view {place}{body}")
    if comment is not None:
        quoted = comment.replace("'", "''")
        warehouse.execute(f"comment on view {place} is '{quoted}'")


def _view(warehouse: Warehouse, move: Move, name: str) -> tuple[str, str | None] | None:
    found = warehouse.rows(
        "select sql, comment from duckdb_views() where database_name = coalesce($database, current_database())"
        " and schema_name = $schema and view_name = $name",
        {"database": move.database, "schema": move.schema, "name": name},
    )
    return (found[0][0], found[0][1]) if found else None


def _rename(warehouse: Warehouse, move: Move, name: str, to: str) -> None:
    relation = look(warehouse, move, name)
    assert relation is not None
    place = warehouse.relation(move.database, move.schema, name)
    warehouse.execute(f"alter {_kind(relation)} {place} rename to {warehouse.quote(to)}")


def _kind(relation: Relation) -> str:
    return "view" if relation.is_view else "table"


EXCHANGE = Exchange(look, blockers, prepare, exchange, drop)
