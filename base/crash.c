/* Crash points: the variables are read once; the count is of the wanted area's points only. */
#include "base/crash.h"

#include "base/fiber.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HOLD_LOOK_MS = 20 };

static char *wanted; /* the area; NULL: none */
static char *held;   /* the file of a hold; NULL: a kill */
static gint left;

static void
read_environment(void)
{
    const char *hold = getenv("HAWSER_HOLD");
    const char *set = hold != NULL ? hold : getenv("HAWSER_CRASH");
    guint fields = hold != NULL ? 3 : 2;
    g_auto(GStrv) parts = g_strsplit(set != NULL ? set : "", ":", (gint) fields);
    if (g_strv_length(parts) == fields) {
        wanted = g_strdup(parts[0]);
        left = atoi(parts[1]);
        held = g_strdup(parts[2]); /* NULL with two fields */
    }
}

void
crash_point(const char *area)
{
    static gsize looked;
    if (g_once_init_enter(&looked)) {
        read_environment();
        g_once_init_leave(&looked, 1);
    }
    if (wanted == NULL || strcmp(wanted, area) != 0 || !g_atomic_int_dec_and_test(&left)) {
        return;
    }
    if (held == NULL) {
        kill(getpid(), SIGKILL);
        return;
    }
    g_file_set_contents(held, "", 0, NULL);
    while (access(held, F_OK) == 0) {
        fiber_sleep_ms(HOLD_LOOK_MS, NULL, NULL);
    }
}
