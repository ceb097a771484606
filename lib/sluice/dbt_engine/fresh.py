"""One batch as a complete `dbt run`: parsed from nothing under the batch's vars, and run by its exact node names."""

from __future__ import annotations

import functools
import os
import shutil
import time
from pathlib import Path
from typing import Any

import msgspec
from dbt import selected_resources
from dbt.adapters.factory import FACTORY, get_adapter
from dbt.graph import GraphQueue
from dbt.task import run as dbt_run
from dbt_common.exceptions import DbtRuntimeError

from sluice.dbt_engine import asides, batch, invocation, marker, process, statements, wire, written
from sluice.dbt_engine.batch_log import BatchLog
from sluice.dbt_engine.worker import StopSignal


def serve(settings: wire.Settings, channel: wire.Channel) -> None:
    """Answer the one Run on `channel`."""
    log = BatchLog()
    stop = StopSignal(_interrupt)
    ask = msgspec.json.decode(channel.receive(), type=wire.Run)
    log.open(Path(ask.log_path))
    began = time.perf_counter()
    # Its own folder, thrown away: dbt writes its parse there, and this one must not be taken for the base vars' parse.
    target_path = Path(settings.cache_dir, f"fresh-{os.getpid()}")
    tasks: list[ExactRun] = []
    dbt_run.RunTask = functools.partial(ExactRun, ask=ask, settings=settings, tasks=tasks)
    try:
        result = invocation.invoke(
            settings,
            "run",
            *(["--full-refresh"] if ask.full_refresh else []),
            vars={**settings.base_vars, **ask.vars},
            target_path=target_path,
            partial_parse=False,
            callback=log.event,
        )
        outcome = batch.judge(tasks[0].result_ids(), result.results)
        outcome.hooks_s = sum(one.execution_time for one in result.results if one.node.resource_type == "operation")
    except Exception as error:
        outcome = batch.not_run(ask.expect, invocation.message(error))
    finally:
        shutil.rmtree(target_path, ignore_errors=True)
    if stop.arrived:
        return
    if outcome.error is not None:
        log.write(outcome.error)
    if outcome.status != "ok" and tasks and not ask.full_refresh:
        outcome.committed = tasks[0].committed()
    log.close()
    outcome.notes = log.notes
    outcome.run_s = time.perf_counter() - began
    channel.send(wire.Answer(outcome=outcome))
    invocation.close_warehouse()


def _interrupt() -> None:
    for adapter in list(FACTORY.adapters.values()):
        if statements.interrupt(adapter, adapter.config.credentials):
            return
    os._exit(0)


class ExactRun(dbt_run.RunTask):
    """dbt's RunTask, but it runs the batch's nodes by unique_id instead of a selection that might match others."""

    def __init__(self, *arguments: Any, ask: wire.Run, settings: wire.Settings, tasks: list[ExactRun]):
        super().__init__(*arguments)
        self._ask, self._asides, self._cache_dir = ask, settings.asides, settings.cache_dir
        self._markers = marker.of(get_adapter(self.config), self.config, self.manifest)
        statements.install(self.config.credentials)
        written.install(self.config.credentials)
        tasks.append(self)

    def result_ids(self) -> list[str]:
        """The expected nodes that dbt gives a result for."""
        return [one for one in self._ask.expect if not self.manifest.nodes[one].is_ephemeral_model]

    def committed(self) -> bool | str | None:
        if self._ask.marker is None or self._markers is None:
            return None
        try:
            return self._markers.committed(self._ask.marker)
        except Exception as error:
            return invocation.message(error)

    def get_graph_queue(self) -> GraphQueue:
        absent = batch.missing(self._ask.expect, self.manifest)
        if absent is not None:
            raise DbtRuntimeError(absent)
        asides.redirect(get_adapter(self.config), self.config, self.manifest, self._asides)
        selected = set(self._ask.expect)
        selected_resources.set_selected_resources(selected)
        return GraphQueue(self.graph.get_subset_graph(selected).graph, self.manifest, selected)

    def execute_nodes(self) -> Any:
        with statements.named(self._ask.marker, self.config.credentials):
            hooks = {}
            if self._ask.marker is not None and self._markers is not None and not self._ask.full_refresh:
                with process.one_at_a_time(self._cache_dir):
                    hooks = self._markers.begin(self._ask.marker, self._flattened_nodes)
            with batch.hooked(self.manifest, hooks):
                return super().execute_nodes()
