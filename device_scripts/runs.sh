#!/bin/sh
# One detached process on the device, known by its folder. POSIX sh: mksh/toybox, dash, bash and busybox alike.
#
#   runs.sh start DIR LIMIT ARGV...   starts ARGV detached; its output goes to DIR/result.jsonl and DIR/stderr, its
#                                     notes (standard input) to DIR/notes.json; after LIMIT seconds it is killed
#   runs.sh poll DIR                  prints: waiting | running | exit N | oom | deadline | rebooted | lost
#   runs.sh end DIR                   makes sure that nothing of DIR runs or will ever run; prints what poll would
#
# Asking twice is harmless. The heartbeat is DIR/result.jsonl: the runner flushes a line per block.
#
# DIR/claim decides, by one atomic mkdir, whether the process may begin: `end` takes it too, so that a start which
# a dying host left half-way can never come to life after another host has cleaned up.
# DIR/pid holds: process group leader, its start time (field 22 of /proc/PID/stat), boot id.

self=$0
verb=$1
dir=$2
shift 2

started() { # the start time of process $1, in clock ticks since boot; nothing when it is not there or a zombie
    { read -r line < "/proc/$1/stat"; } 2>/dev/null || return
    line=${line##*) }
    set -- $line
    [ "$1" = Z ] && return # ended, and nobody has asked for its exit code yet
    shift 19
    echo "$1"
}

boot() {
    read -r id < /proc/sys/kernel/random/boot_id 2>/dev/null && echo "$id"
}

ended() {
    for why in deadline oom; do
        [ -f "$dir/$why" ] && { echo $why; return; }
    done
    read -r code < "$dir/exit"
    echo "exit $code"
}

oom_kills() { # how often this kernel has run out of memory
    while read -r name count; do [ "$name" = oom_kill ] && echo "$count"; done < /proc/vmstat 2>/dev/null
}

state() {
    [ -d "$dir" ] || { echo lost; return; }
    [ -f "$dir/exit" ] && { ended; return; }
    [ -d "$dir/claim" ] || { echo waiting; return; }
    [ -f "$dir/pid" ] || { echo waiting; return; }
    read -r pid ticks bootid < "$dir/pid"
    if [ "$bootid" != "$(boot)" ]; then
        echo rebooted
    elif [ "$(started "$pid")" = "$ticks" ]; then
        echo running
    elif [ -f "$dir/exit" ]; then # it ended between the two looks
        ended
    else
        echo lost
    fi
}

case $verb in
start)
    mkdir -p "$dir/out" && cat > "$dir/notes.tmp" && mv "$dir/notes.tmp" "$dir/notes.json" || exit 1
    setsid sh "$self" inside "$dir" "$@" < /dev/null > /dev/null 2>&1 &
    ;;
inside)
    limit=$1
    shift
    cd "$dir" || exit 3
    mkdir claim 2>/dev/null || exit 0
    # what nobody could end must not begin: on a full disk the pid cannot be written
    { echo "$$ $(started $$) $(boot)" > pid.tmp && mv pid.tmp pid; } 2>/dev/null || exit 3
    before=$(oom_kills)
    "$@" > result.jsonl 2> stderr &
    runner=$!
    # the host ends a hung runner; this is for a host that never comes back
    { sleep "$limit" && { touch deadline; kill -9 $runner; }; } &
    wait $runner
    code=$?
    [ $code = 137 ] && [ ! -f deadline ] && [ "$(oom_kills)" != "$before" ] && touch oom
    echo $code > exit.tmp && mv exit.tmp exit
    kill -9 0 # the watchdog and its sleep, which are all that is left of this process group, and this shell
    ;;
poll)
    state
    ;;
end)
    if ! mkdir "$dir/claim" 2>/dev/null && [ -d "$dir/claim" ]; then
        tries=0 # the claim was taken: its pid follows at once
        while [ ! -f "$dir/pid" ] && [ $tries -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done
        tries=0
        [ "$(state)" = running ] && read -r pid ticks bootid < "$dir/pid" && while [ $tries -lt 100 ]; do
            # the whole group: the leader waits for the runner and must not outlive or precede it
            kill -9 "-$pid" 2>/dev/null || break # no process of the group is left
            sleep 0.05
            tries=$((tries + 1))
        done
    fi
    state
    ;;
*)
    echo "runs.sh: unknown verb $verb" >&2
    exit 2
    ;;
esac
