# Pages that a guest of KVM writes, tracked and streamed: KVM of the emulated CPU (-cpu max has SVM), which the machine
# itself need not have.
[ -c /dev/kvm ] || { echo "1..0 # SKIP the lab's kernel offers no /dev/kvm: KVM of AMD is to be built in"; exit 0; }
export ASAN_OPTIONS="detect_leaks=0:${ASAN_OPTIONS:-}"
exec timeout 300 "$HAWSER_BUILD/tests/lab/pages_kvm" --tap
