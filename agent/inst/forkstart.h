/* forkstart.h: the helper in which liblxc starts a container.
 * Threads: single-threaded, in a process of its own. */
#pragma once

/* 'hawserd forkstart NAME LXCPATH CONF', with launch.c at the other end of its channel. Returns the exit
 * status. */
int forkstart_main(int argc, char **argv);
