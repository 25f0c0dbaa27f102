/* Seccomp profiles in liblxc's language, from raw.seccomp and security.syscalls.*.
 * S1  raw.seccomp is taken as it is; an allow list denies what it does not name.
 * S2  The default list denies what can hurt the host from a user namespace, as LXD's does.
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
lxcconf_seccomp(json_t *config, const char *architecture)
{
    const char *raw = keys_get(config, "raw.seccomp");
    if (raw != NULL) { /* S1 */
        return g_strdup(raw);
    }
    const char *allow = either(config, "security.syscalls.allow", "security.syscalls.whitelist");
    if (allow != NULL) {
        return g_strdup_printf("2\nallowlist\n[all]\n%s\n", allow);
    }
    const char *deny = either(config, "security.syscalls.deny", "security.syscalls.blacklist");
    bool standard = either_bool(config, "security.syscalls.deny_default",
                                "security.syscalls.blacklist_default", true);
    bool compat = either_bool(config, "security.syscalls.deny_compat",
                              "security.syscalls.blacklist_compat", false);
    if (!standard && !compat && deny == NULL) {
        return NULL;
    }
    g_autoptr(GString) out = g_string_new("2\ndenylist\n");
    if (standard) { /* S2 */
        g_string_append(out, default_deny);
    } else {
        g_string_append(out, "[all]\n");
    }
    if (deny != NULL) {
        g_string_append_printf(out, "%s\n", deny);
    }
    if (compat) {
        g_string_append_printf(out, compat_deny, architecture);
    }
    return g_string_free(g_steal_pointer(&out), FALSE);
}
