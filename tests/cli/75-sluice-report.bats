#!/usr/bin/env bats
# sluice-report: one HTML file to look at.

source "$BATS_TEST_DIRNAME/helper.bash"

setup() {
    fresh_world
    with_parsed_shop
}

teardown() { end_what_was_started; }

@test "a run is in the report, whose place and size are on stdout; the file is its owner's alone" {
    plan-daily --select fct_orders | with_fake_dbt >/dev/null
    try sluice-report --output "$HOME/report.html"
    assert_status 0
    assert_records
    assert_equal "$(pick report_result path runs batches status)" "$HOME/report.html 1 1 ok"
    assert_equal "$(pick report_result size_bytes)" "$(stat -c %s "$HOME/report.html")"
    assert_equal "$(stat -c %a "$HOME/report.html")" 600
    head -c 15 "$HOME/report.html" | grep -qi '<!doctype html>'
}

@test "the report lies in the log folder, anew each time, when no place is given" {
    for _ in 1 2; do
        try sluice-report
        assert_status 0
    done
    assert_equal "$(pick report_result path)" "$SLUICE_LOG_DIR/report.html"
}

@test "an output that is no file, or has no folder, is refused and nothing is left" {
    try sluice-report --output "$HOME"
    assert_status 2
    assert_says "is no file"
    try sluice-report --output "$HOME/none/report.html"
    assert_status 69
    assert_says "cannot write"
    [[ ! -e "$HOME/none" ]]
}

@test "on a terminal a person reads where the report is" {
    try "$PYTHON" "$LOOK" tty "$ROOT/bin/sluice-report" --output "$HOME/report.html"
    assert_status 0
    grep -q "$HOME/report.html" "$out"
    ! grep -q '"type"' "$out"
}
