#!/bin/sh
# A meter of this device, read over and over. POSIX sh: mksh/toybox, dash, bash and busybox alike.
#
#   meter.sh look ROOT KIND             what there is of it, lines: readable|unreadable PATH VALUE NAME
#   meter.sh KIND ROOT PERIOD PATH...   a line every PERIOD seconds until it is killed: T TEXT
#
# ROOT goes before every path. T: seconds since boot, sleep included (CLOCK_BOOTTIME, in steps of 0.01 s), just before
# the reading. Raw values as the kernel has them; the host understands them. What cannot be read is `-`.
#
#   KIND     PATH                        VALUE of a look                         TEXT of a line
#   rapl     a package's energy_uj       max_energy_range_uj                     µJ of each PATH
#   hwmon    a chip's power*_input       update_interval, in ms                  µW of each PATH
#   battery  the gauge's folder          status, `+charger` behind it with one   current_now voltage_now status
#   odpm     iio:device*/energy_value    -                                       of each PATH: the word dev, its words
#   pmic     vcgencmd                    -                                       the words of vcgencmd pmic_read_adc

verb=$1
root=${2%/}
set -f # what a device says is never a pattern

word() { # the first word of file $1, to $word
    word=
    { read -r word _ < "$1"; } 2>/dev/null
    word=${word:--}
}

# a firmware that hangs must not leave a process behind; without `timeout` it is asked as it is
soon() { if command -v timeout > /dev/null; then timeout 2 "$@"; else "$@"; fi; }

first() { word "$1"; echo "$word"; }

# all words on one line, in one write; Android's shell has printf as a program only, and no reading has a backslash
emit() { case $* in *\\*) ;; *) echo "$*" ;; esac; }

found() { # FILE PATH VALUE NAME: whether the file gives anything, and the rest
    [ -e "$1" ] || return
    state=unreadable
    cat "$1" > /dev/null 2>&1 && state=readable
    printf '%s %s %s %s\n' $state "${2#"$root"}" "$3" "$(printf '%s' "$4" | tr '\n\r' '  ')"
}

name() { cat "$1" 2>/dev/null | head -c 100; }

look() {
    set +f
    case $1 in
    rapl) # the zones inside a package are parts of it, and have a second number
        for zone in "$root"/sys/class/powercap/intel-rapl:*; do
            case ${zone##*/} in intel-rapl:*:*) continue ;; esac
            found "$zone/energy_uj" "$zone/energy_uj" "$(first "$zone/max_energy_range_uj")" "$(name "$zone/name")"
        done
        ;;
    hwmon)
        for power in "$root"/sys/class/hwmon/hwmon*/power*_input; do
            chip=${power%/*}
            label=$(name "${power%_input}_label")
            file=${power##*/}
            found "$power" "$power" "$(first "$chip/update_interval")" "$(name "$chip/name") ${label:-${file%_input}}"
        done
        ;;
    battery)
        charger=
        for supply in "$root"/sys/class/power_supply/*; do
            [ "$(first "$supply/type")" != Battery ] && [ "$(first "$supply/online")" = 1 ] && charger=+charger
        done
        for supply in "$root"/sys/class/power_supply/*; do
            [ "$(first "$supply/type")" = Battery ] || continue
            [ "$(first "$supply/scope")" = Device ] && continue # a mouse's
            found "$supply/current_now" "$supply" "$(first "$supply/status")$charger" "${supply##*/}"
        done
        ;;
    odpm)
        for meter in "$root"/sys/bus/iio/devices/iio:device*; do
            found "$meter/energy_value" "$meter/energy_value" - "$(name "$meter/name")"
        done
        ;;
    pmic)
        command -v vcgencmd > /dev/null || return 0
        state=unreadable
        case $(soon vcgencmd pmic_read_adc 2>/dev/null) in *current\(*) state=readable ;; esac
        echo "$state vcgencmd - vcgencmd"
        ;;
    esac
    return 0
}

now() { # the readings of KIND $1, PATHs behind it, to $text; no process is started where one can do without
    kind=$1 text=
    shift
    case $kind in
    rapl | hwmon) for path in "$@"; do word "$root$path"; text="$text $word"; done ;;
    battery) for path in current_now voltage_now status; do word "$root$1/$path"; text="$text $word"; done ;;
    odpm) for path in "$@"; do text="$text dev $(cat "$root$path" 2>/dev/null || echo -)"; done ;;
    pmic) text=$(vcgencmd pmic_read_adc 2>/dev/null || echo -) ;;
    esac
}

case $verb in
look)
    look "$3"
    ;;
rapl | hwmon | battery | odpm | pmic)
    period=$3
    shift 3
    while read -r stamp _ < /proc/uptime; do
        now "$verb" "$@"
        emit $stamp $text || exit 1 # nobody can read it any more
        sleep "$period" || exit 1
    done
    ;;
*)
    echo "meter.sh: unknown meter $verb" >&2
    exit 2
    ;;
esac
