#!/usr/bin/env bats
# sync-cursor: a Singer target, and what it keeps.

source "$BATS_TEST_DIRNAME/helper.bash"

setup() {
    fresh_world
    DATABASE="$HOME/shop.duckdb"
}

teardown() { end_what_was_started; }

# tap FROM TO: trades with these numbers, a STATE at the end
tap() {
    local i
    echo '{"type":"SCHEMA","stream":"trades","key_properties":["id"],"bookmark_properties":["at"],"schema":{"properties":{"id":{"type":"integer"},"at":{"type":"string","format":"date-time"}}}}'
    for ((i = $1; i <= $2; i++)); do
        printf '{"type":"RECORD","stream":"trades","record":{"id":%d,"at":"2026-01-%02dT12:00:00Z"}}\n' "$i" "$i"
    done
    printf '{"type":"STATE","value":{"bookmarks":{"trades":{"at":"2026-01-%02dT12:00:00Z"}}}}\n' "$2"
}

@test "stdout is what Singer asks of a target: each STATE once its rows are committed, nothing else" {
    tap 1 3 >lines
    try sync-cursor load shop <lines
    assert_status 0
    assert_equal "$(cat "$out")" '{"bookmarks":{"trades":{"at":"2026-01-03T12:00:00Z"}}}'
    [[ ! -s "$err" ]] || fail "stderr is not silent"
    assert_equal "$(query 'select count(*), max(id) from raw.trades')" "3 3"
}

@test "with --records - stdout has the records, valid and the summary last, and no STATE" {
    tap 1 3 >lines
    try sync-cursor load shop --records - <lines
    assert_status 0
    assert_records
    assert_equal "$(pick sync_result source stream status received_rows inserted_rows)" "shop trades ok 3 3"
    try sync-cursor load shop --records - <lines
    assert_equal "$(pick sync_result inserted_rows updated_rows unchanged_rows)" "0 0 3"
}

@test "state hands out what was kept, earlier by --overlap; {} when there is nothing, and no database is made" {
    try sync-cursor state shop
    assert_status 0
    assert_equal "$(cat "$out")" '{}'
    [[ ! -e "$DATABASE" ]]
    tap 1 3 | sync-cursor load shop >/dev/null
    try sync-cursor state shop
    assert_equal "$(cat "$out")" '{"bookmarks": {"trades": {"at": "2026-01-03T12:00:00Z"}}}'
    try sync-cursor state shop --overlap 24h
    assert_equal "$(cat "$out")" '{"bookmarks": {"trades": {"at": "2026-01-02T12:00:00Z"}}}'
    try sync-cursor state shop --overlap soon
    assert_status 2
}

# bats test_tags=long
@test "a tap may read its state from the very file that is being loaded into, however late it does" {
    tap 1 3 | sync-cursor load shop >/dev/null
    slow_tap() { cat "$1" >known; tap 4 5; }
    export SLUICE_LOCK_WAIT_S=10
    slow_tap <(sleep 2; sync-cursor state shop) | sync-cursor load shop >"$out" 2>"$err"
    assert_equal "$(cat known)" '{"bookmarks": {"trades": {"at": "2026-01-03T12:00:00Z"}}}'
    assert_equal "$(query 'select count(*) from raw.trades')" 5
}

@test "an input without a single message is a failure: a tap that died at once looks like that" {
    try sync-cursor load shop --records - </dev/null
    assert_status 1
    assert_equal "$(pick sync_result sync_status)" failed
}

@test "a stream that ends after its last STATE is partial: exit 1, the rows are there, the cursor is not moved" {
    tap 1 3 | sync-cursor load shop >/dev/null
    tap 4 6 | grep -v STATE >cut
    try sync-cursor load shop --records - <cut
    assert_status 1
    assert_records
    assert_equal "$(pick sync_result sync_status status cursor_after)" "partial failed 2026-01-03T12:00:00.000Z 3"
    assert_says "3 records came after the last STATE"
    assert_equal "$(query 'select count(*) from raw.trades')" 6
    assert_equal "$(query 'select sync_status, sync_count from raw.sync_log')" "partial 2"
}

@test "a stream that is cut in mid line gives 65, and what came whole is kept" {
    tap 1 3 | head -c -70 >cut
    try sync-cursor load shop --records - <cut
    assert_status 65
    assert_records
    assert_equal "$(query 'select count(*) from raw.trades')" 3
    assert_equal "$(sync-cursor log | look pick sync_state source sync_status)" "shop partial"
}

@test "a source that is older than its cursor gives 3" {
    tap 5 6 | sync-cursor load shop >/dev/null
    tap 1 2 >old
    try sync-cursor load shop <old
    assert_status 3
    assert_nothing_on_stdout
    assert_says "older than the cursor"
    try sync-cursor load shop --backfill <old
    assert_status 0
    try sync-cursor state shop
    assert_equal "$(cat "$out")" '{"bookmarks": {"trades": {"at": "2026-01-06T12:00:00Z"}}}'
}

@test "two loads of one source exclude each other; another source waits for the file only" {
    mkfifo source
    sync-cursor load shop <source >/dev/null 2>"$err.first" 3>&- &
    pid=$!
    exec 9>source
    tap 1 2 >&9
    eventually test -e "$DATABASE"
    tap 1 2 >lines
    try sync-cursor load shop <lines
    assert_status 75
    assert_says "another load of shop is running"
    try sync-cursor reset shop
    assert_status 75
    exec 9>&-
    wait "$pid"
    try sync-cursor load shop <lines
    assert_status 0
}

@test "a database that is away is told with the source that it was for: 75 while another process has the file" {
    tap 1 2 >lines
    sync-cursor load shop <lines >/dev/null
    mkfifo done
    "$PYTHON" -c 'import duckdb, sys; c = duckdb.connect(sys.argv[1]); open("has", "w"); open("done").read()' "$DATABASE" 3>&- &
    eventually test -e has
    export SLUICE_LOCK_WAIT_S=0
    try sync-cursor load shop --records - <lines
    : >done
    assert_status 75
    assert_records
    assert_equal "$(pick sync_result source sync_status received_rows)" "shop failed 0"
    assert_equal "$(pick error code)" warehouse_locked
}

@test "reset forgets the cursor or sets it, the rows stay" {
    tap 1 3 | sync-cursor load shop >/dev/null
    try sync-cursor reset shop --to 2026-01-02T00:00:00Z --dry-run
    assert_equal "$(pick sync_state message last_sync_ts)" "reset to 2026-01-02T00:00:00Z null"
    assert_equal "$(sync-cursor state shop)" '{"bookmarks": {"trades": {"at": "2026-01-03T12:00:00Z"}}}'
    try sync-cursor reset shop --to 2026-01-02T00:00:00Z
    assert_status 0
    assert_records
    assert_equal "$(sync-cursor log | look pick sync_state message)" "reset to 2026-01-02T00:00:00Z"
    assert_equal "$(sync-cursor state shop)" '{"bookmarks": {"trades": {"at": "2026-01-02T00:00:00Z"}}}'
    tap 2 2 >lines
    try sync-cursor load shop <lines # older than the cursor that was, and no alarm
    assert_status 0
    try sync-cursor reset shop
    assert_equal "$(sync-cursor state shop)" '{}'
    assert_equal "$(query 'select count(*) from raw.trades')" 3
    try sync-cursor reset nobody
    assert_status 2
    try sync-cursor reset shop --to yesterday
    assert_status 2
}

@test "--dry-run says what would come, and leaves no database, no log and no STATE" {
    tap 1 3 >lines
    try sync-cursor load shop --dry-run <lines
    assert_status 0
    assert_nothing_on_stdout
    try sync-cursor load shop --dry-run --records - <lines
    assert_equal "$(pick sync_result status received_rows inserted_rows)" "dry_run 3 null"
    [[ ! -e "$DATABASE" && ! -e "$SLUICE_LOG_DIR" ]]
}

@test "rejects are counted, kept and exit 1; --max-rejects stops" {
    { tap 1 3; echo '{"type":"RECORD","stream":"trades","record":{"id":"x"}}'; } >lines
    try sync-cursor load shop --records - <lines
    assert_status 1
    assert_equal "$(pick sync_result rejected_rows inserted_rows)" "1 3"
    assert_says 'records that break their schema: 1; the last, line 6: id is "x", no integer (all are in sync_reject)'
    try sync-cursor load shop --records - --dry-run <lines
    assert_equal "$(pick sync_result status rejected_rows)" "dry_run 1"
    assert_says 'the last, line 6: id is "x", no integer'
    ! grep -q sync_reject "$err" || fail "a rehearsal keeps none"
    assert_equal "$(query 'select line, reason from raw.sync_reject')" '6 id is "x", no integer'
    try sync-cursor load shop --max-rejects 0 --records - <lines
    assert_status 1
    assert_records
    assert_equal "$(pick error code)" sync_too_many_rejects
}

@test "load without a pipe, and actions without what they need, are refused with 2" {
    try "$PYTHON" "$LOOK" tty sync-cursor load shop </dev/null
    assert_status 2
    for words in load state reset "frobnicate x"; do
        try sync-cursor $words
        assert_status 2 "$words"
        assert_no_traceback
    done
}

@test "while load waits, SIGTERM gives 143, and what was committed stays" {
    mkfifo source
    sync-cursor load shop --records - <source >"$out" 2>"$err" 3>&- &
    pid=$!
    exec 9>source
    tap 1 2 >&9
    eventually test -e "$DATABASE"
    sleep 0.5
    stop TERM
    exec 9>&-
    assert_status 143
    assert_no_traceback
    assert_equal "$(pick summary exit_code)" 143
}

# A folder of sources, and a command tap-here that runs these lines, in which `tap` may stand.
tap_here() {
    mkdir sources taps
    { declare -f tap; printf '%s\n' "$1"; } >lines.sh
    printf '#!/usr/bin/env bash\ncd %q && source ./lines.sh "$@"\n' "$PWD" >taps/tap-here
    chmod +x taps/tap-here
    PATH="$PWD/taps:$PATH"
}

# bats test_tags=long
@test "pipelines/sync: a source that fails stops no other, and is told" {
    tap_here 'tap 1 3'
    echo '{}' | tee sources/bad.tap-exchange.json sources/good.tap-here.json >/dev/null # no keys for the first
    SLUICE_SOURCES="$PWD/sources" STAGE=0 JSON=1 try "$ROOT/pipelines/sync"
    assert_status 1
    assert_records
    assert_equal "$(pick sync_result source sync_status)" $'bad failed\ngood success'
    assert_says "failed   bad" "the tap ended with 78"
    SLUICE_SOURCES="$PWD/sources" STAGE=0 ONLY=tap-here JSON=1 try "$ROOT/pipelines/sync"
    assert_status 0
    assert_equal "$(pick sync_result received_rows unchanged_rows)" "3 3"
    # Without a state no tap is started, for it would fetch everything; and every source is told of.
    SLUICE_SOURCES="$PWD/sources" STAGE=0 OVERLAP=soon JSON=1 try "$ROOT/pipelines/sync"
    assert_status 1
    assert_records
    assert_equal "$(pick sync_result source received_rows error)" $'bad 0 the tap ended with 2\ngood 0 the tap ended with 2'
}

# bats test_tags=long
@test "pipelines/sync: a catalog beside a config is its tap's, and a tap that is not there is named" {
    tap_here 'tap 1 3; echo "$@" >told'
    echo '{}' | tee sources/one.tap-here.json sources/two.tap-nowhere.json >/dev/null
    echo '{"streams":[]}' >sources/one.tap-here.catalog.json
    SLUICE_SOURCES="$PWD/sources" STAGE=0 JSON=1 try "$ROOT/pipelines/sync"
    assert_status 1
    assert_equal "$(pick sync_result source sync_status)" $'one success\ntwo failed'
    assert_equal "$(cut -d' ' -f1-4 told)" "--config $PWD/sources/one.tap-here.json --catalog $PWD/sources/one.tap-here.catalog.json"
    assert_says "no command is named tap-nowhere" "try: docs/taps.md" "the tap ended with 127"
}
