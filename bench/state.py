"""Claim: state adds under 5 ms a batch (SQLite; 15 on Postgres), and deciding on 100,000 model runs takes under 0.5 s.

Per engine, on real servers whose commits are on disk: the median of what a batch writes (intent, outcome, its node), next
to the plainest thing that could be done instead, two rows each in a commit of its own through the same driver; then a
history of 4,000 runs of 25 models, and the time from a new connection to the decision about it.
"""

import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from measure import ROOT, write

sys.path[:0] = [str(ROOT / "lib"), str(ROOT / "tests")]
from builders import a_batch, a_plan, a_result  # noqa: E402
from servers import Postgres  # noqa: E402

from sluice import past_runs  # noqa: E402
from sluice.clickhouse_server import ClickHouseServer  # noqa: E402
from sluice.ids import timestamp  # noqa: E402
from sluice.records import Node  # noqa: E402
from sluice.restart import Job, Policy, decide  # noqa: E402
from sluice.state import State  # noqa: E402

RUNS, MODELS, BATCHES = 4000, 25, 200
NAMES = [f"model.shop.m{number:02}" for number in range(MODELS)]
SCOPE = {"select": [], "exclude": [], "components": [], "ids": []}


def main() -> None:
    figures: dict[str, float | int | str] = {"model runs in the history": RUNS * MODELS, "batches timed": BATCHES}
    with tempfile.TemporaryDirectory() as folder, ClickHouseServer(Path(folder) / "clickhouse") as clickhouse:
        postgres = Postgres(durable=True)
        try:
            urls = {
                "SQLite": f"sqlite:{folder}/state/state.sqlite",
                "Postgres": f"postgresql://test@127.0.0.1:{postgres.port}/postgres?sslmode=disable",
                "ClickHouse": f"clickhouse://default@127.0.0.1:{clickhouse.http_port}/sluice",
            }
            floors = {
                "SQLite": plain_sqlite(Path(folder) / "plain.sqlite"),
                "Postgres": plain_postgres(postgres.port),
                "ClickHouse": plain_clickhouse(clickhouse),
            }
            for engine, url in urls.items():
                state = State.open(url)
                written = timed(writes(state))
                floor = timed(floors[engine])
                figures[f"{engine}: what a batch writes, median ms"] = round(written, 2)
                figures[f"{engine}: two plain rows, median ms"] = round(floor, 2)
                figures[f"{engine}: ratio"] = round(written / floor, 2)
                fill(state)
                state.close()
                figures[f"{engine}: a decision, median of 5, s"] = round(
                    statistics.median(deciding(url) for _ in range(5)), 3
                )
        finally:
            postgres.stop()
    write("state", "What state costs", __doc__.splitlines()[0], figures)


def timed(act: Callable[[int], None]) -> float:
    """The median of BATCHES calls, in milliseconds."""
    took = []
    for number in range(BATCHES):
        began = time.perf_counter()
        act(number)
        took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took)


def writes(state: State) -> Callable[[int], None]:
    plan, batches = a_plan([a_batch(f"model.shop.x{number}") for number in range(BATCHES)], run_id="timed")
    state.begin_run(plan, "timed")

    def act(number: int) -> None:
        batch = batches[number]
        attempt = state.intend("timed", "timed", batch)
        node = Node(unique_id=batch.expect[0], status="ok", duration_s=0.1, rows=1)
        state.record("timed", batch, a_result(batch, run_id="timed", attempt=attempt, nodes=[node]), "shop")

    return act


def plain_sqlite(path: Path) -> Callable[[int], None]:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE plain (id, text)")

    def act(number: int) -> None:
        for word in ("intent", "outcome"):
            connection.execute("INSERT INTO plain VALUES (?, ?)", (number, word))

    return act


def plain_postgres(port: int) -> Callable[[int], None]:
    import psycopg2

    connection = psycopg2.connect(host="127.0.0.1", port=port, user="test", dbname="postgres")
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute("CREATE TABLE plain (id bigint, text text)")

    def act(number: int) -> None:
        for word in ("intent", "outcome"):
            cursor.execute("INSERT INTO plain VALUES (%s, %s)", (number, word))

    return act


def plain_clickhouse(server: ClickHouseServer) -> Callable[[int], None]:
    import clickhouse_connect

    client = clickhouse_connect.get_client(host="127.0.0.1", port=server.http_port, autogenerate_session_id=False)
    settings = "fsync_after_insert = 1, fsync_part_directory = 1"
    client.command(f"CREATE TABLE plain (id Int64, text String) ENGINE = MergeTree ORDER BY id SETTINGS {settings}")

    def act(number: int) -> None:
        for word in ("intent", "outcome"):
            client.insert("plain", [[number, word]], column_names=["id", "text"])

    return act


def fill(state: State) -> None:
    """RUNS hourly runs of MODELS models, each but the last a success; that one failed at its 15th model."""
    plan, batches = a_plan([a_batch(name) for name in NAMES], intent="daily")
    plan.request = {**SCOPE, "vars": "{}"}
    now = datetime.now(UTC)
    identity = {"plan_id": plan.plan_id, "project_name": "shop", "environment": "dev", "intent": "daily", "attempt": 1}
    for chunk in range(0, RUNS, 200):
        runs, ends, intents, outcomes, nodes = [], [], [], [], []
        for number in range(chunk, chunk + 200):
            run = f"run-{number:05}"
            at = timestamp(now - timedelta(hours=RUNS - number))
            common = {"at": at, "run_id": run, "root_run_id": run}
            plan.run_id = run
            failed = number == RUNS - 1
            runs.append({**common, **identity, "event": "began", "plan": msgspec.json.encode(plan).decode(), "vars": "{}",
                         "host": "bench", "pid": os.getpid(), "models_planned": MODELS, "models_total": MODELS})  # fmt: skip
            ends.append({**common, **identity, "event": "ended", "run_status": "FAILED" if failed else "SUCCESS"})
            for batch in batches:
                status = "failed" if failed and batch.seq == 15 else "ok"
                cell = {**common, "plan_id": plan.plan_id, "batch_id": batch.batch_id, "batch_seq": batch.seq,
                        "model_name": batch.model, "stage": "default", "full_refresh": False, "attempt": 1}  # fmt: skip
                intents.append({**cell, "event": "intent"})
                outcomes.append(
                    {**cell, "event": "outcome", "status": status, "duration_seconds": 10.0, "result": "{}"}
                )
                nodes.append({"at": at, "run_id": run, "project_name": "shop", "model_name": batch.model, "unique_id": batch.model,
                              "batch_id": batch.batch_id, "status": "ERROR" if status == "failed" else "SUCCESS",
                              "duration_seconds": 10.0})  # fmt: skip
        with state.store.transaction():
            for table, rows in (("run_event", runs), ("run_event", ends), ("batch_event", intents), ("batch_event", outcomes),
                                ("model_event", nodes)):  # fmt: skip
                for start in range(0, len(rows), 1000):
                    state.store.insert(table, rows[start : start + 1000])


def deciding(url: str) -> float:
    """Seconds from a new connection to a decision; it must be the right one."""
    began = time.perf_counter()
    state = State.open_existing(url)
    assert state is not None
    past = past_runs.read(state, "shop", "dev", SCOPE)
    job = Job(dict.fromkeys(NAMES, "c0ffee"), {NAMES[14]: NAMES[20:]})
    decision, chosen = decide(past.failure, job, Policy(), now=datetime.now(UTC), seconds=past.seconds)
    took = time.perf_counter() - began
    assert (decision.action, len(chosen), decision.saved_s) == ("retry", 6, 190.0), decision
    state.close()
    return took


if __name__ == "__main__":
    main()
