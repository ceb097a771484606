#!/usr/bin/env bats
# plan-batches: what it plans, in which order, and what it refuses before anything runs.

source "$BATS_TEST_DIRNAME/helper.bash"

teardown() { end_what_was_started; }

setup() {
    fresh_world
    with_parsed_shop
    to=(--to 2024-12-31)
}

# models: the models of the plan in $out, in the order of their batches
models() { pick batch model | uniq | sed 's/.*\.//' | xargs; }

# windows: first and last month of each batch in $out
windows() { pick batch vars.start_month vars.end_month; }

# refuses CODE TEXT...: the last try was refused as bad input, with this code, words for a person, and no state
refuses() {
    assert_status 2
    assert_records
    assert_equal "$(pick error code)" "$1"
    assert_says "plan-batches: " "${@:2}" "  try: "
    assert_no_traceback
    assert_no_state
    [[ -z "$(pick batch seq)" ]] || fail "batches, all the same"
}

# -- what is chosen ---------------------------------------------------------------------------------------------------

@test "models come in dependency order, ties by name" {
    try plan-batches --select tag:stock --select tag:orders "${to[@]}"
    assert_status 0
    assert_records
    assert_equal "$(models)" "int_orders_monthly fct_orders stg_movements int_stock_daily fct_stock_monthly api_stock"
}

@test "repeated --select is a union, a comma an intersection, --exclude takes away" {
    try plan-batches --select fct_orders --select api_stock "${to[@]}"
    assert_equal "$(models)" "api_stock fct_orders"
    try plan-batches --select 'fct_orders api_stock' "${to[@]}"
    assert_equal "$(models)" "api_stock fct_orders"
    try plan-batches --select fct_orders api_stock "${to[@]}"
    assert_equal "$(models)" "api_stock fct_orders"
    try plan-batches --select tag:stock,tag:daily "${to[@]}"
    assert_equal "$(models)" int_stock_daily
    try plan-batches --select tag:daily --exclude tag:orders "${to[@]}"
    assert_equal "$(models)" int_stock_daily
    try plan-batches --select int_orders_monthly+ --exclude int_orders_monthly "${to[@]}"
    assert_equal "$(models)" fct_orders
}

@test "--selector takes one of dbt's YAML selectors" {
    try plan-batches --selector reports "${to[@]}"
    assert_status 0
    assert_equal "$(models)" "stg_movements fct_stock_monthly api_stock"
}

@test "a selection of nothing is refused, with the command that shows what dbt would choose" {
    try plan-batches --select tag:nowhere "${to[@]}"
    refuses plan_empty_selection "no model of shop is chosen by --select tag:nowhere" "dbt ls"
    try plan-batches --select tag:stock --exclude tag:stock "${to[@]}"
    refuses plan_empty_selection "--select tag:stock --exclude tag:stock"
}

# -- what becomes of a model ------------------------------------------------------------------------------------------

@test "a model with the block becomes stages and windows, in order; the first batch replaces, the others append" {
    try plan-batches --select int_stock_daily "${to[@]}"
    assert_status 0
    assert_records
    assert_equal "$(pick batch stage | uniq -c | xargs)" "12 old 4 usdc 4 dai"
    assert_equal "$(pick batch full_refresh | uniq -c | xargs)" "1 true 19 false"
    assert_equal "$(pick batch seq | xargs)" "$(seq 1 20 | xargs)"
    assert_equal "$(pick batch total | uniq)" 20
    assert_equal "$(pick plan total)" 20
    assert_equal "$(pick batch stage window vars expect | sed -n '1p;13p;20p')" 'old {"start": "2024-01-01", "end": "2024-02-01"} {"symbol": "old", "start_month": "2024-01-01", "end_month": "2024-01-01"} ["model.shop.int_stock_daily"]
usdc {"start": "2024-03-01", "end": "2024-06-01"} {"symbol": "usdc", "start_month": "2024-03-01", "end_month": "2024-05-01"} ["model.shop.int_stock_daily"]
dai {"start": "2024-12-01", "end": "2025-01-01"} {"symbol": "dai", "start_month": "2024-12-01", "end_month": "2024-12-01"} ["model.shop.int_stock_daily"]'
}

@test "a model without the block is one full refresh, a batch of its own" {
    try plan-batches --select fct_orders "${to[@]}"
    assert_equal "$(pick batch model stage window vars full_refresh)" "model.shop.fct_orders default null {} true"
}

@test "the block is found in both places where dbt allows meta" {
    try plan-batches --select int_orders_monthly "${to[@]}" # meta beside config
    assert_equal "$(windows | xargs)" "2024-01-01 2024-03-01 2024-04-01 2024-06-01 2024-07-01 2024-09-01 2024-10-01 2024-12-01"
    try plan-batches --select int_stock_daily --stage usdc "${to[@]}" # config.meta
    assert_equal "$(windows | head -1)" "2024-03-01 2024-05-01"
}

@test "a start date inside a month begins with that month, and windows never drift, overlap or leave a hole" {
    try plan-batches --select long_history "${to[@]}" # from 1950-01-31 on
    assert_equal "$(windows | sed -n '1,2p' | xargs)" "1950-01-01 1950-01-01 1950-02-01 1950-02-01"
    assert_equal "$(windows | cut -d' ' -f1)" "$("$PYTHON" -c 'for m in range(900): print(f"{1950 + m // 12}-{m % 12 + 1:02}-01")')"
    try plan-batches --select int_stock_daily --stage dai --to 2024-11-30
    assert_equal "$(windows | xargs)" "2024-06-01 2024-07-01 2024-08-01 2024-09-01 2024-10-01 2024-11-01"
}

@test "the last window ends with the month of --to, which is today in UTC by default" {
    try plan-batches --select int_orders_monthly --to 2024-05-01
    assert_equal "$(windows | tail -1)" "2024-04-01 2024-05-01"
    assert_equal "$(pick plan to)" 2024-05-01
    TZ=Pacific/Kiritimati try plan-batches --select int_orders_monthly
    assert_equal "$(windows | tail -1 | cut -d' ' -f2)" "$(date -u +%Y-%m-01)"
    assert_equal "$(pick plan to)" "$(date -u +%F)"
}

@test "a model that starts after --to has nothing to do, which is said and is no failure" {
    try plan-batches --select starts_tomorrow --to 2024-12-31
    assert_status 0
    assert_records
    assert_equal "$(pick plan total)" 0
    assert_says "starts_tomorrow" "nothing to do"
}

@test "--to is a day that the calendar has, else it is refused" {
    for day in 2024-02-30 2024-13-01 tomorrow 2024-1; do
        try plan-batches --select int_orders_monthly --to "$day"
        assert_status 2 "$day"
        assert_nothing_on_stdout
        assert_says "--to" "$day"
    done
}

@test "--stage runs only these stages, appending: the rows of the others stay" {
    try plan-batches --select tag:stock --stage usdc,dai "${to[@]}"
    assert_status 0
    assert_equal "$(models)" int_stock_daily
    assert_equal "$(pick batch stage full_refresh reason | uniq -c | xargs)" "4 usdc false stage 4 dai false stage"
}

@test "an unknown --stage is refused, and the known ones are listed" {
    try plan-batches --select tag:stock --stage usdt "${to[@]}"
    refuses plan_unknown_stage "--stage usdt" "did you mean 'usdc'?" "dai, old, usdc"
    try plan-batches --select fct_orders --stage usdc "${to[@]}"
    refuses plan_unknown_stage "--stage usdc" "select a model with meta.full_refresh.stages"
}

@test "--incremental-only appends everywhere and replaces nothing" {
    try plan-batches --select tag:orders --incremental-only "${to[@]}"
    assert_status 0
    assert_equal "$(pick batch full_refresh | sort -u)" false
    try plan-batches --select kept_for_ever --incremental-only "${to[@]}"
    assert_status 0
}

# bats test_tags=long
@test "--vars reach every batch, typed, and its id with them; a stage that says otherwise is a conflict" {
    plan-batches --select tag:orders "${to[@]}" | look pick batch batch_id >without
    vars='{"n": 3, "on": true, "list": ["a", 1], "symbol": "old"}'
    try plan-batches --select tag:orders --vars "$vars" "${to[@]}"
    assert_equal "$(pick batch vars.n vars.on vars.list vars.symbol | sort -u)" '3 true ["a", 1] old'
    ! pick batch batch_id | grep -qFf without
    try plan-batches --select int_stock_daily --vars "$vars" "${to[@]}"
    refuses plan_var_conflict "var symbol" "stage usdc of int_stock_daily"
    for bad in '{' '[1]' '{"a": {"b": 1}}' '{"a": "{{ 1 }}"}' '{"start_month": "2024-01-01"}' '{"a b": 1}'; do
        try plan-batches --select tag:orders --vars "$bad" "${to[@]}"
        assert_status 2 "$bad"
        assert_nothing_on_stdout "$bad"
        assert_says --vars
    done
}

@test "--delay is passed on with the plan" {
    try plan-batches --select fct_orders --delay 1.5 "${to[@]}"
    assert_equal "$(pick plan delay_s)" 1.5
}

@test "--resume with nothing to resume says so, and is no failure" {
    try plan-batches --resume
    assert_status 0
    assert_records
    assert_equal "$(pick batch seq)" ""
    assert_says "nothing to resume"
    assert_no_state
}

# -- plans are facts --------------------------------------------------------------------------------------------------

@test "the same request gives the same plan, byte for byte apart from run_id and at, and nothing is written" {
    find "$SLUICE_STATE_DIR" -type f -exec sha256sum {} + >before
    sed_out='s/"(run_id|at)":"[^"]*"//g; s/"duration_s":[0-9.]+//g'
    try plan-batches --select tag:stock --select tag:orders "${to[@]}"
    sed -E "$sed_out" "$out" >one
    try plan-batches --select tag:stock --select tag:orders "${to[@]}"
    sed -E "$sed_out" "$out" >two
    cmp one two
    assert_equal "$(pick batch run_id | sort -u | wc -l)" 1
    find "$SLUICE_STATE_DIR" -type f -exec sha256sum {} + | diff before -
}

@test "a batch keeps its id in another plan; another window or mode gives it another" {
    try plan-batches --select int_orders_monthly "${to[@]}"
    plan=$(pick plan plan_id)
    ids=$(pick batch batch_id)
    try plan-batches --select tag:orders "${to[@]}"
    assert_equal "$(pick batch batch_id | head -4)" "$ids"
    [[ "$(pick plan plan_id)" != "$plan" ]]
    try plan-batches --select int_orders_monthly --to 2024-11-30
    assert_equal "$(pick batch batch_id | head -3)" "$(head -3 <<<"$ids")"
    [[ "$(pick batch batch_id | tail -1)" != "$(tail -1 <<<"$ids")" ]]
    try plan-batches --select int_orders_monthly --incremental-only "${to[@]}"
    [[ "$(pick batch batch_id | head -1)" != "$(head -1 <<<"$ids")" ]]
}

# -- what models say wrong --------------------------------------------------------------------------------------------

# refuses_model NAME TEXT...: refused with file, model and key
refuses_model() {
    try plan-batches --select "$1" "${to[@]}"
    refuses plan_bad_config "models/refused/$1.sql: model $1:" "${@:2}" "correct models/refused/$1.sql, then plan again"
}

@test "batch_months that is not a whole number of months from 1 on is refused" {
    refuses_model months_zero "meta.full_refresh.batch_months 0"
    refuses_model months_negative "meta.full_refresh.batch_months -1"
    refuses_model months_fraction "meta.full_refresh.batch_months 1.5"
    refuses_model months_quoted "meta.full_refresh.batch_months '2'"
}

@test "a start_date that is missing or no day is refused" {
    refuses_model date_missing "meta.full_refresh has no start_date"
    refuses_model date_missing_in_stage "has no start_date for stage 'b'"
    refuses_model date_impossible "meta.full_refresh.start_date '2024-02-30'"
    refuses_model date_loose "meta.full_refresh.start_date '2024-1-1'" "like '2024-01-31'"
    refuses_model date_number "meta.full_refresh.start_date 20240101"
}

@test "an unknown key is refused with the nearest known one" {
    refuses_model key_unknown "meta.full_refresh.batch_month is not known; did you mean 'batch_months'?"
    refuses_model stage_key_unknown "meta.full_refresh.stages[0].var is not known; did you mean 'vars'?"
}

@test "stages that share a name, have none, or are no list are refused" {
    refuses_model stage_twice "two stages named 'a'"
    refuses_model stage_nameless "meta.full_refresh.stages[0].name is missing"
    refuses_model stages_mapping "meta.full_refresh.stages"
    refuses_model block_text "meta.full_refresh"
}

@test "vars that the window sets, and vars that are no plain values, are refused" {
    refuses_model vars_window "meta.full_refresh.stages[0].vars" "start_month"
    refuses_model vars_nested "meta.full_refresh.stages[0].vars" "symbol"
}

@test "every problem of a model is told at once" {
    refuses_model several_wrong start_date batch_months "did you mean 'stages'?"
}

@test "batching a table is refused as guard G01: each batch would replace the ones before" {
    try plan-batches --select batched_table "${to[@]}"
    refuses guard_g01 "G01 table-batched" models/refused/batched_table.sql "make it incremental"
}

@test "--allow goes on although a guard refuses, says so, and is kept with the plan" {
    try plan-batches --select batched_table --to 2024-02-29 --allow G01
    assert_status 0
    assert_records
    assert_says "allowed: G01 table-batched" "make it incremental"
    assert_equal "$(pick plan request.allow)" '["G01"]'
    try plan-batches --select batched_table --to 2024-02-29 --allow G02
    refuses guard_g01 "G01 table-batched" "--allow G01"
    try plan-batches --select batched_table --to 2024-02-29 --allow G33
    refuses guard_unknown "--allow G33" "G03 append-populated"
}

@test "a model with full_refresh: false is refused, since dbt would append the rebuild" {
    try plan-batches --select kept_for_ever "${to[@]}"
    refuses plan_full_refresh_off models/refused/kept_for_ever.sql "--exclude kept_for_ever"
}

@test "one bad model refuses the whole plan, however many good ones there are" {
    try plan-batches --select tag:orders --select months_zero "${to[@]}"
    refuses plan_bad_config months_zero
}

# -- what is wrong around ---------------------------------------------------------------------------------------------

# misconfigured CODE TEXT...: the last try found the set-up wrong
misconfigured() {
    assert_status 78
    assert_records
    assert_equal "$(pick error code)" "$1"
    assert_says "plan-batches: " "${@:2}" "  try: "
    assert_no_traceback
    assert_no_state
}

@test "a missing project or profile is told with the setting it came from" {
    try plan-batches --project-dir "$HOME/nowhere"
    misconfigured config_no_project "no dbt_project.yml in $HOME/nowhere (DBT_PROJECT_DIR, set by its flag)"
    DBT_PROJECT_DIR="$HOME/nowhere" try plan-batches
    misconfigured config_no_project "(DBT_PROJECT_DIR, set in the environment)"
    try plan-batches --profiles-dir "$HOME/nowhere"
    misconfigured config_no_profile "no profiles.yml in $HOME/nowhere"
}

@test "a project that dbt cannot parse is told in dbt's words" {
    own_shop
    rm -r "$DBT_PROJECT_DIR/models"/*
    echo "select {{ nonsense(" >"$DBT_PROJECT_DIR/models/broken.sql"
    try plan-batches
    misconfigured dbt_configuration "dbt cannot load $DBT_PROJECT_DIR" broken.sql
}

@test "a target that the profile lacks is told in dbt's words" {
    try plan-batches --select fct_orders --target nowhere
    misconfigured dbt_configuration "'nowhere'"
}

@test "a state store that is damaged or none gives 69 or 78, and is left as it is" {
    echo "this is no database, and it is long enough to be taken for one: $(seq 1000)" >"$SLUICE_STATE_DIR/state.sqlite"
    cp "$SLUICE_STATE_DIR/state.sqlite" before
    try plan-batches --select fct_orders
    assert_status 69
    assert_says "state.sqlite is damaged"
    cmp before "$SLUICE_STATE_DIR/state.sqlite"
    SLUICE_STATE=nonsense:x try plan-batches --select fct_orders
    assert_status 78
    assert_says "'nonsense'" "SLUICE_STATE, set in the environment"
}

# -- people and signals -----------------------------------------------------------------------------------------------

@test "on a terminal a person reads mode, stages, counts and windows, with no record among them" {
    try "$PYTHON" "$LOOK" tty "$ROOT/bin/plan-batches" --select int_stock_daily --select fct_stock_monthly "${to[@]}"
    assert_status 0
    tr -d '\r' <"$out" | sed 's/\x1b\[[0-9;]*[mK]//g' >screen
    grep -qE '^full refresh of shop on dev, to 2024-12-31: 21 batches$' screen
    grep -qE '^int_stock_daily +replace +old, usdc, dai +20$' screen
    grep -qE '^fct_stock_monthly +whole +- +1$' screen
    grep -qE '^ +\[1/21\] 2024-01 +old +--full-refresh$' screen
    grep -qE '^ +\[13/21\] 2024-03 → 2024-05 +usdc$' screen
    grep -qE '^ +\[21/21\] everything +--full-refresh$' screen
    ! grep -q '"type"' screen
    grep -q $'\e' "$out" # a terminal has colours
}

@test "on a terminal, NO_COLOR and --no-color take the colours away, --json gives records" {
    NO_COLOR=1 try "$PYTHON" "$LOOK" tty "$ROOT/bin/plan-batches" --select fct_orders "${to[@]}"
    ! grep -q $'\e\[[0-9;]*m' "$out"
    grep -q everything "$out"
    try "$PYTHON" "$LOOK" tty "$ROOT/bin/plan-batches" --select fct_orders --no-color "${to[@]}"
    ! grep -q $'\e\[[0-9;]*m' "$out"
    try "$PYTHON" "$LOOK" tty "$ROOT/bin/plan-batches" --select fct_orders --json "${to[@]}"
    tr -d '\r' <"$out" >lines && mv lines "$out"
    assert_records
}

@test "a signal while dbt parses ends the planner at once, and dbt with it" {
    rm -r "$SLUICE_STATE_DIR/dbt"
    for signal in INT:130 TERM:143; do
        plan-batches --select tag:orders >"$out" 2>"$err" 3>&- &
        pid=$!
        eventually dbt_runs
        stop "${signal%:*}"
        assert_status "${signal#*:}"
        assert_records
        assert_no_traceback
        ! dbt_runs || fail "dbt runs on"
    done
}

# bats test_tags=long
@test "--only plans what failed, or is missing, and appends; --estimate tells how long, --max-seconds refuses or trims" {
    echo boom >"$HOME/trouble/fail-int_orders_monthly-2024-04-01"
    orders=(--select int_orders_monthly --to 2024-12-31)
    plan-batches "${orders[@]}" >plan
    with_fake_dbt <plan >/dev/null 2>&1 || true
    sluice-state discard "$(look pick plan run_id <plan)" >/dev/null
    try plan-batches "${orders[@]}" --only failed
    assert_status 0
    assert_records
    assert_equal "$(pick batch window.start window.end full_refresh reason)" "2024-04-01 2024-07-01 false gap"
    try plan-batches "${orders[@]}" --only gaps # the first batch was done, and its rows are not there
    assert_equal "$(pick batch window.start | xargs)" "2024-01-01 2024-07-01 2024-10-01"
    try plan-batches "${orders[@]}" --only stale
    assert_status 0
    assert_equal "$(pick plan plan_id)" ""
    assert_says "nothing to plan: none of what should be there is stale"

    try plan-batches "${orders[@]}" --estimate
    assert_status 0
    assert_records
    assert_equal "$(pick forecast batches unknown bases.cell)" "4 0 1"
    assert_equal "$(pick batch estimate.samples | xargs)" "1 1 1 1"
    try plan-batches "${orders[@]}" --max-seconds 0
    assert_status 2
    assert_equal "$(pick error code) $(pick batch seq)" "forecast_too_long "
    try plan-batches --select fct_orders --deadline 06:00
    assert_status 2
    assert_equal "$(pick error code)" "forecast_unknown"
}
