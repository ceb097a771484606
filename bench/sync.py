"""A tap's million trades of ten fields into DuckDB, beside what else merges them by key. The aim: 90,000 rows/s, 150,000 once they are there.

As Singer lines, on two cores, under 800 MB. One run, side by side, into an empty database ("first") and the same lines once more ("again"):
  sync-cursor
  target-duckdb   the package index's Singer target
  dlt             merging Arrow tables, the quickest that it takes
and, for the floor, DuckDB's own reader, which checks nothing and keeps no key and no cursor. All tables are equal in the end.
The wall clock is what a person waits; processor time is given, too, for it does not depend on who else is at work.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import duckdb
from measure import ROOT, environment, write

STREAM = "raw_exchanges_trades"
DECIMAL = {"type": ["null", "string"], "format": "singer.decimal"}
TEXT = {"type": "string"}
PROPERTIES = {
    "source": TEXT, "txid": TEXT, "datetime": {"type": "string", "format": "date-time"}, "base": TEXT, "quote": TEXT,
    "side": TEXT, "amount": DECIMAL, "price": DECIMAL, "fee": DECIMAL, "raw_json": {"type": ["null", "object"]},
}  # fmt: skip
# All that a row says, whatever the types are that a contender chose for it.
SAID = f"""SELECT count(*), count(DISTINCT txid), sum(hash(source, txid, epoch_us("datetime"), base, quote, side,
    amount::DECIMAL(38, 8), price::DECIMAL(38, 8), fee::DECIMAL(38, 8), raw_json->>'order', raw_json->>'liquidity')) FROM %s.{STREAM}"""
AT = ("first", "again")
PEERS = ROOT / ".venv-peers" / "bin"


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    with tempfile.TemporaryDirectory() as folder:
        lines = generate(Path(folder, "lines.jsonl"), rows)
        runs = [race(Path(folder, str(number)), lines, rows) for number in range(rounds)]
    best = {at: max(median(run[peer, at][0] for run in runs) for peer in ("target-duckdb", "dlt")) for at in AT}
    figures: dict[str, float | int | str] = {"rows": rows}
    for one in runs[0]:
        per_s, cpu_s, memory_mb = (median(run[one][place] for run in runs) for place in range(3))
        figures[f"{' '.join(one)}, rows/s"] = round(per_s)
        figures[f"{' '.join(one)}, processor s"] = round(cpu_s, 1)
        figures[f"{' '.join(one)}, most memory, MB"] = round(memory_mb)
    for at in AT:
        figures[f"sync-cursor ÷ the best peer, {at}"] = round(
            median(run["sync-cursor", at][0] for run in runs) / best[at], 2
        )
    for what, value in figures.items():
        print(f"{what:40} {value}", file=sys.stderr)
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


def race(work: Path, lines: Path, rows: int) -> dict[tuple[str, str], tuple[float, float, float]]:
    """Rows per second, processor seconds and most memory of each contender, by its name and whether the rows were there."""
    work.mkdir()
    env = environment(work, SLUICE_DUCKDB_PATH=work / "sync-cursor.duckdb", RUNTIME__DLTHUB_TELEMETRY="false")
    found = {}
    said = set()
    for name, (command, schema) in contenders(work, lines).items():
        for at in AT:
            with open(lines) as source:
                wall_s, *rest = timed(command, stdin=source, env=env)
            found[name, at] = (rows / wall_s, *rest)
            with duckdb.connect(str(work / f"{name}.duckdb")) as connection:
                one = connection.execute(SAID % schema).fetchone()
                assert one and one[:2] == (rows, rows), f"{name}, {at}: rows are lost or double: {one}"
                said.add(one)
    assert len(said) == 1, f"the tables are not equal: {said}"
    wall_s, *rest = timed(read_only(work, lines, rows))
    return found | {("floor:", "read alone"): (rows / wall_s, *rest)}


def contenders(work: Path, lines: Path) -> dict[str, tuple[list, str]]:
    """The command of each, which reads the lines from stdin or the file and fills NAME.duckdb, and the schema of its table."""
    singer = {"filepath": str(work / "target-duckdb.duckdb"), "default_target_schema": "singer"}
    Path(work, "target.json").write_text(json.dumps(singer))
    dlt = [PEERS / "python", ROOT / "bench/merge_with_dlt.py", lines, work / "dlt.duckdb", work / "dlt"]
    return {
        "sync-cursor": ([ROOT / "bin/sync-cursor", "load", "bench"], "raw"),
        "target-duckdb": ([PEERS / "target-duckdb", "-c", work / "target.json"], "singer"),
        "dlt": (dlt, "raw"),
    }


def read_only(work: Path, lines: Path, rows: int) -> list:
    kinds = ", ".join(f'"{name}" {"TIMESTAMPTZ" if name == "datetime" else "VARCHAR"}' for name in PROPERTIES)
    code = (
        'import duckdb, sys; c = duckdb.connect(sys.argv[1]); c.execute(f"create table t as select record.* from '
        "read_json('{sys.argv[2]}', format='newline_delimited', columns={{type: 'VARCHAR', record: 'STRUCT({sys.argv[3]})'}}) "
        "where type = 'RECORD'\"); assert c.execute('select count(*) from t').fetchone() == (int(sys.argv[4]),)"
    )
    return [sys.executable, "-c", code, str(work / "floor.duckdb"), str(lines), kinds, str(rows)]


def timed(command: list, **more) -> tuple[float, float, float]:
    """Wall clock and processor seconds, and the most memory, in MB."""
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **more)
    assert process.stderr
    told = process.stderr.read().decode()
    _, status, used = os.wait4(process.pid, 0)
    wall_s = time.monotonic() - began
    assert status == 0, f"{command}: {told[-2000:]}"
    return wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


if __name__ == "__main__":
    main()
