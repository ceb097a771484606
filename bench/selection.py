"""Claim: plan-batches --select tag:x on 5,000 models takes at most 1.0 s and 200 MB when nothing has changed since the last parse.

Next to it `dbt ls --select tag:x`, which a script would ask instead; both must choose the same models.

    bench/selection.py [MODELS]
"""

import os
import subprocess
import sys
import tempfile
import time
from itertools import repeat
from pathlib import Path

import msgspec
from measure import ROOT, sized_project, write

TIMES, TAGGED = 5, 7
WINDOW = 'where day >= date \'{{ var("start_month", "2024-01-01") }}\''
PADDING = "-- as long as models are, so that the manifest is as large as theirs\n" * 105
CONFIG = "materialized='incremental', tags=['x'], meta={'full_refresh': {'start_date': '2024-01-01'}}"


def main() -> None:
    models = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        env = sized_project(root, dict(map(model, range(models), repeat(models))))
        plan = [sys.executable, ROOT / "bin/plan-batches", "--select", "tag:x", "--to", "2024-12-31", "--dry-run"]
        ls = [
            ROOT / ".venv/bin/dbt",
            *["--quiet", "ls", "--select", "tag:x", "--output", "name", "--resource-type", "model"],
        ]
        measured(plan, env)  # dbt's parse, once
        ours = [measured(plan, env) for _ in range(TIMES)]
        dbts = [measured(ls, env) for _ in range(3)][1:]  # the first parses
        manifest_mb = next(root.glob("state/**/manifest.json")).stat().st_size / 1e6
    plan = msgspec.json.decode(ours[0][2].splitlines()[0])
    chosen = {one["unique_id"].rpartition(".")[2] for one in plan["models"]}
    assert chosen == set(dbts[0][2].decode().split()), "we choose other models than dbt"
    ours_s, dbts_s = sorted(s for s, _, _ in ours)[TIMES // 2], min(s for s, _, _ in dbts)
    figures = {
        "models": models,
        "manifest.json, MB": round(manifest_mb, 1),
        "models chosen": len(chosen),
        "plan-batches --select tag:x, s": round(ours_s, 2),
        "its memory at most, MB": round(max(mb for _, mb, _ in ours)),
        "dbt ls --select tag:x, s": round(dbts_s, 2),
        "dbt ls ÷ plan-batches": round(dbts_s / ours_s, 1),
    }
    for what, value in figures.items():
        print(f"{what:36} {value}", file=sys.stderr)
    write("selection", "A selection on many models", (__doc__ or "").split("\n\n")[0], figures)


def model(number: int, models: int) -> tuple[str, str]:
    """The file and text of one of so many, in a hundred folders; each reads two before it, some are tagged and staged."""
    config = f"{{{{ config({CONFIG}) }}}}" if number % (models // TAGGED) == 1 else ""
    parents = [f"{{{{ ref('m{one:05}') }}}}" for one in {number // 2, number // 3} if one < number]
    source = " union all select * from ".join(parents) or "(select date '2024-01-01' as day) as one"
    text = f"{config} select day from {source} {WINDOW if config else ''}\n{PADDING}"
    return f"f{number % 100}/m{number:05}.sql", text


def measured(command: list, env: dict[str, str]) -> tuple[float, float, bytes]:
    """Seconds, MB at most, and what it wrote."""
    began = time.monotonic()
    process = subprocess.Popen(command, env=env, cwd=env["DBT_PROJECT_DIR"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, command
    return time.monotonic() - began, usage.ru_maxrss / 1024, out


if __name__ == "__main__":
    main()
