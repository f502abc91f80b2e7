# shellcheck shell=bash
# How a step looks to the person: one line with its time, everything else in the log, and on failure the lines that matter.

SECONDS=0
STEP_LOG=/dev/null

die() {
    printf 'make-recipe-target: %s\n' "$*" >&2
    exit 1
}

# A request that cannot be understood: exit status 2, like any other usage error.
refuse() {
    printf 'make-recipe-target: %s\n' "$*" >&2
    exit 2
}

say() {
    printf '[%4d s] %s\n' "$SECONDS" "$*"
    printf '=== [%4d s] %s\n' "$SECONDS" "$*" >>"$STEP_LOG"
}

# log_to FILE: everything that steps print goes there from now on.
log_to() {
    mkdir -p "$(dirname "$1")"
    STEP_LOG=$1
    printf '=== %s\n' "$(date -u +'%Y-%m-%d %H:%M:%S UTC')" >"$STEP_LOG"
}

# step TEXT COMMAND…: runs the command with its output in the log; the line is finished with the time it took. Until then it
# says how long it has been running and how far it is: on a terminal in place, elsewhere a line a minute.
step() {
    local text=$1 begin=$SECONDS from status=0 ticker
    shift
    from=$(wc -c <"$STEP_LOG" 2>/dev/null || echo 0)
    printf '=== [%4d s] %s\n' "$SECONDS" "$text" >>"$STEP_LOG"
    [ -t 1 ] && printf '[%4d s] %s …' "$SECONDS" "$text"
    # Without the lock of the recipe, which must not outlive this run by a sleep.
    tick "$text" "$begin" "$from" 9>&- &
    ticker=$!
    # A subshell of its own, with errexit alive in it: `if command` would switch errexit off inside functions.
    set +e
    (
        set -e
        "$@"
    ) >>"$STEP_LOG" 2>&1 </dev/null
    status=$?
    set -e
    kill "$ticker" 2>/dev/null || true
    wait "$ticker" 2>/dev/null || true
    [ -t 1 ] && printf '\r\033[K'
    if [ "$status" -eq 0 ]; then
        printf '[%4d s] %s (%d s)\n' "$SECONDS" "$text" "$((SECONDS - begin))"
        return 0
    fi
    printf '[%4d s] %s: failed with status %d\n' "$SECONDS" "$text" "$status"
    show_failure "$from" >&2
    exit "$status"
}

# tick TEXT BEGIN FROM: says from time to time that the step which began at second BEGIN is alive, and how far the log since byte
# FROM shows it to be. Ends with the run: an asynchronous shell does not hear Ctrl-C.
tick() {
    local text=$1 begin=$2 from=$3 first=20 every=60 next width far
    if [ -t 1 ]; then
        first=2 every=2
        width=$(tput cols 2>/dev/null || echo 80)
    fi
    next=$((SECONDS + first))
    while kill -0 $$ 2>/dev/null; do
        sleep 1
        [ "$SECONDS" -ge "$next" ] || continue
        far=$(progress_since "$from")
        if [ -t 1 ]; then
            printf '\r\033[K%.*s' "$((width - 1))" "$(printf '[%4d s] %s … %d s%s' "$SECONDS" "$text" "$((SECONDS - begin))" "${far:+, $far}")"
        else
            printf '[%4d s] … %s: %d s so far%s\n' "$SECONDS" "$text" "$((SECONDS - begin))" "${far:+, $far}"
        fi
        next=$((SECONDS + every))
    done
}

# progress_since FROM: how far the tools that write into the log are, in a few words; nothing where they do not tell.
progress_since() {
    tail -c "+$(($1 + 1))" "$STEP_LOG" 2>/dev/null | awk -v crates="$(grep -c "^\[\[package\]\]" "$TOP/Cargo.lock")" -f "$TOP/tools/progress.awk"
}

# The lines that matter: whatever looks like an error since the step began, then the end of its output.
show_failure() {
    local part
    part=$(tail -c "+$(($1 + 1))" "$STEP_LOG" | sed 's/\x1b\[[0-9;]*m//g')
    printf '%s\n' '--- lines that look like the cause:'
    printf '%s\n' "$part" | grep -aiE '(^|[^a-z])(error|failed|failure|fatal|cannot|unable|no such|not found|denied|E:)([^a-z]|$)' |
        grep -avE '0 errors|error-|liberror|failed=0' | tail -n 15 | cut -c1-1500 || true
    printf '%s\n' '--- last lines:'
    printf '%s\n' "$part" | tail -n 12 | cut -c1-1500
    printf -- '--- full log: %s\n' "$STEP_LOG"
    full_disk
    ! grep -q 'Signatures public key is not available' <<<"$part" ||
        echo "a package is signed with a key that is not among those this build trusts: add it to the file of --keys"
}

# need PROGRAM WHAT-FOR: a missing tool fails with its name.
need() {
    command -v "$1" >/dev/null 2>&1 || die "$1 is missing ($2)"
}
