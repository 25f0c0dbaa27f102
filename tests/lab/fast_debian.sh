# The fast path's programs under Debian's own kernel, which has no tcx (they are attached by clsact): as under others.
. tests/lab/lib.sh
suite() { timeout 300 "$HAWSER_BUILD/tests/bpf/bpf_$1"; } # under an emulator
succeeds 'each verdict is that of the engine over memory' suite fastpath_engines
succeeds 'permits, adoption, another layout, what the kernel lacks' suite fastpath_lasting
done_lab
