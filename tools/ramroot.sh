# shellcheck shell=bash
# The image of diskless nodes, in three steps, each done again only where something of it changed:
#   base   the root tree from packages (KIWI)
#   root   a copy of it with the site's files and script, and without what every node must have for itself
#   image  root archive, kernel, first stage, manifest (recon image pack)

# ramroot_description RECIPE: the folder of the description, where there is one.
ramroot_description() {
    printf '%s\n' "$TOP/kiwi/ramroot/$1"
}

# need_ramroot RECIPE: refuses what cannot be made, before anything is built.
need_ramroot() {
    local dir
    dir=$(ramroot_description "$1")
    [ -f "$dir/appliance.kiwi" ] ||
        die "no root of diskless nodes is described for $1; there are those of: $(cd "$TOP/kiwi/ramroot" && printf '%s ' */ | tr -d /)"
    [ -z "$CUSTOMIZE" ] || [ -d "$CUSTOMIZE" ] || die "--customize $CUSTOMIZE: no such folder"
    [ -z "$CUSTOMIZE" ] || [ -d "$CUSTOMIZE/files" ] || [ -f "$CUSTOMIZE/customize.sh" ] ||
        die "--customize $CUSTOMIZE: it has neither files/, which are copied over the root, nor customize.sh, which is run in it"
    [[ $IMAGE =~ ^[a-z0-9][a-z0-9._-]{0,31}$ ]] ||
        die "--image $IMAGE: the name of an image has 1 to 32 small letters, digits, . _ and -, and begins with a letter or digit"
}

# tree_key DIR: hash over names, modes, links and contents of a folder.
tree_key() {
    (
        cd "$1" || exit
        find . -printf '%P %M %l\n' | LC_ALL=C sort
        find . -type f -print0 | LC_ALL=C sort -z | xargs -0 --no-run-if-empty sha256sum
    ) | sha256sum | cut -d' ' -f1
}

# stage_ramroot RECIPE STAGE
stage_ramroot() {
    rm -rf "$2"
    mkdir -p "$2"
    cp "$(ramroot_description "$1")"/* "$TOP/kiwi/common/post_bootstrap.sh" "$2/"
    chmod 755 "$2"/*.sh
    [ "$(id -u)" -ne 0 ] || chown -R 0:0 "$2"
}

# prepare_base RECIPE DIR REPOSITORY-WORD…
prepare_base() {
    local dir=$2
    shift 2
    forget_tree "$dir/base"
    rm -f "$dir/base.key" "$dir/root.key"
    "$KIWI" --debug system prepare --description "$dir/stage" --root "$dir/base" "$@"
    rm -rf "$dir/base/image"
}

# in_root ROOT COMMAND…: runs a command in a root tree, without a network, and with no process of it left behind.
in_root() {
    local root=$1
    shift
    # shellcheck disable=SC2016 # the inner shell's words
    unshare --mount --net --pid --fork --kill-child bash -c '
        set -e
        root=$1
        shift
        mount --make-rprivate /
        mount -t proc proc "$root/proc"
        mount --rbind /dev "$root/dev"
        mount -t tmpfs tmpfs "$root/run"
        mount -t tmpfs tmpfs "$root/tmp"
        exec chroot "$root" "$@"' - "$root" "$@"
}

# customize_root DIR: the copy that is packed.
customize_root() {
    local dir=$1 root=$1/root
    forget_tree "$root"
    rm -f "$dir/root.key"
    cp --archive --reflink=auto "$dir/base" "$root"
    # Nobody comes in by what a package left; what the site puts there stays.
    sed -i 's/^root:[^:]*:/root:*:/' "$root/etc/shadow"
    rm -f "$root/etc/hostname"
    # From within, as links of the root lead elsewhere out here.
    [ -z "$CUSTOMIZE" ] || [ ! -d "$CUSTOMIZE/files" ] ||
        tar --directory "$CUSTOMIZE/files" --create . | in_root "$root" tar --extract --no-same-owner --keep-directory-symlink --directory /
    if [ -n "$CUSTOMIZE" ] && [ -f "$CUSTOMIZE/customize.sh" ]; then
        install -m 755 "$CUSTOMIZE/customize.sh" "$root/recon-customize.sh"
        in_root "$root" /bin/sh /recon-customize.sh
        rm -f "$root/recon-customize.sh"
    fi
    # Every node has its own.
    rm -f "$root"/etc/ssh/ssh_host_* "$root/var/lib/dbus/machine-id" "$root/var/lib/systemd/random-seed"
    : >"$root/etc/machine-id"
    find "$root/var/log" -type f -delete
}

# pack_ramroot DIR
pack_ramroot() {
    local forms=()
    rm -f "$1/image.key"
    command -v sqfstar >/dev/null || {
        echo "no root.squashfs is made: this machine has no sqfstar (squashfs-tools 4.5 or later); nodes need memory for the unpacked root then"
        forms=(--no-squashfs)
    }
    "$RECON" image pack "$1/root" --output "$1/image" --newest "$STAGE_TIME" "${forms[@]}"
}

# make_ramroot RECIPE
make_ramroot() {
    local recipe=$1 dir=$TOP/builds/$1/ramroot/$IMAGE base_key root_key image_key repos_text
    local -a repos=()
    mkdir -p "$dir"
    # shellcheck disable=SC2064 # the folder of now
    trap "free_tree '$dir/base'; free_tree '$dir/root'" EXIT
    free_tree "$dir/base"
    repos_text=$(repo_args "$recipe") || exit 1
    mapfile -t repos <<<"$repos_text"
    step "building the recon binary" build_binary
    stage_ramroot "$recipe" "$dir/stage"
    base_key=$({ tree_key "$dir/stage"; sha256sum <"$TOP/tools/kiwi-requirements.txt"; source_question "$recipe"; printf '%s\n' "${repos[@]}"; } | sha256sum)
    if [ "$(cat "$dir/base.key" 2>/dev/null)" != "$base_key" ] || [ ! -d "$dir/base/usr" ]; then
        case $recipe in debian-*) need_debian_index ;; esac
        step "preparing the root tree from packages (KIWI)" prepare_base "$recipe" "$dir" "${repos[@]}"
        echo "$base_key" >"$dir/base.key"
    fi
    root_key=$({ echo "$base_key"; sha256sum <"$TOP/tools/ramroot.sh"; [ -z "$CUSTOMIZE" ] || tree_key "$CUSTOMIZE"; } | sha256sum)
    if [ "$(cat "$dir/root.key" 2>/dev/null)" != "$root_key" ]; then
        step "the site's files and script" customize_root "$dir"
        echo "$root_key" >"$dir/root.key"
    fi
    image_key=$({ echo "$root_key"; sha256sum <"$RECON"; } | sha256sum)
    if [ "$(cat "$dir/image.key" 2>/dev/null)" = "$image_key" ] && "$RECON" image check "$dir/image" >>"$STEP_LOG" 2>&1; then
        say "nothing changed: $dir/image stands"
        return 0
    fi
    step "packing the image" pack_ramroot "$dir"
    echo "$image_key" >"$dir/image.key"
    say "$dir/image: bring it to a stick with: recon image add $dir/image --name $IMAGE --data FOLDER"
}
