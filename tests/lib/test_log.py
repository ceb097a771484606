"""The log: no secret, no forged line, nobody else's eyes, and never in the way."""

import contextlib
import io
import logging
import os
import re
import stat
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import stamina
from hypothesis import given
from hypothesis import strategies as st

from sluice import log
from sluice.config import Config, load
from sluice.log import one_line, redact

NOW = datetime(2024, 2, 29, 12, tzinfo=UTC)


@pytest.fixture
def logger(own_settings: Config) -> Iterator[logging.Logger]:
    yield from _logger(own_settings)


def _logger(
    config: Config, *, verbose: bool = False, quiet: bool = False, keep: bool = True
) -> Iterator[logging.Logger]:
    made = log.setup("plan-batches", config, verbose=verbose, quiet=quiet, keep=keep, now=NOW)
    yield made
    for handler in made.handlers:
        with contextlib.suppress(OSError):  # as logging itself does at the end of a process
            handler.close()
    made.handlers.clear()


def written(config: Config) -> str:
    return (config.log_dir / "sluice-2024-02-29.log").read_text()


# -- secrets ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "DBT_ENV_SECRET_X",
        "WAREHOUSE_PASSWORD",
        "PGPASSWORD",
        "pg_passwd",
        "TELEGRAM_BOT_TOKEN",
        "MY_API_KEY",
        "AWS_SECRET_ACCESS_KEY",
        "PRIVATE_KEY",
        "GOOGLE_CREDENTIALS",
        "ACCESSKEY",
    ],
)
def test_values_of_secret_variables_are_blotted_out(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "s3cr3t-value")
    assert redact("a s3cr3t-value, twice: s3cr3t-value") == "a ***, twice: ***"


def test_what_is_no_secret_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_HOST", "db.example.org")
    monkeypatch.setenv("USE_TOKEN", "true")  # too short to be one
    monkeypatch.setenv("PASSWORD_FILE", "/run/secrets/password")
    text = "true: db.example.org reads /run/secrets/password"
    assert redact(text) == text


def test_a_secret_within_a_longer_one_does_not_leave_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "abcdef")
    monkeypatch.setenv("B_TOKEN", "abcdef-and-more")
    assert redact("x abcdef-and-more y") == "x *** y"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://api.telegram.org/bot123456:AAF-x_y9/sendMessage", "https://api.telegram.org/bot***/sendMessage"),
        ("postgresql://me:pa55@db:5432/x", "postgresql://me:***@db:5432/x"),
        ("postgresql://me:p%40ss@db/x", "postgresql://me:***@db/x"),
        ("postgresql://me:p@ss@db/x", "postgresql://me:***@db/x"),
        ("redis://:pa55@db and http://a:b@c", "redis://:***@db and http://a:***@c"),
        ("https://ghp_t0ken@host/x and http://t0ken@c:80", "https://***@host/x and http://***@c:80"),
        ("http://host:8123/path", "http://host:8123/path"),
        ("https://host/x?mail=a@b.org", "https://host/x?mail=a@b.org"),
    ],
)
def test_secrets_are_known_by_their_shape(text: str, expected: str) -> None:
    assert redact(text) == expected


def test_no_secret_reaches_stderr_or_the_file(
    own_settings: Config, logger: logging.Logger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("WAREHOUSE_PASSWORD", "hunter2hunter2")
    logger.handlers[0].setStream(sys.stderr)
    logger.warning("connect %s", {"password": "hunter2hunter2"})
    try:
        raise ValueError("postgresql://me:other@db hunter2hunter2")
    except ValueError:
        logger.exception("it broke")
    for text in (capsys.readouterr().err, written(own_settings)):
        assert "it broke" in text
        assert "ValueError" in text
        assert not re.search("hunter2|other@", text)


# -- forged lines ---------------------------------------------------------------------------------------------


@given(st.text())
def test_one_line_is_one_line_without_control_characters(text: str) -> None:
    line = one_line(text)
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in line)
    assert len(line.splitlines()) <= 1 or re.search("[\u2028\u2029]", text)


def test_what_is_readable_stays_readable() -> None:
    assert one_line("naïve 名 ☔\tx\x1b[31m\r\n2024") == "naïve 名 ☔\\x09x\\x1b[31m\\x0d ⏎ 2024"


def test_no_name_and_no_exception_can_forge_a_log_line(own_settings: Config, logger: logging.Logger) -> None:
    forged = "x\n2024-02-29T12:00:00Z INFO    plan-batches[1] all is well"
    logger.warning("model %s", forged)
    try:
        raise ValueError(forged)
    except ValueError:
        logger.exception("broke %s", forged)
    lines = written(own_settings).splitlines()
    genuine = [line for line in lines if re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (INFO|WARNING|ERROR) ", line)]
    assert len(genuine) == 2
    assert all(f"plan-batches[{os.getpid()}]" in line for line in genuine)


# -- the file ---------------------------------------------------------------------------------------------------


def test_the_file_is_its_owners_alone(own_settings: Config, logger: logging.Logger) -> None:
    before = os.umask(0)
    try:
        logger.info("x")
    finally:
        os.umask(before)
    path = own_settings.log_dir / "sluice-2024-02-29.log"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_command_with_nothing_to_say_leaves_no_file(own_settings: Config, logger: logging.Logger) -> None:
    logger.debug("x")
    assert not own_settings.log_dir.exists()


def test_a_rehearsal_leaves_no_file(own_settings: Config) -> None:
    for logger in _logger(own_settings, keep=False):
        logger.error("x")
    assert not own_settings.log_dir.exists()


def test_a_symlink_is_not_followed_and_said_once(
    own_settings: Config, logger: logging.Logger, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    own_settings.log_dir.mkdir()
    (own_settings.log_dir / "sluice-2024-02-29.log").symlink_to(tmp_path / "victim")
    logger.info("x")
    logger.info("y")
    assert not (tmp_path / "victim").exists()
    assert capsys.readouterr().err.count("cannot write the log") == 1


@pytest.mark.parametrize("trouble", ["folder is a file", "file is a folder", "full disk"])
def test_a_log_that_cannot_be_written_stops_nothing(
    own_settings: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, trouble: str
) -> None:
    if trouble == "folder is a file":
        own_settings.log_dir.write_text("")
    elif trouble == "file is a folder":
        (own_settings.log_dir / "sluice-2024-02-29.log").mkdir(parents=True)
    else:
        monkeypatch.setenv("SLUICE_LOG_FILE", "/dev/full")
    for logger in _logger(load()):
        for _ in range(3):
            logger.info("x")
    assert capsys.readouterr().err.count("cannot write the log") == 1


def test_a_stderr_that_cannot_be_written_stops_nothing(
    own_settings: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    full = os.fdopen(os.open("/dev/full", os.O_WRONLY), "w", buffering=1)
    monkeypatch.setattr(sys, "stderr", full)
    monkeypatch.setenv("SLUICE_LOG_FILE", "/dev/full")
    for logger in _logger(load()):
        logger.warning("x")
    log.tell("y")
    monkeypatch.undo()
    assert capsys.readouterr().err == ""
    with contextlib.suppress(OSError):
        full.close()


def test_a_rotated_log_goes_on_in_a_new_file(own_settings: Config, logger: logging.Logger) -> None:
    path = own_settings.log_dir / "sluice-2024-02-29.log"
    logger.info("one")
    logger.info("two")
    path.rename(path.with_suffix(".1"))
    logger.info("three")
    assert path.with_suffix(".1").read_text().count("\n") == 2
    assert "three" in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_of_ones_own_is_appended_to(
    own_settings: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "refresh.log"
    own.write_text("before\n")
    monkeypatch.setenv("SLUICE_LOG_FILE", str(own))
    for logger in _logger(load()):
        logger.info("after")
    assert [line.rsplit(" ", 1)[-1] for line in own.read_text().splitlines()] == ["before", "after"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, ["warning", "error"]), ({"verbose": True}, ["info", "warning", "error"]), ({"quiet": True}, ["error"])],
)
def test_people_see_what_they_asked_for(own_settings: Config, options: dict, expected: list[str]) -> None:
    for logger in _logger(own_settings, **options):
        seen = io.StringIO()
        logger.handlers[0].setStream(seen)
        for level in ("debug", "info", "warning", "error"):
            getattr(logger, level)(level)
        logger.error("for the file", extra={"file_only": True})
    assert seen.getvalue().splitlines() == [f"plan-batches: {level}" for level in expected]
    assert "for the file" in written(own_settings)


def test_only_who_tries_again_says_so(logger: logging.Logger, caplog: pytest.LogCaptureFixture) -> None:
    for attempt in stamina.retry_context(on=OSError, attempts=2, wait_initial=0, wait_max=0, wait_jitter=0):
        with attempt:
            if attempt.num == 1:
                raise OSError
    assert caplog.records == []
