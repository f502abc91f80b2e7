# shellcheck shell=bash
# From stage to ISO, doing again only what changed:
#   root.key  description, overlay, units, KIWI, package source  -> changed: the root tree is prepared anew
#   iso.key   the above, the binary, what makes the first stage  -> changed: the binary is replaced, initrds and ISO are made anew

# free_tree DIR: unmounts what an interrupted build left mounted inside a root tree.
free_tree() {
    local mounted
    [ -e "$1" ] || return 0
    while read -r mounted; do
        umount --lazy "$mounted"
    done < <(awk -v top="$(realpath "$1")" '$2 == top || index($2, top "/") == 1 { print $2 }' /proc/self/mounts | sort -r)
}

# forget_tree DIR: removes a root tree, and never what is mounted inside it.
forget_tree() {
    free_tree "$1"
    rm -rf --one-file-system "$1"
}

# prepare_root RECIPE REPOSITORY-WORD…
prepare_root() {
    local recipe=$1 dir=$TOP/builds/$1 check word
    local -a words=() around=()
    shift
    case $recipe in
    suse-*)
        around=(with_index "$recipe")
        check=$(package_check "$recipe")
        for word in "$@"; do
            case $word in @INDEX@*) word=$word,$check ;; esac
            words+=("$word")
        done
        ;;
    *) words=("$@") ;;
    esac
    # Until it is whole, nothing that was made from the one before is held against it.
    rm -f "$dir/root.key" "$dir/iso.key" "$dir/first-stage.tsv"
    forget_tree "$dir/root"
    "${around[@]}" "$KIWI" --debug system prepare --description "$dir/stage" --root "$dir/root" "${words[@]}"
}

FIRST_STAGE=$TOP/kiwi/common/first-stage.tsv
# Compiled with the binary.
FIRST_STAGE_MAKER=$(dirname "$RECON")/first-stage

# first_stage_sources: what decides how the first stage is made, besides the root tree and the binary.
first_stage_sources() {
    printf '%s\n' "$FIRST_STAGE" "$TOP"/src/image/stage/*.rs "$TOP/tools/first-stage/main.rs" "$TOP/tools/first_stage.py" "$TOP/Cargo.lock" \
        "$TOP"/src/formats/modules/*.rs "$TOP/src/formats/cpio.rs" "$TOP/src/formats/first_stage.rs" "$TOP/src/formats/image.rs"
}

# make_first_stage RECIPE: what peers start from, in builds/RECIPE/first, made from the root tree; and an archive of it, which KIWI unpacks
# onto the medium.
make_first_stage() {
    local dir=$TOP/builds/$1
    rm -f "$dir/first-stage.tsv"
    "$FIRST_STAGE_MAKER" --root "$dir/root" --recon "$RECON" --patterns "$FIRST_STAGE" --out "$dir/first"
    # With the table that it was made from, so that `check` knows which one to hold it against.
    cp "$FIRST_STAGE" "$dir/first-stage.tsv"
    check_first_stage "$1"
    tar --create --file "$dir/root/image/config-cdroot.tar" --directory "$dir/first" --transform 's#^\.#boot/x86_64/first#' --sort=name \
        --owner=0 --group=0 --numeric-owner --mode='u=rwX,go=rX' --mtime="@$STAGE_TIME" .
}

# create_iso RECIPE RESULT
create_iso() {
    local dir=$TOP/builds/$1 result=$2 made
    local -a around=()
    case $1 in suse-*) around=(in_rpm_home "$1") ;; esac
    rm -f "$dir/iso.key"
    rm -rf "$dir/image"
    mkdir -p "$dir/image"
    install -m 755 "$RECON" "$dir/root/usr/bin/recon"
    touch --date "@$STAGE_TIME" "$dir/root/usr/bin/recon"
    make_first_stage "$1"
    # KIWI takes over description and scripts into the tree when it prepares it, but not these.
    cp "$dir/stage/grub.cfg.template" "$dir/stage/exclude_files.yaml" "$dir/root/image/"
    # Loader images of an earlier run look for that run's ISO: they must not be taken for prebuilt ones.
    rm -f "$dir"/root/usr/{lib,share}/grub*/*/{core,eltorito}.img
    rm -rf "$dir/root/boot/efi/EFI"
    "${around[@]}" "$KIWI" --debug system create --root "$dir/root" --target-dir "$dir/image"
    made=$(find "$dir/image" -maxdepth 1 -name '*.iso')
    [ -n "$made" ] || die "KIWI ended without an ISO"
    mv "$made" "$result"
    rm -f "$dir/image"/initrd*
}

# build_iso RECIPE: leaves builds/RECIPE/recon-RECIPE.iso, up to date.
build_iso() {
    local recipe=$1 dir=$TOP/builds/$1 root_key iso_key repos_text
    local -a repos=()
    ISO=$dir/recon-$recipe.iso
    # Also after Ctrl-C, KIWI's bind mounts of /dev and /proc must not stay.
    # shellcheck disable=SC2064 # the folder of now
    trap "free_tree '$dir/root'" EXIT
    free_tree "$dir/root"
    # A word of this shell, so that a refusal ends the run with its own message.
    repos_text=$(repo_args "$recipe") || exit 1
    mapfile -t repos <<<"$repos_text"
    case $recipe in
    suse-*)
        know_keys "$recipe"
        ! rpm_takes_keys "$recipe" || export PACKAGE_SIGNATURES=true
        # Before minutes of compiling, unless the tree of the last build may still be good.
        [ -s "$dir/root.key" ] || verify_indexes "$recipe"
        ;;
    esac
    step "building the recon binary" build_binary
    # What no machine would understand, before minutes of building.
    [ -z "$SETTINGS$CA" ] || check_boot_settings "$dir/settings"
    step "staging description, overlay, units and binary" make_stage "$recipe" "$dir/stage"
    root_key=$({ stage_key "$dir/stage"; sha256sum <"$TOP/tools/kiwi-requirements.txt"; source_question "$recipe"; printf '%s\n' "${repos[@]}"; } | sha256sum)
    iso_key=$({ echo "$root_key"; sha256sum <"$RECON"; first_stage_sources | xargs --delimiter='\n' cat; } | sha256sum)
    if [ -s "$ISO" ] && [ "$(cat "$dir/iso.key" 2>/dev/null)" = "$iso_key" ]; then
        say "nothing changed: $ISO stands"
        return 0
    fi
    if [ "$(cat "$dir/root.key" 2>/dev/null)" = "$root_key" ] && [ -d "$dir/root/usr" ]; then
        say "only the binary or the first stage changed: the root tree of the last build is used again"
    else
        case $recipe in
        suse-*) verify_indexes "$recipe" ;;
        debian-*) need_debian_index ;;
        esac
        step "preparing the root tree from packages (KIWI)" prepare_root "$recipe" "${repos[@]}"
        echo "$root_key" >"$dir/root.key"
    fi
    step "making initrd, root image and ISO (KIWI)" create_iso "$recipe" "$ISO"
    echo "$iso_key" >"$dir/iso.key"
    say "$ISO"
    say_sizes "$recipe"
}

size_of() {
    numfmt --to=si --suffix=B --format='%.1f' "$(stat --format=%s "$1")"
}
