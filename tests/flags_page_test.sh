#!/bin/sh
# Checks that docs/flags.md matches the program's table of flags, and that the table has every argument of the Hugging Face
# scripts.
#
#   flags_page_test.sh PROGRAM SOURCE
set -eu
page=$(mktemp)
trap 'rm -f "$page"' EXIT
"$2/scripts/flags-page" "$1" >"$page"
diff -u "$2/docs/flags.md" "$page" || {
    echo "docs/flags.md is another than the program's: scripts/flags-page build/lckv > docs/flags.md" >&2
    exit 1
}
