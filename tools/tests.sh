# shellcheck shell=bash
# All tests of the project, in three rings; what a person runs by hand as well is a target of the Makefile. A ring that cannot run
# fails with the name of what is missing.

# make_target TARGET… [NAME=VALUE…]
make_target() {
    make --no-print-directory --directory "$TOP" PYTHON="$PYTHON" "$@"
}

# What takes too long for every day; `test --long` runs it too.
long_names() {
    has_cargo_deny || echo "'make deny'"
    echo suse
    "$PYTHON" "$TOP/tests/lab/run.py" test --list | sed -n 's/^\([^ ]*\) .*(with --long)$/\1/p'
}

# wants_long: one of the options for the tests is --long.
wants_long() {
    local word
    for word in "${EXTRA[@]}"; do
        [ "$word" != --long ] || return 0
    done
    return 1
}

# Two tests of the stick mount its data partition on this machine; the guests of ring 3 do the same on a kernel of their own.
EXFAT_TESTS='a_master_lives_on_a_stick_mounted_by_partition_or_whole a_stick_that_was_pulled_is_checked_and_used_again'

has_exfat() {
    modprobe exfat 2>/dev/null || true
    grep -qw exfat /proc/filesystems
}

# The tests that format sticks, or give files to others: they want root, the first loop devices too, so `cargo test` of a person leaves
# them alone.
stick_tests() {
    local name
    local -a skip=()
    has_exfat || for name in $EXFAT_TESTS; do skip+=(--skip "$name"); done
    cd "$TOP" || return
    # Of the whole workspace, as `make it` has compiled it: for the package alone other features are chosen, and it is compiled again.
    cargo test --workspace --locked --lib -- --ignored --test-threads=1 "${skip[@]}" stick::partition image::
}

# make_words WORD…: the words as a variable of make that a shell reads again.
make_words() {
    local text=${*@Q}
    printf '%s' "${text//\$/\$\$}"
}

# Compiling it takes minutes, checking a second.
has_cargo_deny() {
    [ -x "$TOP/builds/cargo-deny/bin/cargo-deny" ] || command -v cargo-deny >/dev/null
}

# begin_image RECIPE: compiles the recon binary and builds the image beside rings 1 and 2, behind everything else that wants a processor:
# the binary's last crate takes one thread for minutes, and most of ring 2 waits for clocks. Whoever needs one of them has it built
# again, which takes what is done, and hears there what went wrong. The job holds the lock of the recipe, as it works there.
begin_image() {
    # A group of processes of its own, which ends with this shell.
    set -m
    (
        renice -n 19 -p "$BASHPID"
        ionice --class idle --pid "$BASHPID"
        log_to "$TOP/builds/$1/image-beside-tests.log"
        build_iso "$1"
    ) >/dev/null 2>&1 </dev/null &
    set +m
    IMAGE_JOB=$!
    # shellcheck disable=SC2064 # the job of now
    trap "! jobs -rp | grep -qx $! || kill -- -$!" EXIT
}

# Not with `wait`, as a step is no parent of the job.
wait_for_image() {
    while kill -0 "$IMAGE_JOB" 2>/dev/null; do
        sleep 1
    done
}

run_tests() {
    local recipe=$1 other
    local attack=''
    ! wants_long || attack=--long
    cd "$TOP" || exit
    ! wants_long || [ ! -d "$(ramroot_description "$recipe")" ] || need_ramroot "$recipe"
    # Before anything is built beside the tests, as they look into what was built before.
    while read -r other; do
        # A mirror that was named is the one of the recipe that is built.
        MIRROR='' check_recipe "$other"
    done < <(recipes)
    begin_image "$recipe"
    step "ring 1: formatting and lints" make_target fmt clippy
    step "ring 1: lints of shell and Python" make_target lint
    step "ring 1: tests of the build tools" make_target tools
    ! wants_long || has_cargo_deny || step "compiling cargo-deny" make_target cargo-deny
    ! has_cargo_deny || step "ring 1: licences and sources of the dependencies" make_target deny
    say "ring 1: cargo test"
    make_target it 2>&1 | tee -a "$STEP_LOG"
    step "ring 1: documentation" make_target docs
    say "ring 1: fuzzing with new inputs, 3 s each"
    make_target fuzz 2>&1 | tee -a "$STEP_LOG" | grep -E ': seed|: [0-9]+ inputs|^test |panicked'
    step "ring 2: sticks on loop devices, roots with owners and devices" stick_tests
    step "building the recon binary" build_binary
    say "ring 2: network namespaces"
    make_target netns RECON="$RECON" 2>&1 | tee -a "$STEP_LOG"
    say "ring 2: a hostile client, file system faults, kills, power cuts"
    make_target attack RECON="$RECON" WORDS="$attack" 2>&1 | tee -a "$STEP_LOG"

    # Both at once would be in each other's folder; what it did not bring to its end is done now.
    step "waiting for the image that is built beside the tests" wait_for_image
    build_iso "$recipe"
    local -a nodes=()
    local left_out='nothing was left out'
    if wants_long && [ ! -d "$(ramroot_description "$recipe")" ]; then
        left_out="left out, as no root of diskless nodes is described for $recipe: the scenarios ram-*"
    elif wants_long; then
        # Its end forgets what it mounted.
        (make_ramroot "$recipe")
        nodes=(--node-image "$TOP/builds/$recipe/ramroot/$IMAGE/image")
    fi
    say "ring 3: virtual data center"
    make_target vm ISO="$ISO" RECON="$RECON" \
        WORDS="$(make_words --workdir "$TOP/builds/$recipe/lab" --patience 2 "${nodes[@]}" "${EXTRA[@]}")" 2>&1 |
        tee -a "$STEP_LOG"
    has_exfat || say "left out, because the kernel of this machine has no exFAT (ring 3 does the same in its guests): $EXFAT_TESTS"
    if wants_long; then
        say "openSUSE: the whole way from a mirror to stored inventories, with stand-ins made here"
        "$PYTHON" "$TOP/tests/suse/run.py" --workdir "$TOP/builds/suse-stand-in" 2>&1 | tee -a "$STEP_LOG"
        say "all rings passed; $left_out"
    else
        say "all rings passed; left out, and run by './make-recipe-target $recipe test --long': $(long_names | one_line)"
    fi
}
