/* ovn_acllog.h: packets that ACL rules with state "logged" met on ovn networks, from the log of
 * ovn-controller.
 * Threads: main loop, inside fibers for ovn_acllog_read(); the text functions anywhere. */
#pragma once
#include "agent/agent.h"

/* The end of the log; "" when there is none that we may read. Caller frees. Yields. */
char *ovn_acllog_read(Agent *agent);
/* One JSON object a line, as pktlog.h's, for the packets that the rules of the ACL with this id met.
 * Caller frees. */
char *ovn_acllog_of(const char *log, gint64 acl);
/* Two such texts as one, by time. Caller frees. */
char *ovn_acllog_merge(const char *a, const char *b);
