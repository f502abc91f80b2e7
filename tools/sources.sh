# shellcheck shell=bash
# Where packages come from: --mirror, or this host's own apt or zypper settings. No address stands in the tree.

ZYPPER_SOURCES=/etc/zypp/repos.d

# repo_args RECIPE: KIWI's repository options, one word a line. Which suites a source offers is asked once and kept, so that a
# build without changes needs no network.
repo_args() {
    local kept=$TOP/builds/$1/repos question answer
    question=$(source_question "$1")
    if [ "$(head -n 1 "$kept" 2>/dev/null)" != "$question" ]; then
        case $1 in
        debian-*) answer=$(debian_repos) || exit 1 ;;
        suse-*) answer=$(suse_repos "$1") || exit 1 ;;
        *) die "no rule for the package source of recipe $1" ;;
        esac
        printf '%s\n' "$question" "$answer" >"$kept"
    fi
    tail -n +2 "$kept"
}

# source_question RECIPE: everything the answer of repo_args depends on, on one line.
source_question() {
    local own
    case $1 in
    debian-*)
        own=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
        echo "$MIRROR $(apt_source_uri "$own") $(apt_source_uri "$own-security")"
        ;;
    suse-*) echo "$(suse_top) $(suse_paths "$1" | one_line)" ;;
    esac
}

# need_source RECIPE: the source of this recipe's packages is known and answers, or the run ends with what to do.
need_source() {
    case $1 in
    debian-*)
        [ -n "$(debian_base)" ] ||
            die "this machine's apt settings name no source of Debian packages, and none was given: --mirror URL, the address of the folder that holds dists/ and pool/"
        # A source that answered before is asked again when packages are fetched from it: a build without changes needs no network.
        [ -z "$(any_python)" ] || [ "$(head -n 1 "$TOP/builds/$1/repos" 2>/dev/null)" = "$(source_question "$1")" ] || need_debian_index
        ;;
    suse-*)
        [ -n "$(suse_top)" ] || die "$(no_suse_source "$1")"
        # Without Python nothing can be asked yet; what this host lacks is installed next, and then it is asked.
        [ -z "$(any_python)" ] || need_suse_indexes "$1"
        ;;
    esac
}

# no_suse_source RECIPE: what is missing where neither this host nor an option names a mirror.
no_suse_source() {
    echo "this machine's settings name no openSUSE package source, and none was given: --mirror URL, the address of the folder that holds $(suse_folders "$1") on a mirror of openSUSE"
}

# suse_folders RECIPE: what lies below the top of a mirror, in words.
suse_folders() {
    suse_paths "$1" | sed 's#^[^ ]* \([^/]*\)/.*#\1/#' | LC_ALL=C sort --unique | paste -sd, | sed 's/,/ and /'
}

# debian_base: where Debian's packages come from; empty where nothing says so.
debian_base() {
    if [ -n "$MIRROR" ]; then
        echo "${MIRROR%/}"
    else
        apt_source_uri "$(. /etc/os-release && echo "${VERSION_CODENAME:-}")"
    fi
}

# need_debian_index: that source answers with a signed index, or the run ends with what to do.
need_debian_index() {
    local base
    base=$(debian_base)
    base_offers "$base" trixie ||
        die "$base offers no Debian trixie (dists/trixie/InRelease is not there): give a mirror that does with --mirror URL"
    debian_index_signed "$base" trixie ||
        die "$base/dists/trixie/InRelease is not signed with a key of $DEBIAN_KEYRING: take another mirror"
}

DEBIAN_KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

# debian_index_signed URI SUITE: gpgv says so, as apt will when the image is made. Where it cannot be asked yet, apt alone does.
debian_index_signed() {
    local scratch status=0
    command -v gpgv >/dev/null && [ -r "$DEBIAN_KEYRING" ] || return 0
    scratch=$(mktemp)
    mirror_tool show "$1/dists/$2/InRelease" >"$scratch" || die "$1/dists/$2/InRelease was there a moment ago and is not now: try again"
    gpgv --quiet --keyring "$DEBIAN_KEYRING" "$scratch" >/dev/null 2>&1 || status=1
    rm -f "$scratch"
    return "$status"
}

debian_repos() {
    local suite=trixie keyring=$DEBIAN_KEYRING components='main non-free-firmware' own base security
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

# base_offers URI SUITE: a signed index of the suite is there.
base_offers() {
    ask_mirror "$1/dists/$2/InRelease"
}

# suse_top: the folder of a mirror that everything of openSUSE lies below; empty where none is known.
suse_top() {
    local name top
    if [ -n "$MIRROR" ]; then
        echo "${MIRROR%/}"
        return 0
    fi
    for name in "$ZYPPER_SOURCES"/*.repo; do
        [ -e "$name" ] || continue
        # What stands in front may be anything but one of zypper's own variables, whose values only zypper knows.
        top=$(sed -nE 's#^baseurl *= *([^$%]*)/(distribution|update|tumbleweed)(/.*|$)#\1#p' "$name" | head -n 1)
        # Updates of Tumbleweed are at update/tumbleweed; sources and debug packages have trees of their own.
        top=${top%/update} top=${top%/debug} top=${top%/source}
        [ -z "$top" ] || { echo "$top"; return 0; }
    done
}

# suse_paths RECIPE: alias and path below the top of each repository, one a line.
suse_paths() {
    local version=${1#suse-leap-}
    case $1 in
    suse-leap-15.*)
        printf '%s\n' "leap-$version-oss distribution/leap/$version/repo/oss" "leap-$version-update-oss update/leap/$version/oss" \
            "leap-$version-update-backports update/leap/$version/backports" "leap-$version-update-sle update/leap/$version/sle"
        ;;
    suse-leap-16.*) printf '%s\n' "leap-$version-oss distribution/leap/$version/repo/oss/x86_64" ;;
    suse-tumbleweed) printf '%s\n' "tumbleweed-oss tumbleweed/repo/oss" "tumbleweed-update update/tumbleweed" ;;
    esac
}

# suse_sources RECIPE: ALIAS=URL of each repository, one a line.
suse_sources() {
    local top alias path
    top=$(suse_top)
    while read -r alias path; do
        printf '%s=%s/%s\n' "$alias" "$top" "$path"
    done < <(suse_paths "$1")
}

# need_suse_indexes RECIPE: every repository has an index, or the run ends with what to do about a mirror that does not have it.
need_suse_indexes() {
    local url
    while IFS='=' read -r _ url; do
        ask_mirror "$url/repodata/repomd.xml" ||
            die "$url has no package index (repodata/repomd.xml is not there). $(suse_moved "$1")"
    done < <(suse_sources "$1")
}

# suse_moved RECIPE: what to do where a mirror does not have this release.
suse_moved() {
    echo "Is $(suse_top) the folder that holds $(suse_folders "$1")?$(suse_ended "$1")"
}

suse_repos() {
    local alias word=--set-repo
    while read -r alias _; do
        # The address is put in when KIWI starts: it is the verified index, served on loopback (rpm_trust.sh).
        printf '%s\n' "$word" "@INDEX@/$alias,rpm-md,$alias,,false"
        word=--add-repo
    done < <(suse_paths "$1")
}

# suse_ended RECIPE: a sentence where the release is out of maintenance, so that mirrors may have moved it.
suse_ended() {
    local end
    end=$(release_end "$1")
    [ "$end" != - ] && [[ $end < $(date -u +%F) ]] || return 0
    echo " ${1#suse-} is out of maintenance since $end, and mirrors move such releases: archives have kept earlier ones below a folder discontinued/, with distribution/ and update/ in it as before; give that folder with --mirror"
}

# release_end RECIPE: the day maintenance ends, "-" where it does not.
release_end() {
    awk -F '\t' -v recipe="$1" '$1 == recipe { print $2; found = 1 } END { if (!found) print "-" }' "$TOP/kiwi/releases.tsv"
}
