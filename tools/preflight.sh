# shellcheck shell=bash
# What would end a build later is found out in the first seconds, and said in one sentence with what to do.

# The binary's debug and release objects, a root tree, an image and two virtual disks; measured, and a third more. The long tests make roots
# of other distributions and images of nodes besides.
ROOM_GIB_FIRST=8
ROOM_GIB_AGAIN=3
ROOM_GIB_TESTS=12
ROOM_GIB_LONG=20

need_root() {
    [ "$(id -u)" -eq 0 ] || die "KIWI makes a root tree with its owners and device mounts: run this as root (sudo $0 …)"
}

# Time stamps of the image are later than this; a clock that stands before has lost its battery.
need_clock() {
    [ "$(date +%s)" -ge "$STAGE_TIME" ] ||
        die "the clock of this machine says $(date -u +'%Y-%m-%d %H:%M UTC'): set the right time (date --set …), because signatures and certificates are judged by it"
}

# need_room TARGET RECIPE: enough room for what this target makes, more where nothing was built before.
need_room() {
    local wanted=$ROOM_GIB_FIRST have
    [ ! -d "$TOP/builds/$2/root/usr" ] || wanted=$ROOM_GIB_AGAIN
    if [ "$1" = test ]; then
        wanted=$ROOM_GIB_TESTS
        [ ! -d "$TOP/builds/$2/root/usr" ] || wanted=$ROOM_GIB_FIRST
        ! wants_long || wanted=$ROOM_GIB_LONG
    fi
    have=$(df --output=avail --block-size=1M "$TOP/builds" | tail -n 1 | tr -d ' ')
    [ "$have" -ge $((wanted * 1024)) ] ||
        die "the file system of $TOP/builds has $have MiB free, and this wants $((wanted * 1024)): make room there, or check out on another disk"
}

# full_disk: a sentence if the file system that a build writes to has run full; nothing else.
full_disk() {
    local place free
    for place in "$TOP/builds" "$TOP/target" /var/tmp /var/cache; do
        [ -d "$place" ] || continue
        free=$(df --output=avail --block-size=1M "$place" 2>/dev/null | tail -n 1 | tr -d ' ')
        [ "${free:-1000}" -ge 20 ] || {
            printf 'the file system of %s is full (%s MiB free): make room there and start again\n' "$place" "$free"
            return 0
        }
    done
}

# need_mirror_word: --mirror is the address of a folder that can be asked; what people type instead is told apart.
need_mirror_word() {
    case $MIRROR in
    http://?* | https://?* | file:///*) ;;
    /*) refuse "--mirror $MIRROR is no address; for a folder of this machine write file://$MIRROR" ;;
    ftp://* | *://*) refuse "--mirror $MIRROR is no address that can be used: those begin with http://HOST/, https://HOST/ or file:///" ;;
    *) refuse "--mirror $MIRROR is no address; did you mean http://$MIRROR ?" ;;
    esac
    case $MIRROR in
    *://*@*) refuse "a name and password in --mirror is not supported: a mirror that this machine may read without" ;;
    esac
}

# ask_mirror URL: 0 if the file is there, 1 if not; where there is no answer at all, the run ends with the reason.
ask_mirror() {
    local said status=0
    said=$(mirror_tool offers "$1" 2>&1) || status=$?
    case $status in
    0) return 0 ;;
    1) return 1 ;;
    *) die "$said" ;;
    esac
}

# mirror_tool COMMAND URL: asks as apt would, through its proxy if it has one.
mirror_tool() {
    local proxy
    proxy=$(apt-config dump Acquire::http::Proxy 2>/dev/null | sed -n 's/^Acquire::http::Proxy "\(.*\)";$/\1/p') || true
    "${PYTHON:-$(any_python)}" "$TOP/tools/mirror.py" "$1" "$2" ${proxy:+--proxy "$proxy"}
}

# use_host_proxy: what YaST's file says of a proxy holds for the tools started here too, as zypper itself holds it; a proxy of the
# environment goes before. Loopback is never asked through one.
use_host_proxy() {
    local PROXY_ENABLED='' HTTP_PROXY='' HTTPS_PROXY='' NO_PROXY=''
    # shellcheck source=/dev/null
    [ ! -r /etc/sysconfig/proxy ] || . /etc/sysconfig/proxy
    if [ "$PROXY_ENABLED" = yes ]; then
        [ -z "$HTTP_PROXY" ] || export http_proxy=${http_proxy:-$HTTP_PROXY}
        [ -z "$HTTPS_PROXY" ] || export https_proxy=${https_proxy:-$HTTPS_PROXY}
    fi
    export no_proxy=${no_proxy:-${NO_PROXY// /}}
    no_proxy=${no_proxy:+$no_proxy,}127.0.0.1,localhost
}
