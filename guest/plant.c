/* The image's templates, as the host rendered them for this start: "files/list" beside our program has a line
 * "N create|always PATH" for each, "files/N" its text. "create" leaves a file alone that is there.
 * Once a boot: an agent that is started again does not set back what the guest has changed since.
 * Called by main.c, before services and cloud-init, which our unit comes before. */
#include "guest/plant.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#define PLANT_DONE "/run/hawser-guest.planted"

static void
make_parents(char *path)
{
    for (char *at = path + 1; (at = strchr(at, '/')) != NULL; at++) {
        *at = '\0';
        mkdir(path, 0755);
        *at = '/';
    }
}

static void
plant(const char *from, char *to, int create_only)
{
    int in = open(from, O_RDONLY | O_CLOEXEC), out;

    make_parents(to);
    out = in < 0
              ? -1
              : open(to, O_WRONLY | O_CREAT | O_CLOEXEC | (create_only ? O_EXCL : O_TRUNC), 0644);
    while (out >= 0 && sendfile(out, in, NULL, 1 << 20) > 0) {
    }
    if (out < 0 && !(create_only && errno == EEXIST)) {
        fprintf(stderr, "hawser-guest: template '%s': %s\n", to, strerror(errno));
    }
    if (out >= 0) {
        close(out);
    }
    if (in >= 0) {
        close(in);
    }
}

void
plant_files(void)
{
    char self[PATH_MAX], from[PATH_MAX + 64], line[PATH_MAX + 64], word[16];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    unsigned number;
    int at, done;
    FILE *list;

    if (n <= 0) {
        return;
    }
    self[n] = '\0';
    *strrchr(self, '/') = '\0';
    snprintf(from, sizeof(from), "%s/files/list", self);
    list = fopen(from, "re");
    done = list != NULL ? open(PLANT_DONE, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : -1;
    while (done >= 0 && fgets(line, sizeof(line), list) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (sscanf(line, "%u %15s %n", &number, word, &at) == 2 && line[at] == '/') {
            snprintf(from, sizeof(from), "%s/files/%u", self, number);
            plant(from, line + at, strcmp(word, "create") == 0);
        }
    }
    if (done >= 0) {
        close(done);
    }
    if (list != NULL) {
        fclose(list);
    }
}
