"""What an error of a warehouse means for the next attempt: real messages and their classes."""

from pathlib import Path

import pytest

from sluice import error_classes
from sluice.error_classes import Rule, rule_for
from sluice.errors import CONFIG, SluiceError

CLICKHOUSE = "Database Error in model balances (models/balances.sql)\n  HTTPDriver for https://ch:8443 returned response code 500)\n  "

MESSAGES = [
    # ClickHouse
    ("clickhouse", "Code: 241. DB::Exception: Memory limit (total) exceeded: would use 31.00 GiB, maximum: 28.80 GiB. OvercommitTracker decision: Query was selected to stop by OvercommitTracker. (MEMORY_LIMIT_EXCEEDED)", "victim"),
    ("clickhouse", "Code: 241. DB::Exception: (total) memory limit exceeded: would use 57.61 GiB", "victim"),
    ("clickhouse", "Code: 241. DB::Exception: Query memory limit exceeded: would use 9.33 GiB, maximum: 9.31 GiB: While executing AggregatingTransform. (MEMORY_LIMIT_EXCEEDED)", "too_big"),
    ("clickhouse", "Code: 241. DB::Exception: Memory limit (for query) exceeded: would use 9.31 GiB", "too_big"),
    ("clickhouse", "Code: 241. DB::Exception: Memory limit (for user) exceeded: would use 9.31 GiB", "too_big"),
    ("clickhouse", "Code: 341. DB::Exception: Exception happened during execution of mutation: Memory limit exceeded", "too_big"),
    ("clickhouse", "Code: 159. DB::Exception: Timeout exceeded: elapsed 300.0 seconds, maximum: 300. (TIMEOUT_EXCEEDED)", "transient"),
    ("clickhouse", "Code: 202. DB::Exception: Too many simultaneous queries. Maximum: 100. (TOO_MANY_SIMULTANEOUS_QUERIES)", "transient"),
    ("clickhouse", "Code: 209. DB::NetException: Timeout exceeded while reading from socket (SOCKET_TIMEOUT)", "transient"),
    ("clickhouse", "Code: 210. DB::NetException: Connection reset by peer, while writing to socket (NETWORK_ERROR)", "transient"),
    ("clickhouse", "Code: 225. DB::Exception: Can't get ZooKeeper for table. (NO_ZOOKEEPER)", "transient"),
    ("clickhouse", "Code: 242. DB::Exception: Table is in readonly mode (TABLE_IS_READ_ONLY)", "transient"),
    ("clickhouse", "Code: 252. DB::Exception: Too many parts (300). Merges are processing significantly slower than inserts.", "transient"),
    ("clickhouse", "Code: 319. DB::Exception: Unknown status, client must retry. (UNKNOWN_STATUS_OF_INSERT)", "transient"),
    ("clickhouse", "Code: 373. DB::Exception: Session abc is locked by a concurrent client. (SESSION_IS_LOCKED)", "transient"),
    ("clickhouse", "Code: 999. Coordination::Exception: Session expired (KEEPER_EXCEPTION)", "transient"),
    ("clickhouse", "Code: 307. DB::Exception: Limit for rows or bytes to read exceeded (TOO_MANY_BYTES)", "too_big"),
    ("clickhouse", "Code: 60. DB::Exception: Table default.nope does not exist. (UNKNOWN_TABLE)", "permanent"),
    ("clickhouse", "Code: 497. DB::Exception: default: Not enough privileges. (ACCESS_DENIED)", "permanent"),
    ("clickhouse", "Code: 516. DB::Exception: default: Authentication failed. (AUTHENTICATION_FAILED)", "permanent"),
    ("clickhouse", "Code: 2410. DB::Exception: no such code", "permanent"),
    ("clickhouse", "Code: 62. DB::Exception: Syntax error: failed at position 10 ('241'): 241. (SYNTAX_ERROR)", "permanent"),
    ("clickhouse", "HTTPConnectionPool(host='ch', port=8123): Read timed out. (read timeout=300)", "transient"),
    ("clickhouse", "[Errno 111] Connection refused", "transient"),
    ("clickhouse", "[Errno -3] Temporary failure in name resolution", "transient"),
    ("clickhouse", "EOF occurred in violation of protocol (_ssl.c:997)", "transient"),
    # PostgreSQL
    ("postgres", "out of memory\nDETAIL:  Failed on request of size 1048576 in memory context \"ExprContext\".", "too_big"),
    ("postgres", "temporary file size exceeds temp_file_limit (1048576kB)", "too_big"),
    ("postgres", "terminating connection due to administrator command\nserver closed the connection unexpectedly", "transient"),
    ("postgres", "connection to server at \"db\" (10.0.0.5), port 5432 failed: FATAL:  the database system is starting up", "transient"),
    ("postgres", "connection to server at \"db\", port 5432 failed: FATAL:  sorry, too many clients already", "transient"),
    ("postgres", "could not serialize access due to concurrent update", "transient"),
    ("postgres", "deadlock detected\nDETAIL:  Process 7 waits for ShareLock on transaction 9; blocked by process 8.", "transient"),
    ("postgres", "connection to server at \"db\", port 5432 failed: Connection refused", "transient"),
    ("postgres", "could not translate host name \"db\" to address: Name or service not known", "transient"),
    ("postgres", "SSL SYSCALL error: Connection timed out", "transient"),
    ("postgres", "FATAL:  57P01: shut down", "transient"),
    ("postgres", "x (SQLSTATE 40P01)", "transient"),
    ("postgres", "ERROR: 53200: no room", "too_big"),
    ("postgres", "permission denied for table orders", "permanent"),
    ("postgres", "relation \"orders\" does not exist\nLINE 3: from orders", "permanent"),
    ("postgres", "password authentication failed for user \"me\"", "permanent"),
    ("postgres", "canceling statement due to statement timeout", "too_big"),
    ("postgres", "canceling statement due to user request", "permanent"),
    ("postgres", "duplicate key value violates unique constraint \"orders_pkey\"\nDETAIL:  Key (id)=(40001) already exists.", "permanent"),
    ("postgres", "invalid input syntax for type integer: \"0x53200\"", "permanent"),
    # DuckDB
    ("duckdb", "Runtime Error\n  IO Error: Could not set lock on file \"/data/w.duckdb\": Conflicting lock is held in /usr/bin/python3.11 (PID 4711). See also https://duckdb.org/docs/stable/connect/concurrency", "busy"),
    ("duckdb", "Out of Memory Error: could not allocate block of size 256.0 KiB (953.6 MiB/953.6 MiB used)", "too_big"),
    ("duckdb", "Out of Memory Error: failed to pin block of size 256.0 KiB (12.1 GiB/12.1 GiB used)", "too_big"),
    ("duckdb", "Out of Memory Error: failed to offload data block of size 256.0 KiB (4.0 GiB/4.0 GiB used).", "too_big"),
    ("duckdb", "Binder Error: Referenced column \"nope\" not found in FROM clause!", "permanent"),
    ("duckdb", "Catalog Error: Table with name nope does not exist!", "permanent"),
    ("duckdb", "Code: 241. somebody else's words", "permanent"),
    ("duckdb", "IO Error: Connection error for HTTP GET: Connection reset by peer", "transient"),
    # anything else
    ("snowflake", "250001: Could not connect: [Errno 104] Connection reset by peer", "transient"),
    ("snowflake", "", "permanent"),
]  # fmt: skip


def classify(message: str, adapter: str, rules: list[Rule]) -> tuple[str, str]:
    rule = rule_for(message, adapter, rules)
    return rule.error_class, rule.why


@pytest.mark.parametrize(("adapter", "message", "expected"), MESSAGES)
def test_the_class_of_a_real_message(adapter: str, message: str, expected: str) -> None:
    wrapped = (
        CLICKHOUSE + message if adapter == "clickhouse" else f"Database Error in model x (models/x.sql)\n  {message}"
    )
    found, why = classify(wrapped, adapter, error_classes.load())
    assert found == expected
    assert why


def test_rules_of_ones_own_come_first(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(
        '[[error]]\nclass = "permanent"\npattern = "Connection refused"\nwhy = "we are behind a firewall"\n'
        '[[error]]\nclass = "transient"\nadapter = "duckdb"\npattern = "moon"\n'
    )
    rules = error_classes.load(own)
    assert classify("Connection refused", "postgres", rules) == ("permanent", "we are behind a firewall")
    assert classify("full moon", "duckdb", rules) == ("transient", "")
    assert classify("full moon", "postgres", rules)[0] == "permanent"
    assert classify("deadlock detected", "postgres", rules)[0] == "transient"


@pytest.mark.parametrize(
    "content",
    [
        None, "not toml [", "", "error = 1", "error = [1]", "[[error]]\nclass = 'odd'\npattern = 'x'", "[[error]]\npattern = 'x'",
        "[[error]]\nclass = 'busy'", "[[error]]\nclass = 'busy'\npattern = '('", "[[error]]\nclass = 'busy'\npattern = 1", b"\xff\xfe",
        "[error]\nclass = 'busy'\npattern = 'x'", "[[error]]\nclass = ['busy']\npattern = 'x'",
    ],
)  # fmt: skip
def test_a_table_that_is_none_is_refused_with_its_name(tmp_path: Path, content: str | bytes | None) -> None:
    own = tmp_path / "own.toml"
    if content is not None:
        own.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SluiceError) as caught:
        error_classes.load(own)
    assert caught.value.exit_code == CONFIG
    assert str(own) in caught.value.message


def test_a_hint_names_the_model_and_what_the_message_says() -> None:
    rules = error_classes.load()
    stuck = (
        "Code: 341. DB::Exception: Exception happened during execution of mutations 'mutation_2.txt, mutation_3.txt'"
    )
    for reason in ("", " with part 'all_1_1_0' reason: 'Code: 241. DB::Exception: (total) memory limit exceeded'"):
        rule = error_classes.rule_for(stuck + reason, "clickhouse", rules)
        said = rule.advice(stuck + reason, model="balances", schema="main", table="b")
        assert "database = 'main' AND table = 'b' AND mutation_id = 'mutation_2.txt'" in said
        assert "batches of balances should add and not delete" in said
    assert error_classes.rule_for("moon", "clickhouse", rules).advice("moon") == ""
