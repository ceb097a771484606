"""Claim: a million trades of ten fields load into DuckDB at 90,000 rows/s or more, and at 150,000 once they are there.

As Singer lines, on two cores, under 800 MB. One run, three figures beside each other:
  first     sync-cursor load into an empty database
  again     the same lines once more: all unchanged, none rewritten
  floor     DuckDB's own reader reads the file into a table, checks nothing, keeps no key and no cursor
The wall clock is what a person waits; processor time is given, too, for it does not depend on who else is at work.
"""

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
from measure import ROOT, write

STREAM = "raw_exchanges_trades"
DECIMAL = {"type": ["null", "string"], "format": "singer.decimal"}
TEXT = {"type": "string"}
PROPERTIES = {
    "source": TEXT, "txid": TEXT, "datetime": {"type": "string", "format": "date-time"}, "base": TEXT, "quote": TEXT,
    "side": TEXT, "amount": DECIMAL, "price": DECIMAL, "fee": DECIMAL, "raw_json": {"type": ["null", "object"]},
}  # fmt: skip


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        lines = generate(work / "lines.jsonl", rows)
        first, again = load(lines, work, rows), load(lines, work, rows)
        floor = read_only(lines, work, rows)
    figures = {
        "rows": rows,
        "first, rows/s": round(rows / first["wall_s"]),
        "first, processor s": first["cpu_s"],
        "again, rows/s": round(rows / again["wall_s"]),
        "again, processor s": again["cpu_s"],
        "floor, rows/s": round(rows / floor["wall_s"]),
        "floor, processor s": floor["cpu_s"],
        "most memory, MB": max(first["memory_mb"], again["memory_mb"]),
        "load on the machine before": round(os.getloadavg()[0], 1),
    }
    for what, value in figures.items():
        print(f"{what:30} {value}", file=sys.stderr)
    write("sync", "Loading a tap's output into DuckDB", (__doc__ or "").split("\n\n")[0], figures)


def generate(path: Path, rows: int) -> Path:
    draw, began = random.Random(1), datetime(2024, 1, 1, tzinfo=UTC)
    with open(path, "w") as out:
        head = {"type": "SCHEMA", "stream": STREAM, "schema": {"properties": PROPERTIES}, "key_properties": ["source", "txid"], "bookmark_properties": ["datetime"]}  # fmt: skip
        print(json.dumps(head), file=out)
        for number in range(rows):
            at = (began + timedelta(seconds=number, microseconds=number % 1000)).isoformat()
            fields = {
                "source": "coinbase", "txid": f"t{number:08}", "datetime": at, "base": "BTC", "quote": "USD",
                "side": "buy" if number % 2 else "sell", "amount": f"{draw.random() * 10:.8f}",
                "price": f"{20_000 + draw.random() * 1000:.8f}", "fee": "0.14814800",
                "raw_json": {"order": f"o{number // 3}", "liquidity": "TAKER"},
            }  # fmt: skip
            print(json.dumps({"type": "RECORD", "stream": STREAM, "record": fields}), file=out)
            if number % 10_000 == 9_999:
                print(json.dumps({"type": "STATE", "value": {"bookmarks": {STREAM: {"datetime": at}}}}), file=out)
    return path


def load(lines: Path, work: Path, rows: int) -> dict:
    environment = os.environ | {
        "SLUICE_STATE_DIR": str(work / "state"), "SLUICE_LOG_DIR": str(work / "logs"), "SLUICE_DUCKDB_PATH": str(work / "w.duckdb"),
    }  # fmt: skip
    with open(lines) as source:
        figures = timed([str(ROOT / "bin/sync-cursor"), "load", "bench"], stdin=source, env=environment)
    with duckdb.connect(str(work / "w.duckdb")) as connection:
        found = connection.execute(f"SELECT count(*), count(DISTINCT txid), sum(amount) FROM raw.{STREAM}").fetchone()
    assert found and found[:2] == (rows, rows), f"rows are lost or double: {found}"
    return figures


def read_only(lines: Path, work: Path, rows: int) -> dict:
    kinds = ", ".join(f'"{name}" {"TIMESTAMPTZ" if name == "datetime" else "VARCHAR"}' for name in PROPERTIES)
    code = (
        'import duckdb, sys; c = duckdb.connect(sys.argv[1]); c.execute(f"create table t as select record.* from '
        "read_json('{sys.argv[2]}', format='newline_delimited', columns={{type: 'VARCHAR', record: 'STRUCT({sys.argv[3]})'}}) "
        "where type = 'RECORD'\"); assert c.execute('select count(*) from t').fetchone() == (int(sys.argv[4]),)"
    )
    return timed([sys.executable, "-c", code, str(work / "floor.duckdb"), str(lines), kinds, str(rows)])


def timed(command: list[str], **more) -> dict:
    """Wall clock and processor seconds, and the most memory of this or an earlier child, in MB."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **more)
    wall_s, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_s": wall_s, "cpu_s": round(cpu_s, 1), "memory_mb": after.ru_maxrss // 1024}


if __name__ == "__main__":
    main()
