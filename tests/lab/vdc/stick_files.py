"""What does the operator put on the stick before going to the data center?"""

from __future__ import annotations

from pathlib import Path

from .archive import tar_gz

_NEVER = Path(__file__).resolve().parents[3] / "overlay" / "etc" / "modprobe.d" / "recon-disks.conf"
_POST_SH = """#!/bin/sh
# A site's own work on each peer: says something, leaves a result, and fails where the laboratory wants it to fail.
serial=$(cat /sys/class/dmi/id/product_serial)
echo "post script runs on $serial"
mkdir -p "${RECON_RESULT:-result}"
echo "answer of $serial" > "${RECON_RESULT:-result}/answer.txt"
# Modules that are never to be loaded: none is there, and some are tried by root.
here=${0%/*}
[ "$here" = "$0" ] && here=.
listed=0
names=" "
while read -r module; do
    listed=$((listed + 1))
    names="$names$module "
done < "$here/never.txt"
forbids=/etc/modprobe.d/recon-disks.conf
# In the first stage: all modules that it has or would fetch.
manifest=/usr/lib/recon/first-stage/manifest.tsv
{
    for module in $(
        if [ -e "$manifest" ]; then sed -n 's/^module\\t\\([^\\t]*\\)\\t.*/\\1/p' "$manifest"
        else sed -n 's#^.*/\\([^/:]*\\)\\.ko[^:]*:.*#\\1#p' /lib/modules/*/modules.dep | sed 's/-/_/g'; fi
    ); do
        case "$names" in *" $module "*) echo "$module is there" ;; esac
    done
    if [ -e "$forbids" ]; then
        refused=0
        while read -r word module command; do
            [ "$word $command" = "install /bin/false" ] && refused=$((refused + 1))
        done < "$forbids"
        [ $refused = $listed ] || echo "$refused of $listed are refused"
    elif [ ! -e "$manifest" ]; then
        echo "nothing refuses them"
    fi
    for driver in md target; do
        for file in /lib/modules/*/kernel/drivers/$driver/*; do
            [ -e "$file" ] && echo "$file is there"
        done
    done
    for module in md_mod raid1 dm_mod target_core_mod nvme_tcp nbd; do
        modprobe "$module" 2>/dev/null && echo "$module loads"
        [ -e "/sys/module/$module/initstate" ] && echo "$module is loaded"
    done
    echo "$listed listed"
} > "${RECON_RESULT:-result}/modules.txt"
case "$serial" in
FAILING) echo "this one fails on purpose" >&2; exit 3 ;;
esac
"""


def post_tgz(failing: list[str]) -> bytes:
    """A post.tgz whose script fails with exit code 3 on the machines with these serial numbers."""
    text = _POST_SH.replace("FAILING", "|".join(failing) or "-").encode()
    return tar_gz([("post.sh", text), ("never.txt", "".join(f"{name}\n" for name in never_loadable()).encode())], mode=0o755)


def never_loadable() -> list[str]:
    """Modules that the image says are never to be loaded."""
    lines = [line.split() for line in _NEVER.read_text().splitlines()]
    return [words[1] for words in lines if words[:1] == ["install"]]


# What the sticks of one site share, so that the second one follows the first.
SITE_KEY = (bytes(range(32)).hex() + "\r\n").encode()


def recon_toml(site: str, nodes: dict[str, dict[str, str]]) -> bytes:
    """Settings with one [[node]] for each MAC."""
    lines = [f'site = "{site}"', ""]
    for mac, values in sorted(nodes.items()):
        lines += ["[[node]]", f'mac = "{mac}"', *(f'{key} = "{value}"' for key, value in sorted(values.items())), ""]
    return "\n".join(lines).encode()
