# Counts named checks of a shell suite; to be sourced. A check is a command, and what it said is shown
# when it fails.

checks_passed=0
checks_failed=0
checks_skipped=0

# check NAME COMMAND...: the command runs in a shell of its own, and stops at its first failing line.
check() {
    local name=$1 output start=${EPOCHREALTIME/[.,]/}
    shift
    output=$(mktemp)
    # The subshell is not part of a condition: there, bash would ignore `set -e` in it.
    set +e
    (
        set -euo pipefail
        "$@"
    ) > "$output" 2>&1
    local code=$?
    set -e
    if ((code == 0)); then
        checks_passed=$((checks_passed + 1))
        local took=$(((${EPOCHREALTIME/[.,]/} - start) / 100000))
        echo "PASS $name ($((took / 10)).$((took % 10)) s)"
    else
        checks_failed=$((checks_failed + 1))
        echo "FAIL $name: exit code $code: $(tail -n 3 "$output" | tr '\n' ' ')"
        sed 's/^/    /' "$output" >&2
    fi
    rm -f "$output"
}

# skip NAME WHY: counts what cannot be asked here, and says why.
skip() {
    checks_skipped=$((checks_skipped + 1))
    echo "SKIP $1: $2"
}

# Prints the sum; its exit code is the suite's.
finish_checks() {
    local skipped=
    ((checks_skipped == 0)) || skipped=", $checks_skipped skipped"
    echo "$checks_passed passed, $checks_failed failed$skipped"
    ((checks_failed == 0))
}
