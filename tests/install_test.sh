#!/bin/sh
# Installs into an empty folder, moves the folder, and uses it: C and C++ programs that find header and library through
# pkg-config, the programs of examples/, and the program lckv.
#   install_test.sh CMAKE BUILD_FOLDER C_COMPILER SOURCE_FOLDER
set -eu
cmake=$1
build=$2
compiler=$3
source=$4

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$cmake" --install "$build" --prefix "$folder/first" >"$folder/log"
mv "$folder/first" "$folder/moved"

PKG_CONFIG_PATH=$(dirname "$(find "$folder/moved" -name lckv.pc)")
LD_LIBRARY_PATH=$(PKG_CONFIG_PATH=$PKG_CONFIG_PATH pkg-config --variable=libdir lckv)
HF_HOME=$folder/hf-home
export PKG_CONFIG_PATH LD_LIBRARY_PATH HF_HOME

fail() {
    echo "$1" >&2
    exit 1
}

# ---------------------------------------------------------------- header

cat >"$folder/version.c" <<'END'
#include <lckv.h>
#include <stdio.h>
int main(void) { return puts(lckv_version()) < 0; }
END
"$compiler" -std=c99 -Wall -Wextra -Werror "$folder/version.c" -o "$folder/version" $(pkg-config --cflags --libs lckv)
version=$("$folder/version")
[ "$version" = "$(pkg-config --modversion lckv)" ] ||
    fail "the library has version $version, pkg-config says $(pkg-config --modversion lckv)"

# A C++ program may have classes with any name that does not start with lckv_.
cat >"$folder/names.cpp" <<'END'
struct model { int own; };
class device;
class model_config;
class exchange;
struct tokenizer;
#include <lckv.h>
int main() {
    model own = {3};
    lckv_model *opened = nullptr;
    lckv_device *opened_on = nullptr;
    lckv_generate_options options = lckv_generate_defaults();
    options.length = own.own;
    return lckv_model_open(opened_on, "", nullptr, &opened) == LCKV_OK && options.length;
}
END
if command -v g++ >/dev/null; then
    g++ -x c++ -std=c++11 -Wall -Wextra -Wshadow -Werror -fsyntax-only $(pkg-config --cflags lckv) "$folder/names.cpp"
else
    echo "not checked: the header from C++, there is no g++"
fi
headers=$(pkg-config --variable=includedir lckv)
unprefixed=$(grep -rnE '^(typedef )?(struct|enum|union) [a-z_]+' "$headers" | grep -vE '(struct|enum|union) lckv_' || true)
[ -z "$unprefixed" ] || fail "names without the prefix lckv_ in the headers: $unprefixed"

# Each header is installed and includes what it needs.
alone=0
for header in $(cd "$source/include" && find lckv.h lckv -name '*.h'); do
    echo "#include <$header>" >"$folder/alone.c"
    "$compiler" -std=c11 -Wall -Wextra -Wpedantic -Werror -fsyntax-only $(pkg-config --cflags lckv) "$folder/alone.c" ||
        fail "$header does not compile by itself as C11"
    if command -v g++ >/dev/null; then
        g++ -x c++ -std=c++11 -Wall -Wextra -Wpedantic -Werror -fsyntax-only $(pkg-config --cflags lckv) "$folder/alone.c" ||
            fail "$header does not compile by itself as C++11"
    fi
    alone=$((alone + 1))
done
[ "$alone" -gt 1 ] || fail "expected lckv.h and headers in lckv, found $alone headers in $source/include"

# ---------------------------------------------------------------- examples

for example in generate stream train; do
    "$compiler" -std=c11 -Wall -Wextra -Werror "$source/examples/$example.c" -o "$folder/$example" \
        $(pkg-config --cflags --libs lckv)
done
head -n 400 "$source/data/pride_and_prejudice.txt" >"$folder/text.txt"
sed -e 's/"hidden_size": 128/"hidden_size": 32/' -e 's/"head_dim": 32/"head_dim": 8/' \
    "$source/data/demo-config.json" >"$folder/config.json"
"$folder/train" "$folder/config.json" "$source/data/tokenizer" "$folder/text.txt" "$folder/model" >"$folder/trained"
grep -q '^step 5 of 5: loss [0-9]' "$folder/trained" || fail "examples/train: $(cat "$folder/trained")"
grep -q '^mean loss [0-9.]* after 5 steps' "$folder/trained" || fail "examples/train: $(cat "$folder/trained")"
"$folder/generate" "$folder/model" "It is a truth" >"$folder/text"
grep -q '^It is a truth' "$folder/text" || fail "examples/generate: $(cat "$folder/text")"
"$folder/stream" "$folder/model" "It is a truth" >"$folder/text"
grep -qE '^[0-9]+ tokens, (stopped by the callback|complete)$' "$folder/text" || fail "examples/stream: $(cat "$folder/text")"
for example in generate stream; do
    "$folder/$example" "$folder/nowhere" x 2>"$folder/error" && fail "examples/$example: no model, and no error"
    grep -q "^error: .*nowhere" "$folder/error" || fail "examples/$example: $(cat "$folder/error")"
done

# ---------------------------------------------------------------- program

[ -e /proc/self/exe ] || { # from which the dynamic linker knows where a program lies
    echo "skipped: there is no /proc, and without it an installed lckv does not find its library"
    exit 77
}
unset LD_LIBRARY_PATH
"$folder/moved/bin/lckv" help >/dev/null
