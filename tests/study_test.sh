#!/bin/sh
# Runs the quick form of the study, trained in two shares at a time: it writes table and figures, and a second run repeats
# only what is missing.
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
    source=$1 build=$2
    shift 2
    "$source/bench/study/run" --quick --build "$build" --output_dir "$folder/out" --threads 1 "$@" || die "the study failed"
}

whole_study() {
    study "$@" >"$folder/table" 2>"$folder/messages"
}

# The columns that are the same each time: all but the speed of training.
same_columns() {
    awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) if ($i ~ /^train_/) skip[i] }
             { for (i = 1; i <= NF; i++) if (!(i in skip)) printf "%s,", $i; print "" }' "$1"
}

study "$@" --share 1/2 2>"$folder/share" &
study "$@" --share 2/2 2>"$folder/messages"
wait $! || die "a share failed"
[ "$(cat "$folder/share" "$folder/messages" | grep -c 'train.json')" = 4 ] || die "the shares should train all layouts"
whole_study "$@"
! grep 'train.json' "$folder/messages" || die "a layout was trained again"
[ "$(wc -l <"$folder/out/table.csv")" = 5 ] || die "expected four layouts in table.csv"
[ "$(grep -c 'sandwich-top-3' "$folder/table")" = 3 ] || die "expected three layouts that loop in the table"
grep -q 'sandwich-top-3 *| 7 + 2 *| .*[0-9] | .*[0-9] |$' "$folder/table" || die "a value is missing"
for figure in loss iterations training_iterations; do grep -q '</svg>' "$folder/out/$figure.svg" || die "there is no $figure.svg"; done
same_columns "$folder/out/table.csv" >"$folder/before.csv"

# The figures in docs/study are drawn from the tables there.
mkdir "$folder/figures"
cp "$1"/docs/study/*.csv "$folder/figures"
"$2/bench/study/study_table" --figures "$folder/figures" 2>"$folder/messages" || die "no figures from tables alone"
for figure in loss iterations training_iterations; do
    cmp -s "$folder/figures/$figure.svg" "$1/docs/study/$figure.svg" ||
        die "docs/study/$figure.svg is not what study_table --figures docs/study draws"
done

# A second run does nothing; missing results are measured again, including the training if its result is missing.
whole_study "$@"
[ ! -s "$folder/messages" ] || die "something was done again"
rm "$folder/out/plain/iterations.json" "$folder/out/sandwich-top-3/train.json"
: >"$folder/out/plain/iterations.json.part"
whole_study "$@"
[ "$(wc -l <"$folder/messages")" = 2 ] || die "expected one training and one measurement"
same_columns "$folder/out/table.csv" | cmp -s "$folder/before.csv" - || die "the same steps gave another table"
