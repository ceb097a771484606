"""`dbt ls` on a project that is parsed already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from dbt.compilation import Linker
from dbt.task import list as dbt_list

from sluice.dbt_engine import invocation, wire


def serve(settings: wire.Settings, manifest: Any, ask: wire.List, channel: wire.Channel) -> None:
    """Send a Reply (without a number) with the unique_ids, or the failure."""
    dbt_list.ListTask = UniqueIds
    try:
        channel.send(wire.Reply(0, msgspec.Raw(msgspec.json.encode(_list(settings, manifest, ask)))))
    except Exception as error:
        kind = invocation.failure_kind(error, of_dbt="selection")
        channel.send(wire.Reply(0, failure=wire.Failure(kind, invocation.message(error))))


def _list(settings: wire.Settings, manifest: Any, ask: wire.List) -> list[str]:
    arguments = [f"--resource-type={one}" for one in ask.resource_types]
    for flag, values in (("--select", ask.select), ("--exclude", ask.exclude)):
        for value in values:
            arguments.append(f"{flag}={value}")
    if ask.selector is not None:
        arguments.append(f"--selector={ask.selector}")
    return invocation.invoke(
        settings,
        "list",
        *arguments,
        vars=settings.base_vars,
        target_path=Path(settings.cache_dir, "target"),
        manifest=manifest,
    )


class UniqueIds(dbt_list.ListTask):
    """dbt's ListTask without the graph statistics that it writes to disk, and with ids that are unique."""

    def compile_manifest(self) -> None:
        self.graph = Linker().get_graph(self.manifest)

    def output_results(self, _results: Any) -> list[str]:
        return [node.unique_id for node in self._iterate_selected_nodes()]
