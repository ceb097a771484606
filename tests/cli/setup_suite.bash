# setup_suite: what is paid once for all tests.

# The shop is parsed with every cache cold, and with a plug-in of dbt's that prints. The contract looks at what was said.
setup_suite() {
    source "$BATS_TEST_DIRNAME/helper.bash"
    BATS_TEST_TMPDIR="$BATS_SUITE_TMPDIR/setup"
    mkdir -p "$BATS_TEST_TMPDIR"
    fresh_world
    echo 'import os; os.write(1, b"PRINTED BY A PLUG-IN\n")' >"$HOME/dbt_that_prints.py"
    PYTHONPATH="$HOME" try plan-daily --select tag:orders
    assert_status 0 "dbt cannot parse $SHOP"
    cp -a "$SLUICE_STATE_DIR/dbt" "$BATS_SUITE_TMPDIR/parsed"
    cp "$out" "$BATS_SUITE_TMPDIR/cold.out"
    cp "$err" "$BATS_SUITE_TMPDIR/cold.err"

    mkdir "$BATS_SUITE_TMPDIR/help"
    for command in $(commands); do
        try "$command" --help
        assert_status 0 "$command --help"
        [[ ! -s "$err" ]] || fail "$command --help: something on stderr"
        cp "$out" "$BATS_SUITE_TMPDIR/help/$command"
    done
}
