# To be sourced. merge RAW PROFILE: makes one profile of what a program has counted.
# LLVM reads the profiles of its own version and of some before: what can read this compiler's is found by trying.
merge() {
    local one
    while read -r one; do
        if "$one" merge -o "$2" "$1" 2>/dev/null; then return 0; fi
    done < <(
        printf '%s\n' "$(rustc --print target-libdir)/../bin/llvm-profdata" "$(rustc --print sysroot)"/lib/rustlib/*/bin/llvm-profdata
        compgen -c llvm-profdata | sort -Vru
    )
    echo "no llvm-profdata here can read what $(rustc -V) counts: rustup component add llvm-tools, or Debian's llvm-19" >&2
    return 1
}
