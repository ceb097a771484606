"""The server that tests and `make clickhouse` stand on: it starts, keeps its data, and never outlives who started it."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sluice import clickhouse_server
from sluice.clickhouse_server import ClickHouseServer, User
from sluice.errors import CONFIG, UNAVAILABLE, SluiceError

PASSWORD = "<&>'\"] pass"


@pytest.fixture
def server(tmp_path: Path):
    server = ClickHouseServer(
        tmp_path / "server", users={"default": User(), "refresh": User(PASSWORD, {"max_memory_usage": 50_000_000})}
    )
    yield server
    server.stop()


def test_data_outlives_a_stop_and_a_kill(server: ClickHouseServer):
    with server:
        server.query("create table t (x Int32) engine = MergeTree order by x")
        server.query("insert into t values (1), (2)")
    assert server.pid is None
    with server:
        assert server.query("select sum(x) from t") == "3\n"
        server.kill()
    assert server.pid is None
    with server:
        assert server.query("select sum(x) from t") == "3\n"


def test_users_have_their_passwords_and_limits(server: ClickHouseServer):
    with server:
        assert server.query("select currentUser()", user="refresh") == "refresh\n"
        with pytest.raises(SluiceError, match="Code: 241"):
            server.query("select groupArray(number) from numbers(100000000)", user="refresh")
        server.users["refresh"] = User("wrong")
        with pytest.raises(SluiceError, match="Code: 516"):
            server.query("select 1", user="refresh")
    assert PASSWORD not in repr(User(PASSWORD))
    assert (server.folder / "users.xml").stat().st_mode & 0o777 == 0o600


def test_it_is_on_loopback_only_and_a_cluster_of_one(server: ClickHouseServer):
    with server:
        shown = subprocess.run(["ss", "-ltnH"], capture_output=True, text=True, check=False).stdout
        assert {line.split()[3] for line in shown.splitlines() if f":{server.http_port} " in line} <= {
            f"127.0.0.1:{server.http_port}"
        }
        assert server.query("select count() from clusterAllReplicas(solo, system.one)") == "1\n"
        with socket.create_connection(("127.0.0.1", server.native_port), 2):
            pass


def test_a_port_that_is_taken(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = ClickHouseServer(tmp_path, http_port=port)
        with pytest.raises(SluiceError) as caught:
            server.start(timeout_s=60)
    assert (caught.value.exit_code, caught.value.code) == (UNAVAILABLE, "clickhouse_server_start")
    assert str(port) in (caught.value.hint or "")
    assert server.pid is None


def test_another_server_on_the_port_is_not_taken_for_it(server: ClickHouseServer, tmp_path: Path):
    with server:
        second = ClickHouseServer(tmp_path / "second", http_port=server.http_port)
        with pytest.raises(SluiceError):
            second.start(timeout_s=60)
        assert server.query("select 1") == "1\n"


def test_without_the_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(clickhouse_server, "PACKAGE", "no-such-package")
    with pytest.raises(SluiceError) as caught:
        ClickHouseServer(tmp_path).start()
    assert (caught.value.exit_code, caught.value.code) == (CONFIG, "clickhouse_server_missing")
    assert "requirements-clickhouse.txt" in (caught.value.hint or "")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_it_ends_with_whoever_started_it(tmp_path: Path, how: signal.Signals):
    free = ClickHouseServer(tmp_path)
    command = [
        sys.executable,
        "-m",
        "sluice.clickhouse_server",
        "--folder",
        str(tmp_path / "f"),
        "--http",
        str(free.http_port),
        "--native",
        str(free.native_port),
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(clickhouse_server.__file__).parents[1])}
    foreground = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert foreground.stdout
    try:
        line = foreground.stdout.readline()
        assert line.startswith(f"ClickHouse at http://127.0.0.1:{free.http_port} ")
        assert free.query("select 1") == "1\n"
        foreground.send_signal(how)
        assert foreground.wait(60) == (-how if how == signal.SIGKILL else 0)
    finally:
        foreground.kill()
        foreground.wait()
        foreground.stdout.close()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            free.query("select 1", timeout_s=1)
        except OSError:
            return
        time.sleep(0.05)
    pytest.fail("the server is still there")
