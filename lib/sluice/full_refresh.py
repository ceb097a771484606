"""meta.full_refresh: what a model says about being rebuilt in stages and windows, checked before anything runs."""

import math
import re
from collections.abc import Callable
from datetime import date
from typing import Annotated, Any, Literal, cast

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
    model_validator,
)

from sluice.errors import SluiceError, refused, suggestion
from sluice.pipe import refuse_jinja
from sluice.records import Vars

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_STAGE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_NO_TEXT = re.compile("[\0\ud800-\udfff]")  # JSON's escapes let half of a surrogate pair in, UTF-8 does not let it out
_EARLIEST = date(1900, 1, 1)
WINDOW_VARS = ("start_month", "end_month")


def _day(value: Any) -> date:
    if isinstance(value, str) and _DATE.fullmatch(value):
        value = date.fromisoformat(value)  # raises ValueError for a day that no calendar has
    if type(value) is not date:
        raise ValueError("is not a date like '2024-01-31'")
    if value < _EARLIEST:
        raise ValueError(f"is before {_EARLIEST}")
    return value


def checked_vars(value: Any) -> Vars:
    """`value` as vars for dbt: typed scalars and lists of them, no Jinja. Raises ValueError with the reason."""
    if not isinstance(value, dict):
        raise ValueError("is not a mapping of var names to values")
    for name, inner in value.items():
        if not isinstance(name, str) or not _IDENTIFIER.fullmatch(name):
            raise ValueError(f"has the var name {name!r}; letters, digits and _ only")
        if name in WINDOW_VARS:
            raise ValueError(f"sets {name}, which the window sets")
        for scalar in inner if isinstance(inner, list) else [inner]:
            if not isinstance(scalar, str | int | float | bool | None) or (
                isinstance(scalar, float) and not math.isfinite(scalar)
            ):
                raise ValueError(
                    f"gives {name} the value {inner!r}; a var is a text, a number, true, false, null or a list of these"
                )
            if isinstance(scalar, str):
                refuse_jinja(scalar)
                if _NO_TEXT.search(scalar):
                    raise ValueError(f"gives {name} the value {scalar!r}, which is no text")
    return value


def _stage_name(value: Any) -> Any:
    if isinstance(value, str) and not _STAGE_NAME.fullmatch(value):
        raise ValueError("is no stage name; letters, digits, . _ - only")
    return value


def _template(*slots: str) -> Callable[[Any], Any]:
    """A check that a name_template is text with these slots and no others."""

    def check(value: Any) -> Any:
        if isinstance(value, str):
            try:
                value.format(**dict.fromkeys(slots, "0"))
            except (KeyError, IndexError, ValueError, AttributeError):
                raise ValueError(
                    f"is no template; {' and '.join(f'{{{slot}}}' for slot in slots)} may stand in it"
                ) from None
        return value

    return check


Day = Annotated[date, BeforeValidator(_day)]
Months = Annotated[StrictInt, Field(ge=1, le=1200)]
Variables = Annotated[dict[str, Any], BeforeValidator(checked_vars)]


class Stage(BaseModel):
    """A named slice of a model that is not time. Windows are counted from the first of the month of `start_date`."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[StrictStr, BeforeValidator(_stage_name)]
    start_date: Day | None = None
    batch_months: Months | None = None
    vars: Variables = {}


class Growing(BaseModel):
    """Stages that are added when the source has outgrown those that are declared.

    `discovery_source` is the name of the ref or source whose `key_column` is looked at, `date_column` its days. An added
    stage starts with its first day there (`first_seen`), with the current month (`today`), or with the date that is given.
    `var` is what its vars are called, like those of the declared stages when it is left out.
    """

    model_config = ConfigDict(extra="forbid")

    discovery_source: StrictStr
    key_column: StrictStr
    date_column: StrictStr = "day"
    auto_start_policy: Literal["first_seen", "today"] | Day = "first_seen"
    var: Annotated[StrictStr, Field(pattern=rf"^{_IDENTIFIER.pattern}$")] | None = None


class RangeTemplate(Growing):
    """Ranges of `step` whole numbers after the last declared one; `{start}` and `{end}` stand in the name for its ends."""

    step: Annotated[StrictInt, Field(ge=1)]
    name_template: Annotated[StrictStr, BeforeValidator(_template("start", "end"))] = "{start}_{end}"


class EnumSource(Growing):
    """A stage for each value that no declared one takes; `{value}` stands in the name for it."""

    name_template: Annotated[StrictStr, BeforeValidator(_template("value"))] = "{value}"


class FullRefresh(BaseModel):
    """The block itself. Its `start_date` and `batch_months` are the defaults of the stages.

    For the guards, where they cannot guess it: `partition_of` is the column that the stages divide, `date_column` the
    one that windows go by, in the model's table, `source` the name of the ref or source that it is made from,
    `stages_feed` whether a month of one stage is computed from the other stages' months before it, and `min_window` the
    shortest window that leaves the rows which a month would leave, for batches that are too big.
    """

    model_config = ConfigDict(extra="forbid")

    start_date: Day | None = None
    batch_months: Months = 1
    stages: Annotated[list[Stage], Field(min_length=1)] | None = None
    partition_of: StrictStr | None = None
    date_column: StrictStr | None = None
    source: StrictStr | None = None
    stages_feed: StrictBool | None = None
    min_window: Literal["day", "week", "month"] | None = None
    range_template: RangeTemplate | None = None
    enum_source: EnumSource | None = None

    @model_validator(mode="after")
    def _complete(self) -> "FullRefresh":
        names = [stage.name for stage in self.stages or []]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"has two stages named {name!r}")
        if self.start_date is None:
            lacking = [stage.name for stage in self.stages or [] if stage.start_date is None]
            if lacking or not names:
                whom = f"stage {lacking[0]!r}" if lacking else "the model"
                raise ValueError(f"has no start_date for {whom}; give it one, or one for all stages")
        return self


class ResolvedStage(BaseModel):
    """A stage with nothing left to default."""

    name: str
    start_date: date
    batch_months: int
    vars: Vars


def resolve(block: Any, *, file: str, model: str) -> list[ResolvedStage]:
    """The stages of a `meta.full_refresh` block, in their order; one called `default` when it names none.

    Raises SluiceError (2) that lists every problem with file, model and key.
    """
    return resolved(parse(block, file=file, model=model))


def parse(block: Any, *, file: str, model: str) -> FullRefresh:
    """A `meta.full_refresh` block as it was written. Raises SluiceError (2) that lists every problem with file, model and key."""
    try:
        return FullRefresh.model_validate(block)
    except ValidationError as invalid:
        problems = [_problem(error) for error in invalid.errors()]
        raise _refusal(file, model, problems) from None


def resolved(parsed: FullRefresh) -> list[ResolvedStage]:
    """The stages of a block with what they lack taken from it."""
    return [
        ResolvedStage(
            name=stage.name,
            start_date=stage.start_date or cast(date, parsed.start_date),  # FullRefresh sees to it
            batch_months=stage.batch_months or parsed.batch_months,
            vars=stage.vars,
        )
        for stage in parsed.stages or [Stage(name="default")]
    ]


_PARTS: dict[Any, type[BaseModel]] = {"stages": Stage, "range_template": RangeTemplate, "enum_source": EnumSource}


def _refusal(file: str, model: str, problems: list[str]) -> SluiceError:
    listed = "\n".join(f"meta.full_refresh{problem}" for problem in problems)
    return refused(f"{file}: model {model}:\n{listed}", code="plan_bad_config", hint=f"correct {file}, then plan again")


def _problem(error: Any) -> str:
    """One of pydantic's errors as `.stages[1].batch_months is '2': ...`."""
    location = error["loc"]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        known = [*_PARTS.get(location[0] if len(location) > 1 else "", FullRefresh).model_fields]
        return f"{path} is not known{suggestion(str(location[-1]), known)}; known are {', '.join(known)}"
    if error["type"] == "missing":
        return f"{path} is missing"
    if error["type"] == "model_type":
        return f"{path} is not a mapping"
    if isinstance(error["input"], dict | list):
        return f"{path} {message}"
    verb = "" if message.startswith(("is ", "has ", "sets ")) else ": "
    return f"{path} {error['input']!r}{verb or ' '}{message}"
