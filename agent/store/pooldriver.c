/* The table of storage drivers. Threads: any. */
#include "agent/store/pooldriver.h"

#include <string.h>

const Driver *const driver_table[] = {&btrfs_driver, &dir_driver, &overlay_driver, NULL};

const Driver *
pooldriver_find(const char *name)
{
    for (const Driver *const *driver = driver_table; *driver != NULL; driver++) {
        if (strcmp((*driver)->name, name) == 0) {
            return *driver;
        }
    }
    return NULL;
}
