#!/bin/sh
# Installs into an empty folder, moves it, and then uses what lies there as a stranger would: a C program that finds header
# and library through pkg-config alone, and the program lckv.
#   install_test.sh CMAKE BUILD_FOLDER C_COMPILER
set -eu
cmake=$1
build=$2
compiler=$3

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$cmake" --install "$build" --prefix "$folder/first" >"$folder/log"
mv "$folder/first" "$folder/moved"

PKG_CONFIG_PATH=$(dirname "$(find "$folder/moved" -name lckv.pc)")
export PKG_CONFIG_PATH
cat >"$folder/stranger.c" <<'EOF'
#include <lckv.h>
#include <stdio.h>
int main(void) { return puts(lckv_version()) < 0; }
EOF
"$compiler" "$folder/stranger.c" -o "$folder/stranger" $(pkg-config --cflags --libs lckv)
version=$(LD_LIBRARY_PATH=$(pkg-config --variable=libdir lckv) "$folder/stranger")
[ "$version" = "$(pkg-config --modversion lckv)" ] || {
    echo "the library says version $version, pkg-config $(pkg-config --modversion lckv)" >&2
    exit 1
}
[ -e /proc/self/exe ] || { # from which the dynamic linker knows where a program lies
    echo "skipped: there is no /proc, and without it an installed lckv does not find its library"
    exit 77
}
"$folder/moved/bin/lckv" help >/dev/null
