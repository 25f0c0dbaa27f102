/* reference_agent.c: the agent's tables as Markdown: 'reference_agent config|metrics|extensions'.
 * check.sh holds docs/reference/ against it. */
#include "agent/api/info.h"
#include "agent/metrics/families.h"
#include "proto/keys.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *title, *about;
    const Key *keys;
} groups[] = {
    {"Server", "`hawser config set KEY VALUE`.", keys_server},
    {"Instances and profiles", "`hawser config set INSTANCE KEY VALUE`, `hawser profile set …`.",
     keys_instance},
    {"Projects", "`hawser project set PROJECT KEY VALUE`.", keys_project},
    {"Storage pools", "`hawser storage set POOL KEY VALUE`; what every driver takes.", keys_pool},
    {"Storage pools: dir", "", keys_pool_dir},
    {"Storage pools: btrfs", "", keys_pool_btrfs},
    {"Storage pools: overlay", "", keys_pool_overlay},
    {"Storage volumes", "`hawser storage volume set POOL VOLUME KEY VALUE`.", keys_volume},
    {"Networks: bridge", "`hawser network set NETWORK KEY VALUE`.", keys_network_bridge},
    {"Networks: ovn", "", keys_network_ovn},
    {"Networks: physical", "", keys_network_physical},
    {"Networks: macvlan", "", keys_network_macvlan},
    {"Networks: sriov", "", keys_network_sriov},
};

static void
print_cell(const char *text)
{
    for (; *text != '\0'; text++) {
        printf(*text == '|' ? "\\|" : "%c", *text);
    }
}

static void
print_key(const Key *key)
{
    static const struct {
        KeyFlags flag;
        const char *word;
    } words[] = {
        {KEY_LIVE, "live"},     {KEY_CONTAINER, "containers"}, {KEY_VM, "VMs"},
        {KEY_HIDDEN, "secret"}, {KEY_FIXED, "at creation"},    {KEY_INTERNAL, "kept by the agent"}};
    const char *between = "";
    printf("| `%s%s` | ", key->name, key->flags & KEY_PREFIX ? "*" : "");
    print_cell(key->type);
    printf(" | %s%s%s | ", key->fallback != NULL ? "`" : "",
           key->fallback != NULL ? key->fallback : "", key->fallback != NULL ? "`" : "");
    for (size_t i = 0; i < G_N_ELEMENTS(words); i++) {
        if (key->flags & words[i].flag) {
            printf("%s%s", between, words[i].word);
            between = ", ";
        }
    }
    printf(" | ");
    print_cell(key->help);
    printf(" |\n");
}

static void
print_config(void)
{
    printf("# Configuration keys\n\nMade from the tables of `proto/keys_*.c` by "
           "`tests/reference/check.sh "
           "--write`. \"live\": takes effect on what runs.\n");
    for (size_t i = 0; i < G_N_ELEMENTS(groups); i++) {
        printf("\n## %s\n\n%s%s| key | type | default | | |\n|---|---|---|---|---|\n",
               groups[i].title, groups[i].about, *groups[i].about != '\0' ? "\n\n" : "");
        for (const Key *key = groups[i].keys; key->name != NULL; key++) {
            print_key(key);
        }
    }
}

struct family {
    const char *name, *kind, *labels, *help;
};
#define X(id, name, kind, labels, help) {name, #kind, labels, help},
static const struct family of_instances[] = {METRIC_INSTANCE_FAMILIES(X){NULL}};
static const struct family of_daemon[] = {METRIC_DAEMON_FAMILIES(X){NULL}};
static const struct family of_hawser[] = {METRIC_HAWSER_FAMILIES(X){NULL}};
static const struct family of_process[] = {METRIC_PROCESS_FAMILIES(X){NULL}};
#undef X

static void
print_families(const char *title, const char *about, const struct family *family)
{
    printf("\n## %s\n\n%s\n\n| metric | kind | labels | |\n|---|---|---|---|\n", title, about);
    for (; family->name != NULL; family++) {
        g_autofree char *kind = g_ascii_strdown(family->kind, -1);
        printf("| `%s` | %s | %s | ", family->name, kind, family->labels);
        print_cell(family->help);
        printf(" |\n");
    }
}

static void
print_metrics(void)
{
    printf(
        "# Metrics\n\nMade from `agent/metrics/families.h` by `tests/reference/check.sh --write`. "
        "How to have them scraped: [monitoring](../monitoring/README.md).\n");
    print_families("Of instances",
                   "Of those that run; beside the labels named here each has `name`, "
                   "`project` and `type`.",
                   of_instances);
    print_families("Of the agent, as LXD calls them",
                   "There is no Go here: what has no counterpart is 0.", of_daemon);
    print_families("Of the agent and the dataplane",
                   "For callers that are not restricted to projects, but for `hawser_instances`.",
                   of_hawser);
    print_families("Of the process", "What clients of Prometheus call their own.", of_process);
}

static void
print_extensions(void)
{
    printf("# API extensions\n\nWhat of LXD's API works, by the names that clients look up in "
           "`api_extensions`. Made from `agent/api/extensions.c` by `tests/reference/check.sh "
           "--write`.\n\n");
    for (const char *const *name = info_extensions; *name != NULL; name++) {
        printf("- `%s`\n", *name);
    }
}

int
main(int argc, char **argv)
{
    const char *what = argc == 2 ? argv[1] : "";
    if (strcmp(what, "config") == 0) {
        print_config();
    } else if (strcmp(what, "metrics") == 0) {
        print_metrics();
    } else if (strcmp(what, "extensions") == 0) {
        print_extensions();
    } else {
        fprintf(stderr, "usage: reference_agent config|metrics|extensions\n");
        return 2;
    }
    return 0;
}
