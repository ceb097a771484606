"""Classes of warehouse errors: what a message means for the next attempt. The table is data: error_classes.toml."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from sluice.errors import misconfigured

ErrorClass = Literal["transient", "victim", "busy", "too_big", "permanent"]


@dataclass(frozen=True)
class Rule:
    """One entry of the table; `adapter` None means any. `splits`: what is too big may do in smaller batches."""

    error_class: ErrorClass
    pattern: re.Pattern[str]
    adapter: str | None
    why: str
    hint: str = ""
    splits: bool = True

    def advice(self, message: str, **facts: str) -> str:
        """The hint, its {names} replaced by `facts` and by what the pattern's groups of these names found."""
        found = self.pattern.search(message)
        text = self.hint
        for name, value in {**facts, **(found.groupdict(default="?") if found else {})}.items():
            text = text.replace("{" + name + "}", value)
        return text


UNKNOWN = Rule("permanent", re.compile(""), None, "not known to pass by itself")


def load(own: Path | None = None) -> list[Rule]:
    """The rules, a user's own first. Raises SluiceError (78) for a file that is not such a table."""
    built_in = Path(__file__).with_suffix(".toml")
    return [rule for path in [own, built_in] if path for rule in _rules(path)]


def rule_for(message: str, adapter: str, rules: list[Rule]) -> Rule:
    """The first rule that matches an error message; UNKNOWN when none does."""
    fitting = (rule for rule in rules if rule.adapter in (None, adapter) and rule.pattern.search(message))
    return next(fitting, UNKNOWN)


def only_code_helps(message: str, adapter: str, rules: list[Rule]) -> bool:
    """Whether a rule says that the error is permanent: the same code would fail again, whatever else has changed."""
    found = (rule for rule in rules if rule.adapter in (None, adapter) and rule.pattern.search(message))
    first = next(found, None)
    return first is not None and first.error_class == "permanent"


def _rules(path: Path) -> list[Rule]:
    try:
        return [_rule(entry) for entry in tomllib.loads(path.read_text())["error"]]
    except (OSError, ValueError, KeyError, TypeError, re.error) as problem:
        raise misconfigured(
            f"SLUICE_ERROR_CLASSES: {path}: {problem}",
            code="config_error_classes",
            hint="see lib/sluice/error_classes.toml",
        ) from None


def _rule(entry: dict[str, Any]) -> Rule:
    if entry["class"] not in get_args(ErrorClass):
        raise ValueError(f"class {entry['class']!r} is none of {', '.join(get_args(ErrorClass))}")
    return Rule(
        cast(ErrorClass, entry["class"]),
        re.compile(entry["pattern"], re.DOTALL),
        entry.get("adapter"),
        entry.get("why", ""),
        entry.get("hint", ""),
        entry.get("split", True) is True,
    )
