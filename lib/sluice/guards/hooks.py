"""G12 hook-tax: on-run-start and on-run-end hooks are paid once per dbt run, and batches are many runs."""

from collections.abc import Iterator

from sluice.guards.case import Case, Finding
from sluice.manifest import Manifest

SESSION_BATCHES = 100  # after which the runner begins another dbt session: dbt_engine.loader.RECYCLE
WORTH_TELLING_S = 60.0
WORTH_TELLING_RATIO = 0.1


def on_run_hooks(manifest: Manifest) -> list[str]:
    """The names of the project's on-run-start and on-run-end hooks, its packages' included."""
    return sorted(node.name for node in manifest.of_type("operation").values())


def hook_tax(case: Case) -> Iterator[Finding]:
    """Hooks that a batched plan runs many times, counted: what they cost is known when the first batch has run."""
    names = on_run_hooks(case.manifest)
    if not names or not case.windowed:
        return
    sessions = times(len(case.batches), waves=len({batch.wave for batch in case.batches}), per_batch=False)
    if sessions < 2:
        return
    yield Finding(
        "G12", "the plan",
        f"its {len(case.batches)} batches would run {', '.join(names[:3])} {sessions} times, and once per batch with --engine "
        "subprocess",
        "guard the hook with a var that batches set, or run it once after the plan",
        "warn",
    )  # fmt: skip


def times(batches: int, *, waves: int, per_batch: bool) -> int:
    """How often the hooks of a plan run: in each batch, or in each session of the runner."""
    return batches if per_batch else max(waves, -(-batches // SESSION_BATCHES))


def projected(hook_s: float, batch_s: float, batches_left: int) -> str | None:
    """What the hooks will cost, told when it is worth it: from the hooks' and the first batch's own seconds."""
    cost_s = hook_s * batches_left
    if not batches_left or (cost_s < WORTH_TELLING_S and hook_s < WORTH_TELLING_RATIO * batch_s):
        return None
    return (
        f"G12 hook-tax: on-run hooks took {hook_s:.2f} of {batch_s:.1f} s of a batch; {batches_left} more would pay "
        f"{cost_s / 60:.1f} min for them"
    )
