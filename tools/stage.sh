# shellcheck shell=bash
# The folder that KIWI is given: description + overlay + units + binary, the same bytes and times for the same sources.

RECON=$TOP/target/x86_64-unknown-linux-gnu/release/recon
# Every staged file carries this time, so that packing it again gives the same image. A clock that is right is not before it.
STAGE_TIME=1767225600

# source_time: the time of these sources in seconds since 1970, the same wherever they are built: that of the commit which is checked out.
# Where no git tells it (an archive of the sources, a shell without git), or a clock was wrong when it was made, it is STAGE_TIME.
source_time() {
    local commit=''
    if [ -n "${SOURCE_DATE_EPOCH:-}" ]; then
        echo "$SOURCE_DATE_EPOCH"
        return
    fi
    # No other checkout that this folder lies in; and whoever owns it: root builds what a person cloned.
    if [ -e "$TOP/.git" ]; then
        commit=$(git --git-dir="$TOP/.git" rev-list --max-count=1 --timestamp HEAD | cut -d' ' -f1) || true
    fi
    if [ "${commit:-0}" -ge "$STAGE_TIME" ] && [ "$commit" -le "$(date +%s)" ]; then
        echo "$commit"
    else
        echo "the time of these sources is taken for $(date -u --date "@$STAGE_TIME" +%F): no commit tells a later one that has come" >&2
        echo "$STAGE_TIME"
    fi
}

# build_binary: the binary, and the program that makes the first stage. Both at once: cargo settles the features of their dependencies for
# what is asked for together, and asked for one by one they compile the library of both twice, which takes minutes.
#
# It is one static-pie binary that runs in every image, whatever its C library, and in the initrd. Its 90,000 relative
# relocations are packed (RELR) where the static C library of this host unpacks them: in full they are 2 MB, which every start reads
# into memory.
build_binary() {
    local flags="-C target-feature=+crt-static"
    cd "$TOP" || return
    # glibc does since 2.36.
    if printf '2.36\n%s\n' "$(getconf GNU_LIBC_VERSION | cut -d' ' -f2)" | sort --version-sort --check=quiet; then
        flags+=" -C link-arg=-Wl,-z,pack-relative-relocs"
    fi
    # From RECON_SOURCE_TIME on a machine's clock may be right (src/role/boot_node.rs). It changes with each commit, and only the crate of
    # the binary is compiled anew for it; SOURCE_DATE_EPOCH is among what the C compilers of some libraries go by.
    RECON_SOURCE_TIME=$(source_time) SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$STAGE_TIME} RUSTFLAGS=$flags \
        cargo build --release --locked --target x86_64-unknown-linux-gnu --package recon --package first-stage
}

# KIWI's check of RPM packages' own signatures; on where this host's rpm takes all the keys (rpm_trust.sh).
export PACKAGE_SIGNATURES=false

# make_stage RECIPE DIR
make_stage() {
    local recipe=$1 dir=$2
    rm -rf "$dir"
    mkdir -p "$dir/root/usr/bin" "$dir/root/usr/lib/systemd/system"
    cp "$TOP"/kiwi/common/* "$dir/"
    cp "$TOP/kiwi/$recipe"/* "$dir/"
    # Read when the root tree is there already: a change of it is no reason to prepare another.
    rm -f "$dir/first-stage.tsv"
    case $recipe in
    suse-*) sed -i "s#<rpm-check-signatures>.*</rpm-check-signatures>#<rpm-check-signatures>$PACKAGE_SIGNATURES</rpm-check-signatures>#" "$dir"/*.xml "$dir"/*.kiwi ;;
    esac
    cp -a "$TOP/overlay/." "$dir/root/"
    # The table in there is for people who read the sources.
    rm -f "$dir/root/README.md" "$dir/README.md"
    cp "$TOP"/services/*.service "$dir/root/usr/lib/systemd/system/"
    cp "$RECON" "$dir/root/usr/bin/recon"
    # Git keeps no modes but the executable bit; the umask of whoever checked out must not reach the image.
    # A check may be made by anybody; what is built is built by root.
    [ "$(id -u)" -ne 0 ] || chown -R 0:0 "$dir"
    find "$dir" -type d -exec chmod 755 {} +
    find "$dir" -type f -perm /111 -exec chmod 755 {} +
    find "$dir" -type f ! -perm /111 -exec chmod 644 {} +
    find "$dir" -exec touch --no-dereference --date "@$STAGE_TIME" {} +
}

# stage_key DIR: hash over names, modes, link targets and contents of the stage, without the binary.
stage_key() {
    (
        cd "$1" || exit
        find . ! -path ./root/usr/bin/recon -printf '%P %M %l\n' | LC_ALL=C sort
        find . -type f ! -path ./root/usr/bin/recon -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
    ) | sha256sum | cut -d' ' -f1
}
