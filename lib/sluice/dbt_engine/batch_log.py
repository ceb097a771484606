"""A batch's log file: dbt's own messages, and whatever its macros and libraries print."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dbt_common.exceptions import env_secrets

from sluice.dbt_engine.invocation import scrubbed
from sluice.log import redactor

_NOTE = "sluice note: "  # what the macro sluice.note writes before its text
_MOST_NOTES = 20


class BatchLog:
    """Takes over fd 1 and fd 2 of this process; between batches both go where stderr went before.

    `notes` are those that macros made since it was opened.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._outside = os.dup(2)
        self._fd: int | None = None
        self._secrets = env_secrets()
        self._hide = redactor()
        os.dup2(self._outside, 1)

    def open(self, path: Path) -> None:
        """Start writing to `path`, appending: a second attempt continues the first one's file."""
        self.close()
        self.notes = []
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.dup2(self._fd, 1)
        os.dup2(self._fd, 2)

    def close(self) -> None:
        if self._fd is None:
            return
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(self._outside, 1)
        os.dup2(self._outside, 2)
        os.close(self._fd)
        self._fd = None

    def event(self, event: Any) -> None:
        """dbt's callback for each of its events."""
        info = event.info
        if self._fd is None or not info.msg:
            return
        text = info.msg
        for secret in self._secrets:
            text = text.replace(secret, "*****")
        text = self._hide(text)
        if info.name == "JinjaLogInfo" and text.startswith(_NOTE) and len(self.notes) < _MOST_NOTES:
            self.notes.append(text.removeprefix(_NOTE))
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds")[11:23]
        os.write(self._fd, f"{stamp} {info.level:<5} {text}\n".encode(errors="replace"))

    def write(self, text: str) -> None:
        if self._fd is not None:
            os.write(self._fd, (self._hide(scrubbed(text)) + "\n").encode(errors="replace"))
