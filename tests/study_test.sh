#!/bin/sh
# Runs the quick form of the study: it writes table and figures, and a second run repeats only what is missing.
#
#   study_test.sh SOURCE BUILD
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

die() {
    echo "study_test: $*" >&2
    cat "$folder/messages" >&2
    exit 1
}

study() {
    "$1/bench/study/run" --quick --build "$2" --output_dir "$folder/out" --threads 2 >"$folder/table" 2>"$folder/messages" ||
        die "the study failed"
}

study "$@"
[ "$(wc -l <"$folder/out/table.csv")" = 4 ] || die "expected three layouts in table.csv"
[ "$(grep -c 'sandwich-top-3' "$folder/table")" = 2 ] || die "expected two layouts that loop in the table"
grep -q 'sandwich-top-3 *| 7 + 2 *| .*[0-9] | .*[0-9] |$' "$folder/table" || die "a value is missing"
for figure in loss iterations training_iterations; do grep -q '</svg>' "$folder/out/$figure.svg" || die "there is no $figure.svg"; done
cp "$folder/out/table.csv" "$folder/before.csv"

# The figures in docs/study are drawn from the tables there.
mkdir "$folder/figures"
cp "$1"/docs/study/*.csv "$folder/figures"
"$2/bench/study/study_table" --figures "$folder/figures" 2>"$folder/messages" || die "no figures from tables alone"
for figure in loss iterations training_iterations; do
    cmp -s "$folder/figures/$figure.svg" "$1/docs/study/$figure.svg" ||
        die "docs/study/$figure.svg is not what study_table --figures docs/study draws"
done

# A second run does nothing; missing results are measured again, including the training if its result is missing.
study "$@"
[ ! -s "$folder/messages" ] || die "something was done again"
rm "$folder/out/plain/iterations.json" "$folder/out/sandwich-top-3/train.json"
: >"$folder/out/plain/iterations.json.part"
study "$@"
[ "$(wc -l <"$folder/messages")" = 2 ] || die "expected one training and one measurement"
cmp -s "$folder/before.csv" "$folder/out/table.csv" || die "the same steps gave another table"
