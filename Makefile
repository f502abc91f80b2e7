# What is run between a change and its commit, and what `./make-recipe-target … test` (CI) runs as well: each is defined here, once.
# `make` alone lists the targets.

CARGO ?= cargo
PYTHON ?= python3
RECIPE ?= debian-13
# The binary and the image that rings 2 and 3 try.
RECON ?= target/debug/recon
ISO ?= builds/$(RECIPE)/recon-$(RECIPE).iso
# Further words for the tests of a ring, such as --only NAME or --long.
WORDS ?=
CARGO_DENY_VERSION = 0.20.2

# Unit tests that need more than a second each, by their names: they wait for time-outs, or try many faults. `make it` runs them.
SLOW = \
    any_three_that_hang_leave_the_rest_whole \
    what_hangs_is_reported_and_the_rest_is_whole \
    what_comes_before_the_last_take_is_in_it_and_named \
    guards_all_but_the_exempt_even_when_one_hangs \
    one_that_hangs_does_not_hold_the_others \
    a_disk_that_comes_is_seen_and_the_bound_holds \
    a_failing_step_loses_nothing_acknowledged \
    a_power_cut_at_any_step_loses_nothing_acknowledged \
    memory_is_bounded \
    ports_and_addresses_are_bounded_too \
    however_many_files_there_are_the_master_takes_the_upload \
    the_power_may_go_while_a_new_journal_is_begun \
    a_damaged_stick_gives_only_what_is_whole \
    bounds_of_memory_do_not_change_what_is_written \
    who_ends_does_not_wait_for_uploads_that_are_still_hashed \
    what_acts_is_what_unicode_says \
    what_is_given_up_leaves_nothing \
    a_script_that_is_gone_without_a_word_is_recorded

.PHONY: install help check fmt clippy unit it fuzz docs api man lint deny advisories cargo-deny tools netns attack vm build

help:
	@sed -n 's/^##//p' $(MAKEFILE_LIST)

##check       the inner loop: formatting, clippy, and the unit tests that are quick, each property with a few cases
check: fmt clippy unit

fmt:
	$(CARGO) fmt --all --check

clippy:
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

unit:
	@echo "unit tests, without the slow ones"
	@PROPTEST_CASES=16 $(CARGO) test --locked --lib --quiet -- $(SLOW:%=--skip %)

##it          ring 1: every test of cargo
it:
	$(CARGO) test --workspace --locked

##fuzz        ring 1: inputs that nobody tried yet, 3 s for each reader; prints the seed
fuzz:
	RECON_FUZZ_SECONDS=$${RECON_FUZZ_SECONDS:-3} $(CARGO) test --workspace --locked --test fuzz -- --nocapture

##tools       ring 1: tests of the build tools
tools:
	$(PYTHON) -m unittest discover --start-directory tests/tools
	$(PYTHON) tools/ages_test.py
	$(PYTHON) tests/suse/run.py --names

##lint        shellcheck, ruff and mypy
lint:
	tools/call.sh lint

##docs        the documentation of the sources without a warning, manual pages and shell completions (builds/manual)
docs: api man

api:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --locked --no-deps --document-private-items

man:
	$(CARGO) build --workspace --locked --quiet --example manual
	$${CARGO_TARGET_DIR:-target}/debug/examples/manual builds/manual

DENY = command -v cargo-deny >/dev/null || \
    { echo "cargo-deny is missing: 'make cargo-deny' compiles it into builds/cargo-deny, which takes minutes" >&2; exit 1; }; \
    $(CARGO) deny --locked

##deny        licences, sources and bans of dependencies (cargo-deny)
deny:
	@PATH="$(CURDIR)/builds/cargo-deny/bin:$$PATH"; $(DENY) check bans licenses sources

##advisories  known faults of dependencies (cargo-deny; asks the RustSec database on the network)
advisories:
	@PATH="$(CURDIR)/builds/cargo-deny/bin:$$PATH"; $(DENY) check advisories

# It looks at a few hundred lines, so it is compiled quickly rather than well.
QUICK = CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_DEBUG=0

##cargo-deny  compiles cargo-deny into builds/
cargo-deny:
	$(QUICK) $(CARGO) install --locked cargo-deny --version $(CARGO_DENY_VERSION) --root builds/cargo-deny --target-dir target/cargo-deny

##build       the binary, target/debug/recon
build:
	$(CARGO) build --locked

##install     recon as a service of this server: program, unit, its options, and the image as medium; PREFIX=, DESTDIR=, RELEASE=, ISO=
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
DATADIR ?= /var/lib/recon
# Of the build of an image, which is for any x86-64 Linux.
RELEASE ?= target/x86_64-unknown-linux-gnu/release/recon
FILLED = sed -e 's|@BINDIR@|$(PREFIX)/bin|g' -e 's|@SYSCONFDIR@|$(SYSCONFDIR)|g' -e 's|@DATADIR@|$(DATADIR)|g'
install:
	@test -x '$(RELEASE)' && test -f '$(ISO)' || \
	    { echo "$(RELEASE) and $(ISO): './make-recipe-target $(RECIPE) target' builds both" >&2; exit 1; }
	install -d '$(DESTDIR)$(PREFIX)/bin' '$(DESTDIR)$(SYSCONFDIR)/systemd/system' '$(DESTDIR)$(SYSCONFDIR)/recon'
	install -d -m 700 '$(DESTDIR)$(DATADIR)'
	install -m 755 '$(RELEASE)' '$(DESTDIR)$(PREFIX)/bin/recon'
	install -m 644 '$(ISO)' '$(DESTDIR)$(DATADIR)/recon.iso'
	$(FILLED) tools/install/recon-master.service >'$(DESTDIR)$(SYSCONFDIR)/systemd/system/recon-master.service'
	@# What somebody wrote there stays.
	test -e '$(DESTDIR)$(SYSCONFDIR)/recon/master.env' || \
	    $(FILLED) tools/install/master.env >'$(DESTDIR)$(SYSCONFDIR)/recon/master.env'
	@echo "name the links in $(SYSCONFDIR)/recon/master.env; then: systemctl daemon-reload && systemctl enable recon-master && systemctl restart recon-master"

# Only the default is built here.
ifeq ($(RECON),target/debug/recon)
netns attack vm: build
endif

##netns       ring 2: real clients in network namespaces (root); WORDS="--only NAME" for one
netns:
	$(PYTHON) tests/netns/run.py --recon '$(RECON)' $(WORDS)
	$(if $(WORDS),,$(PYTHON) tests/netns/checks_cabling.py)
	$(if $(WORDS),,$(PYTHON) tests/netns/checks_raid.py --recon '$(RECON)')

##attack      ring 2: a hostile client, file system faults, kills, power cuts (root); WORDS=--long
attack:
	$(PYTHON) tests/attack/run.py --recon '$(RECON)' $(WORDS)

##vm          ring 3: the image in virtual machines (root); ISO=, RECON= and WORDS= as for tests/lab/run.py
vm:
	$(PYTHON) tests/lab/selftest.py
	$(PYTHON) tests/lab/run.py test --iso '$(ISO)' --recon '$(RECON)' $(WORDS)
