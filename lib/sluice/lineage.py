"""OPENLINEAGE_URL: what each batch reads and writes, told to a lineage server as it begins and ends.

What goes wrong there is none of the pipeline's business: the first event that is not taken is the last that is sent, with
one warning.
"""

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from sluice import __version__, manifest, profiles
from sluice.config import Config
from sluice.errors import SluiceError
from sluice.ids import timestamp
from sluice.log import redact
from sluice.manifest import Manifest
from sluice.records import Batch, BatchResult, Plan

TIMEOUT_S = 3.0
PRODUCER = f"urn:sluice:{__version__}"  # the specification wants a URI
_ENDINGS = {"ok": "COMPLETE", "failed": "FAIL", "cancelled": "ABORT"}
_READ = ("model", "seed", "snapshot", "source")
_log = logging.getLogger("sluice")


class Lineage:
    """Tells nobody: when no server is set."""

    def begins(self, batch: Batch) -> None:
        """A batch is about to run."""

    def ends(self, batch: Batch, result: BatchResult | None) -> None:
        """It is over; None when nobody knows how."""

    def close(self) -> None:
        """No event follows."""


def to_server(config: Config, plan: Plan) -> Lineage:
    """What OPENLINEAGE_URL asks for. Never raises for its own trouble."""
    if config.openlineage_url is None:
        return Lineage()
    try:
        return Events(config, plan)
    except Exception as problem:
        _log.warning("OPENLINEAGE_URL: %s; no events are sent", redact(str(problem)))
        return Lineage()


class Events(Lineage):
    """A START, and a COMPLETE, FAIL or ABORT, for each batch; the run of the plan is their parent."""

    def __init__(self, config: Config, plan: Plan):
        from openlineage.client.transport.http import ApiKeyTokenProvider, HttpConfig, HttpTransport, TokenProvider

        for name in ("openlineage", "urllib3"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        key = config.secret("OPENLINEAGE_API_KEY")
        auth = ApiKeyTokenProvider({"api_key": key}) if key else TokenProvider({})
        retry = {"total": 1, "backoff_factor": 0.2, "allowed_methods": ["POST"]}
        self._transport = HttpTransport(
            HttpConfig(url=str(config.openlineage_url), timeout=TIMEOUT_S, auth=auth, retry=retry)
        )
        self._plan = plan
        self._jobs = config.openlineage_namespace
        self._datasets = _Datasets(config, plan)
        self._runs: dict[str, str] = {}
        self._gone = False

    def begins(self, batch: Batch) -> None:
        def event() -> Any:
            from openlineage.client.uuid import generate_new_uuid

            self._runs[batch.batch_id] = str(generate_new_uuid())
            return self._event(batch, "START", self._run_facets(batch), {})

        self._tell(event)

    def ends(self, batch: Batch, result: BatchResult | None) -> None:
        def event() -> Any:
            from openlineage.client.facet_v2 import error_message_run

            facets = self._run_facets(batch)
            if result is not None and result.error:
                facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(redact(result.error), "SQL")
            rows = {node.unique_id: node.rows for node in result.nodes if node.rows is not None} if result else {}
            return self._event(batch, _ENDINGS.get(result.status if result else "failed", "FAIL"), facets, rows)

        if batch.batch_id in self._runs:
            self._tell(event)
            self._runs.pop(batch.batch_id)

    def close(self) -> None:
        self._transport.close()

    def _tell(self, event: Callable[[], Any]) -> None:
        if self._gone:
            return
        try:
            self._transport.emit(event())
        except Exception as problem:
            self._gone = True
            # Not the text: it holds the URL, and so perhaps a key.
            _log.warning("OPENLINEAGE_URL: %s; no more events are sent in this run", type(problem).__name__)

    def _event(self, batch: Batch, kind: str, facets: dict[str, Any], rows: dict[str, int]) -> Any:
        from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
        from openlineage.client.facet_v2 import output_statistics_output_dataset as statistics

        written = [
            OutputDataset(
                *self._datasets.name(uid),
                outputFacets={"outputStatistics": statistics.OutputStatisticsOutputDatasetFacet(rowCount=rows[uid])}
                if uid in rows
                else {},
            )
            for uid in batch.expect
        ]
        return RunEvent(
            eventTime=timestamp(),
            eventType=RunState(kind),
            run=Run(self._runs[batch.batch_id], facets),
            job=Job(self._jobs, f"{self._plan.project}.{self._plan.target}.{_name(batch.model or 'selection')}"),
            inputs=[InputDataset(*self._datasets.name(uid)) for uid in self._datasets.read_by(batch.expect)],
            outputs=written,
            producer=PRODUCER,
        )

    def _run_facets(self, batch: Batch) -> dict[str, Any]:
        from openlineage.client.facet_v2 import nominal_time_run, parent_run

        facets: dict[str, Any] = {}
        if batch.window is not None:
            days = [f"{day.isoformat()}T00:00:00.000Z" for day in (batch.window.start, batch.window.end)]
            facets["nominalTime"] = nominal_time_run.NominalTimeRunFacet(*days)
        with suppress(ValueError):  # a run id that is no UUID was given by hand
            job = parent_run.Job(self._jobs, f"{self._plan.project}.{self._plan.target}.{self._plan.intent}")
            facets["parent"] = parent_run.ParentRunFacet(parent_run.Run(self._plan.run_id), job)
        return facets


class _Datasets:
    """Namespace and name of what batches read and write, as OpenLineage names the tables of each database."""

    def __init__(self, config: Config, plan: Plan):
        self._models = {model.unique_id: model for model in plan.models}
        self._manifest: Manifest | None = None
        self.namespace = f"{plan.adapter}://{plan.target}"
        with suppress(SluiceError):  # dbt runs elsewhere: then the plan alone tells
            self._manifest = manifest.load(config.cache_dir / manifest.MANIFEST)
        with suppress(SluiceError):
            self.namespace = _namespace(profiles.load(replace(config, target=plan.target)))

    def name(self, uid: str) -> tuple[str, str]:
        node = self._manifest.nodes.get(uid) if self._manifest else None
        model = self._models.get(uid)
        if node is not None:
            parts = (node.database, node.schema, node.alias or node.name)
        elif model is not None:
            parts = (model.database_name, model.schema_name, _name(uid))
        else:
            parts = (None, None, _name(uid))
        return self.namespace, ".".join(part for part in parts if part)

    def read_by(self, uids: Iterable[str]) -> list[str]:
        """The direct parents of these models that hold rows."""
        if self._manifest is None:
            return []
        parents = {up for uid in uids for up in self._manifest.parents.get(uid, [])}
        return sorted(up for up in parents if self._manifest.nodes[up].resource_type in _READ)


def _namespace(credentials: profiles.Credentials) -> str:
    get = credentials.get
    if credentials.adapter == "duckdb":
        return f"duckdb://{get('path', ':memory:')}"
    default = {"postgres": 5432, "clickhouse": 8123}.get(credentials.adapter)
    port = get("port", default)
    return f"{credentials.adapter}://{get('host', 'localhost')}" + (f":{port}" if port else "")


def _name(uid: str) -> str:
    return uid.rsplit(".", 1)[-1]
