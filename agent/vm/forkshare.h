/* forkshare.h: a directory of the host for a virtual machine, by a daemon that sees no other.
 * Threads: single-threaded, in a process of its own. */
#pragma once

/* 'hawserd forkshare SOURCE ro|rw virtiofs|9p PROGRAM': becomes PROGRAM (virtiofsd, virtfs-proxy-helper),
 * which serves SOURCE to the socket that is its descriptor 3. Returns the exit status when it can't. */
int forkshare_main(int argc, char **argv);
