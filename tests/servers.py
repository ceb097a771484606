"""Real servers for tests, one of each per process: `pytest_plugins = ["servers"]` gives a test its fixtures.

`clickhouse` and `postgres` are the servers; `clickhouse_target`, `postgres_target` and `duckdb_target` the credentials
of a database, schema or file of the test's own; `target` is each of the three in turn. None of them skips: a server
that is not there fails the test with what to type.
"""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from sluice.clickhouse_server import ClickHouseServer, User
from sluice.profiles import Credentials

POSTGRES_BIN = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None, key=lambda path: float(path.parent.name))
NO_POSTGRES = "no Postgres server is installed here\n  try: apt-get install --yes postgresql"

LONG_ENGINES = [pytest.param(engine, marks=pytest.mark.long) for engine in ("postgres", "clickhouse")]
USERS = {
    "default": User(),
    "refresh": User("s3cret-password"),
    "eager": User("eager", {"insert_deduplicate": 1, "deduplicate_insert_select": "enable_even_for_bad_queries"}),
    "tiny": User("tiny", {"max_memory_usage": 50_000_000}),
    "reader": User("reader", {"readonly": 1}),
}


@pytest.fixture(scope="session")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseServer]:
    """A ClickHouse with the users of USERS; its cluster `solo` is itself."""
    with ClickHouseServer(tmp_path_factory.mktemp("clickhouse"), users=USERS) as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator["Postgres"]:
    """A Postgres with the superuser `test`, no password, database `postgres`."""
    server = Postgres()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def clickhouse_target(clickhouse: ClickHouseServer) -> Iterator[Credentials]:
    """The user `refresh` and a database of the test's own."""
    schema = f"t_{uuid.uuid4().hex[:12]}"
    clickhouse.query(f"CREATE DATABASE {schema}")
    fields = {
        "host": "127.0.0.1",
        "port": clickhouse.http_port,
        "user": "refresh",
        "password": USERS["refresh"].password,
    }
    yield Credentials("clickhouse", "shop", "clickhouse", None, schema, fields=fields)
    clickhouse.query(f"DROP DATABASE {schema} SYNC")


@pytest.fixture
def postgres_target(postgres: "Postgres") -> Iterator[Credentials]:
    """The superuser and a schema of the test's own."""
    schema = f"t_{uuid.uuid4().hex[:12]}"
    postgres.query(f"create schema {schema}")
    yield Credentials("postgres", "shop", "postgres", "postgres", schema, fields=postgres.fields)
    postgres.query(f"drop schema {schema} cascade")


@pytest.fixture
def duckdb_target(tmp_path: Path) -> Credentials:
    """A file of the test's own, with a schema `shop`."""
    import duckdb

    path = str(tmp_path / "shop.duckdb")
    with duckdb.connect(path) as connection:
        connection.execute("create schema shop")
    return Credentials(
        "duckdb", "shop", "duckdb", "shop", "shop", fields={"path": path, "settings": {"memory_limit": "1GB"}}
    )


@pytest.fixture(params=["duckdb", "postgres", "clickhouse"])
def target(request: pytest.FixtureRequest) -> Credentials:
    """Each dialect in turn."""
    return request.getfixturevalue(f"{request.param}_target")


class Postgres:
    """A private server on a loopback port; it dies with the process that started it.

    Not below pytest's folder: a socket's path is short, and the server's user must be able to enter.
    """

    def __init__(self, *, durable: bool = False, connections: int = 40) -> None:
        """`durable`: every commit is on disk, as in earnest; else a crash of the machine may lose some."""
        self._connections = connections
        if POSTGRES_BIN is None:
            pytest.fail(NO_POSTGRES)
        self._durable = "on" if durable else "off"
        self.folder = Path(tempfile.mkdtemp(prefix="sluice-pg-"))
        self._as = []
        if os.geteuid() == 0:  # the server refuses to run as root
            owner = pwd.getpwnam("postgres")
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)
            self._as = [f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
        self._run(
            "initdb",
            "-D",
            str(self.folder / "data"),
            "-U",
            "test",
            "-A",
            "trust",
            "--no-sync",
            "-E",
            "UTF8",
            "--locale=C",
        ).wait()
        self.port = 0
        self.start()

    @property
    def fields(self) -> dict:
        """What a dbt profile says of it."""
        return {"host": "127.0.0.1", "port": self.port, "user": "test", "password": "unasked", "sslmode": "disable"}

    def start(self) -> None:
        """Returns when it answers; a port that somebody else was quicker to take is exchanged for another."""
        for _ in range(3):
            self.port = self.port or _free_port()
            options = [
                f"fsync={self._durable}",
                f"synchronous_commit={self._durable}",
                f"full_page_writes={self._durable}",
                "shared_buffers=32MB",
                f"max_connections={self._connections}",
                "listen_addresses=127.0.0.1",
                f"port={self.port}",
                f"unix_socket_directories={self.folder}",
            ]
            self._process = self._run(
                "postgres", "-D", str(self.folder / "data"), *(part for option in options for part in ("-c", option))
            )
            deadline = time.monotonic() + 30
            while self._process.poll() is None and time.monotonic() < deadline:
                try:
                    self.query("select 1")
                    return
                except Exception:
                    time.sleep(0.02)
            self.kill()
            self.port = 0
        pytest.fail(f"Postgres does not start: {(self.folder / 'log').read_text()[-1000:]}")

    def query(self, sql: str) -> list[tuple]:
        """The rows of one statement, which commits by itself."""
        import psycopg2

        connection = psycopg2.connect(
            host="127.0.0.1", port=self.port, user="test", dbname="postgres", connect_timeout=5
        )
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def kill(self) -> None:
        """As a crash would: at once, nothing flushed."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        self._process.send_signal(3)  # SIGQUIT: end without a checkpoint, nobody needs the data
        self._process.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> subprocess.Popen:
        assert POSTGRES_BIN is not None
        with open(self.folder / "log", "ab") as log:
            # --pdeathsig: a test run that is killed leaves no server behind.
            command = ["setpriv", *self._as, "--pdeathsig=QUIT", str(POSTGRES_BIN / program), *arguments]
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, start_new_session=True
            )


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Recorder:
    """A ClickHouse HTTP endpoint that notes every statement and hands it on to a real server, without ON CLUSTER.

    What cannot be had on one machine, several replicas, is tested by what they would be told. `cut`: a statement that
    holds this word is noted, carried out, and its answer withheld. `answers` reply in the server's place, each once, to
    statements that hold a word.
    """

    def __init__(self, server: ClickHouseServer):
        import http.server
        import threading

        self.statements: list[str] = []
        self.settings: list[dict[str, str]] = []
        self.cut: str | None = None
        self.answers: dict[str, list[tuple[int, int, str]]] = {}  # word: (status, ClickHouse's code, text), each once
        recorder = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                recorder.take(self, server)

            def log_message(self, *_: object) -> None:
                """Nothing on stderr."""

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def take(self, request, server: ClickHouseServer) -> None:
        """Note one request, hand it on, answer."""
        import re
        import urllib.error
        import urllib.parse
        import urllib.request

        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        query = dict(urllib.parse.parse_qsl(request.path.partition("?")[2], keep_blank_values=True))
        sql = body.decode(errors="replace") or query.get("query", "")
        self.statements.append(sql)
        self.settings.append(query)
        for word, answers in self.answers.items():
            if word in sql and answers:
                status, code, text = answers.pop(0)
                self._answer(request, status, text.encode(), {"X-ClickHouse-Exception-Code": str(code)} if code else {})
                return
        name = r"""(?:`(?:[^`\\]|\\.)*`|"(?:[^"\\]|\\.)*")"""
        plain = re.sub(rf"\sON CLUSTER\s+{name}", " ", sql, flags=re.IGNORECASE)
        plain = re.sub(rf"(clusterAllReplicas|cluster)\({name}, ", r"\1(`solo`, ", plain)
        headers = {
            key: value
            for key, value in request.headers.items()
            if key.lower() not in ("host", "content-length", "connection", "accept-encoding")
        }
        if "query" in query:
            query["query"] = plain
        url = f"{server.url}/?{urllib.parse.urlencode(query)}"
        ahead = urllib.request.Request(url, data=plain.encode() if body else b"", headers=headers)
        try:
            with urllib.request.urlopen(ahead, timeout=60) as answer:
                status, content, found = answer.status, answer.read(), answer.headers
        except urllib.error.HTTPError as problem:
            status, content, found = problem.code, problem.read(), problem.headers
        if self.cut is not None and self.cut in sql:
            request.connection.shutdown(socket.SHUT_RDWR)
            request.close_connection = True
            return
        self._answer(
            request,
            status,
            content,
            {key: value for key, value in found.items() if key.startswith(("X-ClickHouse", "Content-Type"))},
        )

    @staticmethod
    def _answer(request, status: int, content: bytes, headers: dict[str, str]) -> None:
        request.send_response(status)
        for key, value in headers.items():
            request.send_header(key, value)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def recorder(clickhouse: ClickHouseServer) -> Iterator[Recorder]:
    """A recording endpoint before the ClickHouse."""
    recorder = Recorder(clickhouse)
    yield recorder
    recorder.close()
