"""Compiled Jinja, kept: dbt compiles the text of a model and of each macro anew in each process, a tenth of a batch's time.

Kept in memory for this process and those forked from it, and by Jinja's own bytecode cache, of which dbt makes no use, in
files for the next. What Jinja compiles depends on the text and on the environment's class, extensions and name of the file.
"""

import hashlib
from contextlib import suppress
from pathlib import Path
from types import CodeType
from typing import Any

from jinja2 import Environment, FileSystemBytecodeCache
from jinja2.bccache import Bucket

from sluice.dbt_engine import kept

_MOST = 4096

_compile_anew = Environment.compile
_codes: dict[tuple, CodeType] = {}
_files: FileSystemBytecodeCache | None = None


def keep_compiled(folder: Path) -> None:
    """From here on in this process, and in those forked from it, each text is compiled once, unless `folder` has it compiled.

    `folder` is ours alone: what it holds is executed. It is emptied when it has grown beyond what a project can have.
    """
    global _files
    kept.open_folder(folder, _MOST)
    _files = FileSystemBytecodeCache(str(folder))
    Environment.compile = _compile_once  # type: ignore[method-assign]


def _compile_once(
    self: Environment, source: Any, name: Any = None, filename: Any = None, *more: Any, **how: Any
) -> Any:
    if more or how or not isinstance(source, str):
        return _compile_anew(self, source, name, filename, *more, **how)
    key = (f"{type(self).__module__}.{type(self).__qualname__}", *sorted(self.extensions), source, name, filename)
    code = _codes.get(key)
    if code is None:
        if len(_codes) >= _MOST:
            _codes.clear()
        code = _codes[key] = _from_file(self, key, source, name, filename)
    return code


def _from_file(environment: Environment, key: tuple, source: str, name: Any, filename: Any) -> CodeType:
    assert _files is not None
    bucket = Bucket(environment, hashlib.sha256(repr(key).encode()).hexdigest(), _files.get_source_checksum(source))
    with suppress(OSError):  # a full disk, a folder that was taken away: it is a cache
        _files.load_bytecode(bucket)
    if bucket.code is None:
        bucket.code = _compile_anew(environment, source, name, filename)
        with suppress(OSError):
            _files.dump_bytecode(bucket)
    return bucket.code
