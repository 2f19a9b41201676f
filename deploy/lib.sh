# What the checks of deploy/ share. To be sourced. A tool that cannot be had is an error: nothing is skipped silently.
set -euo pipefail
DEPLOY=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
TARGET=$(realpath -m "${CARGO_TARGET_DIR:-$DEPLOY/../target}")
TOOLS=$TARGET/deploy-tools
mkdir -p "$TOOLS"

say() { printf '%s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# debian PACKAGE...: installs those that are not there.
debian() {
    local package missing=() as_root=()
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} != 0 ] || return 0
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    "${as_root[@]}" apt-get -o DPkg::Lock::Timeout=300 update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# python NAME REQUIREMENT...: a virtual environment of that name under $TOOLS with just these; its folder is printed.
python() {
    local venv=$TOOLS/$1
    shift
    if [ "$(cat "$venv/requirements" 2>/dev/null)" != "$*" ]; then
        debian python3 python3-venv
        rm -rf "$venv"
        python3 -m venv "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check "$@"
        echo "$*" >"$venv/requirements"
    fi
    echo "$venv"
}

# Debian's promtool and prometheus, out of the package and not installed, so that no service starts. Their folder is printed.
prometheus_folder() {
    local folder=$TOOLS/prometheus as_root=()
    if [ ! -x "$folder/usr/bin/promtool" ]; then
        [ "$(id -u)" = 0 ] || as_root=(sudo)
        apt-cache show prometheus >/dev/null 2>&1 || "${as_root[@]}" apt-get -o DPkg::Lock::Timeout=300 update -qq >&2
        rm -rf "$folder" "$TOOLS/prometheus.deb"
        mkdir -p "$folder" "$TOOLS/prometheus.deb"
        # As root apt says that it does not download as another user: that is no matter here.
        (cd "$TOOLS/prometheus.deb" && apt-get -qq download prometheus) 2>/dev/null || fail "Debian's package prometheus cannot be had"
        dpkg -x "$TOOLS"/prometheus.deb/*.deb "$folder"
        rm -rf "$TOOLS/prometheus.deb"
    fi
    echo "$folder/usr/bin"
}

promtool() {
    local folder
    folder=$(prometheus_folder)
    "$folder/promtool" "$@"
}

# The sidecar's binary: $SIDECAR_BINARY, or a debug build of this tree.
sidecar() {
    if [ -n "${SIDECAR_BINARY:-}" ]; then
        echo "$SIDECAR_BINARY"
    else
        (cd "$DEPLOY/.." && cargo build --quiet) >&2
        echo "$TARGET/debug/dressipi-sidecar"
    fi
}
