/* pktlog.h: packets that rules with state "logged" met, from the kernel's log.
 * Threads: main loop, inside fibers for pktlog_read(); the text functions anywhere. */
#pragma once
#include "base/error.h"
#include <jansson.h>

/* The kernel's log; "" when we may not read it. Caller frees. Yields. */
char *pktlog_read(void);
/* What the log's times count from, to now. */
gint64 pktlog_uptime_us(void);
/* One JSON object a line, oldest first, for the packets that the logged rules of an ACL met on the
 * networks 'on' (NULL-terminated); 'boot_us' is the wall clock at the log's time 0. Caller frees. */
char *pktlog_of_acl(const char *kernel, const char *const *on, json_t *ingress, json_t *egress,
                    gint64 boot_us);
