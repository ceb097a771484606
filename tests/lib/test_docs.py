"""The docs: generated pages are what the code says, and every refusal has its entry in the runbook."""

import re
from pathlib import Path

from sluice import docs

ROOT = Path(__file__).resolve().parents[2]


def test_generated_pages_are_up_to_date(capsys):
    assert docs.main(["--check"]) == 0, capsys.readouterr().err


def test_a_page_that_was_edited_by_hand_is_noticed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(docs, "ROOT", tmp_path)
    monkeypatch.setattr(docs, "commands_page", lambda: "x")
    monkeypatch.setattr(docs, "readme", lambda: "y")
    assert docs.main(["--check"]) == 1
    assert "README.md is not what the code says" in capsys.readouterr().err


def test_every_code_of_an_error_has_an_entry_in_the_runbook():
    source = "".join(path.read_text() for path in (ROOT / "lib").rglob("*.py"))
    codes = set(re.findall(r"""code(?:: str)? ?= ?"([a-z]+(?:_[a-z]+)+)\"""", source))
    assert len(codes) > 40
    runbook = (ROOT / "docs/runbook.md").read_text()
    assert {code for code in codes if f"`{code}`" not in runbook} == set()


def test_every_exit_code_that_a_command_names_is_in_the_runbook():
    table = set(re.findall(r"^\| ([\d ]+) \|", (ROOT / "docs/runbook.md").read_text(), re.MULTILINE))
    known = {int(code) for cell in table for code in cell.split()}
    for script in docs.scripts():
        exits = re.search(r"^Exits +(.*)$", docs.docstring(script), re.MULTILINE)
        assert exits, script
        assert {int(code) for code in re.findall(r"(?:^|  )(\d+) ", exits[1])} <= known, script
