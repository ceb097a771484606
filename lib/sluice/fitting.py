"""One planned batch carried out: whole, or in parts where it is too big or those before it were.

A part is a batch with an id of its own, which follows from what it does; the batch is done when all of its parts are.
Into which parts it was cut is in the state before the first of them begins, so a resume goes on with the same ones.
"""

import logging
from copy import copy
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

import msgspec

from sluice import planning
from sluice.attempts import Attempts, result_of
from sluice.ids import timestamp
from sluice.jobs import Job
from sluice.log import one_line
from sluice.records import Batch, BatchResult, Node, Part, Split
from sluice.signals import Interrupted
from sluice.splitting import Learned, Piece, cut, is_small_enough, learn, size_of
from sluice.state import State

_log = logging.getLogger("sluice")


@dataclass
class Fitting:
    """Carries out the batches of one run in sizes that fit. `is_on` false: only what was cut before is in parts.

    `told` are the Splits that nobody has passed on yet.
    """

    attempts: Attempts
    is_on: bool = True
    shortest: Literal["day", "week", "month"] = "day"
    learned: dict[tuple[str, str], Learned] = field(default_factory=dict)
    told: list[Split] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._cut_before: dict[str, list[Part]] = {}
        self._slices: dict[str, int] = {}
        for one in self._state.splits(self.attempts.root_run_id):
            self._remember(one.batch_id, one.parts)
        if self._cut_before:  # an earlier wave, or the run that is resumed, has learned more since this was planned
            plan = self.attempts.plan
            sizes = self._state.sizes(plan.project, plan.target)
            self.learned = {key: learn(events) for key, events in sizes.items()} | self.learned
        self.attempts.cut = self._cut

    def beside(self, attempts: Attempts) -> "Fitting":
        """The same for another worker. What either comes to know both do: the batches of a model may come to either."""
        other = copy(self)
        other.attempts, other.told = attempts, []
        attempts.cut = other._cut
        return other

    @property
    def _state(self) -> State:
        return self.attempts.state

    def carrying_out(self, batch: Batch) -> Job[BatchResult]:
        """The final result of a planned batch, recorded; each time that something is cut, a Split is `told`.

        Raises what Attempts.carrying_out raises; after Interrupted, `attempts.interrupted` is a result of this batch.
        """
        done: dict[str, BatchResult] = {}
        if batch.batch_id in self._cut_before:
            done = self._state.done(self.attempts.root_run_id)
            if batch.batch_id in done:  # it is to be done again, so what its parts did counts for nothing
                done = {}
        began_at = timestamp()
        try:
            return (yield from self._carrying_out(batch, done))
        except Interrupted:
            part = self.attempts.interrupted
            if part is not None and part.part_of is not None:
                cancelled = result_of(self.attempts.plan, batch, "cancelled", began_at=began_at, in_parts=1,
                                      ended_at=timestamp(), log_path=part.log_path, error="cancelled by a signal")  # fmt: skip
                self.attempts.interrupted = self.attempts.record(batch, cancelled)
            raise

    def _carrying_out(self, batch: Batch, done: dict[str, BatchResult]) -> Job[BatchResult]:
        if batch.batch_id in done:
            return done[batch.batch_id]
        parts, error = self._cut_before.get(batch.batch_id, []), None
        if not parts and (parts := self._cut_beforehand(batch)):
            self.attempts.record(batch, result_of(self.attempts.plan, batch, "skipped", parts=parts,
                                                  error=f"in {len(parts)} parts, since others were too big"))  # fmt: skip
        elif not parts:
            result = yield from self.attempts.carrying_out(batch)
            if not result.parts:
                if result.status == "ok" and batch.window is not None:
                    self._learn(batch, self._learned(batch).ran(self._piece(batch).fit))
                return result
            parts, error = result.parts, result.error
            self._learn(batch, self._learned(batch).too_big(size_of(parts)))
        self._remember(batch.batch_id, parts)
        if not self._has_begun(parts, done) and (settled := (yield from self.attempts.settling(batch))):
            return settled
        return (yield from self._in_parts(batch, parts, error, done))

    def _in_parts(
        self, batch: Batch, parts: list[Part], error: str | None, done: dict[str, BatchResult]
    ) -> Job[BatchResult]:
        plan = self.attempts.plan
        tell = _log.warning if error else _log.info
        tell("batch %d of %d: %s, %s: %s", batch.seq, batch.total, batch.model, batch.stage, _told(parts, error))
        self.told.append(Split(
            run_id=plan.run_id, batch_id=batch.batch_id, plan_id=batch.plan_id, seq=batch.seq, total=batch.total,
            model=batch.model, stage=batch.stage, window=batch.window, parts=parts, error=error,
        ))  # fmt: skip
        began_at = timestamp()
        results: list[BatchResult] = []
        for number, part in enumerate(parts, 1):
            piece = part_of(batch, part, is_first=number == 1)
            result = yield from self._carrying_out(piece, done)
            results.append(result)
            if result.status != "ok":
                error = f"part {number} of {len(parts)}, {_where(part)}: {result.error}"
                break
            _log.info("batch %d: part %d of %d: ok, %.1f s", batch.seq, number, len(parts), result.duration_s)
        is_done = all(result.status == "ok" for result in results)
        return self.attempts.record(batch, result_of(
            plan, batch, "ok" if is_done else "failed",
            attempt=max(result.attempt for result in results), in_parts=sum(result.in_parts or 1 for result in results),
            began_at=results[0].began_at or began_at, ended_at=timestamp(), log_path=results[-1].log_path,
            duration_s=round(sum(result.duration_s for result in results), 4), nodes=_together(results),
            recovered=all(result.recovered for result in results), error=None if is_done else error,
        ))  # fmt: skip

    def _has_begun(self, parts: list[Part], done: dict[str, BatchResult]) -> bool:
        """Whether one of the parts has: then nothing that the whole has left can be there any more."""
        return any(part.batch_id in done or part.batch_id in self.attempts.attempted for part in parts)

    def _remember(self, batch_id: str, parts: list[Part]) -> None:
        self._cut_before[batch_id] = parts
        self._slices |= {part.batch_id: part.slices for part in parts}

    # -- where to cut -----------------------------------------------------------------------------------

    def _cut(self, batch: Batch) -> list[Part] | str:
        """The parts of a batch that was too big, or why there are none, and what to do about it."""
        if batch.window is None:
            return "its model is built as a whole: give it meta.full_refresh, with months and stages"
        if batch.ways is None:
            return "its plan does not say how it may be cut: plan it again"
        pieces = cut(self._piece(batch), batch.ways, self.shortest)
        if pieces and not self.is_on:
            return "it is not cut because of --no-split"
        return (
            self._parts(batch, pieces)
            or batch.ways.but
            or "no smaller window or stage is left: give the warehouse more"
        )

    def _cut_beforehand(self, batch: Batch) -> list[Part]:
        """The parts of a batch that is larger than what fitted of late."""
        if not self.is_on or batch.window is None or batch.ways is None:
            return []
        piece = self._piece(batch)
        if is_small_enough(piece, self._learned(batch).fit, batch.ways, self.shortest):
            return []
        return self._parts(batch, cut(piece, batch.ways, self.shortest))

    def _parts(self, batch: Batch, pieces: list[Piece]) -> list[Part]:
        parts = []
        for number, piece in enumerate(pieces):
            new = {
                name: value for name, value in piece.vars.items() if name not in batch.vars or batch.vars[name] != value
            }
            part = Part(batch_id="", window=piece.window, vars=new, slices=piece.slices)
            made = part_of(batch, part, is_first=not number)
            part.batch_id = planning.batch_identity(self.attempts.plan.project, self.attempts.plan.target, made)
            parts.append(part)
        return parts

    def _piece(self, batch: Batch) -> Piece:
        assert batch.window is not None
        return Piece(batch.window, batch.vars, self._slices.get(batch.batch_id, 1))

    # -- what was learned -------------------------------------------------------------------------------

    def _learned(self, batch: Batch) -> Learned:
        key = (batch.model or "", batch.stage)
        if key not in self.learned:
            self.learned[key] = Learned(batch.fit) if batch.fit else Learned()
        return self.learned[key]

    def _learn(self, batch: Batch, learned: Learned) -> None:
        self.learned[batch.model or "", batch.stage] = learned


def part_of(batch: Batch, part: Part, *, is_first: bool) -> Batch:
    """A part as a batch. Only the first of one that begins its table anew does so."""
    return msgspec.structs.replace(
        batch, batch_id=part.batch_id, window=part.window, vars=batch.vars | part.vars,
        full_refresh=batch.full_refresh and is_first, part_of=batch.batch_id,
    )  # fmt: skip


def _together(results: list[BatchResult]) -> list[Node]:
    """The nodes of several results, each once: the worst status, seconds and rows added up."""
    nodes: dict[str, Node] = {}
    for node in (node for result in results for node in result.nodes):
        one = nodes.get(node.unique_id)
        if one is None:
            nodes[node.unique_id] = msgspec.structs.replace(node)
            continue
        one.duration_s = round(one.duration_s + node.duration_s, 4)
        one.rows = None if one.rows is None or node.rows is None else one.rows + node.rows
        one.status, one.message = (node.status, node.message) if node.status != "ok" else (one.status, node.message)
    return [*nodes.values()]


def _told(parts: list[Part], error: str | None) -> str:
    why = f"too big: {one_line(error)[:200]}" if error else "those before it were too big"
    return f"{why}; it goes on in {len(parts)} parts, the first {_where(parts[0])}"


def _where(part: Part) -> str:
    """`2024-01-01 to 2024-01-07`, both included, and the vars that cut its stage."""
    last = part.window.end - timedelta(days=1)
    own = [f"{name} {value}" for name, value in part.vars.items() if part.slices > 1 and name not in _TIME_VARS]
    return ", ".join([f"{part.window.start} to {last}" if last > part.window.start else f"{last}", *own])[:200]


_TIME_VARS = ("start_month", "end_month", "start_date", "end_date")
