"""Batches in parts, on a warehouse in memory that takes only so much at once: exact whatever is too big, and whoever is killed."""

import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from builders import ORDERS, a_batch, a_plan
from hypothesis import given, settings
from hypothesis import strategies as st
from lengths import many

from sluice import error_classes, planning, resuming, splitting
from sluice.attempts import Attempts
from sluice.dbt_engine.wire import NodeResult, Outcome
from sluice.fitting import Fitting
from sluice.jobs import Job, through
from sluice.records import Batch, BatchResult, Fit, Plan, Split, Ways, Window
from sluice.signals import Interrupted
from sluice.state import State
from sluice.windows import add_months, month_vars

TOO_BIG = "Code: 241. DB::Exception: Memory limit (for query) exceeded"
SYMBOLS = ["ADA", "DAI", "USDC", "WETH"]
DAYS = Ways("day", ["symbol"])
EVERYTHING = 10**9
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # a state store on a disk waits for it at each step


class Killed(BaseException):
    """As kill -9: nothing is recorded after it."""


@dataclass
class Limited:
    """A table of (day, symbol), of which one statement may write `limit` at most; `cost` makes some days heavier.

    Like ClickHouse it keeps half of what a failed append wrote, until `committed` is asked. `kill_at` counts calls, and
    dies before or after the rows are in.
    """

    limit: int = EVERYTHING
    cost: dict[date, int] = field(default_factory=dict)
    rows: Counter = field(default_factory=Counter)
    left: dict[str, Counter] = field(default_factory=dict)
    markers: set[str] = field(default_factory=set)
    kill_at: list[int] = field(default_factory=list)
    sizes: list[tuple[int, int, str]] = field(default_factory=list)
    calls: int = 0
    interrupt_at: int = 0

    def run(
        self, *, batch_id: str, expect: list[str], vars: dict, full_refresh: bool, marker: dict | None, **_: Any
    ) -> Outcome:
        self.calls += 1
        cells = [(day, symbol) for day in _days(vars) for symbol in _symbols(vars)]
        if self.calls == self.interrupt_at:
            raise Interrupted(15)
        if self.calls in self.kill_at and self.calls % 2:
            raise Killed
        if full_refresh:
            self.rows, self.left = Counter(), {}
        if sum(self.cost.get(day, 1) for day, _ in cells) > self.limit:
            self.left.setdefault(batch_id, Counter()).update(cells[: len(cells) // 2])
            self.sizes.append((len(_days(vars)), len(_symbols(vars)), "too big"))
            return Outcome(status="failed", nodes=[NodeResult(expect[0], "failed", 0.1, message=TOO_BIG)])
        assert not self.left, "rows that a failed attempt left are removed before anything else is written"
        self.rows.update(cells)
        self.markers.add(batch_id)
        if self.calls in self.kill_at:
            raise Killed
        self.sizes.append((len(_days(vars)), len(_symbols(vars)), "ok"))
        return Outcome(status="ok", nodes=[NodeResult(uid, "ok", 0.1, len(cells)) for uid in expect])

    def running(self, **batch: Any) -> Job[Outcome]:
        return self.run(**batch)
        yield

    def cancelling(self, grace_s: float = 3.0) -> Job[None]:
        return self.cancel()
        yield

    def committed(self, marker: dict) -> bool | str:
        if marker["batch_id"] in self.markers:
            return True
        self.left.pop(marker["batch_id"], None)
        return False

    def cancel(self, grace_s: float = 3.0) -> None: ...

    def close(self) -> None: ...


def _days(vars: dict) -> list[date]:
    start, last = (date.fromisoformat(vars[name]) for name in ("start_month", "end_month"))
    end = add_months(last, 1)
    if "start_date" in vars:
        start, end = date.fromisoformat(vars["start_date"]), date.fromisoformat(vars["end_date"]) + timedelta(days=1)
    return [start + timedelta(days=n) for n in range((end - start).days)]


def _symbols(vars: dict) -> list[str]:
    given = vars.get("symbol", SYMBOLS)
    return given.split(",") if isinstance(given, str) else given


def months(count: int, *, replace: bool = True, ways: Ways | None = DAYS, months: int = 1, **vars: Any) -> list[Batch]:
    """Batches of `months` months from January 2024 on."""
    found = []
    for n in range(count):
        window = Window(add_months(date(2024, 1, 1), n * months), add_months(date(2024, 1, 1), (n + 1) * months))
        given = {"symbol": ",".join(SYMBOLS), **vars, **month_vars(window)}
        found.append(a_batch(window=window, full_refresh=replace and not n, vars=given, ways=ways))
    return found


class Runs:
    """One plan on one warehouse; each `on` is a run of it by a process that knows nothing but the state."""

    def __init__(self, folder: Path, engine: Limited, *, adapter: str = "clickhouse", run_id: str = "run"):
        self.state = State.open(f"sqlite:{folder / 'state.sqlite'}")
        self.engine, self.folder, self.adapter, self.name = engine, folder, adapter, run_id
        self.number = 0
        self.splits: list[Split] = []

    def plan(self, batches: list[Batch]) -> tuple[Plan, list[Batch]]:
        return a_plan(batches, run_id=f"{self.name}-{self.number}", adapter=self.adapter)

    def on(self, batches: list[Batch], **options: Any) -> list[BatchResult]:
        self.number += 1
        plan, batches = self.plan(batches)
        root = f"{self.name}-1"
        if self.number > 1:
            batches = resuming.rest(self.state, self.state.run(root), plan, batches, accept_drift=False)
        self.state.begin_run(plan, root)
        attempts = Attempts(
            self.engine, self.state, plan, root, self.folder / "logs", 0.0, error_classes.load(),
            attempted=self.state.attempted(root),
        )  # fmt: skip
        fitting = Fitting(attempts, **options)
        self.attempts = attempts
        results = []
        for batch in batches:
            results.append(self._take(fitting, batch))
            if results[-1].status != "ok":
                break
        return results

    def _take(self, fitting: Fitting, batch: Batch) -> BatchResult:
        try:
            return through(fitting.carrying_out(batch))
        finally:
            self.splits += fitting.told
            fitting.told.clear()


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    runs = Runs(tmp_path, Limited())
    yield runs
    runs.state.close()


def whole(count: int) -> Counter:
    return Counter((day, symbol) for batch in months(count) for day in _days(batch.vars) for symbol in SYMBOLS)


def test_a_batch_that_is_too_big_runs_in_parts_and_is_one_result(runs: Runs) -> None:
    runs.engine.limit = 7 * 4
    first, second = runs.on(months(2))
    assert runs.engine.rows == whole(2)
    assert [size for *size, what in runs.engine.sizes if what == "too big"] == [[31, 4]], "February was cut beforehand"
    assert (first.status, first.in_parts, first.parts, first.window) == ("ok", 5, [], months(1)[0].window)
    assert [(node.unique_id, node.rows) for node in first.nodes] == [(ORDERS, 31 * 4)]
    assert [(split.seq, len(split.parts), bool(split.error)) for split in runs.splits] == [(1, 5, True), (2, 5, False)]
    assert [row["status"] for row in runs.state.batches("run-1")] == ["ok"] * 12
    ids = {part.batch_id for split in runs.splits for part in split.parts} | {first.batch_id, second.batch_id}
    assert len(ids) == 12
    assert sum(result.part_of is None for result in runs.state.done("run-1").values()) == 2
    model_rows = runs.state.store.rows("SELECT count(*) FROM model_event WHERE status = 'SUCCESS'")
    assert model_rows == [(10,)], "the rows of the parts, and not once more for the whole"


def test_only_the_first_part_of_a_full_refresh_begins_the_table_anew(runs: Runs) -> None:
    runs.engine.limit, runs.engine.rows = 4, Counter({"old": 1})
    runs.on(months(1))
    assert runs.engine.rows == whole(1)
    logged = runs.state.store.rows("SELECT count(*) FROM batch_event WHERE full_refresh = 1 AND event = 'intent'")
    assert logged == [(3,)], "the month, its first week, its first day"


def test_where_only_months_can_be_written_the_stage_is_cut(runs: Runs) -> None:
    runs.engine.limit = 31
    result = runs.on(months(1, ways=Ways("month", ["symbol"], "no days")))[0]
    assert (result.status, result.in_parts, runs.engine.rows) == ("ok", 4, whole(1))


@pytest.mark.parametrize(
    ("ways", "options", "said"),
    [
        (
            Ways("month", [], "its SQL does not filter by days"),
            {},
            "not in smaller parts: its SQL does not filter by days",
        ),
        (Ways("day", []), {}, "no smaller window or stage is left"),
        (DAYS, {"is_on": False}, "because of --no-split"),
        (None, {}, "plan it again"),
    ],
)
def test_what_cannot_be_cut_says_why_and_leaves_nothing(
    runs: Runs, ways: Ways | None, options: dict, said: str
) -> None:
    runs.engine.limit = 3
    (result,) = runs.on(months(1, replace=False, ways=ways), **options)
    assert result.status == "failed"
    assert said in (result.error or "")
    assert not runs.engine.rows


def test_a_floor_is_kept(runs: Runs) -> None:
    runs.engine.limit = 20
    (result,) = runs.on(months(1), shortest="week")
    assert (result.status, runs.engine.rows) == ("ok", whole(1))
    assert {(days, symbols) for days, symbols, what in runs.engine.sizes if what == "ok"} == {(7, 2), (3, 2)}


def test_a_part_that_fails_otherwise_fails_the_batch_and_a_resume_does_only_what_is_left(runs: Runs) -> None:
    runs.engine.limit = 28
    runs.engine.cost = {date(2024, 1, 20): 10**6}
    (result,) = runs.on(months(1, ways=Ways("day", [])))
    assert "part 3 of 5, 2024-01-15 to 2024-01-21: part 6 of 7, 2024-01-20" in (result.error or "")
    before = runs.engine.rows.total()
    assert before == 19 * 4
    runs.engine.cost = {}
    (result,) = runs.on(months(1, ways=Ways("day", [])))
    assert (result.status, runs.engine.rows) == ("ok", whole(1))


def test_a_resume_goes_on_with_the_same_parts_whatever_the_flags_say_now(runs: Runs) -> None:
    runs.engine.limit, runs.engine.kill_at = 28, [4]
    with pytest.raises(Killed):
        runs.on(months(2))
    runs.engine.limit = EVERYTHING
    results = runs.on(months(2), is_on=False)
    assert [result.in_parts for result in results] == [5, 0]
    assert runs.engine.rows == whole(2)


def test_the_process_of_the_next_wave_knows_what_the_one_before_has_learned(runs: Runs) -> None:
    runs.engine.limit, runs.engine.kill_at = 28, [8]
    with pytest.raises(Killed):
        runs.on(months(2))
    runs.on(months(2))
    assert [size for *size, what in runs.engine.sizes if what == "too big"] == [[31, 4]]
    assert runs.engine.rows == whole(2)


def test_a_signal_leaves_a_result_of_the_batch_and_not_of_its_part(runs: Runs) -> None:
    runs.engine.limit, runs.engine.interrupt_at = 28, 3
    with pytest.raises(Interrupted):
        runs.on(months(1))
    told = runs.attempts.interrupted
    assert told is not None
    assert (told.status, told.part_of, told.window) == ("cancelled", None, months(1)[0].window)
    assert [result.status for result in runs.on(months(1))] == ["ok"]
    assert runs.engine.rows == whole(1)


def test_the_next_plan_begins_with_what_was_learned_and_grows_back(tmp_path: Path, runs: Runs) -> None:
    runs.engine.limit = 28
    runs.on(months(2))
    plan, batches = a_plan(months(5))
    splitting.recall(runs.state.sizes(plan.project, plan.target), batches)
    assert {batch.fit for batch in batches} == {Fit("week")}
    later = Runs(tmp_path, Limited(), run_id="later")
    later.on(batches)
    sizes = [size for *size, what in later.engine.sizes]
    assert (sizes[:5], sizes[-2:]) == ([[7, 4]] * 4 + [[3, 4]], [[30, 4], [31, 4]])
    assert later.engine.rows == whole(5)
    assert runs.state.sizes("shop", "elsewhere") == {}


@pytest.mark.sized
@settings(max_examples=many(12, 400))
@given(
    limit=st.integers(8, 300), kills=st.lists(st.integers(1, 60), max_size=6, unique=True), replace=st.booleans(),
    heavy=st.dictionaries(st.dates(date(2024, 1, 1), date(2024, 3, 31)), st.integers(1, 4), max_size=6),
    ways=st.sampled_from([DAYS, Ways("week", ["symbol"]), Ways("day", [])]), months_each=st.integers(1, 3),
)  # fmt: skip
def test_killed_and_too_big_at_random_it_leaves_what_an_unlimited_run_leaves(
    limit: int, kills: list[int], replace: bool, heavy: dict, ways: Ways, months_each: int
) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        engine = Limited(limit, heavy, kill_at=kills)
        runs = Runs(Path(folder), engine)
        count = 3 // months_each
        for _ in range(len(kills) + 1):
            try:
                results = runs.on(months(count, replace=replace, ways=ways, months=months_each))
                break
            except Killed:
                continue
        runs.state.close()
        if results[-1].status == "ok":
            assert engine.rows == whole(count * months_each)
        else:
            assert "not in smaller parts" in (results[-1].error or "")
            assert not engine.rows - whole(count * months_each), "nothing twice"


def test_an_id_of_a_part_follows_from_what_it_does(runs: Runs) -> None:
    runs.engine.limit = 28
    runs.on(months(1))
    (split,) = runs.splits
    plan, (batch,) = a_plan(months(1))
    for part in split.parts[1:]:
        alone = a_batch(window=part.window, vars=batch.vars | part.vars)
        assert planning.batch_identity(plan.project, plan.target, alone) == part.batch_id
