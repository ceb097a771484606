"""The run of a plan: its batches in order, skipping what depends on a failure, stopping where told to."""

from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from typing import Literal

from sluice import aside, error_classes, metrics, pace, planning, profiles
from sluice.attempts import Attempts, Engine, result_of
from sluice.command import Context
from sluice.config import require_project
from sluice.dbt_command_line import CommandLine
from sluice.dbt_engine import loader_process
from sluice.errors import SluiceError, bad_stream, refused
from sluice.fitting import Fitting
from sluice.forecast import error_in_words
from sluice.jobs import Job, Wait
from sluice.lineage import Lineage, to_server
from sluice.log import redact
from sluice.pace import Pace
from sluice.progress import Batches, Count, watch
from sluice.project import parse, start_engine
from sluice.records import Batch, BatchResult, Estimate, Gate, Plan, Record, RunStatus, Split
from sluice.signals import Interrupted
from sluice.state import State
from sluice.warehouse import connect
from sluice.workers import Worker, side_by_side

ONE_WRITER = ("duckdb",)  # adapters on which a second process cannot write while one does


@dataclass(frozen=True)
class Options:
    """How to run: seconds between batches of a worker (None: the plan's), how many failures to bear, through which dbt."""

    delay_s: float | None
    max_failures: int | None  # None: any number
    dbt_command: str | None  # None: the warm session
    workers: int = 1
    split: bool = True  # what is too big runs in parts
    min_window: Literal["day", "week", "month"] = "day"  # of the parts
    pace: bool = False  # wait while the warehouse is busy


def run_dbt_batch(ctx: Context, options: Options) -> Generator[Record, None, int | None]:
    """Carry out the batches that come in. The exit code is 1 when one failed, else that of the command before.

    Raises SluiceError: 2 for a plan of another project or target, a batch that is not what its id says, models of an
    unfinished plan; 65 for a batch without its plan; 75 for a lock; 78 when dbt cannot load the project.
    """
    with ExitStack() as stack:
        # While a planner is at work: not before the lock, when the plan is there and others may have it, too.
        stack.enter_context(loader_process.ahead(options.dbt_command is None and not ctx.dry_run and ctx.waits(0.05)))
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
            elif isinstance(record, Gate):
                if run is not None:
                    yield from run.wait_for_all()
                yield record
        if run is None:
            ctx.log.info("nothing to do")
            return None
        yield from run.wait_for_all()
        if run.failures:
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
    workers: list[Worker] = field(default_factory=list)  # none in a rehearsal
    waiting: list[Batch] = field(default_factory=list)  # of one wave; read ahead when there are several workers
    told: list[tuple[Estimate | None, float]] = field(default_factory=list)  # forecast and measured
    pace: Pace | None = None
    progress: Batches = field(default_factory=lambda: Batches(Count()))
    lineage: Lineage = field(default_factory=Lineage)

    def __enter__(self) -> "Run":
        self._stack = ExitStack()
        if self.options.workers > 1 and self.plan.adapter in ONE_WRITER:
            raise refused(
                f"--workers {self.options.workers}: {self.plan.adapter} lets only one process write to its file",
                code="workers_one_writer",
                hint="leave --workers out, or use a target on a database server",
            )
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
        engines = [stack.enter_context(closing(_engine(self.ctx, self.options, plan)))]
        for _ in range(
            1, min(self.options.workers, len(plan.models), plan.pending)
        ):  # batches of a model never overlap
            engines.append(stack.enter_context(closing(engines[0].twin())))
        self.pace = stack.enter_context(_pace(self.ctx, plan)) if self.options.pace else None
        self.lineage = stack.enter_context(closing(to_server(config, plan)))
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
        self.progress = stack.enter_context(watch(plan, self.finished))
        attempted = state.attempted(root)
        first, *others = [
            Attempts(engine, state, plan, root, config.log_dir, config.lock_wait_s, rules, attempted) for engine in engines
        ]  # fmt: skip
        fitting = Fitting(first, self.options.split, self.options.min_window)
        self.workers = [Worker(fitting), *(Worker(fitting.beside(attempts)) for attempts in others)]
        self.ctx.log.info(
            "run %s: %s of %s on %s, %d of %d batches to do",
            plan.run_id, plan.intent, plan.project, plan.target, plan.pending, plan.total,
        )  # fmt: skip

        if len(self.workers) < self.options.workers:
            self.ctx.log.info(
                "%d of %d workers: batches of one model never overlap, and the plan has %d models",
                len(self.workers), self.options.workers, len(plan.models),
            )  # fmt: skip

    def __exit__(self, _type, problem: BaseException | None, _trace) -> None:
        with self._stack:
            if self.workers:
                self._end(self.workers[0].attempts, problem)

    def _end(self, attempts: Attempts, problem: BaseException | None) -> None:
        """Record SUCCESS when all is done, FAILED or CANCELLED when not.

        A wave that went well, with others to come, leaves the run open for them; so does a plan that is yet to be published.
        """
        stopped = isinstance(problem, Interrupted | GeneratorExit)
        is_to_go_on = len(self.finished) < self.plan.pending or aside.of_plan(self.plan)
        if problem is None and not self.failures and is_to_go_on:
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
        if said := error_in_words(self.told):
            self.ctx.log.info(said)
        self._measure(attempts.state)
        self.ctx.log.info("run %s: %s, %d ok, %d failed", self.plan.run_id, status, self.ok, self.failures)
        if status != "SUCCESS" and (go_on := planning.go_on(self.plan)):
            self.ctx.log.warning(
                "%s after %d of %d batches; go on with: %s", status.lower(), self.ok, self.plan.pending, go_on
            )

    def _measure(self, state: State) -> None:
        """Write the metrics, if they are asked for. What goes wrong there changes no run's result."""
        path = self.ctx.config.metrics_file
        if path is None:
            return
        try:
            metrics.write(state, path)
        except (OSError, SluiceError) as problem:
            self.ctx.log.warning("SLUICE_METRICS_FILE is %s, which cannot be written: %s", path, problem)

    # -- batches --------------------------------------------------------------------------------------

    def take(self, batch: Batch) -> Iterator[BatchResult | Split]:
        """Carry out one batch, or keep it until its wave is whole; yields the results of those that have ended, each Split before it."""
        if self._came_before(batch):
            return
        if not self.workers:
            yield result_of(self.plan, batch, "dry_run")
            return
        if self.waiting and self.waiting[0].wave != batch.wave:
            yield from self.wait_for_all()
        self.waiting.append(batch)
        if len(self.workers) == 1:
            yield from self.wait_for_all()

    def wait_for_all(self) -> Iterator[BatchResult | Split]:
        """Carry out what came; yields the results as they come, and before each what was split meanwhile."""
        batches, self.waiting = self.waiting, []
        with closing(side_by_side(batches, self.workers, self._carrying_out)) as ended:
            for batch, result in ended:
                for worker in self.workers:
                    yield from worker.fitting.told
                    worker.fitting.told.clear()
                self._count(batch, result)
                self.progress.advance(result)
                yield result

    def _carrying_out(self, worker: Worker, batch: Batch) -> Job[BatchResult]:
        earlier = self.done.get(batch.batch_id)
        if earlier is not None and (earlier.run_id == self.plan.run_id or self.plan.intent == "refill"):
            return earlier
        if worker.has_run and not self._reason_to_skip(batch):
            yield from self._pause()
        if reason := self._reason_to_skip(batch):
            return worker.attempts.skip(batch, reason)
        self.progress.starts(batch)
        self.lineage.begins(batch)
        result = None
        try:
            result = yield from worker.carrying_out(batch)
        finally:
            self.lineage.ends(batch, result or worker.attempts.interrupted)
        self.ran_models.add(batch.model or batch.batch_id)
        return result

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

    def _pause(self) -> Job[None]:
        delay_s = self.options.delay_s if self.options.delay_s is not None else self.plan.delay_s
        if delay_s:
            yield Wait(most_s=delay_s)
        if self.pace is not None:
            self.pace.wait()

    def _count(self, batch: Batch, result: BatchResult) -> None:
        if result.status == "ok":
            self.ok += 1
            self.told.append((result.estimate, result.duration_s))
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
    credentials = profiles.load(config, planning.base_vars(plan))
    if not (rules := pace.load(credentials.adapter)):
        ctx.log.warning("--pace: there is nothing to look at on %s", credentials.adapter)
    return Pace(lambda: connect(credentials, tag=f"pace {plan.run_id}", read_only=True), rules)


def _engine(ctx: Context, options: Options, plan: Plan) -> Engine:
    """What runs the batches, its project and target checked against the plan's."""
    config = ctx.config
    if options.dbt_command is not None:
        if aside.of_plan(plan):
            raise refused(
                "only the warm dbt builds aside: another dbt knows nothing of the names",
                code="plan_aside_engine",
                hint="leave out --engine and --dbt, or plan without --aside",
            )
        return CommandLine(options.dbt_command, target=config.target)
    require_project(config)
    if config.target is not None and config.target != plan.target:
        raise refused(
            f"the plan is for target {plan.target}, this command's is {config.target} ({config.explain('DBT_TARGET')})",
            code="plan_other_target",
            hint="use the same --target for both",
        )
    base_vars = planning.base_vars(plan)
    engine = start_engine(config, plan.target, base_vars, aside.of_plan(plan))
    info = parse(engine, config)
    if info.project_name != plan.project:
        engine.close()
        raise refused(
            f"the plan is for project {plan.project}, {config.project_dir} holds {info.project_name} ({config.explain('DBT_PROJECT_DIR')})",
            code="plan_other_project",
            hint="use the same --project-dir for both",
        )
    return engine
