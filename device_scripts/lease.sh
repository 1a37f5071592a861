#!/bin/sh
# One benchmark at a time on this device, whichever host it comes from. POSIX sh: mksh/toybox, dash, bash and busybox.
#
#   lease.sh acquire WORKDIR HOST TOKEN TERM yes|no LABEL   prints `mine`, or `held LABEL` of who has it
#                                                           yes: a lease of HOST is a dead process's, and is taken over
#   lease.sh renew WORKDIR HOST TOKEN TERM LABEL            prints `mine`, or `lost LABEL` of who has it now
#   lease.sh release WORKDIR TOKEN
#   lease.sh holder WORKDIR                                 prints `held LABEL`, or nothing
#
# WORKDIR/lease/N is a symbolic link whose text is the lease: `HOST TOKEN BOOT UNTIL LABEL`, or `free`. A link is made
# whole and only where there is none, by one system call, so:
#   - the highest N counts, and over N (free, expired, of an earlier boot, or damaged) only one can make N + 1;
#   - only its holder ever changes N: it is put in its place by renaming;
#   - a renewal is written before it is looked whether there is an N + 1, and an N + 1 is made before it is looked
#     whether N was renewed: of a holder that was believed dead and its heir at least one sees the other, and steps back.
# Whoever dies between any two steps leaves a lease that expires, or nothing. UNTIL is in seconds since this device's
# boot, sleep included: no two clocks are compared.

verb=$1
dir=$2/lease

now() {
    { read -r up _ < /proc/uptime; } 2>/dev/null || up=$(date +%s) # no /proc: a Mac
    echo "${up%%.*}"
}

boot() {
    { read -r id < /proc/sys/kernel/random/boot_id; } 2>/dev/null || id=unknown
    echo "$id"
}

highest() { # sets top to the number of the lease that counts, 0 where there is none
    top=0
    for path in "$dir"/*; do
        number=${path##*/}
        case $number in *[!0-9]* | 0* | ??????????*) continue ;; esac
        [ "$number" -gt "$top" ] && top=$number
    done
}

look() { # sets holder, holds, booted, until and label from lease $1
    holder= holds= booted= until= label=
    set -f
    set -- $(readlink "$dir/$1" 2>/dev/null)
    set +f
    [ $# -ge 4 ] || return
    holder=$1 holds=$2 booted=$3 until=$4
    shift 4
    label=$*
}

alive() { # is what was looked at in force; ten minutes are more than any harness asks for
    case $until in "" | 0?* | *[!0-9]* | ??????????*) return 1 ;; esac
    left=$((until - $(now)))
    [ "$booted" = "$(boot)" ] && [ $left -gt 0 ] && [ $left -le 600 ]
}

blocks() { # does what was looked at keep us from taking the device
    alive && { [ "$takeover" = no ] || [ "$holder" != "$host" ]; }
}

text() {
    echo "$host $token $(boot) $(($(now) + term)) $mine"
}

take() { # makes the lease after lease $1; fails when another was first
    next=$(($1 + 1)) tries=0
    until ln -sn "$(text)" "$dir/$next" 2>/dev/null; do
        [ -L "$dir/$next" ] && return 1
        tries=$((tries + 1)) # made and given up between the two looks, or this folder takes no files
        [ $tries -lt 3 ] || { ln -sn "$(text)" "$dir/$next" && return; exit 1; }
    done
    look "$1"
    highest
    if [ "$top" != $next ] || blocks; then
        rm -f "$dir/$next"
        return 1
    fi
    for path in "$dir"/*; do
        case ${path##*/} in *[!0-9]* | "" | ??????????*) continue ;; esac
        [ "${path##*/}" -lt $next ] && rm -f "$path"
    done
    return 0
}

put() { # replaces our lease $1 by text $2
    rm -f "$dir/.$token"
    ln -sn "$2" "$dir/.$token" && mv -f "$dir/.$token" "$dir/$1"
}

case $verb in
acquire)
    host=$3 token=$4 term=$5 takeover=$6 mine=$7
    [ -L "$dir" ] && rm -f "$dir" # a folder of ours is never a link to elsewhere
    mkdir -p "$dir" || exit 1
    highest
    look "$top"
    if { [ "$holds" = "$token" ] && alive; } || { ! blocks && take "$top"; }; then # asked twice, the answer is the same
        echo mine
    else
        highest
        look "$top"
        echo "held $label"
    fi
    ;;
renew)
    host=$3 token=$4 term=$5 takeover=no mine=$6
    highest
    look "$top"
    if [ "$holds" = "$token" ]; then
        if alive; then
            ours=$top
            put "$ours" "$(text)" || exit 1
            highest
            [ "$top" = "$ours" ] && echo mine && exit
        else # late, and nobody came: as any other would take it
            take "$top" && echo mine && exit
            highest
        fi
        look "$top"
    fi
    echo "lost $label"
    ;;
release)
    token=$3
    highest
    look "$top"
    [ "$holds" != "$token" ] || put "$top" free
    ;;
holder)
    highest
    look "$top"
    alive && echo "held $label"
    exit 0
    ;;
*)
    echo "lease.sh: unknown verb $verb" >&2
    exit 2
    ;;
esac
