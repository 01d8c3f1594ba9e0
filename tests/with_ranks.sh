#!/bin/sh
# with_ranks.sh N COMMAND...: starts N processes of a command on this host with the variables that torchrun sets, and waits
# for all of them. Fails if one of them fails, with its exit code.
set -eu
ranks=$1
shift
export WORLD_SIZE="$ranks" LOCAL_WORLD_SIZE="$ranks" MASTER_ADDR=127.0.0.1 MASTER_PORT=$((15000 + $$ % 15000))
pids=
rank=0
while [ "$rank" -lt "$ranks" ]; do
    RANK=$rank LOCAL_RANK=$rank "$@" &
    pids="$pids $!"
    rank=$((rank + 1))
done
code=0
for pid in $pids; do wait "$pid" || code=$?; done
exit "$code"
