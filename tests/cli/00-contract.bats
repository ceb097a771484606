#!/usr/bin/env bats
# What every command in bin/ promises, those to come included.

source "$BATS_TEST_DIRNAME/helper.bash"

teardown() { end_what_was_started; }

setup() {
    fresh_world
    with_parsed_shop
}

# arguments_of COMMAND: what it cannot be called without, a word each. A new command that needs some gets a line here.
arguments_of() {
    case "$1" in
        each-wave) echo notify ;;
        plan-refill) echo --from-date 2024-10-01 --cohort int_orders_monthly ;;
        plan-*) echo --select tag:orders ;;
        sluice-state) echo runs ;;
        sluice-doctor) echo --only python ;; # the shop has models that the guards refuse
        tap-*) echo --dry-run --records - ;; # and so do taps
        sync-cursor) echo log ;; # load and state answer in Singer's words: 50-sync-cursor.bats holds them to theirs
    esac
}

# section COMMAND NAME: the lines of its help from the one that begins with NAME to the next section
section() {
    awk -v name="$2" '$1 ~ /^(Reads|Writes|Order|Exits|Examples|Options:)$/ {inside = ($1 == name)} inside' "$BATS_SUITE_TMPDIR/help/$1"
}

reads_records() {
    local reads
    reads=$(section "$1" Reads)
    [[ "$reads" != *"Reads    nothing"* || "$reads" == *"looks at"* ]]
}

readers() { for command in $(commands); do if reads_records "$command"; then echo "$command"; fi; done; }

# prepare COMMAND: what an ordinary call needs, all its words in `words` and its input in the file `input`
prepare() {
    read -ra words <<<"$1 $(arguments_of "$1")"
    if reads_records "$1"; then stream | sed 1d >input; else : >input; fi
}

# call COMMAND FLAG...: an ordinary call
call() {
    prepare "$1"
    try "${words[@]}" "${@:2}" <input
}

# feed COMMAND FILE FLAG...: an ordinary call with this input
feed() {
    prepare "$1"
    try "${words[@]}" "${@:3}" <"$2"
}

# stream LINE...: the lines, from the second on, of a stream that is otherwise as it must be
stream() {
    printf '%s\n' '{"type":"weather","v":1}' "$@"
    echo '{"type":"summary","v":1,"run_id":"r","at":"2024-01-01T00:00:00.000Z","command":"before"}'
}

# -- being called ---------------------------------------------------------------------------------------------------

@test "every command explains itself with --help and -h, in the same five sections" {
    for command in $(commands); do
        try "$command" -h
        assert_status 0 "$command"
        cmp "$out" "$BATS_SUITE_TMPDIR/help/$command"
        for word in Reads Writes Order Exits Examples; do
            grep -qE "^  $word( {2,}|$)" "$out" || fail "$command --help has no section $word"
        done
        grep -qE "^    .*\b$command\b" "$out" || fail "$command --help has no example that calls it"
    done
}

@test "every command tells its version" {
    for command in $(commands); do
        try "$command" --version
        assert_status 0 "$command"
        assert_equal "$(grep -cE "^$command [0-9]+\.[0-9]+\.[0-9]+$" "$out")" 1
    done
}

@test "every script has at most 60 lines" {
    for command in $(commands); do
        (($(wc -l <"$ROOT/bin/$command") <= 60)) || fail "bin/$command is longer"
    done
}

@test "an unknown flag is refused with 2, a message that names it, and nothing on stdout" {
    for command in $(commands); do
        call "$command" --no-such-flag
        assert_status 2 "$command"
        assert_nothing_on_stdout "$command"
        assert_says --no-such-flag
        assert_no_traceback "$command"
    done
}

@test "every command works from / through a symlink, with cron's PATH and no environment" {
    mkdir links
    for command in $(commands); do
        ln -s "$ROOT/bin/$command" "links/$command"
        prepare "$command"
        cd /
        try env -i PATH=/usr/bin:/bin HOME="$HOME" SLUICE_STATE_DIR="$SLUICE_STATE_DIR" SLUICE_LOG_DIR="$SLUICE_LOG_DIR" \
            DBT_PROJECT_DIR="$SHOP" DBT_PROFILES_DIR="$SHOP" DBT_TARGET= \
            "$BATS_TEST_TMPDIR/links/$command" "${words[@]:1}" <"$BATS_TEST_TMPDIR/input"
        cd "$BATS_TEST_TMPDIR"
        assert_status 0 "$command"
        tail -1 "$out" | grep -q "\"command\":\"$command\"" || fail "$command did not work"
    done
}

@test "a command that reads records says so when its input is a terminal, and exits 2" {
    for command in $(readers); do
        prepare "$command"
        try "$PYTHON" "$LOOK" tty "${words[@]}" </dev/null
        assert_status 2 "$command"
        grep -qF "$command --help" "$out" || fail "$command does not say what to type"
    done
}

# -- what is on stdout ----------------------------------------------------------------------------------------------

@test "stdout is valid records of known types, the summary last" {
    for command in $(commands); do
        call "$command"
        assert_status 0 "$command"
        assert_records "$command"
        tail -1 "$out" | grep -q "\"command\":\"$command\"" || fail "the last summary is not of $command"
    done
}

@test "stdout is valid records when a command refuses, too; the message is on stderr and the summary has the exit code" {
    export SLUICE_LOCK_WAIT_S=soon
    for command in $(commands); do
        call "$command"
        assert_status 78 "$command"
        assert_records "$command"
        assert_equal "$(pick error code)" config_value
        assert_says "$command: SLUICE_LOCK_WAIT_S is 'soon'"
    done
}

@test "no colour reaches a pipe, whatever the environment asks for" {
    export FORCE_COLOR=1 CLICOLOR_FORCE=1 PY_COLORS=1 GITHUB_ACTIONS=true TERM=xterm-256color
    for command in $(commands); do
        call "$command"
        ! grep -q $'\e' "$out" "$err" || fail "$command"
        call "$command" --no-such-flag
        ! grep -q $'\e' "$out" "$err" || fail "$command --no-such-flag"
    done
}

@test "what a printing library prints does not reach stdout: in the command itself" {
    echo 'import atexit, os; atexit.register(lambda: (print("PRINTED BY A LIBRARY"), os.write(1, b"WRITTEN BY A LIBRARY\n")))' >"$HOME/sitecustomize.py"
    for command in $(commands); do
        PYTHONPATH="$HOME" call "$command"
        assert_records "$command"
        assert_says "PRINTED BY A LIBRARY" "WRITTEN BY A LIBRARY"
    done
}

@test "what a printing library prints does not reach stdout: while dbt parses" {
    grep -q 'PRINTED BY A PLUG-IN' "$BATS_SUITE_TMPDIR/cold.err" || fail "did it print at all?"
    status=0
    cp "$BATS_SUITE_TMPDIR/cold.out" "$out"
    assert_records
}

@test "what a printing library prints does not reach stdout: while a model prints and fails" {
    plan-daily --select noisy >plan
    try run-dbt-batch <plan
    assert_status 1
    assert_records
    assert_equal "$(pick batch_result model status)" "model.shop.noisy failed"
    pick batch_result error | grep -q no_such_table
    ! grep -q 'BY A MODEL' "$out" || fail "the model's words are on stdout"
    for word in PRINTED WRITTEN; do
        cat "$err" "$SLUICE_LOG_DIR"/*/*noisy* | grep -q "$word BY A MODEL" || fail "$word: it is nowhere else: did it print at all?"
    done
}

@test "a full disk behind stdout gives 69 and no traceback" {
    for command in $(commands); do
        prepare "$command"
        status=0
        timeout 60 "${words[@]}" <input >/dev/full 2>"$err" || status=$?
        assert_status 69 "$command"
        assert_no_traceback "$command"
        assert_says "$command: "
    done
}

# -- passing on -----------------------------------------------------------------------------------------------------

@test "records of unknown types are passed on byte for byte and in order" {
    {
        printf '%s\n' '{"type":"weather","v":99,"a":1,"a":2}' '{ "b" : [1.50, 1e2], "type" : "weather" , "ä": "\u00e4 🜂" }'
        printf '{"type":"weather","crlf":true}\r\n'
        printf '{"type":"weather","long":"%0300000d"}\n' 7
        printf '%s\n' '{"run_id":"r","type":"sync_result_of_tomorrow"}' '{"type":"summary" , "command":"before","more":[1]}'
    } >passing
    for command in $(readers); do
        feed "$command" passing
        assert_status 0 "$command"
        head -c "$(stat -c %s passing)" "$out" | cmp - passing || fail "$command changed what it passed on"
        tail -c +"$(($(stat -c %s passing) + 1))" "$out" >own
        look valid 0 <own || fail "$command"
    done
}

@test "a byte order mark and CRLF are accepted" {
    printf '\xef\xbb\xbf{"type":"weather"}\r\n{"type":"summary","command":"before"}\r\n' >marked
    for command in $(readers); do
        feed "$command" marked
        assert_status 0 "$command"
    done
}

@test "a failure before in the pipe is the exit code of every command after it, with pipefail and without" {
    plan-batches --stage nowhere --select tag:orders 2>"$err" >refusal || true
    for command in $(readers); do
        feed "$command" refusal
        assert_status 2 "$command"
        assert_records "$command"
    done
    for option in +o -o; do
        set "$option" pipefail
        status=0
        plan-batches --select no_such_model 2>"$err" | run-dbt-batch 2>>"$err" | notify >"$out" 2>>"$err" || status=$?
        set +o pipefail
        assert_status 2 "$option pipefail"
    done
}

# -- readers that go, signals ---------------------------------------------------------------------------------------

@test "a reader that has gone gives 141, without a traceback" {
    for command in $(commands); do
        prepare "$command"
        try "$PYTHON" "$LOOK" gone "${words[@]}" <input
        assert_status 141 "$command"
        assert_no_traceback "$command"
    done
}

@test "a plan of more than a pipe holds, cut by head -1, gives 141 without a traceback" {
    plan-batches --select long_history --to 2024-12-31 >plan
    (($(stat -c %s plan) > 65536 * 2))
    set +o pipefail
    timeout 60 plan-batches --select long_history --to 2024-12-31 2>"$err" | head -1 >"$out"
    status=${PIPESTATUS[0]}
    assert_status 141
    assert_no_traceback
    assert_equal "$(pick plan type)" plan
}

@test "a reader that goes while a command passes records on gives 141, without a traceback" {
    { for ((i = 0; i < 3000; i++)); do echo "{\"type\":\"weather\",\"day\":$i,\"text\":\"0123456789012345678901234567890\"}"; done; echo '{"type":"summary","command":"before"}'; } >much
    set +o pipefail
    for command in $(readers); do
        prepare "$command"
        timeout 60 "${words[@]}" <much 2>"$err" | head -1 >"$out"
        status=${PIPESTATUS[0]}
        assert_status 141 "$command"
        assert_no_traceback "$command"
    done
}

@test "while a command waits for input, SIGTERM gives 143, SIGINT 130 and SIGHUP 129, with a summary that says so" {
    for command in $(readers); do
        prepare "$command"
        for signal in TERM:143 INT:130 HUP:129; do
            rm -f source "$out" # what the signal before left there would be taken for this one's
            mkfifo source
            "${words[@]}" <source >"$out" 2>"$err" 3>&- &
            pid=$!
            exec 9>source
            echo '{"type":"weather"}' >&9
            eventually test -s "$out" # it has passed the line on: now it waits for the next
            stop "${signal%:*}"
            exec 9>&-
            assert_status "${signal#*:}" "$command, SIG${signal%:*}"
            assert_no_traceback "$command"
            assert_equal "$(pick summary exit_code)" "${signal#*:}"
        done
    done
}

# -- streams that cannot be trusted -----------------------------------------------------------------------------------

# refuses_line COMMAND LINE: the command ends at this line, with its number, and passes nothing on that follows
refuses_line() {
    stream "$2" '{"type":"weather","after":true}' >bad
    feed "$1" bad
    assert_status 65 "$1: ${2:0:60}"
    assert_says "$1: line 2: "
    grep -q '"code":"stream_bad_line".*"line":2,' "$out" || fail "$1 has no error record for ${2:0:60}"
    ! grep -q after "$out" || fail "$1 passed on what came after: ${2:0:60}"
    assert_no_traceback "$1"
}

@test "a bad line gives 65 with its number, and nothing after it is passed on" {
    for command in $(readers); do
        refuses_line "$command" 'no json'
        refuses_line "$command" '{"type":"summary","command":"a","command":"b"}'
    done
    # One reader serves all commands: it is enough that each of these is refused by some of them.
    next=0
    all=($(readers))
    printf '{"type":"weather","text":"\xff\xfe"}' >not-utf8
    printf '{"type":"weather","text":"%01048600d"}' 7 >too-long
    printf '{"type":"summary","command":"a","more":%s%s}' "$(printf '[%.0s' {1..100})" "$(printf ']%.0s' {1..100})" >too-deep
    for line in \
        '' \
        '{"type":"weather"' \
        '["type","weather"]' \
        '{"v":1}' \
        '{"type":7}' \
        '{"type":"weather","v":1}{"type":"weather","v":1}' \
        '{"type":"summary"}' \
        '{"type":"summary","command":"a","duration_s":NaN}' \
        '{"type":"summary","command":"a\u0000b"}' \
        '{"type":"summary","command":"a","exit_code":"0"}' \
        "$(cat not-utf8)" "$(cat too-long)" "$(cat too-deep)"; do
        refuses_line "${all[next++ % ${#all[@]}]}" "$line"
    done
}

@test "a newer version of a record that a command acts on is refused with 65, one that it passes on is not" {
    stream '{"type":"summary","v":2,"command":"a"}' >newer
    for command in $(readers); do
        feed "$command" newer
        assert_status 65 "$command"
        assert_says "line 2: summary has version 2" upgrade
    done
}

@test "Jinja in what tells dbt what to do is refused with 65: a record is data, never code" {
    plan-batches --select int_orders_monthly --to 2024-12-31 >plan
    for command in $(readers); do
        section "$command" Reads | grep -v nothing | grep -qw batch || continue
        for text in "{{ env_var('HOME') }}" "{% do run_query('create table evil (n int)') %}" '{# #}'; do
            sed "2s/\"vars\":{/\"vars\":{\"symbol\":\"$text\",/" plan >jinja
            ! cmp -s plan jinja
            feed "$command" jinja --dry-run
            assert_status 65 "$command: $text"
            assert_says "line 2: Jinja in"
        done
    done
}

@test "a stream cut in mid line gives 65, and the half line is never taken, even when it is whole JSON" {
    printf '{"type":"weather"}\n{"type":"summary","command":"before"}' >cut
    for command in $(readers); do
        feed "$command" cut
        assert_status 65 "$command"
        assert_says "line 2: the input ended inside this line"
        assert_equal "$(grep -c weather "$out")" 1
        assert_equal "$(tail -2 "$out" | look pick summary command exit_code)" "$command 65"
    done
}

@test "the summary of the command before is held back until there is an own one: who dies in between leaves none" {
    for command in $(readers); do
        rm -f source
        mkfifo source
        prepare "$command"
        "${words[@]}" <source >"$out" 2>"$err" 3>&- &
        pid=$!
        exec 9>source
        stream >&9
        eventually grep -q weather "$out" # and with it whatever else was to be passed on before the end of the input
        stop KILL
        exec 9>&-
        ! grep -q summary "$out" || fail "$command: the stream looks whole"
    done
}

@test "a stream without a summary gives 65: whoever wrote it died" {
    echo '{"type":"weather"}' >cut
    : >empty
    for command in $(readers); do
        feed "$command" cut
        assert_status 65 "$command"
        assert_says "after line 1 without a summary"
        feed "$command" empty
        assert_status 65 "$command, nothing at all"
        assert_says "before its first line without a summary"
    done
}

@test "what a record says cannot forge lines or colours on stderr" {
    stream '{"type":"summary","command":"a","exit_code":"\u001b[2J\nnotify: all is well"}' '{"type":"\u001b[31m\nx","v":"1"}' >forged
    for command in $(readers); do
        feed "$command" forged
        assert_status 65 "$command"
        ! grep -q $'\e' "$err" || fail "$command let an escape sequence through"
        ! grep -q '^notify: all is well' "$err" || fail "$command let a line through"
    done
}

# -- rehearsals -----------------------------------------------------------------------------------------------------

# everything: all files of this world with their content, and what the database holds
everything() {
    find "$SLUICE_STATE_DIR" "$SLUICE_LOG_DIR" "$HOME" "$SHOP" -type f ! -name '*.duckdb*' -exec sha256sum {} + | sort -k2
    find "$SLUICE_STATE_DIR" "$SLUICE_LOG_DIR" "$HOME" "$SHOP" | sort
    look tables "$DATABASE"
}

@test "--dry-run changes nothing: no state, no log, no file of the project, no table" {
    mkdir -p "$SLUICE_LOG_DIR"
    plan-batches --select tag:orders --to 2024-12-31 | with_fake_dbt >/dev/null
    plan-daily --select tag:orders >plan
    everything >before
    for command in $(commands); do
        call "$command" --dry-run
        assert_status 0 "$command"
        assert_records "$command"
        if reads_records "$command"; then
            feed "$command" plan --dry-run
            assert_status 0 "$command"
            assert_records "$command"
            ! look pick batch_result status <"$out" | grep -v dry_run || fail "$command: a result that is not of a rehearsal"
        fi
        everything >after
        diff before after || fail "$command --dry-run changed this"
    done
}

@test "a planner's --dry-run rehearses the whole pipe behind it" {
    mkdir "$SLUICE_LOG_DIR"
    everything >before
    plan-daily --select tag:orders --dry-run | run-dbt-batch >"$out" 2>"$err"
    status=0
    assert_records
    assert_equal "$(pick batch_result status | uniq -c | xargs)" "2 dry_run"
    everything >after
    diff before after
}
