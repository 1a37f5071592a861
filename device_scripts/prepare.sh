#!/bin/sh
# What makes a device fit for measuring, and its undoing. POSIX sh: mksh/toybox, dash, bash and busybox alike.
#
#   prepare.sh begin WORKDIR ROOT yes|no KEY=VALUE...   prints `set KEY VALUE` or `not KEY REASON` for each;
#                                                       yes: su may be used
#   prepare.sh undo WORKDIR ROOT                        prints `undone KEY VALUE`, `left KEY VALUE` (it is neither ours
#                                                       nor the old one: the user's), `failed KEY REASON` (it is tried
#                                                       again the next time) or `ignored KEY` (it makes no sense)
#
# KEY: screen, stay_awake, brightness, brightness_mode, airplane, performance_mode, battery_saver, doze (Android), and
# `governor`, which becomes governor.policyN or, where the kernel has no such governor, clock.policyN (the lowest clock
# is raised to the highest). VALUE is a number, 1 on and 0 off; of a governor its name.
# ROOT goes before every /sys path.
#
# WORKDIR/journal/KEY is a symbolic link whose text is the entry: `OLD NEW VIA ROOT`. It is made by one system call, and
# only where there is none: an old value is never lost, however often this is asked. All entries are on the disk before
# the first change; one is removed when its change is undone. Nothing read there is more than a number or a word, and
# no path comes from there. Asking twice is harmless.

trap '' HUP PIPE # a link that is cut does not end this half-way

verb=$1
journal=$2/journal
root=${3%/}
shift 3

if command -v timeout > /dev/null 2>&1; then
    soon() { timeout 2 "$@" 2>/dev/null; } # a service may hang
else
    soon() { "$@" 2>/dev/null; }
fi

started() { # the start time of process $1, in clock ticks since boot; nothing when it is not there or a zombie
    { read -r line < "/proc/$1/stat"; } 2>/dev/null || return
    set -f
    set -- ${line##*) }
    set +f
    [ "$1" = Z ] || [ $# -lt 20 ] && return
    shift 19
    echo "$1"
}

number() { # is it one
    case $1 in "" | *[!0-9]* | ???????????*) return 1 ;; esac
}

word() {
    case $1 in "" | *[!A-Za-z0-9_-]* | -*) return 1 ;; esac
    [ ${#1} -le 32 ]
}

policy() { # is $1 the name of a cpufreq policy
    case $1 in policy*) number "${1#policy}" ;; *) return 1 ;; esac
}

valid() { # may $1 be, or have been, $2
    case $1 in
    screen | doze | performance_mode | battery_saver | airplane) [ "$2" = 0 ] || [ "$2" = 1 ] ;;
    brightness | brightness_mode | stay_awake) [ "$2" = null ] || number "$2" ;;
    governor.*) policy "${1#governor.}" && word "$2" ;;
    clock.*) policy "${1#clock.}" && number "$2" ;;
    *) return 1 ;;
    esac
}

file() { # of governor.policyN or clock.policyN
    case $1 in governor.*) leaf=scaling_governor ;; *) leaf=scaling_min_freq ;; esac
    echo "$root/sys/devices/system/cpu/cpufreq/${1#*.}/$leaf"
}

named() { # where Android keeps $1
    case $1 in
    brightness) echo system screen_brightness ;;
    brightness_mode) echo system screen_brightness_mode ;;
    stay_awake) echo global stay_on_while_plugged_in ;;
    battery_saver) echo global low_power ;;
    airplane) echo global airplane_mode_on ;;
    esac
}

get() { # the value of $1 now; nothing where it cannot be read; `unreadable` where Android itself cannot tell
    case $1 in
    *.policy*) cat "$(file "$1")" 2>/dev/null ;;
    screen)
        case $(soon dumpsys power | sed -n 's/.*mWakefulness=\([A-Za-z]*\).*/\1/p' | head -n 1) in
        Awake) echo 1 ;;
        Asleep | Dozing | Dreaming) echo 0 ;;
        esac
        ;;
    doze) soon dumpsys deviceidle enabled | head -n 1 ;;
    performance_mode) command -v cmd > /dev/null 2>&1 && echo unreadable ;;
    *)
        value=$(soon settings get $(named "$1") | head -n 1)
        case $1-$value in airplane-null | battery_saver-null) value=0 ;; esac
        echo "$value"
        ;;
    esac
}

on_off() { # the words $2 for 1 and $3 for 0
    if [ "$1" = 1 ]; then echo "$2"; else echo "$3"; fi
}

said_no() { # does a command that always ends well say that it did not work
    case $1 in *[Ff]ail* | *[Uu]nknown* | *[Ee]rror* | *xception* | *"Can't find"*) return 0 ;; *) return 1 ;; esac
}

put() { # sets $1 to $2 by way of $3
    case $1 in
    *.policy*) write "$2" "$(file "$1")" "$3" ;;
    screen) soon input keyevent $((223 + $2)) ;; # SLEEP, WAKEUP: neither toggles
    airplane) soon cmd connectivity airplane-mode "$(on_off "$2" enable disable)" ;;
    doze) soon dumpsys deviceidle "$(on_off "$2" enable disable)" ;;
    performance_mode)
        answer=$(soon cmd power set-fixed-performance-mode-enabled "$(on_off "$2" true false)") || return
        ! said_no "$answer"
        ;;
    *) if [ "$2" = null ]; then soon settings delete $(named "$1"); else soon settings put $(named "$1") "$2"; fi ;;
    esac > /dev/null 2>&1
}

write() { # $1 to file $2 by way of $3
    case $3 in
    direct) echo "$1" > "$2" ;;
    sudo) echo "$1" | soon sudo -n tee "$2" ;;
    su) soon su -c "echo $1 > '$2'" || soon su 0 sh -c "echo $1 > '$2'" ;; # Magisk's, and that of a debug build
    esac
}

way() { # how $1 can be set: direct, sudo or su; nothing where it cannot
    case $1 in *.policy*) ;; *) echo direct && return ;; esac
    if [ -w "$(file "$1")" ]; then
        echo direct
    elif [ "$su" = yes ]; then
        case $root in *\'*) ;; *) { soon su -c true || soon su 0 true; } > /dev/null 2>&1 && echo su ;; esac
    elif soon sudo -n true > /dev/null 2>&1; then
        echo sudo
    fi
}

reads() { # does $1 read $2, if need be in a moment
    for try in 1 2 3 4 5 6; do
        now=$(get "$1")
        case $now in "$2" | unreadable) return 0 ;; esac
        case $1 in *.policy*) return 1 ;; esac # the kernel does it at once or not at all
        sleep 0.2
    done
    return 1
}

entry() { # sets old, new, via and place from the entry of $1; fails where it makes no sense
    [ -L "$journal/$1" ] || return
    text=$(readlink "$journal/$1")
    set -f
    set -- "$1" $text
    set +f
    [ $# -ge 5 ] || return
    old=$2 new=$3 via=$4
    place=${text#"$2 $3 $4 "}
    valid "$1" "$old" && valid "$1" "$new" || return
    # what would cut a link when it is undone is never made, and not believed either
    [ "$1" != airplane ] || [ "$old$new" = 01 ] || return
    case $via in direct | sudo | su) ;; *) return 1 ;; esac
}

policies() { # what governor=$1 means here, a line for each policy
    for folder in "$root"/sys/devices/system/cpu/cpufreq/policy*; do
        name=${folder##*/}
        policy "$name" && [ -e "$folder/scaling_governor" ] || continue
        offered=$(cat "$folder/scaling_available_governors" 2>/dev/null)
        case "$1 $offered " in
        *" $1 "* | "$1  ") echo "governor.$name=$1" ;;
        "performance "*) echo "clock.$name=$(cat "$folder/scaling_max_freq" 2>/dev/null)" ;;
        *) echo "governor.$name=" ;;
        esac
    done
}

note() { # writes down $1=$2 before it is made so; adds it to todo
    key=$1 want=$2
    valid "$key" "$want" || { echo "not $key no such value here"; return; }
    now=$(get "$key")
    was=$now
    [ "$now" = unreadable ] && was=0
    valid "$key" "$was" || { echo "not $key it cannot be read"; return; }
    if [ "$now" = "$want" ]; then
        echo "set $key $want"
        return
    fi
    how=$(way "$key")
    [ -n "$how" ] || { echo "not $key this login may not set it"; return; }
    if ! ln -sn "$was $want $how $root/" "$journal/$key" 2>/dev/null; then
        entry "$key" && [ "$new" = "$want" ] && [ "$place" = "$root/" ] ||
            { echo "not $key an earlier change is not undone, or $journal takes no entries"; return; }
        how=$via
    fi
    todo="$todo $key=$want=$how"
}

change() { # makes $1 so: KEY=VALUE=VIA
    key=${1%%=*} how=${1##*=}
    want=${1#*=}
    want=${want%=*}
    [ -L "$journal/$key" ] && [ ! -e "$journal/.stop" ] || return # undone already: the host has given up
    put "$key" "$want" "$how"
    code=$?
    if reads "$key" "$want" && { [ "$now" != unreadable ] || [ $code = 0 ]; }; then
        echo "set $key $want"
        return
    fi
    stayed=$now
    [ "$now" = unreadable ] && stayed="as it was: this device does not offer it"
    undo "$key" > /dev/null
    echo "not $key it stayed $stayed"
}

undo() { # puts back $1
    [ -L "$journal/$1" ] || { [ ! -f "$journal/$1" ] || { rm -f "$journal/$1" && echo "ignored $1"; }; return; }
    if ! entry "$1"; then
        rm -f "$journal/$1"
        case $1 in *[!a-z_]* | "") set -- something ;; esac
        echo "ignored $1"
        return
    fi
    case $1 in *.policy*) [ "$place" = "$root/" ] || { echo "failed $1 it belongs to sysroot $place"; return; } ;; esac
    now=$(get "$1")
    case $now in
    "$old") ;;
    "") echo "failed $1 it cannot be read"; return ;;
    "$new" | unreadable)
        put "$1" "$old" "$via"
        code=$? # of what cannot be read: refused means that it was never set, and 124 that nobody answered
        reads "$1" "$old" && { [ "$now" != unreadable ] || [ $code != 124 ]; } || { echo "failed $1 it stayed $now"; return; }
        echo "undone $1 $old"
        ;;
    *) echo "left $1 $now" ;;
    esac
    rm -f "$journal/$1"
}

alone() { # one at a time: waits for another one here, of a host that died, was interrupted or asks twice
    touch "$journal/.stop" 2>/dev/null # no change takes longer than its timeout; then `begin` looks for .stop
    tries=0
    while { read -r pid ticks < "$journal/.busy"; } 2>/dev/null && number "$pid" && [ -n "$ticks" ] &&
        [ "$pid" != $$ ] && [ "$(started "$pid")" = "$ticks" ]; do
        tries=$((tries + 1))
        [ $tries -gt 30 ] && { kill -9 "$pid"; break; }
        sleep 0.1
    done
    { echo "$$ $(started $$)" > "$journal/.busy"; } 2>/dev/null # a full disk keeps nobody from putting things back
    rm -f "$journal/.stop"
}

[ -L "$journal" ] && rm -f "$journal" # a folder of ours is never a link to elsewhere

case $verb in
begin)
    su=$1
    shift
    mkdir -p "$journal" || exit 1
    alone
    todo=
    for asked in "$@"; do
        case $asked in
        governor=*)
            found=$(policies "${asked#governor=}")
            [ -n "$found" ] || echo "not governor this device shows no cpufreq"
            for one in $found; do note "${one%%=*}" "${one#*=}"; done
            ;;
        *) note "${asked%%=*}" "${asked#*=}" ;;
        esac
    done
    # this folder alone where sync knows how, else all of the disk
    [ -z "$todo" ] || sync "$journal" 2>/dev/null || sync
    for one in $todo; do change "$one"; done
    rm -f "$journal/.busy"
    ;;
undo)
    [ -d "$journal" ] || exit 0
    alone
    for path in "$journal"/*; do
        key=${path##*/}
        case $key in
        brightness | brightness_mode) ;;
        "*") [ -L "$path" ] && rm -f "$path" ;;
        *) undo "$key" & ;; # together: it shall not take long, and none waits for one that hangs
        esac
    done
    undo brightness # while it is still ours to set: an automatic one would learn from it
    undo brightness_mode
    wait
    rm -f "$journal/.busy"
    ;;
*)
    echo "prepare.sh: unknown verb $verb" >&2
    exit 2
    ;;
esac
