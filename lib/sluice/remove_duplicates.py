"""DuckDB and Postgres: rows with the same key removed but for the newest, in one transaction.

The newest is the one of the latest transaction, and of those the last written. Rows without a whole key (a NULL in it)
are never touched: dbt takes none of them for another's equal.
"""

from dataclasses import dataclass

from sluice.errors import refused
from sluice.warehouse import Warehouse

# How a row is named, and what comes first when the newest does. A DuckDB rowid grows with every insert; in Postgres
# the place of a row is free to be used again, but the age of its transaction is not; a place counts per partition.
ROW = {"duckdb": ("rowid", "rowid desc"), "postgres": ("tableoid, ctid", "age(xmin), ctid desc")}


@dataclass(frozen=True)
class Numbers:
    """Rows of a table, those beyond one for each whole key, and bytes where the dialect knows them."""

    rows: int
    duplicates: int
    bytes: int | None


def columns(warehouse: Warehouse, database: str | None, schema: str, name: str) -> list[str]:
    """The columns of a table; [] when there is none."""
    where = "table_schema = $schema and table_name = $name"
    params = {"schema": schema, "name": name}
    if warehouse.adapter == "duckdb" and database:
        where, params = f"{where} and table_catalog = $database", {**params, "database": database}
    return [
        column
        for (column,) in warehouse.rows(
            f"select column_name from information_schema.columns where {where} order by ordinal_position", params
        )
    ]


def measure(warehouse: Warehouse, relation: str, key: list[str]) -> Numbers:
    """What is in the table. `key` are its columns' true names."""
    names = ", ".join(map(warehouse.quote, key))
    [(rows, duplicates)] = warehouse.rows(
        f"select (select count(*) from {relation}), (select coalesce(sum(copies - 1), 0) from"
        f" (select count(*) as copies from {relation} where {_whole(warehouse, key)} group by {names}) as k)"
    )
    size = None
    if warehouse.adapter == "postgres":
        size = int(warehouse.value("select pg_total_relation_size($relation::regclass)", {"relation": relation}))
    return Numbers(int(rows), int(duplicates), size)


def remove(warehouse: Warehouse, relation: str, key: list[str]) -> None:
    """Remove the duplicates and give their space back. All of it is undone when a statement fails."""
    row, newest_first = ROW[warehouse.adapter]
    names = ", ".join(map(warehouse.quote, key))
    with warehouse.transaction():
        if warehouse.adapter == "postgres":  # nobody writes between the look and the delete
            warehouse.execute(f"lock table {relation} in share row exclusive mode")
        warehouse.execute(
            f"delete from {relation} where ({row}) in (select {row} from (select {row}, row_number() over"
            f" (partition by {names} order by {newest_first}) as place from {relation}"
            f" where {_whole(warehouse, key)}) as ranked where place > 1)"
        )
    warehouse.execute("checkpoint" if warehouse.adapter == "duckdb" else f"vacuum (analyze) {relation}")


def true_names(declared: list[str], found: list[str], table: str) -> list[str]:
    """The declared columns as the table spells them. Raises SluiceError (2) for one that it does not have."""
    folded: dict[str, list[str]] = {}
    for column in found:
        folded.setdefault(column.lower(), []).append(column)
    names = []
    for column in declared:
        near = [column] if column in found else folded.get(column.lower(), [])
        if len(near) != 1:
            raise refused(
                f"{table} has no column {column!r}, which unique_key names; it has {', '.join(found)}",
                code="optimize_bad_key", hint="correct unique_key in the model's config",
            )  # fmt: skip
        names += near
    return names


def _whole(warehouse: Warehouse, key: list[str]) -> str:
    return " and ".join(f"{warehouse.quote(column)} is not null" for column in key)
