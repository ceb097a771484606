#!/usr/bin/env bats
# notify: the digest at the end of a pipe.

source "$BATS_TEST_DIRNAME/helper.bash"

setup() {
    fresh_world
    with_parsed_shop
}

teardown() { end_what_was_started; }

# tell FLAG...: the daily refresh of the orders, told
tell() { plan-daily --select tag:orders | with_fake_dbt --continue-on-error | notify "$@"; }
export -f tell

log() { cat "$SLUICE_LOG_DIR/sluice-$(date -u +%F).log"; }

@test "when all is well the digest goes to the log, and nothing to stderr, so that cron sends no mail" {
    try tell
    assert_status 0
    assert_records
    [[ ! -s "$err" ]] || fail "stderr is not silent"
    log | grep -q 'notify.*DAILY OF SHOP (DEV): ok'
    log | grep -q 'notify.*batches 2   ok 2'
    assert_equal "$(pick notify_result channel severity status)" "log INFO skipped" # INFO is below the default, ERROR
}

@test "a failure is told with model, batch and reason, on stderr and in the log, and stays the exit code" {
    echo "disk on fire" >"$HOME/trouble/fail-int_orders_monthly-whole"
    try tell
    assert_status 1
    assert_records
    assert_says "DAILY OF SHOP (DEV): ERROR, exit 1" "failed 1   skipped 1" \
        "failed  model.shop.int_orders_monthly (batch 1 of 2, stage default): disk on fire"
    log | grep -q 'ERROR.*disk on fire'
    assert_equal "$(pick notify_result severity status)" "ERROR ok"
}

@test "a plan that was refused is told with its reason and what to do" {
    status=0
    plan-batches --select nowhere 2>/dev/null | run-dbt-batch 2>/dev/null | notify >"$out" 2>"$err" || status=$?
    assert_status 2
    assert_says "plan_empty_selection: no model of shop is chosen" "try: dbt ls"
    assert_equal "$(pick notify_result severity)" ERROR
}

@test "a run that died without a word is told, too" {
    plan-daily --select tag:orders | with_fake_dbt | grep -v '"type":"summary"' >died
    try notify <died
    assert_status 65
    assert_equal "$(pick notify_result severity status)" "ERROR ok"
    assert_says "DAILY OF SHOP (DEV): ERROR" "without a summary"
    tail -3 "$out" | look valid 65
}

@test "SLUICE_NOTIFY_LEVEL sets what is told; a level that is none is refused with the known ones" {
    SLUICE_NOTIFY_LEVEL=info try tell
    assert_status 0
    assert_equal "$(pick notify_result severity status)" "INFO ok"
    echo '{"type":"summary","command":"before"}' >stream
    SLUICE_NOTIFY_LEVEL=LOUD try notify <stream
    assert_status 78
    assert_says "SLUICE_NOTIFY_LEVEL" "LOUD" "INFO, WARNING, ERROR, CRITICAL"
    assert_no_traceback
}

@test "the same trouble has the same dedupe_key night after night, other trouble another" {
    echo "boom at 03:00" >"$HOME/trouble/fail-int_orders_monthly-whole"
    try tell
    pick notify_result dedupe_key >first
    echo "boom at 04:00" >"$HOME/trouble/fail-int_orders_monthly-whole"
    try tell
    assert_equal "$(pick notify_result dedupe_key)" "$(cat first)"
    mv "$HOME/trouble/fail-int_orders_monthly-whole" "$HOME/trouble/fail-fct_orders-whole"
    try tell
    [[ "$(pick notify_result dedupe_key)" != "$(cat first)" ]]
}

@test "a run that was kept in the log folder can be told again" {
    try tell
    try notify <"$SLUICE_LOG_DIR"/records/*.jsonl
    assert_status 0
    log | grep -c 'DAILY OF SHOP (DEV): ok' | grep -qx 2
}

@test "a rehearsal is told to nobody" {
    echo "boom" >"$HOME/trouble/fail-int_orders_monthly-whole"
    plan-daily --select tag:orders --dry-run | with_fake_dbt | notify >"$out" 2>"$err"
    assert_equal "$(pick notify_result status)" dry_run
    [[ ! -e "$SLUICE_LOG_DIR" ]]
}

@test "logs and records are for their owner's eyes only, whatever the umask" {
    umask 000
    try tell
    [[ -z "$(find "$SLUICE_LOG_DIR" "$SLUICE_STATE_DIR/state.sqlite" "$SLUICE_STATE_DIR/locks" -perm /077)" ]] ||
        fail "$(find "$SLUICE_LOG_DIR" "$SLUICE_STATE_DIR" -perm /077 -ls)"
}
