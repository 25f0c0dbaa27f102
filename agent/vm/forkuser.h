/* forkuser.h: the helper that becomes a program of another user. Threads: the helper's only one. */
#pragma once

/* "forkuser UID GID,GID… FD PROGRAM ARGUMENT…": groups may be empty; FD is the directory to be in. Does not
 * return if all goes well. */
int forkuser_main(int argc, char **argv);
