# Runs suites one after another, each within a limit of time, and adds up what they counted; to be
# sourced. Whoever sources it calls `end_suites` in a trap on EXIT, so that nothing is left behind.

suites_passed=0
suites_failed=0
suites_skipped=0
suites_summary=()
suites_failures=()
suites_running=
suites_logs=$(mktemp -d)

# suite NAME LIMIT_SECONDS COMMAND...: counts what the command says that it passed, failed and skipped.
# Without such words the command itself is the one check.
suite() {
    local name=$1 limit=$2 code=0 start=$SECONDS
    local log="$suites_logs/${name//[^a-zA-Z0-9]/-}.log"
    shift 2
    echo "== $name (at most $limit s)"
    # In the background, because bash runs no trap while a command in the foreground goes on.
    timeout --kill-after=10 "$limit" "$@" > "$log" 2>&1 &
    suites_running=$!
    wait "$suites_running" || code=$?
    suites_running=
    count "$name" "$log" "$code" $((SECONDS - start))
    ((code == 0))
}

# suite_here NAME COMMAND...: one check that must run in this very shell, and is over soon.
suite_here() {
    local name=$1 code=0 start=$SECONDS
    local log="$suites_logs/${name//[^a-zA-Z0-9]/-}.log"
    shift
    echo "== $name"
    "$@" > "$log" 2>&1 || code=$?
    count "$name" "$log" "$code" $((SECONDS - start))
    ((code == 0))
}

count() {
    local name=$1 log=$2 code=$3 took=$4 passed failed skipped
    read -r passed failed skipped < <(sums "$log")
    if ((passed + failed + skipped == 0)); then
        ((code == 0)) && passed=1
    fi
    if ((code != 0 && failed == 0)); then
        failed=1
    fi
    suites_passed=$((suites_passed + passed))
    suites_failed=$((suites_failed + failed))
    suites_skipped=$((suites_skipped + skipped))
    suites_summary+=("$(printf '%-28s %6d passed %4d failed %4d skipped %5d s' \
        "$name" "$passed" "$failed" "$skipped" "$took")")
    grep -aE '^(PASS|FAIL|SKIP) ' "$log" || true
    if ((failed > 0)); then
        local failure
        while read -r failure; do
            suites_failures+=("$name: $failure")
        done < <(grep -aE '^FAIL |^test .* FAILED$' "$log" || echo "exit code $code")
        ((code == 124 || code == 137)) && echo "it was stopped after $took s"
        echo "-- the end of its log:"
        tail -n 60 "$log"
    fi
    echo "-- $name: $passed passed, $failed failed, $skipped skipped, $took s"
}

# The sums of a log: cargo's `test result:` lines, or a suite's own closing line.
sums() {
    awk '
        /^test result:/ { passed += $4; failed += $6; skipped += $8 }
        /^[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?$/ { passed += $1; failed += $3; skipped += $5 }
        END { print passed + 0, failed + 0, skipped + 0 }
    ' "$1"
}

# The closing words: the sums, what failed, and a last line that machines read.
print_totals() {
    echo
    printf '%s\n' "${suites_summary[@]}"
    if ((${#suites_failures[@]} > 0)); then
        echo
        printf '%s\n' "${suites_failures[@]}"
    fi
    echo
    echo "$suites_passed passed, $suites_failed failed${suites_skipped:+, $suites_skipped skipped}"
}

end_suites() {
    if [[ -n $suites_running ]]; then
        # timeout passes the signal on to all that it started.
        kill -TERM "$suites_running" 2> /dev/null || true
        wait "$suites_running" 2> /dev/null || true
    fi
    rm -rf "$suites_logs"
}
