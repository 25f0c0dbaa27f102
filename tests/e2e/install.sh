#!/bin/bash
# `meson install` puts the agent where its units say, and systemd understands the units.
. "$(dirname "$0")/lib.sh"
command -v meson >/dev/null || e2e_skip_all "'meson' is not installed"
E2E_DIR=$(mktemp -d "${TMPDIR:-/tmp}/hawser-e2e-install-XXXXXX")
trap 'rm -rf "$E2E_DIR"' EXIT
: >"$E2E_DIR/log"
to=$E2E_DIR/to
claim 'the build installs' env DESTDIR="$to" meson install -C "$HAWSER_BUILD" --no-rebuild --quiet
units=$(find "$to" -type d -path '*/systemd/system')
for unit in hawserd.service hawserd.socket hawser-instances.service; do
    claim "$unit is there" test -s "$units/$unit"
done
# What a unit starts is below DESTDIR for now.
for program in $(sed -n 's/^Exec[A-Za-z]*=\([^ ]*\).*/\1/p' "$units"/*.service | sort -u); do
    claim "$program is there" test -x "$to$program"
    sed -i "s|=$program|=$to$program|" "$units"/*.service
done
if command -v systemd-analyze >/dev/null; then
    for unit in "$units"/*.service "$units"/*.socket; do
        same "systemd-analyze finds nothing in ${unit##*/}" '' \
            sh -c "systemd-analyze verify --man=no --recursive-errors=no '$unit' 2>&1 | grep -F '$units' | grep -v 'Unknown user\|Unknown group'"
    done
else
    skip 'systemd-analyze verifies the units' "'systemd-analyze' is not installed"
fi
claim 'the manual is there' sh -c "find '$to' -name 'hawser.1*' | grep -q ."
[ $e2e_failed = 0 ]; e2e_status=$?
echo "1..$e2e_count"
e2e_done=1
exit $e2e_status
