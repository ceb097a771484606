"""Vars that name what a table holds (ids: 1,52): a value that it does not hold is a slip, and refused before anything runs.

    meta:
      known_values: {ids: id}       # of a source or model: var -> column of whole numbers or texts

A run over a value that nobody knows would do nothing and be well.
"""

from typing import Any

from sluice.check_queries import relation
from sluice.errors import UNAVAILABLE, SluiceError, refused
from sluice.manifest import Node, meta_of
from sluice.project import Project
from sluice.records import Vars


def check(project: Project, variables: Vars) -> None:
    """Raises SluiceError: 2 for a value that is not there; what keeps the warehouse from answering is for the run to find."""
    asked = [
        (node, var, column, _listed(variables[var]))
        for node in project.manifest.nodes.values()
        for var, column in _declared(node).items()
        if variables.get(var) is not None and node.enabled
    ]
    if not asked:
        return
    try:
        with project.connect("known-values") as warehouse:
            for node, var, column, values in asked:
                quoted = warehouse.quote(column)
                bound = {f"value_{i}": value for i, value in enumerate(values)}
                found = warehouse.rows(
                    f"select distinct cast({quoted} as varchar) from {relation(warehouse, node)}"
                    f" where cast({quoted} as varchar) in ({', '.join(f'${name}' for name in bound)})",
                    bound,
                )
                unknown = [value for value in values if (value,) not in found]
                if unknown:
                    raise refused(
                        f"unknown {column} {', '.join(unknown)} (var {var}): not in {_name(node)}",
                        code="plan_unknown_value",
                        hint=f"load it into {_name(node)} first, or leave it out",
                    )
    except SluiceError as problem:
        if problem.exit_code != UNAVAILABLE and problem.code != "warehouse_locked":
            raise


def _declared(node: Node) -> dict[str, str]:
    declared = meta_of(node).get("known_values")
    return declared if isinstance(declared, dict) else {}


def _listed(value: Any) -> list[str]:
    """The values of a var: a list, or one text with commas, whole numbers as 7 and not 007."""
    parts = value if isinstance(value, list) else str(value).split(",")
    words = [str(part).strip() for part in parts if str(part).strip()]
    return [str(int(word)) if word.isdecimal() else word for word in words]


def _name(node: Node) -> str:
    return f"{node.source_name}.{node.name}" if node.source_name else node.name
