"""Apprise's channels: told like Telegram, once an incident; their URLs are shown nowhere. A JSON webhook on loopback receives them."""

import json
import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from builders import FakeContext, a_plan, a_result, months_of
from test_delivery import iter_with_end

from sluice import channels, delivery
from sluice.channels import configured
from sluice.config import load
from sluice.incidents import Memory
from sluice.notify import notify
from sluice.records import NotifyResult

NOW = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)
SECRET = "s3cret-in-a-path"
PLAN, BATCHES = a_plan(months_of())
BAD = (PLAN, a_result(BATCHES[0], "failed", error="boom"))
GOOD = (PLAN, a_result(BATCHES[0]))


class Webhook:
    """Takes what Apprise posts. `statuses` are its next answers, 200 after them."""

    def __init__(self) -> None:
        self.messages: list[dict] = []
        self.paths: list[str] = []
        self.statuses: list[int] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                hook.paths.append(self.path)
                status = hook.statuses.pop(0) if hook.statuses else 200
                if status == 200:
                    hook.messages.append(message)
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing on stderr."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"json://user:pa55word@127.0.0.1:{self._http.server_address[1]}/{SECRET}"
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def hook() -> Iterator[Webhook]:
    hook = Webhook()
    yield hook
    hook.close()


@pytest.fixture
def told(own_settings, hook: Webhook, monkeypatch: pytest.MonkeyPatch):
    """Run `notify` with the webhook as a channel; what it yields beside the log's own result."""
    for name in ("TELEGRAM_BOT_TOKEN", "TELEGRAM_CHAT_ID", "SLUICE_CHANNEL_URLS"):
        monkeypatch.setenv(name, "")

    def run(*stream, at: datetime = NOW, upstream_exit: int = 0, urls: list[str] | None = None) -> list[NotifyResult]:
        context = FakeContext(load(), stream, upstream_exit=upstream_exit)
        context.now = at
        *results, end = iter_with_end(notify(context, urls=[hook.url] if urls is None else urls))
        assert end == upstream_exit, "telling never changes the result"
        return results[1:]

    return run


def test_ten_runs_with_the_same_trouble_are_one_message_a_reminder_and_one_recovery(told, hook) -> None:
    for hours in range(10):
        told(*BAD, at=NOW + timedelta(hours=2 * hours), upstream_exit=1)
    (message,) = hook.messages
    assert message["title"] == "FULL REFRESH OF SHOP (DEV): ERROR, exit 0" and "boom" in message["message"]
    assert message["type"] == "failure"
    told(*BAD, at=NOW + timedelta(hours=24), upstream_exit=1)
    told(*GOOD, at=NOW + timedelta(hours=48))
    told(*GOOD, at=NOW + timedelta(hours=49))
    assert [message["title"].split(":")[0] for message in hook.messages[1:]] == ["STILL", "RECOVERED"]


def test_several_channels_are_told_whatever_becomes_of_one(told, hook) -> None:
    dead = "json://127.0.0.1:1/x"
    results = told(*BAD, urls=[dead, hook.url, hook.url], upstream_exit=1)
    assert [(result.channel, result.status) for result in results] == [("json", "skipped"), ("json", "ok")]
    assert len(hook.messages) == 1, "twice the same URL is one channel"


@pytest.mark.parametrize("status", [500, 404, 302])
def test_what_was_not_taken_is_sent_by_the_next_run(told, hook, status) -> None:
    hook.statuses = [status]
    (result,) = told(*BAD, upstream_exit=1)
    assert result.status == "skipped" and hook.messages == []
    told(*BAD, at=NOW + timedelta(hours=1), upstream_exit=1)
    assert len(hook.messages) == 1
    assert "/elsewhere" not in hook.paths, "a redirect is not followed: the message is for whom the URL names"


@pytest.mark.parametrize("url", ["jsn://127.0.0.1/x", "nonsense", "json://", "mailto://", "tgram://x"])
def test_a_url_that_is_none_is_said_and_changes_nothing(told, hook, url) -> None:
    (result,) = told(*BAD, urls=[url], upstream_exit=1)
    assert (result.status, result.error) == ("skipped", "this is no URL that Apprise knows")


def test_the_url_is_in_no_log_no_record_no_file(told, hook, heard, own_settings, capfd, monkeypatch) -> None:
    logging.getLogger().setLevel(logging.DEBUG)
    hook.statuses = [500]
    results = told(*BAD) + told(*BAD, at=NOW + timedelta(hours=1)) + told(*GOOD, at=NOW + timedelta(hours=2))
    assert SECRET in hook.paths[0], "the webhook saw it, so the search below looks for the right thing"
    monkeypatch.setenv("SLUICE_CHANNEL_URLS", hook.url)
    logging.getLogger("sluice").warning("%s", hook.url)
    written = "".join(path.read_text() for path in own_settings.state_dir.parent.rglob("*") if path.is_file())
    output = capfd.readouterr()
    everything = f"{results} {written} {output.out} {output.err} {configured(load(), [hook.url])} {load()!r}"
    assert SECRET not in everything and "pa55word" not in everything
    assert SECRET not in "".join(line.getMessage() for line in heard.records[:-1])


def test_urls_come_from_a_file_too(told, hook, monkeypatch, tmp_path) -> None:
    (tmp_path / "urls").write_text(f"{hook.url}\njson://127.0.0.1:1/x\n")
    monkeypatch.setenv("SLUICE_CHANNEL_URLS_FILE", str(tmp_path / "urls"))
    assert [result.status for result in told(*BAD, urls=[])] == ["ok", "skipped"]


def test_a_channel_that_hangs_is_given_up(hook, monkeypatch) -> None:
    import socket

    monkeypatch.setattr(channels, "GIVE_UP_S", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        (channel,) = configured(load(), [f"json://127.0.0.1:{silent.getsockname()[1]}"])
        assert "no end within" in str(channel.send("x", "ERROR"))


def test_the_test_message_reaches_every_channel_or_says_which_it_did_not(own_settings, hook) -> None:
    hook.statuses = [200, 500]
    running = delivery.test(FakeContext(load(), ()), [hook.url, f"{hook.url}/2"])
    assert [next(running).status, next(running).status] == ["ok", "failed"]
    assert hook.messages[0]["title"] == "" or "test" in hook.messages[0]["title"]


def test_runs_that_end_together_lose_none_of_their_messages_and_send_each_once(told, hook, own_settings) -> None:
    plans = [a_plan(months_of(), target=f"t{number}") for number in range(8)]
    threads = [
        threading.Thread(target=told, args=(plan, a_result(batches[0], "failed", error=f"boom {plan.target}")))
        for plan, batches in plans
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(message["title"] for message in hook.messages) == [
        f"FULL REFRESH OF SHOP (T{number}): ERROR, exit 0" for number in range(8)
    ]
    kept = Memory(own_settings.state_dir / "notify.json").kept
    assert len(kept.open) == 8 and kept.unsent == []
