# shellcheck shell=bash
# The image of target `bootloader`: kernel and first stage of the ISO and a text file with settings, on a disk that BIOS, UEFI and
# Secure Boot start from. Nothing is mounted and no loop device is used: table, file system and files are written by programs that
# take an image file.

# Bytes that an image may have: what the smallest upload of a cloud, a remote console's virtual medium and a person's patience take.
BOOT_IMAGE_LIMIT=60000000
# Bytes that a machine reads of recon.txt (MAX_SETTINGS_BYTES in src/role/boot_node.rs), and those of ca.pem, of which it would read twice
# as many (MAX_FILE_BYTES in src/role/boot_from/way.rs): what is made here can be put there later as well.
BOOT_SETTINGS_LIMIT=$((64 << 10))
BOOT_CA_LIMIT=$((2 << 20))
# Sectors have 512 bytes. GRUB for BIOS begins right behind the table of partitions, the EFI system partition at 1 MiB, and a
# MiB stays behind it for the second copy of the table.
CORE_START=40
ESP_START=2048
ESP_END_ROOM=2048
# A FAT with fewer clusters than 65525 is no FAT32 (Microsoft's FAT specification); firmware wants one on a disk. A cluster is a sector.
FAT32_CLUSTERS=65600
# Left free on the file system for whoever edits the files there, in sectors: a ca.pem of the largest size, settings and a token.
ESP_SPARE=4352
# What GRUB for BIOS brings; it loads nothing from the disk but the menu.
GRUB_MODULES='biosdisk part_gpt fat normal linux configfile search search_fs_file serial terminal echo test sleep cat ls halt reboot minicmd'

# gather_boot_files DIR: makes DIR/tree, all that goes on the file system, and DIR/i386-pc, GRUB's parts for BIOS. For nobody else to
# look at: settings may hold secrets, and stand in there until the image is made.
gather_boot_files() {
    local dir=$1 menu stub name
    local -a stubs
    menu=$(menu_path)
    rm -rf "$dir"
    mkdir -m 700 "$dir"
    mkdir -p "$dir/tree/recon"
    # The loaders with their signatures, wherever this distribution's GRUB looks for its menu.
    xorriso -osirrox on -indev "$ISO" -extract /EFI "$dir/tree/EFI" -extract "$(dirname "$menu")/i386-pc" "$dir/i386-pc"
    chmod -R u+rwX "$dir"
    from_iso "$dir/tree/recon/kernel" /boot/x86_64/loader/linux
    for name in base.img ports.img; do
        from_iso "$dir/tree/recon/$name" "/boot/x86_64/first/$name" || {
            echo "error: $ISO has no first stage (no such file in it: /boot/x86_64/first/$name)"
            return 1
        }
    done
    from_iso "$dir/menu" "$menu"
    boot_menu "$(kernel_options "$dir/menu" | tr ' ' '\n' | grep -v '^rd\.live\.' | paste -sd ' ')" >"$dir/tree/recon/grub.cfg"
    mapfile -t stubs < <(find "$dir/tree/EFI" -iname grub.cfg)
    for stub in "${stubs[@]}"; do
        boot_menu_stub >"$stub"
    done
    [ "${#stubs[@]}" -gt 0 ] || {
        echo "error: no such file in $ISO: a grub.cfg below /EFI, which tells where its GRUB looks"
        return 1
    }
    put_settings "$dir/tree"
    find "$dir/tree" -type f -exec chmod 644 {} +
    find "$dir/tree" -exec touch --date "@$STAGE_TIME" {} +
    find "$dir/tree" -type f -printf '%10s %P\n' | sort -k 2
}

# put_settings DIR: what a person gave, or the commented example.
put_settings() {
    if [ -n "$SETTINGS" ]; then
        cp "$SETTINGS" "$1/recon.txt"
    else
        # Editors of old Windows show other lines as one.
        sed 's/$/\r/' "$TOP/src/config/boot.toml" >"$1/recon.txt"
    fi
    [ -z "$CA" ] || cp "$CA" "$1/ca.pem"
}

# boot_menu OPTIONS: the menu of all firmwares. What a person put beside the boot files goes to the first stage as files in its
# initrd, so that it needs no driver of the disk it came from, and leaves that disk alone. It stands before the drivers: where memory
# ends, the kernel leaves out what comes last.
boot_menu() {
    cat <<EOF
# Boot menu. The settings are not here: they are in recon.txt, at the top of this partition.
set default=0
set timeout=3

# A BIOS with a serial port shows the menu there too. UEFI firmware redirects its own console, GRUB must not do it twice.
if [ "\$grub_platform" = pc ]; then
    if serial --unit=0 --speed=115200; then
        terminal_input console serial
        terminal_output console serial
    fi
fi

set given=""
if [ -f /recon.txt ]; then set given="newc:etc/recon/boot.toml:/recon.txt"; fi
if [ -f /ca.pem ]; then set given="\$given newc:etc/recon/ca.pem:/ca.pem"; fi
if [ -f /token ]; then set given="\$given newc:etc/recon/token:/token"; fi

menuentry "recon: boot from the address in recon.txt" --id run {
    linux /recon/kernel recon.boot=settings $1
    initrd /recon/base.img \$given /recon/ports.img
}
menuentry "recon: the same with all kernel messages" --id verbose {
    linux /recon/kernel recon.boot=settings $1 loglevel=7
    initrd /recon/base.img \$given /recon/ports.img
}
menuentry "Leave: back to the firmware" --id exit {
    exit
}
EOF
}

# Where a signed GRUB looks. It was loaded from this partition, so that is its root; where a firmware did not say so, the first that has the menu.
boot_menu_stub() {
    cat <<'EOF'
if [ ! -f /recon/grub.cfg ]; then search --no-floppy --set=root --file /recon/grub.cfg; fi
configfile /recon/grub.cfg
EOF
}

# put_bytes FILE OFFSET BYTES: writes over what is there; BYTES as printf takes them.
put_bytes() {
    # shellcheck disable=SC2059 # the escapes are what it is for
    printf "$3" | dd of="$1" bs=1 seek=$(($2)) conv=notrunc status=none
}

# bytes_at FILE OFFSET COUNT: in hexadecimal digits.
bytes_at() {
    od --address-radix=n --format=x1 --skip-bytes="$2" --read-bytes="$3" "$1" | tr -d ' \n'
}

# made_id FROM: 16 bytes of the content's hash as a UUID (version 8, RFC 9562), so that the same files make the same image.
made_id() {
    local h=${CONTENT_HASH:$1:32}
    echo "${h:0:8}-${h:8:4}-8${h:13:3}-8${h:17:3}-${h:20:12}"
}

# grub_program NAME: GRUB's program, which openSUSE calls grub2-NAME.
grub_program() {
    if command -v "grub2-$1" >/dev/null; then echo "grub2-$1"; else echo "grub-$1"; fi
}

# make_grub_for_bios DIR: DIR/core.img, which the BIOS reads from sector CORE_START on, and DIR/mbr.img, the code that loads it.
# Offsets are those of GRUB's include/grub/i386/pc/boot.h; what stands there is looked at first.
make_grub_for_bios() {
    local dir=$1 size
    # The drive is the one that the BIOS started from.
    # shellcheck disable=SC2086 # a list of names
    "$(grub_program mkimage)" --directory "$dir/i386-pc" --format i386-pc --output "$dir/core.img" --prefix '(,gpt2)/recon' $GRUB_MODULES
    size=$(stat --format=%s "$dir/core.img")
    [ "$size" -le $(((ESP_START - CORE_START) * 512)) ] || {
        echo "error: GRUB for BIOS has $size bytes, which do not go before the EFI system partition"
        return 1
    }
    truncate --size=%512 "$dir/core.img"
    cp "$dir/i386-pc/boot.img" "$dir/mbr.img"
    if [ "$(bytes_at "$dir/mbr.img" 0x5c 8) $(bytes_at "$dir/mbr.img" 0x66 1)" != '0100000000000000 eb' ] ||
        [ "$(bytes_at "$dir/core.img" 0x1f4 8) $(bytes_at "$dir/core.img" 0x1fe 2)" != '0200000000000000 2008' ]; then
        echo "error: boot.img and diskboot.img of this GRUB are not laid out as those of GRUB 2"
        return 1
    fi
    # The sector of core.img; and BIOSes that call the disk a floppy are not believed, as grub-install has it for disks.
    put_bytes "$dir/mbr.img" 0x5c "\\x$(printf %02x "$CORE_START")"
    put_bytes "$dir/mbr.img" 0x66 '\x90\x90'
    # Where the rest of core.img is; how long it is stands there.
    put_bytes "$dir/core.img" 0x1f4 "\\x$(printf %02x $((CORE_START + 1)))"
}

# make_boot_fat DIR: DIR/fat.img, a FAT32 with all of DIR/tree.
make_boot_fat() {
    local dir=$1 clusters path fat
    clusters=$(find "$dir/tree" -mindepth 1 -printf '%s\n' | awk -v spare="$ESP_SPARE" -v least="$FAT32_CLUSTERS" '
        { n += int(($1 + 511) / 512) } END { n += spare; print (n < least ? least : n) }')
    # Two tables with four bytes a cluster, and 32 sectors before them, to a whole MiB.
    fat=$(((clusters * 4 + 8 + 511) / 512))
    truncate --size=$(((clusters + 2 * fat + 32 + 2047) / 2048))M "$dir/fat.img"
    mkfs.vfat --invariant -F 32 -s 1 -h "$ESP_START" -i "${CONTENT_HASH:0:8}" -n RECON-BOOT "$dir/fat.img"
    # One by one in a fixed order, with a fixed time.
    while read -r path; do
        mmd -i "$dir/fat.img" "::/$path"
    done < <(find "$dir/tree" -mindepth 1 -type d -printf '%P\n' | sort)
    while read -r path; do
        mcopy -m -i "$dir/fat.img" "$dir/tree/$path" "::/$path"
    done < <(find "$dir/tree" -type f -printf '%P\n' | sort)
}

# make_boot_image DIR IMAGE KEPT: IMAGE.new from what gather_boot_files left in DIR. KEPT has the sizes of the last one, where there was one.
make_boot_image() {
    local dir=$1 image=$2 kept=$3 sectors
    # What mtools writes as the time of a file's making.
    export SOURCE_DATE_EPOCH=$STAGE_TIME TZ=UTC
    CONTENT_HASH=$(cd "$dir/tree" && find . -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -d' ' -f1)
    make_grub_for_bios "$dir"
    make_boot_fat "$dir"
    sectors=$(($(stat --format=%s "$dir/fat.img") / 512))
    rm -f "$image.new"
    truncate --size=$(((ESP_START + sectors + ESP_END_ROOM) * 512)) "$image.new"
    # An image with settings may hold secrets.
    [ -z "$SETTINGS" ] || chmod 600 "$image.new"
    sgdisk --set-alignment=8 \
        --new=1:$CORE_START:$((ESP_START - 1)) --typecode=1:EF02 --change-name=1:"GRUB for BIOS" \
        --new=2:$ESP_START:$((ESP_START + sectors - 1)) --typecode=2:EF00 --change-name=2:RECON-BOOT \
        --disk-guid="$(made_id 0)" --partition-guid=1:"$(made_id 16)" --partition-guid=2:"$(made_id 32)" "$image.new"
    dd if="$dir/mbr.img" of="$image.new" bs=440 count=1 conv=notrunc status=none
    dd if="$dir/core.img" of="$image.new" bs=512 seek=$CORE_START conv=notrunc status=none
    dd if="$dir/fat.img" of="$image.new" bs=512 seek=$ESP_START conv=notrunc,sparse status=none
    boot_image_parts "$dir" "$image.new" >"$dir/sizes.tsv"
    boot_image_fits "$kept" "$dir/sizes.tsv" "$(stat --format=%s "$image.new")"
}

# boot_image_parts DIR IMAGE: name and bytes of each part, tab between.
boot_image_parts() {
    printf 'image\t%s\n' "$(stat --format=%s "$2")"
    find "$1/tree/recon" -name grub.cfg -o -type f -printf '%f\t%s\n' | sort
    printf 'loaders\t%s\n' "$(find "$1/tree/EFI" "$1/core.img" -type f -printf '%s\n' | awk '{ n += $1 } END { print n }')"
    find "$1/tree" -maxdepth 1 -type f -printf '%f\t%s\n' | sort
}

# boot_image_fits KEPT SIZES BYTES: fails over the limit, with what grew since the last image that was made.
boot_image_fits() {
    local grew
    [ "$3" -gt "$BOOT_IMAGE_LIMIT" ] || return 0
    grew=$(growth "$1" "$2")
    echo "error: the image has $3 bytes, more than $BOOT_IMAGE_LIMIT: $(boot_sizes_line "$2")${grew:+; since the last one: $grew}"
    return 1
}

boot_sizes_line() {
    awk -F '\t' '$2 >= 100000 { printf "%s%s %.1f MB", (n++ ? ", " : ""), $1, $2 / 1e6 }' "$1"
}

# check_boot_image DIR IMAGE: programs that had no part in it read back what was written, from the image alone.
check_boot_image() {
    local dir=$1 image=$2 path said sectors
    # It finds no problem either where one of the two copies of the table was enough for it.
    said=$(sgdisk --verify "$image" 2>&1)
    echo "$said"
    grep -q '^No problems found' <<<"$said"
    ! grep -qiE '^(caution|warning)|corrupt' <<<"$said" || return 1
    said=$(sfdisk --dump "$image")
    echo "$said"
    sectors=$(($(stat --format=%s "$dir/fat.img") / 512))
    grep -qE "start= *$CORE_START, .*type=21686148-6449-6E6F-744E-656564454649" <<<"$said"
    grep -qE "start= *$ESP_START, size= *$sectors, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B" <<<"$said"
    dd if="$image" of="$dir/read.img" bs=512 skip="$ESP_START" count="$sectors" conv=sparse status=none
    fsck.fat -n "$dir/read.img"
    # All of it, and nothing else.
    diff <(mdir -b -f -/ -i "$dir/read.img" ::/ | sed 's#^::/##' | sed 's#/$##' | sort) <(find "$dir/tree" -mindepth 1 -printf '%P\n' | sort)
    while read -r path; do
        mtype -i "$dir/read.img" "::/$path" | cmp - "$dir/tree/$path"
    done < <(find "$dir/tree" -type f -printf '%P\n')
    rm "$dir/read.img"
    while read -r path; do
        "$(grub_program script-check)" "$path"
    done < <(find "$dir/tree" -iname grub.cfg)
    [ "$(bytes_at "$image" 510 2)" = 55aa ] && cmp --bytes=440 "$image" "$dir/mbr.img"
    cmp --ignore-initial=$((CORE_START * 512)):0 --bytes="$(stat --format=%s "$dir/core.img")" "$image" "$dir/core.img"
}

# forget_boot_parts DIR IMAGE: what was begun. IMAGE itself stays, whole or the last one.
forget_boot_parts() {
    rm -rf "$1" "$2.new" "$2.zst.new"
}

# boot_image_time IMAGE: when it was made, in seconds since 1970; nothing where there is none.
boot_image_time() {
    stat --format=%Y "$1" 2>/dev/null || true
}

# forget_failed_boot CODE DIR IMAGE TIME: the same when a shell ends with CODE; whoever finds the IMAGE of TIME has to know that it is an
# old one.
forget_failed_boot() {
    forget_boot_parts "$2" "$3"
    [ "$1" -eq 0 ] || [ -z "$4" ] || [ "$(boot_image_time "$3")" != "$4" ] ||
        echo "$3 is the one of before, of $(date --date="@$4" '+%F %T')"
}

# at_end_forget_boot_parts DIR IMAGE: when this shell ends, however it does. A signal that only the shell hears waits for the program that
# is at work, which would write on.
at_end_forget_boot_parts() {
    # shellcheck disable=SC2064 # the files of now
    trap "forget_failed_boot \$? $(printf '%q %q %q' "$1" "$2" "$(boot_image_time "$2")")" EXIT
    trap 'exit 129' HUP
    trap 'exit 143' TERM
}

# pack_boot_image IMAGE: the copy to be sent about, unpacked again for a look.
pack_boot_image() {
    rm -f "$1.zst.new"
    (
        umask 077
        zstd --quiet -T0 -10 <"$1" >"$1.zst.new"
    )
    zstd --quiet --decompress <"$1.zst.new" | cmp - "$1"
    chmod --reference="$1" "$1.zst.new"
    mv "$1.zst.new" "$1.zst"
}

# make_bootloader RECIPE: from the ISO to both files, with their sizes.
make_bootloader() {
    local image=$TOP/builds/$1/recon-$1-boot.img dir=$TOP/builds/$1/boot kept=$TOP/builds/$1/boot-sizes.tsv grew
    # In the place of what build_iso has done at the end: KIWI is through.
    free_tree "$TOP/builds/$1/root"
    at_end_forget_boot_parts "$dir" "$image"
    step "taking kernel, first stage and loaders from the ISO" gather_boot_files "$dir"
    step "making the boot image" make_boot_image "$dir" "$image" "$kept"
    step "reading it back with other programs" check_boot_image "$dir" "$image.new"
    # The packed one is of the image beside it, or there is none.
    rm -f "$image.zst"
    mv "$image.new" "$image"
    step "packing it" pack_boot_image "$image"
    say "$(boot_sizes_line "$dir/sizes.tsv"), packed $(size_of "$image.zst")"
    if [ -s "$kept" ]; then
        grew=$(growth "$kept" "$dir/sizes.tsv")
        say "since the last one: ${grew:-nothing grew or shrank by 0.1 MB}"
    fi
    mv "$dir/sizes.tsv" "$kept"
    forget_boot_parts "$dir" "$image"
    say "$image, and the same packed: $image.zst"
    [ -n "$SETTINGS" ] || say "the address to boot from goes into recon.txt on its partition RECON-BOOT"
}

# boot_image_of ISO IMAGE [SETTINGS [CA]]: the same without a recipe, for the tests.
boot_image_of() {
    ISO=$1 SETTINGS=${3:-} CA=${4:-}
    at_end_forget_boot_parts "$2.parts" "$2"
    gather_boot_files "$2.parts"
    make_boot_image "$2.parts" "$2" /dev/null
    check_boot_image "$2.parts" "$2.new"
    mv "$2.new" "$2"
}

# read_boot_settings DIR: what a machine makes of --settings and --ca, in DIR.said; they lie in DIR as on the image, with nothing else, and
# not longer than this takes. For a shell of its own (`step`), whose end it minds.
read_boot_settings() {
    local said beside code=0
    rm -rf "$1" "$1.said"
    mkdir -m 700 "$1"
    # shellcheck disable=SC2064 # the folder of now
    trap "rm -rf $(printf '%q' "$1")" EXIT
    put_settings "$1"
    said=$("$RECON" settings --boot "$1/recon.txt" 2>&1) || code=$?
    # By the names that the person knows.
    said=${said//"$1/recon.txt"/$SETTINGS}
    said=${said//"$1/ca.pem"/$CA}
    beside="$(dirname "$SETTINGS")/ca.pem"
    [ -n "$CA" ] || [ ! -f "$beside" ] || said=${said//(--ca puts it on an image)/(--ca $beside puts it on the image)}
    printf '%s\n' "$said"
    [ "$code" -eq 0 ] || return "$code"
    printf '%s\n' "$said" >"$1.said"
}

# check_boot_settings DIR: the same, where what is still missing is for the person to know.
check_boot_settings() {
    step "reading ${SETTINGS:-$CA} as a machine would" read_boot_settings "$1"
    sed -n 's/^missing *//p' "$1.said" | while read -r what; do say "still missing on the image: $what"; done
    rm -f "$1.said"
}

# need_boot_file OPTION FILE: what --settings and --ca name is refused here rather than by a machine that does not boot.
need_boot_file() {
    local most=$BOOT_SETTINGS_LIMIT why='a machine reads no more'
    [ "$1" = --settings ] || most=$BOOT_CA_LIMIT why='an image has no room for more'
    { [ -f "$2" ] && [ -r "$2" ]; } || refuse "$1 $2: no such file that can be read"
    [ "$(wc -c <"$2")" -le "$most" ] || refuse "$1 $2: more than $((most >> 10)) KiB, and $why"
    # A zero byte is UTF-16, or no text at all.
    { iconv --from-code=UTF-8 --to-code=UTF-8 "$2" >/dev/null 2>&1 && [ "$(tr -d '\0' <"$2" | wc -c)" -eq "$(wc -c <"$2")" ]; } ||
        refuse "$1 $2: not a text in UTF-8"
    [ "$1" = --ca ] || return 0
    grep -q '^-----BEGIN CERTIFICATE-----' "$2" || refuse "$1 $2: no certificate in PEM format (-----BEGIN CERTIFICATE-----)"
    ! grep -q 'PRIVATE KEY-----' "$2" || refuse "$1 $2: there is a private key in it, which must not be on an image"
}
