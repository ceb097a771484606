"""OpenLineage events as a server on loopback gets them, and what becomes of a run whose server is not well: nothing."""

import json
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from builders import ORDERS, TOTALS, a_batch, a_plan, months_of
from test_guards import Project as Models
from test_run_dbt_batch import BROKEN, Stand, stand  # noqa: F401

from sluice.ids import new_run_id
from sluice.signals import Interrupted


class Server:
    """Takes events; answers with `status`."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.keys: list[str | None] = []
        self.status = 201
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                server.events.append(json.loads(body))
                server.paths.append(self.path)
                server.keys.append(self.headers.get("Authorization"))
                self.send_response(server.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing on stderr."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server(stand: Stand) -> Iterator[Server]:  # noqa: F811
    server = Server()
    stand.config = replace(stand.config, openlineage_url=server.url)
    yield server
    server.close()


def kinds(server: Server) -> list[tuple[str, str]]:
    return [(event["eventType"], event["job"]["name"]) for event in server.events]


def test_each_batch_begins_and_ends(stand: Stand, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("OPENLINEAGE_API_KEY", "k3y-of-the-server")
    plan, batches = a_plan([*months_of(months=1), a_batch(TOTALS, full_refresh=True)], run_id=new_run_id())
    stand.engine.steps[batches[1].batch_id] = [BROKEN]
    assert stand.run(plan, batches) == ["ok", "failed"]
    orders, totals = "shop.dev.orders", "shop.dev.totals"
    assert kinds(server) == [("START", orders), ("COMPLETE", orders), ("START", totals), ("FAIL", totals)]
    assert set(server.paths) == {"/api/v1/lineage"}
    assert set(server.keys) == {"Bearer k3y-of-the-server"}
    start, complete, _, fail = server.events
    assert start["run"]["runId"] == complete["run"]["runId"] != fail["run"]["runId"]
    uuid.UUID(start["run"]["runId"])
    facets = start["run"]["facets"]
    assert facets["nominalTime"]["nominalStartTime"] == "2024-01-01T00:00:00.000Z"
    assert facets["nominalTime"]["nominalEndTime"] == "2024-02-01T00:00:00.000Z"
    assert facets["parent"]["run"]["runId"] == plan.run_id
    assert [facets["parent"]["job"][key] for key in ("namespace", "name")] == ["sluice", "shop.dev.full_refresh"]
    (output,) = complete["outputs"]
    assert (output["name"], output["outputFacets"]["outputStatistics"]["rowCount"]) == ("orders", 1)
    assert fail["run"]["facets"]["errorMessage"]["message"].endswith(BROKEN)
    assert start["producer"].startswith("urn:sluice:")


def test_a_batch_that_is_interrupted_is_aborted(stand: Stand, server: Server) -> None:  # noqa: F811
    plan, batches = a_plan()
    stand.engine.steps[batches[0].batch_id] = ["interrupted before"]
    with pytest.raises(Interrupted):
        stand.run(plan, batches)
    assert [kind for kind, _ in kinds(server)] == ["START", "ABORT"]


def test_what_is_read_comes_from_the_project(stand: Stand, server: Server) -> None:  # noqa: F811
    models = {"orders": {}, "totals": {"on": ["orders"]}}
    stand.config.cache_dir.mkdir(parents=True)
    Models(stand.config.cache_dir, models)
    stand.run(*a_plan([a_batch(TOTALS)]))
    for event in server.events:
        assert [one["name"] for one in event["inputs"]] == ["orders"]
        assert [one["name"] for one in event["outputs"]] == [ORDERS.replace("model.shop.orders", "totals")]
        assert {one["namespace"] for one in event["inputs"]} == {one["namespace"] for one in event["outputs"]}


@pytest.mark.parametrize("how", [500, 403, "away", "no url"])
def test_a_server_that_is_not_well_changes_nothing_and_is_asked_no_more(
    stand: Stand, server: Server, heard: Any, how: Any  # noqa: F811
) -> None:  # fmt: skip
    if isinstance(how, int):
        server.status = how
    else:
        url = "http://user:s3cret-word@127.0.0.1:9" if how == "away" else "no url"
        stand.config = replace(stand.config, openlineage_url=url)
    assert stand.run(*a_plan()) == ["ok"] * 3
    assert stand.run_status() == "SUCCESS"
    assert len([line for line in heard.messages if "OPENLINEAGE_URL" in line]) == 1
    assert len(server.events) <= 1
    assert "s3cret" not in heard.text


def test_a_rehearsal_and_a_run_without_the_setting_tell_nobody(stand: Stand, server: Server) -> None:  # noqa: F811
    stand.run(*a_plan(), dry_run=True)
    stand.config = replace(stand.config, openlineage_url=None)
    stand.run(*a_plan())
    assert server.events == []
