/* forkproxy.h: `hawserd forkproxy`: the process that carries one proxy device's traffic.
 * Threads: a process of its own; see proxy.c for the agent's side. */
#pragma once

int forkproxy_main(int argc, char **argv);
