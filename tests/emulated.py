"""Snowflake for tests: an emulator in an environment of its own, asked in one process for many statements."""

import json
import re
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from restarts import NOW, Log

from sluice import snowflake

ROOT = Path(__file__).resolve().parents[1]
PYTHON = ROOT / ".venv-snowflake" / "bin" / "python"
COLUMNS = ("job", "action", "reason", "selector", "retry_of", "retry", "models", "total", "estimate_s", "full_s", "saved_s", "running_session")  # fmt: skip
_AT = "value:at::VARCHAR::TIMESTAMP_TZ"


def ask(*asked: dict[str, str]) -> list[dict[str, Any]]:
    """The answers of tests/on_fakesnow.py."""
    if not PYTHON.exists():
        pytest.fail("no emulator of Snowflake is installed here\n  try: make .venv-snowflake/.installed")
    done = subprocess.run(
        [PYTHON, ROOT / "tests/on_fakesnow.py"], input=json.dumps(asked), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def run(*statements: str) -> list[list]:
    """The rows of the last of the statements, after the set-up. Each must be carried out."""
    everything = [*snowflake.tables(), *snowflake.views(), *statements]
    answers = ask(*({"run": sql} for sql in everything))
    for sql, answer in zip(everything, answers, strict=True):
        assert "error" not in answer, f"{sql[:300]}\n{answer['error']}"
    return answers[-1]["rows"]


def log(histories: list[Log]) -> list[str]:
    """Statements that write the histories into the log."""
    events = [event for history in histories for event in history.events]
    nodes = [node for history in histories for node in history.nodes]
    return [
        f"""INSERT INTO sluice.run_event (event, "AT", run_id, root_run_id, plan_id, project_name, environment, intent, attempt,
                run_status, retry_of, pid)
            SELECT value:event::VARCHAR, {_AT}, value:run_id::VARCHAR, value:root_run_id::VARCHAR, 'plan', value:project_name::VARCHAR,
                'dev', value:intent::VARCHAR, value:attempt::INTEGER, value:run_status::VARCHAR, value:retry_of::VARCHAR, value:pid::INTEGER
            FROM {_rows(events)}""",
        f"""INSERT INTO sluice.model_event ("AT", run_id, project_name, model_name, unique_id, batch_id, status, duration_seconds)
            SELECT '2026-04-17 00:00:00+00:00'::TIMESTAMP_TZ, value:run_id::VARCHAR, 'shop', value:model_name::VARCHAR,
                value:unique_id::VARCHAR, value:run_id::VARCHAR, value:status::VARCHAR, value:duration_seconds::DOUBLE
            FROM {_rows(nodes)}""",
    ]  # fmt: skip


def decisions(histories: list[Log]) -> dict[str, dict[str, Any]]:
    """What the decision query says of each job, asked once for all of them: the same text, with many who ask in place of one."""
    asked = " UNION ALL ".join(
        f"SELECT {_literal(h.job)} AS job, {h.policy.max_retry_age_hours}::DOUBLE AS max_retry_age_hours, "
        f"{h.policy.max_attempts} AS max_attempts, {_literal(NOW)} AS decided_at"
        for h in histories
    )
    query, replaced = re.subn(
        r"(WITH asked AS \().*?(\n\),\n)", rf"\1{asked}\2", snowflake.statement("decision"), count=1, flags=re.S
    )
    assert replaced == 1
    return {row[0]: dict(zip(COLUMNS, row, strict=True)) for row in run(*log(histories), query)}


def bound(statement: str, **values: object) -> str:
    """A statement with its variables as literals, as Snowflake's scripting would bind them."""
    return re.sub(r"(?<!:):([a-z_]+)\b", lambda name: _literal(values[name[1]]), statement)


def given_to_dbt(args: list[str]) -> list[str]:
    """The statements that RUN_DBT_PROJECT puts together for a project called shop."""
    put_together = re.search(r"statement := (.*?);\n", snowflake.statement("run_dbt_project"), re.DOTALL)
    assert put_together
    expression = re.sub(r"\b(args|project_name)\b", r":\1", put_together[1])
    built = ask(*({"run": f"SELECT {bound(expression, args=text, project_name='shop')}"} for text in args))
    return [answer["rows"][0][0] for answer in built]


def _literal(value: object) -> str:
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
    if isinstance(value, datetime):
        return f"'{value:%Y-%m-%d %H:%M:%S}+00:00'::TIMESTAMP_TZ"
    return "NULL" if value is None else str(value)


def _rows(rows: list[dict]) -> str:
    return f"TABLE(FLATTEN(INPUT => PARSE_JSON({_literal(json.dumps(rows))})))"
