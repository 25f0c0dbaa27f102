# The uplink's filter beside somebody else's XDP program, through libxdp's dispatcher: it needs a kernel that has BTF of its
# own and lets programs replace functions, as Debian's does.
. tests/lab/lib.sh
[ -e /sys/kernel/btf/vmlinux ] || { echo '1..0 # SKIP this kernel was built without BTF'; exit 0; }
succeeds 'another program stays and sees what passes; one filter follows another' \
    env UPLINK_DISPATCHER=1 "$HAWSER_BUILD/tests/bpf/bpf_uplink_filter" -p /uplink/it_coexists_on_a_link_and_goes_alone
done_lab
