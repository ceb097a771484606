#!/usr/bin/env bats
# publish-tables: built aside by a real dbt, on DuckDB. Each engine, its readers and its cuts: tests/lib/test_publish_tables.py.

source "$BATS_TEST_DIRNAME/helper.bash"

# The shop with a key and a canary for its stock.
setup_file() {
    BATS_TEST_TMPDIR="$BATS_FILE_TMPDIR"
    fresh_world
    shop_with_canary
    plan-batches --select tag:stock --to 2024-05-31 | run-dbt-batch >results
}

setup() {
    fresh_world
    cp -Rp "$BATS_FILE_TMPDIR"/{state,home} .
    export DBT_PROJECT_DIR="$BATS_FILE_TMPDIR/shop" DBT_PROFILES_DIR="$BATS_FILE_TMPDIR/shop" # where it was parsed
    aside=(--aside --select tag:stock)
}

teardown() { end_what_was_started; }

# everything_but ENDING: what readers see, without the tables whose names end so
stock() { query "select count(*) || ' ' || sum(stock) || ' ' || max(day) from int_stock_daily"; query "select count(*) || ' ' || sum(stock_days) from api_stock"; }

# pipe FLAG...: a whole refresh that is built aside
pipe() { plan-batches "$@" | run-dbt-batch | canary-check | publish-tables; }
export -f pipe

@test "what is built aside becomes what a refresh in place would have left, and only when it is published" {
    stock >before
    plan-batches "${aside[@]}" --to 2024-06-30 | run-dbt-batch | canary-check >built
    stock | diff before - || fail "readers saw something of it"
    try publish-tables <built
    assert_status 0
    assert_equal "$(pick publish_result status | uniq -c | xargs)" "4 ok"
    stock >published
    ! diff -q before published || fail "nothing was published"
    export HOME="$BATS_TEST_TMPDIR/other" SLUICE_STATE_DIR="$BATS_TEST_TMPDIR/other"
    DATABASE="$HOME/shop.duckdb"
    mkdir -p "$HOME/trouble"
    plan-batches --select tag:stock --to 2024-06-30 | run-dbt-batch >in_place
    stock | diff published -
}

@test "an incremental run after a publication goes on with what is published" {
    pipe "${aside[@]}" --to 2024-06-30 >"$out"
    plan-daily --select fct_stock_monthly | run-dbt-batch >daily
    assert_equal "$(look pick batch_result status <daily)" ok
    try sluice-state pending
    assert_equal "$(pick run_state run_id)" ""
}

@test "built and not published it is unfinished: nobody builds the same, and a resume asks the gate again and publishes" {
    plan-batches "${aside[@]}" --to 2024-06-30 | run-dbt-batch >built
    try sluice-state pending
    assert_equal "$(pick run_state resume)" "plan-batches --resume | run-dbt-batch | canary-check | publish-tables"
    try plan-batches --select int_stock_daily --to 2024-06-30
    assert_status 2
    assert_equal "$(pick error code)" state_unfinished_plan
    try pipe --resume
    assert_status 0
    assert_equal "$(pick check_result check status)" "canary ok"
    assert_equal "$(pick publish_result status | uniq -c | xargs)" "4 ok"
    try sluice-state pending
    assert_equal "$(pick run_state run_id)" ""
}

@test "a red gate, and one that nobody asked, publish nothing; the gate looks at what was built" {
    stock >before
    plan-batches "${aside[@]}" --to 2024-06-30 | run-dbt-batch >built
    try publish-tables <built
    assert_status 1
    assert_says "nobody asked the gate canary"
    change "update int_stock_daily__sluice_aside set stock = 2 * (stock + 1000) where month(day) = 6"
    try canary-check <built
    assert_status 3
    cp "$out" checked
    try publish-tables <checked
    assert_status 3
    assert_equal "$(pick publish_result status | uniq -c | xargs)" "4 skipped"
    stock | diff before -
}

@test "a run that fails publishes nothing; resumed it goes on with what it was building" {
    stock >before
    echo boom >"$HOME/trouble/fail-int_stock_daily-2024-04-01"
    try pipe "${aside[@]}" --to 2024-06-30
    assert_status 1
    stock | diff before -
    rm "$HOME/trouble"/*
    try pipe --resume
    assert_status 0
    (($(pick batch_result status | wc -l) < 10)) || fail "it began anew"
    assert_equal "$(query 'select count(*) = count(distinct (day, symbol)) from int_stock_daily')" True
    assert_equal "$(query 'select max(day) from int_stock_daily')" 2024-06-30
}

@test "killed with -9 at any moment and started again it publishes once" {
    plan-batches "${aside[@]}" --to 2024-06-30 | run-dbt-batch | canary-check >built
    for after in 0.1 0.25 0.35 0.45; do
        timeout -s KILL "$after" publish-tables <built >cut 2>&1 || true
        (($(query 'select count(*) from int_stock_daily') > 0)) || fail "there is nothing to read"
    done
    try publish-tables <built
    assert_status 0
    assert_equal "$(query 'select max(day) from int_stock_daily')" 2024-06-30
    assert_equal "$(query 'select max(day) from int_stock_daily__sluice_before')" 2024-05-31
    try publish-tables <built
    assert_status 0
    assert_equal "$(pick publish_result error | sort -u)" "published already"
}

@test "--undo brings back what was there, --clean-up drops it when its time is over" {
    stock >before
    plan-batches "${aside[@]}" --to 2024-06-30 | run-dbt-batch | canary-check | publish-tables --keep 1h >published
    try publish-tables --undo
    assert_status 0
    stock | diff before -
    try publish-tables --undo
    assert_status 0
    assert_says "undone already"
    plan-batches "${aside[@]}" --to 2024-06-30 | run-dbt-batch | canary-check | publish-tables --keep 0s >published
    try publish-tables --clean-up
    assert_status 0
    assert_equal "$(pick publish_result action status | sort | uniq -c | xargs)" "4 clean_up ok"
    ! query "select table_name from information_schema.tables" | grep __sluice_before || fail "it is still there"
}

@test "what cannot be built aside is refused before anything runs" {
    for flags in "--stage usdc" "--incremental-only"; do
        try plan-batches "${aside[@]}" $flags
        assert_status 2
        assert_equal "$(pick error code)" plan_aside_partial
    done
    try plan-batches --aside --select int_stock_daily --select fct_stock_monthly --exclude api_stock --to 2024-06-30
    assert_status 0
    plan-batches --aside --select api_stock >plan
    try with_fake_dbt <plan
    assert_status 2
    assert_equal "$(pick error code)" plan_aside_engine
    try publish-tables --allow everything </dev/null
    assert_status 2
    assert_says "none of publish_missing_columns"
    try publish-tables --keep forever </dev/null
    assert_status 2
}
