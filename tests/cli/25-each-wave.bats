#!/usr/bin/env bats
# each-wave: a whole refill on DuckDB, wave after wave, with its gate; stopped by it, and gone on with. Barriers, signals
# and what a pipe may be: tests/lib/test_each_wave.py.

source "$BATS_TEST_DIRNAME/helper.bash"

# The shop with a key and a canary for its stock, built up to the end of May; its rows kept as a text: `built`.
setup_file() {
    BATS_TEST_TMPDIR="$BATS_FILE_TMPDIR"
    fresh_world
    shop_with_canary
    plan-batches --select tag:stock --to 2024-05-31 | run-dbt-batch >results
    look tables "$DATABASE" >built
}

setup() {
    fresh_world
    cp -Rp "$BATS_FILE_TMPDIR"/{state,home,built} .
    export DBT_PROJECT_DIR="$BATS_FILE_TMPDIR/shop" DBT_PROFILES_DIR="$BATS_FILE_TMPDIR/shop" # where it was parsed
}

spoil() { change "update int_stock_daily set stock = stock + 1 where day >= '2024-04-10'"; }

refill() {
    plan-refill --cohort int_stock_daily --consumers fct_stock_monthly "$@" | each-wave 'run-dbt-batch | optimize-partitions | canary-check' | notify
}
export -f refill
days=(--from-date 2024-04-10 --to 2024-05-31 --allow G05) # as if it were May

# bats test_tags=long
@test "a refill mends what was wrong: every wave in its turn, each ends with its own result, one plan, one summary" {
    spoil
    try refill "${days[@]}"
    assert_status 0
    assert_records
    assert_equal "$(pick batch_result wave model status)" "1 model.shop.int_stock_daily ok
2 model.shop.int_stock_daily ok
4 model.shop.fct_stock_monthly ok
5 model.shop.api_stock ok"
    assert_equal "$(pick partition_result status duplicate_rows_before duplicate_rows_after)" $'ok 60 0\nok 62 0'
    assert_equal "$(pick check_result check status)" "canary ok"
    assert_equal "$(pick plan intent)" refill
    assert_equal "$(pick batch seq)$(pick gate gate)" "" # consumed
    look tables "$DATABASE" | diff built -
    assert_equal "$(sluice-state pending | look pick run_state run_id)" ""
    try refill "${days[@]}" # and again
    assert_status 0
    look tables "$DATABASE" | diff built -
}

@test "a red canary stops before what reads it; once it is green the rest is done, and no month twice" {
    spoil
    change "create table held as from fct_stock_monthly"
    change "insert into int_stock_daily values ('2024-03-30', 'odd', 1), ('2024-04-02', 'odd', 1)"
    try refill "${days[@]}"
    assert_status 3
    assert_records
    assert_equal "$(pick batch_result wave | xargs)" "1 2"
    assert_says "missing day" "plan-refill --resume"
    pick notify_result digest | grep -q 'red  canary of model.shop.int_stock_daily' || fail "the digest does not name it"
    assert_equal "$(query '(from held except from fct_stock_monthly) union all (from fct_stock_monthly except from held)')" ""

    change "drop table held"
    change "delete from int_stock_daily where symbol = 'odd'"
    try refill --resume
    assert_status 0
    assert_equal "$(pick batch_result wave status attempt)" $'1 ok 1\n2 ok 1\n4 ok 1\n5 ok 1'
    assert_equal "$(pick check_result status)" ok
    look tables "$DATABASE" | diff built -
    assert_equal "$(sluice-state pending | look pick run_state run_id)" "" # and that is known: the next refill is a new one
}

# bats test_tags=long
@test "the whole pipe is rehearsed, and nothing changes" {
    spoil
    look tables "$DATABASE" >before
    find state -type f -exec sha256sum {} + >files
    try refill "${days[@]}" --dry-run
    assert_status 0
    assert_records
    assert_equal "$(pick batch_result status | xargs)" "dry_run dry_run dry_run dry_run"
    assert_equal "$(pick check_result status)" dry_run
    look tables "$DATABASE" | diff before -
    find state -type f -exec sha256sum {} + | diff files -
}

@test "a pipe that cannot be is refused with 2 before anything runs" {
    plan-refill --cohort int_stock_daily "${days[@]}" >plan
    for pipe in "" "run-dbt-batch |" "| run-dbt-batch" "run-dbt-batch 'x" "no-such-command"; do
        try each-wave "$pipe" <plan
        assert_status 2 "$pipe"
        assert_equal "$(pick error code)" wave_bad_pipe
        assert_equal "$(pick batch_result seq)" ""
    done
}

@test "a planner that refused is not followed by anything" {
    try bash -o pipefail -c "plan-refill --cohort int_stock_daily | each-wave run-dbt-batch"
    assert_status 2
    assert_records
    assert_equal "$(pick batch_result seq)" ""
}
