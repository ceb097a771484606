"""What all commands share, on tiny ones that run as processes of their own."""

import fcntl
import os
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

ROOT = Path(__file__).resolve().parents[2]
SUMMARY = b'{"type":"summary","command":"before","exit_code":%d}\n'

HEAD = f"""
import sys
sys.path.insert(0, {str(ROOT / "lib")!r})
import os, time
from sluice.command import main
from sluice.errors import SluiceError, refused
from sluice.records import BatchResult
from sluice.signals import interruptible

def unit(status="ok"):
    return BatchResult(batch_id="b", plan_id="p", seq=1, total=1, status=status)

def tiny_command(ctx):
"""


@dataclass
class Said:
    code: int
    out: bytes
    err: str

    @property
    def records(self) -> list[dict]:
        return [msgspec.json.decode(line) for line in self.out.splitlines()]


Tiny = Callable[..., Said]


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., list[str]]:
    """The command line of a command with this body."""

    def write(body: str, *flags: str, types: str = "") -> list[str]:
        path = tmp_path / "tiny-command"
        path.write_text(
            HEAD
            + "".join(f"    {line}\n" for line in body.splitlines())
            + f"\nmain(tiny_command, 'Do little.'{types})\n"
        )
        return [sys.executable, str(path), *flags]

    return write


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "SLUICE_STATE_DIR": str(tmp_path / "state"),
        "SLUICE_LOG_DIR": str(tmp_path / "logs"),
    }


@pytest.fixture
def tiny(script: Callable[..., list[str]], env: dict[str, str]) -> Tiny:
    def run(body: str, *flags: str, types: str = "", given: bytes = b"", **extra: str) -> Said:
        ran = subprocess.run(
            script(body, *flags, types=types), input=given, capture_output=True, env=env | extra, timeout=60
        )
        return Said(ran.returncode, ran.stdout, ran.stderr.decode())

    return run


def logged(tmp_path: Path) -> str:
    return "".join(path.read_text() for path in (tmp_path / "logs").glob("*.log"))


def test_only_records_reach_stdout_and_the_summary_is_last(tiny: Tiny) -> None:
    said = tiny(
        "print('noise'); os.write(1, b'more noise'); os.system('echo child noise')\n"
        "yield unit()\nyield unit('skipped')\nyield unit()"
    )
    assert [record["type"] for record in said.records] == ["batch_result"] * 3 + ["summary"]
    for noise in ("noise", "more noise", "child noise"):
        assert noise in said.err
    summary = said.records[-1]
    assert (summary["command"], summary["counts"], summary["exit_code"]) == ("tiny-command", {"ok": 2, "skipped": 1}, 0)
    assert said.code == 0


def test_every_record_has_its_envelope(tiny: Tiny) -> None:
    records = tiny("yield unit()").records
    assert len({record["run_id"] for record in records}) == 1
    assert all(record["at"].endswith("Z") and record["v"] == 1 and len(record["run_id"]) == 36 for record in records)


def test_the_run_id_of_the_first_record_is_copied_on(tiny: Tiny) -> None:
    body = "for record in ctx.records():\n    yield unit()"
    said = tiny(body, types=", sees=('summary',)", given=SUMMARY.replace(b"{", b'{"run_id":"from-before",') % 0)
    assert [record["run_id"] for record in said.records] == ["from-before"] * 3


@pytest.mark.parametrize(
    ("body", "code"),
    [("yield unit('failed')", 1), ("yield unit('failed')\nreturn 3", 3), ("yield unit()\nreturn 0", 0)],
)
def test_the_exit_code_is_the_bodys_or_says_whether_a_unit_failed(tiny: Tiny, body: str, code: int) -> None:
    said = tiny(body)
    assert (said.code, said.records[-1]["exit_code"]) == (code, code)


@pytest.mark.parametrize("before", [0, 1, 69])
def test_the_exit_code_of_the_command_before_is_carried_on(tiny: Tiny, before: int) -> None:
    said = tiny("yield from (r for r in ctx.records() if False)", types=", reads=('batch',)", given=SUMMARY % before)
    assert said.code == before


def test_a_refusal_is_told_to_people_and_to_programs(tiny: Tiny, tmp_path: Path) -> None:
    said = tiny("yield unit()\nraise refused('no such\\nthing', code='plan_no_thing', hint='make thing')")
    assert said.code == 2
    assert said.err == "tiny-command: no such\n  thing\n  try: make thing\n"
    _, error, summary = said.records
    assert (error["type"], error["code"], error["message"], error["hint"]) == (
        "error",
        "plan_no_thing",
        "no such\nthing",
        "make thing",
    )
    assert (summary["type"], summary["exit_code"], error["retryable"]) == ("summary", 2, False)
    assert "plan_no_thing: no such" in logged(tmp_path)


@pytest.mark.parametrize(("code", "retryable"), [(69, True), (75, True), (78, False)])
def test_what_may_pass_by_itself_is_retryable(tiny: Tiny, code: int, retryable: bool) -> None:
    said = tiny(f"raise SluiceError('x', code='a_b', exit_code={code})\nyield")
    assert (said.code, said.records[0]["retryable"]) == (code, retryable)


def test_a_bad_line_is_named(tiny: Tiny) -> None:
    said = tiny(
        "yield from (r for r in ctx.records() if False)", types=", reads=('batch',)", given=SUMMARY % 0 + b"oops\n"
    )
    assert (said.code, said.records[1]["line"], said.records[-1]["exit_code"]) == (65, 2, 65)
    assert said.err.startswith("tiny-command: line 2: ")
    assert said.out.startswith(SUMMARY % 0)


def test_a_bug_is_ours_and_shows_its_traceback_only_when_asked(tiny: Tiny, tmp_path: Path) -> None:
    said = tiny("yield unit()\n{}['gone']")
    assert said.code == 70
    assert "a bug of ours: KeyError('gone')" in said.err
    assert "Traceback" not in said.err
    assert [record["type"] for record in said.records] == ["batch_result", "error", "summary"]
    assert "Traceback" in logged(tmp_path)
    assert "Traceback" in tiny("yield unit()\n{}['gone']", "-v").err


def test_secrets_are_kept_back_everywhere(tiny: Tiny, tmp_path: Path) -> None:
    body = "raise refused('with hunter2hunter2', code='a_b', hint='use postgres://me:pa55word@h')\nyield"
    for said in (
        tiny(body, WAREHOUSE_PASSWORD="hunter2hunter2"),
        tiny("yield {}['hunter2hunter2']", "-v", API_KEY="hunter2hunter2"),
    ):
        for text in (said.out.decode(), said.err, logged(tmp_path)):
            assert "hunter2" not in text
            assert "pa55word" not in text


@pytest.fixture
def endless(script: Callable[..., list[str]], env: dict[str, str]) -> Iterator[subprocess.Popen]:
    """A command that says units without end; when it is closed, it leaves the file `closed`."""
    body = "try:\n    while True: yield unit()\nfinally:\n    open(os.environ['HOME'] + '/closed', 'w').close()"
    with subprocess.Popen(script(body), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env) as running:
        yield running
        running.kill()


def test_a_reader_that_leaves_ends_the_command_quietly(endless: subprocess.Popen, tmp_path: Path) -> None:
    endless.stdout.readline()
    endless.stdout.close()
    assert endless.wait(60) == 141
    assert endless.stderr.read() == b""
    assert (tmp_path / "closed").exists()


def test_a_full_disk_behind_stdout_is_unavailable(script: Callable[..., list[str]], env: dict[str, str]) -> None:
    with open("/dev/full", "wb") as full:
        ran = subprocess.run(script("yield unit()"), stdout=full, stderr=subprocess.PIPE, env=env, timeout=60)
    assert ran.returncode == 69
    assert b"No space left on device" in ran.stderr
    assert b"Traceback" not in ran.stderr


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("waits", ["with interruptible(): time.sleep(60)", "yield from ctx.records()"])
def test_a_signal_ends_a_wait_with_a_summary(
    script: Callable[..., list[str]], env: dict[str, str], signum: signal.Signals, code: int, waits: str
) -> None:
    command = script(f"yield unit()\n{waits}", types=", reads=('batch',)")
    running = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    assert running.stdout is not None
    running.stdout.readline()
    running.send_signal(signum)
    out, err = running.communicate(timeout=60)
    assert running.returncode == code
    assert msgspec.json.decode(out)["exit_code"] == code
    assert b"Traceback" not in err


def test_a_signal_ends_the_wait_for_a_reader_that_takes_nothing(endless: subprocess.Popen, tmp_path: Path) -> None:
    held = [0]
    while len(held) < 2 or held[-1] == 0 or held[-1] != held[-2]:  # the pipe is full when it fills no more
        time.sleep(0.3)
        held.append(int.from_bytes(fcntl.ioctl(endless.stdout, termios.FIONREAD, bytes(4)), sys.byteorder))
    endless.send_signal(signal.SIGTERM)
    assert endless.wait(10) == 143
    whole, _, half = endless.stdout.read().rpartition(b"\n")
    assert {msgspec.json.decode(line)["type"] for line in whole.splitlines()} == {"batch_result"}
    assert b"summary" not in half, "behind half a line it would be part of it"
    assert endless.stderr.read() == b""
    assert (tmp_path / "closed").exists()


def test_a_signal_lets_work_end_before_it_stops_the_command(
    script: Callable[..., list[str]], env: dict[str, str]
) -> None:
    body = "yield unit()\ntime.sleep(0.5)\nyield unit('skipped')\nwith interruptible(): yield unit('failed')"
    running = subprocess.Popen(script(body), stdout=subprocess.PIPE, env=env)
    assert running.stdout is not None
    running.stdout.readline()
    time.sleep(0.1)
    running.send_signal(signal.SIGTERM)
    out, _ = running.communicate(timeout=60)
    assert [msgspec.json.decode(line).get("status") for line in out.splitlines()] == ["skipped", None]
    assert running.returncode == 143


@pytest.mark.parametrize(("closed", "code"), [("<&-", 2), (">&-", 69), ("2>&-", 0)])
def test_a_closed_descriptor_is_no_surprise(
    script: Callable[..., list[str]], env: dict[str, str], closed: str, code: int
) -> None:
    command = script("print('noise')\nfor _ in ctx.records(): yield unit()", types=", sees=('batch',)")
    ran = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", *command], input=SUMMARY % 0, capture_output=True, env=env, timeout=60
    )
    assert ran.returncode == code
    assert b"Traceback" not in ran.stderr
    assert b"noise" not in ran.stdout


def test_records_of_a_run_are_kept_for_reports_and_not_those_of_a_rehearsal(tiny: Tiny, tmp_path: Path) -> None:
    body = "ctx.keeps = True\nyield unit()"
    tiny(body, "--dry-run")
    assert not (tmp_path / "logs").exists()
    said = tiny(body)
    (kept,) = (tmp_path / "logs" / "records").iterdir()
    assert kept.read_bytes() == said.out
    assert kept.stem == said.records[0]["run_id"]
    assert kept.stat().st_mode & 0o777 == 0o600


def test_records_that_cannot_be_kept_stop_nothing(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "records").touch()
    said = tiny("ctx.keeps = True\nyield unit()\nyield unit()")
    assert (said.code, len(said.records)) == (0, 3)
    assert said.err.count("cannot keep records") == 1


def test_bad_settings_are_told_like_any_error(tiny: Tiny) -> None:
    said = tiny("yield unit()", SLUICE_LOCK_WAIT_S="soon")
    assert (said.code, [record["type"] for record in said.records]) == (78, ["error", "summary"])
    assert "SLUICE_LOCK_WAIT_S" in said.err


def test_flags_of_the_body_come_with_those_that_all_share(tiny: Tiny) -> None:
    shown = tiny("yield unit()", "--help").out.decode()
    for flag in ("--dry-run", "--json", "--quiet", "--verbose", "--no-color"):
        assert flag in shown
    assert "--project-dir" not in shown
    assert "--project-dir" in tiny("yield unit()", "--help", types=", project=True").out.decode()
    said = tiny("yield unit()", "--nonsense")
    assert (said.code, said.out) == (2, b"")
    assert tiny("yield unit()", "--version").out.startswith(b"tiny-command ")


@pytest.mark.parametrize(
    "text", ['{"a": NaN}', "[]", "{", '{"a": "{{ x }}"}', '{"start_month": 1}', '{"a": "\\ud800"}', '{"a": 1e999}']
)
def test_vars_that_cannot_be_are_a_usage_error(text: str, env: dict[str, str]) -> None:
    ran = subprocess.run([ROOT / "bin" / "plan-daily", "--vars", text], capture_output=True, env=env, timeout=60)
    assert (ran.returncode, ran.stdout) == (2, b"")
    assert b"--vars" in ran.stderr


def test_no_command_waits_for_a_person_to_type_records(script: Callable[..., list[str]], env: dict[str, str]) -> None:
    ours, theirs = os.openpty()
    ran = subprocess.run(
        script("yield unit()", types=", reads=('batch',)"), stdin=theirs, capture_output=True, env=env, timeout=60
    )
    assert (ran.returncode, ran.stdout) == (2, b"")
    assert b"--help" in ran.stderr
    os.close(ours)
    os.close(theirs)


def test_a_terminal_shows_a_view_and_json_the_records(script: Callable[..., list[str]], env: dict[str, str]) -> None:
    def shown(*flags: str) -> bytes:
        ours, theirs = os.openpty()
        subprocess.run(
            script("yield unit()", *flags), stdout=theirs, stderr=subprocess.DEVNULL, env=env, check=True, timeout=60
        )
        os.close(theirs)
        text = os.read(ours, 10_000)
        os.close(ours)
        return text

    assert b"[1/1] \x1b[32mok" in shown()
    assert b"[1/1] ok" in shown("--no-color")
    assert b'"type":"batch_result"' in shown("--json")
