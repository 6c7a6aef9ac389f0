#!/bin/sh
# The yardstick: peers.json recovery as a careful person would script it, in the same safe order as ours, with
# nothing checked that the order does not need: no hold, no archive, no proof of one history, no way back.
#
#   bare.sh SSH_USER KEY KNOWN_HOSTS FOLDER ADDRESS...      (the survivors)
# shellcheck disable=SC2086  # lists of addresses and of process ids are meant to be split
set -eu
user=$1 key=$2 known=$3 folder=$4
shift 4

on() {
    address=$1
    shift
    ssh -F none -i "$key" -o UserKnownHostsFile="$known" -o BatchMode=yes -o ControlMaster=no -o ControlPath=none \
        "$user@$address" "$@"
}

# Waits for all of them, and fails where one fails: a bare `wait` would not tell.
all() {
    for process in "$@"; do wait "$process"; done
}

# 1. Where each log ends, who it is, and stop it.
running=
for each in "$@"; do
    on "$each" 'consul info | sed -n "s/^[[:space:]]*last_log_term = //p; s/^[[:space:]]*last_log_index = //p" |
        tac | tr "\n" " "; sudo cat /var/lib/consul/node-id; echo; sudo systemctl stop consul || true
        ! pgrep -x consul >/dev/null' >"$folder/$each" &
    running="$running $!"
done
all $running

# 2. Freshest first: last term, then last index.
ranked=$(for each in "$@"; do
    read -r term index id <"$folder/$each"
    echo "$term $index $each $id"
done | sort -k1,1nr -k2,2nr)
order=$(echo "$ranked" | cut -d ' ' -f 3)
freshest=$(echo "$order" | head -n 1)
rest=$(echo "$order" | tail -n +2)
peers=$(echo "$ranked" | head -n 1 |
    awk '{ printf "[{\"id\":\"%s\",\"address\":\"%s:8300\",\"non_voter\":false}]\n", $4, $3 }')

# 3. The freshest leads alone, and has taken a write.
echo "$peers" | on "$freshest" 'sudo sh -c "cat >/var/lib/consul/raft/peers.json &&
    chown consul: /var/lib/consul/raft/peers.json" && sudo systemctl start --no-block consul'
on "$freshest" 'until consul kv put bench/bare alone; do sleep 0.1; done' >"$folder/put" 2>&1

# 4. The others, with the data that they have, until all are voters.
running=
for each in $rest; do
    on "$each" "sudo systemctl start --no-block consul
        until consul join $freshest; do sleep 0.1; done" >"$folder/join-$each" 2>&1 &
    running="$running $!"
done
all $running
on "$freshest" "until [ \"\$(curl -sf http://127.0.0.1:8500/v1/operator/raft/configuration |
    grep -o '\"Voter\":true' | wc -l)\" = $# ]; do sleep 0.1; done"
on "$freshest" 'consul kv put bench/bare works' >"$folder/put"
