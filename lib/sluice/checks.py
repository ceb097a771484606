"""meta.canary and meta.checks: what a model says about how its rows must look, checked before anything is asked.

docs/checks.md shows all that can be said.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictStr,
    ValidationError,
    model_validator,
)

from sluice.errors import SluiceError, refused, suggestion
from sluice.manifest import Manifest, Node, meta_of

_QUOTED = re.compile(r"""'(?:[^'\\]|\\.|'')*'|"(?:[^"]|"")*"|`(?:[^`\\]|\\.|``)*`""", re.DOTALL)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")
_PLACEHOLDER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


def _expression(value: Any) -> Any:
    """One SQL expression: nothing in it may end it, or hide what comes after."""
    if not isinstance(value, str):
        return value
    bare = _QUOTED.sub("", value)
    depth = 0
    for character in bare:
        depth += (character == "(") - (character == ")")
        if depth < 0:
            break
    if not value.strip() or depth or any(mark in bare for mark in (";", "--", "/*", "#", "$", "'", '"', "`", "\0")):
        raise ValueError("is not one SQL expression (no ; no comment, no $, brackets and quotes closed)")
    return value


def _columns(value: Any) -> Any:
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list) and len(set(map(repr, value))) < len(value):
        raise ValueError("names a column twice")
    return value


def _name(value: Any) -> Any:
    if isinstance(value, str) and not _NAME.fullmatch(value):
        raise ValueError("is no name; letters, digits, . _ - only")
    return value


def _placeholders(value: Any) -> Any:
    for name in value if isinstance(value, dict) else ():
        if not isinstance(name, str) or not _PLACEHOLDER.fullmatch(name):
            raise ValueError(f"has the name {name!r}; letters, digits and _ only")
    return value


Column = Annotated[StrictStr, Field(min_length=1)]
Columns = Annotated[list[Column], BeforeValidator(_columns)]
Expression = Annotated[StrictStr, BeforeValidator(_expression)]
Name = Annotated[StrictStr, BeforeValidator(_name)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True, ge=0)]
Aggregate = Literal["sum", "avg", "min", "max"]


class Check(BaseModel):
    """What every check has. `KIND` is the word for it in meta and in records."""

    model_config = ConfigDict(extra="forbid")
    KIND: ClassVar[str] = ""

    name: Name | None = None
    severity: Annotated[
        Literal["WARNING", "ERROR"], BeforeValidator(lambda v: v.upper() if isinstance(v, str) else v)
    ] = "ERROR"


class Recompute(BaseModel):
    """How a canary's metric is computed again. What is None is the canary's own."""

    model_config = ConfigDict(extra="forbid")

    source: StrictStr
    metric: Expression
    aggregate: Aggregate | None = None
    by: Columns | None = None
    date_column: Column | None = None
    where: Expression | None = None
    cumulative: StrictBool = False
    pairs: Annotated[int, Field(strict=True, ge=1, le=10_000)] = 20
    tolerance: Annotated[Number, Field(ge=0, lt=1)] = 1e-6


class Canary(Check):
    """The ratio of a metric to that of the day before, per entity."""

    KIND: ClassVar[str] = "canary"

    metric: Expression
    aggregate: Aggregate = "sum"
    by: Columns = []
    date_column: Column
    max_ratio: Annotated[Number, Field(ge=1)] = 1.5
    min_ratio: Annotated[Number, Field(gt=0, le=1)] = 1 / 1.5
    where: Expression | None = None
    lag_days: Count = 1
    new_entities: StrictBool = False
    recompute: Recompute | None = None

    @model_validator(mode="after")
    def _pairs_up(self) -> "Canary":
        if self.recompute is not None and self.recompute.by is not None and len(self.recompute.by) != len(self.by):
            raise ValueError(f"has {len(self.by)} columns in by and {len(self.recompute.by)} in recompute.by")
        return self


class RowCount(Check):
    KIND: ClassVar[str] = "row_count"

    min: Annotated[int, Field(strict=True, ge=1)] = 1
    max: Count | None = None
    date_column: Column | None = None
    where: Expression | None = None


class Freshness(Check):
    KIND: ClassVar[str] = "freshness"

    date_column: Column
    max_age_hours: Annotated[Number, Field(gt=0)]
    where: Expression | None = None


class NoGap(Check):
    KIND: ClassVar[str] = "no_gap"

    date_column: Column
    by: Columns = []
    lag_days: Count = 1
    new_entities: StrictBool = False
    where: Expression | None = None


class NoDuplicate(Check):
    KIND: ClassVar[str] = "no_duplicate"

    key: Annotated[Columns, Field(min_length=1)]
    date_column: Column | None = None
    where: Expression | None = None


class NullRatio(Check):
    KIND: ClassVar[str] = "null_ratio"

    column: Column
    max_ratio: Annotated[Number, Field(ge=0, le=1)] = 0.0
    date_column: Column | None = None
    where: Expression | None = None


class SqlFile(Check):
    """A file from the project's folder checks/ or, if it is not there, from sql/checks/."""

    KIND: ClassVar[str] = "sql"

    may_be_empty: StrictBool = False

    file: Name
    columns: Annotated[dict[str, Column], BeforeValidator(_placeholders)] = {}
    params: Annotated[
        dict[str, StrictBool | Annotated[int, Field(strict=True)] | Number | StrictStr], BeforeValidator(_placeholders)
    ] = {}


KINDS: dict[str, type[Check]] = {
    kind.KIND: kind for kind in (RowCount, Freshness, NoGap, NoDuplicate, NullRatio, SqlFile)
}


@dataclass(frozen=True)
class Declared:
    """One check of one model. `source` is the node that a recomputation reads; with it, that is the check."""

    node: Node
    check: Check
    source: Node | None = None

    @property
    def label(self) -> str:
        """`canary`, `recompute:supply`, …"""
        kind = self.check.KIND if self.source is None else "recompute"
        return f"{kind}:{self.check.name}" if self.check.name else kind


def declared(manifest: Manifest, node: Node, *, recompute: bool) -> list[Declared]:
    """The checks of a model in the order of its meta; with `recompute` those that compute again, too.

    Raises SluiceError (2) that lists every problem with file, model and key.
    """
    meta = meta_of(node)
    problems: list[str] = []
    found: list[Declared] = []
    for path, kind, entry in _entries(meta, problems):
        try:
            check = kind.model_validate(entry)
        except ValidationError as invalid:
            problems += [_problem(path, kind, error) for error in invalid.errors()]
            continue
        found.append(Declared(node, check))
        if recompute and isinstance(check, Canary) and check.recompute is not None:
            try:
                found.append(Declared(node, check, _source(manifest, node, check.recompute.source)))
            except ValueError as problem:
                problems.append(f"{path}.recompute.source {problem}")
    labels = [one.label for one in found]
    problems += [
        f"has two checks called {label!r}: give each a name"
        for label in dict.fromkeys(labels)
        if labels.count(label) > 1
    ]
    if problems:
        raise _refusal(node, problems)
    return found


def _entries(meta: dict[str, Any], problems: list[str]) -> list[tuple[str, type[Check], Any]]:
    """(path, kind, what stands there) for each check; notes what is none."""
    entries: list[tuple[str, type[Check], Any]] = []
    canary = meta.get("canary")
    if "canary" in meta:
        listed = canary if isinstance(canary, list) else None
        entries += (
            [(f"meta.canary[{i}]", Canary, one) for i, one in enumerate(listed)]
            if listed is not None
            else [("meta.canary", Canary, canary)]
        )
    checks = meta.get("checks", [])
    if not isinstance(checks, list):
        problems.append("meta.checks is not a list")
        return entries
    for i, entry in enumerate(checks):
        path = f"meta.checks[{i}]"
        word = entry.get("check") if isinstance(entry, dict) else None
        if not isinstance(entry, dict):
            problems.append(f"{path} is not a mapping")
        elif not isinstance(word, str) or word not in KINDS:
            problems.append(f"{path}.check is {word!r}{suggestion(str(word), [*KINDS])}; known are {', '.join(KINDS)}")
        else:
            entries.append((path, KINDS[word], {key: value for key, value in entry.items() if key != "check"}))
    return entries


def _source(manifest: Manifest, node: Node, name: str) -> Node:
    """The node called `name`. Raises ValueError when there is none, or several."""
    named: dict[str, list[Node]] = {}
    for other in manifest.nodes.values():
        if other.resource_type in ("model", "seed", "snapshot"):
            named.setdefault(other.name, []).append(other)
        elif other.resource_type == "source":
            named.setdefault(f"{other.source_name}.{other.name}", []).append(other)
    found = named.get(name, [])
    own = [other for other in found if other.package_name == node.package_name]
    if len(own or found) != 1:
        raise ValueError(
            f"is {name!r}, which {'no' if not found else 'more than one'} model or source is called{suggestion(name, [*named]) if not found else ''}"
        )
    return (own or found)[0]


def _refusal(node: Node, problems: list[str]) -> SluiceError:
    file = node.patch_path.partition("://")[2] if node.patch_path else node.original_file_path
    return refused(
        "\n".join([f"{file}: model {node.name}:", *problems]),
        code="check_bad_config",
        hint=f"correct {file}, then check again",
    )


def _problem(path: str, kind: type[BaseModel], error: Any) -> str:
    """One of pydantic's errors as `meta.canary.max_ratio is '2': …`."""
    location = error["loc"]
    at = path + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        known = [*(Recompute if location[0] == "recompute" else kind).model_fields]
        return f"{at} is not known{suggestion(str(location[-1]), known)}; known are {', '.join(known)}"
    if error["type"] == "missing":
        return f"{at} is missing"
    if error["type"] == "model_type":
        return f"{at} is not a mapping"
    if isinstance(error["input"], dict | list):
        return f"{at} {message}"
    verb = "" if message.startswith(("is ", "has ", "names ")) else ":"
    return f"{at} is {error['input']!r}{verb} {message}" if verb else f"{at} {error['input']!r} {message}"
