#!/usr/bin/env bats
# sluice-doctor: the set-up, looked at in the order in which things fail.

source "$BATS_TEST_DIRNAME/helper.bash"

setup() {
    fresh_world
    with_parsed_shop
}

teardown() { end_what_was_started; }

@test "each line says ok, warn or fail; what is red decides the exit code, and nothing is changed" {
    find "$BATS_TEST_TMPDIR" -type f ! -path '*/dbt/*' ! -path '*/logs/*' ! -name out ! -name err ! -name before | sort >before
    try sluice-doctor
    assert_status 3 # the shop has models that must not be batched
    assert_records
    assert_equal "$(pick setup_check check | uniq | xargs)" "python lock project profile parse connection rights macros ignored-vars guards never-seeded stale-code state locks mutations telegram disk clock"
    grep -q '"fail","found":"G01 table-batched: models/refused/batched_table.sql' "$out" || fail "no G01"
    assert_no_state
    find "$BATS_TEST_TMPDIR" -type f ! -path '*/dbt/*' ! -path '*/logs/*' ! -name out ! -name err ! -name before | sort | diff before - || fail "files came or went"
}

@test "a set-up that is wrong is 78, and the line says what to type" {
    try sluice-doctor --only project --only profile --project-dir /nowhere
    assert_status 78
    assert_records
    assert_equal "$(pick setup_check check verdict next | xargs)" "project fail pass --project-dir, or set DBT_PROJECT_DIR profile fail pass --project-dir, or set DBT_PROJECT_DIR"
    try sluice-doctor --only prject
    assert_status 2
    assert_says "no such check" "did you mean 'project'"
}

@test "on a terminal the lines are for people" {
    try "$PYTHON" "$LOOK" tty sluice-doctor --no-color --only telegram --only disk </dev/null
    assert_status 0
    grep -q '^warn  telegram ' <(tr '\r' '\n' <"$out" | sed 's/\x1b\[[0-9;]*[A-Za-z]//g') || fail "no such line"
    grep -q 'try: set TELEGRAM_BOT_TOKEN' "$out"
}

@test "--max-age is green after a run that succeeded, red before one and after its time, for the doctor and for status" {
    for command in sluice-doctor "sluice-state status"; do
        try $command --max-age 26h
        assert_status 3
        assert_records
        assert_equal "$(pick setup_check check verdict)" "last-success fail"
    done
    plan-daily --select fct_orders | with_fake_dbt >/dev/null
    for command in sluice-doctor "sluice-state status"; do
        try $command --max-age 26h
        assert_status 0
        try $command --max-age 0s
        assert_status 3
        try $command --max-age tomorrow
        assert_status 2
        assert_says "no duration"
    done
}

@test "without its packages it says so, and how to get them" {
    mkdir tree
    cp -R "$ROOT/bin" tree/bin
    ln -s "$ROOT/lib" tree/lib
    try "$("$PYTHON" -c 'import sys; print(sys._base_executable)')" -S tree/bin/sluice-doctor
    assert_status 78
    assert_says "sluice-doctor: No module named" "try: make setup"
}
