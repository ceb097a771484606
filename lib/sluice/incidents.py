"""What people were told: the same trouble once, again after a day, its end once; and what could not be sent yet.

`decide` is pure. `Memory` is one small file in the state folder, replaced as a whole: a message is in it before it is sent
and leaves it afterwards, so a process that dies in between repeats one message at most and loses none. Two processes never
change it at once (`remembered`), nor send what waits in it at once (`alone`).
"""

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import msgspec

from sluice.errors import unavailable
from sluice.ids import content_hash
from sluice.records import Severity

REMIND_AFTER = timedelta(hours=24)
LOCK_S = 120.0  # longer than any message takes
_MOST_UNSENT = 50

Decision = Literal["tell", "remind", "recovered", "quiet"]


class Told(msgspec.Struct):
    """An open incident: `key` is its dedupe key, `since` when it was first told, `troubles` all that was told of since."""

    key: str
    since: datetime
    told_at: datetime
    troubles: list[str] = []


class Unsent(msgspec.Struct):
    """A message that a chat, or another channel by its address, has not got yet."""

    chat: str
    text: str
    at: datetime
    severity: Severity = "INFO"

    @property
    def key(self) -> str:
        return content_hash([self.chat, self.text])


class Kept(msgspec.Struct):
    open: dict[str, Told] = {}
    unsent: list[Unsent] = []


def decide(known: Told | None, key: str | None, now: datetime, troubles: Collection[str] = ()) -> Decision:
    """What to do about a run: `key` is that of its trouble, None when it is well; `known` the open incident of its scope.

    `troubles` are the keys of all that is wrong. Less than was told is nothing new; it is over when all of it is.
    """
    if key is None:
        return "recovered" if known else "quiet"
    if known is None or (known.key != key and not (troubles and set(troubles) <= set(known.troubles))):
        return "tell"
    return "remind" if now - known.told_at >= REMIND_AFTER else "quiet"


@contextmanager
def alone(path: Path, timeout_s: float = LOCK_S) -> Iterator[None]:
    """Nobody else is in here with the same path. Raises SluiceError (69) when it takes too long, or there can be no lock."""
    from filelock import FileLock, Timeout

    lock = FileLock(path.with_name(f"{path.name}.lock"), timeout=timeout_s, mode=0o600)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise unavailable(f"another process has {path} for more than {timeout_s:g} s", code="notify_memory") from None
    except OSError as problem:
        raise unavailable(f"cannot lock {path}: {problem}", code="notify_memory") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def remembered(path: Path) -> Iterator["Memory"]:
    """What was told, for whoever is to change it: nobody else does meanwhile, and it is saved on the way out."""
    with alone(path):
        memory = Memory(path)
        before = msgspec.json.encode(memory.kept)
        yield memory
        if msgspec.json.encode(memory.kept) != before:
            memory.save()


def waiting(path: Path, chat: str) -> list[Unsent]:
    """The messages that wait for one chat, oldest first."""
    return [one for one in Memory(path).kept.unsent if one.chat == chat]


class Memory:
    """The file. Raises SluiceError (69) when it cannot be read or written; a broken one is never taken for an empty one."""

    def __init__(self, path: Path):
        self._path = path
        try:
            self.kept = msgspec.json.decode(path.read_bytes(), type=Kept)
        except FileNotFoundError:
            self.kept = Kept(open={}, unsent=[])
        except (OSError, msgspec.DecodeError) as problem:
            raise unavailable(
                f"what was told is not readable in {path}: {problem}", code="notify_memory", hint=f"move {path} away"
            ) from None

    def told(
        self, scope: str, key: str | None, decision: Decision, now: datetime, troubles: Collection[str] = ()
    ) -> None:
        """Note what was decided about the run of a scope: a project, a target and an intent."""
        known = self.kept.open.get(scope)
        if decision == "recovered":
            del self.kept.open[scope]
        elif key is not None and decision in ("tell", "remind"):
            before = known.troubles if known else []
            self.kept.open[scope] = Told(key, known.since if known else now, now, sorted({*before, *troubles}))

    def queue(self, chats: list[str], text: str, now: datetime, severity: Severity = "INFO") -> None:
        """Put a message up for sending. The oldest go when nobody could be reached for very long."""
        self.kept.unsent = [*self.kept.unsent, *(Unsent(chat, text, now, severity) for chat in chats)][-_MOST_UNSENT:]

    def sent(self, message: Unsent) -> None:
        """Take out one message that is equal to this one."""
        if message in self.kept.unsent:
            self.kept.unsent.remove(message)

    def save(self) -> None:
        """On disk when it returns, for its owner's eyes only."""
        temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(msgspec.json.encode(self.kept))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
        except OSError as problem:
            raise unavailable(f"cannot note in {self._path} what was told: {problem}", code="notify_memory") from None
