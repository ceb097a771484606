"""A real ClickHouse on loopback, from the wheel chdb-core: for tests and for `make clickhouse`, never for production.

The wheel holds the whole server with its HTTP and native listeners, but not its coordination: Replicated tables,
ON CLUSTER and CREATE USER do not work. It runs in a process of its own that ends when its standard input does, so it
dies with whoever started it, kill -9 included.

    python -m sluice.clickhouse_server [--folder DIR] [--http PORT] [--native PORT]     prints the URL, until Ctrl-C
"""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

from sluice.errors import SluiceError, misconfigured, unavailable

PACKAGE = "chdb-core"
INSTALL = ".venv/bin/pip install --no-deps --require-hashes -r requirements-clickhouse.txt"
SERVE = "import sys; from sluice.clickhouse_server import _serve; _serve()"

# query_log and part_log are written every other second: a test that reads them must not wait for seven. Not more often:
# what is written there is a part, which is written there. Nor does an idle server
# wake a hundred times a second for its log and its memory: several of them share a machine in tests.
CONFIG = """<clickhouse>
  <display_name>{token}</display_name>
  <http_port>{http_port}</http_port>
  <tcp_port>{native_port}</tcp_port>
  <listen_host>127.0.0.1</listen_host>
  <users_config>{folder}/users.xml</users_config>
  <logger><async>false</async><errorlog>{folder}/error.log</errorlog></logger>
  <query_log><database>system</database><table>query_log</table><flush_interval_milliseconds>2000</flush_interval_milliseconds></query_log>
  <part_log><database>system</database><table>part_log</table><flush_interval_milliseconds>2000</flush_interval_milliseconds></part_log>
  <remote_servers>
    <solo><shard><replica><host>127.0.0.1</host><port>{native_port}</port></replica></shard></solo>
  </remote_servers>
  <memory_worker_period_ms>1000</memory_worker_period_ms>
  {extra}
</clickhouse>
"""


@dataclass(frozen=True)
class User:
    """Somebody who may log in: a password, '' for none, the settings that hold for all that they do, and their grants; none: all.

    A grant is as in SQL, without TO. The wheel's server keeps no roles, so this is the way to have somebody with few rights.
    """

    password: str = field(default="", repr=False)
    settings: Mapping[str, str | int] = field(default_factory=dict)
    grants: Sequence[str] = ()


class ClickHouseServer:
    """One server with its data below `folder`. Ports that are not given are free ones, kept over restarts.

    `users` by name (default: `default`, without a password); `extra` is put into its config.xml.
    The cluster `solo` is the server alone. A context manager; `start` and `stop` by hand may be repeated.
    """

    def __init__(
        self, folder: Path, *, http_port: int | None = None, native_port: int | None = None,
        users: Mapping[str, User] | None = None, extra: str = "",
    ):  # fmt: skip
        self.folder = Path(os.path.abspath(folder))
        self.http_port = http_port or _free_port()
        self.native_port = native_port or _free_port()
        self.users = dict(users or {"default": User()})
        self._extra = extra
        self._process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def pid(self) -> int | None:
        """The server's process, None while there is none."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self, timeout_s: float = 30.0) -> "ClickHouseServer":
        """Returns when the server answers. Raises SluiceError: 78 without the wheel, 69 when it does not come up."""
        _extension()
        token = secrets.token_hex(8)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._write("users.xml", _users_xml(self.users))
        self._write("config.xml", CONFIG.format(
            token=token, http_port=self.http_port, native_port=self.native_port,
            folder=escape(str(self.folder)), extra=self._extra))  # fmt: skip
        with open(self.folder / "stdout.log", "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", SERVE],
                stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=self.folder,
                start_new_session=True,  # a Ctrl-C on the terminal is for whoever started it
                env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
            )  # fmt: skip
        try:
            self._wait(token, time.monotonic() + timeout_s)
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self, timeout_s: float = 30.0) -> None:
        """Let it end by itself, which closes its tables properly."""
        if self._process is None:
            return
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            if self._process.stdin:
                self._process.stdin.close()

    def query(self, sql: str, *, user: str | None = None, timeout_s: float = 30.0) -> str:
        """One statement, as the first of the users unless said otherwise; TabSeparated.

        Raises SluiceError (69) with the server's words, OSError when it does not answer.
        """
        name = user or next(iter(self.users))
        headers = {"X-ClickHouse-User": name, "X-ClickHouse-Key": self.users[name].password}
        request = urllib.request.Request(self.url, data=sql.encode(), headers=headers)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as answer:  # noqa: S310
                return answer.read().decode()
        except urllib.error.HTTPError as problem:
            raise unavailable(problem.read().decode(errors="replace").strip(), code="clickhouse_server_query") from None

    def __enter__(self) -> "ClickHouseServer":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _wait(self, token: str, deadline: float) -> None:
        assert self._process is not None
        while self._process.poll() is None:
            # Its own token: on a port that another server took in the meantime, that one would answer.
            try:
                if self.query("SELECT displayName()", timeout_s=1).strip() == token:
                    return
            except (OSError, SluiceError):
                pass
            if time.monotonic() > deadline:
                raise self._failed("does not answer")
            time.sleep(0.02)
        raise self._failed(f"ended with exit code {self._process.returncode}")

    def _failed(self, what: str) -> SluiceError:
        said = [
            (self.folder / name).read_text(errors="replace")[-1000:]
            for name in ("stdout.log", "error.log")
            if (self.folder / name).exists()
        ]
        return unavailable(
            f"ClickHouse in {self.folder} {what}: {' '.join(''.join(said).split()) or 'it said nothing'}",
            code="clickhouse_server_start",
            hint=f"look into {self.folder}/error.log; are ports {self.http_port} and {self.native_port} free?",
        )

    def _write(self, name: str, text: str) -> None:
        with open(self.folder / name, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(text)


def _extension() -> str:
    """The path of the server's shared object. Raises SluiceError (78) when the wheel is not installed."""
    import importlib.metadata

    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        raise misconfigured(
            f"the Python package {PACKAGE} is not installed: it holds ClickHouse",
            code="clickhouse_server_missing",
            hint=INSTALL,
        ) from None
    return str(next(file.locate() for file in files if file.name.startswith("_chdb.") and file.name.endswith(".so")))


def _serve() -> None:
    """The server's own process: ./config.xml, data in ./data, until standard input ends.

    The extension is loaded without its package, which would want pandas; it takes one query call in a process's life.
    """
    import importlib.util

    spec = importlib.util.spec_from_file_location("_chdb", _extension())
    assert spec is not None
    assert spec.loader is not None
    extension = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(extension)
    result = extension.query(
        "SYSTEM START LISTEN HTTP; SYSTEM START LISTEN TCP;"
        " SELECT count() FROM file('stdin', 'LineAsString', 'line String')",
        "TabSeparated",
        path=os.path.abspath("data"),
    )
    if result.has_error() or not result.bytes().strip():  # a failed start has no rows, and has_error() says False
        sys.exit(result.error_message() or "the server did not start")


def _users_xml(users: Mapping[str, User]) -> str:
    profiles, entries = [], []
    for name, user in users.items():
        tag = escape(name)
        settings = "".join(f"<{key}>{escape(str(value))}</{key}>" for key, value in user.settings.items())
        profiles.append(f"<{tag}>{settings}</{tag}>")
        entries.append(
            f"<{tag}><password>{escape(user.password)}</password><networks><ip>127.0.0.1</ip></networks>"
            f"<profile>{tag}</profile><quota>default</quota>{_grants_xml(user.grants)}</{tag}>"
        )
    if "default" not in users:
        profiles.insert(0, "<default/>")
    return (
        f"<clickhouse><profiles>{''.join(profiles)}</profiles><users>{''.join(entries)}</users>"
        "<quotas><default/></quotas></clickhouse>\n"
    )


def _grants_xml(grants: Sequence[str]) -> str:
    queries = "".join(f"<query>{escape(grant)}</query>" for grant in grants)
    return f"<grants>{queries}</grants>" if grants else ""


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def main() -> int:
    """A server in the foreground, for people."""
    import argparse

    from sluice import config

    parser = argparse.ArgumentParser(prog="make clickhouse", description="A real ClickHouse on loopback, until Ctrl-C.")
    parser.add_argument(
        "--folder", type=Path, default=config.ROOT / ".state" / "clickhouse", help="config, logs and data"
    )
    parser.add_argument("--http", type=int, default=8123, help="the port that dbt-clickhouse and HTTP clients use")
    parser.add_argument("--native", type=int, default=9000, help="the port of the native protocol")
    flags = parser.parse_args()
    server = ClickHouseServer(flags.folder, http_port=flags.http, native_port=flags.native)
    try:
        for stop in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # SIGINT, too: a shell's `&` has it ignored
            signal.signal(stop, signal.default_int_handler)
        with server:
            print(
                f"ClickHouse at {server.url} (native {server.native_port}), user default, no password;"
                f" data in {server.folder}",
                flush=True,
            )
            assert server._process is not None
            server._process.wait()
    except KeyboardInterrupt:
        pass
    except SluiceError as problem:
        print(f"make clickhouse: {problem.message}\n  try: {problem.hint}", file=sys.stderr)
        return problem.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
