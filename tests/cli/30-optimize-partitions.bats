#!/usr/bin/env bats
# optimize-partitions: at the end of a real pipe, on DuckDB. Real ClickHouse and Postgres: tests/lib/test_optimize_partitions.py.

source "$BATS_TEST_DIRNAME/helper.bash"

# The shop with a key for its stock, built; its rows kept as a text: `built`.
setup_file() {
    BATS_TEST_TMPDIR="$BATS_FILE_TMPDIR"
    fresh_world
    shop_with_canary
    plan-batches --select int_stock_daily --select stg_movements --to 2024-05-31 >plan
    run-dbt-batch <plan >results
    look tables "$DATABASE" >built
}

setup() {
    fresh_world
    cp -Rp "$BATS_FILE_TMPDIR"/{state,home,plan,results,built} .
    export DBT_PROJECT_DIR="$BATS_FILE_TMPDIR/shop" DBT_PROFILES_DIR="$BATS_FILE_TMPDIR/shop" # where it was parsed
}

# doubled: the rows of one month a second time, as a run that was cut off may leave them
doubled() {
    change "insert into int_stock_daily select * from int_stock_daily where month(day) = 4"
}

@test "rows that are there twice go; what came in is passed on byte for byte; a second time there is nothing to do" {
    doubled
    try optimize-partitions <results
    assert_status 0
    assert_records
    head -c "$(stat -c %s results)" "$out" | cmp - results
    assert_equal "$(pick partition_result model partition status duplicate_rows_before duplicate_rows_after)" "model.shop.int_stock_daily null ok 60 0"
    look tables "$DATABASE" | diff built -
    try optimize-partitions <results
    assert_equal "$(pick partition_result status duplicate_rows_before)" "ok 0"
    look tables "$DATABASE" | diff built -
}

@test "a rehearsal tells and changes nothing" {
    doubled
    look tables "$DATABASE" >before
    try optimize-partitions --dry-run <results
    assert_status 0
    assert_equal "$(pick partition_result status duplicate_rows_before rows_after)" "dry_run 60 null"
    look tables "$DATABASE" | diff before -
}

@test "a whole pipe is rehearsed before there is any warehouse" {
    rm "$DATABASE"
    try bash -o pipefail -c 'run-dbt-batch --dry-run <plan | optimize-partitions --dry-run'
    assert_status 0
    assert_equal "$(pick partition_result status rows_before)" "dry_run null"
    [[ ! -e "$DATABASE" ]]
}

@test "without a key equal rows may be real rows: refused with 2, nothing changed" {
    export DBT_PROJECT_DIR="$SHOP" DBT_PROFILES_DIR="$SHOP"
    cp -a "$BATS_SUITE_TMPDIR/parsed/." "$SLUICE_STATE_DIR/dbt/"
    doubled
    look tables "$DATABASE" >before
    try optimize-partitions <results
    assert_status 2
    assert_equal "$(pick error code)" optimize_no_key
    assert_says "int_stock_daily declares no key" "try: declare unique_key"
    look tables "$DATABASE" | diff before -
}

@test "what the project does not have: refused with 2 by name, nothing changed" {
    doubled
    look tables "$DATABASE" >before
    sed 's/model\.shop\.int_stock_daily/model.shop.gone/g' results >renamed
    try optimize-partitions <renamed
    assert_status 2
    assert_equal "$(pick error code)" optimize_unknown_model
    assert_says "gone: not in the project at" "try: use the same --project-dir"
    look tables "$DATABASE" | diff before -
}

@test "a stream that was cut off is no reason to begin" {
    doubled
    look tables "$DATABASE" >before
    head -3 results >cut
    try optimize-partitions <cut
    assert_status 65
    assert_equal "$(pick partition_result status)" ""
    look tables "$DATABASE" | diff before -
}

@test "the exit code of the command before is passed on, and what went well is looked after" {
    sed '$ s/"exit_code":0/"exit_code":1/' results >failed
    try optimize-partitions <failed
    assert_status 1
    assert_equal "$(pick partition_result status)" ok
}

@test "housekeeping reads nothing, not even from a terminal, and is ClickHouse's" {
    try optimize-partitions --threshold 5 </dev/null
    assert_status 2
    assert_equal "$(pick error code)" optimize_no_parts
    try "$PYTHON" "$LOOK" tty "$ROOT/bin/optimize-partitions" --threshold=5 </dev/null
    assert_status 2
    ! grep -q 'reads records from a pipe' "$out" || fail "it wants a pipe"
}

@test "a file that another process has open: 75, and who has it" {
    "$PYTHON" -c 'import duckdb, sys; c = duckdb.connect(sys.argv[1]); print("open", flush=True); sys.stdin.read()' "$DATABASE" < <(sleep 20) >opened &
    local holder=$!
    eventually grep -q open opened
    SLUICE_LOCK_WAIT_S=0 try optimize-partitions <results
    kill "$holder"
    assert_status 75
    assert_equal "$(pick error code)" warehouse_locked
}
