"""Models whose months are computed from the months before: found by what their SQL reads of their own table. Pure."""

import re
from functools import lru_cache

from sluice.manifest import Node, meta_of

_COMMENT = re.compile(r"\{#.*?#\}|--[^\n]*|/\*.*?\*/", re.DOTALL)
_BLOCK = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_THIS = re.compile(r"\bthis\b")
_TIME = r"\w*?(?:day|date|dt|ds|hour|week|month|quarter|year|time|timestamp|ts|_at|block_number|block_height)"
# `select max(day) from {{ this }}`, also inside coalesce() and with an interval taken off: where to go on, not what from.
_WATERMARK = re.compile(
    rf"""select\s+(?:[\w.]+\s*\(\s*)*(?:max|min)\s*\(\s*(?:\w+\.)?[`"]?{_TIME}[`"]?\s*\)[^;]*?\bfrom\s+"""
    r"""(?:\{\{\s*this\s*\}\}|["']\s*~\s*this\b)""",
    re.IGNORECASE | re.DOTALL,
)


def reads_itself(node: Node) -> bool:
    """Whether a month of the model is computed from the months before: `meta.cumulative` says so, or its SQL reads `this`.

    The greatest day of its own table, where an incremental run goes on, does not count.
    """
    said = meta_of(node).get("cumulative")
    if isinstance(said, bool):
        return said
    return bool(_reads(node.raw_code))


def own_readings(node: Node) -> list[str]:
    """The parts of the model's SQL that read its own table, each from there to the end of its query."""
    return list(_reads(node.raw_code))


@lru_cache(maxsize=4096)
def _reads(raw_code: str) -> tuple[str, ...]:
    if "this" not in raw_code:
        return ()
    code = _COMMENT.sub("", raw_code)
    code = _WATERMARK.sub(_without_this, code)
    return tuple(_to_end_of_query(code, block.end()) for block in _BLOCK.finditer(code) if _THIS.search(block.group()))


def _without_this(watermark: re.Match[str]) -> str:
    # A query between the SELECT and `this` means that it is another one that reads it.
    text = watermark.group()
    return text if len(re.findall(r"\bselect\b", text, re.IGNORECASE)) > 1 else _THIS.sub("", text)


def _to_end_of_query(code: str, start: int) -> str:
    depth = 0
    for place in range(start, len(code)):
        depth += (code[place] == "(") - (code[place] == ")")
        if depth < 0:
            return code[start:place]
    return code[start:]
