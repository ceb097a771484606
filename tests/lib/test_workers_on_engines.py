"""Two workers on real servers: what they leave is what one leaves, and only what may overlap does."""

import re
from pathlib import Path

import pairs
import pytest
from servers import LONG_ENGINES

from sluice.profiles import Credentials

pytest_plugins = ["servers"]

WHOLE = {
    "left_one": 150,
    "right_one": 150,
    "both": 3,
    "so_far": 3,
}


@pytest.fixture(params=LONG_ENGINES)
def server(request: pytest.FixtureRequest) -> Credentials:
    return request.getfixturevalue(f"{request.param}_target")


def overlap(one: dict, other: dict) -> bool:
    return one["began_at"] < other["ended_at"] and other["began_at"] < one["ended_at"]


def test_two_workers_leave_what_one_leaves_and_keep_the_order(server: Credentials, tmp_path: Path) -> None:
    env = pairs.make(tmp_path / "project", server, nap_s=0.4)
    runner = pairs.start(env, workers=2, lent=server.adapter == "postgres")
    out, err = runner.communicate(timeout=120)
    assert runner.returncode == 0, err.decode()
    assert {name: len(rows) for name, rows in pairs.tables(server).items()} == WHOLE
    both = pairs.tables(server)["both"]
    assert [(total, count) for _, total, count in both] == [(1275, 50)] * 3, "whoever reads both saw all of both"
    assert [months for _, months in pairs.tables(server)["so_far"]] == [1, 2, 3]

    results = pairs.results(out)
    assert [result["status"] for result in results] == ["ok"] * 12
    assert [result["ended_at"] for result in results] == sorted(result["ended_at"] for result in results)
    reads = {"model.shop.both": {"model.shop.left_one", "model.shop.right_one"}}
    met = {
        (one["model"], other["model"])
        for one in results
        for other in results
        if one["seq"] < other["seq"] and overlap(one, other)
    }
    assert met, "nothing ran side by side"
    for one, other in met:
        assert one != other
        assert one not in reads.get(other, set())
        assert other not in reads.get(one, set())
    logs = {result["log_path"] for result in results}
    assert len(logs) == 12
    for result in results:
        begun = re.findall(r"START .* model .*?(left_one|right_one|both|so_far)", Path(result["log_path"]).read_text())
        assert begun == [result["model"].rpartition(".")[2]]
