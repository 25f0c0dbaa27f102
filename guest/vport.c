/* Finding the port: by its name in sysfs, as udev's /dev/virtio-ports would, but without udev.
 * Called by main.c. */
#include "guest/vport.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/guestwire.h"

#define VPORT_CLASS "/sys/class/virtio-ports"

static bool
read_line(const char *path, char *line, int size)
{
    FILE *file = fopen(path, "re");
    bool ok = file != NULL && fgets(line, size, file) != NULL;

    if (file != NULL) {
        fclose(file);
    }
    line[ok ? strcspn(line, "\n") : 0] = '\0';
    return ok;
}

/* The device node, made when devtmpfs did not. */
static int
open_node(const char *entry)
{
    char path[320], line[64];
    unsigned major_number, minor_number;
    int fd;

    snprintf(path, sizeof(path), "/dev/%s", entry);
    fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0 || errno != ENOENT) {
        return fd;
    }
    snprintf(path, sizeof(path), VPORT_CLASS "/%s/dev", entry);
    if (!read_line(path, line, sizeof(line)) ||
        sscanf(line, "%u:%u", &major_number, &minor_number) != 2) {
        return -1;
    }
    snprintf(path, sizeof(path), "/dev/%s", entry);
    if (mknod(path, S_IFCHR | 0600, makedev(major_number, minor_number)) < 0) {
        return -1;
    }
    return open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
}

static int
open_port(void)
{
    DIR *dir = opendir(VPORT_CLASS);
    struct dirent *entry;
    int fd = -1;

    while (dir != NULL && fd < 0 && (entry = readdir(dir)) != NULL) {
        char path[320], name[64];
        snprintf(path, sizeof(path), VPORT_CLASS "/%s/name", entry->d_name);
        if (entry->d_name[0] != '.' && read_line(path, name, sizeof(name)) &&
            (strcmp(name, GUESTWIRE_PORT) == 0 || strcmp(name, GUESTWIRE_PORT_OWN) == 0)) {
            fd = open_node(entry->d_name);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return fd;
}

static int
connect_to(const char *path)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int fd;

    if (strlen(path) >= sizeof(to.sun_path)) {
        return -1;
    }
    strcpy(to.sun_path, path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    if (connect(fd, (const struct sockaddr *) (const void *) &to, sizeof(to)) < 0) {
        close(fd);
        return -1;
    }
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

int
vport_open(const char *path)
{
    struct stat st;

    if (path == NULL) {
        return open_port();
    }
    if (stat(path, &st) == 0 && S_ISSOCK(st.st_mode)) {
        return connect_to(path);
    }
    return open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
}
