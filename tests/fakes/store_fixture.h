/* store_fixture.h: an agent that is nothing but a directory, a database and pools, for tests of
 * agent/store. The world outside (warnings, paths) is faked by weak symbols: the agent's own are taken
 * where they are linked. Included by one .c a program. */
#pragma once
#include "agent/api/warning.h"
#include "agent/store/disktree.h"
#include "agent/store/shelf.h"
#include "base/fd.h"
#include "base/log.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

__attribute__((weak)) void
warning_raise(Agent *agent, WarningType type, const char *project, const char *entity_url,
              const char *message)
{
}

__attribute__((weak)) void
warning_resolve(Agent *agent, WarningType type, const char *project, const char *entity_url)
{
}

__attribute__((weak)) char *
agent_path(const Agent *agent, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *tail = g_strdup_vprintf(format, args);
    va_end(args);
    return g_build_filename(agent->dir, tail, NULL);
}

typedef struct {
    Agent agent;
    PoolTable *table;
} Fixture;

static void
up(Fixture *f, const char *dir)
{
    g_autoptr(GError) error = NULL;
    f->agent.dir = g_strdup(dir);
    g_autofree char *db = g_build_filename(dir, "db", NULL);
    f->agent.db = db_open(db, &error);
    g_assert_no_error(error);
    f->table = f->agent.pools = pool_table_new(&f->agent);
    pool_table_start(f->table, &error);
    g_assert_no_error(error);
}

static void
down(Fixture *f)
{
    pool_table_stop(f->table);
    for (int i = 0; i < 5; i++) {
        fiber_sleep_ms(20, NULL, NULL); /* the minute task sees its cancel */
    }
    pool_table_free(f->table);
    db_close(f->agent.db);
    g_free(f->agent.dir);
}

typedef void (*Body)(Fixture *f, const char *dir);

/* What a case runs on: a fresh directory with the pool 'p1' of this driver. */
typedef struct {
    const char *driver, *size; /* size NULL: not a key of the driver's */
    Body body;
} Case;

static void
make_pool(Fixture *f, const char *name, const char *driver, const char *size)
{
    g_autoptr(GError) error = NULL;
    json_t *config = json_object();
    if (size != NULL) {
        json_object_set_new(config, "size", json_string(size));
    }
    pool_create(f->table, name, driver, "", config, &error);
    g_assert_no_error(error);
    json_decref(config);
}

static void
case_fiber(void *data)
{
    const Case *test = data;
    g_autofree char *dir = g_dir_make_tmp("haw-store-XXXXXX", NULL);
    Fixture f = {0};
    chmod(dir, 0711); /* containers walk through it */
    up(&f, dir);
    make_pool(&f, "p1", test->driver, test->size);
    test->body(&f, dir);
    down(&f);
    disktree_remove(dir, NULL);
}

G_GNUC_UNUSED static void
run_case(gconstpointer test)
{
    fiber_start("test", case_fiber, (void *) test);
    while (fiber_count() > 0) {
        g_main_context_iteration(NULL, TRUE);
    }
}
