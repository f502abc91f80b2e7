# shellcheck shell=bash
# What the build host must have, and how it is installed. Costs a fraction of a second when nothing is missing.

# packages_for GROUP: names for apt or zypper hosts. Groups: first (what is needed to ask a mirror and verify its index), check,
# build, lab, and the family of the recipe (debian, suse).
packages_for() {
    case $PACKAGER/$1 in
    apt/first) echo python3 python3-venv ca-certificates gpgv ;;
    apt/check) echo libxml2-utils shellcheck cpio ;;
    # libc6-dev has the static C library; without recommendations gcc does not bring it.
    apt/build) echo gcc libc6-dev binutils rsync squashfs-tools xorriso grub-common grub2-common grub-pc-bin grub-efi-amd64-bin isolinux \
        mtools dosfstools parted gdisk kpartx qemu-utils xz-utils zstd curl kmod fdisk ;;
    apt/lab) echo qemu-system-x86 qemu-utils ovmf ipxe-qemu iproute2 dnsmasq-base tftp-hpa curl isc-dhcp-client udhcpc \
        bind9-dnsutils ndisc6 tcpdump swtpm swtpm-tools openipmi lshw pci.ids usb.ids hwinfo dmidecode pciutils ethtool ipmitool \
        dhcpcd-base isc-dhcp-relay kea-admin atftp wrk exfatprogs e2fsprogs gdisk mtools xorriso debootstrap procps util-linux \
        python3-fusepy make nginx-light openssl openssh-client ;;
    # Images of the other family need its package manager here.
    apt/suse) echo zypper rpm ;;
    # The keys of openSUSE and SUSE, packaged from Debian 13 on. Where --keys names others, or no such package is known, nothing.
    apt/suse-keys) [ -n "$KEYS" ] || ! apt-cache show distribution-gpg-keys >/dev/null 2>&1 || echo distribution-gpg-keys ;;
    zypper/debian) echo apt dpkg ;;
    apt/debian | zypper/suse | zypper/suse-keys) ;;
    # The python3 of openSUSE Leap 15 is 3.6 for ever; KIWI wants 3.11.
    zypper/first) echo "$(newer_python)" ca-certificates ca-certificates-mozilla gpg2 openSUSE-build-key ;;
    zypper/check) echo libxml2-tools ShellCheck cpio ;;
    zypper/build) echo gcc glibc-devel-static binutils rsync squashfs xorriso grub2 grub2-i386-pc grub2-x86_64-efi mtools dosfstools parted gptfdisk kpartx \
        qemu-tools xz zstd curl kmod util-linux "$(newer_gconv)" ;;
    zypper/lab) echo qemu-x86 qemu-tools qemu-ovmf-x86_64 qemu-ipxe iproute2 dnsmasq tftp curl dhcp-client busybox \
        bind-utils ndisc6 tcpdump swtpm OpenIPMI lshw hwdata hwinfo dmidecode pciutils ethtool ipmitool \
        dhcpcd dhcp-relay kea systemd-network atftp wrk exfatprogs e2fsprogs gptfdisk mtools xorriso debootstrap procps util-linux \
        python3-fusepy make nginx openssl openssh-clients ;;
    esac
}

# The package that brings a Python new enough for KIWI on this openSUSE, or on SUSE_VERSION.
newer_python() {
    case ${SUSE_VERSION:-$(. /etc/os-release && echo "${VERSION_ID:-}")} in
    15.*) echo python311 ;;
    *) echo python3 ;;
    esac
}

# From Leap 16 on, the character sets that mtools needs for FAT labels are a package of their own.
newer_gconv() {
    case ${SUSE_VERSION:-$(. /etc/os-release && echo "${VERSION_ID:-}")} in
    15.*) ;;
    *) echo glibc-gconv-modules-extra ;;
    esac
}

# any_python: some Python 3 of this host, for what every one can do; nothing where there is none.
any_python() {
    command -v python3 || command -v python3.11 || command -v python3.13 || command -v python3.12 || true
}

# choose_python: sets PYTHON to the newest that KIWI and the laboratory are known to run with: 3.11 to 3.13, else python3 if it
# is newer still. One that cannot make virtual environments is none: Debian splits that off.
choose_python() {
    local name
    for name in python3.13 python3.12 python3.11 python3; do
        if "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            PYTHON=$name
            return 0
        fi
    done
    die "KIWI and the laboratory need Python 3.11 or newer with venv and pip, and this host has $(python_versions): install $(packages_for first | cut -d' ' -f1-2)"
}

python_versions() {
    local name said=''
    for name in python3 python3.11 python3.12 python3.13; do
        command -v "$name" >/dev/null && said+="${said:+, }$name = $("$name" -c 'import platform; print(platform.python_version())' 2>/dev/null || echo 'one that does not start')"
    done
    echo "${said:-no python3}"
}

find_packager() {
    if command -v apt-get >/dev/null; then
        PACKAGER=apt
    elif command -v zypper >/dev/null; then
        PACKAGER=zypper
    else
        die "neither apt-get nor zypper found: set-up knows Debian and openSUSE hosts"
    fi
}

# missing_packages NAME…: those that are not installed, on one line.
missing_packages() {
    local name installed
    if [ "$PACKAGER" = apt ]; then
        installed=$(dpkg-query --show --showformat '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null | sed -n 's/^installed //p')
        for name in "$@"; do
            grep -qxF -- "$name" <<<"$installed" || printf '%s ' "$name"
        done
    else
        for name in "$@"; do
            rpm --quiet -q --whatprovides "$name" || printf '%s ' "$name"
        done
    fi
}

# host_setup GROUP…: installs what those groups need.
host_setup() {
    local group missing
    local -a wanted=()
    find_packager
    for group in "$@"; do
        # shellcheck disable=SC2207 # package names hold no blanks
        wanted+=($(packages_for "$group"))
    done
    missing=$(missing_packages "${wanted[@]}")
    if [ -n "$missing" ]; then
        [ "$(id -u)" -eq 0 ] || die "not root, and these packages are missing: $missing"
        need_own_source
        # shellcheck disable=SC2086 # a list of names
        step "installing on this host: ${missing% }" "install_with_$PACKAGER" $missing
    fi
}

# A mirror of this host that is gone or cannot be reached is said before apt tries every package with every time-out it has.
need_own_source() {
    local codename uri
    [ "$PACKAGER" = apt ] && [ -n "$(any_python)" ] || return 0
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    uri=$(apt_source_uri "$codename")
    [ -z "$uri" ] || base_offers "$uri" "$codename" ||
        die "the package source of this machine ($uri) has no $codename any more (dists/$codename/InRelease is not there): mend its apt settings"
}

install_with_zypper() {
    local name
    local -a refused=()
    zypper --non-interactive install --no-recommends "$@" && return 0
    # One name that this release does not have must not cost all the others. Programs of the laboratory are asked for again,
    # by name, by the ring of tests that wants them.
    for name in "$@"; do
        zypper --non-interactive install --no-recommends "$name" || refused+=("$name")
    done
    for name in "${refused[@]}"; do
        tr ' ' '\n' <<<"$(packages_for lab)" | grep -qxF -- "$name" && continue
        echo "error: zypper cannot install these packages: ${refused[*]}"
        return 1
    done
    echo "zypper cannot install ${refused[*]}: tests that need them will say so"
}

install_with_apt() {
    export DEBIAN_FRONTEND=noninteractive
    # An older list may be good enough; only when it is not, or there is none, is the network asked.
    apt_install "$@" && return 0
    apt-get update
    apt_install "$@" && return 0
    # A package of the backports suite that is already here (qemu-utils, say) holds its relatives back: whatever is refused on
    # its own comes from that suite too, from the very source this host uses.
    local name
    local -a refused=()
    for name in "$@"; do
        apt_install "$name" || refused+=("$name")
    done
    from_backports "${refused[@]}"
}

# Never at the price of a package that is here: what collides with one is refused, and then taken from where that one came.
apt_install() {
    apt-get install --yes --no-install-recommends --no-remove "$@"
}

# from_backports NAME…
from_backports() {
    local codename
    add_backports
    apt-get update
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    apt_install --target-release "$codename-backports" "$@"
}

# The laboratory's guests have a NIC model that QEMU has from 8.0 on; Debian 12 has that in its backports only.
new_qemu() {
    if [ "$PACKAGER" != apt ] || qemu-system-x86_64 -device help 2>/dev/null | grep '^name "igb"' >/dev/null; then
        return 0
    fi
    step "taking QEMU 8 or newer from Debian's backports" from_backports qemu-system-x86 qemu-utils
}

add_backports() {
    local codename uri
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    uri=$(apt_source_uri "$codename")
    [ -n "$uri" ] || die "no Debian source for $codename in this host's apt settings"
    cat >/etc/apt/sources.list.d/recon-backports.sources <<EOF
Types: deb
URIs: $uri
Suites: $codename-backports
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
EOF
}

# apt_source_uri SUITE: the first URI in this host's apt settings that offers the suite, whatever its list format.
apt_source_uri() {
    local file
    for file in /etc/apt/sources.list.d/*.sources; do
        [ -e "$file" ] || continue
        awk -v suite="$1" 'function out() { if (hit && uri != "") { sub("/$", "", uri); print uri } hit = 0; uri = "" }
            /^[[:space:]]*$/ { out(); next }
            tolower($1) == "uris:" { uri = $2 }
            tolower($1) == "suites:" { for (i = 2; i <= NF; i++) if ($i == suite) hit = 1 }
            END { out() }' "$file"
    done >"${TMPDIR:-/tmp}/recon-uris.$$"
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ -e "$file" ] || continue
        awk -v suite="$1" '$1 == "deb" { sub(/\[[^]]*\] */, ""); if ($3 == suite) { sub("/$", "", $2); print $2 } }' "$file"
    done >>"${TMPDIR:-/tmp}/recon-uris.$$"
    head -n 1 "${TMPDIR:-/tmp}/recon-uris.$$"
    rm -f "${TMPDIR:-/tmp}/recon-uris.$$"
}

kiwi_venv() {
    # shellcheck disable=SC2034 # read by kiwi.sh
    KIWI=$TOP/builds/venv/bin/kiwi-ng
    python_venv venv "$TOP/tools/kiwi-requirements.txt" "KIWI $(sed -n 's/^kiwi==//p' "$TOP/tools/kiwi-requirements.txt")" kiwi-ng
}

# The linters are apart from KIWI, whose packages they could otherwise change.
lint_venv() {
    python_venv lint-venv "$TOP/tools/lint-requirements.txt" "ruff and mypy" mypy
}

# python_venv NAME LIST WHAT PROGRAM: a venv builds/NAME with what the pinned list says, made anew when that changes. PROGRAM is in it.
python_venv() {
    local venv=$TOP/builds/$1 list=$2 what=$3 program=$4 want
    # The venv is bound to the Python it was made with.
    want=$({ cat "$list"; "$PYTHON" -VV; } | sha256sum)
    "$venv/bin/python" -c '' 2>/dev/null && [ -x "$venv/bin/$program" ] && [ "$(cat "$venv/requirements.sum" 2>/dev/null)" = "$want" ] && return 0
    step "installing $what into builds/$1" make_venv "$venv" "$list" "$what" "$want"
}

# make_venv VENV LIST WHAT SUM: a venv that was good is not lost because the new one cannot be had now.
make_venv() {
    local venv=$1 list=$2 what=$3
    rm -rf "$venv.old"
    [ ! -d "$venv" ] || mv "$venv" "$venv.old"
    if "$PYTHON" -m venv "$venv" && "$venv/bin/pip" install --quiet --disable-pip-version-check --retries 1 --timeout 10 -r "$list"; then
        printf '%s\n' "$4" >"$venv/requirements.sum"
        rm -rf "$venv.old"
        return 0
    fi
    rm -rf "$venv"
    [ ! -d "$venv.old" ] || mv "$venv.old" "$venv"
    echo "error: $what could not be installed from the Python package index: is it reachable from here? If this network needs a proxy, set https_proxy; for a mirror of the index, set PIP_INDEX_URL"
    return 1
}

# The binary is built with the Rust toolchain that the person has; distributions' own are too old to install one here.
need_rust() {
    local home=${HOME:-/root}/.cargo/bin
    command -v cargo >/dev/null || [ ! -x "$home/cargo" ] || PATH=$home:$PATH
    need cargo "Rust $(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$TOP/Cargo.toml") or newer builds the recon binary: install it with rustup"
}
