#!/bin/sh
# Checks README.md and docs/. Commands: each flag exists and accepts its value (lckv help --check). Commands that
# fetch one config of a data set are those that lckv prints where that config is missing. Links: the file exists. Functions
# in docs/architecture.md: the file before the name defines the function. README's tour: after one step of training, its
# commands work, and lckv inspect prints what README shows.
#
#   docs_test.sh PROGRAM SOURCE
set -eu
program=$1 source=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
echo '--seed 1' >run_clm.sh # a file of flags

# Prints one command per line, "PAGE:LINE: lckv COMMAND ...": those in blocks, with continued lines joined, and `lckv ...` in
# text. Removes placeholders (...).
awk '
    function show(text, at) {
        if (match(text, /(^|[ \/])lckv (train|sft|convert|inspect|generate|chat|score|eval|bench|tokenize|serve|fetch) /) == 0) return
        text = substr(text, RSTART + (substr(text, RSTART, 1) != "l"))
        gsub(/ \.\.\.( |$)/, " ", text)
        gsub(/ [[][^]]*[]]/, "", text)
        gsub(/ [NT]( |$)/, " 1 ", text)
        sub(/ [&|]$/, "", text)
        print FILENAME ":" at ": " text
    }
    FNR == 1 { command = "" }
    /^    / {
        line = substr($0, 5)
        if (command == "") begin = FNR
        command = command line
        if (sub(/\\$/, "", command)) next
        sub(/^\$ /, "", command)
        show(command, begin)
        command = ""
        next
    }
    {
        count = split($0, parts, "`")
        for (i = 2; i <= count; i += 2)
            if (parts[i] ~ /^lckv [a-z]+ .*--/) show(parts[i], FNR)
    }
' "$source"/README.md "$source"/docs/*.md >commands

lckv() {
    "$program" help --check "$@" 2>messages
}

checked=0 wrong=0
while IFS= read -r line; do
    command=${line#*: }
    checked=$((checked + 1))
    (eval "$command") </dev/null >/dev/null 2>shell || {
        grep -q ' is required; ' messages && continue # of what a text leaves out
        wrong=$((wrong + 1))
        echo "${line%%: *}: $command" >&2
        cat shell messages >&2
    }
done <commands
echo "$checked commands"

links=0
for page in "$source"/*.md "$source"/docs/*.md; do
    for link in $(grep -o '](\([^)# ]*\)' "$page" | cut -c3- | grep -v '^[a-z]*:'); do
        links=$((links + 1))
        [ -e "$(dirname "$page")/$link" ] && continue
        wrong=$((wrong + 1))
        echo "$page: '$link' does not exist" >&2
    done
done
echo "$links links"

functions=0
grep -o '`[a-z_/]*\.[ch]` `[a-z_]*()`' "$source/docs/architecture.md" | tr -d '`()' >functions
while read -r file name; do
    functions=$((functions + 1))
    [ -e "$source/$file" ] || file=src/$file
    grep -qE "^[a-z].*[ *]$name\(" "$source/$file" && continue
    wrong=$((wrong + 1))
    echo "docs/architecture.md: '$file' has no function $name()" >&2
done <functions
echo "$functions functions"

name=Salesforce/wikitext config=wikitext-103-raw-v1
hint=$(HF_HUB_CACHE=$folder "$program" train --config_name "$source/data/demo-config.json" --output_dir out \
    --tokenizer_name "$source/data/tokenizer" --dataset_name $name --dataset_config_name $config 2>&1 | sed -n 's/.*fetch it with: //p')
"$program" help fetch | sed -n '/lckv fetch/{:a;/\\$/{N;s/ *\\\n */ /;ba};s/^ */help fetch: /p}' >>commands
while IFS= read -r line; do
    [ "${line#*: }" = "$hint" ] || {
        wrong=$((wrong + 1))
        echo "$line; lckv prints: $hint" >&2
    }
done <<END
$(grep "lckv fetch $name .*--include" commands)
END

# The commands of the tour but serve, with continued lines joined, in a folder like a checkout. They train the model
# first, and then use it.
mkdir tour && cd tour
ln -s "$source/data" "$source/configs" .
export HF_HOME="$folder" OMP_WAIT_POLICY=passive
toured=0
sed -n '/^## A tour/,/^## Cost of sharing/s/^    //p' "$source/README.md" | sed -n ':a;/\\$/{N;s/ *\\\n */ /;ba};s/^\$ lckv //p' |
    grep -v '^serve' | sed 's/--max_steps [0-9]*/--max_steps 1/' >../toured
while IFS= read -r line; do
    toured=$((toured + 1))
    (eval "\"$program\" $line") </dev/null >output 2>messages || {
        wrong=$((wrong + 1))
        echo "README.md: lckv $line" >&2
        cat messages >&2
    }
    case $line in
    inspect*)
        sed -n '/^    \$ lckv inspect/,/^\*\*/p' "$source/README.md" | sed '1d;/^\*\*/d;s/^ *//;/^$/d' >shown
        sed 's/^ *//;/^$/d' output | diff shown - >&2 || {
            wrong=$((wrong + 1))
            echo "README.md: lckv inspect prints something else now" >&2
        }
        ;;
    esac
done <../toured
echo "$toured commands of the tour"

[ "$wrong" = 0 ] && [ "$toured" -gt 6 ] && [ "$checked" -gt 40 ] && [ "$links" -gt 40 ] && [ "$functions" -gt 20 ]
