"""One loader for several clients in a row: nothing of one client is left when the next one comes."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_dbt_engine import INCREMENTAL, SHOP, Project, caller, descendants, wait_for

from sluice.dbt_engine.loader_process import Lender


@pytest.fixture
def shop(tmp_path: Path) -> Project:
    return Project(tmp_path, {"one": INCREMENTAL + "select 1 as n", "slow": SHOP["slow"]})


@pytest.fixture
def lender(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lender]:
    with Lender() as lender:
        for name in lender.environment.keys() - os.environ.keys():
            monkeypatch.setenv(name, lender.environment[name])
        yield lender


def loader_of(lender: Lender) -> int:
    return lender._loader.pid


def test_the_next_client_finds_a_loader_without_workers_and_a_project_as_it_is_now(
    shop: Project, lender: Lender
) -> None:
    with shop.engine() as first:
        assert first.pid is None
        assert shop.run(first, "one").status == "ok"
        assert descendants(loader_of(lender))
    assert descendants(loader_of(lender)) == []
    assert shop.query("select n from one") == [(1,)]  # raises when another process has the file

    shop.files({"models/one.sql": INCREMENTAL + "select 22 as n"})
    with shop.engine() as second:
        assert second.pid is None
        assert shop.run(second, "one").status == "ok"
    assert shop.query("select n from one order by n") == [(1,), (22,)]


@pytest.mark.long
def test_an_unchanged_project_is_parsed_once_and_other_vars_are_another_parse(shop: Project, lender: Lender) -> None:
    state = shop.root / "cache" / "target" / "partial_parse.msgpack"
    stamps = []
    for vars in ({}, {}, {"a": 1}):
        with shop.engine(base_vars=vars) as engine:
            engine.parse()
        stamps.append(state.stat().st_mtime_ns)
    assert stamps[0] == stamps[1] < stamps[2]


@pytest.mark.long
def test_a_killed_client_takes_its_worker_along_and_leaves_the_loader(shop: Project, lender: Lender) -> None:
    log = shop.root / "logs" / "orphaned.log"
    script = (
        "from pathlib import Path; from test_dbt_engine import Project; shop = Project.__new__(Project)\n"
        f"shop.root, shop.name = Path({str(shop.root)!r}), 'shop'\n"
        "shop.run(shop.engine(), 'slow', batch_id='orphaned')\n"
    )
    client = caller(script, pass_fds=lender.pass_fds)
    wait_for(lambda: log.exists() and "range(10000000)" in log.read_text(), 60)
    assert descendants(loader_of(lender))
    client.kill()
    client.wait()
    wait_for(lambda: not descendants(loader_of(lender)), 3)
    with shop.engine() as engine:
        assert engine.pid is None
        assert shop.run(engine, "one").status == "ok"


def test_who_has_borrowed_it_and_wants_a_second_one_gets_its_own(shop: Project, lender: Lender) -> None:
    with shop.engine() as first:
        with shop.engine() as second:  # which the lent one would serve after the first, so never
            assert (first.pid is None, second.pid is None) == (True, False)
    with shop.engine() as third:
        assert third.pid is None


@pytest.mark.parametrize("is_lent", [True, False])
def test_whoever_cannot_be_told_that_this_was_all_is_not_waited_for(
    shop: Project, lender: Lender, monkeypatch: pytest.MonkeyPatch, is_lent: bool
) -> None:
    if not is_lent:
        monkeypatch.delenv("SLUICE_LENT_LOADER")
    engine = shop.engine()
    assert (engine.pid is None) == is_lent
    assert shop.run(engine, "one").status == "ok"

    def fails(_: object) -> None:
        raise EOFError("a call that failed")

    monkeypatch.setattr(engine._channel, "send", fails)
    engine.close()  # pytest's timeout ends a wait without end
    assert descendants(loader_of(lender)) == []
    assert shop.query("select n from one") == [(1,)], "nobody has the file"


@pytest.mark.long
def test_a_lender_that_is_gone_is_done_without(shop: Project, lender: Lender) -> None:
    os.kill(loader_of(lender), 9)
    time.sleep(0.2)
    with shop.engine() as engine:
        assert engine.pid is not None
        assert shop.run(engine, "one").status == "ok"
