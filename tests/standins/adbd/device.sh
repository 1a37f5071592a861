#!/bin/bash
# device.sh ADBD ROOT PORT [NAME=VALUE ...] - the stand-in device's init, in namespaces of its own:
#   setpriv --pdeathsig KILL unshare --mount --pid --net --fork --kill-child --propagation private \
#     device.sh ADBD ROOT 5555 ADBD_UID=2000 ADBD_ADDRESS=10.231.0.2
# Needs root. Its mounts, processes and network end with it (SIGKILL to unshare: it blocks SIGTERM).
# NAME=VALUE go to adbd's environment (see shim.cpp). With ADBD_ADDRESS adbd starts once the
# network namespace has that address: whoever started this gives it one. One instance per ROOT.
set -eu
adbd=$(readlink -f "$1"); root=$(readlink -f "$2"); port=$3; shift 3
mount -t tmpfs -o mode=755 none "$root/dev"
mkdir "$root"/dev/{pts,socket}; chmod 777 "$root/dev/socket"
for d in null zero full random urandom tty; do
  touch "$root/dev/$d"; mount --bind "/dev/$d" "$root/dev/$d"
done
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 none "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t proc none "$root/proc"
# each start is a boot (but /proc/uptime is the machine's and goes on)
cat /proc/sys/kernel/random/uuid > "$root/dev/.boot_id"
mount --bind "$root/dev/.boot_id" "$root/proc/sys/kernel/random/boot_id"
for word; do
  case $word in ADBD_ADDRESS=*)
    until ip -4 -o address | grep -qF " ${word#*=}/"; do sleep 0.05; done;;
  esac
done
while :; do   # as init does: start adbd again whenever it ends
  env -i PATH=/system/bin:/vendor/bin ANDROID_ROOT=/system ANDROID_DATA=/data \
    EXTERNAL_STORAGE=/sdcard LANG=C.UTF-8 ADBD_PORT="$port" ADBD_ROOT="$root" \
    ADBD_PROPS=/system/build.prop "$@" "$adbd" &
  echo $! > "$root/dev/adbd.pid"
  wait $! || true
  sleep 0.3
done
