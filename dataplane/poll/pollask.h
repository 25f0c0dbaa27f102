/* pollask.h: the other end of the poll-mode process's socket, for people and suites:
 *   add KEY=VALUE…   id device slow mac mtu zone addresses=A,B off
 *   remove ID…
 *   bump ZONE…
 *   status [FLOWS]
 * Threads: the main thread, in a loop of its own. */
#pragma once

/* 'args' ends with NULL. The exit status. */
int pollask_run(const char *dir, char **args);
