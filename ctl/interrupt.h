/* interrupt.h: Ctrl-C and SIGTERM, as a flag that everything which waits looks at.
 * Threads: the one thread of the program. */
#pragma once
#include <stdbool.h>

/* From then on the first signal sets the flag, and the third ends the program. SIGPIPE is ignored. */
void interrupt_catch(void);
bool interrupt_seen(void);
void interrupt_clear(void);
