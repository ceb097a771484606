"""Any dbt command line as the engine, played by a script that logs as dbt does."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sluice import signals
from sluice.dbt_command_line import CommandLine
from sluice.dbt_engine.wire import Outcome
from sluice.signals import Interrupted

ORDERS = "model.shop.orders"
Run = Callable[..., Outcome]


def finished(unique_id: str = ORDERS, status: str = "success", message: str = "1 of 1 OK", **data: Any) -> str:
    """dbt's event about the result of a node, as of 1.11."""
    info = {"name": "LogModelResult", "level": "info" if status == "success" else "error", "msg": message}
    return json.dumps(
        {
            "data": {"execution_time": 0.25, "node_info": {"unique_id": unique_id, "node_status": status}, **data},
            "info": info,
        }
    )


@pytest.fixture
def dbt(tmp_path: Path) -> Callable[[str], CommandLine]:
    """A command line whose dbt runs this Python and leaves its arguments in `argv`."""

    def make(body: str, target: str | None = None) -> CommandLine:
        script = tmp_path / "fake dbt.py"
        script.write_text(
            "import json, os, signal, sys, time\n"
            f"json.dump(sys.argv[1:], open({str(tmp_path / 'argv')!r}, 'w'))\n{body}"
        )
        return CommandLine(f"{sys.executable} '{script}' --flag", target=target)

    return make


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def go(engine: CommandLine, *, expect: tuple[str, ...] = (ORDERS,), **options: Any) -> Outcome:
        given = {
            "batch_id": "b",
            "vars": {},
            "full_refresh": False,
            "log_path": tmp_path / "b.log",
            "models": [],
            "marker": None,
        }
        return engine.run(expect=list(expect), **(given | options))

    return go


def says(*lines: str, exit_code: int = 0) -> str:
    return f"print({chr(10).join(lines)!r})\nsys.exit({exit_code})"


def test_a_batch_is_ok_when_dbt_ran_just_what_was_expected(dbt, run: Run, tmp_path: Path) -> None:
    outcome = run(dbt(says("Running with dbt=1.11", finished())))
    assert (outcome.status, outcome.error, outcome.engine) == ("ok", None, "command_line")
    assert [(node.unique_id, node.status, node.duration_s, node.message) for node in outcome.nodes] == [
        (ORDERS, "ok", 0.25, None)
    ]
    assert (tmp_path / "b.log").read_text() == f"Running with dbt=1.11\n{finished()}\n"


def test_the_arguments_are_exact_and_no_shell_sees_them(dbt, run: Run, tmp_path: Path) -> None:
    variables = {"symbol": "'; touch pwned; '", "n": 1, "many": ["a", None, True]}
    run(dbt(says(finished()), target="prod"), vars=variables, full_refresh=True, expect=(ORDERS, "model.other.v.w"))
    argv = json.loads((tmp_path / "argv").read_text())
    at = argv.index("--vars") + 1
    assert json.loads(argv.pop(at)) == variables
    assert argv == [
        "--flag",
        "--log-format",
        "json",
        "run",
        "--select",
        "orders,package:shop",
        "v.w,package:other",
        "--vars",
        "--full-refresh",
        "--target",
        "prod",
    ]
    run(dbt(says(finished())))
    argv = json.loads((tmp_path / "argv").read_text())
    assert "--full-refresh" not in argv
    assert "--target" not in argv


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (says(), "model.shop.orders missing, nothing too many"),  # dbt exits 0 when it selects nothing
        (says(finished(), finished("model.shop.stray")), "nothing missing, model.shop.stray too many"),
        (says(finished("model.shop.stray")), "model.shop.orders missing, model.shop.stray too many"),
        (
            says(finished(status="error", message="Database Error: no such column"), exit_code=1),
            "Database Error: no such column",
        ),
        (says(finished(status="skipped", message="SKIP")), "SKIP"),
        (says(finished(), "Traceback: dbt itself fell over", exit_code=2), "Traceback: dbt itself fell over"),
        ("sys.exit(3)", "dbt exited with 3"),
        (
            says(
                json.dumps({"info": {"name": "Note", "level": "info", "msg": "hello"}}),
                json.dumps({"info": {"name": "MainEncounteredError", "level": "error", "msg": "Compilation Error"}}),
                exit_code=2,
            ),
            "Compilation Error",
        ),
        (says("not { json", '"a string"', "[]", '{"info": 1}', "{}", finished(), exit_code=1), "not { json"),
    ],
)
def test_anything_else_is_a_failure_with_its_reason(dbt, run: Run, body: str, error: str) -> None:
    outcome = run(dbt(body))
    assert outcome.status == "failed"
    assert error in (outcome.error or "")
    assert "hello" not in (outcome.error or "")


@pytest.mark.parametrize(
    "event",
    [
        {"info": {"name": "LogModelResult"}},
        {"info": {"name": "LogModelResult"}, "data": {}},
        {"info": {"name": "LogModelResult"}, "data": {"node_info": {}}},
        {"info": {"name": "LogModelResult"}, "data": None},
        {"info": {"name": "LogModelResult"}, "data": {"node_info": None}},
        {"info": {"name": "LogModelResult"}, "data": {"node_info": {"unique_id": ORDERS}, "execution_time": "soon"}},
        {"info": {"name": "LogModelResult", "msg": None, "level": "error"}},
        {"info": {"name": ["x"]}},
    ],
)
def test_no_odd_event_of_another_version_is_our_bug(dbt, run: Run, event: dict) -> None:
    assert run(dbt(says(json.dumps(event)))).status == "failed"


def test_several_nodes_are_all_judged(dbt, run: Run) -> None:
    both = (ORDERS, "model.shop.totals")
    assert run(dbt(says(*map(finished, both))), expect=both).status == "ok"
    outcome = run(dbt(says(finished(), finished(both[1], "error", "boom"), exit_code=1)), expect=both)
    assert [(node.unique_id, node.status) for node in outcome.nodes] == [(ORDERS, "ok"), (both[1], "failed")]


@pytest.mark.parametrize("death", ["os.kill(os.getpid(), signal.SIGKILL)", "sys.exit(137)"])
def test_a_dbt_that_died_leaves_an_unknown_outcome(dbt, run: Run, death: str) -> None:
    outcome = run(dbt(death))
    assert (outcome.status, outcome.error) == ("lost", "dbt died of signal 9")


def test_a_dbt_that_cannot_be_started_is_named(run: Run) -> None:
    outcome = run(CommandLine("/no/such/dbt --flag", target=None))
    assert outcome.status == "failed"
    assert "cannot start '/no/such/dbt' (--dbt)" in (outcome.error or "")


def test_what_a_lost_process_committed_cannot_be_known() -> None:
    assert CommandLine("dbt", target=None).committed({}) == "dbt runs elsewhere (--dbt)"


def test_what_dbt_prints_in_no_known_encoding_is_no_bug(dbt, run: Run, tmp_path: Path) -> None:
    outcome = run(dbt(r"sys.stdout.buffer.write(b'a\xff\xfeb\n'); sys.stdout.flush(); sys.exit(1)"))
    assert outcome.status == "failed"
    assert (tmp_path / "b.log").read_text() == "a\ufffd\ufffdb\n"


def test_secrets_do_not_reach_the_log_of_a_batch(
    dbt, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAREHOUSE_PASSWORD", "hunter2hunter2")
    run(dbt(says("connecting with hunter2hunter2")))
    assert (tmp_path / "b.log").read_text() == "connecting with ***\n"


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_signal_interrupts_the_wait_and_cancel_ends_dbt_and_its_children(
    dbt, run: Run, tmp_path: Path, stubborn: bool
) -> None:
    handlers = {signum: signal.getsignal(signum) for signum in (*signals.STOPPING, signal.SIGPIPE)}
    ignore = (
        "signal.signal(signal.SIGINT, signal.SIG_IGN); signal.signal(signal.SIGTERM, signal.SIG_IGN)"
        if stubborn
        else ""
    )
    engine = dbt(
        f"{ignore}\nimport subprocess\nchild = subprocess.Popen(['sleep', '60'])\n"
        f"open({str(tmp_path / 'pids')!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\ntime.sleep(60)"
    )
    stop = threading.Thread(target=lambda: (wait_for(tmp_path / "pids"), os.kill(os.getpid(), signal.SIGTERM)))
    signals.install()
    stop.start()
    try:
        with pytest.raises(Interrupted):
            run(engine)
        began = time.monotonic()
        engine.cancel(grace_s=0.2)
        assert time.monotonic() - began < 5
    finally:
        stop.join()
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    wait_until(lambda: not any(map(lives, pids)))
    engine.cancel()
    engine.close()


def test_closing_what_never_ran_does_nothing() -> None:
    CommandLine("dbt", target=None).close()


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(happens: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def wait_for(path: Path) -> None:
    wait_until(lambda: path.exists() and len(path.read_text().split()) == 2)


def test_the_fake_logs_as_the_real_dbt_does() -> None:
    """The names that are read from dbt's log exist in the installed dbt."""
    dbt = Path(sys.executable).with_name("dbt")
    script = (
        "from dbt.events import core_types_pb2 as types\n"
        "data = types.LogModelResult(execution_time=0.25)\n"
        "data.node_info.unique_id, data.node_info.node_status = 'm', 'success'\n"
        "print(types.LogModelResult.__name__, data.node_info.node_status, data.execution_time)"
    )
    if dbt.exists():
        said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
        assert said.stdout.split() == ["LogModelResult", "success", "0.25"]
