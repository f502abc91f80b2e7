# shellcheck shell=bash
# All tests of the project, in three rings. A ring that cannot run fails with the name of what is missing.

cargo_checks() {
    cd "$TOP" || return
    cargo fmt --all --check
    cargo clippy --all-targets --locked -- -D warnings
}

run_tests() {
    local recipe=$1 other
    cd "$TOP" || exit
    step "ring 1: formatting and lints" cargo_checks
    say "ring 1: cargo test"
    cargo test --locked 2>&1 | tee -a "$STEP_LOG"
    while read -r other; do
        check_recipe "$other"
    done < <(recipes)

    [ "$(id -u)" -eq 0 ] || die "rings 2 and 3 make network namespaces and an image: run this as root"
    step "building the recon binary" build_binary
    say "ring 2: network namespaces"
    python3 "$TOP/tests/netns/run.py" --recon "$RECON" 2>&1 | tee -a "$STEP_LOG"
    python3 "$TOP/tests/netns/checks_cabling.py" 2>&1 | tee -a "$STEP_LOG"

    build_iso "$recipe"
    say "ring 3: virtual data center"
    step "ring 3: tests of its own judges" python3 "$TOP/tests/lab/selftest.py"
    python3 "$TOP/tests/lab/run.py" test --iso "$ISO" --recon "$RECON" --workdir "$TOP/builds/$recipe/lab" --patience 2 "${EXTRA[@]}" 2>&1 |
        tee -a "$STEP_LOG"
    say "all rings passed"
}
