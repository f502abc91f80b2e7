# shellcheck shell=bash
# What can be checked of a recipe without building it.

# prepare_check RECIPE: what the checks need here; with --mirror also what asks a mirror.
prepare_check() {
    [ -z "$MIRROR" ] || need_source "$1"
    host_setup first check
    choose_python
    case $MIRROR/$1 in
    ?*/suse-*) host_setup suse suse-keys ;;
    esac
    kiwi_venv
}

shell_files() {
    printf '%s\n' "$TOP/make-recipe-target" "$TOP/.ci/run" "$TOP"/tools/*.sh "$TOP"/kiwi/common/*.sh
    grep -rlE '^#!.*[ /](ba)?sh$' "$TOP/overlay" "$TOP/kiwi" "$TOP/tests" 2>/dev/null | LC_ALL=C sort
}

lint_shell() {
    local -a files=()
    mapfile -t files < <(shell_files | LC_ALL=C sort --unique)
    echo "shellcheck of ${#files[@]} files"
    shellcheck --external-sources "${files[@]}"
}

# Each folder is a program of its own, whose modules find one another and those of the laboratory by folder. --strict where it holds.
lint_python() {
    local venv=$TOP/builds/lint-venv/bin
    cd "$TOP" || return
    "$venv/ruff" check .
    mypy_of tools --strict tools/*.py tests/tools/*.py
    mypy_of tests/lab --strict benches/net/*.py
    mypy_of tests/lab --strict tests/lab/*.py tests/lab/vdc
    mypy_of tests/lab --strict tests/netns/*.py
    mypy_of tests/lab:tests/netns --strict tests/attack/*.py
    mypy_of tests/lab --strict tests/suse/*.py
}

# mypy_of FOLDER WORD…: mypy with FOLDER among those that modules are looked for in.
mypy_of() {
    local folder=$1
    shift
    echo "mypy $*"
    MYPYPATH=$folder "$TOP/builds/lint-venv/bin/mypy" "$@"
}

# What `make lint` runs.
lint() {
    choose_python
    lint_venv
    lint_shell
    lint_python
}

# check_recipe RECIPE: every check is a step, and the first that fails ends the run.
check_recipe() {
    local recipe=$1 stage=$TOP/builds/$1/check-stage skipped=""
    step "$recipe: XML is well-formed" xmllint --noout "$TOP/kiwi/$recipe/appliance.kiwi" "$TOP"/kiwi/common/*.xml
    step "$recipe: staging" make_check_stage "$recipe" "$stage"
    step "$recipe: KIWI's schema and parser" describe_stage "$recipe" "$stage"
    step "$recipe: a package for every program" check_programs "$recipe" "$stage/packages"
    step "$recipe: nothing younger than the oldest system" "$PYTHON" "$TOP/tools/ages.py" --top "$TOP"
    step "$recipe: nothing that assembles or exports disks" check_modules "$recipe"
    if has_first_stage "$recipe"; then
        step "$recipe: a driver for every network port" check_first_stage "$recipe"
    else
        skipped="a driver for every network port, as no first stage has been built with this table"
    fi
    step "$recipe: units" check_units "$recipe" "$stage"
    step "$recipe: no mirror, key or password in the sources of the image" check_secrets "$recipe"
    [ -z "$MIRROR" ] || check_mirror "$recipe" "$stage/packages"
    rm -rf "$stage"
    [ -z "$skipped" ] || say "$recipe: skipped: $skipped"
    if [ -n "$MIRROR" ]; then
        say "$recipe: check passed"
        case $recipe in suse-*) ndb_problem ;; esac
    else
        say "$recipe: check passed; no package source was asked (check --mirror URL does)"
    fi
}

# The stage as it would be built, with a stand-in where no binary has been built yet.
make_check_stage() {
    local RECON=$RECON
    mkdir -p "$TOP/builds/$1"
    if [ ! -x "$RECON" ]; then
        RECON=$TOP/builds/$1/recon-stand-in
        printf '#!/bin/sh\nexit 0\n' >"$RECON"
        chmod +x "$RECON"
    fi
    make_stage "$1" "$2"
}

describe_stage() {
    "$TOP/builds/venv/bin/python" "$TOP/tools/describe.py" "$2" >"$2/packages"
    wc -l <"$2/packages"
}

# used_programs: what the sources start, one name a line.
used_programs() {
    sed -nE 's/^Exec[A-Za-z]*=[-@:+!]*([^ ]+).*/\1/p' "$TOP"/services/* | sed 's#.*/##'
    sed -nE 's/.*(PROGRAM|RUN)\+?="([^ "]+).*/\2/p' "$TOP"/overlay/usr/lib/udev/rules.d/* | sed 's#.*/##'
    sed -nE 's/^ *(ln|mkdir|cat|cp|mount|modprobe|ip|udevadm) .*/\1/p' "$TOP"/overlay/usr/lib/dracut/modules.d/*/*-generator
    # The binary can start nothing but what this table has (tests/it/changes.rs).
    sed -nE 's/^    [A-Z][A-Za-z]* = "([^"]+)",$/\1/p' "$TOP/src/sys/program.rs"
}

check_programs() {
    local recipe=$1 packages=$2 column bad=0 program needed debian suse package used
    case $recipe in
    debian-*) column=debian ;;
    suse-*) column=suse ;;
    *) die "no column for $recipe in kiwi/programs.tsv" ;;
    esac
    used=$(used_programs | LC_ALL=C sort --unique)
    while read -r program; do
        cut -f1 "$TOP/kiwi/programs.tsv" | grep -xF -- "$program" >/dev/null || {
            echo "error: $program is started somewhere, but kiwi/programs.tsv names no package for it"
            bad=1
        }
    done <<<"$used"
    while IFS=$'\t' read -r program needed debian suse; do
        case $program in '#'* | '') continue ;; esac
        [ "$column" = debian ] && package=$debian || package=$suse
        if ! grep -xF -- "$program" <<<"$used" >/dev/null; then
            echo "error: kiwi/programs.tsv names $program, which nothing starts"
            bad=1
        fi
        if [ -z "$needed" ] || [ -z "$package" ]; then
            echo "error: kiwi/programs.tsv: the line of $program is not whole"
            bad=1
        fi
        case $package in
        =* | -) ;;
        *) grep -xF -- "$package" "$packages" >/dev/null || {
            echo "error: $program needs the package $package, which is not in the list of $recipe"
            bad=1
        } ;;
        esac
        # Where the image has been built, the program must be in it. A tree without its key is half of one.
        if [ "$package" != - ] && [ -s "$TOP/builds/$recipe/root.key" ] &&
            [ -z "$(find "$TOP/builds/$recipe/root"/{usr/bin,usr/sbin,bin,sbin}/ -maxdepth 1 -name "$program" 2>/dev/null)" ]; then
            echo "error: the root tree in builds/$recipe/root has no $program"
            bad=1
        fi
        echo "$program: $package ($needed)"
    done <"$TOP/kiwi/programs.tsv"
    return "$bad"
}

# Every line of the list of modules does what it says, the initrd gets the list, and where the image has been built with it, none of
# them is there.
check_modules() {
    local list=$TOP/overlay/etc/modprobe.d/recon-disks.conf root=$TOP/builds/$1/root module found bad=0
    if grep -vE '^(#.*|install [a-z0-9_]+ /bin/false|options [a-z0-9_]+ [a-z0-9_]+=[0-9]+|)$' "$list"; then
        echo "error: a line of ${list#"$TOP"/} that this check does not know"
        bad=1
    fi
    grep -F 'inst_simple /etc/modprobe.d/recon-disks.conf' "$TOP"/overlay/usr/lib/dracut/modules.d/99recon/module-setup.sh || bad=1
    grep -E '^ *remove_disk_modules .* /etc/modprobe.d/recon-disks.conf$' "$TOP/kiwi/common/config.sh" || bad=1
    # An older tree was built with another list.
    cmp -s "$list" "$root/etc/modprobe.d/recon-disks.conf" || return "$bad"
    while read -r module; do
        found=$(find "$root"/lib/modules/ -name "${module//_/[-_]}.ko*")
        [ -z "$found" ] || {
            echo "error: $found is in the image"
            bad=1
        }
    done < <(sed -nE 's#^install ([a-z0-9_]+) /bin/false$#\1#p' "$list")
    found=$(find "$root"/lib/modules/*/kernel/drivers/{md,target} -name '*.ko*' 2>/dev/null || true)
    [ -z "$found" ] || {
        echo "error: in the image: $found"
        bad=1
    }
    return "$bad"
}

# has_first_stage RECIPE: whether one has been built with this table.
has_first_stage() {
    cmp -s "$FIRST_STAGE" "$TOP/builds/$1/first-stage.tsv"
}

# check_first_stage RECIPE: where the image has been built with this table, each network port that its kernel knows has its driver in a
# piece of the first stage, nothing else is in there, and all sums hold.
check_first_stage() {
    local dir=$TOP/builds/$1
    if ! has_first_stage "$1"; then
        echo "no first stage has been built with this table"
        return 0
    fi
    "$PYTHON" "$TOP/tools/first_stage.py" --root "$dir/root" --first "$dir/first" --table "$FIRST_STAGE"
}

# Each unit starts a subcommand that the binary has; systemd's own verifier reads the units where a root tree exists.
check_units() {
    local recipe=$1 stage=$2 word root=$TOP/builds/$1/root
    while read -r word; do
        echo "recon $word"
        "$stage/root/usr/bin/recon" "$word" --help >/dev/null || die "a unit or rule starts 'recon $word', which the binary does not know"
    done < <({
        sed -nE 's#^Exec[A-Za-z]*=/usr/bin/recon ([a-z-]+).*#\1#p' "$TOP"/services/*
        sed -nE 's#.*"/usr/bin/recon ([a-z-]+).*#\1#p' "$TOP"/overlay/usr/lib/udev/rules.d/*
    } | LC_ALL=C sort --unique)
    # systemd's own verifier needs what the units refer to: a root tree that holds these very units.
    if command -v systemd-analyze >/dev/null && same_units "$root"; then
        systemd-analyze verify --man=no --generators=no --root="$root" \
            recon.service recon-peer.service recon-ssh.service recon-console@tty1.service recon-write-disk@tty1.service
    fi
}

same_units() {
    local unit
    for unit in "$TOP"/services/*; do
        cmp --silent "$unit" "$1/usr/lib/systemd/system/$(basename "$unit")" || return 1
    done
}

check_secrets() {
    local places=("$TOP/overlay" "$TOP/kiwi/common" "$TOP/kiwi/$1" "$TOP/services")
    if grep -rnE 'PRIVATE KEY|ssh-(rsa|ed25519|dss) AAAA|ecdsa-sha2-[a-z0-9-]+ AAAA|[$](1|2[aby]|5|6|y)[$][./A-Za-z0-9]' "${places[@]}"; then
        die "key material or a password hash in the sources of the image"
    fi
    if grep -rnE '(https?|ftp)://' "${places[@]}"; then
        die "an address in the sources of the image: package sources come from the host or from --mirror"
    fi
    if find "$TOP/overlay" -name 'authorized_keys' -o -name 'ssh_host_*' -o -name 'machine-id' | grep .; then
        die "a file that must not be in an image"
    fi
}

# check_mirror RECIPE PACKAGES: the mirror has every package of the recipe, and they can be installed together.
check_mirror() {
    local recipe=$1 packages=$2
    case $recipe in
    suse-*)
        know_keys "$recipe"
        verify_indexes "$recipe"
        step "$recipe: zypper finds every package of the image, and what they need" with_index "$recipe" dry_run "$recipe" @INDEX@ "$packages"
        step "$recipe: zypper finds every package that set-up asks for on openSUSE" check_host_names "$recipe"
        ;;
    *) say "$recipe: the mirror offers it; --mirror of check asks for single packages only where the recipe is one of openSUSE" ;;
    esac
}

# check_host_names RECIPE: what hostsetup.sh asks zypper for, on the release that the recipe is made of.
check_host_names() {
    local names=$TOP/builds/$1/host-packages group
    for group in first check build lab suse suse-keys; do
        PACKAGER=zypper SUSE_VERSION=${1##*-} packages_for "$group"
    done | tr ' ' '\n' | sed '/^$/d' | LC_ALL=C sort --unique >"$names"
    with_index "$1" dry_run "$1" @INDEX@ "$names"
}

# dry_run RECIPE INDEX NAMES-FILE: zypper would install all of these into an empty system. It names what it does not find.
dry_run() {
    local recipe=$1 index=$2 names=$3 root=$TOP/builds/$1/dry-run alias missing status=0
    local -a zypper=(zypper --root "$root" --non-interactive --no-gpg-checks) packages=()
    rm -rf "$root"
    mkdir -p "$root/root"
    # Nothing is installed, so this host's own database format will do, also where it is not openSUSE's.
    export HOME=$root/root XDG_CONFIG_HOME=$root/root/.config
    rpm --root "$root" --initdb
    # Verified before, and served from here: zypper's own check would want the keys in the database of an empty system.
    while read -r alias _; do
        "${zypper[@]}" --quiet addrepo --refresh "$index/$alias" "$alias"
    done < <(suse_paths "$recipe")
    mapfile -t packages <"$names"
    "${zypper[@]}" install --dry-run --no-recommends --auto-agree-with-licenses -- "${packages[@]}" 2>&1 | tee "$root.said" || status=$?
    rm -rf "$root"
    [ "$status" -ne 0 ] || return 0
    # Last, where a person looks: the names alone, then where they were looked for.
    missing=$(sed -n "s/^No provider of '\(.*\)' found\.$/\1/p" "$root.said" | LC_ALL=C sort --unique | one_line)
    echo "error: zypper cannot install these ${#packages[@]} packages from $(suse_top)${missing:+; it does not find: $missing}"
    return 1
}
