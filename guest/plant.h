/* plant.h: files that the image's templates say, brought to their places in the guest.
 * Threads: the guest's only one. */
#pragma once

/* "files/list" beside our program names them. Once a boot. */
void plant_files(void);
