#!/usr/bin/env bats
# canary-check: a gate at the end of a real pipe, on DuckDB. Each check on each engine: tests/lib/test_canary_check.py.

source "$BATS_TEST_DIRNAME/helper.bash"

# The shop with a key and a canary for its stock, built up to the end of May.
setup_file() {
    BATS_TEST_TMPDIR="$BATS_FILE_TMPDIR"
    fresh_world
    shop_with_canary
    plan-batches --select int_stock_daily --select stg_movements --to 2024-05-31 | run-dbt-batch >results
    plan-refill --cohort int_stock_daily --from-date 2024-04-10 --to 2024-05-31 --dry-run >rehearsal
    # The same gate in a stream that is no rehearsal.
    sed 's/"dry_run":true/"dry_run":false/' rehearsal | grep -v '"type":"batch"' >gate
}

setup() {
    fresh_world
    cp -Rp "$BATS_FILE_TMPDIR"/{state,home,gate,rehearsal} .
    export DBT_PROJECT_DIR="$BATS_FILE_TMPDIR/shop" DBT_PROFILES_DIR="$BATS_FILE_TMPDIR/shop" # where it was parsed
    alone=(--select int_stock_daily --since 2024-03-29 --to 2024-05-31)
}

@test "green: the gate's checks are told, what came in is passed on byte for byte, and nothing changes" {
    look tables "$DATABASE" >before
    try canary-check <gate
    assert_status 0
    assert_records
    grep -v '"type":"gate"\|"type":"summary"' gate | cmp - <(head -1 "$out")
    assert_equal "$(pick check_result check subject status)" "canary model.shop.int_stock_daily ok"
    look tables "$DATABASE" | diff before -
}

@test "red: 3, and what is wrong is named with its day" {
    change "update int_stock_daily set stock = 2 * (stock + 1000) where month(day) = 5"
    try canary-check <gate
    assert_status 3
    assert_records
    assert_equal "$(pick check_result status threshold unit)" "failed 1.5 ratio"
    assert_says int_stock_daily jump 2024-05-01
    grep -q '"sluice_day":"2024-05-01"\|"day":"2024-05-01"' "$out" || fail "no sample of the day"
}

@test "--warn-only tells what is red, and goes on" {
    change "delete from int_stock_daily where day = '2024-05-10'"
    try canary-check --warn-only <gate
    assert_status 0
    assert_equal "$(pick check_result status)" failed
    assert_says "missing day"
}

@test "nothing to look at is red: an empty table, days that are not there, a table that is gone" {
    change "delete from int_stock_daily where day >= '2024-03-01'"
    try canary-check <gate
    assert_status 3
    change "delete from int_stock_daily"
    try canary-check <gate
    assert_status 3
    change "drop table int_stock_daily"
    try canary-check <gate
    assert_status 3
    assert_equal "$(pick check_result status)" failed
    assert_no_traceback
}

@test "a gate over models that declare no check is red, and says so" {
    sed 's/model.shop.int_stock_daily/model.shop.api_stock/g' gate >other
    try canary-check <other
    assert_status 3
    assert_equal "$(pick check_result check subject status)" "gate canary failed"
    assert_says "zero checks is not green"
    try canary-check --allow-empty <other
    assert_status 0
}

@test "a failure before in the pipe makes the gate red without a question" {
    sed '$ s/"exit_code":0/"exit_code":1/' gate >failed
    try canary-check <failed
    assert_status 3
    assert_equal "$(pick check_result check status)" "gate failed"
    assert_says "not asked"
}

@test "a stream that was cut off is 65 and no verdict" {
    head -2 gate >cut
    try canary-check <cut
    assert_status 65
    assert_equal "$(pick check_result status)" ""
}

@test "alone it reads nothing: green, red, and a selection without a check" {
    try canary-check "${alone[@]}" </dev/null
    assert_status 0
    assert_equal "$(pick check_result check status)" "canary ok"
    try canary-check --select stg_movements --since 2024-03-29 --to 2024-05-31 </dev/null
    assert_status 2
    assert_equal "$(pick error code)" check_none
    try canary-check --select int_stock_daily --since 2024-06-01 --to 2024-05-31 </dev/null
    assert_status 2
    assert_equal "$(pick error code)" check_bad_days
    change "update int_stock_daily set stock = -1000 where day = '2024-05-10'"
    try canary-check "${alone[@]}" </dev/null
    assert_status 3
    assert_says zero
}

@test "--recompute where nothing declares how is red, not green" {
    try canary-check --recompute <gate
    assert_status 3
    assert_says "none of the models declares a recompute"
}

@test "a rehearsal asks nothing" {
    rm "$DATABASE"
    try canary-check --dry-run <rehearsal
    assert_status 0
    assert_equal "$(pick check_result check status observed)" "canary dry_run null"
    [[ ! -e "$DATABASE" ]]
}

@test "a check that is declared wrongly is refused with 2: file, model and key are named" {
    own_shop
    sed -i "s/delta/delta/; 1a {{ config(meta={'canary': {'metric': 'stock', 'date_colum': 'day'}}) }}" "$DBT_PROJECT_DIR/models/stock/int_stock_daily.sql"
    try canary-check "${alone[@]}" </dev/null
    assert_status 2
    assert_equal "$(pick error code)" check_bad_config
    assert_says int_stock_daily meta.canary.date_colum date_column "try:"
}
