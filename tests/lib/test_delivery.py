"""Telegram: one message per incident, none lost, none that shows the token; a fake Bot API on loopback receives them."""

import json
import logging
import threading
import urllib.parse
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import stamina
from builders import FakeContext, a_plan, a_result, months_of
from hypothesis import given
from hypothesis import strategies as st

from sluice import delivery, telegram
from sluice.config import load
from sluice.dead_man import ping
from sluice.incidents import Memory, Told, decide
from sluice.notify import notify
from sluice.records import Error, NotifyResult, Record
from sluice.telegram import LIMIT_UNITS, Account, cut

TOKEN = "123456789:AAF-secret_secret-secret_secretsecret"
NOW = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)


class BotApi:
    """Enough of the Bot API for sendMessage and getMe. `answers` are (status, description, retry_after), each used once."""

    def __init__(self) -> None:
        self.texts: list[tuple[str, str]] = []
        self.paths: list[str] = []
        self.answers: list[tuple[int, str, int | None]] = []
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                api.take(self, dict(urllib.parse.parse_qsl(body.decode())))

            def do_GET(self) -> None:
                api.take(self, {})

            def log_message(self, *_: object) -> None:
                """Nothing on stderr."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def take(self, request: Any, form: dict[str, str]) -> None:
        self.paths.append(request.path)
        status, description, retry_after = self.answers.pop(0) if self.answers else (200, "", None)
        answer: dict[str, Any] = {"ok": status == 200}
        if status == 200:
            if form:
                self.texts.append((form["chat_id"], form["text"]))
            me = {"id": 1, "is_bot": True, "first_name": "Sluice", "username": "sluice_bot"}
            answer["result"] = (
                me
                if request.path.endswith("/getMe")
                else {"message_id": 1, "date": 0, "chat": {"id": 1, "type": "private"}, "text": "x"}
            )
        else:
            answer |= {"error_code": status, "description": description}
            answer |= {"parameters": {"retry_after": retry_after}} if retry_after is not None else {}
        content = json.dumps(answer).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def api() -> Iterator[BotApi]:
    api = BotApi()
    yield api
    api.close()


@pytest.fixture
def told(own_settings, api: BotApi, monkeypatch: pytest.MonkeyPatch):
    """Run `notify` on some records at a time of day; what it yields beside the log's own result."""
    monkeypatch.setenv("TELEGRAM_BOT_TOKEN", TOKEN)
    monkeypatch.setenv("TELEGRAM_CHAT_ID", "7")
    monkeypatch.setenv("SLUICE_TELEGRAM_API", api.url)

    def run(*stream: Record, at: datetime = NOW, upstream_exit: int = 0) -> list[NotifyResult]:
        context = FakeContext(load(), stream, upstream_exit=upstream_exit)
        context.now = at
        *results, end = iter_with_end(notify(context))
        assert end == upstream_exit, "telling never changes the result"
        return results[1:]

    return run


def iter_with_end(running) -> Iterator[Any]:
    """What a generator yields, and then what it returns."""
    end = yield from running
    yield end


PLAN, BATCHES = a_plan(months_of())
BAD = (PLAN, a_result(BATCHES[0], "failed", error="boom"))
GOOD = (PLAN, a_result(BATCHES[0]))


def test_ten_runs_with_the_same_trouble_are_one_message_a_reminder_after_a_day_and_one_recovery(told, api) -> None:
    for hours in range(10):
        told(*BAD, at=NOW + timedelta(hours=2 * hours), upstream_exit=1)
    assert len(api.texts) == 1
    chat, text = api.texts[0]
    assert chat == "7" and text.startswith("FULL REFRESH OF SHOP (DEV): ERROR") and "boom" in text

    told(*BAD, at=NOW + timedelta(hours=24), upstream_exit=1)
    told(*BAD, at=NOW + timedelta(hours=26), upstream_exit=1)
    told(*GOOD, at=NOW + timedelta(hours=48))
    told(*GOOD, at=NOW + timedelta(hours=72))
    assert [text.split(":")[0] for _, text in api.texts[1:]] == ["STILL", "RECOVERED"]


def test_other_trouble_is_told_at_once_and_other_scopes_do_not_mix(told, api) -> None:
    told(*BAD)
    told(PLAN, Error(code="warehouse_away", message="no answer"))
    elsewhere, batches = a_plan(months_of(), target="prod")
    told(elsewhere, a_result(batches[0]))
    assert len(api.texts) == 2
    assert "CRITICAL" in api.texts[1][1]


def test_critical_is_told_at_any_level_and_error_is_not_below_it(told, api, monkeypatch) -> None:
    monkeypatch.setenv("SLUICE_NOTIFY_LEVEL", "CRITICAL")
    told(*BAD)
    assert api.texts == []
    told(PLAN, Error(code="state_damaged", message="it is"))
    assert len(api.texts) == 1


def test_each_of_several_chats_is_told_whatever_becomes_of_the_others(told, api, monkeypatch) -> None:
    monkeypatch.setenv("TELEGRAM_CHAT_ID", "7, -100,@team")
    api.answers = [(400, "Bad Request: chat not found", None)]
    results = told(*BAD)
    assert [(r.channel, r.status) for r in results] == [("telegram", "skipped"), ("telegram", "ok"), ("telegram", "ok")]
    assert results[0].error == "Chat not found" or "chat not found" in results[0].error.lower()
    assert [chat for chat, _ in api.texts] == ["-100", "@team"]


def test_a_short_wait_is_waited_for_and_a_long_one_leaves_the_message_to_the_next_run(told, api, own_settings) -> None:
    api.answers = [(429, "Too Many Requests", 1)]
    told(*BAD)
    assert len(api.texts) == 1

    api.answers = [(429, "Too Many Requests", 61)]
    (result,) = told(*GOOD, at=NOW + timedelta(hours=1))
    assert result.status == "skipped" and "61 s" in result.error
    told(*GOOD, at=NOW + timedelta(hours=2))
    assert [text.split(":")[0] for _, text in api.texts[1:]] == ["RECOVERED"]
    assert (own_settings.state_dir / "notify.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("status", [500, 502, 401, 403])
def test_a_dead_telegram_changes_nothing_and_loses_nothing(told, api, status) -> None:
    api.answers = [(status, "Unauthorized" if status == 401 else "x", None)]
    (result,) = told(*BAD, upstream_exit=1)
    assert result.status == "skipped"
    told(*BAD, at=NOW + timedelta(hours=1), upstream_exit=1)
    assert len(api.texts) == 1


def test_nobody_listens(told, api, monkeypatch) -> None:
    api.close()
    (result,) = told(*BAD, upstream_exit=1)
    assert (result.status, result.error) == ("skipped", "Telegram cannot be reached")


def test_the_token_is_in_no_log_no_record_no_file_and_no_repr(told, api, heard, own_settings, capfd) -> None:
    logging.getLogger().setLevel(logging.DEBUG)
    api.answers = [(401, f"Unauthorized {TOKEN}", None), (400, f"Bad Request: {TOKEN}", None)]
    results = told(*BAD) + told(*BAD, at=NOW + timedelta(hours=1))
    assert TOKEN in api.paths[0], "the fake saw it, so the search below looks for the right thing"
    written = "".join(path.read_text() for path in own_settings.state_dir.parent.rglob("*") if path.is_file())
    output = capfd.readouterr()
    everything = (
        f"{results} {heard.text} {written} {output.out} {output.err} {Account(TOKEN, ['7'], api.url)!r} {load()!r}"
    )
    assert "secret_secret" not in everything


def test_not_configured_says_so_once_and_only_when_there_is_something_to_tell(told, api, heard, monkeypatch) -> None:
    monkeypatch.delenv("TELEGRAM_CHAT_ID")
    for _ in range(3):
        assert told(*GOOD) == []
    assert "TELEGRAM" not in heard.text
    for _ in range(3):
        assert told(*BAD) == []
    assert heard.text.count("TELEGRAM_BOT_TOKEN and TELEGRAM_CHAT_ID are not both set") == 1


def test_secrets_come_from_files_too_and_a_file_that_is_not_there_stops_nothing(
    told, api, monkeypatch, tmp_path
) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    monkeypatch.delenv("TELEGRAM_BOT_TOKEN")
    monkeypatch.setenv("TELEGRAM_BOT_TOKEN_FILE", str(tmp_path / "token"))
    told(*BAD)
    assert len(api.texts) == 1
    monkeypatch.setenv("TELEGRAM_BOT_TOKEN_FILE", str(tmp_path / "nowhere"))
    (result,) = told(PLAN, Error(code="a_b", message="other"))
    assert result.status == "skipped" and "TELEGRAM_BOT_TOKEN_FILE" in result.error


def test_a_damaged_memory_is_said_and_not_written_over(told, api, own_settings) -> None:
    path = own_settings.state_dir / "notify.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    (result,) = told(*BAD, upstream_exit=1)
    assert str(path) in result.error and path.read_text() == "{"


def test_a_message_that_was_queued_by_a_process_that_died_is_sent_by_the_next(told, api, own_settings) -> None:
    memory = Memory(own_settings.state_dir / "notify.json")
    memory.queue(["7"], "from the grave", NOW)
    memory.save()
    told(*GOOD)
    assert api.texts == [("7", "from the grave")]


def test_the_test_message_reaches_every_chat_or_says_which_it_did_not(told, api, monkeypatch) -> None:
    monkeypatch.setenv("TELEGRAM_CHAT_ID", "7,8")
    api.answers = [(200, "", None), (403, "Forbidden: bot was blocked by the user", None)]
    running = delivery.test(FakeContext(load(), ()), [])
    assert [next(running).status, next(running).status] == ["ok", "failed"]
    with pytest.raises(StopIteration) as end:
        next(running)
    assert end.value.value == 1


@given(st.text(max_size=6000))
def test_a_text_is_cut_at_4096_utf_16_units_and_says_how_much_is_left_out(text: str) -> None:
    text = text.encode("utf-16", "ignore").decode("utf-16")
    short = cut(text)
    assert len(short.encode("utf-16-le")) // 2 <= LIMIT_UNITS
    if short != text:
        kept, _, rest = short.rpartition("\n… ")
        assert text.startswith(kept) and int(rest.split()[0]) == len(text) - len(kept)


def test_emoji_count_twice() -> None:
    assert cut("😀" * 2048) == "😀" * 2048
    assert cut("😀" * 2049).startswith("😀" * 2030) and cut("😀" * 2049).endswith("characters left out")


@pytest.mark.parametrize(
    ("known", "key", "hours", "decision"),
    [
        (None, None, 0, "quiet"),
        (None, "a", 0, "tell"),
        ("a", "a", 23.9, "quiet"),
        ("a", "a", 24, "remind"),
        ("a", "b", 1, "tell"),
        ("a", None, 1, "recovered"),
    ],
)
def test_what_is_decided(known, key, hours, decision) -> None:
    before = Told(known, NOW, NOW) if known else None
    assert decide(before, key, NOW + timedelta(hours=hours)) == decision


def test_a_dead_man_switch_gets_the_exit_code_and_its_url_is_not_told(api) -> None:
    assert ping(f"{api.url}/ping/s3cret/", 3) is None
    assert api.paths == ["/ping/s3cret/3"]
    api.answers = [(404, "x", None)] * 3
    with stamina.set_testing(True, attempts=1):
        problem = ping(f"{api.url}/ping/s3cret", 0)
    assert problem is not None and "404" in problem and "s3cret" not in problem
    assert ping("file:///etc/passwd", 0) is not None


def test_a_hanging_telegram_is_given_up(api, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr(telegram, "TIMEOUT_S", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        where = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert "no answer" in str(telegram.send(Account(TOKEN, ["7"], where), "7", "x"))


def test_the_memory_is_one_file(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "a" / "notify.json")
    memory.told("shop", "k", "tell", NOW)
    memory.save()
    assert Memory(tmp_path / "a" / "notify.json").kept.open["shop"].key == "k"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["notify.json"]


def test_less_of_the_same_trouble_is_nothing_new_more_of_it_is_and_its_end_is_told_when_all_is_well(told, api) -> None:
    both = (PLAN, a_result(BATCHES[0], "failed", error="boom"), Error(code="a_b", message="and that"))
    third = Error(code="c_d", message="a third")
    told(*both)
    told(*BAD, at=NOW + timedelta(hours=1))
    told(*both, at=NOW + timedelta(hours=2))
    assert len(api.texts) == 1
    told(*BAD, third, at=NOW + timedelta(hours=3))
    assert len(api.texts) == 2 and "a third" in api.texts[1][1]
    told(*GOOD, at=NOW + timedelta(hours=4))
    told(*BAD, at=NOW + timedelta(hours=5))
    assert [text.split(":")[0] for _, text in api.texts[2:]] == ["RECOVERED", "FULL REFRESH OF SHOP (DEV)"]
