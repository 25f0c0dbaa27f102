/* forkshare.h: a directory of the host for a virtual machine, by a virtiofsd that sees no other.
 * Threads: single-threaded, in a process of its own. */
#pragma once

/* 'hawserd forkshare SOURCE ro|rw PROGRAM': becomes PROGRAM, a virtiofsd that serves SOURCE to the socket
 * that is its descriptor 3. Returns the exit status when it can't. */
int forkshare_main(int argc, char **argv);
