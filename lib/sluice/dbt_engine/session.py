"""Many batches inside one `dbt run`: flags, profile, adapter, schemas, cache and on-run hooks are paid once.

on-run-start hooks run before the session's first batch, on-run-end hooks when it finishes; a session that is killed
or cancelled runs no on-run-end hooks, as an interrupted dbt does not.
"""

from __future__ import annotations

import functools
import os
import re
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from dbt import selected_resources
from dbt.adapters.factory import get_adapter
from dbt.compilation import Compiler, Linker
from dbt.contracts.graph.nodes import ModelNode
from dbt.graph import GraphQueue
from dbt.node_types import RunHookType
from dbt.task import run as dbt_run
from dbt_common.events.contextvars import task_contextvars
from dbt_common.exceptions import DbtRuntimeError

from sluice.dbt_engine import (
    asides,
    batch,
    date_words,
    event_messages,
    invocation,
    marker,
    process,
    statements,
    wire,
    written,
)
from sluice.dbt_engine.batch_log import BatchLog
from sluice.dbt_engine.parse_check import NeedsFresh, ParseCheck
from sluice.dbt_engine.worker import StopSignal

# dbt's cache of relations follows its own materializations; what a hook or a macro creates or drops it does not see.
_DDL = re.compile(r"\b(create|drop|rename|alter|truncate|attach|detach)\b", re.IGNORECASE)


def serve(settings: wire.Settings, manifest: Any, channel: wire.Channel) -> None:
    """Answer the requests on `channel` from one session until told to finish."""
    event_messages.quicken()
    date_words.keep()
    # A file of target/compiled holds the SQL of the batch before, in a folder that nobody sees; a batch's log has its own.
    Compiler._write_node = lambda _, node, split_suffix=None: node  # type: ignore[method-assign]
    log, requests = BatchLog(), _Requests(channel)
    dbt_run.RunTask = functools.partial(Session, settings=settings, requests=requests, log=log)
    try:
        invocation.invoke(
            settings,
            "run",
            vars=settings.base_vars,
            target_path=Path(settings.cache_dir, "target"),
            manifest=manifest,
            callback=log.event,
        )
    except _Stopped:
        return
    except Exception as error:
        if requests.are_over:
            print(f"dbt: at the end: {invocation.message(error)}", file=sys.stderr)
        else:  # whoever waits for an answer must have one
            requests.answer(wire.Answer(outcome=_of_nothing(requests, error)))
    invocation.close_warehouse()


def _of_nothing(requests: _Requests, error: Exception) -> wire.Outcome:
    if requests.pending is not None:
        return wire.Outcome(status="lost", error=invocation.message(error))
    ask = requests.take()  # dbt gave up before there was a session
    return batch.not_run(ask.expect if isinstance(ask, wire.Run) else [], invocation.message(error))


class _Requests:
    """The loader's requests, one at a time; `pending` is the one not answered yet. After Finish they `are_over`."""

    def __init__(self, channel: wire.Channel):
        self._channel = channel
        self.pending: wire.Run | wire.Committed | wire.Finish | None = None
        self.are_over = False

    def take(self) -> wire.Run | wire.Committed | wire.Finish:
        ask = msgspec.json.decode(self._channel.receive(), type=wire.Run | wire.Committed | wire.Finish)
        self.are_over = isinstance(ask, wire.Finish)
        self.pending = None if self.are_over else ask
        return ask

    def answer(self, answer: wire.Answer) -> None:
        self._channel.send(answer)
        self.pending = None


class _Stopped(Exception):
    """A stop signal ended the session."""


class Session(dbt_run.RunTask):
    """Takes the place of dbt's RunTask for one invocation, and runs what it is asked to instead of a selection."""

    def __init__(self, *arguments: Any, settings: wire.Settings, requests: _Requests, log: BatchLog):
        super().__init__(*arguments)
        self._base_vars, self._asides, self._cache_dir = settings.base_vars, settings.asides, settings.cache_dir
        self._requests, self._log = requests, log
        self._started = False
        self._busy = False
        self._graph_of: int | None = None  # at which count of reparses the graph was built
        self._cache_stale = False
        self._planned: frozenset[str] = frozenset()
        self._schemas: set[tuple[Any, Any]] = set()
        self._finished: list[Any] = []  # results for the on-run-end hooks

    def run(self) -> Any:
        self._adapter = get_adapter(self.config)
        self._check = ParseCheck(self.config, self.manifest, self._base_vars)
        self._markers = marker.of(self._adapter, self.config, self.manifest)
        statements.install(self.config.credentials)
        written.install(self.config.credentials)
        asides.redirect(self._adapter, self.config, self.manifest, self._asides)
        self._keeps_results = bool(self.get_hooks_by_type(RunHookType.End))
        self._stop = StopSignal(self._interrupt)
        with task_contextvars(project_root=self.config.project_root):
            try:
                self._serve()
            finally:
                self._adapter.cleanup_connections()
        return self.get_result([], 0.0, datetime.now())

    def _serve(self) -> None:
        while True:
            ask = self._requests.take()
            if isinstance(ask, wire.Finish):
                break
            self._busy = True
            answer = self._batch(ask) if isinstance(ask, wire.Run) else self._committed(ask.marker)
            self._log.close()
            if self._stop.arrived:
                raise _Stopped
            self._busy = False
            self._requests.answer(answer)
        if self._started:
            self._end()

    def _interrupt(self) -> None:
        if not self._busy:
            os._exit(0)
        statements.interrupt(self._adapter, self.config.credentials)

    def _batch(self, ask: wire.Run) -> wire.Answer:
        began = time.perf_counter()
        self._set_full_refresh(ask.full_refresh)
        try:
            involved = self._check.settle(ask.expect, {**self._base_vars, **ask.vars})
            # What the batch's vars made dbt parse again has its own name again.
            asides.redirect(self._adapter, self.config, self.manifest, self._asides)
        except NeedsFresh as reason:
            return wire.Answer(needs_fresh=str(reason))
        except asides.Moved as moved:
            return wire.Answer(outcome=batch.not_run(ask.expect, str(moved)))
        except Exception as error:
            # Whatever dbt trips over here, a parse from nothing is the judge of it.
            return wire.Answer(needs_fresh=invocation.message(error))
        verified = time.perf_counter()
        self._log.open(Path(ask.log_path))
        try:
            with statements.named(ask.marker, self.config.credentials):
                outcome = self._run_nodes(ask, involved)
        except Exception as error:
            outcome = batch.not_run(ask.expect, invocation.message(error))
        if outcome.error is not None:
            self._log.write(outcome.error)
        if outcome.status != "ok" and ask.marker is not None and not (ask.full_refresh or self._stop.arrived):
            outcome.committed = self._committed(ask.marker).committed
        outcome.notes = self._log.notes
        outcome.verify_s = verified - began
        outcome.run_s = time.perf_counter() - verified
        return wire.Answer(outcome=outcome)

    def _run_nodes(self, ask: wire.Run, involved: list[ModelNode]) -> wire.Outcome:
        nodes = [self.manifest.nodes[unique_id] for unique_id in ask.expect]
        hooks = {}
        with process.one_at_a_time(self._cache_dir):
            self._prepare(ask, nodes)
            if ask.marker is not None and self._markers is not None and not ask.full_refresh:
                hooks = self._markers.begin(ask.marker, nodes)
        for node in involved:
            _forget_compilation(node)
        self.node_results = []
        self.run_count, self.num_nodes = 0, len(nodes)
        selected_resources.set_selected_resources(set(ask.expect))
        with batch.hooked(self.manifest, hooks):
            if len(nodes) == 1:
                self.node_results.append(self.call_runner(self.get_runner(nodes[0])))
            else:
                self._run_graph(nodes)
        if self._keeps_results:
            self._finished += self.node_results
        return batch.judge([node.unique_id for node in nodes if not node.is_ephemeral_model], self.node_results)

    def _run_graph(self, nodes: list[ModelNode]) -> None:
        """Several nodes go through dbt's queue: its order, its threads, its skipping of what depends on a failure."""
        if self._graph_of != self._check.reparses:
            self.graph = Linker().get_graph(self.manifest)
            self._graph_of = self._check.reparses
        selected = {node.unique_id for node in nodes}
        self._flattened_nodes = nodes
        self._skipped_children.clear()
        self.job_queue = GraphQueue(self.graph.get_subset_graph(selected).graph, self.manifest, selected)
        self.execute_nodes()

    def _prepare(self, ask: wire.Run, nodes: list[ModelNode]) -> None:
        """Bring schemas and the cache of relations up to what `nodes` need; the first time, start the session."""
        if not self._started:
            self._planned = frozenset([*ask.models, *ask.expect]) & self.manifest.nodes.keys()
            if str(self.before_run(self._adapter, self._planned)) != "success":
                raise DbtRuntimeError(self.node_results[-1].message)
            self._finished += self.node_results
            self._schemas = {_schema_of(self.manifest.nodes[unique_id]) for unique_id in self._planned}
            self._started = True
        elif ask.look_again:
            self._cache_stale = True
        new = {node.unique_id for node in nodes if _schema_of(node) not in self._schemas}
        if new or self._cache_stale:
            with self._adapter.connection_named("master"):
                required = self.get_model_schemas(self._adapter, new)
                self.create_schemas(self._adapter, required)
                if self._cache_stale:
                    self._adapter.cache.clear()
                    required = self.get_model_schemas(self._adapter, self._planned)
                self.populate_adapter_cache(self._adapter, required)
            self._schemas |= {_schema_of(node) for node in nodes}
        self._cache_stale = any(_DDL.search(self._check.code(node)) for node in nodes)

    def _committed(self, one: wire.Marker) -> wire.Answer:
        if self._markers is None:
            return wire.Answer(committed="nothing commits with its rows there")
        try:
            return wire.Answer(committed=self._markers.committed(one))
        except Exception as error:
            return wire.Answer(committed=invocation.message(error))

    def _end(self) -> None:
        if self._check.reparses and self._keeps_results:
            self.manifest.build_flat_graph()  # hooks may walk the graph
        self.node_results = []
        self.after_run(self._adapter, self._finished)
        for result in self.node_results:
            if str(result.status) != "success":
                print(f"dbt: {result.message}", file=sys.stderr)

    def get_runner(self, node: Any) -> Any:
        runner = super().get_runner(node)
        if self._stop.arrived:
            runner.do_skip()
        return runner

    def _set_full_refresh(self, on: bool) -> None:
        # The flags object is frozen for dbt's users, and spells each flag twice.
        for name in ("FULL_REFRESH", "full_refresh"):
            object.__setattr__(self.args, name, on)


def _schema_of(node: Any) -> tuple[Any, Any]:
    return node.database, node.schema


def _forget_compilation(node: ModelNode) -> None:
    """A compiled node is not compiled again, nor are ephemeral parents put into it again."""
    node.compiled, node.compiled_code, node._pre_injected_sql = False, None, None
    node.extra_ctes, node.extra_ctes_injected = [], False
