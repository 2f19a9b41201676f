# To be sourced. merge FOLDER PROFILE: makes one profile of what programs have counted.

# What may read it: the compiler's own (rustup's llvm-tools), and all that the system has, the newest first.
profdata_tools() {
    compgen -G "$(rustc --print sysroot)/lib/rustlib/*/bin/llvm-profdata" || true
    compgen -c llvm-profdata | sort -Vru
}

# LLVM reads the profiles of its own version and of some before: what can read this compiler's is found by trying.
merge() {
    local one said="there is no llvm-profdata"
    compgen -G "$1/*.profraw" >/dev/null || { echo "nothing was counted: $1 is empty" >&2; return 1; }
    while read -r one; do
        if said=$("$one" merge -o "$2" "$1" 2>&1); then return 0; fi
    done < <(profdata_tools)
    printf '%s\n' "$said" "What $(rustc -V) counts cannot be read here: rustup component add llvm-tools, or Debian's llvm-19" >&2
    return 1
}
