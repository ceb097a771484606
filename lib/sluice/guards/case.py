"""What a guard looks at, a Case, and what it says, a Finding."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import Any, Literal

from sluice.full_refresh import FullRefresh
from sluice.guards.facts import Facts
from sluice.manifest import Manifest, Node
from sluice.records import Batch, Reason, Vars, Window
from sluice.windows import add_months

Severity = Literal["refuse", "warn"]

NAMES = {
    "G01": "table-batched",
    "G02": "overwrite-narrow",
    "G03": "append-populated",
    "G04": "reader-with-writer",
    "G05": "cumulative",
    "G06": "stage-hole",
    "G07": "stage-overlap",
    "G08": "late-start",
    "G09": "partition-cap",
    "G10": "moved-key",
    "G11": "parse-time-vars",
    "G12": "hook-tax",
    "G13": "never-built",
    "G14": "ignored-vars",
}


@dataclass(frozen=True)
class Finding:
    """One thing that would go wrong. `what` ends a sentence that begins with the model; `fix` is what to do instead."""

    code: str
    model: str
    what: str
    fix: str
    severity: Severity = "refuse"
    stage: str | None = None
    window: Window | None = None

    def __str__(self) -> str:
        """One line: code, name, model, stage and window, what would happen."""
        where = self.model + (f", stage {self.stage}" if self.stage else "")
        return f"{self.code} {NAMES[self.code]}: {where}{_spelled(self.window)}: {self.what}"


@dataclass(frozen=True)
class Case:
    """A plan and what is known of its project and warehouse.

    `configs` are by batch_id what dbt makes of a model's config under the batch's vars, where that is not what the
    manifest says. `blocks` are the models' own words, by unique_id. `yaml_vars` says where YAML reads a var, `base_vars` are those that
    the project was parsed with. `to` is the
    last day that the plan covers, `today` the last for which there can be rows. `facts` are None where nobody could ask.
    """

    manifest: Manifest
    adapter: str
    intent: Reason
    batches: list[Batch]
    to: date
    today: date
    blocks: Mapping[str, FullRefresh] = field(default_factory=dict)
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    yaml_vars: Mapping[str, str] = field(default_factory=dict)
    base_vars: Vars = field(default_factory=dict)
    facts: Facts | None = None

    @cached_property
    def models(self) -> dict[str, list[Batch]]:
        """The batches of each model, in their order."""
        models: dict[str, list[Batch]] = {}
        for batch in self.batches:
            if batch.model is not None:
                models.setdefault(batch.model, []).append(batch)
        return models

    @cached_property
    def windowed(self) -> dict[str, list[Batch]]:
        """The batches of each model that is worked on window by window."""
        found = {uid: [b for b in batches if b.window is not None] for uid, batches in self.models.items()}
        return {uid: batches for uid, batches in found.items() if batches}

    def node(self, uid: str) -> Node:
        return self.manifest.nodes[uid]

    def config(self, batch: Batch) -> Mapping[str, Any]:
        """The model's config as it is under the batch's vars."""
        return self.configs.get(batch.batch_id) or self.node(batch.model or "").config

    def is_replaced(self, uid: str) -> bool:
        """Whether the plan begins the model's table anew."""
        return any(batch.full_refresh for batch in self.models[uid])

    def finding(self, code: str, batch: Batch, what: str, fix: str, severity: Severity = "refuse") -> Finding:
        """A finding on one batch."""
        stage = batch.stage if batch.stage != "default" else None
        return Finding(code, self.name(batch.model or ""), what, fix, severity, stage, batch.window)

    def about(self, code: str, uid: str, what: str, fix: str, severity: Severity = "refuse") -> Finding:
        """A finding on a model as a whole."""
        return Finding(code, self.name(uid), what, fix, severity)

    def name(self, uid: str) -> str:
        """The model, with the file in which its meta most likely stands: its YAML when it has one, else its SQL."""
        node = self.node(uid)
        file = node.patch_path.partition("://")[2] if node.patch_path else node.original_file_path
        return f"{file}: model {node.name}"


def _spelled(window: Window | None) -> str:
    if window is None:
        return ""
    last = add_months(window.end, -1)
    return f", {window.start:%Y-%m}" + ("" if last == window.start else f" to {last:%Y-%m}")
