#!/bin/bash
# metrics: what /1.0/metrics tells, to whom, and that promtool, a strict parser and a real Prometheus take it.
E2E_LEAKS=1
. "$(dirname "$0")/lib.sh"
e2e_begin
need openssl promtool prometheus python3
daemon_start
e2e_defaults
port=19100
URL=https://127.0.0.1:$port
must lxc project create other -c features.images=false -c features.profiles=false
must lxc launch busybox c1
must lxc launch busybox 'c2' --project other
must lxc init busybox still

scrape() { api GET "/1.0/metrics${1:-}" >"$E2E_DIR/scrape"; }
scraped() { cat "$E2E_DIR/scrape"; }
# Metrics of one instance, names only.
names_of() { sed -n "s/^\(lxd_[a-zA-Z_]*\){.*name=\"$1\".*/\1/p" "$E2E_DIR/scrape" | sort -u; }
doubles() { sed -n 's/^\([a-z][^#]*\) [^ ]*$/\1/p' "$E2E_DIR/scrape" | sort | uniq -d; }
# What LXD has of a container; huge pages only where the host has their control group.
wanted_names() {
    cat <<'END'
lxd_cpu_effective_total
lxd_cpu_seconds_total
lxd_disk_read_bytes_total
lxd_disk_reads_completed_total
lxd_disk_writes_completed_total
lxd_disk_written_bytes_total
lxd_filesystem_avail_bytes
lxd_filesystem_free_bytes
lxd_filesystem_size_bytes
lxd_memory_Active_anon_bytes
lxd_memory_Active_bytes
lxd_memory_Active_file_bytes
lxd_memory_Cached_bytes
lxd_memory_Dirty_bytes
lxd_memory_Inactive_anon_bytes
lxd_memory_Inactive_bytes
lxd_memory_Inactive_file_bytes
lxd_memory_Mapped_bytes
lxd_memory_MemAvailable_bytes
lxd_memory_MemFree_bytes
lxd_memory_MemTotal_bytes
lxd_memory_OOM_kills_total
lxd_memory_RSS_bytes
lxd_memory_Shmem_bytes
lxd_memory_Swap_bytes
lxd_memory_Unevictable_bytes
lxd_memory_Writeback_bytes
lxd_network_receive_bytes_total
lxd_network_receive_drop_total
lxd_network_receive_errs_total
lxd_network_receive_packets_total
lxd_network_transmit_bytes_total
lxd_network_transmit_drop_total
lxd_network_transmit_errs_total
lxd_network_transmit_packets_total
lxd_procs_total
END
}
missing_names() { wanted_names | grep -vxF "$(names_of c1)"; true; }

# Counters of disks appear with the first access; of memory events only where the kernel has them.
quiet lxc exec c1 -- sh -c 'dd if=/dev/zero of=/root/f bs=64k count=4 conv=fsync'
claim 'a scrape' scrape
same 'has every name that LXD has for a container' '' missing_names
shows 'with name, project and type' 'lxd_procs_total\{name="c1",project="default",type="container"\} [1-9]' scraped
shows 'and of another project too' 'lxd_procs_total\{name="c2",project="other"' scraped
same 'none of them for one that is stopped' '' names_of still
shows 'which is counted' 'hawser_instances\{project="default",status="Stopped",type="container"\} 1' scraped
shows 'it ends as OpenMetrics ask' '^# EOF$' tail -n 1 "$E2E_DIR/scrape"
same 'no sample stands twice' '' doubles
shows 'counters of requests' 'hawser_request_seconds_count\{method="GET",resource="instances"\} [1-9]' scraped
shows 'of the database' 'hawser_database_transactions_total\{kind="write"\} [1-9]' scraped
shows 'and of operations' 'hawser_operation_seconds_count\{status="success"\} [1-9]' scraped
shows 'interfaces are those of the container' 'lxd_network_receive_bytes_total\{device="eth0",name="c1"' scraped
claim 'promtool finds nothing to say that LXD has not done first' sh -c \
    "promtool check metrics <'$E2E_DIR/scrape' 2>&1 | grep -v '^lxd_' | tee /dev/stderr | (! grep -q .)"

claim 'only the project that is asked for' scrape '?project=other'
shows 'is there' 'name="c2"' scraped
hides 'and no other' 'name="c1"|project="default"' scraped
claim 'a project that does not exist' scrape '?project=nowhere'
hides 'has no instances' 'name="c' scraped

# ---- formats ----
strict() { # with the reference parser of OpenMetrics
    curl -sS --max-time 30 --unix-socket "$LXD_DIR/unix.socket" -H 'Accept: application/openmetrics-text; version=1.0.0' \
        http://lxd/1.0/metrics >"$E2E_DIR/open" || return 1
    /usr/bin/python3 - "$E2E_DIR/open" <<'END'
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
families = list(parse(open(sys.argv[1], encoding="utf-8").read()))
names = [family.name for family in families]
assert len(names) == len(set(names)), "a family stands twice"
assert len(families) > 60, len(families)
END
}
# Debian's own interpreter: another one first in PATH does not see Debian's modules.
if /usr/bin/python3 -c 'import prometheus_client.openmetrics.parser' 2>/dev/null; then
    claim 'a strict parser takes the OpenMetrics form' strict
else
    skip 'a strict parser takes the OpenMetrics form' 'python3-prometheus-client is not installed'
fi
zipped() {
    curl -sS --max-time 30 --unix-socket "$LXD_DIR/unix.socket" -H 'Accept-Encoding: gzip' -D "$E2E_DIR/head" \
        http://lxd/1.0/metrics >"$E2E_DIR/gz" && grep -qi '^content-encoding: gzip' "$E2E_DIR/head" &&
        gzip -dc "$E2E_DIR/gz" | tail -n 1
}
same 'compressed when that is accepted' '# EOF' zipped

# ---- the cache ----
many() { # at once, the first after a pause makes the pass
    local i
    for i in 1 2 3 4 5 6; do
        api GET '/1.0/metrics?project=default' | grep '^lxd_' | grep -v '^lxd_go\|^lxd_operations\|^lxd_uptime\|^lxd_warnings' >"$E2E_DIR/many.$i" &
    done
    wait $(jobs -p | grep -vxF "${e2e_pid[main]}")
    cat "$E2E_DIR"/many.? | sort | uniq -c | awk '$1 != 6' | head -n 3
}
same 'those who ask at once get the same' '' many
gone() { scrape && ! grep -q 'name="c2"' "$E2E_DIR/scrape"; }
must lxc delete -f c2 --project other
claim 'what has gone is gone from it within its 8 seconds' wait_for 20 gone

# ---- who may ----
client_pair() { # name
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:secp384r1 -keyout "$E2E_DIR/$1.key" -nodes \
        -out "$E2E_DIR/$1.crt" -days 5 -subj "/CN=$1" 2>>"$E2E_DIR/log"
}
as() { # certificate ("": none) path
    local with=()
    [ -z "$1" ] || with=(--cert "$E2E_DIR/$1.crt" --key "$E2E_DIR/$1.key")
    curl -sk --max-time 30 "${with[@]}" -o "$E2E_DIR/rest" -w '%{http_code}\n' "$URL$2"
}
client_pair m; client_pair r
must lxc config trust add "$E2E_DIR/m.crt" --name m --type metrics
must lxc config trust add "$E2E_DIR/r.crt" --name r --restricted --projects other
refuse 'an address that is not ours is refused' 'metrics socket' lxc config set core.metrics_address 192.0.2.1
same 'and not kept' '' lxc config get core.metrics_address
claim 'the listener opens while we run' lxc config set core.metrics_address 127.0.0.1:$port
same 'a certificate for metrics reads them' 200 as m /1.0/metrics
same 'a stranger does not' 403 as '' /1.0/metrics
same 'but sees that this is the API' 200 as '' /1.0
same 'and its root' 200 as '' /
same 'there are no instances on it' 404 as m /1.0/instances
same 'nor anything else' 404 as m /1.0/events
same 'a restricted client reads' 200 as r /1.0/metrics
hides 'nothing of other projects, nor of the host' '^(lxd_procs|hawser_database|process_)' cat "$E2E_DIR/rest"
claim 'without authentication' lxc config set core.metrics_authentication false
same 'everybody reads them' 200 as '' /1.0/metrics
same 'and only them' 404 as '' /1.0/certificates
claim 'it is asked for again' lxc config set core.metrics_authentication true
same 'and refused again' 403 as '' /1.0/metrics
must lxc config set core.https_address 127.0.0.1:19443
URL=https://127.0.0.1:19443
same 'the main listener serves the metrics, too' 200 as m /1.0/metrics
same 'but nothing else to that certificate' 403 as m /1.0/instances
URL=https://127.0.0.1:$port

# ---- a real Prometheus ----
cp "$E2E_LIB/../../docs/monitoring/alerts.yml" "$E2E_DIR/alerts.yml"
cat >"$E2E_DIR/prometheus.yml" <<END
rule_files: [alerts.yml]
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
  - job_name: hawser
    scheme: https
    metrics_path: /1.0/metrics
    static_configs: [{targets: ['127.0.0.1:$port', '127.0.0.1:$((port + 1))']}]
    tls_config: {cert_file: m.crt, key_file: m.key, insecure_skip_verify: true}
END
monitoring=$E2E_LIB/../../docs/monitoring
claim 'promtool takes the alert rules' promtool check rules "$monitoring/alerts.yml"
claim 'the dashboard is JSON' jq -e '.panels | length > 10' "$monitoring/grafana-dashboard.json"
claim 'its configuration' promtool check config "$E2E_DIR/prometheus.yml"
prometheus --config.file="$E2E_DIR/prometheus.yml" --storage.tsdb.path="$E2E_DIR/tsdb" \
    --web.listen-address=127.0.0.1:19190 >"$E2E_DIR/prometheus.log" 2>&1 &
prometheus_pid=$!
ask() { # query → values
    curl -sS --max-time 10 -G http://127.0.0.1:19190/api/v1/query --data-urlencode "query=$1" |
        jq -r '.data.result[].value[1]'
}
answers() { [ "$(ask "$1")" = "$2" ]; }
claim 'Prometheus scrapes it' wait_for 60 answers "up{instance=\"127.0.0.1:$port\"}" 1
claim 'and has the container' wait_for 30 answers 'count(lxd_procs_total{name="c1"})' 1
claim 'a counter is one to it' wait_for 30 answers 'count(rate(lxd_cpu_seconds_total{name="c1",mode="user",cpu="0"}[20s]))' 1
claim 'a histogram too' wait_for 30 answers \
    'count(histogram_quantile(0.9, sum by (le) (rate(hawser_request_seconds_bucket{resource="metrics"}[20s]))))' 1
claim 'the listener moves to another port' lxc config set core.metrics_address 127.0.0.1:$((port + 1))
claim 'where Prometheus finds it' wait_for 60 answers "up{instance=\"127.0.0.1:$((port + 1))\"}" 1
claim 'and no more where it was, not over an old connection either' wait_for 60 answers "up{instance=\"127.0.0.1:$port\"}" 0
warnings() { grep -cE 'level=(warn|error).*(append|sample|scrape)' "$E2E_DIR/prometheus.log"; }
same 'Prometheus had nothing to complain of' 0 warnings
kill $prometheus_pid; wait $prometheus_pid
daemon_restart
URL=https://127.0.0.1:$((port + 1))
same 'the listener is there again after a restart' 200 as m /1.0/metrics
claim 'and closes when it is unset' lxc config unset core.metrics_address
closed() { [ "$(as m /1.0/metrics)" = 000 ]; }
claim 'for good' wait_for 20 closed
e2e_end
