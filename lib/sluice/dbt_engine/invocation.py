"""Calls dbt's own entry point with flags that keep it quiet and out of the user's folders."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from dbt.adapters.factory import FACTORY
from dbt.cli.main import dbtRunner
from dbt_common.exceptions import DbtBaseException, DbtInternalError, env_secrets, scrub_secrets

from sluice.dbt_engine import wire

_FLAGS = [
    "--no-use-colors",
    "--log-level=none",  # the batch's log is written from callbacks, which get every event
    "--log-level-file=none",
    "--no-write-json",
    "--no-version-check",
    "--no-send-anonymous-usage-stats",
    # The static parser is Rust with a thread pool of its own, made at the first parse and missing after a fork: a
    # worker that parsed with it would wait for ever.
    "--no-static-parser",
]


def invoke(
    settings: wire.Settings,
    command: str,
    *arguments: str,
    vars: dict[str, Any],
    target_path: Path,
    partial_parse: bool = True,
    manifest: Any = None,
    callback: Callable[[Any], None] | None = None,
) -> Any:
    """dbt's result. Raises whatever ended the invocation, KeyboardInterrupt and SystemExit included: dbt swallows them.

    A result with failed nodes is returned, not raised.
    """
    line = [*_FLAGS, "--partial-parse" if partial_parse else "--no-partial-parse", command, *arguments]
    line += ["--vars", msgspec.json.encode(vars).decode(), "--project-dir", settings.project_dir]
    line += ["--target-path", str(target_path), "--log-path", str(Path(settings.cache_dir, "logs"))]
    if settings.profiles_dir is not None:
        line += ["--profiles-dir", settings.profiles_dir]
    if settings.target is not None:
        line += ["--target", settings.target]
    result = dbtRunner(manifest=manifest, callbacks=[callback] if callback else []).invoke(line)
    if result.exception is not None:
        raise result.exception
    return result.result


def close_warehouse() -> None:
    """Close what dbt leaves open for its process to close: DuckDB then folds its log into the database file."""
    for adapter in FACTORY.adapters.values():
        adapter.cleanup_connections()
        close_all = getattr(adapter.connections, "close_all_connections", None)
        if close_all is not None:
            close_all()


def message(error: BaseException) -> str:
    """dbt's text of an error, without the secrets that dbt knows; a traceback for what is not dbt's."""
    if isinstance(error, DbtBaseException):
        text = str(error)
    else:
        text = "".join(traceback.format_exception_only(error)).strip()
    return scrubbed(text)


def scrubbed(text: str) -> str:
    return str(scrub_secrets(text, env_secrets())).strip()


def failure_kind(error: BaseException, *, of_dbt: str) -> str:
    """`of_dbt` when dbt refused, `internal` when it broke."""
    if isinstance(error, DbtBaseException) and not isinstance(error, DbtInternalError):
        return of_dbt
    return "internal"
