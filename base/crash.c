/* Crash points: the variables are read once, a file at each point until it is there; the count is of the wanted
 * area's points only. */
#include "base/crash.h"

#include "base/fiber.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HOLD_LOOK_MS = 20 };

static char *wanted;     /* the area; NULL: none */
static char *held;       /* the file of a hold; NULL: a kill */
static const char *file; /* where the words will be; NULL: nowhere */
static gint left;

static void
take(const char *words, guint fields)
{
    g_auto(GStrv) parts = g_strsplit(words, ":", (gint) fields);
    if (g_strv_length(parts) == fields) {
        left = atoi(parts[1]);
        held = g_strdup(parts[2]); /* NULL with two fields */
        g_atomic_pointer_set(&wanted, g_strdup(parts[0]));
    }
}

static void
read_environment(void)
{
    const char *hold = getenv("HAWSER_HOLD");
    const char *kills = getenv("HAWSER_CRASH");
    if (hold != NULL) {
        take(hold, 3);
    } else if (kills != NULL && *kills == '@') {
        file = kills + 1;
    } else if (kills != NULL) {
        take(kills, 2);
    }
}

static void
read_file(void)
{
    static gint taken; /* several threads may pass points; one takes the words */
    g_autofree char *words = NULL;
    if (g_file_get_contents(file, &words, NULL, NULL) &&
        g_atomic_int_compare_and_exchange(&taken, 0, 1)) {
        take(words, 2);
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
    if (file != NULL && g_atomic_pointer_get(&wanted) == NULL) {
        read_file();
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
