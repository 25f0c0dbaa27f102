/* Crash points: the variable is read once; the count is of this area's points only. */
#include "base/crash.h"

#include <glib.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void
crash_point(const char *area)
{
    static gsize looked;
    static char *wanted;
    static gint left;
    if (g_once_init_enter(&looked)) {
        const char *set = getenv("HAWSER_CRASH");
        const char *colon = set != NULL ? strchr(set, ':') : NULL;
        if (colon != NULL) {
            wanted = g_strndup(set, (gsize) (colon - set));
            left = atoi(colon + 1);
        }
        g_once_init_leave(&looked, 1);
    }
    if (wanted != NULL && strcmp(wanted, area) == 0 && g_atomic_int_dec_and_test(&left)) {
        kill(getpid(), SIGKILL);
    }
}
