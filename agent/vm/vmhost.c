/* The host, as VMs need it. KVM is tried only where the CPU says that it has virtualization: on a host
 * without it /dev/kvm may exist and hang whoever opens it. Nothing is remembered: modules come and go.
 * Called by vmmachine.c and the server's information. */
#include "agent/vm/vmhost.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/vm/vmuser.h"
#include "base/fd.h"

enum { CPUINFO_MAX = 16 * 1024 * 1024 };

const char *
vmhost_qemu(const char *architecture, GError **error)
{
    const char *own = g_getenv("HAWSER_QEMU");
    if (g_strcmp0(architecture, "x86_64") != 0) {
        haw_fail(error, HAW_UNSUPPORTED,
                 "Virtual machines of architecture \"%s\" can't run on this server", architecture);
        return NULL;
    }
    if (own != NULL) {
        return own;
    }
    g_autofree char *path = g_find_program_in_path("qemu-system-x86_64");
    if (path == NULL) {
        haw_fail(error, HAW_NOT_FOUND, "QEMU is missing: install the package 'qemu-system-x86'");
        return NULL;
    }
    return "qemu-system-x86_64";
}

bool
vmhost_cpu_flag(const char *cpuinfo)
{
    const char *at = cpuinfo;
    while (at != NULL && (at = strstr(at, "\nflags")) != NULL) {
        const char *end = strchr(at + 1, '\n');
        g_autofree char *line = end != NULL ? g_strndup(at, (gsize) (end - at)) : g_strdup(at);
        g_auto(GStrv) words = g_strsplit_set(line, " \t:\n", -1);
        if (g_strv_contains((const char *const *) words, "vmx") ||
            g_strv_contains((const char *const *) words, "svm")) {
            return true;
        }
        at++;
    }
    return false;
}

char *
vmhost_cpu_features(const char *cpuinfo)
{
    g_autofree char *own =
        cpuinfo == NULL ? fd_read_file("/proc/cpuinfo", CPUINFO_MAX, NULL, NULL) : NULL;
    const char *info = cpuinfo != NULL ? cpuinfo : own;
    const char *at = info != NULL ? strstr(info, "\nflags") : NULL;
    const char *text = at != NULL ? strchr(at, ':') : NULL;
    return text != NULL ? g_strstrip(g_strndup(text + 1, strcspn(text + 1, "\n"))) : g_strdup("");
}

char *
vmhost_cpu_lacks(const char *wanted, const char *have)
{
    g_auto(GStrv) need = g_strsplit_set(wanted, " \t", -1), got = g_strsplit_set(have, " \t", -1);
    g_autoptr(GString) lacks = g_string_new(NULL);
    for (char **word = need; *word != NULL; word++) {
        if (**word != '\0' && !g_strv_contains((const char *const *) got, *word)) {
            g_string_append_printf(lacks, "%s%s", lacks->len > 0 ? ", " : "", *word);
        }
    }
    return lacks->len > 0 ? g_strdup(lacks->str) : NULL;
}

/* NULL when KVM works; else why not. Opening may block for long where a hypervisor below is slow. */
struct look {
    char *why;
};

static void
look_at_kvm(void *data)
{
    struct look *look = data;
    struct stat node;
    g_autofree char *info = fd_read_file("/proc/cpuinfo", CPUINFO_MAX, NULL, NULL);
    if (info == NULL || !vmhost_cpu_flag(info)) {
        look->why = g_strdup("the CPU shows neither vmx nor svm");
        return;
    }
    haw_autofd int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        look->why = g_strdup_printf("/dev/kvm: %s", g_strerror(errno));
    } else if (ioctl(fd, KVM_GET_API_VERSION, 0) != KVM_API_VERSION) {
        look->why = g_strdup("/dev/kvm has another API version");
    } else if (fstat(fd, &node) < 0 || !vmuser_may_open(&node)) {
        look->why = g_strdup("/dev/kvm is root's alone, which QEMU is not: chgrp kvm and chmod 660 "
                             "it, as udev does");
    }
}

const char *
vmhost_accel(const char *asked, char **ret_why, GError **error)
{
    struct look look = {NULL};
    *ret_why = NULL;
    if (g_strcmp0(asked, "tcg") == 0) {
        *ret_why = g_strdup("qemu.accel is 'tcg'");
        return "tcg";
    }
    look_at_kvm(&look);
    if (look.why == NULL) {
        return "kvm";
    }
    if (g_strcmp0(asked, "kvm") == 0) {
        haw_fail(error, HAW_UNSUPPORTED, "KVM is not available (%s), and qemu.accel asks for it",
                 look.why);
        g_free(look.why);
        return NULL;
    }
    *ret_why = look.why;
    return "tcg";
}

bool
vmhost_vsock(void)
{
    haw_autofd int fd = open("/dev/vhost-vsock", O_RDWR | O_CLOEXEC);
    return fd >= 0;
}

gint64
vmhost_hugepage_bytes(void)
{
    g_autofree char *text = fd_read_file("/proc/meminfo", 65536, NULL, NULL);
    const char *at = text != NULL ? strstr(text, "\nHugepagesize:") : NULL;
    return at != NULL ? g_ascii_strtoll(at + strlen("\nHugepagesize:"), NULL, 10) * 1024 : 0;
}

int
vmhost_cpus(void)
{
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count > 0 ? (int) count : 1;
}
