#!/bin/bash
# debs: the packages build, have what they need, install in a bare Debian 12, and what they install starts there.
# The release build beside this one is packaged when it is up to date; HAWSER_DEBS_BUILD=1 (the suite debs_long)
# compiles them as dpkg-buildpackage does. HAWSER_DEBS_KEEP=DIR puts the packages there, HAWSER_DEBS=DIR takes those
# that are there.
. "$(dirname "$0")/lib.sh"
need_root
need dpkg-buildpackage dh mmdebstrap meson
source=$(cd "$E2E_LIB/../.." && pwd)
E2E_DIR=$(mktemp -d "${TMPDIR:-/tmp}/hawser-e2e-debs-XXXXXX")
: >"$E2E_DIR/log"
root=$E2E_DIR/root
finish() {
    local mounted
    for mounted in $(awk -v d="$E2E_DIR/" 'index($5, d) == 1 {print $5}' /proc/self/mountinfo | sort -r); do
        umount -l "$mounted"
    done
    rm -rf --one-file-system "$E2E_DIR"
}
trap finish EXIT
# Without a network there is nothing to install from: apt's own sources are asked, for a minute at most.
sources=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
    awk '$2 ~ /^bookworm/ && $3 == "main" {print "deb " $1 " " $2 " main"}' | sort -u)
[ -n "$sources" ] || e2e_skip_all "apt's sources have no Debian 12 (bookworm)"
cd "$E2E_DIR" || exit 1
timeout 60 apt-get -q download dnsmasq-base >>"$E2E_DIR/log" 2>&1 || e2e_skip_all "the Debian archive can't be reached"

# ---- building ----
listed() { sed 's/#.*//' "$source/docs/packages/build" | grep -vx 'gcc\|libc6-dev\|' | sort; }
asked() { sed -n '/^Build-Depends/,/^$/p' "$source/debian/control" | sed '1d; s/^ //; s/,$//' | grep . | sort; }
same 'debian/control asks for what docs/packages/build lists' "$(listed)" asked
mkdir "$E2E_DIR/source" "$E2E_DIR/debs"
git -C "$source" ls-files -z --cached --others --exclude-standard 2>/dev/null >"$E2E_DIR/files"
if [ -s "$E2E_DIR/files" ]; then
    tar -C "$source" --null --ignore-failed-read -T "$E2E_DIR/files" -cf - 2>>"$E2E_DIR/log" | tar -C "$E2E_DIR/source" -xf -
else
    tar -C "$source" --exclude './build*' --exclude .git -cf - . | tar -C "$E2E_DIR/source" -xf -
fi
# ./check has just made this one, for the place where packages put things.
release=$source/build-release
ready() {
    meson introspect --buildoptions "$release" 2>/dev/null | grep -q '"name": "prefix", "value": "/usr"' &&
        ninja -C "$release" -n 2>/dev/null | grep -q 'no work to do'
}
deb_options="parallel=$(nproc) nocheck noddebs"
if [ -z "${HAWSER_DEBS_BUILD:-}" ]; then
    deb_options+=' noopt' # what is built and where it goes is the same
    ! ready || export HAWSER_BUILT=$release
fi
build() { cd "$E2E_DIR/source" && DEB_BUILD_OPTIONS=$deb_options timeout 1500 dpkg-buildpackage -b -uc -us; }
if [ -n "${HAWSER_DEBS:-}" ]; then
    cp "$HAWSER_DEBS"/*.deb "$E2E_DIR/"
else
    claim 'the packages build' build
    [ "$e2e_status" = 0 ] || e2e_bail "without packages nothing else can be claimed"
fi
mv "$E2E_DIR"/*.deb "$E2E_DIR/debs/"
rm -rf "$E2E_DIR/source" "$E2E_DIR"/debs/dnsmasq-base*
[ -z "${HAWSER_DEBS_KEEP:-}" ] || cp "$E2E_DIR"/debs/*.deb "$HAWSER_DEBS_KEEP/"
packages() { (cd "$E2E_DIR/debs" && printf '%s\n' *.deb | sed 's/_.*//' | sort | tr '\n' ' '); }
same 'these' 'hawser hawser-bench hawser-client hawser-dpd hawser-dpdk ' packages
depends() { dpkg-deb -f "$E2E_DIR"/debs/hawser_*.deb Depends; }
shows 'the agent depends on what it runs' 'dnsmasq-base.*nftables.*libarchive13' depends
shows 'and on the libraries that it is linked with' 'libmicrohttpd12.*' depends

# ---- installing ----
options=()
while IFS= read -r line; do
    deb_options+=("--aptopt=$line")
done < <(apt-config dump 2>/dev/null | grep -E '^Acquire::(http|https)(::|\b).* "[^"]+";$' | sed 's/;$//')
install() {
    local each=() deb
    for deb in "$E2E_DIR"/debs/*.deb; do
        [[ $deb == */hawser-dpdk_* ]] || each+=("--include=$deb") # all of DPDK's drivers: minutes
    done
    echo "$sources" | timeout 420 nice -n 5 mmdebstrap --quiet --variant=minbase --format=directory --dpkgopt=force-unsafe-io "${options[@]}" \
        --hook-dir=/usr/share/mmdebstrap/hooks/file-mirror-automount \
        --include=systemd,iproute2 "${each[@]}" bookworm "$root" -
}
claim 'they install in a bare Debian 12 with nothing but what they ask for' install
[ "$e2e_status" = 0 ] || e2e_bail "nothing was installed"

# ---- starting ----
inside() { timeout 60 chroot "$root" "$@"; }
shows 'the group is made' '^hawser:' inside getent group hawser
claim 'so is the state directory' test -d "$root/var/lib/hawser"
for unit in hawserd.service hawserd.socket hawser-instances.service hawser-dpd.service hawser-hw-prepare.service; do
    claim "$unit is enabled" sh -c "find '$root/etc/systemd/system' -name $unit | grep -q ."
done
# shellcheck disable=SC2016 # the shell inside expands it
verify() { inside sh -c 'cd / && systemd-analyze verify --man=no --recursive-errors=no /lib/systemd/system/hawser*.service 2>&1 | grep hawser'; true; }
same 'systemd finds nothing to say' '' verify
for page in man1/hawser.1 man8/hawserd.8 man8/hawser-dpd.8 man1/hawser-bench.1; do
    claim "the manual has $page" test -s "$root/usr/share/man/$page.gz"
done
for file in bash-completion/completions/hawser.bash zsh/site-functions/_hawser fish/vendor_completions.d/hawser.fish; do
    claim "completion: $file" test -s "$root/usr/share/$file"
done
shows 'hawser-bench runs' 'hawser-bench compare' inside hawser-bench --help
cat >"$root/start" <<'END'
#!/bin/sh
# In namespaces of its own, as a unit would: the agent answers, makes a pool, and ends.
mount -t proc proc /proc && mount -t sysfs sysfs /sys && ip link set lo up
hawserd --dir /var/lib/hawser --group hawser >/var/log/hawserd.log 2>&1 &
pid=$!
hawser waitready --timeout 30 && hawser storage create default dir && hawser list && hawser query /1.0/metrics --raw |
    grep hawser_build_info
status=$?
kill $pid; wait $pid
[ $status = 0 ] || cat /var/log/hawserd.log
exit $status
END
chmod +x "$root/start"
start() { timeout 90 unshare --mount --net --pid --fork --kill-child chroot "$root" /start; }
shows 'the agent starts there and answers' 'hawser_build_info\{version=' start
claim 'purging removes them' inside dpkg --purge hawser hawser-dpd hawser-bench hawser-client
same 'and leaves no units behind' '' find "$root/etc/systemd/system" "$root/lib/systemd/system" -name '*hawser*'
[ $e2e_failed = 0 ] || tail -n 40 "$E2E_DIR/log" | e2e_diag
echo "1..$e2e_count"
e2e_done=1
exit $((e2e_failed > 0))
