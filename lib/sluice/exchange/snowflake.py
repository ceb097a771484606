"""Snowflake: the statements, for whoever runs them there; Sluice itself does not connect to it.

SWAP WITH exchanges two tables at once and takes their grants along, so those are copied before: COPY GRANTS is of CREATE alone.
Each statement of Snowflake's DDL commits by itself. A view is replaced by its own text, which follows names.
"""

from sluice.exchange import Move


def statements(moves: list[Move]) -> list[str]:
    """What exchanges each table with what was built for it, in order: one pair after the other."""
    return [
        statement
        for move in moves
        for statement in (
            f"drop table if exists {_place(move, move.going)}",
            f"alter table {_place(move, move.live)} swap with {_place(move, move.coming)}",
            f"alter table {_place(move, move.coming)} rename to {_place(move, move.going)}",
        )
    ]


def _place(move: Move, name: str) -> str:
    parts = [part for part in (move.database, move.schema, name) if part]
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)
