/* SEV. Whether a host has it is QEMU's to say: it is asked over QMP, in a machine without anything, after
 * the kernel's own word, which costs nothing.
 * V1  Whoever asks for encryption gets it or an error: a key that would have no effect refuses the start.
 * V2  The guest owner's key and session are QEMU's to judge; here they only have to be two files that it can read.
 * Called by vmboot.c. */
#include "agent/vm/vmsev.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/inst/record.h"
#include "agent/vm/qmp.h"
#include "agent/vm/vm.h"
#include "agent/vm/vmhost.h"
#include "agent/vm/vmuser.h"
#include "base/fd.h"
#include "base/proc.h"
#include "proto/keys.h"

enum { PROBE_MS = 10000, POLICY_SEV = 0x1, POLICY_ES = 0x4 };

static bool
kernel_has(const char *parameter)
{
    g_autofree char *path = g_strdup_printf("/sys/module/kvm_amd/parameters/%s", parameter);
    g_autofree char *text = fd_read_file(path, 64, NULL, NULL);
    return text != NULL && (text[0] == 'Y' || text[0] == '1');
}

/* query-sev-capabilities of a QEMU without a machine; a new reference. */
static json_t *
ask_qemu(const char *qemu, GError **error)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        haw_fail_errno(error, errno, "Make a socket pair");
        return NULL;
    }
    haw_autofd int ours = pair[0], theirs = pair[1];
    const char *argv[] = {qemu,          "-S",
                          "-nodefaults", "-no-user-config",
                          "-display",    "none",
                          "-machine",    "q35,accel=kvm",
                          "-chardev",    "socket,id=qmp,fd=3",
                          "-mon",        "chardev=qmp,mode=control",
                          NULL};
    pid_t pid = proc_spawn(argv, NULL, NULL, &theirs, 1, error);
    if (pid < 0) {
        return NULL;
    }
    fd_close(&theirs);
    QmpOptions options = {.wait_ms = PROBE_MS};
    g_autoptr(Qmp) qmp = qmp_open(&ours, &options, error);
    json_t *found = qmp != NULL ? qmp_call(qmp, "query-sev-capabilities", NULL, error) : NULL;
    int status;
    kill(pid, SIGKILL);
    fiber_wait_pid(pid, -1, NULL, &status, NULL);
    return found;
}

/* ---- keys ---- */

static bool
is_base64(const char *text)
{
    size_t size = strlen(text);
    size_t letters =
        strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
    return size % 4 == 0 && letters > 0 && size - letters <= 2 &&
           strspn(text + letters, "=") == size - letters;
}

/* V1 */
static bool
check_without(json_t *config, GError **error)
{
    if (keys_get_bool(config, "security.sev.policy.es", false)) {
        return haw_fail(
            error, HAW_INVALID,
            "security.sev.policy.es encrypts nothing without security.sev: set that, too");
    }
    return true;
}

/* V2 */
static bool
check_session(json_t *config, GError **error)
{
    static const char *const keys[] = {"security.sev.session.dh", "security.sev.session.data"};
    const char *values[G_N_ELEMENTS(keys)];
    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
        values[i] = keys_get(config, keys[i]);
        if (values[i] != NULL && !is_base64(values[i])) {
            return haw_fail(error, HAW_INVALID, "%s is not base64", keys[i]);
        }
    }
    return (values[0] == NULL) == (values[1] == NULL) ||
           haw_fail(error, HAW_INVALID,
                    "%s needs %s: the guest owner's key and session belong together",
                    keys[values[0] == NULL], keys[values[0] != NULL]);
}

bool
vmsev_check(json_t *config, const char *architecture, const struct vmsev_host *host, GError **error)
{
    bool es = keys_get_bool(config, "security.sev.policy.es", false);
    if (!keys_get_bool(config, "security.sev", false)) {
        return check_without(config, error);
    }
    if (strcmp(architecture, "x86_64") != 0) {
        return haw_fail(error, HAW_UNSUPPORTED,
                        "AMD SEV support is only available on x86_64 systems");
    }
    if (keys_get_bool(config, "migration.stateful", false)) {
        return haw_fail(error, HAW_INVALID,
                        "security.sev: encrypted memory can't be saved or moved: unset "
                        "migration.stateful");
    }
    if (!check_session(config, error)) {
        return false;
    }
    return (host->sev && (host->es || !es)) ||
           haw_fail(error, HAW_UNSUPPORTED, "AMD %s is not supported by the host",
                    host->sev ? "SEV-ES" : "SEV");
}

json_t *
vmsev_properties(json_t *config, json_t *found, const char *dir)
{
    bool es = keys_get_bool(config, "security.sev.policy.es", false);
    json_t *sev = json_object();
    json_object_set(sev, "cbitpos", json_object_get(found, "cbitpos"));
    json_object_set(sev, "reduced-phys-bits", json_object_get(found, "reduced-phys-bits"));
    json_object_set_new(sev, "policy", json_integer(POLICY_SEV | (es ? POLICY_ES : 0)));
    if (keys_get(config, "security.sev.session.dh") != NULL) {
        g_autofree char *dh = g_build_filename(dir, VMSEV_DH, NULL);
        g_autofree char *session = g_build_filename(dir, VMSEV_SESSION, NULL);
        json_object_set_new(sev, "dh-cert-file", json_string(dh));
        json_object_set_new(sev, "session-file", json_string(session));
    }
    return sev;
}

/* ---- a start ---- */

/* QEMU takes them as files, which its user reads. */
static bool
store(Inst *inst, json_t *config, const char *key, const char *name, GError **error)
{
    const char *text = keys_get(config, key);
    g_autofree char *dir = inst_run_dir(inst);
    g_autofree char *path = g_build_filename(dir, name, NULL);
    if (text == NULL) {
        return true;
    }
    if (!fd_mkdir_p(dir, 0711, error) || !fd_write_copy(path, text, strlen(text), 0600, error)) {
        return false;
    }
    haw_autofd int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    return fd >= 0 ? vmuser_give(inst, fd, path, error)
                   : haw_fail_errno(error, errno, "Open '%s'", path);
}

static bool
check_device(GError **error)
{
    struct stat node;
    return stat("/dev/sev", &node) < 0 || vmuser_may_open(&node) ||
           haw_fail(error, HAW_UNSUPPORTED,
                    "/dev/sev is root's alone, which QEMU is not: chgrp kvm and chmod 660 it");
}

bool
vmsev_prepare(Inst *inst, json_t **ret_sev, GError **error)
{
    const struct vmsev_host host = {kernel_has("sev"), kernel_has("sev_es")};
    json_auto_t *config = json_incref(inst_expanded_config(inst));
    *ret_sev = NULL;
    if (!vmsev_check(config, inst->architecture, &host, error)) {
        return false;
    }
    if (!keys_get_bool(config, "security.sev", false)) {
        return true;
    }
    const char *qemu = vmhost_qemu(inst->architecture, error);
    json_auto_t *found = qemu != NULL ? ask_qemu(qemu, error) : NULL;
    if (found == NULL) {
        return haw_push(error, "AMD SEV is not supported by the host's QEMU");
    }
    if (!check_device(error) || !store(inst, config, "security.sev.session.dh", VMSEV_DH, error) ||
        !store(inst, config, "security.sev.session.data", VMSEV_SESSION, error)) {
        return false;
    }
    g_autofree char *dir = g_strdup_printf("/proc/self/fd/%d", VM_RUN_DIR_FD);
    *ret_sev = vmsev_properties(config, found, dir);
    return true;
}
