"""Man pages from the docstrings of the commands and their flags: `make man` writes them, `man -M share/man plan-batches` reads."""

import sys
from pathlib import Path

from sluice import __version__, config
from sluice.docs import docstring, help_of, scripts

_SECTIONS = ("Arguments:", "Options:")


def page(name: str) -> str:
    """One page as roff. The text keeps its lines: it is set out for a terminal already."""
    what, _, told = docstring(name).partition("\n")
    flags = help_of(name)
    parts = [
        ("NAME", f"{name} - {what.rstrip('.')}", False),
        ("SYNOPSIS", flags.partition("\n")[0].removeprefix("Usage: "), True),
        ("DESCRIPTION", told.strip("\n"), True),
        ("ARGUMENTS", _section(flags, "Arguments:"), True),
        ("OPTIONS", _section(flags, "Options:"), True),
        ("SEE ALSO", ", ".join(f"{other}(1)" for other in scripts() if other != name), False),
    ]
    body = [
        f".SH {title}\n" + (f".nf\n{_escaped(text)}\n.fi" if as_it_is else _escaped(text))
        for title, text, as_it_is in parts
        if text
    ]
    return "\n".join([f'.TH "{name.upper()}" 1 "" "Sluice {__version__}" "Sluice"', *body]) + "\n"


def _section(text: str, title: str) -> str:
    """The lines below a title of the help, up to the next one."""
    kept: list[str] = []
    inside = False
    for line in text.splitlines():
        if line in _SECTIONS:
            inside = line == title
        elif inside and line.strip():
            kept.append(line.removeprefix("  "))
    return "\n".join(kept)


def _escaped(text: str) -> str:
    """Text that roff takes for nothing else: no request at the start of a line, no escape, hyphens that can be copied."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join(f"\\&{line}" if line.startswith((".", "'")) else line for line in text.split("\n"))


def main(folder: Path) -> None:
    """Write a page for each command below `folder`."""
    pages = folder / "man1"
    pages.mkdir(parents=True, exist_ok=True)
    for name in scripts():
        (pages / f"{name}.1").write_text(page(name))
    print(f"man -M {folder} {scripts()[0]}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else config.ROOT / "share" / "man").absolute())
