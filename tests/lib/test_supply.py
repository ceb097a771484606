"""What is installed: by hashes alone, without the network once it is fetched, and nothing that runs by itself at Python's start."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted(path.name for path in ROOT.glob("requirements*.txt"))
# A .pth file is code that every start of Python runs.
STARTS_BY_ITSELF = {"distutils-precedence.pth"}  # of setuptools


def test_nothing_runs_by_itself_when_python_starts() -> None:
    found = {path.name for path in Path(sysconfig.get_path("purelib")).glob("*.pth")}
    assert found <= STARTS_BY_ITSELF, f"who brought {found - STARTS_BY_ITSELF}?"


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_every_file_by_its_hash_and_no_place(lock: str) -> None:
    text = (ROOT / lock).read_text()
    entries = text.replace("\\\n", " ").splitlines()
    pinned = [entry for entry in entries if entry.strip() and not entry.lstrip().startswith("#")]
    assert pinned
    for entry in pinned:
        assert "==" in entry and "--hash=sha256:" in entry, entry
    assert "://" not in text and "--index" not in text


@pytest.mark.long
def test_what_was_fetched_is_installed_without_a_network_and_a_wrong_byte_is_refused(tmp_path: Path) -> None:
    fetched, offline = tmp_path / "fetched", ["unshare", "--map-root-user", "--net"]
    lock = ROOT / "requirements.txt"
    pip = [sys.executable, "-m", "pip"]
    subprocess.run(
        [*pip, "download", "--quiet", "--require-hashes", "--only-binary", ":all:", "-r", lock, "-d", fetched],
        check=True,
    )
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    install = [
        tmp_path / "venv/bin/pip",
        "install",
        "--quiet",
        "--no-compile",
        "--require-hashes",
        "--no-index",
        "--find-links",
        fetched,
        "-r",
    ]
    # A wheel that this machine's pip finds elsewhere would be taken in place of the wrong one.
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    alone["PIP_CONFIG_FILE"] = os.devnull
    subprocess.run([*offline, *install, lock], env=alone, check=True)
    # Not a script of bin/, which would look for the Python of this checkout.
    imports = "import dbt.cli.main, duckdb, pydantic, typer, sluice.command, sluice.notify"
    subprocess.run(
        [tmp_path / "venv/bin/python", "-c", imports], env=alone | {"PYTHONPATH": str(ROOT / "lib")}, check=True
    )

    wheel = next(fetched.glob("typer-*.whl"))
    content = wheel.read_bytes()
    wheel.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # of an empty comment's length: it can still be unpacked
    shutil.rmtree(tmp_path / "venv")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    refused = subprocess.run([*offline, *install, lock], env=alone, capture_output=True, text=True)
    assert refused.returncode != 0 and "DO NOT MATCH THE HASHES" in refused.stderr
