# To be sourced: what cargo needs to build static programs for a target, in its environment.
#
#   toolchain TARGET      "" (this machine) | aarch64 | armv7 | x86_64
#
# Sets `triple`, `cargo` (the command) and `sources` (options of its build), and exports the rest.
# What a machine lacks for a target is installed by `cross/prerequisites.sh cross-TARGET`.
#
# Two ways lead to another architecture, CROSS_WITH=debian|zig forces one:
# - debian: Debian's own compiler (rustc-web), linker and libraries, nothing from elsewhere.
# - zig: a target of rustup's and cargo-zigbuild, where there is no rustc-web.

directory_of_target() { (mkdir -p "${CARGO_TARGET_DIR:-target}" && cd "${CARGO_TARGET_DIR:-target}" && pwd); }

static_flags="-C target-feature=+crt-static -C relocation-model=static"

native_toolchain() {
    triple=$(rustc -vV | sed -n 's/^host: //p')
    cargo=(cargo)
    local libdir
    libdir=$(pkg-config --variable=libdir libseccomp)
    [[ -n $libdir && -e $libdir/libseccomp.a ]] || {
        echo "libseccomp.a was not found (package libseccomp-dev)" >&2
        return 1
    }
    export LIBSECCOMP_LINK_TYPE=static LIBSECCOMP_LIB_PATH=$libdir
    export RUSTFLAGS=$static_flags
}

# Debian's names for a target: its architecture, the prefix of its compiler.
debian_names() {
    case $1 in
    aarch64) architecture=arm64 gnu=aarch64-linux-gnu triple=aarch64-unknown-linux-gnu ;;
    armv7) architecture=armhf gnu=arm-linux-gnueabihf triple=armv7-unknown-linux-gnueabihf ;;
    x86_64) architecture=amd64 gnu=x86_64-linux-gnu triple=x86_64-unknown-linux-gnu ;;
    *)
        echo "$1 is no target; there are aarch64, armv7 and x86_64" >&2
        return 2
        ;;
    esac
}

debian_toolchain() {
    cargo=(cargo)
    local version sysroot
    version=$(dpkg-query -W -f '${Version}' rustc-web 2>/dev/null) || true
    [[ -n $version ]] || {
        echo "Debian's compiler is not here: run cross/prerequisites.sh cross-$1" >&2
        return 1
    }
    sysroot=$(directory_of_target)/sysroot/$architecture
    # A standard library is of one compiler only.
    cross/foreign.sh "$architecture" "$sysroot" \
        "libstd-rust-web-dev=$version" libseccomp-dev || return
    local upper=${triple^^}
    upper=${upper//-/_}
    export RUSTC=/usr/bin/rustc
    export "CARGO_TARGET_${upper}_LINKER=$gnu-gcc" "CC_${triple//-/_}=$gnu-gcc" \
        "AR_${triple//-/_}=$gnu-ar"
    export LIBSECCOMP_LINK_TYPE=static LIBSECCOMP_LIB_PATH=$sysroot/usr/lib/$gnu
    # These do not reach what runs while building: that is this machine's.
    export RUSTFLAGS="--sysroot=$sysroot/usr $static_flags"
    if [[ $1 == armv7 ]]; then
        # binutils 2.40 takes glibc's choice of memchr for ARM code, which is Thumb: the program
        # ends with an illegal instruction before it begins. gcc finds a linker by its name only.
        command -v ld.lld >/dev/null || {
            echo "ld.lld is not here: run cross/prerequisites.sh cross-$1" >&2
            return 1
        }
        mkdir -p "$sysroot/linker"
        ln -sf "$(command -v ld.lld)" "$sysroot/linker/ld.lld"
        RUSTFLAGS+=" -C link-arg=-B$sysroot/linker -C link-arg=-fuse-ld=lld"
    fi
}

# zig has no static glibc, but musl for every target.
zig_toolchain() {
    case $1 in
    armv7) triple=armv7-unknown-linux-musleabihf ;;
    *) triple=$1-unknown-linux-musl ;;
    esac
    local tool
    for tool in rustup cargo-zigbuild; do
        command -v "$tool" >/dev/null || {
            echo "$tool is not here (rustup; pip install ziglang cargo-zigbuild)" >&2
            return 1
        }
    done
    rustup target list --installed | grep -qx "$triple" || rustup target add "$triple" || return
    cargo=(cargo-zigbuild)
    local directory
    directory=$(directory_of_target)/sysroot
    if [[ -z ${LIBSECCOMP_LIB_PATH:-} ]]; then
        cross/foreign.sh "$architecture" "$directory/$architecture-libseccomp" libseccomp-dev ||
            { echo "or name a directory with $1's libseccomp.a in LIBSECCOMP_LIB_PATH" >&2; return 1; }
        export LIBSECCOMP_LIB_PATH=$directory/$architecture-libseccomp/usr/lib/$gnu
    fi
    # Debian's libseccomp.a was compiled for glibc: this is the one symbol musl does not have.
    local shim=$directory/fprintf_chk-$1
    cat > "$shim.c" <<'C'
#include <stdarg.h>
#include <stdio.h>
int __fprintf_chk(FILE *file, int flag, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int written = vfprintf(file, format, arguments);
    va_end(arguments);
    (void)flag;
    return written;
}
C
    case $1 in
    armv7) python3 -m ziglang cc -target arm-linux-musleabihf -mcpu=generic+v7a -Os -c "$shim.c" -o "$shim.o" ;;
    *) python3 -m ziglang cc -target "$1-linux-musl" -Os -c "$shim.c" -o "$shim.o" ;;
    esac || return
    export LIBSECCOMP_LINK_TYPE=static
    export RUSTFLAGS="$static_flags -C link-arg=$shim.o"
}

# Options of a build with patched crates.
patched_sources() {
    local directory
    directory=$(directory_of_target)/patched
    cross/patched.sh "$directory" || return
    sources=(
        --config 'source.crates-io.replace-with="patched"'
        --config "source.patched.directory='$directory'"
    )
}

toolchain() {
    local architecture gnu
    sources=()
    if [[ -z ${1:-} ]]; then
        native_toolchain
        return
    fi
    debian_names "$1" || return
    if [[ $(rustc -vV | sed -n 's/^host: //p') == "$triple" ]]; then
        native_toolchain
        return
    fi
    if [[ $1 == armv7 ]]; then
        patched_sources || return
    fi
    case ${CROSS_WITH:-debian} in
    debian) debian_toolchain "$1" ;;
    zig) zig_toolchain "$1" ;;
    *)
        echo "CROSS_WITH is debian or zig" >&2
        return 2
        ;;
    esac
}
