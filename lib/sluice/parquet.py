"""What was synced as Parquet files for others to read: a file for each source and month, written anew where rows changed.

    python -m sluice.parquet FOLDER

A file is written under another name and renamed, so a reader sees the old one or the new one. What each was made of,
the number of its rows and the time of the last that was loaded, is in `_parts.json` beside them.
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sluice import whole_file
from sluice.errors import REFUSED, UNAVAILABLE, SluiceError, misconfigured, unavailable
from sluice.profiles import Credentials

TABLES = {
    "raw_exchanges_trades": ("source", "datetime"),
    "raw_exchanges_transfers": ("source", "datetime"),
    "raw_onchain_transfers": ("chain", "block_timestamp"),
}
_PARTS = "_parts.json"


def export(connection: Any, folder: Path, schema: str = "raw") -> Iterator[Path]:
    """Write what changed since the last export; yield each file. A part whose rows are gone loses its file.

    `connection` is DuckDB's. Raises duckdb.Error, OSError.
    """
    for table, (source, moment) in TABLES.items():
        place = f'"{schema}"."{table}"'
        there = connection.execute(
            "SELECT 1 FROM information_schema.tables WHERE table_schema = ? AND table_name = ?", [schema, table]
        ).fetchall()
        if not there:
            continue
        known = _read(folder / table / _PARTS)
        month = f"strftime(\"{moment}\" AT TIME ZONE 'UTC', '%Y-%m')"
        found = connection.execute(
            f"SELECT \"{source}\", coalesce({month}, 'none'), count(*), max(_synced_at)::VARCHAR FROM {place} GROUP BY ALL ORDER BY ALL"
        ).fetchall()
        parts = {_name(str(name), str(when)): [rows, synced_at] for name, when, rows, synced_at in found}
        for name, when, rows, synced_at in found:
            part = _name(str(name), str(when))
            path = folder / table / part
            if known.get(part) == [rows, synced_at] and path.exists():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(".tmp")
            target = str(temporary).replace("'", "''")
            connection.execute(
                f"COPY (SELECT * FROM {place} WHERE \"{source}\" = $name AND coalesce({month}, 'none') = $when "
                f"ORDER BY \"{moment}\") TO '{target}' (FORMAT parquet, COMPRESSION zstd)",
                {"name": name, "when": when},
            )
            os.replace(temporary, path)
            yield path
        for part in set(known) - set(parts):
            (folder / table / part).unlink(missing_ok=True)
        (folder / table).mkdir(parents=True, exist_ok=True)
        whole_file.write(folder / table / _PARTS, (json.dumps(parts, indent=1, sort_keys=True) + "\n").encode())


def _read(path: Path) -> dict[str, list]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):  # then everything is written anew
        return {}


def _name(source: str, month: str) -> str:
    """A path as readers of partitioned files know it; what is no plain name is percent-encoded."""
    from urllib.parse import quote

    return f"source={quote(source, safe='').replace('.', '%2E')}/month={month}/rows.parquet"


def main(arguments: list[str]) -> int:
    import duckdb

    from sluice import config, profiles

    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return REFUSED
    try:
        settings = config.load()
        database = _database(profiles.load(settings))
        with duckdb.connect(database, read_only=True) as connection:
            for path in export(connection, Path(arguments[0]), settings.raw_schema):
                print(path)
    except SluiceError as problem:
        print(f"parquet: {problem.message}" + (f"\n  try: {problem.hint}" if problem.hint else ""), file=sys.stderr)
        return problem.exit_code
    except (duckdb.Error, OSError) as problem:
        print(f"parquet: {problem}", file=sys.stderr)
        return UNAVAILABLE
    return 0


def _database(credentials: Credentials) -> str:
    """The file that syncs go to. Raises SluiceError: 78 where it is no DuckDB, 69 where it is not there."""
    if credentials.adapter != "duckdb":
        raise misconfigured(
            f"{credentials} is no DuckDB, and only from one are files written",
            code="parquet_adapter",
            hint="make parquet TARGET=… of a DuckDB",
        )
    path = str(credentials.get("path", ":memory:"))
    if ":" not in path and not os.path.exists(path):
        raise unavailable(f"there is no {path}", code="parquet_no_database", hint="make sync")
    return path


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
