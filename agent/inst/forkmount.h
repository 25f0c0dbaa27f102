/* forkmount.h: `hawserd forkmount`: attaches and detaches mounts in a running container.
 * Threads: a process of its own; see inject.h for the agent's side. */
#pragma once

int forkmount_main(int argc, char **argv);
