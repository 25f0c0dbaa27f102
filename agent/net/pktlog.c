/* The log of ACLs on bridges. nftables writes a line a packet into the kernel's log, behind the prefix
 * that netacl.c gave the rule: "NETWORK-DIRECTION-INDEX IN=… SRC=… DST=… PROTO=TCP SPT=… DPT=…".
 * Two ACLs on one network can have a logged rule with the same index; such a packet is shown for both.
 * The kernel's log is a ring: old packets are lost, and other network namespaces than the first are
 * only heard with net.netfilter.nf_log_all_netns=1. */
#include "agent/net/pktlog.h"

#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <time.h>

#include "base/clock.h"
#include "base/fiber.h"
#include "proto/keys.h"

enum { KLOG_READ_ALL = 3, KLOG_SIZE = 10, KLOG_MOST = 16 << 20 };

static void
read_job(void *data)
{
    char **text = data;
    int size = klogctl(KLOG_SIZE, NULL, 0);
    if (size > 0 && size <= KLOG_MOST) {
        char *bytes = g_malloc((gsize) size + 1);
        int got = klogctl(KLOG_READ_ALL, bytes, size);
        bytes[MAX(got, 0)] = '\0';
        *text = bytes;
    }
}

char *
pktlog_read(void)
{
    char *text = NULL;
    fiber_run(read_job, &text);
    return text != NULL ? text : g_strdup("");
}

gint64
pktlog_uptime_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (gint64) now.tv_sec * G_USEC_PER_SEC + now.tv_nsec / 1000;
}

/* "SRC=10.0.0.5" gives "10.0.0.5"; "" when it is not there. Caller frees. */
static char *
field(const char *line, const char *name)
{
    g_autofree char *start = g_strdup_printf(" %s=", name);
    const char *at = strstr(line, start);
    if (at == NULL) {
        return g_strdup("");
    }
    at += strlen(start);
    return g_strndup(at, strcspn(at, " "));
}

/* The logged rule that a line's prefix names; NULL when it is none of the ACL's. */
static json_t *
rule_of(const char *line, const char *const *on, json_t *ingress, json_t *egress)
{
    const char *at = strstr(line, "] ");
    for (; at != NULL && *on != NULL; on++) {
        const char *rest = at + 2;
        if (!g_str_has_prefix(rest, *on) || rest[strlen(*on)] != '-') {
            continue;
        }
        rest += strlen(*on) + 1;
        json_t *rules = g_str_has_prefix(rest, "ingress-")  ? ingress
                        : g_str_has_prefix(rest, "egress-") ? egress
                                                            : NULL;
        char *end = NULL;
        guint64 index = rules != NULL ? g_ascii_strtoull(strchr(rest, '-') + 1, &end, 10) : 0;
        json_t *rule = rules != NULL && *end == ' ' ? json_array_get(rules, index) : NULL;
        if (rule != NULL && g_strcmp0(keys_get(rule, "state"), "logged") == 0) {
            return rule;
        }
    }
    return NULL;
}

static void
put_line(GString *text, const char *line, json_t *rule, gint64 boot_us)
{
    const char *stamp = strchr(line, '[');
    double seconds = stamp != NULL ? g_ascii_strtod(stamp + 1, NULL) : 0;
    g_autofree char *when = clock_format(boot_us + (gint64) (seconds * G_USEC_PER_SEC));
    static const char *const names[][2] = {{"src", "SRC"},        {"dst", "DST"},
                                           {"src_port", "SPT"},   {"dst_port", "DPT"},
                                           {"icmp_type", "TYPE"}, {"icmp_code", "CODE"}};
    g_autofree char *upper = field(line, "PROTO");
    g_autofree char *proto = g_ascii_strdown(upper, -1);
    json_t *entry = json_pack("{s:s, s:s}", "time", when, "proto", proto);
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *value = field(line, names[i][1]);
        json_object_set_new(entry, names[i][0], json_string(value));
    }
    json_object_set_new(entry, "action", json_string(keys_get(rule, "action")));
    char *dump = json_dumps(entry, JSON_COMPACT | JSON_PRESERVE_ORDER);
    g_string_append_printf(text, "%s\n", dump);
    free(dump);
    json_decref(entry);
}

char *
pktlog_of_acl(const char *kernel, const char *const *on, json_t *ingress, json_t *egress,
              gint64 boot_us)
{
    g_autoptr(GString) text = g_string_new(NULL);
    g_auto(GStrv) lines = g_strsplit(kernel, "\n", -1);
    for (char **line = lines; *line != NULL; line++) {
        json_t *rule = rule_of(*line, on, ingress, egress);
        if (rule != NULL) {
            put_line(text, *line, rule, boot_us);
        }
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}
