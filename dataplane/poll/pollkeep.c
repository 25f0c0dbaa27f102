/* Ports over restarts.
 * K1  The file is a PollApply that adds all there are, as they were asked for, replaced in one step. It is saved
 *     before a request is answered: who has got an answer need not ask again after a crash.
 * K2  Flows are not in it: they are learned anew, which takes some packets.
 * K3  A file that can't be read counts as none, with a warning: the ports can be asked for again.
 * Called by pollsock.c. */
#include "dataplane/poll/pollkeep.h"

#include <string.h>

#include "base/fd.h"
#include "base/log.h"

struct PollKeep {
    char *path;
    GPtrArray *ports; /* owned Dpd__PollPort, unpacked */
};

static void
free_port(void *port)
{
    dpd__poll_port__free_unpacked(port, NULL);
}

void
pollkeep_add(PollKeep *keep, const Dpd__PollPort *port)
{
    size_t size = dpd__poll_port__get_packed_size(port);
    g_autofree guint8 *bytes = g_malloc(MAX(size, 1));
    dpd__poll_port__pack(port, bytes);
    pollkeep_remove(keep, port->id);
    g_ptr_array_add(keep->ports, dpd__poll_port__unpack(NULL, size, bytes));
}

bool
pollkeep_remove(PollKeep *keep, const char *id)
{
    for (guint i = 0; i < keep->ports->len; i++) {
        const Dpd__PollPort *port = keep->ports->pdata[i];
        if (strcmp(port->id, id) == 0) {
            g_ptr_array_remove_index(keep->ports, i);
            return true;
        }
    }
    return false;
}

/* K1 */
bool
pollkeep_save(const PollKeep *keep, GError **error)
{
    Dpd__PollApply all = DPD__POLL_APPLY__INIT;
    all.n_ports = keep->ports->len;
    all.ports = (Dpd__PollPort **) keep->ports->pdata;
    size_t size = dpd__poll_apply__get_packed_size(&all);
    g_autofree guint8 *bytes = g_malloc(MAX(size, 1));
    dpd__poll_apply__pack(&all, bytes);
    return fd_write_atomic(keep->path, bytes, size, 0600, error);
}

PollKeep *
pollkeep_new(const char *dir)
{
    PollKeep *keep = g_new0(PollKeep, 1);
    g_autofree char *bytes = NULL;
    g_autoptr(GError) error = NULL;
    gsize size;
    keep->path = g_build_filename(dir, "poll.ports", NULL);
    keep->ports = g_ptr_array_new_with_free_func(free_port);
    if (!g_file_get_contents(keep->path, &bytes, &size, &error)) {
        if (!g_error_matches(error, G_FILE_ERROR, G_FILE_ERROR_NOENT)) {
            haw_warn("poll.ports", KS("why", error->message)); /* K3 */
        }
        return keep;
    }
    Dpd__PollApply *all = dpd__poll_apply__unpack(NULL, size, (const guint8 *) bytes);
    if (all == NULL) {
        haw_warn("poll.ports", KS("why", "the file is damaged"), KS("file", keep->path)); /* K3 */
        return keep;
    }
    for (size_t i = 0; i < all->n_ports; i++) {
        pollkeep_add(keep, all->ports[i]);
    }
    dpd__poll_apply__free_unpacked(all, NULL);
    return keep;
}

GPtrArray *
pollkeep_ports(const PollKeep *keep)
{
    return keep->ports;
}

void
pollkeep_free(PollKeep *keep)
{
    if (keep != NULL) {
        g_ptr_array_unref(keep->ports);
        g_free(keep->path);
        g_free(keep);
    }
}
