#!/usr/bin/env bash
# Builds the `prebuilt` image without a Docker engine, with buildah, and runs it as a container would: its own root, read-only, as 65532,
# with nothing to write to but the volume. without_engine.sh BINARY
source "$(dirname "$0")/../lib.sh"
source "$DEPLOY/image/engine.sh"
binary=$1
debian buildah curl jq ca-certificates binutils
work=$(mktemp -d)
tag=localhost/dressipi-sidecar:check-$$
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs
buildah=(buildah --root "$work/storage" --runroot "$work/run")
cleanup() {
    [ -z "${sidecar:-}" ] || kill "$sidecar" 2>/dev/null || true
    [ -z "${simulator:-}" ] || kill "$simulator" 2>/dev/null || true
    wait
    "${buildah[@]}" umount --all >/dev/null 2>&1 || true
    "${buildah[@]}" rm --all >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap cleanup EXIT

# --- what it is ---
arch=$(dpkg --print-architecture)
mkdir -p "$work/files/$arch" "$work/files/store" "$work/volume" "$work/etc"
cp /etc/ssl/certs/ca-certificates.crt "$work/files/"
strip -o "$work/files/$arch/dressipi-sidecar" "$binary"
base=scratch
if libraries "$binary" >/dev/null; then
    base=$tag-base
    mkdir "$work/base"
    libraries "$binary" | xargs cp -L --parents -t "$work/base"
    container=$("${buildah[@]}" from scratch)
    "${buildah[@]}" copy --quiet "$container" "$work/base" / >/dev/null
    "${buildah[@]}" commit --quiet "$container" "$base" >/dev/null
fi
"${buildah[@]}" build --quiet --format docker --target prebuilt --build-arg BASE="$base" --build-arg TARGETARCH="$arch" \
    --build-arg VERSION=check --build-arg REVISION=check --build-arg CREATED=check \
    --file "$DEPLOY/image/Dockerfile" --tag "$tag" "$work/files" >/dev/null
inspect=$("${buildah[@]}" inspect --type image "$tag" | jq .Docker.config)
is() { [ "$(jq -r "$1" <<<"$inspect")" = "$2" ] || fail "$1 is $(jq -r "$1" <<<"$inspect"), and not $2"; }
is .User 65532:65532
is .StopSignal SIGTERM
is '.Healthcheck.Test | join(" ")' "CMD /usr/bin/dressipi-sidecar healthcheck"
is '.Volumes | keys | join(" ")' /var/lib/dressipi-sidecar
root=$("${buildah[@]}" mount "$("${buildah[@]}" from --pull-never "$tag")")
programs=$(cd "$root" && find . -type f -perm /111 ! -name '*.so*' ! -name 'ld-*')
[ "$programs" = ./usr/bin/dressipi-sidecar ] || fail "programs in the image: $programs"

# --- how it runs ---
port=$((20000 + $$ % 10000))
sidecar_toml $port >"$work/etc/sidecar.toml"
chmod -R a+rX "$work/etc"
chmod 711 "$work"
chown 65532:65532 "$work/volume"
mkdir -p "$root/etc/dressipi-sidecar"
"$binary" simulator --listen "127.0.0.1:$((port + 1))" >/dev/null &
simulator=$!
# In a mount namespace of its own, that ends with it.
# shellcheck disable=SC2016
inside='mount --bind "$1" "$1" && mount --bind "$2" "$1/etc/dressipi-sidecar" && mount --bind "$3" "$1/var/lib/dressipi-sidecar" &&
    mount -o remount,bind,ro "$1" && shift 3 && exec chroot --userspec=65532:65532 "$@"'
in_image=(unshare --mount bash -c "$inside" image "$root" "$work/etc" "$work/volume" "$root")
config=/etc/dressipi-sidecar/sidecar.toml
"${in_image[@]}" /usr/bin/dressipi-sidecar check --config $config >/dev/null || fail "the configuration in the image"
"${in_image[@]}" /usr/bin/dressipi-sidecar serve --config $config >"$work/log" 2>&1 &
sidecar=$!
for _ in $(seq 100); do
    ! "${in_image[@]}" /usr/bin/dressipi-sidecar healthcheck --config $config >/dev/null 2>&1 || break
    sleep 0.2
done
"${in_image[@]}" /usr/bin/dressipi-sidecar healthcheck --config $config >/dev/null || { cat "$work/log" >&2; fail "it is not healthy"; }
served $port
[ -s "$work/volume/sessions.redb" ] || fail "no store in the volume"
[ "$(stat -c %u "$work/volume/sessions.redb")" = 65532 ] || fail "it does not run as 65532"
kill "$sidecar"
code=0
wait "$sidecar" || code=$?
sidecar=
[ "$code" = 0 ] || fail "exit code $code after SIGTERM"
say "image, by buildah: healthy, one profile for one visitor, read-only as 65532, exit code 0 after SIGTERM"
