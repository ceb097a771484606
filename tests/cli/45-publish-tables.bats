#!/usr/bin/env bats
# publish-tables: built aside by a real dbt, on DuckDB. Each engine, its readers and its cuts: tests/lib/test_publish_tables.py.

source "$BATS_TEST_DIRNAME/helper.bash"

# The shop with a key and a canary for its stock to the end of May; aside of it, up to the end of June, in two attempts.
setup_file() {
    BATS_TEST_TMPDIR="$BATS_FILE_TMPDIR"
    fresh_world
    shop_with_canary
    plan-batches --select tag:stock --to 2024-05-31 | run-dbt-batch >in_place
    stock >may
    echo boom >"$HOME/trouble/fail-int_stock_daily-2024-04-01"
    plan-batches --aside --select tag:stock --to 2024-06-30 | run-dbt-batch >failed || true
    rm "$HOME/trouble"/*
    stock | diff may -
    plan-batches --resume | run-dbt-batch >built
}

setup() {
    fresh_world
    cp -Rp "$BATS_FILE_TMPDIR"/{state,home,built,may,failed} .
    export DBT_PROJECT_DIR="$BATS_FILE_TMPDIR/shop" DBT_PROFILES_DIR="$BATS_FILE_TMPDIR/shop" # where it was parsed
}

# stock: what readers see of it
stock() {
    query "select count(*) || ' ' || count(distinct (day, symbol)) || ' ' || sum(stock) || ' ' || max(day) from int_stock_daily"
    query "select count(*) || ' ' || sum(stock_days) from api_stock"
}

# bats test_tags=long
@test "what was built aside, in two attempts, is what a refresh in place leaves, and readers have it when it is published" {
    stock | diff may - || fail "readers saw something of it"
    (($(look pick batch_result status <built | wc -l) < 10)) || fail "the second attempt began anew"
    canary-check <built >checked
    try publish-tables <checked
    assert_status 0
    assert_records
    assert_equal "$(pick publish_result status | uniq -c | xargs)" "4 ok"
    stock >june
    plan-batches --select tag:stock --to 2024-06-30 | run-dbt-batch >in_place
    stock | diff june -
    ! diff -q may june || fail "nothing was published"
}

# bats test_tags=long
@test "built and not published it is unfinished: nobody builds the same, and a resume asks the gate again and publishes" {
    try sluice-state pending
    assert_equal "$(pick run_state resume)" "plan-batches --resume | run-dbt-batch | canary-check | publish-tables"
    try plan-batches --select int_stock_daily --to 2024-06-30
    assert_status 2
    assert_equal "$(pick error code)" state_unfinished_plan
    plan-batches --resume | run-dbt-batch | canary-check | publish-tables >"$out"
    assert_equal "$(pick check_result check status)" "canary ok"
    assert_equal "$(pick publish_result status | uniq -c | xargs)" "4 ok"
    try sluice-state pending
    assert_equal "$(pick run_state run_id)" ""
}

@test "a run that failed, a gate that nobody asked and one that is red publish nothing; the gate looks at what was built" {
    try publish-tables <failed
    assert_status 1
    try publish-tables <built
    assert_status 1
    assert_says "nobody asked the gate canary"
    change "update int_stock_daily__sluice_aside set stock = 2 * (stock + 1000) where day > '2024-06-15'"
    try canary-check <built
    assert_status 3
    cp "$out" checked
    try publish-tables <checked
    assert_status 3
    assert_equal "$(pick publish_result status | uniq -c | xargs)" "4 skipped"
    stock | diff may -
}

# bats test_tags=long
@test "killed with -9 at any moment and started again it publishes once" {
    canary-check <built >checked
    for after in 0.1 0.3 0.4 0.5 0.6; do
        timeout -s KILL "$after" publish-tables <checked >cut 2>&1 || true
        (($(query 'select count(*) from int_stock_daily') > 0)) || fail "there is nothing to read"
    done
    try publish-tables <checked
    assert_status 0
    try publish-tables <checked
    assert_status 0
    assert_equal "$(pick publish_result error | sort -u)" "published already"
    assert_equal "$(query 'select max(day) from int_stock_daily')" 2024-06-30
    assert_equal "$(query 'select max(day) from int_stock_daily__sluice_before')" 2024-05-31
}

@test "--undo brings back what was there; --clean-up drops what was kept when its time is over" {
    cp -Rp state state_of_june
    cp -Rp home home_of_june
    canary-check <built >checked
    publish-tables --keep 1h <checked >published
    try publish-tables --clean-up
    assert_equal "$(pick publish_result action)" ""
    try publish-tables --undo
    assert_status 0
    assert_records
    stock | diff may -
    try publish-tables --undo
    assert_status 0
    assert_says "undone already"

    rm -rf state home
    mv state_of_june state
    mv home_of_june home
    publish-tables --keep 0s <checked >published
    try publish-tables --clean-up
    assert_status 0
    assert_equal "$(pick publish_result action status | sort | uniq -c | xargs)" "4 clean_up ok"
    ! query "select table_name from information_schema.tables" | grep __sluice_before || fail "it is still there"
}

@test "what cannot be built aside is refused before anything runs" {
    for flags in "--stage usdc" "--incremental-only"; do
        try plan-batches --aside --select fct_orders --select int_orders_monthly $flags
        assert_status 2
    done
    assert_equal "$(pick error code)" plan_aside_partial
    plan-batches --aside --select fct_orders >plan
    try with_fake_dbt <plan
    assert_status 2
    assert_equal "$(pick error code)" plan_aside_engine
    try publish-tables --allow everything </dev/null
    assert_status 2
    assert_says "none of publish_missing_columns"
    try publish-tables --keep forever </dev/null
    assert_status 2
}
