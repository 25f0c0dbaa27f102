#!/bin/bash
# pages_rounds: 600 rounds of tracking while six threads of a guest read its disk past every cache (cache=none,
# aio=native): what lands by DMA on pages that are being armed must not be lost, and the guest itself checks it.
# (`tests/guest/rounds.py … 600 running` arms without stopping the guest, and loses some.)
set -u
here=$(cd "$(dirname "$0")/../.." && pwd)
build=${HAWSER_BUILD:-$here/build}
skip() { echo "1..0 # SKIP $*"; exit 0; }
command -v qemu-system-x86_64 >/dev/null || skip "no qemu-system-x86: apt-get install qemu-system-x86"
[ "$(id -u)" = 0 ] || skip "needs root"
"$here/tests/guest/build" "$build/guest" >&2 || skip "no kernel for a test guest"
probe=$(mktemp -p "$build/guest")
if ! dd if=/dev/zero of="$probe" bs=4096 count=1 oflag=direct 2>/dev/null; then
    rm -f "$probe"
    skip "no direct I/O on $build"
fi
rm -f "$probe"
echo 1..1
if answer=$(timeout 280 python3 "$here/tests/guest/rounds.py" "$build/dataplane/pages/hawser-pages" "$build/guest" 600) &&
    grep -Eq '^bad=0 reads=[0-9]{3,} rounds=60[0-9]$' <<<"$answer"; then
    echo "ok 1 - 600 rounds under direct reads lose no page # $answer"
else
    echo "not ok 1 - 600 rounds under direct reads lose no page: $answer"
fi
