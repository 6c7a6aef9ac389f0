#!/bin/sh
# Becomes the lab's Redis: the hermetic root's own redis-server, in a mount namespace of its own.
# Arguments: ROOT, FOLDER (upper/, work/, merged/ and data/ on the lab's tmpfs), PORT.
# Every write is on disk before it is answered: what the bot was told is stored survives kill -9.
set -eu
root=$1
folder=$2
port=$3
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$root,upperdir=$folder/upper,workdir=$folder/work" "$folder/merged"
mount --bind "$folder/data" "$folder/merged/mnt"
mount -t proc -o nosuid,nodev,noexec proc "$folder/merged/proc"
exec chroot --userspec=redis:redis "$folder/merged" /usr/bin/redis-server \
    --bind 127.0.0.1 --port "$port" --dir /mnt --appendonly yes --appendfsync always --save '' --daemonize no
