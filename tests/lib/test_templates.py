"""Compiled Jinja is kept, in files too, and never taken for that of another text."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest
from jinja2 import Environment
from jinja2.sandbox import SandboxedEnvironment

from sluice.dbt_engine import templates

TEXT = "select {{ 1 + 1 }}"


def apart(work: Callable[[], None]) -> None:
    """In a process of its own: what is kept in memory, and the change to Jinja, end with it."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(60)
    assert process.exitcode == 0


def renders(folder: Path, text: str = TEXT, expected: str = "select 2", kind: type[Environment] = Environment) -> None:
    def work() -> None:
        templates.keep_compiled(folder)
        assert kind().from_string(text).render() == expected

    apart(work)


def test_a_second_process_compiles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    renders(tmp_path)
    monkeypatch.setattr(templates, "_compile_anew", None)
    renders(tmp_path)


def test_another_text_and_another_kind_of_environment_are_compiled_anew(tmp_path: Path) -> None:
    renders(tmp_path)
    renders(tmp_path, "select {{ 2 + 2 }}", "select 4")
    renders(tmp_path, kind=SandboxedEnvironment)
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("damage", [lambda code: b"", lambda code: code[:-3], lambda code: b"x" * len(code)])
def test_a_damaged_file_is_made_anew(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    renders(tmp_path)
    (kept,) = tmp_path.iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(damage(whole))
    renders(tmp_path)
    assert kept.read_bytes() == whole


def test_without_the_folder_all_goes_on(tmp_path: Path) -> None:
    def work() -> None:
        templates.keep_compiled(tmp_path / "kept")
        (tmp_path / "kept").rmdir()
        assert Environment().from_string(TEXT).render() == "select 2"

    apart(work)


def test_a_folder_that_has_grown_is_emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "_MOST", 2)
    for number in range(5):
        renders(tmp_path, f"select {number}", f"select {number}")
    assert len(list(tmp_path.iterdir())) <= 3
