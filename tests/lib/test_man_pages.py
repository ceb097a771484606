"""Man pages and completion: made from the commands themselves, and read by the programs that they are for."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from sluice import completion, docs, man_pages

ROOT = Path(__file__).resolve().parents[2]


def test_a_page_has_what_help_has(tmp_path: Path) -> None:
    page = man_pages.page("plan-batches")
    assert page.startswith('.TH "PLAN-BATCHES" 1')
    sections = [line.removeprefix(".SH ") for line in page.splitlines() if line.startswith(".SH ")]
    assert sections == ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "SEE ALSO"]
    assert "plan\\-batches \\- Plan a staged full refresh" in page
    assert "\\-\\-max\\-added\\-stages" in page
    assert page.count("meta.full_refresh") >= 1
    groff = shutil.which("groff")
    if groff:  # what every Debian has; elsewhere the text above must do
        (tmp_path / "p.1").write_text(page)
        made = subprocess.run(
            [groff, "-K", "utf8", "-man", "-T", "utf8", "-ww", "-P", "-c", tmp_path / "p.1"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert made.stderr == ""
        assert "--max-added-stages" in made.stdout


def test_text_is_never_taken_for_a_request() -> None:
    assert man_pages._escaped(".env\n'x'\na\\b -n") == "\\&.env\n\\&'x'\na\\eb \\-n"


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_every_command_is_completed(shell: str) -> None:
    script = completion.script(shell)
    for name in docs.scripts():
        assert f"_{name.replace('-', '_').upper()}_COMPLETE" in script


def test_bash_completes_flags_and_words() -> None:
    script = completion.script("bash") + (
        'for words in "sluice-state r" "sluice-doctor --max"; do\n'
        "COMP_WORDS=($words) COMP_CWORD=1 COMPREPLY=()\n"
        '_${COMP_WORDS//-/_}_completion "${COMP_WORDS[0]}"; echo "${COMPREPLY[@]}"; done\n'
    )
    environment = {**os.environ, "PATH": f"{ROOT / 'bin'}:{os.environ['PATH']}"}
    told = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert told.stdout.splitlines() == ["runs resolve rebuild", "--max-age"]


def test_zsh_sets_its_completion_up_first_where_nobody_has() -> None:
    script = completion.script("zsh")
    assert script.index("compinit") < script.index("compdef _")
    zsh = shutil.which("zsh")
    if zsh:  # elsewhere the text above must do
        told = subprocess.run(
            [zsh, "-f", "-c", script + "print $_comps[run-dbt-batch]"], capture_output=True, text=True
        )
        assert (told.stdout, told.stderr) == ("_run_dbt_batch_completion\n", "")
