#!/bin/bash
# Runs in the new root before its packages are installed. Their scripts make an initrd that nobody boots; until config.sh takes
# this file away, it is an empty one, made at once.
set -euo pipefail
mkdir -p /etc/dracut.conf.d
printf 'dracutmodules+=" bash "\nno_kernel="yes"\ncompress="cat"\n' >/etc/dracut.conf.d/00-build.conf
