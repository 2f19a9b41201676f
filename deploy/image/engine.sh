# A Docker engine for the checks. To be sourced after lib.sh; leaves the command line in $docker (an array).

# The engine that runs; or else one of Debian's, with a folder and a socket of its own, that ends with the check.
engine() {
    docker=(docker)
    if docker info >/dev/null 2>&1; then
        ENGINE="the one that runs here"
        return
    fi
    # Only root can start one.
    [ "$(id -u)" = 0 ] || return 1
    debian docker.io iptables
    ENGINE="Debian's dockerd, started for this check"
    local folder
    folder=$TOOLS/docker-$$
    mkdir -p "$folder"
    dockerd --data-root "$folder/data" --exec-root "$folder/run" --pidfile "$folder/pid" --host "unix://$folder/socket" \
        --bridge none >"$folder/log" 2>&1 &
    ENGINE_PID=$! ENGINE_FOLDER=$folder
    # Debian's own client: it speaks BuildKit without a plugin.
    docker=(/usr/bin/docker)
    export DOCKER_HOST=unix://$folder/socket DOCKER_BUILDKIT=1
    local try
    for try in $(seq 100); do
        if "${docker[@]}" info >/dev/null 2>&1; then
            # Of one that cannot make networks, services would get none.
            "${docker[@]}" network create "probe-$$" >/dev/null && "${docker[@]}" network rm "probe-$$" >/dev/null && return 0
            break
        fi
        kill -0 "$ENGINE_PID" 2>/dev/null || break
        sleep 0.2
    done
    tail -5 "$folder/log" >&2
    engine_stop
    return 1
}

engine_stop() {
    [ -n "${ENGINE_PID:-}" ] || return 0
    kill "$ENGINE_PID" 2>/dev/null || true
    wait "$ENGINE_PID" 2>/dev/null || true
    umount "$ENGINE_FOLDER/run/netns/default" 2>/dev/null || true
    rm -rf "$ENGINE_FOLDER"
}

# image_of TAG BINARY: builds the target `prebuilt` of the Dockerfile with that binary. Where it is not static, its libraries
# become a base of their own.
image_of() {
    local tag=$1 binary=$2 folder arch arguments=()
    folder=$(mktemp -d)
    arch=$(dpkg --print-architecture)
    mkdir -p "$folder/files/$arch" "$folder/files/store"
    debian ca-certificates binutils
    cp /etc/ssl/certs/ca-certificates.crt "$folder/files/"
    strip -o "$folder/files/$arch/dressipi-sidecar" "$binary"
    if libraries "$binary" >/dev/null; then
        base_of "$tag-base" "$binary"
        arguments=(--build-arg "BASE=$tag-base")
    fi
    "${docker[@]}" build --quiet --target prebuilt --file "$DEPLOY/image/Dockerfile" --tag "$tag" "${arguments[@]}" \
        --build-arg VERSION="$("$binary" --version | cut -d' ' -f2)" \
        --build-arg REVISION="$(git -C "$DEPLOY" rev-parse HEAD)" \
        --build-arg CREATED="$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$folder/files" >/dev/null
    rm -rf "$folder"
}

# The libraries that a binary needs, the loader too; fails for a static one.
libraries() {
    local list
    list=$(ldd "$1" 2>/dev/null) || return 1
    grep -o '/[^ ]*' <<<"$list" | grep . || return 1
}

# base_of TAG BINARY...: an image of nothing but what these programs need, where no image can be fetched.
base_of() {
    local tag=$1 folder binary
    shift
    folder=$(mktemp -d)
    for binary in "$@"; do
        libraries "$binary" | xargs cp -L --parents -t "$folder"
    done
    tar -C "$folder" -c . | "${docker[@]}" import - "$tag" >/dev/null
    rm -rf "$folder"
}

# The configuration of the sidecar in the image: it listens at PORT, with the simulator and the admin listener behind it.
sidecar_toml() {
    cat <<TOML
[[listeners]]
address = "127.0.0.1:$1"
[dressipi]
base_url = "http://127.0.0.1:$(($1 + 1))"
client_id = "demo"
api_key = "demo-api-key"
[session]
path = "/var/lib/dressipi-sidecar/sessions.redb"
[cookie]
name = "visitor"
secure = false
[[routes]]
path = "/api/"
upstream = "dressipi"
[admin]
address = "127.0.0.1:$(($1 + 2))"
[server]
drain_delay = "0s"
TOML
}

# A browser comes twice to the sidecar at PORT, and is the same visitor.
served() {
    local jar ledger profiles
    jar=$work/jar
    for _ in 1 2; do
        curl -fsS -A Mozilla/5.0 -b "$jar" -c "$jar" "http://127.0.0.1:$1/api/items/top?client_id=demo" >/dev/null
    done
    ledger=$(curl -fsS "http://127.0.0.1:$(($1 + 1))/__sim/ledger")
    [ "$(jq .totals.profiles <<<"$ledger")" = 1 ] || fail "$(jq .totals.profiles <<<"$ledger") profiles for one visitor"
    profiles=$(jq -c '[.requests[] | select(.call == "resource") | .profile]' <<<"$ledger")
    jq -e 'length == 2 and .[0] != null and .[0] == .[1]' <<<"$profiles" >/dev/null || fail "profiles served: $profiles"
}
