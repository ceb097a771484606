"""G06 stage-hole and G07 stage-overlap: each value of what the stages divide must be in exactly one of them.

What the stages themselves say is refused; what depends on rows nobody has looked at is a warning.
"""

from collections.abc import Iterator
from typing import Any

from sluice.full_refresh import FullRefresh
from sluice.guards.case import Case, Finding, Severity
from sluice.guards.slices import REST, BadSlice, Slice, Span, column_of, covering, slice_of

SHOWN = 3


def stage_hole(case: Case) -> Iterator[Finding]:
    """Values that no stage takes."""
    for uid, block, slices in _staged(case):
        bad = next((one for one in slices if isinstance(one, str)), None)
        if bad is not None:
            yield case.about("G06", uid, f"a stage takes no row: {bad}", "correct the stage's vars")
            continue
        yield from _holes(case, uid, block, slices)


def stage_overlap(case: Case) -> Iterator[Finding]:
    """Values that two stages take."""
    for uid, block, slices in _staged(case):
        if any(isinstance(one, str) for one in slices):
            continue
        found = covering(slices)
        if found is None:
            continue
        names, cells = found
        stages = block.stages or []
        shared: dict[tuple[str, ...], list[Any]] = {}
        for cell, takers in cells:
            if len(takers) > 1:
                shared.setdefault(tuple(stages[place].name for place in takers), []).append(cell)
        for who, what in list(shared.items())[:SHOWN]:
            yield case.about(
                "G07", uid,
                f"stages {' and '.join(who)} both take {_spelled(names, what)}: its rows would be there {len(who)} times",
                _apart(names, what, who),
            )  # fmt: skip


def _staged(case: Case) -> Iterator[tuple[str, FullRefresh, list[Any]]]:
    """Each model that is planned in stages: its unique_id, its block, and per stage a Slice, or why it can be none."""
    for uid, batches in case.windowed.items():
        block = case.blocks.get(uid)
        if block is None or not block.stages or all(batch.stage == "default" for batch in batches):
            continue
        yield uid, block, [_slice(stage) for stage in block.stages]


def _slice(stage: Any) -> Slice | str:
    try:
        return slice_of(stage.vars)
    except BadSlice as problem:
        return f"{stage.name}: {problem}"


def _holes(case: Case, uid: str, block: FullRefresh, slices: list[Slice]) -> Iterator[Finding]:
    known = case.facts.values.get(uid, {}) if case.facts else {}
    if any(name not in known for one in slices for name in one):
        known = {}
    found = covering(slices, known)
    if found is None:
        yield case.about(
            "G06", uid, "its stages are too many to tell whether they leave a value out", "fewer values by name", "warn"
        )
        return
    names, cells = found
    left = [cell for cell, takers in cells if not takers]
    sure = [cell for cell in left if known or not _depends(cell, cells)]
    if sure:
        yield _hole(case, uid, names, sure, "refuse")
    elif left and all(column_of(case.node(uid), block, name) for name in names):
        yield _hole(case, uid, names, left, "warn")


def _hole(case: Case, uid: str, names: list[str], left: list[Any], severity: Severity) -> Finding:
    unseen = "; whether there are any was not looked at" if severity == "warn" else ""
    return case.about(
        "G06", uid, f"no stage takes {_spelled(names, left)}: such rows would be left out{unseen}",
        "leave the last range open, or let range_template extend it"
        if any(isinstance(value, Span) for value in left[0])
        else f"a stage that takes it, or one with {names[0]}_exclude for all that the others take",
        severity,
    )  # fmt: skip


def _depends(cell: tuple[Any, ...], cells: list[Any]) -> bool:
    """Whether there may be no such rows: values that nobody names, numbers below the first range or above the last."""
    covered = [other for other, takers in cells if takers]
    for place, value in enumerate(cell):
        if value is REST:
            return True
        if isinstance(value, Span):
            spans = [other[place] for other in covered]
            if all(value.start >= span.start for span in spans) or all(value.start <= span.start for span in spans):
                return True
    return False


def _spelled(names: list[str], cells: list[Any]) -> str:
    """`symbol 'USDC', 'sDAI' and 4 more`."""
    told = [
        " and ".join(_value(name, value) for name, value in zip(names, cell, strict=True)) for cell in cells[:SHOWN]
    ]
    more = len(cells) - len(told)
    return ", ".join(told) + (f" and {more} more" if more else "")


def _value(name: str, value: Any) -> str:
    if value is REST:
        return f"a {name} that none of them names"
    if value is None:
        return f"rows without a {name} (NULL)"
    return f"{name} {value!r}"


def _apart(names: list[str], cells: list[Any], who: tuple[str, ...]) -> str:
    value = cells[0][0] if cells[0] else None
    if isinstance(value, Span):
        return f"let {who[1]} start where {who[0]} ends"
    if value is None or value is REST:
        return (
            f"give one of {', '.join(who)} the values that are its own, and another {names[0]}_exclude"
            if names
            else (f"give {' and '.join(who)} vars that tell them apart")
        )
    return f"take {value!r} out of {who[1]}, or add it to the {names[0]}_exclude of {who[0]}"
