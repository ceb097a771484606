"""A clock that a test sets: faketime gives it to commands in place of the machine's, from a file, so that it can change while they run."""

import time
from datetime import UTC, datetime
from pathlib import Path


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


class Clock:
    """What the commands under it take for the time; between two settings it goes on."""

    def __init__(self, file: Path):
        self._file = file

    def set(self, text: str) -> None:
        ahead_s = moment(text).timestamp() - time.time()
        new = self._file.with_suffix(".new")
        new.write_text(f"{ahead_s:+.3f}\n")
        new.replace(self._file)

    @property
    def environment(self) -> dict[str, str]:
        return {"FAKETIME_TIMESTAMP_FILE": str(self._file), "FAKETIME_NO_CACHE": "1"}

    def under(self, *command: str | Path) -> list[str | Path]:
        return ["faketime", "-m", "--exclude-monotonic", "-f", "+0", "env", "--unset=FAKETIME", *command]
