/* How long does hawser-dpd take to claim a virtual function and to give it back, ledger and fsync included? 1,000 of
 * each on the simulated NIC. "own" is without the calls of the simulator, which are the kernel's and the NIC's time.
 * Usage: bench_dpd_claims [DIR [ROUNDS [MAX_P99_US]]]; needs root: the NIC is made in a network namespace of its own. */
#include "base/clock.h"
#include "base/fiber.h"
#include "base/log.h"
#include "dataplane/slow/ports.h"

#include <glib/gstdio.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct bench {
    const char *dir;
    guint rounds;
    gint64 *wall, *own; /* two a round: claim, release */
    int status;
};

static int
by_number(const void *one, const void *two)
{
    gint64 a = *(const gint64 *) one, b = *(const gint64 *) two;
    return a < b ? -1 : a > b;
}

static gint64
tell(const char *what, gint64 *numbers, guint count)
{
    qsort(numbers, count, sizeof(*numbers), by_number);
    printf("%-6s p50 %6" G_GINT64_FORMAT " us  p99 %6" G_GINT64_FORMAT
           " us  worst %6" G_GINT64_FORMAT " us\n",
           what, numbers[count / 2], numbers[count * 99 / 100], numbers[count - 1]);
    return numbers[count * 99 / 100];
}

static bool
apply(Ports *ports, Fleet *fleet, bool up, gint64 *ret_wall, gint64 *ret_own, GError **error)
{
    Dpd__Apply request = DPD__APPLY__INIT;
    Dpd__Port port = DPD__PORT__INIT, *list[] = {&port};
    char *ids[] = {(char *) "bench"};
    port.id = ids[0];
    port.kind = DPD__KIND__VF;
    port.mac = (char *) "00:16:3e:00:00:01";
    request.generation = ports_generation(ports) + 1;
    request.partial = true;
    request.ports = list;
    request.n_ports = up ? 1 : 0;
    request.remove = ids;
    request.n_remove = up ? 0 : 1;
    guint64 busy_us = fleet_busy_us(fleet);
    gint64 began_us = clock_mono_us();
    Dpd__Observed *observed = ports_apply(ports, &request, error);
    if (observed == NULL) {
        return false;
    }
    *ret_wall = clock_mono_us() - began_us;
    *ret_own = MAX(*ret_wall - (gint64) (fleet_busy_us(fleet) - busy_us), 0);
    bool ok = observed->ports[0]->state == (up ? DPD__STATE__READY : DPD__STATE__GONE) ||
              haw_fail(error, HAW_FAILED, "%s", observed->ports[0]->message);
    ports_observed_free(observed);
    return ok;
}

static void
run(void *data)
{
    struct bench *bench = data;
    g_autoptr(GError) error = NULL;
    g_autofree char *spec = g_strdup_printf("sim:%s/nic", bench->dir);
    g_autofree char *nic = g_build_filename(bench->dir, "nic", NULL);
    g_autofree char *path = g_build_filename(bench->dir, "ledger.db", NULL);
    g_mkdir(nic, 0700);
    Workers *workers = workers_new();
    Ledger *ledger = ledger_open(path, &error);
    Fleet *fleet = ledger != NULL ? fleet_new(spec, workers, NULL, NULL, &error) : NULL;
    bool ok = fleet != NULL;
    if (ok) {
        struct portsteps_doors doors = {fleet, ledger, NULL};
        Ports *ports = ports_new(&doors, NULL, NULL);
        for (guint i = 0; ok && i < 2 * bench->rounds; i++) {
            ok = apply(ports, fleet, i % 2 == 0, &bench->wall[i], &bench->own[i], &error);
        }
        ports_free(ports);
    }
    if (!ok) {
        fprintf(stderr, "bench_dpd_claims: %s\n", error->message);
        bench->status = 1;
    }
    fleet_free(fleet);
    workers_free(workers);
    ledger_close(ledger);
}

int
main(int argc, char **argv)
{
    g_autofree char *made = argc > 1 ? NULL : g_dir_make_tmp("bench-dpd-XXXXXX", NULL);
    struct bench bench = {.dir = argc > 1 ? argv[1] : made,
                          .rounds = argc > 2 ? (guint) atoi(argv[2]) : 1000};
    gint64 most_us = argc > 3 ? atoi(argv[3]) : 0;
    if (unshare(CLONE_NEWNET) < 0) {
        puts("bench_dpd_claims needs root");
        return 77;
    }
    bench.wall = g_new0(gint64, 2 * bench.rounds);
    bench.own = g_new0(gint64, 2 * bench.rounds);
    log_set_level(LOG_LEVEL_WARN);
    fiber_start("bench", run, &bench);
    while (fiber_count() > 0) {
        g_main_context_iteration(NULL, TRUE);
    }
    if (bench.status == 0) {
        tell("wall", bench.wall, 2 * bench.rounds);
        gint64 p99_us = tell("own", bench.own, 2 * bench.rounds);
        bench.status = most_us > 0 && p99_us > most_us;
    }
    g_free(bench.wall);
    g_free(bench.own);
    return bench.status;
}
