"""Several workers on the batches of one wave: each has a dbt of its own, one process starts, records and tells.

A stop signal reaches all that is in flight at once. Any other end (nobody reads the results any more, a worker's dbt is gone)
lets it come to its own end first: it is work that somebody has waited for.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field

from sluice.attempts import Attempts
from sluice.fitting import Fitting
from sluice.jobs import Job, JobFailed, Jobs
from sluice.records import Batch, BatchResult
from sluice.schedule import Schedule
from sluice.signals import Interrupted, interruptible


@dataclass(eq=False)
class Worker:
    """What carries out one batch at a time. `changed` are the models that others have run since its dbt last looked."""

    fitting: Fitting
    has_run: bool = False
    latest: str | None = None
    changed: set[str | None] = field(default_factory=set)

    @property
    def attempts(self) -> Attempts:
        return self.fitting.attempts

    def carrying_out(self, batch: Batch) -> Job[BatchResult]:
        """dbt remembers which tables there are; it looks again when others may have made one that this batch can meet."""
        self.has_run, self.latest = True, batch.model
        self.attempts.look_again = not self.changed.isdisjoint({None, batch.model, *batch.depends_on})
        if self.attempts.look_again:
            self.changed.clear()
        return (yield from self.fitting.carrying_out(batch))


def side_by_side(
    batches: Sequence[Batch], workers: Sequence[Worker], carrying_out: Callable[[Worker, Batch], Job[BatchResult]]
) -> Generator[tuple[Batch, BatchResult], None, None]:
    """Yield the batches of one wave with their results as they end, each begun as soon as `Schedule` and a free worker allow.

    Raises what a job raised, when the others have ended; Interrupted when they have been stopped and told of.
    """
    schedule, free = Schedule(batches), list(workers)
    at_work: dict[str, tuple[Batch, Worker]] = {}
    jobs: Jobs[str, BatchResult] = Jobs()
    problem: BaseException | None = None
    try:
        while True:
            if free and problem is None and not jobs.done and (batch := schedule.next()) is not None:
                with interruptible():
                    pass  # a stop signal is heard before the next batch is begun
                worker = next((one for one in free if one.latest == batch.model), free[0])
                free.remove(worker)
                at_work[batch.batch_id] = batch, worker
                jobs.start(batch.batch_id, carrying_out(worker, batch))
                continue
            if not len(jobs):
                break
            try:
                batch_id, result = jobs.ended()
            except JobFailed as failed:
                problem = problem or failed.problem
                continue
            batch, worker = at_work.pop(batch_id)
            schedule.ended(batch)
            free.append(worker)
            for other in workers:
                if other is not worker:
                    other.changed.add(batch.model)
            yield batch, result
    except Interrupted as stop:
        jobs.interrupt(stop)
        for batch, worker in at_work.values():
            if worker.attempts.interrupted is not None:
                yield batch, worker.attempts.interrupted
        raise
    except GeneratorExit:
        _finish(jobs)
        raise
    if problem is not None:
        raise problem


def _finish(jobs: Jobs[str, BatchResult]) -> None:
    try:
        while len(jobs):
            try:
                jobs.ended()
            except JobFailed:
                pass
    except Interrupted as stop:
        jobs.interrupt(stop)
        raise
