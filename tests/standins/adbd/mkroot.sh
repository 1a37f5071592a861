#!/bin/bash
# mkroot.sh ROOT - a small Android-like file tree: mksh + toybox (Debian's), and
# scripts in place of the framework's tools. Needs root.
set -eu
root=$1; here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$root"/{system/bin,system/etc,data/local/tmp,data/misc/adb,data/fake/{dumpsys,state},storage/emulated/0/{DCIM,Download,Pictures},dev/socket,dev/pts,proc,sys,vendor,lib,lib64,usr/lib}
mkdir -p "$root"/sys/devices/system/cpu   # cpuinfo reads these
for f in possible present; do cat "/sys/devices/system/cpu/$f" > "$root/sys/devices/system/cpu/$f"; done
ln -sfn /system/bin "$root"/bin
ln -sfn /system/etc "$root"/etc
ln -sfn /storage/emulated/0 "$root"/sdcard

add() {   # a program of this machine, with its libraries
  local bin; bin=$(command -v "$1") || return 0
  cp -L "$bin" "$root/system/bin/$1"
  ldd "$bin" | grep -o '/[^ ]*' | while read -r lib; do
    mkdir -p "$root$(dirname "$lib")"; cp -L "$lib" "$root$lib"
  done
}
cp /bin/mksh-static "$root"/system/bin/sh
# Debian's toybox lacks some that Android's has, and its ls garbles non-ASCII names
for t in toybox ls dd stty tr expr diff awk; do add $t; done
# all of toybox but what would act on the machine underneath
for t in $(toybox); do
  case $t in reboot|poweroff|halt|login|su|mount|umount|switch_root|insmod|rmmod|sysctl|swapoff|swapon|chroot) continue;; esac
  [ -f "$root/system/bin/$t" ] && [ ! -L "$root/system/bin/$t" ] || ln -sf toybox "$root/system/bin/$t"
done
cp "$here"/bin/* "$root"/system/bin/
chmod 755 "$root"/system/bin/*

printf 'root:x:0:0:root:/:/system/bin/sh\nshell:x:2000:2000:shell:/:/system/bin/sh\n' > "$root"/system/etc/passwd
printf 'root:x:0:\nshell:x:2000:\n' > "$root"/system/etc/group
cp "$here"/dumpsys/* "$root"/data/fake/dumpsys/
while read -r name value; do echo "$value" > "$root/data/fake/state/$name"; done <<EOF
settings.system.screen_brightness 102
settings.system.screen_brightness_mode 1
settings.global.airplane_mode_on 0
settings.global.stay_on_while_plugged_in 0
settings.global.low_power 0
fixed_performance false
deviceidle 1
wakefulness Awake
EOF
[ -e "$root"/system/build.prop ] || cp "$here"/build.prop "$root"/system/build.prop
chown -R 2000:2000 "$root"/data/local/tmp "$root"/data/fake "$root"/storage/emulated/0
chmod 1777 "$root"/data/local/tmp
