# Core scheduling: on a kernel and a processor that have it, all virtual CPUs of a machine share one cookie, those of
# another have another, and nothing else of the host has either. LAB_SMP gives the lab two threads a core.
. tests/lab/lib.sh
. tests/lab/agent.sh
# cookies THREAD…: a line for each
cookies() {
    python3 -S -c 'import ctypes, sys
c = ctypes.c_ulong()
for thread in sys.argv[1:]:
    ctypes.CDLL(None).prctl(62, 0, int(thread), 0, ctypes.byref(c))
    print(c.value)' "$@"
}
vm() {
    lab_kernel
    must hawser init --empty --vm "$1" -c security.secureboot=false -c security.csm=true -c limits.memory=64MiB \
        -c limits.cpu=2 -c raw.qemu="-kernel $vnetguest"
    succeeds "$1 starts" hawser start "$1"
}
# of_cpus MACHINE: the threads of its virtual CPUs
of_cpus() {
    grep -l '^CPU ' /proc/"$(cat "$HAWSER_DIR/run/$1/qemu.pid")"/task/*/comm | cut -d/ -f5
}
is "the lab has two threads a core" 1 "$(cat /sys/devices/system/cpu/smt/active)"
agent_start
vm c1
vm c2
one=$(of_cpus c1)
two=$(of_cpus c2)
# shellcheck disable=SC2086
mapfile -t got < <(cookies $one $two $$ "$agent")
is "each has two virtual CPUs" "2 2" "$(wc -w <<<"$one") $(wc -w <<<"$two")"
is "those of one machine share a cookie" "${got[0]}" "${got[1]}"
[ "${got[0]}" != 0 ] && ok "which is one" || nok "there is none: $(cat "$HAWSER_DIR"/logs/c1/qemu.log)"
is "those of another share one, too" "${got[2]}" "${got[3]}"
[ "${got[2]}" != 0 ] && [ "${got[0]}" != "${got[2]}" ] && ok "which is another" || nok "${got[*]}"
is "nobody else has one" "0 0" "${got[4]} ${got[5]}"
must hawser stop -f c1
must hawser stop -f c2
agent_end
done_lab
