/* The log of ACLs on ovn networks. ovn-controller writes a line a packet for rules that log:
 *   2023-05-01T12:00:00.123Z|00004|acl_log(ovn_pinctrl0)|INFO|name="lxd_acl1-ingress-0", verdict=drop,
 *   severity=info, direction=to-lport: tcp,vlan_tci=0x0000,…,nw_src=10.1.0.2,nw_dst=10.1.0.3,…,
 *   tp_src=40000,tp_dst=80,…
 * The rule's name begins with that of its port group, so the ACL's id tells which lines are its own,
 * however it was called then. Default actions have names of their own and are in nobody's log.
 * The embedded OVN's log is below the state directory, else it is the system's. Only the end of a long
 * log is read. Called by netacl_api.c. */
#include "agent/net/ovn_acllog.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/fiber.h"

enum { MOST = 16 << 20 };
#define SYSTEM_LOG "/var/log/ovn/ovn-controller.log"

struct reading {
    const char *path;
    char *text;
};

static void
read_job(void *data)
{
    struct reading *reading = data;
    struct stat info;
    haw_autofd int fd = open(reading->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) < 0) {
        return;
    }
    gsize size = (gsize) MIN(info.st_size, MOST);
    char *text = g_malloc(size + 1);
    ssize_t got = pread(fd, text, size, info.st_size - (off_t) size);
    text[MAX(got, 0)] = '\0';
    reading->text = text;
}

char *
ovn_acllog_read(Agent *agent)
{
    g_autofree char *embedded = agent_path(agent, "ovn/ovn-controller.log");
    struct reading reading = {.path = embedded};
    fiber_run(read_job, &reading);
    if (reading.text == NULL) {
        reading.path = SYSTEM_LOG;
        fiber_run(read_job, &reading);
    }
    return reading.text != NULL ? reading.text : g_strdup("");
}

/* "nw_src" of "…,nw_src=10.1.0.2,…"; NULL when it is not there. Caller frees. */
static char *
field(const char *flow, const char *name)
{
    g_autofree char *start = g_strdup_printf(",%s=", name);
    const char *at = strstr(flow, start);
    if (at == NULL) {
        return NULL;
    }
    at += strlen(start);
    return g_strndup(at, strcspn(at, ", "));
}

static void
put_field(json_t *entry, const char *name, const char *flow, const char *const *fields)
{
    g_autofree char *value = NULL;
    for (; *fields != NULL && value == NULL; fields++) {
        value = field(flow, *fields);
    }
    json_object_set_new(entry, name, json_string(value != NULL ? value : ""));
}

static void
put_line(GString *text, const char *line, const char *verdict, const char *flow)
{
    static const struct {
        const char *name, *fields[3];
    } known[] = {{"src", {"nw_src", "ipv6_src"}}, {"dst", {"nw_dst", "ipv6_dst"}},
                 {"src_port", {"tp_src"}},        {"dst_port", {"tp_dst"}},
                 {"icmp_type", {"icmp_type"}},    {"icmp_code", {"icmp_code"}}};
    g_autofree char *time = g_strndup(line, strcspn(line, "|"));
    g_autofree char *proto = g_strndup(flow, strcspn(flow, ","));
    g_autofree char *action = g_strndup(verdict, strcspn(verdict, ","));
    if (g_str_has_suffix(proto, "6") && strcmp(proto, "icmp6") != 0) {
        proto[strlen(proto) - 1] = '\0'; /* "tcp6" */
    }
    json_t *entry = json_pack("{s:s, s:s}", "time", time, "proto", proto);
    if (entry == NULL) { /* not UTF-8 */
        return;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(known); i++) {
        put_field(entry, known[i].name, flow, known[i].fields);
    }
    json_object_set_new(entry, "action", json_string(action));
    char *dump = json_dumps(entry, JSON_COMPACT | JSON_PRESERVE_ORDER);
    g_string_append_printf(text, "%s\n", dump);
    free(dump);
    json_decref(entry);
}

char *
ovn_acllog_of(const char *log, gint64 acl)
{
    static const char verdict_is[] = "\", verdict=";
    g_autofree char *own = g_strdup_printf("name=\"lxd_acl%" G_GINT64_FORMAT "-", acl);
    g_autofree char *own_net = g_strdup_printf("name=\"lxd_acl%" G_GINT64_FORMAT "_net", acl);
    g_autoptr(GString) text = g_string_new(NULL);
    g_auto(GStrv) lines = g_strsplit(log, "\n", -1);
    for (char **line = lines; *line != NULL; line++) {
        const char *acl_log = strstr(*line, "|acl_log(");
        const char *name = acl_log != NULL ? strstr(acl_log, own) : NULL;
        if (acl_log != NULL && name == NULL) {
            name = strstr(acl_log, own_net);
        }
        const char *verdict = name != NULL ? strstr(name, verdict_is) : NULL;
        const char *flow = verdict != NULL ? strstr(verdict, ": ") : NULL;
        if (flow != NULL) {
            put_line(text, *line, verdict + strlen(verdict_is), flow + 2);
        }
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}

static int
by_line(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *) a, *(const char *const *) b); /* "{"time":"2023-…" */
}

char *
ovn_acllog_merge(const char *a, const char *b)
{
    if (*a == '\0' || *b == '\0') {
        return g_strdup(*a != '\0' ? a : b);
    }
    g_autofree char *both = g_strconcat(a, b, NULL);
    g_auto(GStrv) lines = g_strsplit(both, "\n", -1);
    g_autoptr(GPtrArray) sorted = g_ptr_array_new();
    for (char **line = lines; *line != NULL; line++) {
        if (**line != '\0') {
            g_ptr_array_add(sorted, *line);
        }
    }
    g_ptr_array_sort(sorted, by_line);
    g_autoptr(GString) text = g_string_new(NULL);
    for (guint i = 0; i < sorted->len; i++) {
        g_string_append_printf(text, "%s\n", (char *) sorted->pdata[i]);
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}
