"""A terminal of a test's own: what a command draws there, line by line as a person sees it, and what is left at the end."""

import os
import pty
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PART = re.compile(r"\x1b\[(?P<count>\d*)(?P<move>[A-Z])|\x1b\[[0-9;?]*[a-z]|(?P<one>.)", re.DOTALL)


@dataclass(frozen=True)
class Seen:
    """`drawn` are all lines that ever stood there, in their order; `left` is what still does; `out` came on a stdout apart."""

    drawn: list[str]
    left: list[str]
    out: bytes
    exit_code: int


def watched(
    command: Sequence[str | Path], env: Mapping[str, str], *, cwd: Path | None = None, columns: int = 140,
    is_apart: bool = False,
) -> Seen:  # fmt: skip
    """Run a command whose stderr is a terminal, and its stdout, too, unless it `is_apart`."""
    ours, theirs = pty.openpty()
    world = {key: value for key, value in env.items() if key not in ("NO_COLOR", "FORCE_COLOR")}
    world |= {"TERM": "xterm-256color", "COLUMNS": str(columns)}
    out = subprocess.PIPE if is_apart else theirs
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=theirs, env=world, cwd=cwd) as process:
        os.close(theirs)
        drawn = b"".join(parts(ours))
        said = process.stdout.read() if process.stdout is not None else b""
        code = process.wait()
    seen, left = _emulated(drawn.decode(), columns)
    return Seen(seen, left, said, code)


def parts(terminal: int) -> Iterator[bytes]:
    """What is written to it, until nobody is left who could write; then it is closed."""
    with suppress(OSError):  # Linux: the other side is gone
        while part := os.read(terminal, 65536):
            yield part
    os.close(terminal)


def _emulated(text: str, columns: int) -> tuple[list[str], list[str]]:
    """Every line that stood there before the cursor left it or it was cleared, and those that stand there at the end."""
    lines, drawn = [""], []
    row = column = 0
    for part in _PART.finditer(text):
        one, move, count = part["one"], part["move"], int(part["count"] or 1)
        if one == "\r" or one == "\n" or move:
            drawn.append(lines[row].rstrip())
        if one == "\n" or (one and one != "\r" and column == columns):
            row, column = row + 1, column if one == "\n" else 0
            lines += [""] * (row + 1 - len(lines))
        if one == "\r":
            column = 0
        elif one and one != "\n":
            lines[row] = lines[row].ljust(column)[:column] + one + lines[row][column + 1 :]
            column += 1
        elif move == "A":
            row = max(0, row - count)
        elif move == "K":
            lines[row] = "" if count == 2 else lines[row][:column]
    return [line for line in drawn if line], [line.rstrip() for line in lines]
