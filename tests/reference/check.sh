#!/bin/bash
# check.sh [--write]: docs/reference/ says what the tables in the code say. HAWSER_BUILD is the build directory.
here=$(cd "$(dirname "$0")" && pwd)
docs=$here/../../docs/reference
build=${HAWSER_BUILD:-$here/../../build}/tests/reference
write=${1:-} count=0 failed=0
page() { # file program arguments…
    local file=$docs/$1; shift
    count=$((count + 1))
    if [ "$write" = --write ]; then
        "$@" >"$file" || exit 1
    elif "$@" | diff -u "$file" - >"${TMPDIR:-/tmp}/reference.$$"; then
        echo "ok $count - ${file##*/} is what the code says"
    else
        failed=1
        echo "not ok $count - ${file##*/} is what the code says: tests/reference/check.sh --write"
        head -n 20 "${TMPDIR:-/tmp}/reference.$$" | sed 's/^/# /'
    fi
}
page config.md "$build/reference_agent" config
page metrics.md "$build/reference_agent" metrics
page extensions.md "$build/reference_agent" extensions
page cli.md "$build/reference_cli"
# Every metric that the dashboard and the alerts name is one of the table.
monitoring() {
    local names
    names=$(sed -n 's/^| `\([a-zA-Z_]*\)`.*/\1/p' "$docs/metrics.md")
    grep -ohE '\b(lxd|hawser|process)_[a-zA-Z_]+' "$docs/../monitoring/grafana-dashboard.json" "$docs/../monitoring/alerts.yml" |
        sed -E '/^hawser_(request|operation)_seconds_/s/_(bucket|count|sum)$//' | sort -u | grep -vxF "$names"
}
if [ "$write" != --write ]; then
    count=$((count + 1)) unknown=$(monitoring)
    [ -z "$unknown" ] || failed=1
    echo "$([ -z "$unknown" ] || echo 'not ')ok $count - dashboard and alerts name metrics that there are${unknown:+: $unknown}"
fi
if [ "$write" != --write ]; then
    count=$((count + 1)) stale=$(python3 "$here/../../bench/hawser-bench" pages 2>&1) || failed=1
    echo "$([ -z "$stale" ] || echo 'not ')ok $count - the tables of numbers are those of the last results${stale:+: $stale}"
fi
rm -f "${TMPDIR:-/tmp}/reference.$$"
[ "$write" = --write ] || echo "1..$count"
exit $failed
