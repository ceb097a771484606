"""Relations that take each other's place under the name that readers use, so that none of them ever sees neither or half.

duckdb.py, postgres.py   all in one transaction
clickhouse.py            EXCHANGE TABLES, one after the other; each can be told to be done already
snowflake.py             the statements, for whoever runs them
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from sluice.warehouse import Warehouse


@dataclass(frozen=True)
class Move:
    """`coming` becomes `live`; what was `live` becomes `going`, in the place of what was called so before.

    Names without schema; `model` is the unique_id.
    """

    model: str
    database: str | None
    schema: str
    live: str
    coming: str
    going: str

    @property
    def table(self) -> str:
        return f"{self.schema}.{self.live}"


@dataclass(frozen=True)
class Relation:
    """What is there under a name. `id` is the warehouse's own, `columns` their names in order."""

    id: str
    is_view: bool
    columns: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Exchange:
    """How one dialect does it. Each is given the warehouse; all raise WarehouseError.

    `look(warehouse, move, name)`          what is there under a name of the move's schema, or None
    `blockers(warehouse, moves)`           what hangs on the live relations and cannot follow: a line each, for people
    `prepare(warehouse, moves)`            what must be done to what comes before its id is noted; nobody reads it yet
    `exchange(warehouse, moves, ids)`      make them; `ids` {model: (id of live or "", id of coming)} when it was begun
    `drop(warehouse, move, name)`          drop what has this name in the move's schema, if there is such a thing
    """

    look: Callable[[Warehouse, Move, str], Relation | None]
    blockers: Callable[[Warehouse, list[Move]], list[str]]
    prepare: Callable[[Warehouse, list[Move]], None]
    exchange: Callable[[Warehouse, list[Move], dict[str, tuple[str, str]]], None]
    drop: Callable[[Warehouse, Move, str], None]


def of(warehouse: Warehouse) -> Exchange:
    """How it is done in this warehouse."""
    from sluice.exchange import clickhouse, duckdb, postgres

    return {"duckdb": duckdb.EXCHANGE, "postgres": postgres.EXCHANGE, "clickhouse": clickhouse.EXCHANGE}[
        warehouse.adapter
    ]


def repointed(view: str, ending: str) -> str:
    """A view's CREATE statement with every name in its body as readers know it; its own name, the first, stays.

    `ending` is the reserved one of names that are built aside, so what ends with it is ours.
    """
    own, found, body = view.partition(ending)
    return own + found + body.replace(ending, "")
