#!/usr/bin/env bash
# call.sh FUNCTION [WORD…]: one function of the build's parts, for the Makefile.
set -euo pipefail

TOP=$(cd "$(dirname "$(realpath "${BASH_SOURCE[0]}")")/.." && pwd)
export LC_ALL=C.UTF-8

for part in ui hostsetup stage sizes boot_image targets check; do
    # shellcheck source=/dev/null
    . "$TOP/tools/$part.sh"
done

mkdir -p "$TOP/builds"
log_to "$TOP/builds/$1.log"
"$@"
