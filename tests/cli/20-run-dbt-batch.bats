#!/usr/bin/env bats
# run-dbt-batch: what it runs, what it refuses, and what it leaves behind when it is stopped.

source "$BATS_TEST_DIRNAME/helper.bash"

# What one `dbt run --full-refresh` leaves, kept as a text: `expected`.
setup_file() {
    BATS_TEST_TMPDIR="$BATS_FILE_TMPDIR"
    fresh_world
    DBT_TARGET_PATH="$HOME/target" DBT_LOG_PATH="$HOME" "${PYTHON%python*}dbt" run --full-refresh --select tag:stock >"$HOME/dbt.out" || cat "$HOME/dbt.out"
    look tables "$DATABASE" >"$BATS_FILE_TMPDIR/expected"
    grep -q int_stock_daily "$BATS_FILE_TMPDIR/expected"
}

setup() {
    fresh_world
    with_parsed_shop
    to=(--to 2024-12-31)
}

teardown() { end_what_was_started; }

# results: batch by batch, its number and what became of it
results() { pick batch_result seq status; }

# leaves_what_dbt_leaves: the tables are those of one unbatched run
leaves_what_dbt_leaves() {
    look tables "$DATABASE" | diff "$BATS_FILE_TMPDIR/expected" - || fail "not the tables of an unbatched run"
}

# trouble KIND BATCH [TEXT]: this batch will fail, take long, or do nothing
trouble() { echo "${3:-boom}" >"$HOME/trouble/$1-$2"; }

calm() { rm -f "$HOME/trouble"/*; }

# resume FLAG...: goes on with what was left unfinished
resume() { plan-batches --resume | run-dbt-batch "$@"; }
resume_with_fake_dbt() { plan-batches --resume | with_fake_dbt "$@"; }
export -f resume resume_with_fake_dbt

# -- on a real dbt ------------------------------------------------------------------------------------------------------

# bats test_tags=long
@test "stages and months leave exactly what one unbatched full refresh leaves; the same plan again changes nothing" {
    plan-batches --select tag:stock "${to[@]}" >plan
    try run-dbt-batch <plan
    assert_status 0
    assert_records
    assert_equal "$(results | xargs)" "$(for i in {1..23}; do echo "$i ok"; done | xargs)"
    assert_equal "$(pick batch_result batch_id)" "$(look pick batch batch_id <plan)"
    assert_equal "$(pick plan plan_id total)" "$(look pick plan plan_id total <plan)"
    assert_equal "$(pick batch seq)" "" # consumed, not passed on
    leaves_what_dbt_leaves
    assert_equal "$(sluice-state pending | look pick run_state run_id)" ""

    pick batch_result batch_id began_at ended_at duration_s >first
    try with_fake_dbt <plan
    assert_status 0
    [[ ! -e "$HOME/calls" ]] # dbt was not asked
    assert_equal "$(pick batch_result batch_id began_at ended_at duration_s)" "$(cat first)"
    leaves_what_dbt_leaves
}

@test "more than one worker is refused where only one process can write, before anything" {
    plan-batches --select tag:stock --to 2024-03-31 >plan
    for flags in "" --dry-run; do
        try run-dbt-batch --workers 2 $flags <plan
        assert_status 2
        assert_says "--workers 2: duckdb lets only one process write to its file" "try: leave --workers out"
    done
    try run-dbt-batch --workers 0 <plan
    assert_status 2
    [[ ! -e "$DATABASE" ]]
}

# bats test_tags=long
@test "stopped in mid batch by SIGINT, SIGTERM and kill -9, and resumed each time: the tables of an unbatched run" {
    plan-batches --select tag:stock "${to[@]}" >plan
    stop_at INT 2024-03-01
    assert_status 130
    assert_records
    assert_equal "$(results | tail -1)" "4 cancelled"
    assert_says "run-dbt-batch: cancelled after 3 of 23 batches" "plan-batches --resume | run-dbt-batch"

    plan-batches --resume >plan
    assert_equal "$(look pick batch seq <plan | head -1)" 4
    stop_at TERM 2024-07-01
    assert_status 143
    assert_records
    assert_equal "$(results | tail -1)" "8 cancelled"

    plan-batches --resume >plan
    stop_at KILL 2024-10-01
    assert_status 137
    assert_equal "$(sluice-state runs | look pick run_state is_alive done | head -1)" "false 10"

    calm
    try resume
    assert_status 0
    assert_equal "$(results | xargs)" "$(for i in {11..23}; do echo "$i ok"; done | xargs)"
    assert_equal "$(pick batch_result attempt | head -1)" 2
    leaves_what_dbt_leaves
}

# start COMMAND...: carries out the plan in the background
start() {
    "$@" <plan >"$out" 2>"$err" 3>&- &
    pid=$!
}

# stop_at SIGNAL MONTH: runs the plan, and sends the signal while the batch of this month takes for ever
stop_at() {
    calm
    trouble slow "int_stock_daily-$2"
    start run-dbt-batch
    eventually compgen -G "$SLUICE_LOG_DIR/$(look pick plan run_id <plan)/*-$2.log" >/dev/null
    sleep 0.5 # dbt is inside the statement now
    stop "$1"
    eventually no_dbt_runs
}

no_dbt_runs() { ! dbt_runs; }

# bats test_tags=long
@test "no secret of the environment is told, logged or stored, not even one that dbt's own error quotes" {
    export SHOP_PASSWORD=canary-of-a-password TELEGRAM_BOT_TOKEN=123456:canary-of-a-token DBT_ENV_SECRET_KEY=canary-of-dbt
    trouble fail int_orders_monthly-2024-04-01 "no login with $SHOP_PASSWORD at https://user:canary-in-a-url@host, $TELEGRAM_BOT_TOKEN, $DBT_ENV_SECRET_KEY"
    plan-batches --select tag:orders "${to[@]}" >plan
    status=0
    run-dbt-batch -v <plan 2>"$err" | tee results | notify -v >"$out" 2>>"$err" || status=$?
    assert_status 1
    pick batch_result error | grep -qF 'no login with ***' # it was said
    plan-batches --resume | with_fake_dbt -v >second 2>>"$err" || true
    grep -qF 'no login with ***' second
    ! grep -rl canary- plan results second "$out" "$err" "$SLUICE_STATE_DIR" "$SLUICE_LOG_DIR" || fail "there it is"
}

@test "any dbt command line runs the same batch, with --engine subprocess --dbt" {
    plan-batches --select stg_movements "${to[@]}" >plan
    export DBT_TARGET_PATH="$HOME/target" DBT_LOG_PATH="$HOME"
    try run-dbt-batch --engine subprocess --dbt "'${PYTHON%python*}dbt'" <plan
    assert_status 0
    assert_records
    assert_equal "$(results)" "1 ok"
    assert_equal "$(query 'select count(*) from stg_movements')" 886
}

# bats test_tags=long
@test "a plan of another project is refused, and nothing is run" {
    plan-batches --select fct_orders "${to[@]}" >plan
    mkdir -p other/models
    sed 's/name: shop/name: other/' "$SHOP/dbt_project.yml" >other/dbt_project.yml
    cp "$SHOP/profiles.yml" other/
    echo "select 1 as n" >other/models/fct_orders.sql
    try run-dbt-batch --project-dir other --profiles-dir other <plan
    assert_status 2
    assert_records
    assert_equal "$(pick error code)" plan_other_project
    assert_says "the plan is for project shop" "$BATS_TEST_TMPDIR/other holds other" "--project-dir"
    [[ ! -e "$DATABASE" ]]
    assert_equal "$(sluice-state runs | look pick run_state run_id)" ""
}

# -- failures -----------------------------------------------------------------------------------------------------------

@test "a failed batch stops the run: the rest is skipped and says why, exit 1" {
    trouble fail int_orders_monthly-2024-04-01 "disk on fire"
    plan-batches --select tag:orders --select stg_movements "${to[@]}" >plan
    try with_fake_dbt <plan
    assert_status 1
    assert_records
    assert_equal "$(results | xargs)" "1 ok 2 failed 3 skipped 4 skipped 5 skipped 6 skipped"
    pick batch_result error | sed -n 2p | grep -qF 'disk on fire'
    assert_equal "$(pick batch_result error | sed -n '3p;6p')" 'model.shop.int_orders_monthly failed in batch 2
stopped after 1 failure'
    assert_says "batch 2 of 6: model.shop.int_orders_monthly" "disk on fire" "failed after 1 of 6 batches" "plan-batches --resume"
    assert_equal "$(wc -l <"$HOME/calls")" 2
}

@test "--continue-on-error skips what depends on a failure, says why, and runs all else" {
    trouble fail int_orders_monthly-2024-04-01
    plan-batches --select tag:orders --select stg_movements "${to[@]}" >plan
    try with_fake_dbt --continue-on-error <plan
    assert_status 1
    assert_equal "$(results | xargs)" "1 ok 2 failed 3 skipped 4 skipped 5 skipped 6 ok"
    assert_equal "$(pick batch_result model error | sed -n 5p)" "model.shop.fct_orders model.shop.int_orders_monthly failed in batch 2"
}

@test "--max-failures N stops at the Nth failure, not before" {
    trouble fail int_orders_monthly-2024-01-01
    trouble fail noisy-whole
    plan-batches --select tag:orders --select noisy --select stg_movements "${to[@]}" >plan
    try with_fake_dbt --max-failures 2 <plan
    assert_status 1
    assert_equal "$(results | xargs)" "1 failed 2 skipped 3 skipped 4 skipped 5 skipped 6 failed 7 skipped"
    assert_equal "$(pick batch_result error | tail -1)" "stopped after 2 failures"
}

discard_all() { for run in $(sluice-state pending | look pick run_state run_id); do sluice-state discard "$run" >/dev/null; done; }

@test "a failed run resumes where it failed, and nothing that is done is run again" {
    trouble fail int_orders_monthly-2024-04-01
    plan-batches --select tag:orders "${to[@]}" >plan
    try with_fake_dbt <plan
    assert_status 1
    calm
    try resume_with_fake_dbt
    assert_status 0
    assert_records
    assert_equal "$(results | xargs)" "2 ok 3 ok 4 ok 5 ok"
    assert_equal "$(pick plan total pending attempt)" "5 4 2"
    assert_equal "$(sort "$HOME/calls" | uniq -c | awk '{print $1, $2}' | xargs)" "1 fct_orders-whole 1 int_orders_monthly-2024-01-01 2 int_orders_monthly-2024-04-01 1 int_orders_monthly-2024-07-01 1 int_orders_monthly-2024-10-01"
    try plan-batches --resume
    assert_says "nothing to resume"
}

@test "a batch is failed when dbt exits 0 without having run what was expected" {
    trouble nothing fct_orders-whole
    plan-batches --select fct_orders "${to[@]}" >plan
    try with_fake_dbt <plan
    assert_status 1
    assert_equal "$(results)" "1 failed"
    pick batch_result error | grep -qF "model.shop.fct_orders missing"
}

# -- streams that are not as they were planned -------------------------------------------------------------------------------

@test "a batch that was changed after it was planned is refused with 2" {
    plan-batches --select int_orders_monthly "${to[@]}" >plan
    sed '3s/"start_month":"2024-04-01"/"start_month":"2023-04-01"/' plan >changed
    ! cmp -s plan changed
    try with_fake_dbt <changed
    assert_status 2
    assert_records
    assert_equal "$(pick error code)" stream_changed_batch
    assert_says "line 3: batch" "is not what its id says"
    assert_equal "$(cat "$HOME/calls")" "int_orders_monthly-2024-01-01 replace"
}

@test "a batch that comes twice in a stream is run once, and the second line is named" {
    plan-batches --select int_orders_monthly "${to[@]}" | sed '2p' >plan
    try with_fake_dbt <plan
    assert_status 0
    assert_equal "$(results | xargs)" "1 ok 2 ok 3 ok 4 ok"
    assert_equal "$(wc -l <"$HOME/calls")" 4
    assert_says "line 3: batch" "already done by line 2"
}

@test "a batch without its plan, a batch of another plan and a second plan are refused with 65" {
    plan-batches --select int_orders_monthly "${to[@]}" >plan
    plan-batches --select fct_orders "${to[@]}" >other
    sed 1d plan >stream && try with_fake_dbt <stream
    assert_status 65
    assert_says "line 1: a batch before its plan"
    { head -1 plan; sed 1d other; } >stream && try with_fake_dbt <stream
    assert_status 65
    assert_says "line 2: batch" "belongs to plan"
    discard_all
    plan-batches --select int_orders_monthly "${to[@]}" >plan
    { head -1 plan; cat plan; } >stream && try with_fake_dbt <stream
    assert_status 65
    assert_says "line 2: a second plan"
    [[ ! -e "$HOME/calls" ]]
}

@test "a plan for another target is refused, with the setting that says so" {
    plan-batches --select fct_orders "${to[@]}" >plan
    DBT_TARGET=other try run-dbt-batch <plan
    assert_status 2
    assert_equal "$(pick error code)" plan_other_target
    assert_says "the plan is for target dev, this command's is other (DBT_TARGET, set in the environment)"
}

@test "a stream that is cut off keeps what arrived whole, exits 65, and can be resumed" {
    plan-batches --select int_orders_monthly "${to[@]}" >plan
    head -c -300 plan >cut # no summary, and half a batch
    try with_fake_dbt <cut
    assert_status 65
    assert_records
    done=$(pick batch_result status | grep -c ok)
    ((done >= 2 && done < 4))
    assert_says "the input ended inside this line"
    try resume_with_fake_dbt
    assert_status 0
    assert_equal "$(wc -l <"$HOME/calls")" 4
}

@test "a reader that has gone: the batch in flight is finished and recorded, no other is begun, exit 141" {
    plan-batches --select int_orders_monthly "${to[@]}" >plan
    try "$PYTHON" "$LOOK" gone "$ROOT/bin/run-dbt-batch" --engine subprocess --dbt fake-dbt <plan
    assert_status 141
    assert_no_traceback
    assert_equal "$(cat "$HOME/calls")" "int_orders_monthly-2024-01-01 replace"
    try sluice-state show "$(look pick plan run_id <plan)"
    assert_equal "$(results)" "1 ok"
    try resume_with_fake_dbt
    assert_status 0
    assert_equal "$(results | xargs)" "2 ok 3 ok 4 ok"
}

# -- more than one run ----------------------------------------------------------------------------------------------------

@test "a second start of a plan that was left unfinished is refused with what to do; discard frees its models" {
    trouble fail int_orders_monthly-2024-04-01
    plan-batches --select tag:orders "${to[@]}" >plan
    plan-batches --select fct_orders "${to[@]}" >overlap
    try with_fake_dbt <plan
    calm
    run=$(look pick plan run_id <plan)
    try plan-batches --select tag:orders "${to[@]}"
    assert_status 2
    assert_records
    assert_equal "$(pick error code)" state_unfinished_plan
    assert_says "this plan was begun at" "left at 1 of 5 batches (run $run, FAILED)" "plan-batches --resume" "sluice-state discard $run"
    try plan-batches --select fct_orders "${to[@]}"
    assert_status 2
    assert_says "another plan for fct_orders"
    try with_fake_dbt <overlap # planned before the other one was begun
    assert_status 2
    assert_says "another plan for fct_orders"
    try plan-daily --select fct_orders
    assert_status 2
    try plan-batches --select stg_movements "${to[@]}" # none of its models
    assert_status 0

    try sluice-state discard "$run"
    assert_status 0
    try plan-batches --select tag:orders "${to[@]}"
    assert_status 0
    assert_equal "$(pick plan pending)" 5
    try with_fake_dbt <plan
    assert_status 2
    assert_says "run $run was discarded"
}

@test "of two runs over the same model one works, the other exits 75 and names the pid" {
    trouble slow fct_orders-whole
    plan-batches --select fct_orders "${to[@]}" >plan
    plan-batches --select tag:orders "${to[@]}" >second
    start run-dbt-batch --engine subprocess --dbt fake-dbt
    eventually test -s "$HOME/calls"
    SECONDS=0
    try with_fake_dbt <second
    assert_status 75
    assert_records
    assert_equal "$(pick error retryable)" true
    assert_says "fct_orders: run-dbt-batch is at work on it, pid $pid on "
    try with_fake_dbt <plan # the very same run
    assert_status 75
    try plan-batches --select tag:orders "${to[@]}"
    assert_status 75
    try plan-batches --resume
    assert_status 75
    try sluice-state discard "$(look pick plan run_id <plan)"
    assert_status 75
    assert_equal "$(wc -l <"$HOME/calls")" 1
    stop TERM
}

@test "a signal stops the dbt command line too, at once, and its batch is cancelled" {
    trouble slow int_orders_monthly-2024-04-01
    plan-batches --select int_orders_monthly "${to[@]}" >plan
    start run-dbt-batch --engine subprocess --dbt fake-dbt
    eventually grep -qs 2024-04-01 "$HOME/calls"
    stop TERM
    assert_status 143
    assert_records
    assert_equal "$(results | xargs)" "1 ok 2 cancelled"
    assert_says "cancelled after 1 of 4 batches"
}

# bats test_tags=long
@test "a resumed plan whose code or config changed is refused as drift, model by model, until --accept-drift" {
    own_shop
    trouble fail int_orders_monthly-2024-07-01
    plan-batches --select tag:orders "${to[@]}" >plan
    try with_fake_dbt <plan
    assert_status 1
    calm
    sed -i 's/\* 10/* 11/' "$DBT_PROJECT_DIR/models/orders/int_orders_monthly.sql"
    try plan-batches --resume
    assert_status 2
    assert_records
    assert_equal "$(pick error code)" plan_drift
    assert_says "model.shop.int_orders_monthly: its code or configuration changed" --accept-drift "sluice-state discard"
    ! grep -q 'fct_orders:' "$err"
    try bash -c 'plan-batches --resume --accept-drift | with_fake_dbt'
    assert_status 0
    assert_equal "$(results | xargs)" "3 ok 4 ok 5 ok"
    assert_equal "$(pick plan drift_from)" "$(look pick plan plan_id <plan)"
}

# -- people -----------------------------------------------------------------------------------------------------------------

@test "--delay waits between batches, the plan's unless the flag says otherwise" {
    plan-batches --select int_orders_monthly --delay 30 "${to[@]}" >plan
    try with_fake_dbt --delay 0.2 <plan
    assert_status 0
    "$PYTHON" -c "import sys; assert 0.6 <= float(sys.argv[1]) < 25, sys.argv[1]" "$(pick summary duration_s | tail -1)"
    plan-batches --select int_orders_monthly --delay 0.2 "${to[@]}" >plan
    try with_fake_dbt <plan
    "$PYTHON" -c "import sys; assert float(sys.argv[1]) >= 0.6, sys.argv[1]" "$(pick summary duration_s | tail -1)"
}

@test "on a terminal a person sees each result, and a bar with done and total" {
    plan-batches --select int_orders_monthly "${to[@]}" >plan
    trouble fail int_orders_monthly-2024-10-01 "disk on fire"
    try "$PYTHON" "$LOOK" tty bash -c 'with_fake_dbt <plan'
    assert_status 1
    tr -d '\r' <"$out" | sed 's/\x1b\[[0-9;?]*[a-zA-Z]//g' >screen
    grep -qE '\[1/4\] ok +int_orders_monthly  2024-01 → 2024-03' screen
    grep -qE '\[4/4\] failed +int_orders_monthly  2024-10 → 2024-12' screen
    grep -q 'disk on fire' screen
    grep -qE '[0-4]/4' screen
    ! grep -q '"type"' screen
}
