"""G11 parse-time-vars, and which configs the manifest does not know: dbt rendered them without the batches' vars."""

import re
from collections.abc import Iterator

from sluice.dbt_engine.var_readers import EVERY, MacroCode, read_by
from sluice.guards.case import Case, Finding
from sluice.manifest import Manifest, Node
from sluice.project import Question
from sluice.records import Batch, Vars

_CALL = re.compile(r"\bconfig\s*\(")
_TEXT = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", re.DOTALL)
_TOKEN = re.compile(rf"{_TEXT.pattern}|[()]", re.DOTALL)
_WORD = re.compile(r"(?<![\w.])([A-Za-z_]\w*)(\s*=(?!=))?")
_PLAIN = {
    "True",
    "False",
    "None",
    "true",
    "false",
    "none",
    "if",
    "else",
    "and",
    "or",
    "not",
    "in",
    "is",
    "var",
    "target",
}


def parse_time_vars(case: Case) -> Iterator[Finding]:
    """A var of the batches that YAML reads: what it decides is fixed when dbt parses, for all batches alike."""
    if not case.yaml_vars:
        return
    told: set[str] = set()
    for batch in case.batches:
        for name in sorted(batch.vars):
            where = case.yaml_vars.get(name) or case.yaml_vars.get(EVERY)
            is_base = name in case.base_vars and case.base_vars[name] == batch.vars[name]
            if where is None or is_base or where in told:
                continue
            told.add(where)
            is_config = where.endswith((".yml", ".yaml"))
            yield case.finding(
                "G11", batch,
                f"its var {name} is read in {where}, which dbt renders when it parses: "
                + (
                    "the config that it decides cannot be judged, and with a manifest that is kept every batch would run "
                    "under the config of another"
                    if is_config
                    else "each batch needs a parse of its own"
                ),
                "read the var in the model's own config() block",
                "refuse" if is_config else "warn",
            )  # fmt: skip


class ConfigReads:
    """The vars that decide on a model's config, read from its code."""

    def __init__(self, manifest: Manifest):
        self._manifest = manifest
        self._macros: MacroCode | None = None

    def of(self, node: Node) -> set[str]:
        """Their names; EVERY among them when one is not written out, or a computation hides which."""
        calls = list(config_calls(node.raw_code))
        words = {word for call in calls for word in _words(call)}
        if "var" not in words and words <= _PLAIN:
            return set()
        if words <= _PLAIN:
            return set().union(*map(read_by, calls))
        # A macro, or a variable set before: then whatever the code reads may decide.
        self._macros = self._macros or MacroCode(self._manifest)
        reached = self._macros.reached(node)
        theirs = [code for name, code in reached.items() if name.split(".")[1] not in ("dbt", f"dbt_{self._adapter}")]
        return set().union(*map(read_by, (node.raw_code, *theirs)))

    @property
    def _adapter(self) -> str | None:
        return self._manifest.metadata.adapter_type


def questions(manifest: Manifest, batches: list[Batch], base_vars: Vars) -> dict[str, Question]:
    """By batch_id what dbt must be asked for; batches whose config the manifest knows are not in it."""
    reads = ConfigReads(manifest)
    by_model: dict[str, set[str]] = {}
    asked: dict[str, Question] = {}
    for batch in batches:
        uid = batch.model
        if uid is None or uid not in manifest.nodes:
            continue
        if uid not in by_model:
            by_model[uid] = reads.of(manifest.nodes[uid])
        names = by_model[uid]
        if not names:
            continue
        given = {name: value for name, value in batch.vars.items() if name in names or EVERY in names}
        if given and any(name not in base_vars or base_vars[name] != value for name, value in given.items()):
            asked[batch.batch_id] = Question(uid, given, batch.vars)
    return asked


def _words(call: str) -> set[str]:
    """The names that an argument list uses, but for those of the arguments."""
    return {word[1] for word in _WORD.finditer(_TEXT.sub("''", call)) if not word[2]}


def config_calls(code: str) -> Iterator[str]:
    """The argument lists of config(...) in a model's code."""
    for call in _CALL.finditer(code):
        depth = 1
        for token in _TOKEN.finditer(code, call.end()):
            depth += {"(": 1, ")": -1}.get(token.group(), 0)
            if not depth:
                yield code[call.end() : token.start()]
                break
