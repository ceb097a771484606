"""Stages as sets: what each takes of a column's values, and what none or two of them take. Pure.

The vars are read as the macros `symbol_filter` and `index_range_filter` of sql/dbt read them: `X` are the values taken
(a list, or one text with commas), `X_exclude` those that are not, `X_start` and `X_end` a half-open range of whole
numbers from 0. Any other var tells stages apart, and nothing more is known of it.
"""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sluice.manifest import Node

if TYPE_CHECKING:
    from sluice.full_refresh import FullRefresh
    from sluice.guards.case import Case

MOST_CELLS = 200_000
_NUMBER = re.compile(r"[0-9]{1,18}")
_SLICE_MACROS = {"symbol": "symbol_filter", "validator_index": "index_range_filter"}
_JINJA = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)


class Rest:
    """The values that no stage names."""


REST = Rest()


@dataclass(frozen=True)
class Span:
    """Whole numbers in [start, end), open above without an end."""

    start: int
    end: int | None

    def __repr__(self) -> str:
        return f"{self.start} and up" if self.end is None else f"{self.start} to {self.end - 1}"


@dataclass(frozen=True)
class Values:
    """What a stage takes of a column: those `taken` (None: all), without those `left`."""

    taken: frozenset[str] | None
    left: frozenset[str] = frozenset()

    def takes(self, value: Any) -> bool:
        if value is REST:
            return self.taken is None
        # In SQL a NULL is neither in a list nor not in it.
        return value is not None and (self.taken is None or value in self.taken) and value not in self.left


@dataclass(frozen=True)
class Range:
    span: Span

    def takes(self, value: Span) -> bool:
        """Whether all of `value` lies inside; it never lies half inside, by how `cells` cuts."""
        end = self.span.end
        return value.start >= self.span.start and (end is None or (value.end is not None and value.end <= end))


Slice = dict[str, Values | Range]
Cell = tuple[Any, ...]


class BadSlice(ValueError):
    """A stage's vars can take no row at all; the text says why."""


def slice_of(vars: dict[str, Any]) -> Slice:
    """What a stage takes, by the name of the var. Raises BadSlice for vars that the macros refuse."""
    given = {name: value for name, value in vars.items() if value is not None}
    found: Slice = {}
    for name in given:
        base = base_of(name)
        if base in found:
            continue
        if f"{base}_start" in given or f"{base}_end" in given:
            found[base] = Range(_span(base, given))
        else:
            taken = _texts(base, given[base]) if base in given else None
            left = _texts(f"{base}_exclude", given[f"{base}_exclude"]) if f"{base}_exclude" in given else frozenset()
            found[base] = Values(taken, left)
    return found


def base_of(name: str) -> str:
    """`symbol` for symbol and symbol_exclude, `index` for index_start and index_end."""
    for suffix in ("_exclude", "_start", "_end"):
        if name.endswith(suffix) and name != suffix:
            return name.removesuffix(suffix)
    return name


def cells(slices: Sequence[Slice], known: Mapping[str, Any] | None = None) -> tuple[list[str], list[list[Any]]]:
    """The vars, and for each the pieces that no stage takes in part: named values and the rest, or spans.

    `known` are the values that there are, by var; for a range one pair, the least and the greatest.
    """
    names = sorted({name for one in slices for name in one})
    return names, [_pieces(name, slices, (known or {}).get(name)) for name in names]


def takers(slices: Sequence[Slice], names: list[str], cell: Cell) -> list[int]:
    """The places of the stages that take a cell: a value of each var."""
    return [
        place
        for place, one in enumerate(slices)
        if all(name not in one or one[name].takes(value) for name, value in zip(names, cell, strict=True))
    ]


def covering(
    slices: Sequence[Slice], known: Mapping[str, Any] | None = None
) -> tuple[list[str], list[tuple[Cell, list[int]]]] | None:
    """The vars, and each cell with the stages that take it. None when there are too many to look at."""
    names, pieces = cells(slices, known)
    count = 1
    for some in pieces:
        count *= len(some)
    if count * len(slices) > MOST_CELLS * 10:
        return None
    return names, [(cell, takers(slices, names, cell)) for cell in itertools.product(*pieces)]


def columns_of(case: "Case", uid: str) -> set[str]:
    """The columns that the stages of a model divide, where they are known."""
    block = case.blocks.get(uid)
    if block is None:
        return set()
    found = (
        column_of(case.node(uid), block, name) for stage in block.stages or [] for name in map(base_of, stage.vars)
    )
    return {column for column in found if column}


def column_of(node: Node, block: "FullRefresh", var: str) -> str | None:
    """The column behind a stage's var: what partition_of says, what a macro is given, or one of the same name."""
    named = block.partition_of
    if named and len({base_of(name) for stage in block.stages or [] for name in stage.vars}) == 1:
        return named
    if var in _SLICE_MACROS:
        given = re.search(rf"\b{_SLICE_MACROS[var]}\(\s*['\"](?:\w+\.)?(\w+)['\"]", node.raw_code)
        if given:
            return given[1]
    return var if re.search(rf"\b{re.escape(var)}\b", _JINJA.sub(" ", node.raw_code)) else named


def _texts(name: str, value: Any) -> frozenset[str]:
    items = value if isinstance(value, list) else str(value).split(",")
    texts = frozenset(text for item in items if (text := str(item).strip()))
    if not texts:
        raise BadSlice(f"var {name} names no value")
    return texts


def _span(base: str, given: dict[str, Any]) -> Span:
    ends = []
    for name in (f"{base}_start", f"{base}_end"):
        text = str(given[name]) if name in given else None
        if text is not None and not _NUMBER.fullmatch(text):
            raise BadSlice(f"var {name} is {text}, not a whole number from 0")
        ends.append(None if text is None else int(text))
    start, end = ends[0] or 0, ends[1]
    if end is not None and end <= start:
        raise BadSlice(f"the range from {base}_start {start} to {base}_end {end} is empty")
    return Span(start, end)


def _pieces(name: str, slices: Sequence[Slice], known: Iterable[Any] | None) -> list[Any]:
    ours = [one[name] for one in slices if name in one]
    spans = [one.span for one in ours if isinstance(one, Range)]
    if spans:
        edges = sorted({0, *(span.start for span in spans), *(span.end for span in spans if span.end is not None)})
        pieces = [Span(start, end) for start, end in itertools.pairwise(edges)] + [Span(edges[-1], None)]
        if known is None:
            return pieces
        ((least, greatest),) = known
        return [p for p in pieces if p.start <= greatest and (p.end is None or p.end > least)]
    if known is not None:
        return [value if value is None else str(value) for value in known]
    named = {value for one in ours if isinstance(one, Values) for value in (*(one.taken or ()), *one.left)}
    return [*sorted(named), REST]
