# shellcheck shell=bash
# What can be made of a recipe. Everything starts from the one ISO.

# name and one line of what it is, in the order people read them
targets() {
    cat <<EOF
target      hybrid live ISO for a USB stick and for network boot
http        folder that any web server can serve: ISO, kernel, initrd, boot.ipxe
virtual     raw disk image for a hypervisor, with room for the data partition (--size)
disk        install medium: a menu writes the live image to the disk that you choose
bootloader  small disk image that boots a machine from an address: BIOS, UEFI, Secure Boot (--settings, --ca)
ramroot     image of diskless nodes, which run from memory (--image, --customize)
check       everything that can be checked of the recipe without building it
clean       remove what was built of this recipe
demo        virtual data center on this machine: a stick, peers, the inventory
test        all tests: cargo, network namespaces, virtual data center
EOF
}

target_names() {
    targets | cut -d' ' -f1
}

# from_iso FILE PATH-IN-ISO: one file out of the ISO
from_iso() {
    rm -f "$1"
    xorriso -osirrox on -indev "$ISO" -extract "$2" "$1"
    chmod 644 "$1"
}

# The boot menu's place on the medium: GRUB's folder is named after the distribution's habit.
menu_path() {
    xorriso -indev "$ISO" -find /boot -name grub.cfg 2>/dev/null | tr -d "'" | grep -m 1 '^/boot/grub2\?/grub.cfg$'
}

make_http() {
    make_http_folder "$TOP/builds/$1/http"
}

# http_folder_of ISO DIR: the same without a recipe, for the tests.
http_folder_of() {
    ISO=$1
    make_http_folder "$2"
}

# make_http_folder DIR
make_http_folder() {
    local dir=$1
    mkdir -p "$dir"
    from_iso "$dir/kernel" /boot/x86_64/loader/linux
    from_iso "$dir/initrd" /boot/x86_64/loader/initrd
    ln -f "$ISO" "$dir/recon.iso" || cp "$ISO" "$dir/recon.iso"
    # Every name is relative to the script itself, wherever it is served from. Only the kernel line needs a whole URL: cwuri is
    # the one of this script, and whoever fetches the ISO resolves the dots in it as every HTTP client does. iPXE from before
    # March 2024 (Debian 12's, openSUSE Leap 15.4's) does not know cwuri; there the script must be the boot file that DHCP
    # named, with its whole URL. tests/it/old_ipxe.rs runs this script as both would.
    cat >"$dir/boot.ipxe" <<'EOF'
#!ipxe
# Boots the recon live image from the folder that this script came from. Nothing in here needs editing.
set here ${cwuri}
isset ${here} || set here ${filename}
isset ${here} || goto unknown
echo recon: booting from ${here}
imgfree
kernel kernel initrd=initrd root=live:${here}/../recon.iso rd.live.image rd.neednet=1 ip=dhcp BOOTIF=01-${netX/mac:hexhyp} @CMDLINE@ || goto failed
initrd initrd || goto failed
boot || goto failed

:failed
echo recon: could not boot from ${here}, trying again in 10 seconds
sleep 10
chain ${here}

:unknown
echo recon: this iPXE, older than March 2024, does not know where its script came from: have DHCP name the whole URL of boot.ipxe
sleep 30
exit 1
EOF
    # The rest of the kernel line is the one of the stick.
    from_iso "$dir/grub.cfg" "$(menu_path)"
    sed -i "s#@CMDLINE@#$(kernel_options "$dir/grub.cfg")#" "$dir/boot.ipxe"
    rm "$dir/grub.cfg"
}

# kernel_options GRUB-CFG: the kernel line of the first menu entry, without what names kernel and root.
kernel_options() {
    awk '$1 == "linux" {
        for (i = 3; i <= NF; i++)
            if ($i !~ /^(root=|rd\.live\.image$|rd\.neednet=|\$)/) printf "%s%s", (n++ ? " " : ""), $i
        exit
    }' "$1"
}

make_virtual() {
    local image=$TOP/builds/$1/recon-$1.raw size=$2
    rm -f "$image"
    cp --sparse=always "$ISO" "$image.new"
    [ "$(numfmt --from=iec "$size")" -gt "$(stat --format=%s "$ISO")" ] || die "--size $size is smaller than the ISO"
    truncate --size "$size" "$image.new"
    # The second copy of the partition table belongs at the end of the disk.
    sgdisk --move-second-header "$image.new"
    mv "$image.new" "$image"
}

make_disk() {
    local image=$TOP/builds/$1/recon-$1-install.iso work=$TOP/builds/$1/disk menu
    rm -rf "$work" "$image"
    mkdir -p "$work"
    menu=$(menu_path)
    from_iso "$work/grub.cfg" "$menu"
    sed -i 's/^set default=.*/set default=install/' "$work/grub.cfg"
    grep -q '^set default=install$' "$work/grub.cfg" || die "the boot menu has no default entry to change"
    xorriso -indev "$ISO" -outdev "$image.new" -boot_image any replay -map "$work/grub.cfg" "$menu"
    mv "$image.new" "$image"
    rm -rf "$work"
}

clean_recipe() {
    local dir=$TOP/builds/$1
    forget_tree "$dir/root"
    rm -rf --one-file-system "$dir"
}

# wants_ram_nodes: the demo is that of diskless nodes.
wants_ram_nodes() {
    [[ " ${EXTRA[*]} " =~ [\ =]ram-nodes\  ]]
}

run_target() {
    local recipe=$1 target=$2
    local dir=$TOP/builds/$recipe word
    for word in "${EXTRA[@]}"; do
        case $word in -h | --help) choose_python; exec "$PYTHON" "$TOP/tests/lab/run.py" "$target" --help ;; esac
    done
    case $target in
    check | clean) ;;
    *) need_root ;;
    esac
    mkdir -p "$dir" 2>/dev/null || die "$dir cannot be made by $(id -un): run this as root, or in a checkout of your own"
    exec 9>"$TOP/builds/$recipe.lock"
    flock --nonblock 9 || die "another run is working on $recipe: wait for it, or stop it"
    if [ "$target" = clean ]; then
        log_to /dev/null
        step "removing builds/$recipe" clean_recipe "$recipe"
        return 0
    fi
    log_to "$dir/$target.log"
    find_packager
    use_host_proxy
    if [ "$target" = check ]; then
        prepare_check "$recipe"
        step "shellcheck" lint_shell
        check_recipe "$recipe"
        return 0
    fi
    # What is refused is refused before anything is installed or compiled.
    if [ "$target" = ramroot ] || { [ "$target" = demo ] && wants_ram_nodes; }; then need_ramroot "$recipe"; fi
    need_clock
    need_room "$target" "$recipe"
    need_rust
    case $recipe in
    suse-*)
        word=$(ndb_problem)
        [ -z "$word" ] || [ -n "$(suse_top)" ] || die "$(no_suse_source "$recipe"). Besides, $word"
        [ -z "$word" ] || die "$word"
        ;;
    esac
    need_source "$recipe"
    host_setup first
    choose_python
    case $recipe in
    suse-*)
        host_setup suse
        need_ndb
        host_setup suse-keys
        ;;
    esac
    need_source "$recipe"
    case $target in
    test)
        host_setup check build lab "${recipe%%-*}"
        new_qemu
        ;;
    demo)
        host_setup build lab "${recipe%%-*}"
        new_qemu
        ;;
    *) host_setup build "${recipe%%-*}" ;;
    esac
    kiwi_venv
    if [ "$target" = test ]; then
        run_tests "$recipe"
        return 0
    fi
    if [ "$target" = ramroot ]; then
        make_ramroot "$recipe"
        return 0
    fi
    build_iso "$recipe"
    case $target in
    target) ;;
    http)
        step "laying out the folder for a web server" make_http "$recipe"
        say "$dir/http: let clients chain boot.ipxe from there"
        ;;
    virtual)
        step "making a raw disk of $DISK_SIZE" make_virtual "$recipe" "$DISK_SIZE"
        say "$dir/recon-$recipe.raw ($DISK_SIZE, sparse)"
        ;;
    disk)
        step "making the install medium" make_disk "$recipe"
        say "$dir/recon-$recipe-install.iso ($(size_of "$dir/recon-$recipe-install.iso"))"
        ;;
    bootloader) make_bootloader "$recipe" ;;
    demo)
        local -a nodes=()
        if wants_ram_nodes; then
            # Its end forgets what it mounted.
            (make_ramroot "$recipe")
            nodes=(--node-image "$dir/ramroot/$IMAGE/image")
        fi
        say "virtual data center:"
        "$PYTHON" "$TOP/tests/lab/run.py" demo --iso "$ISO" --recon "$RECON" --workdir "$dir/lab" "${nodes[@]}" "${EXTRA[@]}"
        ;;
    esac
}
