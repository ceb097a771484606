"""The log: warnings to stderr for people, everything to a dated file; no secret and no control character in either."""

import logging
import logging.handlers
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import IO

from sluice.config import Config

_SECRET_NAME = re.compile(
    r"(PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|CREDENTIAL|CHANNEL_URL)", re.IGNORECASE
)
_SECRET_SHAPES = (
    (re.compile(r"bot\d+:[\w-]+"), "bot***"),
    (re.compile(r"(://[^:/@\s]*:)\S+(?=@)"), r"\1***"),
    (re.compile(r"(https?://)[^:/@\s]+(?=@)"), r"\1***"),  # a token alone
)
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f\x80-\x9f]")
_SHORTEST_SECRET = 6  # shorter values ("true", "5432") would blot out ordinary words


def redactor() -> Callable[[str], str]:
    """A function like `redact` that looks at the environment once, for whoever writes much."""
    secrets = {value for name, value in os.environ.items() if _SECRET_NAME.search(name) and not name.endswith("_FILE")}
    longest_first = sorted(
        (s for s in secrets if len(s) >= _SHORTEST_SECRET), key=len, reverse=True
    )  # one may hold another

    def hide(text: str) -> str:
        for value in longest_first:
            text = text.replace(value, "***")
        for pattern, replacement in _SECRET_SHAPES:
            text = pattern.sub(replacement, text)
        return text

    return hide


def redact(text: str) -> str:
    """`text` without the values of secret-looking environment variables, bot tokens and passwords in URLs."""
    return redactor()(text)


def one_line(text: str) -> str:
    """`text` with line breaks and control characters made visible, so that no name can forge a log line."""
    return _CONTROL.sub(lambda m: f"\\x{ord(m.group()):02x}", text.replace("\n", " ⏎ "))


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = redact(super().format(record))
        head, *trace = text.split("\n")
        return "\n  ".join([one_line(head), *map(one_line, trace)]) if record.exc_info else one_line(text)


def setup(command: str, config: Config, *, verbose: bool, quiet: bool, keep: bool, now: datetime) -> logging.Logger:
    """A logger that writes to stderr from WARNING (INFO with -v, ERROR with -q) and, to `keep` it, to the log file from INFO.

    The file is opened at the first line, so a command that has nothing to say leaves none.
    """
    logger = logging.getLogger("sluice")
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    logger.propagate = False
    logger.handlers.clear()
    # Not its `stamina.retry_scheduled`: whoever tries again says it in words.
    logging.getLogger("stamina").setLevel(logging.ERROR)

    people = _ToPeople(sys.stderr)
    people.setLevel(logging.ERROR if quiet else logging.INFO if verbose else logging.WARNING)
    people.setFormatter(_Formatter(f"{command}: %(message)s"))
    people.addFilter(lambda record: not getattr(record, "file_only", False))
    logger.addHandler(people)
    if not keep:
        return logger

    path = config.log_file or str(config.log_dir / f"sluice-{now:%Y-%m-%d}.log")
    kept = _PrivateFile(path, delay=True, encoding="utf-8")
    kept.setLevel(logging.DEBUG if verbose else logging.INFO)
    formatter = _Formatter(f"%(asctime)sZ %(levelname)-7s {command}[%(process)d] %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = lambda seconds: datetime.fromtimestamp(seconds or 0, UTC).timetuple()
    kept.setFormatter(formatter)
    logger.addHandler(kept)
    return logger


def over_a_bar(text: str, stream: IO[str]) -> str:
    """`text`, on a terminal with what clears its line before: a progress bar may stand there, this command's or another's.

    Write it at once, its line's end with it: in between the bar would be drawn again, and `text` would stand behind it.
    """
    return f"\r\x1b[2K{text}" if stream.isatty() and os.environ.get("TERM") != "dumb" else text


def tell(text: str) -> None:
    """A line on stderr, for people; lost where that cannot be written: what a command does is not for it to decide."""
    with suppress(OSError, ValueError):
        sys.stderr.write(over_a_bar(text, sys.stderr) + "\n")


class _ToPeople(logging.StreamHandler):
    """Where a progress bar of ours stands on the stream, rich is to put lines above it."""

    def emit(self, record: logging.LogRecord) -> None:
        stream = self.stream
        if getattr(sys.stderr, "rich_proxied_file", None) is stream:
            self.stream = sys.stderr
        try:
            super().emit(record)
        finally:
            self.stream = stream

    def format(self, record: logging.LogRecord) -> str:
        return over_a_bar(super().format(record), self.stream)

    def handleError(self, record: logging.LogRecord) -> None:
        """A stderr that cannot be written, on a full disk say, leaves nobody to tell; logging itself would try with a traceback."""


class _PrivateFile(logging.handlers.WatchedFileHandler):
    """A log file for its owner's eyes only, that survives log rotation and never stops a command."""

    def _open(self):
        os.makedirs(os.path.dirname(self.baseFilename), mode=0o700, exist_ok=True)
        fd = os.open(self.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        return os.fdopen(fd, "a", encoding=self.encoding)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        if not getattr(self, "_complained", False):
            self._complained = True
            tell(f"cannot write the log {self.baseFilename}: {sys.exc_info()[1]}")
