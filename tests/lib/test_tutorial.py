"""docs/tutorial.md, typed as it stands: its blocks of bash one after the other on a terminal, on DuckDB, with real dbt.

The whole hour starts dbt a dozen times and is marked long; that the commands and options exist is looked at each time.
"""

import os
import pty
import re
import subprocess
from pathlib import Path

import duckdb
import pytest
import terminal

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/tutorial.md").read_text()
BLOCK = re.compile(r"^```bash(?: press Ctrl-C at batch (?P<stop>\d+))?\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def typed(home: Path) -> list[str]:
    """All blocks in their order; what each of them said. Variables live on from one to the next, as in a shell."""
    world = {
        "HOME": str(home), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TERM": "xterm", "COLUMNS": "150",
        "SLUICE_STATE_DIR": str(home / "state"), "SLUICE_LOG_DIR": str(home / "logs"),
        "SLUICE_STATE": "", "DBT_TARGET": "", "DBT_PROFILES_DIR": "", "SLUICE_LOG_FILE": "",
    }  # fmt: skip
    said = []
    for block in BLOCK.finditer(TEXT):
        wanted = re.findall(r"# exit (\d+)$", block["code"], re.MULTILINE)
        text, status = _typed(block["code"], world, home / "variables", block["stop"])
        assert status == int(wanted[-1] if wanted else 0), f"{block['code']}\n{text}"
        said.append(text)
    return said


def _typed(code: str, world: dict[str, str], variables: Path, stop: str | None) -> tuple[str, int]:
    """Run a block on a terminal; with `stop` Ctrl-C is pressed when that batch is over."""
    script = f"set -eo pipefail\n[[ ! -e {variables} ]] || . {variables}\n{code}\nexport -p >{variables}\n"
    pid, ours = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execve("/bin/bash", ["bash", "-c", script], world)
    seen = b""
    for part in terminal.parts(ours):
        seen += part
        if stop and f"[{stop}/".encode() in seen:
            os.write(ours, b"\x03")
            stop = None
    plain = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", seen).decode(errors="replace")
    plain = re.sub(r"[\r\n]+", "\n", plain)
    return plain, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _query(home: Path, sql: str) -> list[tuple]:
    with duckdb.connect(str(home / "jaffle/jaffle.duckdb"), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def test_the_tutorial_names_commands_and_options_that_there_are() -> None:
    code = "\n".join(block["code"] for block in BLOCK.finditer(TEXT))
    named: dict[str, set[str]] = {}
    for part in re.split(r"[|\n']", code):
        words = part.split("#")[0].split()
        if words and (ROOT / "bin" / words[0]).is_file():
            named.setdefault(words[0], set()).update(word for word in words if word.startswith("--"))
    assert len(named) >= 8
    for command, options in named.items():
        shown = subprocess.run([ROOT / "bin" / command, "--help"], capture_output=True, text=True, check=True).stdout
        assert all(re.search(rf"^\s.*{option}\b", shown, re.MULTILINE) for option in options), (command, options)
    for target in re.findall(r"^make(?: --silent)? ([a-z-]+)", code, re.MULTILINE):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target
    for link in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (ROOT / "docs" / link).exists(), link


@pytest.mark.long
def test_the_first_hour_as_it_stands_in_the_tutorial(home: Path, typed: list[str]) -> None:
    doctor, refused, plan, interrupted, resumed, refill, daily, notify = typed
    assert re.search(r"^ok +parse +jaffle: 5 models", doctor, re.MULTILINE)
    assert "G14 ignored-vars: models/sales.yml: model sales_daily: it does not read start_month, end_month" in refused
    assert "full refresh of jaffle on dev, to 2026-06-30: 10 batches" in plan
    assert "cancelled after 3 of 10 batches; go on with: plan-batches --resume | run-dbt-batch" in interrupted
    assert "[4/10]" in resumed
    assert "[3/10]" not in resumed
    assert "run-dbt-batch: ok 7" in resumed
    assert "report.html" in resumed
    assert "each-wave: " in refill
    assert "exit 0" in refill
    assert "FAILED" not in daily
    assert "notify --test --channel URL" in notify

    orders = home / "jaffle/data/orders.csv"
    truth = duckdb.sql(
        f"select date_trunc('month', ordered_on), count(*), round(sum(amount_cents) / 100.0, 2) from read_csv('{orders}') "
        "group by 1 order by 1"
    ).fetchall()
    assert _query(home, "select month, orders, round(revenue, 2) from sales_monthly order by 1") == truth
    assert sum(row[1] for row in truth) == 123
