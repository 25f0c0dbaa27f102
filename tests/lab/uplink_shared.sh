# The uplink's filter beside somebody else's XDP program, through libxdp's dispatcher: it needs a kernel that has BTF of its
# own and lets programs replace functions, as the one that hw/lab/build makes.
. tests/lab/lib.sh
[ -e /sys/kernel/btf/vmlinux ] || { echo '1..0 # SKIP this kernel was built without BTF'; exit 0; }
mount -t tmpfs none /run # libxdp keeps a lock there
succeeds 'another program stays, sees what passes, and no more; one filter follows another' \
    env UPLINK_DISPATCHER=1 "$HAWSER_BUILD/tests/bpf/bpf_uplink_filter" -p /uplink/it_coexists_on_a_link_and_goes_alone
done_lab
