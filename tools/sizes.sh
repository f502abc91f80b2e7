# shellcheck shell=bash
# What the image weighs, and what grew since the last build.

# Growth below this is not worth a word.
GROWTH_BYTES=100000

# part_sizes RECIPE: name and bytes of each part, tab between, the ISO first; then the big folders of the root tree, unpacked.
part_sizes() {
    local recipe=$1 dir=$TOP/builds/$1 root=$TOP/builds/$1/root path
    printf 'ISO\t%s\n' "$(stat --format=%s "$dir/recon-$recipe.iso")"
    xorriso -indev "$dir/recon-$recipe.iso" -lsl /boot/x86_64/loader/linux /boot/x86_64/loader/initrd /LiveOS/squashfs.img \
        /boot/x86_64/first/base.img /boot/x86_64/first/ports.img /boot/x86_64/first/modules.pack 2>/dev/null | awk '
        /^-/ { name = $NF; gsub(/^.*\/|\047/, "", name); sub(/^linux$/, "kernel", name); sub(/^squashfs.img$/, "root image", name); print name "\t" $5 }'
    printf 'recon\t%s\n' "$(stat --format=%s "$root/usr/bin/recon")"
    for path in usr/lib/modules lib/modules usr/lib/firmware lib/firmware usr/bin usr/sbin usr/lib64 usr/lib/x86_64-linux-gnu usr/lib/systemd usr/share etc var; do
        # A link into /usr is counted there.
        [ ! -d "$root/$path" ] || [ -n "$(find "$root/${path%%/*}" -maxdepth 0 -type l)" ] ||
            du --bytes --summarize --one-file-system "$root/$path" | awk -v name="root tree $path" '{ print name "\t" $1 }'
    done
}

# growth OLD NEW: the parts that changed, the most grown first: "initrd +1.2 MB, usr/lib/firmware -0.3 MB". Nothing without an OLD.
growth() {
    [ -s "$1" ] || return 0
    awk -F '\t' -v least="$GROWTH_BYTES" '
        NR == FNR { old[$1] = $2; next }
        { seen[$1] = 1; d = $2 - old[$1]; if (d >= least || -d >= least) printf "%d\t%s %s%.1f MB\n", d, $1, (d > 0 ? "+" : ""), d / 1e6 }
        END { for (name in old) if (!(name in seen) && old[name] >= least) printf "%d\t%s gone\n", -old[name], name }
    ' "$1" "$2" | sort -rn | cut -f2 | head -n 8 | paste -sd, | sed 's/,/, /g'
}

# say_sizes RECIPE: tells the sizes of the image just made, and what changed since the one before; keeps them for the next time.
say_sizes() {
    local kept=$TOP/builds/$1/sizes.tsv grew
    part_sizes "$1" >"$kept.new"
    say "$(awk -F '\t' '$1 !~ /^root tree/ { printf "%s%s %.1f MB", (n++ ? ", " : ""), $1, $2 / 1e6 }' "$kept.new")"
    if [ -s "$kept" ]; then
        grew=$(growth "$kept" "$kept.new")
        say "since the last build: ${grew:-nothing grew or shrank by 0.1 MB}"
    fi
    mv "$kept.new" "$kept"
}
