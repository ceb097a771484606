"""The models: vars that they ignore, what the guards find, tables that nothing will fill, tables of code that has changed."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sluice import plan_batches
from sluice.check_queries import relation
from sluice.doctor.visit import Found, Visit, as_found, some
from sluice.errors import SluiceError, misconfigured
from sluice.guards import check
from sluice.guards import ignored_vars as ignoring
from sluice.guards.health import never_seeded, stale_code
from sluice.log import redact
from sluice.manifest import Node, meta_of
from sluice.warehouse import Warehouse

MOST_ADDED = 20  # as plan-batches
MOST_TOLD = 20
COMPILE_TIMEOUT_S = 300.0


def ignored_vars(visit: Visit) -> Iterator[Found]:
    """Whether models read the vars by which their batches are told apart."""
    manifest = visit.project.manifest
    use = ignoring.VarUse(manifest)
    blocks = check.blocks(manifest, manifest.of_type("model"))
    clean = True
    for uid in sorted(blocks):
        node = manifest.nodes[uid]
        if names := use.ignored(node, blocks[uid]):
            clean = False
            yield Found(
                "fail",
                f"{node.original_file_path}: model {node.name} ignores {', '.join(names)}, by which its batches are told apart: "
                "each would write the rows of all",
                ignoring.fix(node),
            )  # fmt: skip
    if clean and not blocks:
        yield Found("ok", "no model says how to build it in batches: each would be rebuilt as a whole")
    elif clean:
        yield Found("ok", f"{len(blocks)} models are built in batches, and read what their batches pass")


def guards(visit: Visit) -> Iterator[Found]:
    """What plan-batches would refuse if everything were rebuilt today."""
    project = visit.project
    nodes: list[Node] = []
    clean = True
    for uid in _models(visit):
        node = project.manifest.nodes[uid]
        try:
            if "full_refresh" in meta_of(node):
                plan_batches.block_of(node)
        except SluiceError as problem:
            clean = False
            yield as_found(problem)
            continue
        if node.config.get("full_refresh") is not False:
            nodes.append(node)
    today = visit.ctx.now.date()
    plan, batches, blocks = plan_batches.rehearsed(visit.ctx, project, nodes, today=today, most_added=MOST_ADDED)
    found = check.findings(project, plan, batches, today=today, base_vars={}, grown=blocks)
    found = [finding for finding in found if finding.code != "G14"]  # ignored_vars has told
    for finding in found[:MOST_TOLD]:
        yield Found("fail" if finding.severity == "refuse" else "warn", f"{finding}", finding.fix)
    if len(found) > MOST_TOLD:
        refused = any(finding.severity == "refuse" for finding in found)
        yield Found("fail" if refused else "warn", f"and {len(found) - MOST_TOLD} more", "plan-batches")
    if clean and not found:
        yield Found("ok", f"a full refresh of {len(nodes)} models in {len(batches)} batches: nothing found")


def never_filled(visit: Visit) -> Iterator[Found]:
    """Whether an incremental model is empty though its SELECT is not: every run succeeds with nothing."""
    nodes = [
        node for uid in _models(visit) if (node := visit.project.manifest.nodes[uid]).materialized == "incremental"
    ]
    with visit.warehouse() as warehouse:
        empty = [node for node in nodes if _is_empty(warehouse, node)]
    selects = _compiled(visit, empty) if empty else {}
    found = []
    with visit.warehouse() as warehouse:
        for node in empty:
            select = selects.get(node.unique_id)
            if select and never_seeded(warehouse, relation(warehouse, node), select):
                found.append(node)
    for node in found:
        yield Found("fail", f"{node.name} is empty and its SELECT is not: its watermark is NULL, and nothing is after NULL",
                    f"plan-batches --select {node.name} | run-dbt-batch")  # fmt: skip
    if not found:
        yield Found(
            "ok", f"{len(nodes)} incremental models, {len(empty)} of them empty: none that a full refresh would fill"
        )


def _is_empty(warehouse: Warehouse, node: Node) -> bool:
    """Whether the model's table is there and has no row."""
    there = warehouse.rows(
        "select 1 from information_schema.tables where table_schema = $schema and table_name = $name",
        {"schema": node.schema, "name": node.alias or node.name},
    )
    return bool(there) and not warehouse.rows(f"select 1 from {relation(warehouse, node)} limit 1")


def _compiled(visit: Visit, nodes: list[Node]) -> dict[str, str]:
    """The SQL of models as a full refresh has it, by unique_id: dbt compiles them into a folder that does not stay.

    Raises SluiceError (78) when dbt cannot.
    """
    config = visit.config
    with tempfile.TemporaryDirectory(prefix="sluice-doctor-") as folder:
        argv = [
            sys.executable, "-c", "from dbt.cli.main import cli; cli()", "--no-use-colors", "--quiet", "compile", "--full-refresh",
            "--select", *(".".join(node.fqn) for node in nodes), "--target-path", folder, "--log-path", folder,
            "--project-dir", str(config.project_dir), "--profiles-dir", str(config.profiles_dir),
            *(["--target", config.target] if config.target else []),
        ]  # fmt: skip
        said = subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
            timeout=COMPILE_TIMEOUT_S, cwd=config.project_dir, env={**os.environ, "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"},
        )  # fmt: skip
        if said.returncode:
            words = " ".join(redact(said.stdout.decode(errors="replace")).split())
            raise misconfigured(f"dbt cannot compile {some([n.name for n in nodes])}: {words[-500:]}",
                                code="dbt_configuration", hint="dbt compile --full-refresh")  # fmt: skip
        places = {n.unique_id: Path(folder, "compiled", n.package_name, n.original_file_path) for n in nodes}
        return {uid: path.read_text() for uid, path in places.items() if path.exists()}


def changed_code(visit: Visit) -> Iterator[Found]:
    """Whether tables are of code that has changed since."""
    if visit.state is None:
        yield Found("ok", "nothing was built yet")
        return
    info = visit.project.info
    built = visit.state.built(info.project_name, info.target)
    stale = stale_code(visit.project.manifest, {uid: one.checksum for uid, one in built.items()})
    names = [visit.project.manifest.nodes[uid].name for uid in stale]
    if stale:
        yield Found("warn", f"{len(stale)} of {len(built)} models were built by code or config that has changed since: {some(names)}",
                    f"plan-batches --select {' '.join(names[:20])} | run-dbt-batch")  # fmt: skip
    else:
        yield Found("ok", f"{len(built)} models that were built are what their code makes")


def _models(visit: Visit) -> list[str]:
    """All that a run builds, in order."""
    return visit.project.select([], [], None)
