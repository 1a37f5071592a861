#!/bin/sh
# How the device is at this moment: lines of key=value; what is unknown is left out. POSIX sh: mksh/toybox, dash, bash
# and busybox.
#
#   telemetry.sh ROOT      ROOT goes before every /sys and /proc path
#
#   uptime_s=1234.56                 since boot, sleep included        loadavg=0.42        over the last minute
#   zone=NAME MILLIDEGREES           one a thermal zone; names may come twice
#   max_khz=policy0 2400000          governor=policy0 schedutil        the highest clock that it may take just now
#   thermal_status=0                 Android's; then, as its service writes them, from its cache or read just now:
#   temperature=cached|now Temperature{mValue=31.4, mType=3, mName=SKIN, mStatus=0}
#   battery_percent=83               battery_decicelsius=283           charging=yes|full|no
#   throttled=0x50000                a Raspberry Pi's get_throttled    screen=true|false
#
# Of a key that is there several times the first counts (but for zones, temperatures and policies).
# It runs before and after each timed run, and each process would warm the device and take its caches: on Linux it
# starts none beside the shell itself; where there is a vcgencmd four more (two subshells, timeout, vcgencmd). Android
# has to be asked through dumpsys: three times four.
root=${1%/}

# no printf: Android's shell has it as a program. What echo could take for an escape, and with it for a line break, is
# left out; nothing that is meant holds one.
say() { case $2 in *\\*) ;; *) echo "$1=$2" ;; esac; }

get() { # the first line of file $1, in `value`; fails where there is none
    value=
    { read -r value < "$1"; } 2>/dev/null
    [ -n "$value" ]
}
# what asks a service may hang; without `timeout` it is not asked at all
soon() { command -v timeout > /dev/null && timeout 2 "$@" 2>/dev/null < /dev/null; }

get "$root/proc/uptime" && say uptime_s "${value%% *}"
get "$root/proc/loadavg" && say loadavg "${value%% *}"

for zone in "$root"/sys/class/thermal/thermal_zone*; do
    get "$zone/temp" || continue
    millidegrees=$value
    get "$zone/type" || value=${zone##*/}
    say zone "$value $millidegrees"
done

for policy in "$root"/sys/devices/system/cpu/cpufreq/policy*; do
    get "$policy/scaling_max_freq" && say max_khz "${policy##*/} $value"
    get "$policy/scaling_governor" && say governor "${policy##*/} $value"
done

charge() { # of a battery's status $1: Android's number or the kernel's word
    case $1 in 2 | Charging) say charging yes ;; 5 | Full) say charging full ;; ?*) say charging no ;; esac
}

if command -v dumpsys > /dev/null; then
    from=
    soon dumpsys thermalservice | while read -r line; do
        case $line in
        "Thermal Status:"*) say thermal_status "${line##*: }" ;;
        "Cached temperatures"*) from=cached ;;
        "Current temperatures"*) from=now ;;
        "Temperature{"*) [ -z "$from" ] || say temperature "$from $line" ;;
        [A-Z]*:) from= ;; # cooling devices, thresholds
        esac
    done
    soon dumpsys battery | {
        percent='' decicelsius='' status=''
        while read -r key number _; do
            case $key in
            "(UPDATES") break ;; # STOPPED: what follows is frozen or made up
            level:) percent=$number ;;
            temperature:) decicelsius=$number ;;
            status:) status=$number ;;
            esac
        done
        [ -n "$percent" ] && say battery_percent "$percent"
        [ -n "$decicelsius" ] && say battery_decicelsius "$decicelsius"
        charge "$status"
    }
    soon dumpsys deviceidle get screen | while read -r on _; do say screen "$on"; done # API 24 and later
fi

for supply in "$root"/sys/class/power_supply/*; do
    get "$supply/type" && [ "$value" = Battery ] || continue
    get "$supply/scope" && [ "$value" = Device ] && continue # a mouse's
    get "$supply/capacity" && say battery_percent "$value"
    get "$supply/temp" && say battery_decicelsius "$value"
    get "$supply/status" && charge "$value"
done

if command -v vcgencmd > /dev/null; then
    soon vcgencmd get_throttled | while read -r value; do say throttled "${value#throttled=}"; done
fi
exit 0
