"""Built aside: the names under which batches build while readers keep the old relations, and who is told of them. Pure.

    NAME                  what readers read
    NAME__sluice_aside    what the batches of a plan build in its place, until publish-tables exchanges the two
    NAME__sluice_before   what was there before, until its time is over

The endings are reserved: a name in the text of a view that ends so is one of ours, and without it the one that readers read.
"""

from collections.abc import Collection

from sluice.errors import refused
from sluice.manifest import Manifest, Node
from sluice.records import Plan, PlannedModel

ASIDE, BEFORE = "__sluice_aside", "__sluice_before"
LONGEST_NAME_BYTES = {"postgres": 63, "snowflake": 255, "clickhouse": 200}  # ClickHouse's names are names of files
BUILT_ASIDE = ("table", "view", "incremental")  # whose name is all that ties them to their place


def aside_name(name: str) -> str:
    """What is built in the place of `name`."""
    return name + ASIDE


def before_name(name: str) -> str:
    """What `name` is called once it was replaced."""
    return name + BEFORE


def of_plan(plan: Plan) -> dict[str, str]:
    """{unique_id: name that its batches build} of what the plan builds aside; empty when it builds in place."""
    return {model.unique_id: model.aside_name for model in plan.models if model.aside_name is not None}


def place(model: PlannedModel, node: Node) -> None:
    """Note in the plan what is built in the place of what."""
    model.table_name = node.alias or node.name
    model.aside_name = aside_name(model.table_name)


def redirect(manifest: Manifest, plan: Plan | None) -> None:
    """Let the manifest name what the plan's batches build: what is checked or merged after them is that."""
    for unique_id, name in (of_plan(plan) if plan is not None else {}).items():
        if unique_id in manifest.nodes:
            manifest.nodes[unique_id].alias = name


def refuse_unfit(manifest: Manifest, models: Collection[str], adapter: str) -> None:
    """Raises SluiceError (2) for a model that cannot be built aside, and for a view through which the old would be read."""
    for unique_id in models:
        node = manifest.nodes[unique_id]
        why = _unfit(node, adapter)
        if why is not None:
            raise refused(
                f"{node.name} cannot be built aside: {why}",
                code="plan_aside_unfit",
                hint=f"plan-batches --aside --exclude {node.name}, or without --aside",
            )
    for unique_id in models:
        for view in _views_read(manifest, unique_id):
            behind = sorted(manifest.ancestors(view) & set(models))
            if view not in models and behind:
                raise refused(
                    f"{manifest.nodes[unique_id].name} reads the view {manifest.nodes[view].name}, which is not in the plan and "
                    f"reads {manifest.nodes[behind[0]].name}, which is: it would be built from the old rows",
                    code="plan_aside_view_between",
                    hint=f"select {manifest.nodes[view].name}, too",
                )


def _unfit(node: Node, adapter: str) -> str | None:
    if node.materialized not in BUILT_ASIDE:
        return f"its materialization is {node.materialized!r}, of those that can be are {', '.join(BUILT_ASIDE)}"
    if adapter == "duckdb" and node.config.get("indexes"):
        return "DuckDB renames no table that has an index"
    longest = LONGEST_NAME_BYTES.get(adapter)
    name = before_name(node.alias or node.name)
    if longest is not None and len(name.encode()) > longest:
        return f"{name} is longer than the {longest} bytes of a name there"
    return None


def _views_read(manifest: Manifest, unique_id: str) -> set[str]:
    """The views that a model reads, straight or through views and ephemeral models."""
    found: set[str] = set()
    todo = [unique_id]
    while todo:
        for parent in manifest.parents[todo.pop()]:
            if parent not in found and manifest.nodes[parent].materialized in ("view", "ephemeral"):
                found.add(parent)
                todo.append(parent)
    return {one for one in found if manifest.nodes[one].materialized == "view"}
