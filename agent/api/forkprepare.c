/* The steps that prepared a PF do not outlive a boot: done again, before the agent is there.
 * Called by fork.c of hawserd. A room of its own, so that the helpers do without the agent (forkmain.c). */
#include "agent/api/forkprepare.h"

#include "hw/backend.h"
#include "hw/prepare.h"

#include <stdio.h>

int
forkprepare_main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    if (argc != 2) {
        fprintf(stderr, "usage: hawserd forkprepare FILE\n");
        return 2;
    }
    g_autoptr(HwBackend) hw = hw_open(NULL, &error);
    if (hw == NULL || !prepare_boot(hw, argv[1], &error)) {
        fprintf(stderr, "hawserd: %s\n", error->message);
        return haw_code_exit(haw_code(error));
    }
    return 0;
}
