/* What the agent changes of the machine as a whole: power, name, clock, shares, interfaces.
 * A reply is a u32 of its size and JSON, empty or {"error", "errno"}.
 * Runs in the session's child (errand.c), but for setup_notify(). */
#include "guest/errand.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "guest/jsonout.h"

#define SETUP_CLOCK_S 2 /* a guest that was stopped with its state is off by more */

static int
reply(int err, const char *what)
{
    char *text = NULL, message[512];
    size_t size = 0;
    uint8_t head[4];
    struct jsonout out = {.to = open_memstream(&text, &size)};

    if (out.to == NULL) {
        return 1;
    }
    jsonout_open(&out, NULL, '{');
    if (err != 0) {
        snprintf(message, sizeof(message), "%s: %s", what, strerror(err));
        jsonout_text(&out, "error", message);
        jsonout_number(&out, "errno", err);
    }
    jsonout_close(&out, '}');
    fclose(out.to);
    guestwire_put_u32(head, (uint32_t) size);
    fwrite(head, 1, sizeof(head), stdout);
    fwrite(text, 1, size, stdout);
    free(text);
    return fflush(stdout) == 0 ? 0 : 1;
}

static const char *
text_of(const struct asked *asked, enum guestwire_tag tag)
{
    return asked->text[tag] != NULL ? asked->text[tag] : "";
}

/* ---- power ---- */

/* The init system is asked first: it stops services. Without one that we know, the kernel is. */
int
setup_power(const struct asked *asked)
{
    bool again = strcmp(text_of(asked, GUESTWIRE_NAME), "reboot") == 0;
    const char *verb = again ? "reboot" : "poweroff";
    static const char *const dirs[] = {"/usr/bin", "/bin", "/usr/sbin", "/sbin"};
    char path[64];
    struct stat st;
    bool systemd = stat("/run/systemd/system", &st) == 0;

    /* The session is closed, and its child killed, as soon as the answer is there: what goes on is
     * another process, which exists before the answer. */
    if (fork() != 0) {
        return reply(0, "");
    }
    setsid();
    for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", dirs[i], systemd ? "systemctl" : verb);
        if (access(path, X_OK) != 0) {
            continue;
        }
        if (systemd) {
            execl(path, "systemctl", "--no-block", verb, (char *) NULL);
        } else {
            execl(path, verb, (char *) NULL);
        }
    }
    sync();
    return reboot(again ? RB_AUTOBOOT : RB_POWER_OFF) < 0 ? 1 : 0;
}

/* ---- name and clock ---- */

int
setup_hostname(const struct asked *asked)
{
    const char *name = text_of(asked, GUESTWIRE_NAME);
    size_t size = strlen(name);
    char now[65] = "";

    if (size == 0 || size > 64) {
        return reply(EINVAL, "set the host name");
    }
    if (gethostname(now, sizeof(now)) == 0 && now[0] != '\0' && strcmp(now, "(none)") != 0 &&
        strcmp(now, "localhost") != 0) {
        return reply(0, ""); /* somebody inside has named it */
    }
    return reply(sethostname(name, size) < 0 ? errno : 0, "set the host name");
}

int
setup_time(const struct asked *asked)
{
    long long ns = asked_number(asked, GUESTWIRE_NUMBER, 10, -1);
    struct timespec now = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000}, was;

    if (ns < 0) {
        return reply(EINVAL, "set the clock");
    }
    clock_gettime(CLOCK_REALTIME, &was);
    if (llabs((long long) was.tv_sec - (long long) now.tv_sec) < SETUP_CLOCK_S) {
        return reply(0, ""); /* it may be kept by NTP, better than we could */
    }
    return reply(clock_settime(CLOCK_REALTIME, &now) < 0 ? errno : 0, "set the clock");
}

/* ---- shares ---- */

/* mkdir -p of a copy of the path. */
static int
make_directories(const char *path)
{
    char copy[PATH_MAX];

    if (path[0] != '/' || strlen(path) >= sizeof(copy)) {
        return EINVAL;
    }
    strcpy(copy, path);
    for (char *at = copy + 1;; at++) {
        char end = *at;
        if (end != '/' && end != '\0') {
            continue;
        }
        *at = '\0';
        if (mkdir(copy, 0755) < 0 && errno != EEXIST) {
            return errno;
        }
        *at = end;
        if (end == '\0') {
            return 0;
        }
    }
}

/* Whether the same share is there already: the agent asks again after each greeting. */
static bool
mounted(const char *tag, const char *path)
{
    FILE *file = fopen("/proc/self/mounts", "re");
    char line[2 * PATH_MAX], *at, *save;
    bool found = false;

    while (file != NULL && !found && fgets(line, sizeof(line), file) != NULL) {
        at = strtok_r(line, " ", &save);
        found = at != NULL && strcmp(at, tag) == 0 && (at = strtok_r(NULL, " ", &save)) != NULL &&
                strcmp(at, path) == 0;
    }
    if (file != NULL) {
        fclose(file);
    }
    return found;
}

/* The kinds that the host offers, best first, as the arguments "virtiofs" or "9p:OPTIONS". */
int
setup_mount(const struct asked *asked)
{
    const char *tag = text_of(asked, GUESTWIRE_NAME), *path = text_of(asked, GUESTWIRE_PATH);
    bool readonly = strcmp(text_of(asked, GUESTWIRE_TYPE), "ro") == 0;
    int err = make_directories(path);
    char what[256];

    snprintf(what, sizeof(what), "mount '%.60s' at '%.150s'", tag, path);
    if (err != 0 || mounted(tag, path)) {
        return reply(err, what);
    }
    err = ENODEV;
    for (size_t i = 0; i < asked->argc && err != 0; i++) {
        char *kind = asked->argv[i], *options = strchr(kind, ':');
        if (options != NULL) {
            *options++ = '\0';
        }
        err = mount(tag, path, kind, readonly ? MS_RDONLY : 0, options) < 0 ? errno : 0;
    }
    return reply(err, what);
}

int
setup_umount(const struct asked *asked)
{
    const char *path = text_of(asked, GUESTWIRE_PATH);
    char what[256];

    snprintf(what, sizeof(what), "unmount '%.200s'", path);
    int err = umount2(path, UMOUNT_NOFOLLOW) < 0 ? errno : 0;
    return reply(err == EINVAL || err == ENOENT ? 0 : err, what); /* it is none: that is success */
}

/* ---- interfaces ---- */

static bool
same_mac(int sock, const char *name, const char *mac)
{
    struct ifreq request = {0};
    char text[24];

    snprintf(request.ifr_name, IFNAMSIZ, "%s", name);
    if (ioctl(sock, SIOCGIFHWADDR, &request) < 0) {
        return false;
    }
    const unsigned char *m = (const unsigned char *) request.ifr_hwaddr.sa_data;
    snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4],
             m[5]);
    return strcasecmp(text, mac) == 0;
}

/* Interfaces that are down by now: an interface in use keeps its name, and only gets the MTU. */
static int
apply_nic(int sock, const char *found, const char *name, int mtu)
{
    struct ifreq request = {0};
    int err = 0;

    snprintf(request.ifr_name, IFNAMSIZ, "%s", found);
    if (mtu > 0) {
        request.ifr_mtu = mtu;
        err = ioctl(sock, SIOCSIFMTU, &request) < 0 ? errno : 0;
    }
    if (name[0] != '-' && strcmp(found, name) != 0) {
        snprintf(request.ifr_newname, IFNAMSIZ, "%s", name);
        err = ioctl(sock, SIOCSIFNAME, &request) < 0 ? errno : err;
    }
    return err;
}

int
setup_nics(const struct asked *asked)
{
    int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), err = sock < 0 ? errno : 0;
    struct if_nameindex *names = sock >= 0 ? if_nameindex() : NULL;

    for (size_t i = 0; i < asked->argc; i++) {
        char mac[24] = "", name[IFNAMSIZ] = "-";
        int mtu = 0;
        sscanf(asked->argv[i], "%23s %15s %d", mac, name, &mtu);
        for (size_t k = 0; names != NULL && names[k].if_index != 0; k++) {
            if (same_mac(sock, names[k].if_name, mac)) {
                int failed = apply_nic(sock, names[k].if_name, name, mtu);
                err = failed != 0 ? failed : err;
            }
        }
    }
    return reply(err, "configure the interfaces");
}

/* ---- readiness ---- */

int
setup_ready(const struct asked *asked)
{
    return reply(0, "");
}

void
setup_notify(void)
{
    static const char text[] = "READY=1";
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int sock;

    if (path == NULL || strlen(path) >= sizeof(to.sun_path) || path[0] == '\0') {
        return;
    }
    strcpy(to.sun_path, path);
    if (to.sun_path[0] == '@') {
        to.sun_path[0] = '\0';
    }
    sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sendto(sock, text, sizeof(text) - 1, MSG_DONTWAIT | MSG_NOSIGNAL,
           (const struct sockaddr *) (const void *) &to,
           (socklen_t) (offsetof(struct sockaddr_un, sun_path) + strlen(path)));
    if (sock >= 0) {
        close(sock);
    }
}
