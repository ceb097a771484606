"""The run of a plan: its batches in order, skipping what depends on a failure, stopping where told to."""

import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from typing import Literal

import msgspec

from sluice import error_classes, pace, planning, profiles
from sluice.attempts import Attempts, Engine, result_of
from sluice.command import Context
from sluice.config import require_project
from sluice.dbt_command_line import CommandLine
from sluice.errors import bad_stream, refused
from sluice.fitting import Fitting
from sluice.log import redact
from sluice.pace import Pace
from sluice.progress import Progress, watch
from sluice.project import parse, start_engine
from sluice.records import Batch, BatchResult, Plan, Record, RunStatus, Split
from sluice.signals import Interrupted, interruptible
from sluice.state import State
from sluice.warehouse import connect


@dataclass(frozen=True)
class Options:
    """How to run: seconds between batches (None: the plan's), how many failures to bear, and through which dbt."""

    delay_s: float | None
    max_failures: int | None  # None: any number
    dbt_command: str | None  # None: the warm session
    split: bool = True  # what is too big runs in parts
    min_window: Literal["day", "week", "month"] = "day"  # of the parts
    pace: bool = False  # wait while the warehouse is busy


def run_dbt_batch(ctx: Context, options: Options) -> Generator[Record, None, int | None]:
    """Carry out the batches that come in. The exit code is 1 when one failed, else that of the command before.

    Raises SluiceError: 2 for a plan of another project or target, a batch that is not what its id says, models of an
    unfinished plan; 65 for a batch without its plan; 75 for a lock; 78 when dbt cannot load the project.
    """
    with ExitStack() as stack:
        run: Run | None = None
        for record in ctx.records():
            if isinstance(record, Plan):
                if run is not None:
                    raise bad_stream(f"line {ctx.line}: a second plan in one stream", line=ctx.line)
                run = stack.enter_context(Run(ctx, options, record))
            elif isinstance(record, Batch):
                if run is None:
                    raise bad_stream(
                        f"line {ctx.line}: a batch before its plan: pass the planner's whole output on", line=ctx.line
                    )
                yield from run.take(record)
        if run is None:
            ctx.log.info("nothing to do")
        elif run.failures:
            return 1
    return None


@dataclass
class Run:
    """One run in progress; a context manager that ends it in the state store, whatever happens."""

    ctx: Context
    options: Options
    plan: Plan
    failures: int = 0
    ok: int = 0
    failed_models: dict[str, int] = field(default_factory=dict)
    ran_models: set[str] = field(default_factory=set)
    seen: dict[str, int] = field(default_factory=dict)  # batch_id: line
    done: dict[str, BatchResult] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)  # batches of this run that are ok, those of earlier waves too
    attempts: Attempts | None = None
    fitting: Fitting | None = None
    pace: Pace | None = None
    progress: Progress = field(default_factory=Progress)

    def __enter__(self) -> "Run":
        self._stack = ExitStack()
        if not self._is_rehearsal:
            with ExitStack() as stack:
                self._begin(stack)
                self._stack = stack.pop_all()
        return self

    @property
    def _is_rehearsal(self) -> bool:
        return self.plan.dry_run or self.ctx.dry_run

    def _begin(self, stack: ExitStack) -> None:
        """Lock first, so that whoever comes second is told at once; then dbt; the run begins when both are there."""
        config, plan = self.ctx.config, self.plan
        state = stack.enter_context(closing(State.open(config.state_url, origin=config.explain("SLUICE_STATE"))))
        lock = state.store.lock(plan.run_id)
        stack.callback(lock.release)
        root = state.claim(plan, lock)
        stack.callback(state.release, plan)
        engine = stack.enter_context(closing(_engine(self.ctx, self.options, plan)))
        self.pace = stack.enter_context(_pace(self.ctx, plan)) if self.options.pace else None
        self.progress = stack.enter_context(watch(plan, quiet=self.ctx.quiet))
        rules = error_classes.load(config.error_classes)
        state.begin_run(plan, root)
        self.ctx.keeps = True
        self.ctx.keep(plan)
        self.done = state.done(root)
        # Of a refill that is resumed every batch comes by again, in the process of its own wave: done is done, in whichever run.
        self.finished = {
            batch_id
            for batch_id, result in self.done.items()
            if (result.run_id == plan.run_id or plan.intent == "refill") and result.part_of is None
        }
        self.attempts = Attempts(
            engine=engine,
            state=state,
            plan=plan,
            root_run_id=root,
            log_dir=config.log_dir,
            lock_wait_s=config.lock_wait_s,
            rules=rules,
            attempted=state.attempted(root),
        )
        self.fitting = Fitting(self.attempts, self.options.split, self.options.min_window)
        self.ctx.log.info(
            "run %s: %s of %s on %s, %d of %d batches to do",
            plan.run_id, plan.intent, plan.project, plan.target, plan.pending, plan.total,
        )  # fmt: skip

    def __exit__(self, _type, problem: BaseException | None, _trace) -> None:
        with self._stack:
            if self.attempts is not None:
                self._end(self.attempts, problem)

    def _end(self, attempts: Attempts, problem: BaseException | None) -> None:
        """Record SUCCESS when all is done, FAILED or CANCELLED when not.

        A wave that went well, with others to come, leaves the run open for them.
        """
        stopped = isinstance(problem, Interrupted | GeneratorExit)
        if problem is None and not self.failures and len(self.finished) < self.plan.pending:
            return
        status: RunStatus = (
            "FAILED" if self.failures or (problem and not stopped) else "CANCELLED" if stopped else "SUCCESS"
        )
        attempts.state.end_run(
            self.plan,
            attempts.root_run_id,
            status,
            models_run=len(self.ran_models),
            models_failed=len(self.failed_models),
            message=redact(str(problem)) if problem is not None else None,
        )
        self.ctx.log.info("run %s: %s, %d ok, %d failed", self.plan.run_id, status, self.ok, self.failures)
        if status != "SUCCESS" and (go_on := planning.GO_ON.get(self.plan.intent)):
            self.ctx.log.warning(
                "%s after %d of %d batches; go on with: %s", status.lower(), self.ok, self.plan.pending, go_on
            )

    # -- one batch ------------------------------------------------------------------------------------

    def take(self, batch: Batch) -> Iterator[BatchResult | Split]:
        """Carry out one batch and yield its result, each Split before it; nothing for one that came before in the stream."""
        if self._came_before(batch):
            return
        if self.attempts is None or self.fitting is None:
            yield result_of(self.plan, batch, "dry_run")
            return
        earlier = self.done.get(batch.batch_id)
        reason = self._reason_to_skip(batch)
        if earlier is not None and (earlier.run_id == self.plan.run_id or self.plan.intent == "refill"):
            result = earlier
        elif reason:
            result = self.attempts.skip(batch, reason)
        else:
            self._pause()
            self.progress.starts(batch)
            try:
                result = yield from self.fitting.carry_out(batch)
            except Interrupted:
                if self.attempts.interrupted is not None:
                    yield self.attempts.interrupted
                raise
            self.ran_models.add(batch.model or batch.batch_id)
        self._count(batch, result)
        self.progress.advance(result)
        yield result

    def _came_before(self, batch: Batch) -> bool:
        line = self.ctx.line
        if batch.plan_id != self.plan.plan_id:
            raise bad_stream(
                f"line {line}: batch {batch.batch_id} belongs to plan {batch.plan_id}, not {self.plan.plan_id}",
                line=line,
            )
        if planning.batch_identity(self.plan.project, self.plan.target, batch) != batch.batch_id:
            raise refused(
                f"line {line}: batch {batch.batch_id} is not what its id says: it was changed after it was planned",
                code="stream_changed_batch",
                hint="change the model's meta or the planner's flags, and plan again",
            )
        if batch.batch_id in self.seen:
            self.ctx.log.warning(
                "line %d: batch %s is already done by line %d", line, batch.batch_id, self.seen[batch.batch_id]
            )
            return True
        self.seen[batch.batch_id] = line
        return False

    def _reason_to_skip(self, batch: Batch) -> str | None:
        for uid in [batch.model or "", *batch.depends_on]:
            if uid in self.failed_models:
                return f"{uid} failed in batch {self.failed_models[uid]}"
        goes_on = self.options.max_failures is None or self.plan.continue_on_error
        if not goes_on and self.failures >= (self.options.max_failures or 0):
            return f"stopped after {self.failures} failure{'s' if self.failures > 1 else ''}"
        return None

    def _pause(self) -> None:
        delay_s = self.options.delay_s if self.options.delay_s is not None else self.plan.delay_s
        with interruptible():
            if delay_s and self.ran_models:
                time.sleep(delay_s)
        if self.pace is not None:
            self.pace.wait()

    def _count(self, batch: Batch, result: BatchResult) -> None:
        if result.status == "ok":
            self.ok += 1
            self.finished.add(batch.batch_id)
        elif result.status == "failed":
            self.failures += 1
            self.failed_models.setdefault(batch.model or batch.batch_id, batch.seq)
            self.ctx.log.error(
                "batch %d of %d: %s, stage %s: %s", batch.seq, batch.total, batch.model, batch.stage, result.error
            )


def _pace(ctx: Context, plan: Plan) -> Pace:
    """What looks at the plan's warehouse. Raises SluiceError (78) where its profile cannot be read."""
    config = replace(ctx.config, target=plan.target)
    credentials = profiles.load(config, msgspec.json.decode(str(plan.request.get("vars") or "{}")))
    if not (rules := pace.load(credentials.adapter)):
        ctx.log.warning("--pace: there is nothing to look at on %s", credentials.adapter)
    return Pace(lambda: connect(credentials, tag=f"pace {plan.run_id}", read_only=True), rules)


def _engine(ctx: Context, options: Options, plan: Plan) -> Engine:
    """What runs the batches, its project and target checked against the plan's."""
    config = ctx.config
    if options.dbt_command is not None:
        return CommandLine(options.dbt_command, target=config.target)
    require_project(config)
    if config.target is not None and config.target != plan.target:
        raise refused(
            f"the plan is for target {plan.target}, this command's is {config.target} ({config.explain('DBT_TARGET')})",
            code="plan_other_target",
            hint="use the same --target for both",
        )
    engine = start_engine(config, plan.target, msgspec.json.decode(str(plan.request.get("vars") or "{}")))
    info = parse(engine, config)
    if info.project_name != plan.project:
        engine.close()
        raise refused(
            f"the plan is for project {plan.project}, {config.project_dir} holds {info.project_name} ({config.explain('DBT_PROJECT_DIR')})",
            code="plan_other_project",
            hint="use the same --project-dir for both",
        )
    return engine
