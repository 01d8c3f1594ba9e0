#!/bin/sh
# bench/scaling/run with rates for which the times can be computed by hand, and the tables in docs/scaling.md.
#
#   scaling_test.sh SOURCE BUILD
set -eu
source=$1 build=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

die() {
    echo "scaling_test: $*" >&2
    cat "$folder/table" >&2
    exit 1
}

# One TFLOP/s, one GB/s within a host, a quarter of it between hosts. Steps of rings take 1 ms and 3 ms.
scaling() {
    "$source/bench/scaling/run" --build "$build" --configs "$source/configs/llama-50m.json" --decode "" --block 64 --batch 8 \
        --product 1 --share_plain 1 --share_loops 1 --nvlink 1 --network 0.25 --nvlink_hop 1000 --network_hop 3000 --call 0 \
        --message 0 --nccl_gap 0 --peer_rate 1 --measured "" "$@" >"$folder/table" || die "exit code $?"
}

# value GPUS COLUMN: of the first table.
value() {
    awk -F ' *[|] *' -v gpus="$1" -v column="$2" '$2 == gpus { print $column; exit }' "$folder/table"
}

expect() { # WHAT FOUND EXPECTED
    awk -v found="$2" -v expected="$3" 'BEGIN {
        gsub(",", "", found)
        difference = found - expected
        exit !(found != "" && difference <= 0.0006 && difference >= -0.0006)
    }' || die "$1: expected $3, found $2"
}

# 51,651,072 parameters in 11 units (embedding, 8 layers, norm, head). Stage 1 reduces 4 bytes and gathers 2 bytes of each,
# which takes 6 P / 1e9 (N - 1) / N s, and 22 times the steps of a ring. Loss and norm are two all-reduces, 4 times.
scaling --gpus 1,2,8,16 --product 0.01
P=51651072
expect "communication of one GPU" "$(value 1 6)" 0
expect "efficiency of one GPU" "$(value 1 9)" 1
expect "2 GPUs" "$(value 2 6)" "$(awk "BEGIN { print 6e-9 * $P / 2 + 26 * 0.001 }")"
expect "8 GPUs" "$(value 8 6)" "$(awk "BEGIN { print 6e-9 * $P * 7 / 8 + 26 * 0.007 }")"
# Two hosts: 14 steps within them and one between them, at the speed of the network.
awk -v found="$(value 16 6)" -v expected="$(awk "BEGIN { print 6e-9 * $P * 15 / 16 / 0.25 + 26 * 0.017 }")" \
    'BEGIN { exit !(found - expected < 0.006 && expected - found < 0.006) }' || die "16 GPUs: $(value 16 6)"
# The backward pass hides the sums of all units but the last one; not the gathering.
expect "8 GPUs, not hidden" "$(value 8 7)" \
    "$(awk "BEGIN { print (4e-9 * $P * 7 / 8 + 11 * 0.007) / 11 + 2e-9 * $P * 7 / 8 + 11 * 0.007 + 4 * 0.007 }")"
flops=$("$build/lckv" inspect --config_name "$source/configs/llama-50m.json" --bf16 --block_size 64 --num_processes 8 --json |
    sed 's/.*"training":{"weights":[0-9]*,"activations":[0-9]*,"total":[0-9]*,"flops":\([0-9.e+]*\).*/\1/')
awk -v found="$(value 8 5)" -v flops="$flops" 'BEGIN { exit !(found / (flops / 1e10) - 1 < 0.01 && 1 - found / (flops / 1e10) < 0.01) }' ||
    die "compute: $(value 8 5), FLOPs $flops"

# Rings within hosts and then between them: 7 steps of 1 ms and one of 3 ms.
scaling --gpus 16 --ring hierarchical --hidden 0
awk -v found="$(value 16 6)" -v expected="$(awk "BEGIN { print 6e-9 * $P * (7 / 8 + 1 / 2 / 0.25) + 26 * 0.010 }")" \
    'BEGIN { exit !(found - expected < 0.006 && expected - found < 0.006) }' || die "hierarchical: $(value 16 6)"
expect "nothing can be hidden" "$(value 16 7)" "$(value 16 6)"

# Stage 3 where stage 1 does not fit: weights twice, without embedding and head in the backward pass, and gradients.
scaling --gpus 8 --batch 1 --nvlink_hop 0 --memory 0.33
case $(value 8 3) in 3,\ 1\ block) ;; *) die "expected stage 3, found $(value 8 3)" ;; esac
expect "stage 3" "$(value 8 6)" "$(awk "BEGIN { print (8e-9 * $P - 4e-9 * 32000 * 512) * 7 / 8 }")"
scaling --gpus 8 --memory 0.01
grep -q 'does not fit' "$folder/table" || die "expected that nothing fits"

# With the same batch per GPU, more GPUs never communicate less; with the same global batch, efficiency falls.
scaling --gpus 1,2,4,8,16,32,64 --global_batch 64 --product 10
awk -F ' *[|] *' '
    /fixed global/ { global = 1 }
    $2 ~ /^[0-9]+$/ && !global { if ($6 < last) exit failed = 1; last = $6; rows++ }
    $2 ~ /^[0-9]+$/ && global { split($4, part, " / "); if (rows2++ && (part[1] > before || part[2] < part[1])) exit failed = 1; before = part[1] }
    END { exit failed || rows != 7 || rows2 != 7 }' "$folder/table" || die "time or efficiency is not monotone"

# Decoding with two and four processes: 16 sums of 4 * 512 bytes. NCCL takes twice the steps of a ring. Through peer memory,
# a sum takes 5 ms here and twice the bytes for every other process.
decoding() { # COLUMN EXPECTED
    found=$(awk -F ' *[|] *' -v column="$1" '$2 == "llama-50m" && $3 == 1 && /[+]/ { print $column; exit }' "$folder/table")
    awk -v found="$found" -v expected="$2" 'BEGIN { exit !(found - expected < 0.01 && expected - found < 0.01) }' ||
        die "sums of decoding: found $found, expected $2"
}
scaling --gpus 8 --decode "$source/configs/llama-50m.json" --length 64 --peer_limit 2047
decoding 6 "$(awk 'BEGIN { print 16 * (2 + 2e-6 * 512 * 2) }')"
decoding 8 "$(awk 'BEGIN { print 16 * (6 + 1.5 * 4e-6 * 512) }')"
scaling --gpus 8 --decode "$source/configs/llama-50m.json" --length 64 --peer_limit 2048 --peer 5000
decoding 6 "$(awk 'BEGIN { print 16 * (5 + 4e-6 * 512 * 2) }')"
decoding 8 "$(awk 'BEGIN { print 16 * (5 + 4e-6 * 512 * 2 * 3) }')"

! "$source/bench/scaling/run" --ring star >"$folder/table" 2>&1 || die "a ring that does not exist was accepted"
! "$source/bench/scaling/run" --gpus >"$folder/table" 2>&1 || die "a flag without its value was accepted"
! "$source/bench/scaling/run" --build "$build" --configs "$folder/nowhere.json" >"$folder/table" 2>&1 || die "a config that does not exist"

# docs/scaling.md has what the script prints.
"$source/bench/scaling/run" --build "$build" >"$folder/table"
awk '/<!-- end of the tables -->/ { inside = 0 }
    inside > 1 { print }
    inside { inside++ }
    /<!-- tables of bench\/scaling\/run -->/ { inside = 1 }' "$source/docs/scaling.md" >"$folder/page"
cmp -s "$folder/page" "$folder/table" || die "docs/scaling.md has other tables: run bench/scaling/run --docs"

# What was measured is within 10 % of what the model computes: 8 points of training, 10 of decoding, 5 of sums.
awk -F ' *[|] *' '
    /^### / { inside = /Measured/ }
    !inside || !/^[|]/ { next }
    / ratio / { ratios = 0; for (i = 1; i <= NF; i++) if ($i == "ratio") column[++ratios] = i; next }
    /^[|]-/ { next }
    { rows++; for (i = 1; i <= ratios; i++) if ($column[i] < 0.9 || $column[i] > 1.1) far = 1 }
    END { exit far || rows != 23 }' "$folder/table" || die "measured speeds differ by more than 10 %, or rows are missing"
# A row that is computed wrongly is far from what was measured.
printf 'decode llama-7b 64 2 6000 peer\n' >"$folder/points"
"$source/bench/scaling/run" --build "$build" --configs "$source/configs/llama-50m.json" --decode "" \
    --measured "$folder/points" >"$folder/table" || die "exit code $?"
grep -q '^| llama-7b | 64 | 2 | peer memory | 6,000 | 12,857 | 0.47 |' "$folder/table" || die "a point of another file"
