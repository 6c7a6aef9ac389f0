#!/bin/sh
# The yardstick: the staged bootstrap in the same safe order as ours, as a careful person would script it who knows
# which server was the last to leave; nothing checked that the order does not need.
#
#   bare.sh SSH_USER KEY KNOWN_HOSTS LAST_TO_LEAVE ADDRESS...      (all servers)
# shellcheck disable=SC2086  # a list of process ids is meant to be split
set -eu
user=$1 key=$2 known=$3 last=$4
shift 4
override=/etc/consul.d/zz-bare.json

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

# SIGTERM does not leave; the unit's own SIGINT would. Restart=on-failure starts it anew unless stopped at once.
stop='sudo systemctl kill -s TERM consul; sudo systemctl stop consul; ! systemctl is-active -q consul'
leads='until consul info 2>/dev/null | grep -q "state = Leader"; do sleep 0.1; done'
knows='until curl -sf http://127.0.0.1:8500/v1/status/leader | grep -q :8300; do sleep 0.1; done'

# 1. Stop all.
running=
for each in "$@"; do
    on "$each" "$stop" &
    running="$running $!"
done
all $running

# 2. The last to leave alone, until it leads and still does 3 s later.
on "$last" "echo '{\"bootstrap_expect\": 1}' | sudo tee $override >/dev/null; sudo chmod 644 $override
    sudo systemctl start consul; $leads; sleep 3; consul info | grep -q 'state = Leader'"

# 3. The rest, until each is a peer.
running=
for each in "$@"; do
    [ "$each" = "$last" ] || {
        on "$each" 'sudo systemctl start consul' &
        running="$running $!"
    }
done
all $running
for each in "$@"; do
    on "$last" "until curl -sf http://127.0.0.1:8500/v1/status/peers | grep -q '\"$each:8300\"'; do sleep 0.1; done"
    on "$each" "$knows"
done

# 4. The override off: stop the leader, wait for the new one, start it.
on "$last" "sudo rm $override; $stop"
for each in "$@"; do
    [ "$each" = "$last" ] || on "$each" "until curl -sf http://127.0.0.1:8500/v1/status/leader |
        grep ':8300' | grep -qv '\"$last:'; do sleep 0.1; done"
done
on "$last" "sudo systemctl start consul; $knows"
