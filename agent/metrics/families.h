/* families.h: every metric that the exporter knows: name, kind, labels of its own, what it tells.
 * The table is also what the reference page is made of. Names, kinds and words of lxd_* are LXD's.
 * Threads: any. */
#pragma once

typedef enum { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM } MetricKind;

/* Of instances: each has the labels name, project and type beside those named here. */
#define METRIC_INSTANCE_FAMILIES(X)                                                                \
    X(CPU_EFFECTIVE, "lxd_cpu_effective_total", GAUGE, "", "The total number of effective CPUs.")  \
    X(CPU_SECONDS, "lxd_cpu_seconds_total", COUNTER, "cpu, mode",                                  \
      "The total number of CPU time used in seconds.")                                             \
    X(DISK_READ_BYTES, "lxd_disk_read_bytes_total", COUNTER, "device",                             \
      "The total number of bytes read.")                                                           \
    X(DISK_READS, "lxd_disk_reads_completed_total", COUNTER, "device",                             \
      "The total number of completed reads.")                                                      \
    X(DISK_WRITTEN_BYTES, "lxd_disk_written_bytes_total", COUNTER, "device",                       \
      "The total number of bytes written.")                                                        \
    X(DISK_WRITES, "lxd_disk_writes_completed_total", COUNTER, "device",                           \
      "The total number of completed writes.")                                                     \
    X(FS_AVAIL, "lxd_filesystem_avail_bytes", GAUGE, "device, fstype, mountpoint",                 \
      "The number of available space in bytes.")                                                   \
    X(FS_FREE, "lxd_filesystem_free_bytes", GAUGE, "device, fstype, mountpoint",                   \
      "The number of free space in bytes.")                                                        \
    X(FS_SIZE, "lxd_filesystem_size_bytes", GAUGE, "device, fstype, mountpoint",                   \
      "The size of the filesystem in bytes.")                                                      \
    X(MEM_ACTIVE_ANON, "lxd_memory_Active_anon_bytes", GAUGE, "",                                  \
      "The amount of anonymous memory on active LRU list.")                                        \
    X(MEM_ACTIVE_FILE, "lxd_memory_Active_file_bytes", GAUGE, "",                                  \
      "The amount of file-backed memory on active LRU list.")                                      \
    X(MEM_ACTIVE, "lxd_memory_Active_bytes", GAUGE, "",                                            \
      "The amount of memory on active LRU list.")                                                  \
    X(MEM_CACHED, "lxd_memory_Cached_bytes", GAUGE, "", "The amount of cached memory.")            \
    X(MEM_DIRTY, "lxd_memory_Dirty_bytes", GAUGE, "",                                              \
      "The amount of memory waiting to get written back to the disk.")                             \
    X(MEM_HUGE_FREE, "lxd_memory_HugepagesFree_bytes", GAUGE, "",                                  \
      "The amount of free memory for hugetlb.")                                                    \
    X(MEM_HUGE_TOTAL, "lxd_memory_HugepagesTotal_bytes", GAUGE, "",                                \
      "The amount of used memory for hugetlb.")                                                    \
    X(MEM_INACTIVE_ANON, "lxd_memory_Inactive_anon_bytes", GAUGE, "",                              \
      "The amount of anonymous memory on inactive LRU list.")                                      \
    X(MEM_INACTIVE_FILE, "lxd_memory_Inactive_file_bytes", GAUGE, "",                              \
      "The amount of file-backed memory on inactive LRU list.")                                    \
    X(MEM_INACTIVE, "lxd_memory_Inactive_bytes", GAUGE, "",                                        \
      "The amount of memory on inactive LRU list.")                                                \
    X(MEM_MAPPED, "lxd_memory_Mapped_bytes", GAUGE, "", "The amount of mapped memory.")            \
    X(MEM_AVAILABLE, "lxd_memory_MemAvailable_bytes", GAUGE, "",                                   \
      "The amount of available memory.")                                                           \
    X(MEM_FREE, "lxd_memory_MemFree_bytes", GAUGE, "", "The amount of free memory.")               \
    X(MEM_TOTAL, "lxd_memory_MemTotal_bytes", GAUGE, "",                                           \
      "The amount of memory that there is: the limit, or the host's.")                             \
    X(MEM_OOM_KILLS, "lxd_memory_OOM_kills_total", COUNTER, "",                                    \
      "The number of out of memory kills.")                                                        \
    X(MEM_RSS, "lxd_memory_RSS_bytes", GAUGE, "",                                                  \
      "The amount of anonymous and swap cache memory.")                                            \
    X(MEM_SHMEM, "lxd_memory_Shmem_bytes", GAUGE, "",                                              \
      "The amount of cached filesystem data that is swap-backed.")                                 \
    X(MEM_SWAP, "lxd_memory_Swap_bytes", GAUGE, "", "The amount of used swap memory.")             \
    X(MEM_UNEVICTABLE, "lxd_memory_Unevictable_bytes", GAUGE, "",                                  \
      "The amount of unevictable memory.")                                                         \
    X(MEM_WRITEBACK, "lxd_memory_Writeback_bytes", GAUGE, "",                                      \
      "The amount of memory queued for syncing to disk.")                                          \
    X(NET_RX_BYTES, "lxd_network_receive_bytes_total", COUNTER, "device",                          \
      "The amount of received bytes on a given interface.")                                        \
    X(NET_RX_DROP, "lxd_network_receive_drop_total", COUNTER, "device",                            \
      "The amount of received dropped packets on a given interface.")                              \
    X(NET_RX_ERRS, "lxd_network_receive_errs_total", COUNTER, "device",                            \
      "The amount of received errors on a given interface.")                                       \
    X(NET_RX_PACKETS, "lxd_network_receive_packets_total", COUNTER, "device",                      \
      "The amount of received packets on a given interface.")                                      \
    X(NET_TX_BYTES, "lxd_network_transmit_bytes_total", COUNTER, "device",                         \
      "The amount of transmitted bytes on a given interface.")                                     \
    X(NET_TX_DROP, "lxd_network_transmit_drop_total", COUNTER, "device",                           \
      "The amount of transmitted dropped packets on a given interface.")                           \
    X(NET_TX_ERRS, "lxd_network_transmit_errs_total", COUNTER, "device",                           \
      "The amount of transmitted errors on a given interface.")                                    \
    X(NET_TX_PACKETS, "lxd_network_transmit_packets_total", COUNTER, "device",                     \
      "The amount of transmitted packets on a given interface.")                                   \
    X(PROCS, "lxd_procs_total", GAUGE, "", "The number of running processes.")

/* Of this daemon, under LXD's names. There is no Go here: what has no counterpart is 0. */
#define METRIC_DAEMON_FAMILIES(X)                                                                  \
    X(OPERATIONS, "lxd_operations_total", GAUGE, "", "The number of running operations.")          \
    X(UPTIME, "lxd_uptime_seconds", COUNTER, "", "The daemon uptime in seconds.")                  \
    X(WARNINGS, "lxd_warnings_total", GAUGE, "", "The number of active warnings.")                 \
    X(GO_ALLOC, "lxd_go_alloc_bytes", GAUGE, "", "Number of bytes allocated and still in use.")    \
    X(GO_ALLOC_TOTAL, "lxd_go_alloc_bytes_total", COUNTER, "",                                     \
      "Total number of bytes allocated, even if freed: what is in use; more is not counted here.") \
    X(GO_BUCK_HASH, "lxd_go_buck_hash_sys_bytes", GAUGE, "",                                       \
      "Number of bytes used by the profiling bucket hash table: none here.")                       \
    X(GO_FREES, "lxd_go_frees_total", COUNTER, "", "Total number of frees: not counted here.")     \
    X(GO_GC_SYS, "lxd_go_gc_sys_bytes", GAUGE, "",                                                 \
      "Number of bytes used for garbage collection system metadata: none here.")                   \
    X(GO_GOROUTINES, "lxd_go_goroutines", GAUGE, "",                                               \
      "Number of goroutines that currently exist: fibers here.")                                   \
    X(GO_HEAP_ALLOC, "lxd_go_heap_alloc_bytes", GAUGE, "",                                         \
      "Number of heap bytes allocated and still in use.")                                          \
    X(GO_HEAP_IDLE, "lxd_go_heap_idle_bytes", GAUGE, "",                                           \
      "Number of heap bytes waiting to be used.")                                                  \
    X(GO_HEAP_INUSE, "lxd_go_heap_inuse_bytes", GAUGE, "",                                         \
      "Number of heap bytes that are in use.")                                                     \
    X(GO_HEAP_OBJECTS, "lxd_go_heap_objects", GAUGE, "",                                           \
      "Number of allocated objects: not counted here.")                                            \
    X(GO_HEAP_RELEASED, "lxd_go_heap_released_bytes", GAUGE, "",                                   \
      "Number of heap bytes released to OS: not counted here.")                                    \
    X(GO_HEAP_SYS, "lxd_go_heap_sys_bytes", GAUGE, "",                                             \
      "Number of heap bytes obtained from system.")                                                \
    X(GO_LOOKUPS, "lxd_go_lookups_total", COUNTER, "",                                             \
      "Total number of pointer lookups: none here.")                                               \
    X(GO_MALLOCS, "lxd_go_mallocs_total", COUNTER, "",                                             \
      "Total number of mallocs: not counted here.")                                                \
    X(GO_MCACHE_INUSE, "lxd_go_mcache_inuse_bytes", GAUGE, "",                                     \
      "Number of bytes in use by mcache structures: those free in malloc's fast bins.")            \
    X(GO_MCACHE_SYS, "lxd_go_mcache_sys_bytes", GAUGE, "",                                         \
      "Number of bytes used for mcache structures obtained from system: none here.")               \
    X(GO_MSPAN_INUSE, "lxd_go_mspan_inuse_bytes", GAUGE, "",                                       \
      "Number of bytes in use by mspan structures: none here.")                                    \
    X(GO_MSPAN_SYS, "lxd_go_mspan_sys_bytes", GAUGE, "",                                           \
      "Number of bytes used for mspan structures obtained from system: none here.")                \
    X(GO_NEXT_GC, "lxd_go_next_gc_bytes", GAUGE, "",                                               \
      "Number of heap bytes when next garbage collection will take place: never here.")            \
    X(GO_OTHER_SYS, "lxd_go_other_sys_bytes", GAUGE, "",                                           \
      "Number of bytes used for other system allocations: large blocks mapped apart.")             \
    X(GO_STACK_INUSE, "lxd_go_stack_inuse_bytes", GAUGE, "",                                       \
      "Number of bytes in use by the stack allocator: not counted here.")                          \
    X(GO_STACK_SYS, "lxd_go_stack_sys_bytes", GAUGE, "",                                           \
      "Number of bytes obtained from system for stack allocator: not counted here.")               \
    X(GO_SYS, "lxd_go_sys_bytes", GAUGE, "", "Number of bytes obtained from system.")

/* Hawser's own. */
#define METRIC_HAWSER_FAMILIES(X)                                                                  \
    X(BUILD_INFO, "hawser_build_info", GAUGE, "version", "1, with this agent's version.")          \
    X(INSTANCES, "hawser_instances", GAUGE, "project, status, type",                               \
      "Instances, whatever their state.")                                                          \
    X(OPS_RUNNING, "hawser_operations_running", GAUGE, "class", "Operations that have not ended.") \
    X(OPS_SECONDS, "hawser_operation_seconds", HISTOGRAM, "status",                                \
      "How long tasks took that have ended.")                                                      \
    X(REQUESTS_BUSY, "hawser_requests_in_flight", GAUGE, "",                                       \
      "Requests whose reply has not been sent.")                                                   \
    X(REQUEST_SECONDS, "hawser_request_seconds", HISTOGRAM, "method, resource",                    \
      "From a request's last byte to its reply; waiting for operations and events is not in it.")  \
    X(REQUEST_ERRORS, "hawser_request_errors_total", COUNTER, "code",                              \
      "Replies with a status of 400 and above.")                                                   \
    X(SCRAPE_SECONDS, "hawser_metrics_pass_seconds", GAUGE, "",                                    \
      "What the last look at the instances took.")                                                 \
    X(DB_TRANSACTIONS, "hawser_database_transactions_total", COUNTER, "kind",                      \
      "Transactions of the database.")                                                             \
    X(DB_FAILED, "hawser_database_failed_total", COUNTER, "kind",                                  \
      "Transactions that were undone.")                                                            \
    X(DB_SECONDS, "hawser_database_seconds_total", COUNTER, "kind",                                \
      "Time that transactions took, commits included.")                                            \
    X(DB_WAITING, "hawser_database_waiting", GAUGE, "", "Transactions that wait for their turn.")  \
    X(DB_BYTES, "hawser_database_size_bytes", GAUGE, "file",                                       \
      "Size of the database and of its write-ahead log.")                                          \
    X(OVN_UP, "hawser_ovn_connected", GAUGE, "database",                                           \
      "Whether the session with a database of OVN stands; absent without OVN networks.")           \
    X(OVN_TRANSACTIONS, "hawser_ovn_transactions_total", COUNTER, "result",                        \
      "Transactions with OVN's northbound database.")                                              \
    X(OVN_STEPS, "hawser_ovn_rows_changed_total", COUNTER, "",                                     \
      "Rows that these made, changed or removed.")                                                 \
    X(OVN_DIRTY, "hawser_ovn_scopes_waiting", GAUGE, "",                                           \
      "Networks and the like whose rows are still to be looked at.")                               \
    X(OVN_CFG, "hawser_ovn_cfg", GAUGE, "level",                                                   \
      "Number of the last change asked for (nb), translated (sb), installed everywhere (hv).")     \
    X(OVN_LAG, "hawser_ovn_lag_seconds", GAUGE, "level",                                           \
      "From a change to its translation (sb), to every chassis (hv): the last one's, or how long " \
      "the one under way has taken.")                                                              \
    X(OVN_RESTARTS, "hawser_ovn_daemon_restarts_total", COUNTER, "daemon",                         \
      "Times that a daemon of the embedded OVN ended by itself and was started again.")            \
    X(DPD_UP, "hawser_dpd_up", GAUGE, "backend", "Whether hawser-dpd answers; absent unasked.")    \
    X(DPD_GENERATION, "hawser_dpd_generation", GAUGE, "",                                          \
      "The last configuration that hawser-dpd has applied.")                                       \
    X(DPD_BUSY, "hawser_dpd_kernel_seconds_total", COUNTER, "",                                    \
      "Time that hawser-dpd has spent in calls of the kernel or the simulator.")                   \
    X(PORTS, "hawser_ports", GAUGE, "kind, state", "Ports that hawser-dpd keeps.")                 \
    X(VFS, "hawser_vfs", GAUGE, "pf, state",                                                       \
      "Virtual functions: free, or claimed by a port of which kind.")                              \
    X(VDPA, "hawser_vdpa_devices", GAUGE, "driver", "vDPA devices of this host.")                  \
    X(REPS, "hawser_representors", GAUGE, "pf", "Representors of ports of embedded switches.")     \
    X(FLOWS, "hawser_flows", GAUGE, "state",                                                       \
      "Flows that the fast path knows: fast, learned in one direction or expired (slow).")         \
    X(FLOW_PACKETS, "hawser_flow_packets_total", COUNTER, "path",                                  \
      "Packets by how they went: fast, or slow (through the switch).")                             \
    X(FLOW_LEARNED, "hawser_flows_learned_total", COUNTER, "", "Connections that became fast.")    \
    X(FLOW_REASONS, "hawser_flow_reasons_total", COUNTER, "reason",                                \
      "Packets by what the fast path decided and why: hawser dataplane stats has the words.")      \
    X(POLL_UP, "hawser_poll_up", GAUGE, "",                                                        \
      "Whether the poll-mode process runs, where dataplane.poll.cores asks for it.")               \
    X(POLL_PORTS, "hawser_poll_ports", GAUGE, "", "NICs that it polls.")                           \
    X(POLL_FLOWS, "hawser_poll_flows", GAUGE, "", "Flows that it knows.")                          \
    X(POLL_PACKETS, "hawser_poll_packets_total", COUNTER, "path",                                  \
      "Packets of polled NICs: fast, slow (into the switch), delivered (out of it).")              \
    X(POLL_BUSY, "hawser_poll_busy_seconds_total", COUNTER, "processor",                           \
      "Time that processors spent on packets of polled NICs.")                                     \
    X(STREAMS, "hawser_page_streams", GAUGE, "role",                                               \
      "Virtual machines whose memory is on the move, from here (source) or to here (target).")     \
    X(STREAM_BYTES, "hawser_page_stream_bytes_total", COUNTER, "role",                             \
      "Bytes of memory that live moves sent or received, pages that went again included.")

/* What clients of Prometheus call their own process. */
#define METRIC_PROCESS_FAMILIES(X)                                                                 \
    X(PROCESS_CPU, "process_cpu_seconds_total", COUNTER, "",                                       \
      "Total user and system CPU time spent in seconds.")                                          \
    X(PROCESS_FDS, "process_open_fds", GAUGE, "", "Number of open file descriptors.")              \
    X(PROCESS_RSS, "process_resident_memory_bytes", GAUGE, "", "Resident memory size in bytes.")   \
    X(PROCESS_START, "process_start_time_seconds", GAUGE, "",                                      \
      "Start time of the process since unix epoch in seconds.")

#define METRIC_FAMILIES(X)                                                                         \
    METRIC_INSTANCE_FAMILIES(X)                                                                    \
    METRIC_DAEMON_FAMILIES(X)                                                                      \
    METRIC_HAWSER_FAMILIES(X)                                                                      \
    METRIC_PROCESS_FAMILIES(X)

typedef enum {
#define X(id, name, kind, labels, help) METRIC_##id,
    METRIC_FAMILIES(X)
#undef X
        METRIC_ID_COUNT
} MetricId;

typedef struct {
    const char *name;
    MetricKind kind;
    const char *labels; /* of its own, for the reader */
    const char *help;
} MetricFamily;
extern const MetricFamily metric_families[METRIC_ID_COUNT];
