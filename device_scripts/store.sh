#!/bin/sh
# The content-addressed store of our folder on a device. POSIX sh: mksh/toybox, dash, bash and busybox alike.
#
#   store.sh hash FILE...                   as sha256sum, of those that are there; marks them as used just now
#   store.sh receive PARTIAL TARGET SHA256  puts a pushed file in its place if it is right: ok | damaged | missing
#   store.sh unpack PARCEL FOLDER           unpacks a pushed .tar.gz into FOLDER: ok | the reason
#   store.sh room DIR NEED BUDGET KEEP...   makes room (KiB), the least recently used first, never KEEP;
#                                           prints `removed NAME` lines, then `free KIB` (KIB empty where unknown)
#   store.sh sweep DIR                      removes what a dead host left half-way
#
# A hash is asked for before each use, so a file that lost its end to a power cut is replaced, and no sync is needed.

verb=$1
shift

sum() { # the hash of file $1
    { read -r digest _; } << EOF
$(sha256sum "$1" 2>/dev/null)
EOF
    echo "$digest"
}

free() { # KiB that are free at $1
    df -kP "$1" 2>/dev/null | tail -n 1 | { read -r _ _ _ kib _; case $kib in *[!0-9]*) ;; *) echo "$kib" ;; esac; }
}

used() { # KiB that the store and the bundles take
    total=0
    for part in "$1/store" "$1/bundles"; do
        read -r kib _ << EOF
$(du -sk "$part" 2>/dev/null)
EOF
        total=$((total + ${kib:-0}))
    done
    echo "$total"
}

case $verb in
hash)
    touch -c "$@" 2>/dev/null
    sha256sum "$@" 2>/dev/null
    exit 0
    ;;
receive)
    if [ -f "$1" ]; then
        [ "$(sum "$1")" = "$3" ] || { rm -f "$1"; echo damaged; exit 0; }
        # who was asked twice may be two: the other one's move is as good
        mv -f "$1" "$2" 2>/dev/null || [ "$(sum "$2")" = "$3" ] || { echo "cannot write $2" >&2; exit 1; }
        echo ok
    elif [ "$(sum "$2")" = "$3" ]; then # asked twice: the answer to the first time was lost
        echo ok
    else
        echo missing
    fi
    ;;
unpack)
    mkdir -p "$2" && tar -xzf "$1" -C "$2" 2>&1 && echo ok
    ;;
room)
    dir=$1 need=$2 budget=$3
    shift 3
    mkdir -p "$dir/store" "$dir/bundles" "$dir/runs" || exit 1
    keep=" $* "
    ls -1trd "$dir"/store/* "$dir"/bundles/* 2>/dev/null | while read -r path; do
        kib=$(free "$dir")
        [ "${kib:-$need}" -ge "$need" ] && [ $(($(used "$dir") + need)) -le "$budget" ] && break
        name=${path##*/}
        case ${name%%.*} in *[!0-9a-f]* | "") continue ;; esac
        case $keep in *" $name "*) continue ;; esac
        rm -rf "$path" && echo "removed $name"
    done
    echo "free $(free "$dir")"
    ;;
sweep)
    rm -rf "$1"/store/.tmp-* "$1"/bundles/*/.tmp-* "$1"/bundles/*/*/.tmp-*
    ;;
*)
    echo "store.sh: unknown verb $verb" >&2
    exit 2
    ;;
esac
