"""Claims in ClickHouse: one of many holds, a dead owner's end, and who was asleep too long writes nothing more."""

import multiprocessing
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from builders import a_plan

from sluice.errors import BUSY, SluiceError, unavailable
from sluice.state import State, leases
from sluice.state.clickhouse import ClickHouse
from sluice.state.leases import Claim, Lease, claims_on
from sluice.state.store import whoami

pytest_plugins = ["servers"]
fork = multiprocessing.get_context("fork")


@pytest.fixture(scope="module")
def url(clickhouse) -> Iterator[str]:
    database = f"s_{uuid.uuid4().hex[:12]}"
    url = f"clickhouse://refresh:s3cret-password@127.0.0.1:{clickhouse.http_port}/{database}"
    State.open(url).close()
    yield url
    clickhouse.query(f"DROP DATABASE {database} SYNC")


def store(url: str) -> ClickHouse:
    return ClickHouse(url, origin="a test")


def test_of_many_that_claim_at_once_exactly_one_holds_round_after_round(url: str) -> None:
    stores = [store(url) for _ in range(5)]
    for _ in range(4):
        name, go = f"model {uuid.uuid4()}", threading.Barrier(len(stores))
        claims = [Claim(each, f"run-{n}", [name, f"model only {n} {uuid.uuid4()}"]) for n, each in enumerate(stores)]
        told: dict[int, object] = {}

        def compete(number: int, claims=claims, go=go, told=told) -> None:
            go.wait()
            told[number] = claims[number].take()

        rivals = [threading.Thread(target=compete, args=(number,)) for number in range(len(stores))]
        for rival in rivals:
            rival.start()
        for rival in rivals:
            rival.join(30)
        (winner,) = [number for number, holder in told.items() if holder is None]
        assert [holder.run_id for holder in claims_on(stores[0], [name])] == [f"run-{winner}"]
        claims[winner].free()
        assert claims_on(stores[0], [name]) == []
    for each in stores:
        each.close()


def test_who_came_first_wins_though_the_other_is_quicker(url: str) -> None:
    here = store(url)
    name = f"model {uuid.uuid4()}"
    early, late = Claim(here, "early", [name]), Claim(here, "late", [name])
    early._write("wanted")  # and then it is slow
    assert late.take().run_id == "early"
    assert early.take() is None
    assert late.take().status == "held"
    assert Claim(here, "other", [f"model {uuid.uuid4()}"]).take() is None


def test_who_came_later_may_have_looked_before_and_is_waited_for(url: str) -> None:
    """A row may get its number before another one and be seen after it: who is numbered later may hold already."""
    here, there = store(url), store(url)
    name, future = f"model {uuid.uuid4()}", 1 << 63
    row = {"owner": "later", "lasts_seconds": 60, "names": [name], "run_id": "later", **whoami()}
    here.insert("model_lock", [{**row, "status": "wanted", "seq": future}])
    told: list = []
    waiting = threading.Thread(target=lambda: told.append(Claim(there, "earlier", [name]).take()))
    waiting.start()
    time.sleep(0.5)
    assert told == []
    here.insert("model_lock", [{**row, "status": "held", "seq": future + 1}])
    waiting.join(20)
    assert [holder.run_id for holder in told] == ["later"]


def test_who_claims_what_another_took_since_the_look_is_told_who_has_it(url: str) -> None:
    here, there = store(url), store(url)
    uid = f"model.shop.{uuid.uuid4()}"
    first, second = (a_plan(run_id=run_id, models=[uid])[0] for run_id in ("run-1", "run-2"))
    lock, late = here.lock("run-1"), there.lock("run-2")
    there.refuse_at_work(second)  # nobody yet
    here.claim_models(first, lock)
    with pytest.raises(SluiceError, match=f"at work on it, pid {os.getpid()} .*run run-1") as caught:
        there.claim_models(second, late)
    assert caught.value.exit_code == BUSY
    lock.release()
    there.claim_models(second, late)
    late.release()
    for each in (here, there):
        each.close()


def test_a_claim_is_renewed_while_its_owner_lives_and_ends_with_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LEASE_S", 3)
    plan = a_plan(intent="daily")[0]
    holds = fork.Event()

    def hold() -> None:
        mine = State.open(url)
        mine.claim(plan, mine.store.lock(plan.run_id))
        mine.begin_run(plan, plan.run_id)
        holds.set()
        time.sleep(60)

    owner = fork.Process(target=hold)
    owner.start()
    assert holds.wait(30)
    state = State.open(url)
    successor = a_plan(intent="daily", run_id="run-2")[0]
    lock = state.store.lock("run-2")
    over = time.monotonic() + 4
    while time.monotonic() < over:  # longer than a lease
        with pytest.raises(SluiceError, match=f"pid {owner.pid}") as caught:
            state.claim(successor, lock)
        assert caught.value.exit_code == BUSY
        lock.release()
        lock = state.store.lock("run-2")
        time.sleep(0.3)
    os.kill(owner.pid, signal.SIGKILL)
    owner.join(30)
    deadline = time.monotonic() + 10
    while state.is_alive(state.run("run-1")) and time.monotonic() < deadline:
        time.sleep(0.1)
    while True:  # its models were renewed a moment after the run, so they are free a moment later
        lock = state.store.lock("run-2")
        try:
            assert state.claim(successor, lock) == "run-2"
            break
        except SluiceError:
            assert time.monotonic() < deadline
            lock.release()
            time.sleep(0.05)
    state.release(successor)
    lock.release()


def test_whoever_slept_past_its_lease_writes_nothing_more(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LEASE_S", 3)
    plan, batches = a_plan(run_id="run-9", models=[f"model.shop.{uuid.uuid4()}"])
    state = State.open(url)
    lock = state.store.lock("run-9")
    root = state.claim(plan, lock)
    assert state.intend("run-9", root, batches[0]) == 1
    began = leases._now()
    monkeypatch.setattr(leases, "_now", lambda: began + 100)
    with pytest.raises(SluiceError, match="was not renewed for 1") as caught:
        state.intend("run-9", root, batches[0])
    assert (caught.value.exit_code, caught.value.code) == (BUSY, "state_lock_lost")
    time.sleep(1.5)  # a renewal that comes too late does not bring it back
    with pytest.raises(SluiceError, match="was not renewed"):
        state.intend("run-9", root, batches[0])
    monkeypatch.undo()
    lock.release()


# -- renewals, without a server -----------------------------------------------------------------------------------------


class Memory:
    """A table in which nobody else claims; `then` is done after each row."""

    def __init__(self, then: Callable[[], object] = lambda: None):
        self.written: list[tuple[str, str]] = []
        self.then, self.closed = then, threading.Event()

    def insert(self, table: str, rows: list[dict[str, Any]]) -> None:
        self.written += [(row["status"], *row["names"]) for row in rows]
        self.then()

    def rows(self, sql: str, params: dict[str, Any]) -> list[tuple]:
        return [(1,)] if "max(seq)" in sql else []

    def close(self) -> None:
        self.closed.set()


def test_a_renewal_before_which_the_machine_slept_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "_now", lambda: 0.0)
    claim = Claim(Memory(), "run-1", ["model a"])
    assert claim.take() is None
    times = [0.0, 100.0]  # in time when it was looked at, and then it is written
    monkeypatch.setattr(leases, "_now", lambda: times.pop(0) if len(times) > 1 else times[0])
    with pytest.raises(SluiceError, match="was not renewed for 100 s") as caught:
        claim.renew()
    assert caught.value.code == "state_lock_lost"
    with pytest.raises(SluiceError, match="was not renewed"):
        claim.check()  # others may hold the names by now


def test_a_renewal_that_fails_is_made_over_another_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RENEW_EVERY", 0.0001)
    renewed = threading.Event()

    def lose() -> None:
        raise unavailable("the connection was lost", code="warehouse_away")

    table, lost, second = Memory(), Memory(lose), Memory(renewed.set)
    ways: list[Memory | None] = [None, lost, None, second]

    def connect() -> Memory:
        way = ways.pop(0)
        if way is None:
            raise unavailable("nobody answers", code="warehouse_away")
        return way

    lease = Lease(table, "run-1", connect)
    assert lease.acquire()
    assert renewed.wait(30)
    lease.release()
    assert second.closed.wait(30)
    assert lost.closed.is_set(), "nobody would"
    assert table.written == [("wanted", "run run-1"), ("held", "run run-1")]
    assert {status for status, _ in second.written[:-1]} == {"held"}
    assert second.written[-1] == ("free", "run run-1")
    assert ways == []


def test_what_is_being_given_up_is_renewed_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that says held after the one that says free would keep the names from everybody for a lease."""
    monkeypatch.setattr(leases, "RENEW_EVERY", 0.0001)
    begin = threading.Event()
    second = Memory()

    def connect() -> Memory:
        assert begin.wait(30)
        return second

    lease = Lease(Memory(), "run-1", connect)
    assert lease.acquire()
    assert lease.claim(["model a"]) is None
    second.then = lease._over.set  # release begins while the first of two is renewed
    begin.set()
    assert second.closed.wait(30)
    assert second.written == [("held", "run run-1")]
