/* forkfile.h: `hawserd forkfile` and `hawserd forksftp`: files of one instance, served from inside it.
 * Threads: a process of its own; the agent's side is files.c. */
#pragma once

int forkfile_main(int argc, char **argv);
int forkfile_sftp_main(int argc, char **argv);
