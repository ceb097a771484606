"""Parses the project under the base vars, and keeps dbt's parse state outside of the project's own target folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
from dbt.adapters.factory import get_adapter_by_type
from dbt.contracts.graph.nodes import ModelNode
from dbt.flags import get_flags
from dbt.version import __version__
from filelock import FileLock

from sluice.dbt_engine import invocation, wire
from sluice.dbt_engine.var_readers import VarReaders


class Parsed(msgspec.Struct):
    manifest: Any
    config: Any
    readers: Any
    info: wire.ProjectInfo


def parse(settings: wire.Settings, *, write_manifest: bool) -> Parsed:
    """Raises what dbt raises.

    The lock is held while dbt reads and writes its state: two processes may start on one project at once.
    """
    cache = Path(settings.cache_dir)
    manifest_path = cache / "manifest.json"
    with FileLock(cache / "parse.lock"):
        manifest = invocation.invoke(settings, "parse", vars=settings.base_vars, target_path=cache / "target")
        if write_manifest:
            _write(manifest, manifest_path, cache / "target" / "partial_parse.msgpack")
    config = get_adapter_by_type(manifest.metadata.adapter_type).config
    profiles = Path(get_flags().PROFILES_DIR, "profiles.yml")
    readers = VarReaders(config, manifest, profiles)
    return Parsed(
        manifest=manifest,
        config=config,
        readers=readers,
        info=wire.ProjectInfo(
            project_name=str(config.project_name),
            target=config.target_name,
            adapter=config.credentials.type,
            database=config.credentials.database,
            schema=config.credentials.schema,
            dbt_version=__version__,
            manifest_path=str(manifest_path),
            yaml_vars=readers.where,
        ),
    )


def warm_up(manifest: Any) -> None:
    """Have dbt make what it makes when it first parses a model: its JSON schema, the code that reads it. Forks then have it."""
    node = next((node for node in manifest.nodes.values() if isinstance(node, ModelNode)), None)
    if node is not None:
        fields = node.to_dict(omit_none=True)
        ModelNode.validate(fields)
        ModelNode.from_dict(fields)


def _write(manifest: Any, path: Path, state: Path) -> None:
    """Write manifest.json whole or not at all, and not again for the parse state that it was written for."""
    stamp_path = path.with_suffix(".stamp")
    stat = state.stat()
    stamp = f"{stat.st_ino} {stat.st_size} {stat.st_mtime_ns}"
    if path.exists() and stamp_path.exists() and stamp_path.read_text() == stamp:
        return
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    manifest.write(str(temporary))
    stamp_path.unlink(missing_ok=True)
    os.replace(temporary, path)
    stamp_path.write_text(stamp)
