"""Hostile texts in a project's meta, in dbt's vars, in make's variables and inside Snowflake: each arrives as it is, or is refused."""

import os
import re
import subprocess
from pathlib import Path

import msgspec
import yaml
from emulated import ask, bound, given_to_dbt
from faults.appending import own_environment
from faults.forks import Call, run_all
from faults.test_injection import TEXTS
from lengths import figure
from test_dbt_package import User

from sluice import full_refresh, snowflake
from sluice.dbt_engine.loader_process import Lender
from sluice.profiles import Credentials
from sluice.warehouse import connect

pytest_plugins = ["servers"]

ROOT = Path(__file__).resolve().parents[2]
KEPT = "{{ config(materialized='incremental', incremental_strategy='append', order_by='tuple()', meta=%s) }}\n"
KEPT += "select {{ sluice.quoted(var('said', '')) }} as symbol {# {{ var('start_month', '') }} {{ var('end_month', '') }} #}"
START = {"start_date": "2024-01-01"}
MAKE = [("dry-run", "IDS"), ("dry-run", "TO"), ("dry-run", "SELECT"), ("clean-logs", "DAYS"), ("validate", "SINCE"), ("refill", "FROM")]  # fmt: skip


def accepted(text: str) -> bool:
    """Whether it may be the value of a var: Jinja and what is no text may not."""
    try:
        full_refresh.checked_vars({"symbol": text})
    except ValueError:
        return False
    return True


def as_meta(text: str) -> list[dict]:
    """Blocks of meta with the text in each place that is no value of a var."""
    stages = [
        {"name": text},
        {"name": "s", "vars": {text: 1}},
        {"name": "s", "vars": {"symbol": "{% raw %}{{ {% endraw %}" + text}},
    ]
    blocks = [{**START, "stages": [stage]} for stage in stages]
    return [*blocks, {"start_date": text}, {**START, text: 1}, {**START, "min_window": text}]


def environment(user: User, folder: Path, lender: Lender) -> dict[str, str]:
    return own_environment(lender) | {
        "DBT_PROJECT_DIR": str(user.project), "SLUICE_STATE_DIR": str(folder / "state"), "SLUICE_LOG_DIR": str(folder / "logs"),
    }  # fmt: skip


def run(env: dict[str, str], lender: Lender, *command: str, given: bytes = b"") -> list[dict]:
    done = subprocess.run(
        [ROOT / "bin" / command[0], *command[1:]], env=env, input=given, capture_output=True, timeout=600,
        pass_fds=lender.pass_fds,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return [msgspec.json.decode(line) for line in done.stdout.splitlines()]


def test_as_vars_of_stages_and_as_columns_of_checks(target: Credentials, lender: Lender, tmp_path: Path) -> None:
    """Each is a row of the table that the batches write, and a column that a check looks at."""
    values = [text for text in filter(accepted, TEXTS) if text.replace(",", "").strip()]  # one without a value: G06
    assert len(values) > len(TEXTS) / 2
    stages = [{"name": f"s{number}", "vars": {"said": text}} for number, text in enumerate(values)]
    # Jinja, through which dbt reads YAML, makes a line break of "\r\n".
    named = [text for text in TEXTS if text.strip() and len(text.encode()) < 60 and "\r" not in text]
    columns = list({text.lower(): text for text in named}.values())
    check = {"check": "null_ratio", "max_ratio": 0, "date_column": None}
    checks = [{**check, "name": f"c{number}", "column": text} for number, text in enumerate(columns)]
    user = User(tmp_path, target)
    (user.project / "models/kept.sql").write_text(KEPT % {"full_refresh": {**START, "stages": stages}})
    (user.project / "models/looked_at.sql").write_text("select 1 as n")
    meta = {"models": [{"name": "looked_at", "config": {"meta": {"checks": checks}}}]}
    (user.project / "models/looked_at.yml").write_text(yaml.safe_dump(meta))
    env = environment(user, tmp_path, lender)
    with connect(target, tag="injection") as warehouse:
        place = warehouse.relation(target.database if target.adapter == "duckdb" else None, target.schema, "looked_at")
        kinds = ", ".join(f"{warehouse.quote(column)} int" for column in columns)
        engine = " engine = MergeTree order by tuple()" if target.adapter == "clickhouse" else ""
        warehouse.execute(f"create table {place} ({kinds}){engine}")
        warehouse.execute(f"insert into {place} values ({', '.join('1' for _ in columns)})")

    planned = run(env, lender, "plan-batches", "--select", "kept", "--to", "2024-01-31")
    assert [record["vars"]["said"] for record in planned if record["type"] == "batch"] == values
    lines = b"".join(msgspec.json.encode(record) + b"\n" for record in planned)
    run(env, lender, "run-dbt-batch", given=lines)
    assert sorted(symbol for (symbol,) in user.query(f"select symbol from {user.schema}.kept")) == sorted(values)
    checked = run(env, lender, "canary-check", "--select", "looked_at", "--since", "2024-01-01", "--to", "2024-01-31")
    assert [one["status"] for one in checked if one["type"] == "check_result"] == ["ok"] * len(columns)

    tables = {name for (name,) in user.query(f"select table_name from information_schema.tables where table_schema = '{target.schema}'")}  # fmt: skip
    assert tables == {"kept", "looked_at", "sluice_commit"}
    figure("hostile vars of stages, columns of checks", dialect=target.adapter, vars=len(values), columns=len(columns), harm=0)  # fmt: skip


def test_where_meta_has_no_text(duckdb_target: Credentials, lender: Lender, tmp_path: Path) -> None:
    """Names of stages and of vars, dates, settings: refused by what they are, before anything runs."""
    user = User(tmp_path, duckdb_target)
    blocks = [places[number % len(places)] for number, places in enumerate(map(as_meta, TEXTS))]
    for number, block in enumerate(blocks):
        (user.project / f"models/m{number}.sql").write_text("select 1 as n")
    models = [
        {"name": f"m{number}", "config": {"meta": {"full_refresh": block}}} for number, block in enumerate(blocks)
    ]
    (user.project / "models/meta.yml").write_text(yaml.safe_dump({"models": models}))
    env = environment(user, tmp_path, lender)
    run(env, lender, "plan-daily", "--select", "narrow")  # dbt parses
    calls = [Call(["plan-batches", "--select", f"m{number}"]) for number in range(len(blocks))]
    refused = 0
    for block, said in zip(blocks, run_all(calls, env), strict=True):
        assert "Traceback" not in said.err, (block, said.err)
        assert said.code in (0, 2, 78), (block, said.code, said.err)
        refused += said.code != 0
    assert not list(tmp_path.rglob("*evil*"))
    figure("hostile meta", blocks=len(blocks), refused=refused, harm=0)
    assert refused > len(blocks) / 2


def test_as_variables_of_make(tmp_path: Path) -> None:
    """In turn one of what people give to make. What make itself expands is the head of the Makefile's to say."""
    env = own_environment() | {
        "SLUICE_STATE_DIR": str(tmp_path / "state"), "SLUICE_LOG_DIR": str(tmp_path / "logs"), "DRY_RUN": "1",
        "SLUICE_DUCKDB_PATH": str(tmp_path / "shop.duckdb"),
    }  # fmt: skip
    before = set(os.listdir(ROOT))
    for number, text in enumerate(TEXTS):
        target, variable = MAKE[number % len(MAKE)]
        text = text.replace("evil", str(tmp_path / "evil"))
        done = subprocess.run(
            ["make", "--silent", target, f"{variable}={text.replace('$', '$$')}"], cwd=ROOT, env=env, capture_output=True,
            stdin=subprocess.DEVNULL, timeout=120,
        )  # fmt: skip
        said = (target, variable, text, done.stderr.decode())
        assert "Traceback" not in said[-1], said
        assert done.returncode in (0, 2), (done.returncode, *said)  # make's own code for whatever a recipe ended with
        assert not (tmp_path / "evil").exists(), said
    assert set(os.listdir(ROOT)) == before
    figure("hostile variables of make", values=len(TEXTS), harm=0)


def test_inside_snowflake_on_its_emulator() -> None:
    """What is given to dbt stays inside its literal, and a name that is none is refused."""
    is_a_name = re.search(r"IF \(NOT (REGEXP_LIKE\(.*?\))\) THEN", snowflake.statement("run_dbt_project"))
    assert is_a_name
    # The emulator takes $name for a variable of the session even inside a literal; Snowflake does not.
    given = [text for text in TEXTS if not re.search(r"\$[A-Za-z]", text)]
    statements = given_to_dbt(given)
    assert {statement.partition("ARGS = ")[0] for statement in statements} == {"EXECUTE DBT PROJECT shop "}
    literals = ask(*({"run": f"SELECT {statement.partition('ARGS = ')[2]}"} for statement in statements))
    assert [answer["rows"] for answer in literals] == [[[text]] for text in given]
    names = [text for text in given if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*){0,2}", text, re.ASCII)]
    taken = ask(*({"run": f"SELECT {bound(is_a_name[1], project_name=text)}"} for text in ["shop", *names]))
    assert [answer["rows"][0][0] for answer in taken] == [True] + [False] * len(names)
    figure(
        "hostile texts inside snowflake", dialect="snowflake (emulator)", arguments=len(given), names=len(names), harm=0
    )
