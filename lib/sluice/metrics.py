"""SLUICE_METRICS_FILE: what a monitor wants to know of each job, as a Prometheus text file, from the state store alone.

Written anew at the end of a run, all jobs of the store together, so the file is whole whichever job ended last. A retry
counts as the daily job's. Whoever reads it alerts on `time() - sluice_last_success_timestamp_seconds`.
"""

import os
from datetime import datetime
from pathlib import Path

from sluice.state import Job, State

_LABELS = ("project", "target", "intent")
_GAUGES = {
    "sluice_last_success_timestamp_seconds": "when the job last succeeded, Unix time; absent while it never did",
    "sluice_last_run_timestamp_seconds": "when its last run ended, Unix time",
    "sluice_last_run_success": "1 when its last run succeeded, else 0",
    "sluice_last_run_duration_seconds": "how long its last run took",
    "sluice_last_run_rows": "rows that its last run wrote, where the warehouse says",
}
_BATCHES = "sluice_last_run_batches"


def write(state: State, path: Path) -> None:
    """Replace the file in one step. Raises OSError when it cannot be written, SluiceError when the store cannot be read."""
    from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

    registry = CollectorRegistry()
    gauges = {name: Gauge(name, what, _LABELS, registry=registry) for name, what in _GAUGES.items()}
    batches = Gauge(_BATCHES, "batches of its last run by status", (*_LABELS, "status"), registry=registry)
    for job in state.jobs():
        labels = (job.project, job.target, job.intent)
        for name, value in _values(job).items():
            if value is not None:
                gauges[name].labels(*labels).set(value)
        for status in ("ok", "failed", "skipped", "cancelled"):
            batches.labels(*labels, status).set(job.batches.get(status, 0))
    before = os.umask(0o022)  # somebody else reads it: the exporter
    try:
        write_to_textfile(str(path), registry)
    finally:
        os.umask(before)


def _values(job: Job) -> dict[str, float | None]:
    def unix(at: str | None) -> float | None:
        return datetime.fromisoformat(at).timestamp() if at else None

    values = (
        unix(job.last_success_at),
        unix(job.ended_at),
        float(job.run_status == "SUCCESS"),
        job.duration_s,
        job.rows,
    )
    return dict(zip(_GAUGES, values, strict=True))
