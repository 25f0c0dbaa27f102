/* forkprepare.h: prepares this host's accelerated NICs again after a boot.
 * Threads: single-threaded, in a process of its own. */
#pragma once

/* 'hawserd forkprepare FILE', by systemd before hawserd: carries out what hardware.c kept in FILE
 * ("<dir>/hw-prepare.json"). Returns the exit status. */
int forkprepare_main(int argc, char **argv);
