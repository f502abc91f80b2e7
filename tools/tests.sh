# shellcheck shell=bash
# All tests of the project, in three rings. A ring that cannot run fails with the name of what is missing.

cargo_checks() {
    cd "$TOP" || return
    cargo fmt --all --check
    cargo clippy --all-targets --locked -- -D warnings
}

# What takes too long for every day; `test --long` runs it too.
long_names() {
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

# The tests that format sticks: they want root and loop devices, so `cargo test` of a person leaves them alone.
stick_tests() {
    local name
    local -a skip=()
    has_exfat || for name in $EXFAT_TESTS; do skip+=(--skip "$name"); done
    cd "$TOP" || return
    cargo test --locked --lib -- --ignored --test-threads=1 "${skip[@]}" stick::partition
}

# Looks for inputs that nobody tried yet; prints the seed. What fails is written to the corpus, with its name.
fuzz_search() {
    cd "$TOP" || return
    RECON_FUZZ_SECONDS=3 cargo test --locked --test fuzz -- --nocapture
}

tool_tests() {
    "$PYTHON" -m unittest discover --start-directory "$TOP/tests/tools"
    "$PYTHON" "$TOP/tools/ages_test.py"
}

run_tests() {
    local recipe=$1 other
    local -a attack=()
    ! wants_long || attack=(--long)
    cd "$TOP" || exit
    step "ring 1: formatting and lints" cargo_checks
    step "ring 1: tests of the build tools" tool_tests
    say "ring 1: cargo test"
    cargo test --locked 2>&1 | tee -a "$STEP_LOG"
    say "ring 1: fuzzing with new inputs, 3 s each"
    fuzz_search 2>&1 | tee -a "$STEP_LOG" | grep -E ': seed|: [0-9]+ inputs|^test |panicked'
    while read -r other; do
        # A mirror that was named is the one of the recipe that is built.
        MIRROR='' check_recipe "$other"
    done < <(recipes)

    step "ring 2: sticks on loop devices" stick_tests
    step "building the recon binary" build_binary
    say "ring 2: network namespaces"
    "$PYTHON" "$TOP/tests/netns/run.py" --recon "$RECON" 2>&1 | tee -a "$STEP_LOG"
    "$PYTHON" "$TOP/tests/netns/checks_cabling.py" 2>&1 | tee -a "$STEP_LOG"
    say "ring 2: a hostile client, file system faults, kills, power cuts"
    "$PYTHON" "$TOP/tests/attack/run.py" --recon "$RECON" "${attack[@]}" 2>&1 | tee -a "$STEP_LOG"
    "$PYTHON" "$TOP/tests/netns/checks_raid.py" --recon "$RECON" 2>&1 | tee -a "$STEP_LOG"

    build_iso "$recipe"
    say "ring 3: virtual data center"
    step "ring 3: tests of its own judges" "$PYTHON" "$TOP/tests/lab/selftest.py"
    "$PYTHON" "$TOP/tests/lab/run.py" test --iso "$ISO" --recon "$RECON" --workdir "$TOP/builds/$recipe/lab" --patience 2 "${EXTRA[@]}" 2>&1 |
        tee -a "$STEP_LOG"
    has_exfat || say "left out, because the kernel of this machine has no exFAT (ring 3 does the same in its guests): $EXFAT_TESTS"
    if wants_long; then
        say "openSUSE: the whole way from a mirror to stored inventories, with stand-ins made here"
        "$PYTHON" "$TOP/tests/suse/run.py" --workdir "$TOP/builds/suse-stand-in" 2>&1 | tee -a "$STEP_LOG"
        say "all rings passed, nothing was left out"
    else
        say "all rings passed; left out, and run by './make-recipe-target $recipe test --long': $(long_names | one_line)"
    fi
}
