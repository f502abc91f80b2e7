# shellcheck shell=bash
# Why RPM packages are believed. Trust begins at the index: every repository's signed repomd.xml is verified here, with gpgv, and
# the package manager works from those very files (rpm_index.py serves them); its checksums cover all metadata and packages. The
# packages' own signatures are checked on top where this host's rpm takes all the keys: Debian 13's refuses some of openSUSE's.

# KIWI's rpm and zypper: the database is made by the host's rpm and read by the image's, so it has to be what openSUSE uses.
RPM_MACROS='%_dbpath /usr/lib/sysimage/rpm
%_db_backend ndb'

# rpm_home DIR: a home for KIWI with rpm's macros; both places where rpm versions look.
rpm_home() {
    mkdir -p "$1/.config/rpm"
    printf '%s\n' "$RPM_MACROS" | tee "$1/.rpmmacros" >"$1/.config/rpm/macros"
}

# ndb_problem: a sentence if it is known already that this host cannot build images of openSUSE; nothing where it can, or where
# rpm is still to be installed.
ndb_problem() {
    if command -v rpm >/dev/null; then
        (need_ndb) 2>&1 | sed 's/^make-recipe-target: //' || true
    elif [ "$(. /etc/os-release && echo "$ID")" = debian ] && [ "$(. /etc/os-release && echo "${VERSION_ID:-99}")" -lt 13 ]; then
        echo "the rpm of Debian before 13 cannot write the database format of openSUSE (ndb): build images of openSUSE on Debian 13 or newer, or on openSUSE"
    fi
}

# need_ndb: this host's rpm can write openSUSE's database format. It says "invalid" and takes another one where it cannot.
need_ndb() {
    local scratch
    command -v rpm >/dev/null || die "rpm is missing, and packages of openSUSE are installed with it"
    scratch=$(mktemp -d)
    rpm_home "$scratch/home"
    HOME=$scratch/home XDG_CONFIG_HOME=$scratch/home/.config rpm --root "$scratch/root" --initdb >/dev/null 2>&1 || true
    if [ ! -s "$scratch/root/usr/lib/sysimage/rpm/Packages.db" ]; then
        rm -rf "$scratch"
        die "$(rpm --version | head -n 1) of this host cannot write the database format of openSUSE (ndb): build images of openSUSE on Debian 13 or newer, or on openSUSE. A root of Debian 13 made with debootstrap, entered with chroot, will do"
    fi
    rm -rf "$scratch"
}

# rpm_keys RECIPE: the files of the keys that may sign this recipe's indexes, one a line: --keys, else what this host's
# distribution ships, else what the mirror offered the first time it was asked.
rpm_keys() {
    local -a files=()
    if [ -n "$KEYS" ]; then
        realpath "$KEYS"
        return 0
    fi
    # openSUSE-build-key on openSUSE, distribution-gpg-keys on Debian.
    mapfile -t files < <(find /usr/lib/rpm/gnupg/keys /usr/share/distribution-gpg-keys/opensuse /usr/share/distribution-gpg-keys/suse \
        -type f \( -name '*.asc' -o -name 'RPM-GPG-KEY*' -o -name '*.key' \) 2>/dev/null | LC_ALL=C sort)
    if [ ${#files[@]} -eq 0 ] && [ -s "$TOP/builds/keys/$1.asc" ]; then
        files=("$TOP/builds/keys/$1.asc")
    fi
    [ ${#files[@]} -eq 0 ] || printf '%s\n' "${files[@]}"
}

# know_keys RECIPE: leaves the list of key files in builds/RECIPE/keys.
know_keys() {
    local recipe=$1 dir=$TOP/builds/$1 said
    local -a sources=()
    rpm_keys "$recipe" >"$dir/keys"
    [ ! -s "$dir/keys" ] || return 0
    mkdir -p "$TOP/builds/keys"
    mapfile -t sources < <(suse_sources "$recipe" | sed 's/^/--source=/')
    said=$("$PYTHON" "$TOP/tools/rpm_index.py" first-keys --out "$TOP/builds/keys/$recipe.asc" "${sources[@]}" 2>&1) || die "$said"
    printf '%s\n' "$TOP/builds/keys/$recipe.asc" >"$dir/keys"
    say "this host has no keys of openSUSE, so they come from the mirror itself, once, and are kept in builds/keys: compare the fingerprints below with those that openSUSE publishes"
}

# The recipe whose indexes this run has verified.
VERIFIED=''

# verify_indexes RECIPE: leaves the verified indexes in builds/RECIPE/index and says who signed them. An index that does not
# verify ends the run.
verify_indexes() {
    local recipe=$1 dir=$TOP/builds/$1 said line first=''
    local -a keys=() sources=()
    [ "$VERIFIED" != "$recipe" ] || return 0
    mapfile -t sources < <(suse_sources "$recipe" | sed 's/^/--source=/')
    mapfile -t keys <"$dir/keys"
    rm -rf "$dir/index"
    # Keys that came from a mirror vouch for no more than that it is the same mirror still.
    case ${keys[0]} in "$TOP/builds/keys/"*) first=yes ;; esac
    said=$("$PYTHON" "$TOP/tools/rpm_index.py" verify --out "$dir/index" --keys "${keys[@]}" "${sources[@]}" 2>&1) ||
        die "$said${first:+. The keys in ${keys[0]} came from the mirror that was asked first: remove that file if that was a wrong one}"
    while read -r line; do
        say "$line${first:+; the key came from a mirror, compare it with what openSUSE publishes}"
    done <<<"$said"
    VERIFIED=$recipe
}

# rpm_takes_keys RECIPE: the host's rpm accepts every one of the keys, so that packages' signatures can be checked as well.
rpm_takes_keys() {
    local scratch key status=0
    scratch=$(mktemp -d)
    rpm_home "$scratch/home"
    mkdir -p "$scratch/root"
    HOME=$scratch/home XDG_CONFIG_HOME=$scratch/home/.config rpm --root "$scratch/root" --initdb >/dev/null 2>&1 || status=1
    while read -r key; do
        HOME=$scratch/home XDG_CONFIG_HOME=$scratch/home/.config rpm --root "$scratch/root" --import "$key" >/dev/null 2>&1 || status=1
    done <"$TOP/builds/$1/keys"
    rm -rf "$scratch"
    return "$status"
}

# package_check RECIPE: the fields of KIWI's repository option that follow imageinclude: check of the packages, and with what.
package_check() {
    local keys
    if [ "$PACKAGE_SIGNATURES" = true ]; then
        keys=$(sed 's#^#file://#' "$TOP/builds/$1/keys" | paste -sd ';')
        printf 'true,{%s},,,true' "$keys"
    else
        printf 'false,,,,false'
    fi
}

# in_rpm_home RECIPE COMMAND…: runs the command where rpm and zypper find openSUSE's settings.
in_rpm_home() {
    local home=$TOP/builds/$1/home
    shift
    rpm_home "$home"
    (
        export HOME=$home XDG_CONFIG_HOME=$home/.config
        "$@"
    )
}

# with_index RECIPE COMMAND…: the same while the verified indexes are served; the words @INDEX@ in the arguments become their
# address.
with_index() {
    local recipe=$1 dir=$TOP/builds/$1 server port word tries=0 status=0
    local -a sources=() words=()
    shift
    mapfile -t sources < <(suse_sources "$recipe" | sed 's/^/--source=/')
    rm -f "$dir/index.port"
    "$PYTHON" "$TOP/tools/rpm_index.py" serve --dir "$dir/index" --port-file "$dir/index.port" "${sources[@]}" 9>&- &
    server=$!
    while [ ! -s "$dir/index.port" ]; do
        tries=$((tries + 1))
        [ "$tries" -le 100 ] || die "the verified index could not be served on loopback within 10 s"
        sleep 0.1
    done
    port=$(cat "$dir/index.port")
    for word in "$@"; do
        words+=("${word//@INDEX@/http://127.0.0.1:$port}")
    done
    in_rpm_home "$recipe" "${words[@]}" || status=$?
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    return "$status"
}
