"""Completion for bash, zsh and fish: `make completion` writes a file for each shell, all commands in it.

The scripts are typer's own. What could follow is asked of the command itself, so they never need to be written anew.
"""

import sys
from pathlib import Path

from sluice.docs import scripts

SHELLS = ("bash", "zsh", "fish")
# In a zsh that was not set up yet there is no `compdef`, and each command would be an error of its own.
_FIRST = {"zsh": "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }\n\n"}


def script(shell: str) -> str:
    """The completion of all commands for one shell."""
    from typer.completion import get_completion_script

    def of(name: str) -> str:
        return get_completion_script(
            prog_name=name, complete_var=f"_{name.replace('-', '_').upper()}_COMPLETE", shell=shell
        )

    return _FIRST.get(shell, "") + "\n\n".join(map(of, scripts())) + "\n"


def main(folder: Path) -> None:
    """Write the files and say how to use them."""
    folder.mkdir(parents=True, exist_ok=True)
    for shell in SHELLS:
        path = folder / f"sluice.{shell}"
        path.write_text(script(shell))
        print(f"{shell}: source {path}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
