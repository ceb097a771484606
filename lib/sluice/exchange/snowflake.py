"""Snowflake: the statements, for whoever runs them there; Sluice itself does not connect to it.

SWAP WITH exchanges the names of two tables at once. Their grants go with them: what SHOW GRANTS says of the live one must be granted
to what was built before it is swapped. Each statement of DDL commits by itself. Views follow names and are no part of this.
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
