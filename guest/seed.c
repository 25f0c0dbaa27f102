/* NoCloud's seed: cloud-init reads it at its own start, before which our unit runs. Without a config
 * share, or without cloud-init, nothing is done. Called by main.c. */
#include "guest/seed.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEED_DIR "/var/lib/cloud/seed/nocloud-net"

static void
copy(const char *from, const char *to)
{
    int in = open(from, O_RDONLY | O_CLOEXEC), out;
    char fresh[PATH_MAX + 8];
    ssize_t n = 0;

    if (in < 0) {
        unlink(to); /* it is not configured any more */
        return;
    }
    snprintf(fresh, sizeof(fresh), "%s.new", to);
    out = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    while (out >= 0 && (n = sendfile(out, in, NULL, 1 << 20)) > 0) {
    }
    if (out >= 0) {
        close(out);
        if (n < 0 || rename(fresh, to) < 0) {
            unlink(fresh);
        }
    }
    close(in);
}

void
seed_cloud_init(void)
{
    static const char *const names[] = {"meta-data", "user-data", "vendor-data", "network-config"};
    char self[PATH_MAX], from[PATH_MAX + 64], to[128];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    struct stat st;
    char *slash;

    if (n < 0) {
        return;
    }
    self[n] = '\0';
    if ((slash = strrchr(self, '/')) == NULL) {
        return;
    }
    *slash = '\0';
    snprintf(from, sizeof(from), "%s/cloud-init/meta-data", self);
    if (stat("/etc/cloud", &st) < 0 || stat(from, &st) < 0) {
        return;
    }
    mkdir("/var/lib/cloud", 0755);
    mkdir("/var/lib/cloud/seed", 0755);
    mkdir(SEED_DIR, 0755);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(from, sizeof(from), "%s/cloud-init/%s", self, names[i]);
        snprintf(to, sizeof(to), SEED_DIR "/%s", names[i]);
        copy(from, to);
    }
}
