/* guest_bed.h: an agent's end of a guest's port, with the real hawser-guest ($HAWSER_GUEST) at the other end, or
 * whoever connects. */
#pragma once
#include "agent/vm/guestlink.h"

#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/fiber.h"

#define WAIT_MS 120000

/* ---- a guest on a socket ---- */

typedef struct {
    char *dir, *path;
    int listener;
    pid_t pid;
    guint greeted;
    GuestLink *link;
} Bed;

static void
count_greeting(GuestLink *link, void *data)
{
    Bed *bed = data;

    bed->greeted++;
}

/* What connects to the socket is the guest. */
static int
accept_guest(void *data, GError **error)
{
    Bed *bed = data;

    if (!fiber_wait_fd(bed->listener, G_IO_IN, 1000, NULL, error)) {
        return -1;
    }
    return accept4(bed->listener, NULL, NULL, SOCK_CLOEXEC);
}

static inline void
start_guest(Bed *bed)
{
    const char *program = g_getenv("HAWSER_GUEST");

    bed->pid = fork();
    g_assert_cmpint(bed->pid, >=, 0);
    if (bed->pid == 0) {
        execl(program, program, bed->path, NULL);
        _exit(127);
    }
}

static inline void
end_guest(Bed *bed)
{
    if (bed->pid > 0) {
        kill(bed->pid, SIGKILL);
        waitpid(bed->pid, NULL, 0);
        bed->pid = 0;
    }
}

static inline void
bed_open(Bed *bed)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};

    *bed = (Bed){.dir = g_dir_make_tmp("guestlink-XXXXXX", NULL)};
    bed->path = g_build_filename(bed->dir, "port", NULL);
    bed->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    g_strlcpy(at.sun_path, bed->path, sizeof(at.sun_path));
    g_assert_cmpint(bind(bed->listener, (struct sockaddr *) &at, sizeof(at)), ==, 0);
    g_assert_cmpint(listen(bed->listener, 4), ==, 0);
    bed->link = guestlink_new("vm", accept_guest, count_greeting, bed);
}

static inline void
bed_start(Bed *bed)
{
    g_autoptr(GError) error = NULL;

    bed_open(bed);
    start_guest(bed);
    guestlink_wait(bed->link, WAIT_MS, NULL, &error);
    g_assert_no_error(error);
}

static inline void
bed_close(Bed *bed)
{
    guestlink_close(bed->link);
    guestlink_unref(bed->link);
    end_guest(bed);
    while (fiber_count() > 1) {
        fiber_sleep_ms(5, NULL, NULL);
    }
    close(bed->listener);
    fd_remove_tree(bed->dir, NULL);
    g_free(bed->dir);
    g_free(bed->path);
}

/* ---- cases: each in a fiber ---- */

typedef struct {
    void (*fn)(void);
    GMainLoop *loop;
} Case;

static void
case_body(void *data)
{
    Case *one = data;

    one->fn();
    g_main_loop_quit(one->loop);
}

static void
run_case(gconstpointer data)
{
    Case one = {.loop = g_main_loop_new(NULL, FALSE)};

    memcpy(&one.fn, &data, sizeof(data));
    fiber_start("case", case_body, &one);
    g_main_loop_run(one.loop);
    while (fiber_count() > 0) {
        g_main_context_iteration(NULL, TRUE);
    }
    g_main_loop_unref(one.loop);
}

static inline void
add(const char *name, void (*fn)(void))
{
    gconstpointer data;
    g_autofree char *path = g_strconcat("/guestlink/", name, NULL);

    memcpy(&data, &fn, sizeof(data));
    g_test_add_data_func(path, data, run_case);
}
