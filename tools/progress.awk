# How far is a step? Reads what its tools printed so far (zypper, apt, cargo, dracut, xorriso, KIWI) and prints the newest thing
# they said about it in a few words: a count where one is known, else KIWI's own name for what it is doing.

# The last "n/m" in parentheses of a line, as zypper writes it: "( 12/341) Installing: …", "Retrieving: … (12/341),".
function fraction(line,    found) {
    found = ""
    while (match(line, /\( *[0-9]+\/[0-9]+\)/)) {
        found = substr(line, RSTART + 1, RLENGTH - 2)
        line = substr(line, RSTART + RLENGTH)
    }
    gsub(/ /, "", found)
    sub(/\//, " of ", found)
    return found
}

{ sub(/\r$/, "") }

# KIWI: "[ INFO    ]: 12:00:01 | Creating live ISO boot image"
/^\[ INFO +\]: / {
    words = $0
    sub(/^[^|]*\| */, "", words)
    sub(/^--> */, "", words)
    # What it starts now has not counted anything yet.
    if (words != "" && words !~ /^(Package|Type|Translated|Alias|Priority|SourceType|Location|Setting up repository|Loading XML|Support for XML|package)/) {
        doing = substr(words, 1, 60)
        newest = "doing"
        count = 0
    }
    next
}
/Retrieving.*\( *[0-9]+\/[0-9]+\)/ { at = "packages fetched: " fraction($0); newest = "at"; next }
/\( *[0-9]+\/[0-9]+\).*(Installing|Removing)/ { at = "packages installed: " fraction($0); newest = "at"; next }
/[0-9]+ newly installed/ {
    if (match($0, /[0-9]+ newly installed/)) total = substr($0, RSTART, RLENGTH) + 0
    fetched = unpacked = configured = 0
    next
}
/(^|: )Get:[0-9]+ .*amd64|(^|: )Get:[0-9]+ .* all / { fetched++; at = "packages fetched: " fetched (total ? " of " total : ""); newest = "at"; next }
/(^|: )Unpacking [a-z0-9]/ { unpacked++; at = "packages unpacked: " unpacked (total ? " of " total : ""); newest = "at"; next }
/(^|: )Setting up [a-z0-9]/ { configured++; at = "packages set up: " configured (total ? " of " total : ""); newest = "at"; next }
/^ +Compiling / { count++; at = "crates compiled: " count (crates ? " of at most " crates : ""); newest = "at"; next }
/xorriso : UPDATE :.*[0-9]% done/ {
    if (match($0, /[0-9.]+% done/)) { at = "ISO written: " substr($0, RSTART, RLENGTH - 5); newest = "at" }
    next
}
/\*\*\* .*\*\*\*$/ {
    words = $0
    sub(/ *\*\*\*$/, "", words)
    sub(/^.*\*\*\* */, "", words)
    at = ""
    doing = "initrd: " substr(words, 1, 50)
    newest = "doing"
    next
}
END {
    if (newest == "at") print at
    else if (newest == "doing") print doing
}
