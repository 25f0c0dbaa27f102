/* SEV. Whether a host has it is QEMU's to say: it is asked over QMP, in a machine without anything, after
 * the kernel's own word, which costs nothing.
 * Called by vmboot.c. */
#include "agent/vm/vmsev.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/vm/qmp.h"
#include "agent/vm/vmhost.h"
#include "base/fd.h"
#include "base/proc.h"

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

static json_t *
describe(Inst *inst, json_t *found)
{
    bool es = inst_get_bool(inst, "security.sev.policy.es", false);
    const char *dh = inst_get(inst, "security.sev.session.dh");
    const char *session = inst_get(inst, "security.sev.session.data");
    json_t *sev = json_object();
    json_object_set(sev, "cbitpos", json_object_get(found, "cbitpos"));
    json_object_set(sev, "reduced-phys-bits", json_object_get(found, "reduced-phys-bits"));
    json_object_set_new(sev, "policy", json_integer(POLICY_SEV | (es ? POLICY_ES : 0)));
    if (dh != NULL && session != NULL) {
        json_object_set_new(sev, "dh", json_string(dh));
        json_object_set_new(sev, "session", json_string(session));
    }
    return sev;
}

bool
vmsev_prepare(Inst *inst, json_t **ret_sev, GError **error)
{
    bool es = inst_get_bool(inst, "security.sev.policy.es", false);
    *ret_sev = NULL;
    if (!inst_get_bool(inst, "security.sev", false)) {
        return true;
    }
    if (inst_get_bool(inst, "migration.stateful", false)) {
        return haw_fail(error, HAW_INVALID,
                        "security.sev: encrypted memory can't be saved or moved: unset "
                        "migration.stateful");
    }
    if (!kernel_has("sev") || (es && !kernel_has("sev_es"))) {
        return haw_fail(error, HAW_UNSUPPORTED, "AMD %s is not supported by the host",
                        es ? "SEV-ES" : "SEV");
    }
    const char *qemu = vmhost_qemu("x86_64", error);
    json_t *found = qemu != NULL ? ask_qemu(qemu, error) : NULL;
    if (found == NULL) {
        return haw_push(error, "AMD SEV is not supported by the host's QEMU");
    }
    *ret_sev = describe(inst, found);
    json_decref(found);
    return true;
}
