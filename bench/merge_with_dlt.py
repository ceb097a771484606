"""What bench/sync.py measures beside sync-cursor: dlt merges Arrow tables, the quickest that it takes, which pyarrow reads from the lines.

.venv-peers/bin/python bench/merge_with_dlt.py LINES DATABASE FOLDER_OF_DLT
"""

import json
import sys
from collections.abc import Iterator

import dlt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import json as arrow_json

TEXT = pa.string()
NAMES = ["source", "txid", "datetime", "base", "quote", "side", "amount", "price", "fee"]
RECORD = pa.struct([*((name, TEXT) for name in NAMES), ("raw_json", pa.struct([("order", TEXT), ("liquidity", TEXT)]))])
LINE = pa.schema([("type", TEXT), ("record", RECORD)])


def main() -> None:
    lines, database, folder = sys.argv[1:]
    pipeline = dlt.pipeline(
        "bench", destination=dlt.destinations.duckdb(database), dataset_name="raw", pipelines_dir=folder
    )
    trades = dlt.resource(
        tables(lines), name="raw_exchanges_trades", primary_key=["source", "txid"], write_disposition="merge"
    )
    pipeline.run(trades)


def tables(lines: str) -> Iterator[pa.Table]:
    """The records, typed as sync-cursor does it."""
    parse = arrow_json.ParseOptions(explicit_schema=LINE, unexpected_field_behavior="ignore")
    with arrow_json.open_json(
        lines, read_options=arrow_json.ReadOptions(block_size=1 << 24), parse_options=parse
    ) as reader:
        for batch in reader:
            records = pa.Table.from_batches([batch]).filter(pc.equal(batch["type"], "RECORD"))["record"]
            columns = dict(zip(RECORD.names, records.combine_chunks().flatten(), strict=True))
            columns["datetime"] = pc.replace_substring(columns["datetime"], "+00:00", "Z").cast(
                pa.timestamp("us", "UTC")
            )
            for name in ("amount", "price", "fee"):
                columns[name] = columns[name].cast(pa.decimal128(38, 9))
            columns["raw_json"] = pa.array(map(json.dumps, columns["raw_json"].to_pylist()))
            yield pa.table(columns)


if __name__ == "__main__":
    main()
