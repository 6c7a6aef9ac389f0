#!/bin/sh
# The first process of a lab host: turns fresh namespaces into a machine of its own, then becomes systemd.
# Arguments: ROOT (the hermetic Debian tree), DISK (folder with upper/, work/, merged/ on the lab's tmpfs).
# What the host writes stays in DISK/upper, so that a host that is powered off keeps its disk.
set -eu
root=$1
disk=$2

mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$root,upperdir=$disk/upper,workdir=$disk/work" "$disk/merged"
cd "$disk/merged"

# proc first: it belongs to the new PID namespace. What could reach the machine's kernel stays read-only.
mount -t proc -o nosuid,nodev,noexec proc proc
for kernel in proc/sys proc/sysrq-trigger; do
    [ -e "$kernel" ] || continue
    mount --bind "$kernel" "$kernel"
    mount -o remount,ro,bind "$kernel"
done
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys
# systemd here speaks cgroup v2 only, whatever the machine itself uses.
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 sys/fs/cgroup
mount -t tmpfs -o nosuid,nodev,mode=755 tmpfs run
# systemd-tmpfiles empties /tmp at boot: it must not be on the kept disk, nor the machine's.
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs tmp

mount -t tmpfs -o nosuid,mode=755 tmpfs dev
for device in null zero full random urandom tty; do
    : >"dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts dev/pts
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s /proc/self/fd/0 dev/stdin
ln -s /proc/self/fd/1 dev/stdout
ln -s /proc/self/fd/2 dev/stderr

mkdir -p run/old-root
pivot_root . run/old-root
cd /
umount -l run/old-root
rmdir run/old-root
hostname -F /etc/hostname
export container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin
exec </dev/null /lib/systemd/systemd --system
