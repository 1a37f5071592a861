#!/bin/sh
# What the device is: lines of key=value. $1 prefixes every /sys and /proc path. Unknown facts are left out.
root=${1%/}

say() { [ -n "$2" ] && printf '%s=%s\n' "$1" "$(printf '%s' "$2" | tr -d '\000' | tr '\n\r' '  ')"; }
file() { cat "$root$1" 2>/dev/null | tr -d '\000'; }
prop() { command -v getprop > /dev/null 2>&1 && getprop "$1" 2>/dev/null; }

say abi "$(uname -m)"
say kernel "$(uname -sr)"
say android "$(prop ro.build.fingerprint)"
say os_release "$(. /etc/os-release 2>/dev/null && echo "$PRETTY_NAME")"
say model "$(prop ro.product.model)"
say model "$(file /proc/device-tree/model)"
say model "$(file /sys/class/dmi/id/product_name)"
say soc "$(prop ro.soc.model)"
say soc "$(file /proc/cpuinfo | sed -n 's/^model name[^:]*: //p' | head -n 1)"
say serial "$(prop ro.serialno)"
say serial "$(file /proc/device-tree/serial-number)"
say serial "$(cat /etc/machine-id 2>/dev/null)"
say serial "$(uname -n)"
say cores "$(getconf _NPROCESSORS_ONLN 2>/dev/null || nproc 2>/dev/null || grep -c ^processor "$root/proc/cpuinfo" 2>/dev/null)"
say page_size "$(getconf PAGE_SIZE 2>/dev/null || getconf PAGESIZE 2>/dev/null)"
say memory_kib "$(file /proc/meminfo | sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p')"
say boot_id "$(file /proc/sys/kernel/random/boot_id)"
for policy in "$root"/sys/devices/system/cpu/cpufreq/policy*; do
    [ -r "$policy/related_cpus" ] || continue
    say cluster "$(cat "$policy/related_cpus") max_khz $(cat "$policy/cpuinfo_max_freq" 2>/dev/null)"
done
