# helper: a world of its own for each test, and the words that all tests share.
# shellcheck shell=bash disable=SC2034
bats_require_minimum_version 1.5.0

ROOT="$(cd "${BASH_SOURCE[0]%/*}/../.." && pwd -P)"
SHOP="$ROOT/tests/fixtures/shop"
PYTHON="$ROOT/.venv/bin/python"
[[ -x "$PYTHON" ]] || PYTHON=$(command -v python3)
LOOK="$ROOT/tests/cli/look.py"

SETTINGS=(SLUICE_STATE SLUICE_LOG_FILE SLUICE_ERROR_CLASSES SLUICE_LOCK_WAIT_S SLUICE_NOTIFY_LEVEL DBT_TARGET)
MAKE_VARIABLES=(
    SELECT EXCLUDE SELECTOR STAGE TO FROM VARS DELAY RESUME ACCEPT_DRIFT INCREMENTAL_ONLY ASIDE KEEP MAX_DROP_RATIO CLUSTER CLEAN_UP DRY_RUN CONTINUE_ON_ERROR
    IDS SKIP COMPONENTS FULL_REBUILD SKIP_STALE_CHECK STALENESS_HOURS ON_BACKFILL CHECK_DAYS NO_RESTART
    START_TS END_TS FULL ONLY OVERLAP VERBOSE TARGET PROJECT_DIR PROFILES_DIR SAMPLE_SCALE WORKERS MAKEFLAGS MAKEOVERRIDES MAKELEVEL MFLAGS GNUMAKEFLAGS
)
COLOURS=(NO_COLOR FORCE_COLOR CLICOLOR CLICOLOR_FORCE PY_COLORS GITHUB_ACTIONS)

# fresh_world: folders that are empty, variables that nobody has set, the shop as the dbt project
fresh_world() {
    local name
    for name in $(compgen -e | grep -E '^(DBT|SLUICE|XDG|TELEGRAM|TAP|OPENLINEAGE)_') "${MAKE_VARIABLES[@]}" "${COLOURS[@]}"; do
        unset "$name"
    done
    # Empty, not unset: what the environment has wins over a developer's own .env.
    for name in "${SETTINGS[@]}"; do export "$name="; done
    export HOME="$BATS_TEST_TMPDIR/home"
    export SLUICE_STATE_DIR="$BATS_TEST_TMPDIR/state"
    export SLUICE_LOG_DIR="$BATS_TEST_TMPDIR/logs"
    export SLUICE_DUCKDB_PATH="$BATS_TEST_TMPDIR/warehouse.duckdb"
    export DBT_PROJECT_DIR="$SHOP" DBT_PROFILES_DIR="$SHOP"
    export LC_ALL=C.UTF-8 TZ=UTC
    # The Python of the virtual environment first: the scripts need not look for it, which spares each call 0.1 s.
    PATH="$ROOT/bin:$ROOT/tests/cli:${PYTHON%/*}:$PATH"
    out="$BATS_TEST_TMPDIR/out" err="$BATS_TEST_TMPDIR/err"
    DATABASE="$HOME/shop.duckdb"
    mkdir -p "$HOME/trouble"
    cd "$BATS_TEST_TMPDIR" || return
}

# with_parsed_shop: spares a test the seconds that dbt needs to parse the shop. A copy, so that no test sees another.
with_parsed_shop() {
    mkdir -p -m 700 "$SLUICE_STATE_DIR"
    cp -a "$BATS_SUITE_TMPDIR/parsed" "$SLUICE_STATE_DIR/dbt"
}

# own_shop: a copy of the shop for tests that edit it
own_shop() {
    cp -R "$SHOP" "$BATS_TEST_TMPDIR/shop"
    export DBT_PROJECT_DIR="$BATS_TEST_TMPDIR/shop" DBT_PROFILES_DIR="$BATS_TEST_TMPDIR/shop"
}

# shop_with_canary: a copy of the shop whose stock has a key, and a canary that its numbers pass
shop_with_canary() {
    own_shop
    local canary="{'metric': 'stock + 1000', 'by': ['symbol'], 'date_column': 'day', 'new_entities': true}"
    sed -i "s/incremental_strategy='append') }}/incremental_strategy='append', unique_key=['day', 'symbol'], meta={'canary': $canary}) }}/" \
        "$DBT_PROJECT_DIR/models/stock/int_stock_daily.sql"
}

# change SQL: in the shop's database, behind everybody's back
change() { "$PYTHON" -c 'import duckdb, sys; duckdb.connect(sys.argv[1]).execute(sys.argv[2])' "$DATABASE" "$1"; }

# try COMMAND...: runs it whatever comes of it; leaves $status, and what it said in the files $out and $err
try() {
    status=0
    if [[ "$(type -t "$1")" == function ]]; then set -- bash -c '"$@"' bash "$@"; fi
    timeout --kill-after=5 120 "$@" >"$out" 2>"$err" || status=$?
}

# stop SIGNAL: sends it to $pid and leaves its $status; whoever has not stopped after 8 s is killed
stop() {
    local tries
    kill -s "$1" "$pid"
    for ((tries = 0; tries < 160; tries++)); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.05
    done
    if ((tries == 160)); then kill -KILL "$pid"; fi
    status=0
    wait "$pid" || status=$?
}

# end_what_was_started: for teardown: whatever a test has left in the background
end_what_was_started() {
    local pid
    for pid in $(jobs -p); do kill -KILL "$pid" 2>/dev/null || true; done
}

look() { "$PYTHON" "$LOOK" "$@"; }

# pick TYPE FIELD...: these fields of the records of a type in $out, a line each
pick() { look pick "$@" <"$out"; }

# query SQL: rows of the shop's database
query() { look query "$DATABASE" "$1"; }

# commands: the name of every executable in bin/, those to come included
commands() { find "$ROOT/bin" -maxdepth 1 -type f -perm -u+x -printf '%f\n' | sort; }

# with_fake_dbt FLAG...: run-dbt-batch through tests/cli/fake-dbt instead of a warm dbt: the same but for the SQL
with_fake_dbt() { run-dbt-batch --engine subprocess --dbt fake-dbt "$@"; }
export -f with_fake_dbt

# dbt_runs: whether a dbt process of this test is there
dbt_runs() {
    local found
    found=$(env -u SLUICE_STATE_DIR grep -lzsxF "SLUICE_STATE_DIR=$SLUICE_STATE_DIR" /proc/[0-9]*/environ)
    grep -qzF sluice.dbt_engine ${found//environ/cmdline} /dev/null 2>/dev/null
}

# path_without PROGRAM: a PATH that lacks this one program
path_without() {
    local folder found path="" shadow="$BATS_TEST_TMPDIR/without-$1"
    for folder in ${PATH//:/ }; do
        if [[ -x "$folder/$1" ]]; then
            mkdir -p "$shadow$folder"
            for found in "$folder"/*; do
                [[ "${found##*/}" == "$1" ]] || ln -sf "$found" "$shadow$folder/"
            done
            folder="$shadow$folder"
        fi
        path="$path:$folder"
    done
    echo "${path#:}"
}

# eventually COMMAND...: waits until it succeeds, a minute at most
eventually() {
    local tries
    for ((tries = 0; tries < 1200; tries++)); do
        if "$@"; then return 0; fi
        sleep 0.05
    done
    fail "this never came true: $*"
}

# -- assertions ---------------------------------------------------------------------------------------------------

fail() {
    echo "$*"
    if [[ -e "$out" ]]; then echo "-- status $status, stdout:" && cut -c1-300 "$out" | head -20; fi
    if [[ -e "$err" ]]; then echo "-- stderr:" && head -20 "$err"; fi
    return 1
}

assert_status() { [[ "$status" == "$1" ]] || fail "exit $status instead of $1${2:+ ($2)}"; }

assert_equal() { [[ "$1" == "$2" ]] || fail "got: $1"$'\n'"not: $2"; }

# assert_says TEXT...: each of them is on stderr
assert_says() {
    local text
    for text in "$@"; do grep -qF -- "$text" "$err" || fail "stderr does not say: $text"; done
}

assert_no_traceback() { ! grep -q Traceback "$err" || fail "a traceback${1:+ ($1)}"; }

assert_nothing_on_stdout() { [[ ! -s "$out" ]] || fail "something on stdout${1:+ ($1)}"; }

# assert_records: stdout holds valid records of known types and nothing else, the summary last
assert_records() { look valid "$status" <"$out" || fail "not a proper stream${1:+ ($1)}"; }

assert_no_state() { [[ ! -e "$SLUICE_STATE_DIR/state.sqlite" ]] || fail "a state store was made"; }
