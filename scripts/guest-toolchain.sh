#!/usr/bin/env bash
# Installs what `cargo xtask guest` needs to rebuild the guest component. Idempotent.
#
# Two ways lead there:
#   rustup  where rustup can download: its wasm32-wasip1 target.
#   Debian  where it cannot: Debian's rustc-web and its std sources, with std for
#           wasm32-wasip1 built here once.
# Both take the C compiler and libc for WebAssembly from Debian's packages.
#
# Using Cellblock, or testing it, needs none of this.
set -euo pipefail

say() { printf 'guest-toolchain: %s\n' "$*"; }

readonly TARGET=wasm32-wasip1
readonly COMPONENT_VERSION=0.21.1
readonly C_PACKAGES="clang-19 lld-19 llvm-19 libclang-rt-19-dev-wasm32 wasi-libc"
readonly RUST_PACKAGES="rustc-web cargo-web rust-web-src"

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

install_packages() {
    local missing=()
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] && return
    say "installing ${missing[*]}"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

# Builds std for the target from Debian's sources and puts it where rustc looks.
install_debian_std() {
    local lib="/usr/lib/rustlib/$TARGET/lib"
    if compgen -G "$lib/libstd-*.rlib" >/dev/null && [ -e "$lib/self-contained/libc.a" ]; then
        return
    fi
    say "building std for $TARGET (about a minute)"
    local work
    work=$(mktemp -d)
    mkdir "$work/src"
    printf '[package]\nname = "empty"\nversion = "0.0.0"\nedition = "2024"\n[workspace]\n' >"$work/Cargo.toml"
    : >"$work/src/lib.rs"
    (cd "$work" && RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc /usr/bin/cargo build --quiet --release \
        --target "$TARGET" -Zbuild-std=std,panic_abort,proc_macro --target-dir "$work/target")
    rm -f "$work/target/$TARGET/release/deps/"libempty*
    as_root mkdir -p "$lib/self-contained"
    as_root cp "$work/target/$TARGET/release/deps/"lib*.rlib "$lib/"
    as_root cp /usr/lib/wasm32-wasi/{libc.a,crt1-command.o,crt1-reactor.o} "$lib/self-contained/"
    rm -rf "$work"
}

install_cargo_component() {
    if cargo component --version 2>/dev/null | grep -q " $COMPONENT_VERSION\b"; then
        return
    fi
    say "installing cargo-component $COMPONENT_VERSION (some minutes)"
    cargo install --quiet cargo-component --version "$COMPONENT_VERSION" --locked
}

command -v apt-get >/dev/null || {
    say "this script knows Debian's packages only; install a clang that targets wasm32, wasi-libc," \
        "'rustup target add $TARGET' and 'cargo install cargo-component@$COMPONENT_VERSION' by hand"
    exit 1
}

# shellcheck disable=SC2086 # the lists are meant to be split
install_packages $C_PACKAGES
if [ "${GUEST_TOOLCHAIN:-}" != debian ] && command -v rustup >/dev/null \
    && timeout 120 rustup target add "$TARGET" >/dev/null 2>&1; then
    say "$TARGET comes from rustup"
else
    say "$TARGET comes from Debian"
    # shellcheck disable=SC2086
    install_packages $RUST_PACKAGES
    install_debian_std
fi
install_cargo_component
say "ready"
