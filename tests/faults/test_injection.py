"""Hostile names and values at every place where something comes in: what is meant happens, and nothing else."""

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from builders import a_batch, a_plan
from faults.forks import Call, run_all
from lengths import SEED, figure, many
from test_dbt_package import User, operation

from sluice.profiles import Credentials
from sluice.warehouse import connect

pytest_plugins = ["servers"]

QUOTES = ["'", '"', "`", "''", '""', "``", "\\", "\\'", '\\"', "\\`", "$$", "$x$", "E'", "N'", "\u2019", "\uff07"]
ENDS = [";", "--", "#", "/*", "*/", ")", "'))", "\n", "\r\n", "\t", "%00", "\x1b[2J", "\u202e", "\x85", " "]
ACTS = [
    "drop table canary", "create table evil (n int)", "or 1=1", "union select 1", "$(touch evil)", "`touch evil`", "| touch evil",
    "> evil", "../../evil", "/etc/passwd", "{x:String}", "%s", "%(x)s", "$1", "$day", ":name", "?", "@@version", "${HOME}",
    "copy canary to 'evil'", "attach 'evil'", "--select", "-n", "*", "tag:x", "path:..", "@evil", "+evil+", "ünï ☃", "名", "NULL", "true",
]  # fmt: skip


def corpus(count: int) -> list[str]:
    """`count` different texts, the plain fragments first."""
    dice = random.Random(f"{SEED} injection")
    texts = dict.fromkeys([*QUOTES, *ENDS, *ACTS] if count >= 100 else dice.sample([*QUOTES, *ENDS, *ACTS], count // 2))
    while len(texts) < count:
        pieces = [dice.choice(kind) for kind in (QUOTES, ENDS, ACTS, ENDS, QUOTES)]
        texts["".join(pieces[dice.randrange(3) :])] = None
    return list(texts)[:count]


TEXTS = corpus(many(16, 300))


@pytest.mark.sized
def test_as_names_and_as_values_in_each_dialect(target: Credentials) -> None:
    names = [text for text in TEXTS if text.strip() and len(text.encode()) < 60]
    if target.adapter == "clickhouse":  # a table there is a folder, and takes its time
        names = names[::3]
    database = target.database if target.adapter == "duckdb" else None
    with connect(target, tag="injection'; drop table canary; --") as warehouse:

        def relation(name: str) -> str:
            return warehouse.relation(database, target.schema, name)

        engine = " engine = MergeTree order by tuple()" if target.adapter == "clickhouse" else ""
        warehouse.execute(f"create table {relation('canary')} (n int){engine}")
        for name in names:
            warehouse.execute(f"create table {relation(name)} ({warehouse.quote(name)} int){engine}")
            assert warehouse.rows(f"select {warehouse.quote(name)} from {relation(name)}") == []
            warehouse.execute(f"drop table {relation(name)}")
        for text in TEXTS:
            assert warehouse.rows(
                "select $text, $text = $other, $many", {"text": text, "other": text + "x", "many": 1}
            ) == [(text, False, 1)]
        tables = warehouse.rows(
            "select table_name from information_schema.tables where table_schema = $schema", {"schema": target.schema}
        )
    assert tables == [("canary",)]
    figure("hostile names and values", dialect=target.adapter, names=len(names), values=len(TEXTS), harm=0)


def test_as_vars_of_the_macros_in_each_dialect(target: Credentials, tmp_path: Path) -> None:
    values = [text for text in TEXTS if "," not in text and text.strip() == text][: many(12, 300)]
    user = User(tmp_path, target)
    assert user.dbt(operation("prepare"), operation("keep", values=values, name='we"i`rd; --')) == [None, None]
    found = user.found()
    assert found["included"] == ["1"] * len(values)
    assert found["excluded"] == [str(len(values) - 1)] * len(values)
    assert sorted(symbol for (symbol,) in user.query(f"select symbol from {user.schema}.kept")) == sorted(values)
    figure("hostile vars", dialect=target.adapter, values=len(values), harm=0)


def stream(**fields: Any) -> bytes:
    """A plan and its batch with these fields, ids right."""
    plan_fields = {name: fields.pop(name) for name in ("run_id", "root_run_id", "project", "target") if name in fields}
    plan, batches = a_plan([a_batch(**fields)], **{k: v for k, v in plan_fields.items() if k != "root_run_id"})
    plan.root_run_id = plan_fields.get("root_run_id")
    lines = [msgspec.json.encode(record) for record in (plan, *batches)]
    return b"\n".join([*lines, b'{"type":"summary","command":"before"}']) + b"\n"


@pytest.mark.sized
def test_in_records_and_flags(tmp_path: Path) -> None:
    """No file beside ours, no shell, no traceback."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "project").mkdir()
    env = {
        "PATH": "/usr/bin:/bin", "HOME": str(home), "DBT_PROJECT_DIR": str(home / "project"),
        "SLUICE_STATE_DIR": str(home / "a" / "b" / "state"), "SLUICE_LOG_DIR": str(home / "a" / "b" / "logs"),
    }  # fmt: skip
    calls = []
    for text in TEXTS:
        calls += [
            Call(
                ["run-dbt-batch", "--dry-run"],
                stream(stage=text, vars={"symbol": text, text: 1}, select=[text], expect=[text]),
            ),
            Call(["run-dbt-batch"], stream(run_id=text, root_run_id=text)),
            Call(["run-dbt-batch", f"--dbt={text}"], stream(stage=text)),
            Call(["each-wave", text], stream()),
            Call(["each-wave", f"run-dbt-batch --dry-run | {text}"], stream()),
            Call(["sluice-state", "show", f"--json={text}" if text.startswith("-") else text]),
            Call(["plan-refill", f"--from-date={text}"]),
            Call(["notify"], stream(run_id=text)),
            Call(["run-dbt-batch", "--dry-run", f"--target={text}"], stream(target=text)),
        ]
    said = run_all(calls, env | {"PWD": str(home)})
    for call, one in zip(calls, said, strict=True):
        assert "Traceback" not in one.err, (call, one.err)
        # 141: what a text like `true` comes to in a pipe of each-wave, which reads nothing of what it is given
        assert one.code in (0, 1, 2, 65, 69, 75, 78, 141), (call, one.code, one.err)
    strays = [path for path in tmp_path.rglob("*") if path.is_file() and (home / "a" / "b") not in path.parents]
    assert strays == []
    assert not list((home / "a" / "b").rglob("*evil*"))
    figure("hostile records and flags", calls=len(calls), strays=0, tracebacks=0)
