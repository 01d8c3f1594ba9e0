#!/bin/sh
# bench/scaling/measure --quick on CPUs, with GPUs that only an nvidia-smi of the test knows, and with runs that fail.
#
#   measure_test.sh SOURCE BUILD
set -eu
source=$1 build=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

die() {
    echo "measure_test: $*" >&2
    cat "$folder/rows" "$folder/messages" >&2
    exit 1
}

measure() {
    "$source/bench/scaling/measure" --quick "$@" >"$folder/rows" 2>"$folder/messages"
}

# value NAME PROCESSES KEY: of a row; a list without brackets.
value() {
    sed -n "/\"name\": \"$1\".*\"processes\": $2,/s/.*\"$3\": \[*\([^]}]*\).*/\1/p" "$folder/rows" |
        case $3 in memory_bytes) cat ;; *) sed 's/, ".*//' ;; esac
}

between() { # LEAST MOST WHAT FOUND
    awk -v least="$1" -v most="$2" -v found="$4" 'BEGIN { exit !(found != "" && found + 0 >= least && found + 0 <= most) }' ||
        die "$3: expected $1 to $2, found \"$4\""
}

# Everything, with one and two ranks.
measure --build "$build" || die "exit code $?"
[ ! -s "$folder/messages" ] || die "messages"
[ "$(sed 's/.*"name": "\([^"]*\)".*"processes": \([0-9]*\).*/\1 \2/' "$folder/rows" | xargs)" = \
    "plain-1.1b 1 plain-1.1b 2 lckv-1.1b 1 lckv-1.1b 2 7b-zero1 1 7b-zero1 2 7b-zero3 1 7b-zero3 2 exact-1.1b 1 exact-1.1b 2 \
decode-7b-1 1 decode-7b-1 2 decode-7b-64 1 decode-7b-64 2 decode-30b-1 1 decode-30b-1 2" ] || die "other rows were expected"
if command -v python3 >/dev/null; then
    python3 -c 'import json, sys; [json.loads(row) for row in open(sys.argv[1])]' "$folder/rows" || die "a row is not JSON"
fi
for name in plain-1.1b lckv-1.1b 7b-zero1 7b-zero3 exact-1.1b decode-7b-1 decode-7b-64 decode-30b-1; do
    one=$(value $name 1 tokens_per_second) two=$(value $name 2 tokens_per_second)
    between 1 1e9 "$name, speed" "$one"
    share=$(awk -v one="$one" -v two="$two" 'BEGIN { print two / one / 2 }')
    between "$(awk "BEGIN { print $share - 0.002 }")" "$(awk "BEGIN { print $share + 0.002 }")" "$name, share" "$(value $name 2 share)"
    between 1 1 "$name, share of one" "$(value $name 1 share)"
done
for name in plain-1.1b lckv-1.1b 7b-zero1 7b-zero3 exact-1.1b; do
    # A rank has resident what is planned, and huge pages and logits, which are as large here as a half of it.
    between 0.5 3 "$name, memory" "$(value $name 2 memory_ratio)"
    between 1e-9 1 "$name, waiting" "$(value $name 2 wait_share)"
    [ -z "$(value $name 1 wait_share)" ] || die "$name: one rank waits"
    value $name 2 memory_bytes | grep -Eq '^[0-9]+,[0-9]+$' || die "$name: memory of two ranks"
done
between 1e-9 1e9 "exact beside the plan" "$(value exact-1.1b 2 ratio_to_plan)"

# Two GPUs: lckv on CPUs, for which nvidia-smi shows 100 MiB on the first and 300 MiB on the second one while it runs a model
# larger than the tiny one, and less for that.
mkdir "$folder/build" "$folder/bin"
cat >"$folder/bin/nvidia-smi" <<END
#!/bin/sh
case "\$*" in
*--query-gpu=name*) printf 'Small GPU\\nSmall GPU\\n' ;;
*) if [ -e "$folder/large" ]; then printf '100\\n300\\n'; else printf '10\\n20\\n'; fi ;;
esac
END
cat >"$folder/build/lckv" <<END
#!/bin/sh
case "\$*" in *tiny.json*) rm -f "$folder/large" ;; *) touch "$folder/large" ;; esac
command=\$1
shift
case "\$*" in *"--device cuda"*) exec "$build/lckv" "\$command" "\$@" --device cpu ;; *) exec "$build/lckv" "\$command" "\$@" ;; esac
END
chmod +x "$folder/bin/nvidia-smi" "$folder/build/lckv"
PATH=$folder/bin:$PATH measure --build "$folder/build" --device cuda --only lckv-1.1b --gpus 2 || die "exit code $?"
[ "$(value lckv-1.1b 2 memory_bytes)" = "$((80 * 1048576)),$((280 * 1048576))" ] || die "memory of the GPUs"
[ "$(value lckv-1.1b 2 device)" = '"Small GPU"' ] || die "name of the GPUs"
! PATH=$folder/bin:$PATH measure --build "$folder/build" --device cuda --gpus "2 4" || die "more GPUs than there are"
grep -q 'expected at most 2, found 4' "$folder/messages" || die "no number of GPUs"

# A run that fails is a row, and the next one follows.
cat >"$folder/build/lckv" <<END
#!/bin/sh
case "\$*" in train*"--zero 3"*) echo 'lckv train: no "memory"' >&2 && exit 1 ;; esac
exec "$build/lckv" "\$@"
END
! measure --build "$folder/build" --only 7b-zero3,decode-7b-1 --gpus 1 || die "a failure is no failure"
grep -q '"name": "7b-zero3".*, "error": "lckv train: no \\"memory\\""}$' "$folder/rows" || die "no row of a failure"
between 1 1e9 "the row after a failure" "$(value decode-7b-1 1 tokens_per_second)"

! measure --build "$build" --only plain-1.1b,fast || die "an unknown name was accepted"
grep -q 'found "fast"' "$folder/messages" || die "an unknown name is not reported"
! measure --gpus || die "a flag without its value was accepted"
