/* fork.h: the short-lived helpers, 'hawserd fork<what> ARGS…': what must not happen in the daemon
 * itself (liblxc's forking, entering namespaces, serving a proxy). Single-threaded, no main loop. */
#pragma once

/* argv[0] is the helper's name. Returns the exit status. */
int fork_main(int argc, char **argv);
