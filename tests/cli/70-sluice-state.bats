#!/usr/bin/env bats
# sluice-state: what is known of the runs, and what a person decides about them.

source "$BATS_TEST_DIRNAME/helper.bash"

setup() {
    fresh_world
    with_parsed_shop
}

teardown() { end_what_was_started; }

# leave_unfinished: a refresh of four batches that fails at the second; its $run
leave_unfinished() {
    echo boom >"$HOME/trouble/fail-int_orders_monthly-2024-04-01"
    plan-batches --select int_orders_monthly --to 2024-12-31 >plan
    with_fake_dbt <plan >/dev/null 2>&1 || true
    rm "$HOME/trouble"/*
    run=$(look pick plan run_id <plan)
}

@test "without a state store there is no run, which is said; none is made" {
    for action in runs pending; do
        try sluice-state "$action"
        assert_status 0
        assert_records
        assert_says "no run yet"
    done
    try sluice-state show 0193f
    assert_status 2
    assert_says "there is no run yet" "plan-batches | run-dbt-batch"
    assert_no_state
}

@test "runs lists the latest runs, newest first, --limit of them" {
    for model in fct_orders stg_movements api_stock; do
        plan-daily --select "$model" | with_fake_dbt >/dev/null
    done
    try sluice-state runs
    assert_status 0
    assert_records
    assert_equal "$(pick run_state models run_status done total is_alive)" '["model.shop.api_stock"] SUCCESS 1 1 false
["model.shop.stg_movements"] SUCCESS 1 1 false
["model.shop.fct_orders"] SUCCESS 1 1 false'
    try sluice-state runs --limit 2
    assert_equal "$(pick run_state models)" '["model.shop.api_stock"]
["model.shop.stg_movements"]'
}

@test "pending lists what was begun and not finished, with the command that goes on; then no more" {
    leave_unfinished
    try sluice-state pending
    assert_status 0
    assert_records
    assert_equal "$(pick run_state run_id run_status done total resume)" "$run FAILED 1 4 plan-batches --resume | run-dbt-batch"
    plan-batches --resume | with_fake_dbt >/dev/null
    try sluice-state pending
    assert_equal "$(pick run_state run_id)" ""
    assert_equal "$(sluice-state runs | look pick run_state attempt run_status done | xargs)" "2 SUCCESS 4 1 FAILED 4"
}

@test "show tells what became of each batch of a run, by the beginning or the end of its id" {
    leave_unfinished
    for id in "$run" "${run:0:16}" "${run: -6}"; do
        try sluice-state show "$id"
        assert_status 0
        assert_records
        assert_equal "$(pick run_state run_id)" "$run"
        assert_equal "$(pick batch_result seq status error | xargs)" "1 ok null 2 failed boom 3 skipped model.shop.int_orders_monthly failed in batch 2 4 skipped model.shop.int_orders_monthly failed in batch 2"
    done
}

@test "a run that is unknown or not the only one of that id is refused, with where to look" {
    leave_unfinished
    try sluice-state show ffff-no-such
    assert_status 2
    assert_says "no run matches 'ffff-no-such'" "sluice-state runs"
    plan-daily --select fct_orders | with_fake_dbt >/dev/null
    try sluice-state show "${run:0:4}"
    assert_status 2
    assert_says "several runs match"
    try sluice-state discard '%'
    assert_status 2
}

@test "arguments that do not belong together are refused" {
    leave_unfinished
    for call in show discard "runs $run" "resolve $run" "resolve $run 00" "show $run 00" "show $run --do-again" nonsense; do
        read -ra words <<<"$call"
        try sluice-state "${words[@]}"
        assert_status 2 "$call"
        assert_nothing_on_stdout "$call"
        assert_no_traceback "$call"
    done
}

@test "discard abandons a plan and keeps its history; a rehearsal of it does not" {
    leave_unfinished
    try sluice-state discard "$run" --dry-run
    assert_status 0
    assert_equal "$(sluice-state pending | look pick run_state run_id)" "$run"
    try sluice-state discard "$run"
    assert_status 0
    assert_records
    assert_equal "$(pick run_state is_discarded resume)" "true null"
    assert_equal "$(sluice-state pending | look pick run_state run_id)" ""
    assert_equal "$(sluice-state show "$run" | look pick batch_result seq | wc -l)" 4
    try plan-batches --resume
    assert_says "nothing to resume"
}

# leave_unknown: as leave_unfinished, but killed in the second batch, so that nobody knows what became of it
leave_unknown() {
    touch "$HOME/trouble/slow-int_orders_monthly-2024-04-01"
    plan-batches --select int_orders_monthly --to 2024-12-31 >plan
    run-dbt-batch --engine subprocess --dbt fake-dbt <plan >"$out" 2>"$err" 3>&- &
    pid=$!
    eventually test -s "$HOME/slow"
    stop KILL
    kill -KILL -- "-$(cat "$HOME/slow")" # dbt lives on, for a while
    rm "$HOME/trouble"/*
    run=$(look pick plan run_id <plan)
    batch=$(look pick batch batch_id <plan | sed -n 2p)
}

@test "a batch whose outcome was lost is shown as such, and not run again until a person says what to do" {
    leave_unknown
    try sluice-state show "$run"
    assert_equal "$(pick run_state run_status is_alive)" "RUNNING false"
    assert_equal "$(pick batch_result seq status error | sed -n 2p)" "2 cancelled begun, and its outcome was never recorded"
    plan-batches --resume >rest
    try with_fake_dbt <rest
    assert_status 1
    pick batch_result error | head -1 | grep -q "sluice-state resolve .* $batch --rows-are-there or --do-again"
    assert_equal "$(wc -l <"$HOME/calls")" 2
}

@test "resolve --do-again has the batch run again" {
    leave_unknown
    try sluice-state resolve "$run" "${batch:0:8}" --do-again
    assert_status 0
    assert_records
    plan-batches --resume >rest
    try with_fake_dbt <rest
    assert_status 0
    assert_equal "$(pick batch_result seq | xargs)" "2 3 4"
    assert_equal "$(grep -c 2024-04-01 "$HOME/calls")" 2
}

@test "resolve --rows-are-there has the batch taken as done" {
    leave_unknown
    try sluice-state resolve "$run" "$batch" --rows-are-there
    assert_status 0
    assert_equal "$(pick batch_result seq status | sed -n 2p)" "2 ok"
    plan-batches --resume >rest
    try with_fake_dbt <rest
    assert_status 0
    assert_equal "$(pick batch_result seq | xargs)" "3 4"
    assert_equal "$(grep -c 2024-04-01 "$HOME/calls")" 1
    try sluice-state resolve "$run" "$batch" --do-again
    assert_status 2
    assert_says "is done already"
}

@test "on a terminal a person reads runs, not records" {
    leave_unfinished
    try "$PYTHON" "$LOOK" tty "$ROOT/bin/sluice-state" pending
    assert_status 0
    grep -q "$run.*FAILED.*full_refresh.*shop/dev.*1/4" "$out"
    grep -q "go on: plan-batches --resume" "$out"
    ! grep -q '"type"' "$out"
}

@test "status is one screen: what was left, how it went last, what is stale; --json has it as a record" {
    leave_unfinished
    plan-daily --select fct_orders | with_fake_dbt >/dev/null
    try sluice-state status
    assert_status 0
    assert_records
    assert_equal "$("$PYTHON" -c 'import json, sys
o = json.loads(sys.stdin.readline())
print(o["at_work"], [(r["run_id"], r["done"], r["resume"]) for r in o["pending"]], [(r["intent"], r["run_status"]) for r in o["last"]], o["stale"])' <"$out")" \
        "[] [('$run', 1, 'plan-batches --resume | run-dbt-batch')] [('daily', 'SUCCESS'), ('full_refresh', 'FAILED')] []"
    try "$PYTHON" "$LOOK" tty sluice-state status --no-color </dev/null
    assert_status 0
    for words in "left unfinished" "go on: plan-batches --resume" "SUCCESS   daily of shop"; do
        grep -qF "$words" "$out" || fail "it does not show: $words"
    done
}

@test "status without a project tells the rest, and why it does not know what is stale" {
    plan-daily --select fct_orders | with_fake_dbt >/dev/null
    try sluice-state status --project-dir /nowhere
    assert_status 0
    assert_equal "$(pick overview last_success_at | cut -c1-2)" "20"
    pick overview stale_unknown | grep -q "no dbt_project.yml in /nowhere"
}

@test "--watch draws again until it is stopped, on a terminal only" {
    plan-daily --select fct_orders | with_fake_dbt >/dev/null
    try sluice-state status --watch
    assert_status 2
    assert_says "no terminal"
    "$PYTHON" "$LOOK" tty sluice-state status --watch </dev/null >"$out" 2>&1 &
    pid=$!
    eventually grep -qF "daily of shop" "$out"
    ended=$(pgrep -P "$pid")
    kill -INT "$ended"
    status=0
    wait "$pid" || status=$?
    assert_status 130
}

# bats test_tags=long
@test "coverage tells what is there; adopt records it, so that nothing is built again; discard takes that back" {
    try sluice-state adopt --select int_orders_monthly
    assert_status 2
    assert_equal "$(pick error code)" "adopt_nothing"
    plan-batches --select int_orders_monthly --to 2024-12-31 | run-dbt-batch >/dev/null
    rm "$SLUICE_STATE_DIR"/state.sqlite*
    try sluice-state coverage --select int_orders_monthly
    assert_status 0
    assert_records
    assert_equal "$(pick coverage model stage counts.unrecorded uncounted)" "model.shop.int_orders_monthly default 12 null"
    try sluice-state adopt --select int_orders_monthly --dry-run
    assert_status 0
    assert_no_state
    assert_equal "$(pick batch_result status window.start | grep dry_run)" "dry_run 2024-01-01
dry_run 2024-04-01
dry_run 2024-07-01
dry_run 2024-10-01"
    try sluice-state adopt --select int_orders_monthly
    assert_status 0
    assert_records
    run=$(pick plan run_id)
    assert_equal "$(plan-batches --only gaps --select int_orders_monthly --to 2024-12-31 2>/dev/null | look pick batch seq)" ""
    assert_equal "$(sluice-state coverage --select int_orders_monthly | look pick coverage counts.ok)" "12"
    sluice-state discard "$run" >/dev/null
    try "$PYTHON" "$LOOK" tty sluice-state coverage --select int_orders_monthly --no-color </dev/null
    sed -i 's/\x1b\[[0-9;]*m//g' "$out" # bold is no colour
    grep -qF "2024-01 → 2024-12  unrecorded" "$out" || fail "it does not show what is there"
}
