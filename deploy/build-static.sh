#!/bin/sh
# Builds the server as one static file: `deploy/build-static.sh amd64|arm64 FILE`.
# Needs Debian's musl-dev of that architecture and a GCC for it; which of the two this machine has does not matter.
set -eu

architecture=${1:?amd64 or arm64}
binary=${2:?the file to write}
case $architecture in
amd64) machine=x86_64 ;;
arm64) machine=aarch64 ;;
*)
    echo "build-static.sh: no such architecture: $architecture" >&2
    exit 64
    ;;
esac
target=$machine-unknown-linux-musl

rustup target add "$target"
# Rust brings its own musl to link with; the C libraries within are compiled against Debian's, by its wrapper of GCC.
variable=$(echo "CARGO_TARGET_${target}_LINKER" | tr 'a-z-' 'A-Z_')
env "$variable=$machine-linux-gnu-gcc" \
    cargo build --release --locked --bin events-db --target "$target"
install -D -m 755 "${CARGO_TARGET_DIR:-target}/$target/release/events-db" "$binary"
