/* ovsdb_server.h: a real ovsdb-server for tests and benches: in a directory of its own, killed, started again.
 * Threads: main loop, inside fibers. Where the program is missing, the test is skipped by its main(). */
#pragma once
#include "base/fd.h"
#include "base/fiber.h"
#include "base/proc.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

/* 'sock' is the path of its socket; 'file' the database. */
struct ovsdb_server {
    char *dir, *file, *sock;
    pid_t pid;
};

static inline void
ovsdb_server_tool(const char *const *argv)
{
    g_autoptr(GError) error = NULL;
    ProcSpec spec = {.argv = argv, .fd_in = -1, .fd_out = -1, .wait_ms = 10000};
    proc_run(&spec, NULL, &error);
    g_assert_no_error(error);
}

static inline void
ovsdb_server_spawn(struct ovsdb_server *server, const char *const *extra)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(argv, g_strdup("ovsdb-server"));
    g_ptr_array_add(argv, g_strdup_printf("--remote=punix:%s", server->sock));
    g_ptr_array_add(argv, g_strdup_printf("--unixctl=%s.ctl", server->sock));
    g_ptr_array_add(argv, g_strdup("--no-chdir"));
    for (; extra != NULL && *extra != NULL; extra++) {
        g_ptr_array_add(argv, g_strdup(*extra));
    }
    g_ptr_array_add(argv, g_strdup(server->file));
    g_ptr_array_add(argv, NULL);
    g_autofree char *log = g_strdup_printf("%s.log", server->sock);
    server->pid = proc_spawn((const char *const *) argv->pdata, NULL, log, NULL, 0, &error);
    g_assert_no_error(error);
}

static inline void
ovsdb_server_start(struct ovsdb_server *server, const char *schema, const char *const *extra)
{
    g_autoptr(GError) error = NULL;
    server->dir = g_dir_make_tmp("ovsdb-XXXXXX", NULL);
    server->file = g_build_filename(server->dir, "test.db", NULL);
    server->sock = g_build_filename(server->dir, "sock", NULL);
    ovsdb_server_tool((const char *[]){"ovsdb-tool", "create", server->file, schema, NULL});
    ovsdb_server_spawn(server, extra);
}

static inline void
ovsdb_server_kill(struct ovsdb_server *server)
{
    kill(server->pid, SIGKILL);
    waitpid(server->pid, NULL, 0);
}

static inline void
ovsdb_server_end(struct ovsdb_server *server)
{
    ovsdb_server_kill(server);
    fd_remove_tree(server->dir, NULL);
    g_free(server->dir);
    g_free(server->file);
    g_free(server->sock);
}

static inline char *
ovsdb_server_remote(const struct ovsdb_server *server)
{
    return g_strdup_printf("unix:%s", server->sock);
}
