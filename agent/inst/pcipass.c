/* Devices of type pci: one of the host's, lent to a virtual machine while it runs (hw/pcilend.h).
 * Q1  What was lent is noted in the run directory, from where the stop, or the stop after a crash, takes it.
 * Called by device.c; main loop, inside fibers. */
#include <string.h>

#include "agent/inst/devtype.h"
#include "base/fiber.h"
#include "hw/pcilend.h"

struct job {
    char *dev, *note; /* owned */
    bool ok;
    GError *error;
};

static void
job_init(struct job *job, const Device *device)
{
    const char *address = devtype_get(device, "address");
    g_autofree char *dir = inst_run_dir(device->inst);
    /* With the domain, as sysfs has it. */
    bool is_short = address != NULL && strlen(address) == strlen("00:00.0");
    *job = (struct job){.dev = g_strconcat(is_short ? "0000:" : "", address, NULL),
                        .note = g_strdup_printf("%s/pci.%s", dir, device->name)};
}

static bool
job_done(struct job *job, GError **error)
{
    if (job->error != NULL) {
        g_propagate_error(error, job->error);
    }
    g_free(job->dev);
    g_free(job->note);
    return job->ok;
}

static void
give_job(void *data)
{
    struct job *job = data;
    job->ok = pcilend_give(job->dev, job->note, &job->error);
}

static void
back_job(void *data)
{
    struct job *job = data;
    job->ok = pcilend_back(job->note, &job->error);
}

static bool
is_address(const char *value, GError **error)
{
    return g_regex_match_simple("^([0-9a-f]{4}:)?[0-9a-f]{2}:[01][0-9a-f]\\.[0-7]$", value, 0, 0) ||
           haw_fail(error, HAW_INVALID, "Invalid PCI address \"%s\": it is like \"0000:3b:00.0\"",
                    value);
}

static bool
start_vm(Agent *agent, const Device *device, json_t *item, GError **error)
{
    struct job job;
    job_init(&job, device);
    fiber_run(give_job, &job);
    json_object_set_new(item, "pci", json_string(job.dev));
    return job_done(&job, error);
}

/* Q1 */
static bool
stop(Agent *agent, const Device *device, GError **error)
{
    struct job job;
    job_init(&job, device);
    fiber_run(back_job, &job);
    return job_done(&job, error);
}

static const DevtypeOption options[] = {{"address", is_address, true}, {NULL}};
const Devtype pcipass_devtype = {
    .type = "pci", .options = options, .start_vm = start_vm, .stop = stop};
