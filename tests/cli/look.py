"""What the tests ask in Python, because a shell cannot.

valid STATUS      stdin holds valid records of known types only, the last a summary that tells STATUS
pick TYPE FIELD…  these fields of the records of a type on stdin, a line each
plain             the records on stdin without run_id and at, which no two runs share
query FILE SQL    the rows, a line each
tables FILE       every row of every table, sorted: what a database holds
gone COMMAND…     runs it with a stdout whose reader has gone before it starts
tty COMMAND…      runs it on a terminal of its own
"""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "lib"))


def valid(status: str) -> None:
    from sluice.pipe import decode
    from sluice.records import Summary

    stream = sys.stdin.buffer.read()
    assert stream.endswith(b"\n"), "the last line has no end"
    assert b"\x1b" not in stream, "an escape sequence"
    records = []
    for number, line in enumerate(stream.splitlines(), 1):
        try:
            records.append(decode(line))
        except (ValueError, KeyError) as problem:
            sys.exit(f"line {number}: {problem!r}: {line[:200]!r}")
        assert records[-1].run_id, f"line {number} has no run_id"
        assert records[-1].at.endswith("Z"), f"line {number} has no time"
    assert isinstance(records[-1], Summary), "no summary at the end"
    assert records[-1].exit_code == int(status), f"the summary says exit {records[-1].exit_code}"


def pick(wanted: str, *fields: str) -> None:
    for line in sys.stdin:
        record = json.loads(line)
        if record["type"] == wanted:
            print(*(_shown(record, field) for field in fields))


def _shown(record: dict, field: str) -> str:
    value = record
    for part in field.split("."):
        value = value.get(part) if value is not None else None
    return value if isinstance(value, str) else json.dumps(value)


def plain() -> None:
    for line in sys.stdin:
        record = json.loads(line)
        for changing in ("run_id", "at", "duration_s"):
            record.pop(changing, None)
        print(json.dumps(record))


def query(file: str, sql: str) -> None:
    import duckdb

    with duckdb.connect(file, read_only=True) as connection:
        for row in connection.execute(sql).fetchall():
            print(*row)


def tables(file: str) -> None:
    if not os.path.exists(file):
        return
    import duckdb

    with duckdb.connect(file, read_only=True) as connection:
        found = connection.execute(
            "SELECT table_schema, table_name FROM information_schema.tables ORDER BY ALL"
        ).fetchall()
        for schema, table in found:
            if table != "sluice_commit":
                rows = connection.execute(f'SELECT * FROM "{schema}"."{table}" ORDER BY ALL').fetchall()
                print(schema, table, *rows, sep="\n")


def gone(*command: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    sys.exit(subprocess.run(command, stdout=writer, check=False).returncode)


def tty(*command: str) -> None:
    sys.exit(os.waitstatus_to_exitcode(pty.spawn(command)))


if __name__ == "__main__":
    try:
        globals()[sys.argv[1]](*sys.argv[2:])
    except AssertionError as problem:
        sys.exit(str(problem))
