"""Stages that a model did not declare and its source asks for: ranges after the last one, values that no stage takes."""

import itertools
import logging
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import msgspec

from sluice.check_queries import relation
from sluice.errors import REFUSED, SluiceError, refused
from sluice.full_refresh import EnumSource, FullRefresh, Growing, RangeTemplate, Stage
from sluice.guards.slices import REST, BadSlice, Range, Slice, Span, Values, base_of, slice_of
from sluice.manifest import Manifest, Node
from sluice.project import Project
from sluice.warehouse import Warehouse
from sluice.windows import month_start

MOST_VALUES = 100_000
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]+")
_log = logging.getLogger("sluice")


@dataclass(frozen=True)
class Added:
    """What makes a new stage: its vars, and which rows of the source are its own."""

    name: str
    vars: dict[str, Any]
    condition: str
    params: dict[str, Any]


def discover(project: Project, blocks: Mapping[str, FullRefresh], *, today: date, most: int) -> str:
    """The stages to add, by unique_id, as JSON; none, and a warning, where the warehouse cannot be asked.

    Raises SluiceError (2) as `extended` does.
    """
    growing = {uid: block for uid, block in blocks.items() if grows(block)}
    found: dict[str, list[dict[str, Any]]] = {}
    if not growing:
        return "{}"
    try:
        with project.connect("stages") as warehouse:
            for uid, block in growing.items():
                node = project.manifest.nodes[uid]
                for stage in extended(warehouse, project.manifest, node, block, today=today, most=most):
                    _log.warning(
                        "%s: stage %s is added: its source has outgrown the declared ones", node.name, stage.name
                    )
                    found.setdefault(uid, []).append(stage.model_dump(mode="json", exclude_none=True))
    except SluiceError as problem:
        if problem.exit_code == REFUSED:
            raise
        _log.warning("no stages are added, whether any are needed cannot be looked up: %s", problem.message)
    return msgspec.json.encode(found).decode()


def decoded(added: str) -> dict[str, list[Stage]]:
    """What `discover` found."""
    return {uid: [Stage.model_validate(one) for one in stages] for uid, stages in msgspec.json.decode(added).items()}


def applied(blocks: Mapping[str, FullRefresh], added: str) -> dict[str, FullRefresh]:
    """The blocks with what `discover` found behind their own stages."""
    found = decoded(added)
    return {
        uid: block.model_copy(update={"stages": [*(block.stages or []), *found[uid]]}) if uid in found else block
        for uid, block in blocks.items()
    }


def grows(block: FullRefresh) -> bool:
    return block.range_template is not None or block.enum_source is not None


def extended(
    warehouse: Warehouse, manifest: Manifest, node: Node, block: FullRefresh, *, today: date, most: int
) -> list[Stage]:
    """The stages to add, in order; [] when the declared ones take all that there is.

    Raises SluiceError: 2 for more than `most` of them, and for a source that the project does not have; what the warehouse
    raises.
    """
    added: list[Stage] = []
    taken = {stage.name for stage in block.stages or []}
    for growing in filter(None, (block.range_template, block.enum_source)):
        source = _source(manifest, node, growing)
        new = list(itertools.islice(_new(warehouse, source, block, growing), most - len(added) + 1))
        if len(added) + len(new) > most:
            raise refused(
                f"model {node.name}: its stages would grow by more than {most}, from {new[0].name} on: {growing.key_column} of "
                f"{source.name} has outgrown them",
                code="plan_too_many_stages", hint=f"--max-added-stages with more than {most}, or a larger step",
            )  # fmt: skip
        for one in new:
            name = _unused(one.name, taken)
            taken.add(name)
            added.append(Stage(name=name, start_date=_start(warehouse, source, growing, one, today), vars=one.vars))
    return added


def _new(warehouse: Warehouse, source: Node, block: FullRefresh, growing: Growing) -> Iterator[Added]:
    try:
        slices = [slice_of(stage.vars) for stage in block.stages or []]
    except BadSlice:
        return iter(())  # G06 says it
    if isinstance(growing, RangeTemplate):
        return _ranges(warehouse, source, growing, slices)
    assert isinstance(growing, EnumSource)
    return _values(warehouse, source, growing, slices)


def _ranges(warehouse: Warehouse, source: Node, growing: RangeTemplate, slices: list[Slice]) -> Iterator[Added]:
    var = growing.var or _var(slices, Range) or growing.key_column
    spans = [taken.span for one in slices if isinstance(taken := one.get(var), Range)]
    if any(span.end is None for span in spans):
        return
    key = warehouse.quote(growing.key_column)
    ((greatest, count),) = warehouse.rows(f"select max({key}), count({key}) from {relation(warehouse, source)}")
    start = max((span.end or 0 for span in spans), default=0)
    while count and start <= int(greatest):
        span = Span(start, start + growing.step)
        yield Added(
            growing.name_template.format(start=span.start, end=span.end),
            {f"{var}_start": span.start, f"{var}_end": span.end},
            f"{key} >= {span.start} and {key} < {span.end}",
            {},
        )
        start += growing.step


def _values(warehouse: Warehouse, source: Node, growing: EnumSource, slices: list[Slice]) -> Iterator[Added]:
    var = growing.var or _var(slices, Values) or growing.key_column
    ours = [one.get(var) for one in slices]
    values = [one for one in ours if isinstance(one, Values)]
    if len(values) < len(ours) or any(one.takes(REST) for one in values):
        return  # a stage takes the rest
    key = warehouse.quote(growing.key_column)
    found = warehouse.rows(
        f"select distinct {key} from {relation(warehouse, source)} where {key} is not null limit {MOST_VALUES}"
    )
    for (value,) in sorted(found, key=lambda row: str(row[0])):
        text = str(value).strip()
        if text and not any(one.takes(text) for one in values):
            name = _NOT_IN_NAMES.sub("_", growing.name_template.format(value=text))[:100].lstrip(".-")
            yield Added(name or "value", {var: [text]}, f"{key} = $value", {"value": value})


def _start(warehouse: Warehouse, source: Node, growing: Growing, one: Added, today: date) -> date:
    policy = growing.auto_start_policy
    if isinstance(policy, date):
        return policy
    if policy == "today":
        return month_start(today)
    day = warehouse.quote(growing.date_column)
    sql = f"select min({day}), count({day}) from {relation(warehouse, source)} where {one.condition}"
    ((first, count),) = warehouse.rows(sql, one.params)
    if not count:
        return month_start(today)  # a range in the middle that has no rows yet
    return first.date() if isinstance(first, datetime) else first


def _source(manifest: Manifest, node: Node, growing: Growing) -> Node:
    """The ref or source of this name, one that the model reads before others. Raises SluiceError (2)."""
    named = [
        one
        for one in manifest.of_type("model", "seed", "snapshot", "source").values()
        if growing.discovery_source in (one.name, f"{one.source_name}.{one.name}")
    ]
    parents = manifest.parents[node.unique_id]
    for one in (*(one for one in named if one.unique_id in parents), *named):
        return one
    raise refused(
        f"model {node.name}: discovery_source {growing.discovery_source!r} is no model, seed or source of the project",
        code="plan_unknown_source", hint="the name of a model, or SOURCE.TABLE",
    )  # fmt: skip


def _var(slices: Collection[Slice], kind: type) -> str | None:
    return next((base_of(name) for one in slices for name, taken in one.items() if isinstance(taken, kind)), None)


def _unused(name: str, taken: Collection[str]) -> str:
    numbered = (f"{name}_{n}" for n in itertools.count(2))
    return next(one for one in itertools.chain([name], numbered) if one not in taken)
