/* How long does it take to unpack an image?  bench_image_unpack ARCHIVE DIR [ROUNDS]: each round into a
 * new directory below DIR; prints milliseconds, and those of tar for the same. */
#include "agent/image/archive.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/fiber.h"
#include "base/proc.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static char **args;

static void
once(int fd, const char *archive, const char *dir)
{
    g_autoptr(GError) error = NULL;
    ArchiveUnpack spec = {.fd = fd, .dir = dir};
    fd_remove_tree(dir, NULL);
    mkdir(dir, 0755);
    gint64 start_us = clock_mono_us();
    if (!archive_unpack(&spec, &error)) {
        g_error("%s", error->message);
    }
    gint64 ours_us = clock_mono_us() - start_us;

    fd_remove_tree(dir, NULL);
    mkdir(dir, 0755);
    start_us = clock_mono_us();
    if (!proc_runv(NULL, &error, "tar", "--numeric-owner", "--xattrs-include=*", "-C", dir, "-xf",
                   archive, NULL)) {
        g_error("%s", error->message);
    }
    gint64 tar_us = clock_mono_us() - start_us;
    printf("archive_unpack %" G_GINT64_FORMAT " ms, tar %" G_GINT64_FORMAT " ms\n", ours_us / 1000,
           tar_us / 1000);
    fd_remove_tree(dir, NULL);
}

static void
body(void *data)
{
    haw_autofd int fd = open(args[1], O_RDONLY | O_CLOEXEC);
    g_autofree char *dir = g_build_filename(args[2], "bench-unpack", NULL);
    int rounds = args[3] != NULL ? atoi(args[3]) : 3;
    for (int i = 0; i < rounds; i++) {
        once(fd, args[1], dir);
    }
}

int
main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: %s ARCHIVE DIR [ROUNDS]\n", argv[0]);
        return 2;
    }
    args = argv;
    fiber_start("bench", body, NULL);
    while (fiber_count() > 0) {
        g_main_context_iteration(NULL, TRUE);
    }
    return 0;
}
