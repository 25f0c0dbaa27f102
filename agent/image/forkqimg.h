/* forkqimg.h: one conversion by qemu-img, in a child that can do nothing else.
 * Threads: single-threaded, in a process of its own. */
#pragma once

/* 'hawserd forkqimg OPERATION LIMIT'. Descriptors 3 and 4 are what it reads and writes. Returns the exit
 * status. */
int forkqimg_main(int argc, char **argv);
