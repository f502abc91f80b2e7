# shellcheck shell=bash
# From stage to ISO, doing again only what changed:
#   root.key  description, overlay, units, KIWI, package source  -> changed: the root tree is prepared anew
#   iso.key   the above and the binary                           -> changed: the binary is replaced, initrd and ISO are made anew

# repo_args RECIPE: KIWI's repository options, one word a line. Sources come from --mirror or from the host's own settings.
# Which suites a source offers is asked once and kept, so that a build without changes needs no network.
repo_args() {
    local kept=$TOP/builds/$1/repos question own answer
    own=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    question="$MIRROR $(apt_source_uri "$own") $(apt_source_uri "$own-security")"
    if [ "$(head -n 1 "$kept" 2>/dev/null)" != "$question" ]; then
        case $1 in
        debian-*) answer=$(debian_repos) || exit 1 ;;
        suse-leap-*) answer=$(leap_repos "${1#suse-leap-}") || exit 1 ;;
        *) die "no rule for the package source of recipe $1" ;;
        esac
        printf '%s\n' "$question" "$answer" >"$kept"
    fi
    tail -n +2 "$kept"
}

debian_repos() {
    local suite=trixie keyring=/usr/share/keyrings/debian-archive-keyring.gpg components='main non-free-firmware' own base security
    own=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    base=${MIRROR%/}
    security=${MIRROR:+${MIRROR%/}-security}
    if [ -z "$base" ]; then
        base=$(apt_source_uri "$own")
        security=$(apt_source_uri "$own-security")
        base_offers "$base" "$suite" ||
            die "this host's apt settings name no source that offers Debian $suite: give one with --mirror URL"
    fi
    [ -r "$keyring" ] || die "$keyring is missing: Debian's archive keys come with the package debian-archive-keyring"
    # source,type,alias,priority,imageinclude,package check,keys,components,distribution,repository check
    printf '%s\n' --set-repo "$base,apt-deb,main,,false,true,{file://$keyring},$components,$suite,true"
    if base_offers "$base" "$suite-updates"; then
        printf '%s\n' --add-repo "$base,apt-deb,updates,,false,true,{file://$keyring},$components,$suite-updates,true"
    fi
    if [ -n "$security" ] && base_offers "$security" "$suite-security"; then
        printf '%s\n' --add-repo "$security,apt-deb,security,,false,true,{file://$keyring},$components,$suite-security,true"
    fi
}

# base_offers URI SUITE: a signed index of the suite is there. Asked the way apt would ask, through its proxy if it has one.
base_offers() {
    local proxy
    proxy=$(apt-config dump Acquire::http::Proxy 2>/dev/null | sed -n 's/^Acquire::http::Proxy "\(.*\)";$/\1/p')
    curl --silent --fail --location --max-time 20 --output /dev/null ${proxy:+--proxy "$proxy"} "$1/dists/$2/InRelease"
}

leap_repos() {
    local version=$1 base=${MIRROR%/} name
    if [ -z "$base" ]; then
        for name in /etc/zypp/repos.d/*.repo; do
            [ -e "$name" ] || continue
            base=$(sed -n 's#^baseurl *= *\(.*\)/distribution/leap/.*#\1#p;T;q' "$name")
            [ -z "$base" ] || break
        done
        [ -n "$base" ] || die "no openSUSE source in this host's zypper settings: give one with --mirror URL (the folder that holds distribution/ and update/)"
    fi
    printf '%s\n' --set-repo "$base/distribution/leap/$version/repo/oss,rpm-md,oss,,false,true"
    for name in oss backports sle; do
        printf '%s\n' --add-repo "$base/update/leap/$version/$name,rpm-md,update-$name,,false,true"
    done
}

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

prepare_root() {
    local dir=$1
    shift
    forget_tree "$dir/root"
    rm -f "$dir/root.key" "$dir/iso.key"
    "$KIWI" --debug system prepare --description "$dir/stage" --root "$dir/root" "$@"
}

create_iso() {
    local dir=$1 result=$2 made
    rm -f "$dir/iso.key"
    rm -rf "$dir/image"
    mkdir -p "$dir/image"
    install -m 755 "$RECON" "$dir/root/usr/bin/recon"
    touch --date "@$STAGE_TIME" "$dir/root/usr/bin/recon"
    # KIWI takes over description and scripts into the tree when it prepares it, but not these.
    cp "$dir/stage/grub.cfg.template" "$dir/stage/exclude_files.yaml" "$dir/root/image/"
    # Loader images of an earlier run look for that run's ISO: they must not be taken for prebuilt ones.
    rm -f "$dir"/root/usr/{lib,share}/grub*/*/{core,eltorito}.img
    rm -rf "$dir/root/boot/efi/EFI"
    "$KIWI" --debug system create --root "$dir/root" --target-dir "$dir/image"
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
    step "building the recon binary" build_binary
    step "staging description, overlay, units and binary" make_stage "$recipe" "$dir/stage"
    root_key=$({ stage_key "$dir/stage"; sha256sum <"$TOP/tools/kiwi-requirements.txt"; printf '%s\n' "${repos[@]}"; } | sha256sum)
    iso_key=$({ echo "$root_key"; sha256sum <"$RECON"; } | sha256sum)
    if [ -s "$ISO" ] && [ "$(cat "$dir/iso.key" 2>/dev/null)" = "$iso_key" ]; then
        say "nothing changed: $ISO stands"
        return 0
    fi
    if [ "$(cat "$dir/root.key" 2>/dev/null)" = "$root_key" ] && [ -d "$dir/root/usr" ]; then
        say "only the binary changed: the root tree of the last build is used again"
    else
        step "preparing the root tree from packages (KIWI)" prepare_root "$dir" "${repos[@]}"
        echo "$root_key" >"$dir/root.key"
    fi
    step "making initrd, root image and ISO (KIWI)" create_iso "$dir" "$ISO"
    echo "$iso_key" >"$dir/iso.key"
    say "$ISO ($(size_of "$ISO"))"
}

size_of() {
    numfmt --to=si --suffix=B --format='%.1f' "$(stat --format=%s "$1")"
}
