#!/bin/sh
# Runs the quick form of the study: in two shares at a time, in several jobs, with a part of the variants, within a time
# limit, and continued from what another machine wrote. A second run repeats only what is missing. Before that, it makes
# a text with bench/study/books.
#
#   study_test.sh SOURCE BUILD
set -eu
source=$1 build=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

die() {
    echo "study_test: $*" >&2
    cat "$folder/messages" >&2
    exit 1
}

study() { # DIR FLAG...
    dir=$folder/$1
    shift
    "$source/bench/study/run" --quick --build "$build" --output_dir "$dir" --threads 1 "$@" || die "the study failed"
}

whole_study() { # DIR FLAG...
    study "$@" >"$folder/table" 2>"$folder/messages"
}

# The columns that are the same each time: all but the speed of training.
same_columns() {
    awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) if ($i ~ /^train_/) skip[i] }
             { for (i = 1; i <= NF; i++) if (!(i in skip)) printf "%s,", $i; print "" }' "$1"
}

# bench/study/books with three invented books: what is removed from the text, and one book per author.
books() { # FLAG...
    "$source/bench/study/books" --min_bytes 0 "$@" "$folder/books" "$folder/text" >"$folder/table" 2>"$folder/messages"
}

check_books() {
    mkdir -p "$folder/books/Ann Miller" "$folder/books/Bob Stone"
    prose='the walls of the old house and the garden, to a gate that none of the people of the village had opened'
    bridge="The bridge led past $prose, and to the end of the road."
    printf '# Title: The Bridge\n\n## Author: Ann Miller\n\n## Year: 1901\n\n-------\n\n%s\n' "$bridge" \
        >"$folder/books/Ann Miller/The Bridge.md"
    well="The well stood by $prose, in the middle of a field."
    printf '# Title: The Well\n\n## Author: Ann Miller\n\n## Year: 1902\n\n-------\n\n%s\n' "$well" \
        >"$folder/books/Ann Miller/The Well.md"
    cat >"$folder/books/Bob Stone/The Garden.md" <<END
# Title: The Garden

## Author: Bob Stone

## Year: 1900

-------

## Contents

- [The Gate](#gate)

A line of the contents

## I. <a id="gate"></a>The Gate ##

![a picture of a gate](gate.png)

He *saw* __the__ [gate](gate_(1).md) of the garden,[^1] and the “wall” &amp; the tree\\!
It was a day of the spring{2} — and a voice said to a man[3]: $prose.

[^1]: The text of a footnote.

- - -

> Translated by none of the people, and yet it’s a tale of the two sons of a king and of $prose.

Translated by A Friend

[Illustration: the wall] The end of the tale of the king and of the garden came to pass at $prose.
| a table | of the garden |
See www.example.org for more.

[The next chapter](two.md)
END
    cat >"$folder/garden" <<END
I. The Gate
He saw the gate of the garden, and the "wall" & the tree! It was a day of the spring -- and a voice said to a man: $prose.
Translated by none of the people, and yet it's a tale of the two sons of a king and of $prose.
The end of the tale of the king and of the garden came to pass at $prose.
END
    books --dev 'Bob Stone/The Garden' || die "no text was made of three books"
    diff "$folder/garden" "$folder/text/dev.txt" >&2 || die "dev.txt is not the plain text"
    echo "$well" | cmp -s - "$folder/text/train.txt" || die "train.txt should contain one book of the author, The Well"
    grep -q "^train.txt: 1 book, $(wc -c <"$folder/text/train.txt") bytes, not as in the study" "$folder/table" ||
        die "wrong counts"

    books --dev 'Ann Miller/The Well' || die "no text was made of three books"
    cmp -s "$folder/garden" "$folder/text/train.txt" || die "an author of dev.txt is in train.txt"
    ! books || die "missing works were accepted"
    grep -q "books/W. W. Jacobs/The Monkey's Paw.md\", which does not exist" "$folder/messages" ||
        die "no name of a missing work"
    ! "$source/bench/study/books" "$folder/none" "$folder/text" 2>"$folder/messages" ||
        die "a missing folder was accepted"
    grep -q "AUTHOR/TITLE.md in \"$folder/none\", found none" "$folder/messages" ||
        die "no name of a folder without books"
}

if command -v python3 >/dev/null; then check_books; else echo "skipped: bench/study/books needs python3"; fi

study out --share 1/2 2>"$folder/share" &
study out --share 2/2 2>"$folder/messages"
wait $! || die "a share failed"
[ "$(cat "$folder/share" "$folder/messages" | grep -c 'train.json')" = 5 ] || die "the shares should train all variants"
whole_study out
! grep 'train.json' "$folder/messages" || die "a variant was trained again"
[ "$(wc -l <"$folder/out/table.csv")" = 6 ] || die "expected five variants in table.csv"
[ "$(grep -c 'sandwich-top-3' "$folder/table")" = 4 ] || die "expected four variants with a loop in the table"
grep -q 'sandwich-top-3-exact *| 7 + 2 *| .*[0-9] | .*[0-9] |$' "$folder/table" || die "a value is missing"
for figure in loss loop_loss iterations training_iterations exact_iterations; do
    grep -q '</svg>' "$folder/out/$figure.svg" || die "there is no $figure.svg"
done
same_columns "$folder/out/table.csv" >"$folder/before.csv"

# The figures in docs/study are drawn from the tables there.
mkdir "$folder/figures"
cp "$source"/docs/study/*.csv "$folder/figures"
"$build/bench/study/study_table" --figures "$folder/figures" 2>"$folder/messages" || die "no figures from tables alone"
for figure in "$folder"/figures/*.svg; do
    cmp -s "$figure" "$source/docs/study/${figure##*/}" ||
        die "docs/study/${figure##*/} is not what study_table --figures docs/study draws"
done

# A second run does nothing; missing results are measured again, including the training if its result is missing.
whole_study out
[ ! -s "$folder/messages" ] || die "something was done again"
rm "$folder/out/sandwich-top-3-exact/seed-1/iterations.json" "$folder/out/sandwich-top-3/seed-1/train.json"
: >"$folder/out/sandwich-top-3-exact/seed-1/iterations.json.part"
whole_study out
[ "$(wc -l <"$folder/messages")" = 2 ] || die "expected one training and one measurement"
same_columns "$folder/out/table.csv" | cmp -s "$folder/before.csv" - || die "the same steps gave another table"

# Results that were copied without weights are enough to continue. Two seeds give deviations, in the figures too.
mkdir "$folder/copy"
mkdir -p "$folder/out/plain/seed-2/model/checkpoint-2" # of a run that was stopped
echo '{}' >"$folder/out/plain/seed-2/model/checkpoint-2/config.json"
(cd "$folder/out" && find . -name '*.json' | tar cf - -T -) | tar xf - -C "$folder/copy"
whole_study copy --seeds 2 --jobs 2 --variants 'sandwich-top-3-*,plain' --device cpu,cpu --drop_weights
[ "$(grep -c 'seed-2/train.json' "$folder/messages")" = 4 ] || die "expected four trainings with the second seed"
! grep 'seed-1' "$folder/messages" || die "a training was done again from a copy of its results"
head -3 "$folder/table" | grep -q 'sandwich-top-3-m1b1 .* 2 | *[0-9.]* ± [0-9.]* |' || die "expected two seeds in the table, in the given order"
for figure in loss loop_loss exact_iterations; do
    grep -q 'class="error"' "$folder/copy/$figure.svg" || die "$figure.svg has no error bars"
done
[ -z "$(find "$folder/copy" -name '*.safetensors')" ] || die "weights were kept"

# Of a copied run that was stopped between training and measurements, the weights are missing: it is trained again.
rm "$folder/copy/sandwich-top-3-exact/seed-2/iterations.json"
whole_study copy --seeds 2 --variants 'sandwich-top-3-*,plain' --drop_weights
[ "$(grep -o 'seed-2/.*' "$folder/messages" | xargs)" = "seed-2/train.json seed-2/exact.json seed-2/iterations.json" ] ||
    die "expected one training and its measurements"

# The table alone, of other variants in another order.
whole_study copy --table_only --variants 'plain,sandwich-top-3,sandwich-top-3-exact'
[ ! -s "$folder/messages" ] || die "--table_only should train nothing and measure no speeds"
[ "$(cut -d, -f1,5 "$folder/copy/table.csv" | xargs)" = "layout,seeds plain,2 sandwich-top-3,1 sandwich-top-3-exact,2" ] || die "another table was expected"

# A run that the time limit stops is no error, and has no result.
study late --time_limit 1 --variants plain --max_steps 100000 >"$folder/table" 2>"$folder/messages"
[ ! -e "$folder/late/plain/seed-1/train.json" ] || die "a run within one second is complete"

"$source/bench/study/run" --output_dir "$folder/none" --build "$build" --variants 'plain,lasagne*' 2>"$folder/messages" && die "a name was taken"
grep -q 'no variant is named lasagne\*' "$folder/messages" || die "an unknown name is not reported"
