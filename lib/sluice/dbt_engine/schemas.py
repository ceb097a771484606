"""JSON schemas of dbt's classes, kept: dbt builds a dozen anew in each process, a fifth of what a start takes.

What a schema says depends on the class and on those it is made of, so on what is installed.
"""

import hashlib
import json
import os
import sys
import sysconfig
from contextlib import suppress
from pathlib import Path
from typing import Any

from dbt_common import dataclass_schema

from sluice import whole_file
from sluice.dbt_engine import kept

_MOST = 256

_build = dataclass_schema.build_json_schema


def keep(folder: Path) -> None:
    """From here on in this process, and in those forked from it, a schema that `folder` has is read and not built."""
    kept.open_folder(folder, _MOST)

    def build_once(cls: type) -> Any:
        path = folder / f"{_identity(cls)}.json"
        try:
            return _Schema(json.loads(path.read_bytes()))
        except (OSError, ValueError):  # not there yet, or damaged
            schema = _build(cls).to_dict()
            with suppress(OSError):  # it is a cache
                whole_file.write(path, json.dumps(schema).encode())
            return _Schema(schema)

    dataclass_schema.build_json_schema = build_once  # type: ignore[assignment]


class _Schema:
    """What dbt wants of a schema."""

    def __init__(self, fields: dict):
        self._fields = fields

    def to_dict(self) -> dict:
        return self._fields


def _identity(cls: type) -> str:
    """The class, the file that it stands in, and the folder of packages: each installation changes that."""
    source = getattr(sys.modules[cls.__module__], "__file__", None)
    packages = sysconfig.get_paths()["purelib"]
    changed = [os.stat(path).st_mtime_ns for path in (source, packages) if path]
    return hashlib.sha256(
        f"{sys.version} {packages} {changed} {cls.__module__}.{cls.__qualname__}".encode()
    ).hexdigest()
