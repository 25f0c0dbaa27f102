/* Seccomp profiles in liblxc's language, from raw.seccomp and security.syscalls.*.
 * S1  raw.seccomp is taken as it is; an allow list denies what it does not name.
 * S2  The default list denies what can hurt the host from a user namespace, as LXD's does.
 * S3  Calls that the agent makes for a container (security.syscalls.intercept.*) are handed over by exact
 *     arguments: all others never leave the kernel. The container can't put a listener of its own first.
 * Called by start.c. */
#include "agent/inst/lxcconf.h"
#include "proto/keys.h"

#include <string.h>

static const char default_deny[] = "reject_force_umount\n"
                                   "[all]\n"
                                   "kexec_load errno 38\n"
                                   "open_by_handle_at errno 38\n"
                                   "init_module errno 38\n"
                                   "finit_module errno 38\n"
                                   "delete_module errno 38\n";

static const char compat_deny[] = "[%s]\n"
                                  "compat_sys_rt_sigaction errno 38\n"
                                  "stub_x32_rt_sigreturn errno 38\n"
                                  "compat_sys_ioctl errno 38\n"
                                  "compat_sys_readv errno 38\n"
                                  "compat_sys_writev errno 38\n"
                                  "compat_sys_recvfrom errno 38\n"
                                  "compat_sys_sendmsg errno 38\n"
                                  "compat_sys_recvmsg errno 38\n"
                                  "stub_x32_execve errno 38\n"
                                  "compat_sys_ptrace errno 38\n"
                                  "compat_sys_rt_sigpending errno 38\n"
                                  "compat_sys_rt_sigtimedwait errno 38\n"
                                  "compat_sys_rt_sigqueueinfo errno 38\n"
                                  "compat_sys_sigaltstack errno 38\n"
                                  "compat_sys_timer_create errno 38\n"
                                  "compat_sys_mq_notify errno 38\n"
                                  "compat_sys_kexec_load errno 38\n"
                                  "compat_sys_waitid errno 38\n"
                                  "compat_sys_set_robust_list errno 38\n"
                                  "compat_sys_get_robust_list errno 38\n"
                                  "compat_sys_vmsplice errno 38\n"
                                  "compat_sys_move_pages errno 38\n"
                                  "compat_sys_preadv64 errno 38\n"
                                  "compat_sys_pwritev64 errno 38\n"
                                  "compat_sys_rt_tgsigqueueinfo errno 38\n"
                                  "compat_sys_recvmmsg errno 38\n"
                                  "compat_sys_sendmmsg errno 38\n"
                                  "compat_sys_process_vm_readv errno 38\n"
                                  "compat_sys_process_vm_writev errno 38\n"
                                  "compat_sys_setsockopt errno 38\n"
                                  "compat_sys_getsockopt errno 38\n"
                                  "compat_sys_io_setup errno 38\n"
                                  "compat_sys_io_submit errno 38\n"
                                  "stub_x32_execveat errno 38\n";

static const char own_listener[] = "seccomp errno 22 [1,2146435072,SCMP_CMP_MASKED_EQ,2146435072]\n"
                                   "seccomp errno 22 [1,8,SCMP_CMP_MASKED_EQ,8]\n";
/* mount: only what makes a superblock (no MS_REMOUNT, MS_BIND, MS_MOVE, …); the newer calls, whose state
 * is spread over several, are taken away. */
static const struct {
    const char *key, *rules;
} intercepts[] = {
    {"security.syscalls.intercept.mknod", "mknod notify [1,8192,SCMP_CMP_MASKED_EQ,61440]\n"
                                          "mknod notify [1,24576,SCMP_CMP_MASKED_EQ,61440]\n"
                                          "mknodat notify [2,8192,SCMP_CMP_MASKED_EQ,61440]\n"
                                          "mknodat notify [2,24576,SCMP_CMP_MASKED_EQ,61440]\n"},
    {"security.syscalls.intercept.sched_setscheduler", "sched_setscheduler notify\n"},
    {"security.syscalls.intercept.setxattr", "setxattr notify [3,1,SCMP_CMP_EQ]\n"},
    {"security.syscalls.intercept.sysinfo", "sysinfo notify\n"},
    {"security.syscalls.intercept.mount",
     "mount notify [3,0,SCMP_CMP_MASKED_EQ,18446744070422410016]\n"
     "fsopen errno 38\nfsconfig errno 38\nfsinfo errno 38\nfsmount errno 38\nfspick errno 38\n"
     "open_tree errno 38\nmove_mount errno 38\nopenat2 errno 38\n"},
    {"security.syscalls.intercept.bpf", "bpf notify [0,5,SCMP_CMP_EQ]\n"
                                        "bpf notify [0,8,SCMP_CMP_EQ]\n"
                                        "bpf notify [0,9,SCMP_CMP_EQ]\n"},
};

bool
lxcconf_intercepts(json_t *config, const LxcConfHost *host)
{
    if (host->in_userns || keys_get_bool(config, "security.privileged", false) ||
        keys_get(config, "raw.seccomp") != NULL) {
        return false;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(intercepts); i++) {
        if (keys_get_bool(config, intercepts[i].key, false)) {
            return true;
        }
    }
    return false;
}

/* S3 */
static void
add_intercepts(GString *out, json_t *config)
{
    g_string_append(out, own_listener);
    for (size_t i = 0; i < G_N_ELEMENTS(intercepts); i++) {
        if (keys_get_bool(config, intercepts[i].key, false)) {
            g_string_append(out, intercepts[i].rules);
        }
    }
}

/* The new name's value, else that of its deprecated twin. */
static const char *
either(json_t *config, const char *name, const char *old)
{
    const char *value = keys_get(config, name);
    return value != NULL ? value : keys_get(config, old);
}

static bool
either_bool(json_t *config, const char *name, const char *old, bool fallback)
{
    return keys_get(config, name) != NULL ? keys_get_bool(config, name, fallback)
                                          : keys_get_bool(config, old, fallback);
}

char *
lxcconf_seccomp(json_t *config, const char *architecture, const LxcConfHost *host)
{
    const char *raw = keys_get(config, "raw.seccomp");
    if (raw != NULL) { /* S1 */
        return g_strdup(raw);
    }
    const char *allow = either(config, "security.syscalls.allow", "security.syscalls.whitelist");
    bool intercept = lxcconf_intercepts(config, host);
    g_autoptr(GString) out = g_string_new("2\n");
    if (allow != NULL) {
        g_string_append_printf(out, "allowlist\n[all]\n%s\n", allow);
        if (intercept) {
            add_intercepts(out, config);
        }
        return g_string_free(g_steal_pointer(&out), FALSE);
    }
    const char *deny = either(config, "security.syscalls.deny", "security.syscalls.blacklist");
    bool standard = either_bool(config, "security.syscalls.deny_default",
                                "security.syscalls.blacklist_default", true);
    bool compat = either_bool(config, "security.syscalls.deny_compat",
                              "security.syscalls.blacklist_compat", false);
    if (!standard && !compat && deny == NULL && !intercept) {
        return NULL;
    }
    g_string_append(out, "denylist\n");
    if (standard) { /* S2 */
        g_string_append(out, default_deny);
    } else {
        g_string_append(out, "[all]\n");
    }
    if (intercept) {
        add_intercepts(out, config);
    }
    if (deny != NULL) {
        g_string_append_printf(out, "%s\n", deny);
    }
    if (compat) {
        g_string_append_printf(out, compat_deny, architecture);
    }
    return g_string_free(g_steal_pointer(&out), FALSE);
}
