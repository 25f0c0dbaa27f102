/* recorded.h: a machine's NICs from a text file: sysfs files and links, and netlink messages by attribute,
 * written below a directory as hw/kernel.h reads a recorded machine.
 *
 *   # comment
 *   S bus/pci/devices/0000:3b:00.0/class 0x020000      a file of sysfs
 *   L bus/pci/devices/0000:3b:00.0/driver mlx5_core    a link of sysfs: only its last part matters
 *   D links                                            messages of this door (hw/nldoor.h) follow
 *   M 16 index=4 flags=0x1043                          an rtnetlink message: type, ifinfomsg
 *   G 3                                                a generic one: its command
 *     3 s ens1f0np0                                    attribute 3: text; u8 u16 u32 u64 decimal or 0x;
 *     1 x 0c42a1b2c3d4                                 bytes; f: none
 *     22 n                                             nested: the attributes indented further
 * Each test owns its directory. */
#pragma once
#include <glib.h>
#include <linux/genetlink.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct recorded {
    const char *root;
    FILE *door;             /* of the messages that follow */
    struct nl_msg *msg;     /* being built */
    struct nlattr *open[8]; /* nests, by depth */
    int depth;
};

static void
recorded_path(const char *path, const char *content, gboolean is_link)
{
    g_autofree char *folder = g_path_get_dirname(path);
    g_assert_cmpint(g_mkdir_with_parents(folder, 0755), ==, 0);
    if (is_link) {
        g_autofree char *target = g_strconcat("../x/", content, NULL);
        g_assert_cmpint(symlink(target, path), ==, 0);
    } else {
        g_autofree char *text = g_strconcat(content, "\n", NULL);
        g_assert_true(g_file_set_contents(path, text, -1, NULL));
    }
}

static void
recorded_close_nests(struct recorded *to, int depth)
{
    while (to->depth > depth) {
        nla_nest_end(to->msg, to->open[--to->depth]);
    }
}

static void
recorded_flush(struct recorded *to)
{
    if (to->msg != NULL) {
        recorded_close_nests(to, 0);
        struct nlmsghdr *header = nlmsg_hdr(to->msg);
        size_t size = NLMSG_ALIGN(header->nlmsg_len);
        g_assert_cmpuint(fwrite(header, 1, size, to->door), ==, size);
        nlmsg_free(to->msg);
        to->msg = NULL;
    }
}

static void
recorded_attr(struct recorded *to, int depth, int id, const char *kind, const char *value)
{
    recorded_close_nests(to, depth);
    if (strcmp(kind, "n") == 0) {
        to->open[to->depth++] = nla_nest_start(to->msg, id);
    } else if (strcmp(kind, "s") == 0) {
        nla_put_string(to->msg, id, value);
    } else if (strcmp(kind, "f") == 0) {
        nla_put_flag(to->msg, id);
    } else if (strcmp(kind, "x") == 0) {
        guint8 bytes[65536]; /* the longest attribute that there can be */
        size_t size = strlen(value) / 2;
        g_assert_cmpuint(size, <=, sizeof bytes);
        for (size_t i = 0; i < size; i++) {
            sscanf(value + 2 * i, "%2hhx", &bytes[i]);
        }
        nla_put(to->msg, id, (int) size, bytes);
    } else {
        guint64 number = g_ascii_strtoull(value, NULL, 0);
        int bits = atoi(kind + 1);
        nla_put(to->msg, id, bits / 8, &number);
    }
}

static void
recorded_message(struct recorded *to, const char *line)
{
    recorded_flush(to);
    to->msg = nlmsg_alloc_size(64 * 1024);
    if (*line == 'G') {
        struct genlmsghdr header = {.cmd = (guint8) atoi(line + 2), .version = 1};
        nlmsg_put(to->msg, 0, 0, 0x20, 0, 0);
        nlmsg_append(to->msg, &header, sizeof header, NLMSG_ALIGNTO);
    } else {
        struct ifinfomsg header = {.ifi_family = AF_UNSPEC};
        int type = 0;
        unsigned flags = 0;
        sscanf(line, "M %d index=%d flags=%x", &type, &header.ifi_index, &flags);
        header.ifi_flags = flags;
        nlmsg_put(to->msg, 0, 0, type, 0, 0);
        nlmsg_append(to->msg, &header, sizeof header, NLMSG_ALIGNTO);
    }
}

static void
recorded_line(struct recorded *to, const char *line)
{
    size_t blanks = strspn(line, " ");
    g_auto(GStrv) words = g_strsplit(line + blanks, " ", 3);
    const char *value = words[0] != NULL && words[1] != NULL && words[2] != NULL ? words[2] : "";
    if (words[0] == NULL || *words[0] == '#' || *words[0] == '\0') {
        return;
    }
    if (blanks > 0) {
        recorded_attr(to, (int) blanks / 2 - 1, atoi(words[0]), words[1], value);
    } else if (*line == 'S' || *line == 'L') {
        g_autofree char *path = g_strdup_printf("%s/sys/%s", to->root, words[1]);
        recorded_path(path, value, *line == 'L');
    } else if (*line == 'D') {
        recorded_flush(to);
        if (to->door != NULL) {
            fclose(to->door);
        }
        g_autofree char *path = g_strdup_printf("%s/netlink/%s.nl", to->root, words[1]);
        g_autofree char *folder = g_path_get_dirname(path);
        g_assert_cmpint(g_mkdir_with_parents(folder, 0755), ==, 0);
        to->door = fopen(path, "a");
        g_assert_nonnull(to->door);
    } else {
        recorded_message(to, line);
    }
}

/* Writes what 'text' says below 'root'. */
static void
recorded_write(const char *root, const char *text)
{
    struct recorded to = {.root = root};
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line != NULL; line++) {
        recorded_line(&to, *line);
    }
    recorded_flush(&to);
    if (to.door != NULL) {
        fclose(to.door);
    }
}
