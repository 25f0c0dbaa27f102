/* seed.h: what the config share has for cloud-init, brought to where it looks.
 * Threads: the guest's only one. */
#pragma once

/* Copies "cloud-init/" beside our program to cloud-init's seed directory, where there is cloud-init. */
void seed_cloud_init(void);
