#!/usr/bin/env bats
# make: its help, what reaches a shell from its variables (nothing), and the two jobs from end to end.

source "$BATS_TEST_DIRNAME/helper.bash"

setup() {
    fresh_world
    with_parsed_shop
}

teardown() { end_what_was_started; }

# in_make WORD...: make as people call it; it must not set up anything again
in_make() { try make --no-print-directory -C "$ROOT" "$@" </dev/null; }

@test "make alone prints the help, one line for each target" {
    in_make
    assert_status 0
    for target in full-refresh daily-refresh test help; do
        grep -qE "^  make $target +[A-Z]" "$out" || fail "no line about $target"
    done
    assert_equal "$(grep -cE '^  make ' "$out")" "$(grep -cE '^[a-z-]+:.*## ' "$ROOT/Makefile")"
}

@test "a second call of make does no set-up again" {
    in_make --question setup
    assert_status 0 "run 'make setup' first"
    in_make setup
    assert_status 0
    [[ ! -s "$err" ]] || fail "it did something"
}

@test "doctor and status look at the target that make is given" {
    in_make doctor TARGET=nowhere
    assert_status 2
    pick setup_check check verdict found | grep -q "profile fail .*nowhere" || fail "another target was looked at"
    in_make status TARGET=nowhere
    assert_status 0
}

# bats test_tags=long
@test "the sample data is made once, and brought up to date only when it is not" {
    unset DBT_PROJECT_DIR DBT_PROFILES_DIR
    in_make sample-data SAMPLE_SCALE=0.01
    assert_status 0
    assert_says "making the synthetic sample data"
    before=$(sha256sum "$SLUICE_DUCKDB_PATH")
    in_make sample-data SAMPLE_SCALE=0.01
    assert_status 0
    [[ ! -s "$err" ]] || fail "it did something"
    assert_equal "$(sha256sum "$SLUICE_DUCKDB_PATH")" "$before"
}

@test "a project that only .env names gets no sample data, and no fake trades" {
    mkdir -p clone/pipelines
    cp "$ROOT/pipelines/_common" clone/pipelines
    printf '#!/bin/sh\necho made >&2\n' >clone/pipelines/sample-data
    chmod +x clone/pipelines/sample-data
    unset DBT_PROJECT_DIR
    try bash -c 'source clone/pipelines/_common'
    assert_says made
    echo ' export DBT_PROJECT_DIR = ~/jaffle' >clone/.env
    try bash -c 'source clone/pipelines/_common'
    assert_status 0
    [[ ! -s "$err" ]] || fail "it did something"
    DBT_PROJECT_DIR= try bash -c 'source clone/pipelines/_common' # as for the commands: what is set wins over .env
    assert_says made

    DBT_PROJECT_DIR="$SHOP" SLUICE_SOURCES="$PWD/none" STAGE=0 JSON=1 try "$ROOT/pipelines/sync"
    assert_says "no source in $PWD/none is of any tap; docs/taps.md"
    [[ ! -e "$DATABASE" ]] || fail "something was loaded"
}

@test "make full-refresh and make daily-refresh carry out what is asked for, and tell" {
    in_make full-refresh SELECT=tag:orders TO=2024-12-31
    assert_status 0
    assert_equal "$(query 'select * from fct_orders')" 780
    in_make daily-refresh SELECT="fct_orders noisy"
    [[ "$status" != 0 ]] || fail "a model failed, and make knows nothing of it"
    assert_says no_such_table
    grep -q 'DAILY OF SHOP' "$SLUICE_LOG_DIR/refresh-$(date -u +%F).log"
}

@test "SIGTERM to make and what it started, as docker stop sends it: when make ends, the run has been cancelled and recorded" {
    mkdir -p "$HOME/trouble" && touch "$HOME/trouble/slow-int_orders_monthly-2024-04-01"
    setsid make --silent -C "$ROOT" full-refresh SELECT=tag:orders TO=2024-12-31 </dev/null >"$out" 2>"$err" 3>&- &
    pid=$!
    eventually compgen -G "$SLUICE_LOG_DIR/*/*-2024-04-01.log" >/dev/null
    kill -TERM -- "-$pid"
    status=0
    wait "$pid" || status=$?
    ! kill -KILL -- "-$pid" || fail "make ended before what it had started" # a container's end would have killed it
    assert_status 143
    sluice-state runs >"$out"
    assert_equal "$(pick run_state run_status is_alive done)" "CANCELLED false 1"
}

@test "DRY_RUN=1 plans, runs nothing and changes nothing" {
    find "$SLUICE_STATE_DIR" -type f -exec sha256sum {} + >before
    in_make full-refresh DRY_RUN=1 SELECT="tag:orders int_stock_daily" EXCLUDE=fct_orders STAGE=usdc TO=2024-12-31 VARS='{}'
    assert_status 0
    assert_records
    assert_equal "$(pick batch stage | uniq -c | xargs)" "4 usdc"
    in_make daily-refresh DRY_RUN=1 SELECT=tag:orders EXCLUDE=fct_orders
    assert_status 0
    assert_equal "$(pick batch model)" model.shop.int_orders_monthly
    find "$SLUICE_STATE_DIR" -type f -exec sha256sum {} + | diff before -
    [[ ! -e "$SLUICE_LOG_DIR" && ! -e "$DATABASE" ]]
}

# bats test_tags=long
@test "what is asked of the daily refresh reaches the plan, as a variable of make or as a flag of its script" {
    wanted='{"full_rebuild": true, "ids": "1,52", "incremental_end_date": "2024-05-31", "skip_stale_check": true, "staleness_hours": 24}'
    in_make daily-refresh DRY_RUN=1 SELECT=fct_orders IDS=1,52 FULL_REBUILD=1 SKIP_STALE_CHECK=1 STALENESS_HOURS=24 TO=2024-05-31
    assert_status 0
    assert_equal "$(look_vars)" "$wanted"
    try "$ROOT/pipelines/daily-refresh" --dry-run --select fct_orders --ids=1,52 --full-rebuild --skip-stale-check --staleness-hours 24 --to 2024-05-31
    assert_status 0
    assert_equal "$(look_vars)" "$wanted"
    for wrong in "IDS=1;2" "STALENESS_HOURS=-1" "TO=tomorrow" "ON_BACKFILL=ask"; do
        in_make daily-refresh DRY_RUN=1 SELECT=fct_orders "$wrong"
        assert_status 2
        assert_says "${wrong%%=*} is '${wrong#*=}'"
    done
    for wrong in --idz --ids x; do
        try "$ROOT/pipelines/daily-refresh" --dry-run --select fct_orders "$wrong"
        assert_status 2
        assert_says "'$wrong' is no flag" --full-rebuild
    done
    for part in bars emas; do
        in_make "$part" DRY_RUN=1 ONLY=nothing
        assert_status 2
        assert_says "'nothing' is none of" multi_tf
    done
}

# look_vars: the vars of the one batch that was planned, its keys in order
look_vars() { "$PYTHON" -c 'import json, sys; [print(json.dumps(r["vars"], sort_keys=True)) for r in map(json.loads, sys.stdin) if r["type"] == "batch"]' <"$out"; }

# bats test_tags=long
@test "a failure stops nothing that does not depend on it, but with CONTINUE_ON_ERROR=0; VERBOSE=1 says more" {
    in_make daily-refresh SELECT="noisy stg_movements" JSON=1
    [[ "$status" != 0 ]]
    assert_equal "$(pick batch_result status | sort | xargs)" "failed ok"
    in_make daily-refresh SELECT="noisy stg_movements" JSON=1 NO_RESTART=1 CONTINUE_ON_ERROR=0 VERBOSE=1
    [[ "$status" != 0 ]]
    assert_equal "$(pick batch_result status | sort | xargs)" "failed skipped"
    assert_says "batches to do"
}

# payloads: a line each; every one of them makes the file $pwned where a shell takes it for code. `$$` is make's way to
# write a dollar; what make itself expands, `$(shell …)`, is beyond what a Makefile can refuse, and its head says so.
payloads() {
    cat <<END
; touch $pwned
&& touch $pwned
| touch $pwned
> $pwned
\`touch $pwned\`
\$\$(touch $pwned)
\$\${x:-\`touch $pwned\`}
'; touch $pwned; '
"; touch $pwned; "
x' \$\$(touch $pwned) '
x" && touch $pwned #
<(touch $pwned)
--help; touch $pwned
\\\\\$\$(touch $pwned)
a[\$\$(touch $pwned)]
END
}

@test "what comes in through SELECT, STAGE, TO or VARS is never taken for code by a shell" {
    pwned="$BATS_TEST_TMPDIR/pwned"
    while read -r payload; do
        for target in full-refresh daily-refresh; do
            in_make "$target" DRY_RUN=1 "SELECT=$payload" "STAGE=$payload" "TO=$payload" "VARS=$payload" "VERBOSE=$payload"
            [[ ! -e "$pwned" ]] || fail "make $target executed: $payload"
            assert_status 2 "$target $payload"
        done
    done < <(payloads)
    in_make full-refresh DRY_RUN=1 "SELECT=\`touch $pwned\`'; touch $pwned; '\"; touch $pwned; \"" # as far as the selection
    assert_status 2
    [[ ! -e "$pwned" ]] || fail "the selection is executed"
}

@test "what comes in through a variable with a line break is never taken for code either" {
    pwned="$BATS_TEST_TMPDIR/pwned"
    for target in full-refresh daily-refresh; do
        in_make "$target" DRY_RUN=1 SELECT=$'x\ntouch '"$pwned" TO=$'x\ntouch '"$pwned" VARS=x
        [[ ! -e "$pwned" ]] || fail "make $target executed it"
        SELECT=$'x\ntouch '"$pwned" TO=x in_make "$target" DRY_RUN=1 VARS=x
        [[ ! -e "$pwned" ]] || fail "make $target executed it from the environment"
    done
}

# bats test_tags=long
@test "make demo-gap on an engine that there is not, or a server that does not answer, says what to type" {
    in_make demo-gap TARGET=oracle
    [[ "$status" != 0 ]]
    assert_says "TARGET is 'oracle'" duckdb
    SLUICE_CH_PORT=1 in_make demo-gap TARGET=clickhouse
    [[ "$status" != 0 ]]
    assert_says "try: make clickhouse"
}
