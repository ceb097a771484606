#!/usr/bin/env bats
# plan-refill: its arithmetic, its phases and waves, what it refuses. Waves in detail: tests/lib/test_refill.py.

source "$BATS_TEST_DIRNAME/helper.bash"

setup() {
    fresh_world
    with_parsed_shop
    cohort=(--cohort int_stock_daily --to 2026-04-27 --allow G05 --dry-run) # as if it were April
}

plan() { try plan-refill "${cohort[@]}" "$@"; }

# refused CODE WORDS...: exit 2, with this code, these words on stderr, and not one batch
refused() {
    assert_status 2
    assert_equal "$(pick error code)" "$1"
    assert_equal "$(pick batch seq)" ""
    shift
    assert_says "$@"
}

@test "the worked example: gap, lookback and months" {
    plan --from-date 2026-04-17
    assert_status 0
    assert_records
    assert_equal "$(pick plan gap.days gap.buffer_days gap.lookback_days gap.months)" '10 1 12 ["2026-04-01"]'
    plan --from-date 2026-03-30
    assert_equal "$(pick plan gap.days gap.lookback_days gap.months)" '28 30 ["2026-03-01", "2026-04-01"]'
}

@test "a person sees the same in one line" {
    try "$PYTHON" "$LOOK" tty "$ROOT/bin/plan-refill" "${cohort[@]}" --from-date 2026-04-17
    assert_status 0
    grep -q 'gap from 2026-04-17: 10 d, buffer 1, lookback 12' "$out" || fail "it does not say so"
}

@test "the lookback instead of the day is the same plan, and so is the old name of a flag" {
    plan --from-date 2026-04-17
    first=$(pick plan plan_id)
    plan --lookback-days 12
    assert_equal "$(pick plan plan_id)" "$first"
    plan --from-date 2026-04-17 --skip-rewrite
    first=$(pick plan plan_id)
    plan --from-date 2026-04-17 --skip-balances-rewrite
    assert_equal "$(pick plan plan_id)" "$first"
    plan --from-date 2026-04-17 --consumers fct_stock_monthly --skip-consumers
    first=$(pick plan plan_id)
    plan --from-date 2026-04-17 --consumers fct_stock_monthly --skip-price-dependent
    assert_equal "$(pick plan plan_id)" "$first"
}

@test "rewrite, month after month where a month needs the one before; the gate; what reads it, in waves" {
    plan --from-date 2026-03-30 --consumers fct_stock_monthly
    assert_status 0
    assert_equal "$(pick batch wave phase model window.start)" "1 rewrite model.shop.int_stock_daily 2026-03-01
2 rewrite model.shop.int_stock_daily 2026-04-01
4 consumers model.shop.fct_stock_monthly null
5 rebuild model.shop.api_stock null"
    assert_equal "$(pick gate wave gate models since to)" '3 canary ["model.shop.int_stock_daily"] 2026-02-26 2026-04-27'
    assert_equal "$(pick batch vars.price_lookback_days | xargs)" "null null 30 null"
    assert_equal "$(grep -n '"type":"gate"' "$out" | cut -d: -f1)" 4 # after the head and the rewrite, before the consumers
}

@test "the consumers come from the environment when no flag names them" {
    SLUICE_REFILL_CONSUMERS=fct_stock_monthly plan --from-date 2026-04-17 --lookback-var days_back
    assert_status 0
    assert_equal "$(pick batch phase vars.days_back | grep consumers)" "consumers 12"
}

@test "the consumers are those that the project tags, when nobody names any" {
    unset DBT_PROJECT_DIR DBT_PROFILES_DIR
    try plan-refill --from-date 2026-04-17 --to 2026-04-27 --dry-run
    assert_status 0
    assert_equal "$(pick batch phase model | grep consumers | sed 's/.*[.]//' | xargs)" \
        "int_prices_daily int_balances_usd_daily api_top_holders fct_token_metrics_daily api_token_metrics_monthly api_tokens"
    try plan-refill --from-date 2026-04-17 --to 2026-04-27 --dry-run --skip-consumers
    assert_equal "$(pick batch phase | grep -c consumers)" 0
}

@test "without the rewrite there is no gate; without anything there is no plan" {
    plan --from-date 2026-04-17 --skip-rewrite
    assert_status 0
    assert_equal "$(pick gate gate)" ""
    assert_equal "$(pick batch phase | sort -u)" rebuild
    try plan-refill --cohort api_stock --to 2026-04-27 --from-date 2026-04-17 --skip-rewrite
    refused refill_empty "everything is skipped" "try:"
}

@test "a day that cannot be is refused with 2: neither, both, to come, no day at all" {
    plan
    refused refill_which_gap "neither --from-date nor --lookback-days" "try:"
    plan --from-date 2026-04-17 --lookback-days 12
    refused refill_which_gap "both --from-date and --lookback-days"
    plan --from-date 2026-04-28
    refused refill_future 2026-04-28 2026-04-27
    for wrong in 2026-02-30 17.04.2026 yesterday ""; do
        plan --from-date "$wrong"
        assert_status 2 "$wrong"
        assert_nothing_on_stdout "$wrong"
        assert_no_traceback "$wrong"
    done
    for flag in --lookback-days=0 --lookback-days=-3 --buffer-days=-1; do
        plan "$flag" --from-date 2026-04-17
        assert_status 2 "$flag"
        assert_no_traceback "$flag"
    done
}

@test "a cohort that is not there is refused, and the message says so" {
    try plan-refill --from-date 2026-04-17 --to 2026-04-27
    assert_status 2
    assert_says tag:refill_append "try:"
}

@test "there is nothing to resume: told, and no failure" {
    try plan-refill --resume
    assert_status 0
    assert_equal "$(pick batch seq)" ""
    assert_says "nothing to resume"
    assert_no_state
}

@test "an unknown source, and an impact of none, are refused" {
    plan --from-date 2026-04-17 --source raw.prices
    refused refill_unknown_source "no source has this name"
    plan --from-date 2026-04-17 --impact
    refused refill_impact "plan-refill --from-date DATE --source raw.prices --impact"
}
