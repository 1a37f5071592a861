#!/bin/sh
# What the device is: lines of key=value; what is unknown is left out. POSIX sh: mksh/toybox, dash, bash and busybox.
#
#   facts.sh ROOT [su]      ROOT goes before every /sys and /proc path; su: look whether it gives root
#
# Of a key that is there several times the first counts. A value never holds a line break, so none can forge a key.
# All of it is one { } that reads nothing: the script itself may be standing in standard input.
{
root=${1%/}

say() { [ -n "$2" ] && printf '%s=%s\n' "$1" "$(printf '%s' "$2" | tr -d '\000' | tr '\n\r' '  ')"; }
file() { cat "$root$1" 2>/dev/null | tr -d '\000'; }
prop() { command -v getprop > /dev/null && getprop "$1" 2>/dev/null; }
# what asks a service or a person may hang; without `timeout` it is not asked at all
soon() { command -v timeout > /dev/null && timeout 2 "$@" 2>/dev/null; }
may_read() { if cat "$1" > /dev/null 2>&1; then echo readable; else echo unreadable; fi; }

say abi "$(uname -m)"
say cpu_abi "$(prop ro.product.cpu.abi)"
say kernel "$(uname -sr)"
say android "$(prop ro.build.fingerprint)"
say os_release "$(sed -n 's/^PRETTY_NAME=//p' /etc/os-release 2>/dev/null | tr -d \"\')"
say model "$(prop ro.product.manufacturer) $(prop ro.product.model)"
say model "$(file /proc/device-tree/model)"
say model "$(file /sys/class/dmi/id/product_name)"
say soc "$(prop ro.soc.manufacturer) $(prop ro.soc.model)"
say soc "$(prop ro.board.platform)"
say soc "$(cat "$root/proc/device-tree/compatible" 2>/dev/null | tr '\000' '\n' | tail -n 1)"
say soc "$(file /proc/cpuinfo | sed -n 's/^model name[^:]*: //p' | head -n 1)"
say serial "$(prop ro.serialno)"
say serial "$(prop ro.boot.serialno)"
say serial "$(file /proc/device-tree/serial-number)"
say serial "$(cat /etc/machine-id 2>/dev/null)"
say hostname "$(uname -n)"
say home "$(cd 2>/dev/null && pwd)"
say cores "$(getconf _NPROCESSORS_ONLN 2>/dev/null || nproc 2>/dev/null || grep -c ^processor "$root/proc/cpuinfo" 2>/dev/null)"
say page_size "$(getconf PAGE_SIZE 2>/dev/null || getconf PAGESIZE 2>/dev/null)"
kib=$(sed -n 's/^KernelPageSize: *\([0-9]*\) kB/\1/p' /proc/self/smaps 2>/dev/null | head -n 1) # busybox has no getconf
[ -n "$kib" ] && say page_size $((kib * 1024))
say memory_kib "$(file /proc/meminfo | sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p')"
say boot_id "$(file /proc/sys/kernel/random/boot_id)"

cpus=$root/sys/devices/system/cpu
for policy in "$cpus"/cpufreq/policy*; do
    [ -r "$policy/related_cpus" ] || continue
    related=$(cat "$policy/related_cpus" 2>/dev/null)
    midr=$(cat "$cpus/cpu${related%% *}/regs/identification/midr_el1" 2>/dev/null)
    say cluster "$related max_khz $(cat "$policy/cpuinfo_max_freq" 2>/dev/null) midr $midr"
done

zones=0
for zone in "$root"/sys/class/thermal/thermal_zone*; do [ -d "$zone" ] && zones=$((zones + 1)); done
say thermal_zones $zones
say throttled "$(soon vcgencmd get_throttled | sed -n 's/^throttled=//p')"

# the battery: Android's service, else the kernel's gauge
soon dumpsys battery | while read -r key value _; do
    case $key in
    level:) say battery_percent "$value" ;;
    temperature:) say battery_decicelsius "$value" ;;
    status:) case $value in 2) say charging yes ;; 5) say charging full ;; *) say charging no ;; esac ;;
    esac
done
for supply in "$root"/sys/class/power_supply/*; do
    [ "$(cat "$supply/type" 2>/dev/null)" = Battery ] || continue
    [ "$(cat "$supply/scope" 2>/dev/null)" = Device ] && continue # a mouse's
    say battery_percent "$(cat "$supply/capacity" 2>/dev/null)"
    say battery_decicelsius "$(cat "$supply/temp" 2>/dev/null)"
    case $(cat "$supply/status" 2>/dev/null) in Charging) say charging yes ;; Full) say charging full ;; ?*) say charging no ;; esac
    [ -e "$supply/current_now" ] && say energy "$(may_read "$supply/current_now") battery ${supply##*/}"
done

# what else could tell power or energy, each under its meter's name (meter.sh)
for power in "$root"/sys/class/hwmon/hwmon*/power*_input; do
    [ -e "$power" ] || continue
    label=$(cat "${power%_input}_label" 2>/dev/null)
    file=${power##*/}
    say energy "$(may_read "$power") hwmon $(cat "${power%/*}/name" 2>/dev/null) ${label:-${file%_input}}"
done
for meter in "$root"/sys/bus/iio/devices/iio:device*; do
    [ -e "$meter/energy_value" ] && say energy "$(may_read "$meter/energy_value") odpm $(cat "$meter/name" 2>/dev/null)"
done
for zone in "$root"/sys/class/powercap/intel-rapl:*; do
    case ${zone##*/} in intel-rapl:*:*) continue ;; esac # a part of its package
    case $(cat "$zone/name" 2>/dev/null) in package*) ;; *) continue ;; esac
    [ -e "$zone/energy_uj" ] && say energy "$(may_read "$zone/energy_uj") rapl $(cat "$zone/name" 2>/dev/null)"
done
case $(soon vcgencmd pmic_read_adc) in *current\(*) say energy "readable pmic vcgencmd" ;; esac

is_root() { [ "$(id -u)" = 0 ] || [ "$(soon su -c 'id -u' || soon su 0 id -u || soon sudo -n id -u)" = 0 ]; }
[ "$2" = su ] && if is_root; then say root yes; else say root no; fi
exit 0
} < /dev/null
