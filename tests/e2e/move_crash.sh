#!/bin/bash
# move_crash: kill -9 of either agent at each numbered point of a copy between servers: after the restart
# nothing is half-made on either, and the copy works.
. "$(dirname "$0")/lib.sh"
e2e_begin
need rsync
B=127.0.0.1:18444
daemon_start
e2e_defaults
must lxc storage create fast btrfs size=300MiB
must lxc config set core.https_address 127.0.0.1:18443
daemon_start second
must lxc storage create default dir
must lxc storage create fast btrfs size=300MiB
must lxc profile device add default root disk path=/ pool=default
must lxc config set core.https_address $B
token=$(lxc config trust add --name main -q 2>/dev/null | tail -n 1)
daemon_use main
must lxc remote add second "$token" --accept-certificate
for pool in default fast; do
    must lxc init busybox w$pool -s $pool
    must lxc snapshot w$pool s1
done

on() { # agent: what follows is asked of it
    local name=$1; shift
    LXD_DIR=$E2E_DIR/$name HAWSER_DIR=$E2E_DIR/$name "$@"
}
names() { ls -A "$1" 2>/dev/null | sort; }
# What must agree on an agent. Prints what does not.
world() {
    local agent=$1 dir=$E2E_DIR/$1 wrong=0 rows each
    agree() { [ "$2" = "$3" ] || { echo "$1: '${2//$'\n'/ }' against '${3//$'\n'/ }'"; wrong=1; }; }
    rows=$(on "$agent" lxc list local: -f csv -c n | sort)
    agree 'instances and their links' "$rows" "$(names "$dir/containers" | grep -v '^lxc-monitord')"
    agree 'instances and their volumes' "$rows" \
        "$(for each in default fast; do names "$dir/storage-pools/$each/containers"; done | sort)"
    agree 'instances and volume rows' "$rows" \
        "$(for each in default fast; do on "$agent" lxc storage volume list "local:$each" -f csv -c tn | sed -n 's/^container,\([^/]*\)$/\1/p'; done | sort)"
    agree 'snapshots and their volumes' \
        "$(on "$agent" lxc query 'local:/1.0/instances?recursion=2' | jq -r '.[] | .name as $n | (.snapshots // [])[] | $n + "/" + (.name | sub(".*/"; ""))' | sort)" \
        "$(for each in default fast; do (cd "$dir/storage-pools/$each/containers-snapshots" 2>/dev/null && ls -d -- */* 2>/dev/null); done | sort)"
    agree 'nothing under construction' '' "$(for each in default fast; do names "$dir/storage-pools/$each/.new"; done)"
    agree 'mounts' '' "$(awk '{print $5}' /proc/self/mountinfo | grep "^$dir/storage-pools/[^/]*/." )"
    return $wrong
}
alive() { kill -0 "${e2e_pid[$1]}" 2>/dev/null && on "$1" api_code GET /1.0 2>/dev/null | grep -q 200; }
again() { # the copy may have ended before the crash was noticed
    quiet lxc delete -f "second:w$1"
    lxc copy "w$1" "second:w$1" -s "$1" && lxc query "second:/1.0/instances/w$1/snapshots" | jq -e 'length == 1'
}

for pool in default fast; do
    for victim in second main; do
        for ((n = 1; n <= 30; n++)); do
            daemon_kill $victim
            DAEMON_ENV="HAWSER_CRASH=migrate:$n" daemon_start $victim
            daemon_use main
            quiet timeout -k 2 40 lxc copy w$pool second:w$pool -s $pool
            if alive $victim; then
                same "'$victim' has $((n - 1)) crash points in a copy on $pool, and works without a crash" 0 echo $e2e_status
                claim 'the target agrees' world second
                must lxc delete -f second:w$pool
                daemon_kill $victim
                daemon_start $victim
                daemon_use main
                break
            fi
            daemon_kill $victim
            daemon_start $victim
            daemon_use main
            for agent in main second; do
                claim "$pool: '$victim' killed at $n: '$agent' agrees" wait_for 20 world $agent
            done
            claim "$pool: '$victim' killed at $n: the copy works" again $pool
            claim "$pool: '$victim' killed at $n: the target agrees still" wait_for 10 world second
            must lxc delete -f second:w$pool
        done
        [ $n -gt 1 ] || skip "'$victim' on $pool" 'it has no crash points'
    done
done
e2e_end
