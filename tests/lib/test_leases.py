"""Claims in ClickHouse: one of many holds, a dead owner's end, and who was asleep too long writes nothing more."""

import multiprocessing
import os
import signal
import threading
import time
import uuid
from collections.abc import Iterator

import pytest
from builders import a_plan

from sluice.errors import BUSY, SluiceError
from sluice.state import State, leases
from sluice.state.clickhouse import ClickHouse
from sluice.state.leases import Claim, claims_on
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
    lock = state.store.lock("run-2")
    assert state.claim(successor, lock) == "run-2"
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
