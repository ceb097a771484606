"""Compiled Jinja, kept: dbt compiles the text of a model anew at each parse and each run of it, a tenth of a batch's time.

What Jinja compiles depends on the text and on the environment's class, extensions and name of the file; its own bytecode
cache, of which dbt makes no use, keeps code under the same conditions.
"""

from types import CodeType
from typing import Any

from jinja2 import Environment

_MOST = 4096


def keep_compiled() -> None:
    """From here on in this process, and in those forked from it, each text is compiled once."""
    compile_anew = Environment.compile
    kept: dict[tuple, CodeType] = {}

    def compile_once(
        self: Environment, source: Any, name: Any = None, filename: Any = None, *more: Any, **how: Any
    ) -> Any:
        if more or how or not isinstance(source, str):
            return compile_anew(self, source, name, filename, *more, **how)
        key = (type(self), *sorted(self.extensions), source, name, filename)
        code = kept.get(key)
        if code is None:
            if len(kept) >= _MOST:
                kept.clear()
            code = kept[key] = compile_anew(self, source, name, filename)
        return code

    Environment.compile = compile_once  # type: ignore[method-assign]
