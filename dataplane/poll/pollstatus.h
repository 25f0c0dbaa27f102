/* pollstatus.h: what there is to see of a poll-mode engine, as a message.
 * Threads: main loop; reads what cores write, each number whole. */
#pragma once
#include "dataplane/poll/poller.h"
#include "proto/dpdwire.h"

typedef struct PollStatus PollStatus;
/* With up to 'flows' of its flows. */
PollStatus *pollstatus_new(Poller *poller, guint flows);
/* Lives as long as the status. */
Dpd__PollStatus *pollstatus_message(PollStatus *status);
void pollstatus_free(PollStatus *status);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PollStatus, pollstatus_free)
