/* sftp/sftp.c: S1 to S3, by packets. */
#include "sftp/sftp.h"

#include "base/fd.h"

#include <fcntl.h>
#include <glib.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char *top;
static int root;
static Sftp *sftp;
static SftpOut answer, *out = &answer;

/* A packet: 'types' has s text, i u32, l u64 for each further argument. */
static GByteArray *
packet(guint8 type, const char *types, ...)
{
    GByteArray *bytes = g_byte_array_new();
    va_list args;

    g_byte_array_append(bytes, &type, 1);
    va_start(args, types);
    for (; *types != '\0'; types++) {
        if (*types == 's') {
            const char *text = va_arg(args, const char *);
            guint32 size = GUINT32_TO_BE((guint32) strlen(text));
            g_byte_array_append(bytes, (guint8 *) &size, 4);
            g_byte_array_append(bytes, (const guint8 *) text, (guint) strlen(text));
        } else if (*types == 'i') {
            guint32 value = GUINT32_TO_BE(va_arg(args, guint32));
            g_byte_array_append(bytes, (guint8 *) &value, 4);
        } else {
            guint64 value = GUINT64_TO_BE(va_arg(args, guint64));
            g_byte_array_append(bytes, (guint8 *) &value, 8);
        }
    }
    va_end(args);
    return bytes;
}

/* The answer's type; its bytes are in 'out'. */
static guint8
ask(GByteArray *bytes)
{
    sftpwire_resize(out, 0);
    g_assert_true(sftp_packet(sftp, bytes->data, bytes->len, out));
    g_byte_array_unref(bytes);
    guint32 size;
    memcpy(&size, out->data, 4);
    g_assert_cmpuint(GUINT32_FROM_BE(size), ==, out->len - 4);
    return out->data[4];
}

static guint32
word(guint at)
{
    guint32 value;

    memcpy(&value, out->data + at, 4);
    return GUINT32_FROM_BE(value);
}

/* The code of a STATUS answer. */
static guint32
status_of(GByteArray *bytes)
{
    g_assert_cmpuint(ask(bytes), ==, 101);
    return word(9);
}

static char *
open_handle(const char *path, guint32 flags)
{
    g_assert_cmpuint(ask(packet(3, "isii", 1, path, flags, 0)), ==, 102);
    return g_strndup((char *) out->data + 13, word(9));
}

static void
what_is_written_is_read_back(void)
{
    g_autofree char *handle = open_handle("/note", 2 | 8 | 16);
    g_assert_cmpuint(status_of(packet(6, "isls", 2, handle, (guint64) 0, "hello")), ==, 0);
    g_assert_cmpuint(status_of(packet(6, "isls", 2, handle, (guint64) 5, " world")), ==, 0);
    g_assert_cmpuint(status_of(packet(4, "is", 3, handle)), ==, 0);

    g_autofree char *again = open_handle("note", 1);
    g_assert_cmpuint(ask(packet(5, "isli", 4, again, (guint64) 0, 100)), ==, 103);
    g_assert_cmpuint(word(9), ==, 11);
    g_assert_cmpmem(out->data + 13, 11, "hello world", 11);
    g_assert_cmpuint(status_of(packet(5, "isli", 5, again, (guint64) 11, 100)), ==, 1);
    g_assert_cmpuint(status_of(packet(4, "is", 6, again)), ==, 0);
    g_assert_cmpuint(status_of(packet(4, "is", 7, again)), ==, 4);
}

static void
no_name_leads_out_of_the_root(void)
{
    g_autofree char *outside = g_build_filename(top, "outside", NULL);
    struct stat st;

    g_assert_true(g_file_set_contents(outside, "x", -1, NULL));
    g_assert_cmpint(symlinkat("../outside", root, "up"), ==, 0);
    g_assert_cmpint(symlinkat(outside, root, "abs"), ==, 0);
    g_assert_cmpuint(status_of(packet(3, "isii", 1, "/../outside", 1, 0)), ==, 2);
    g_assert_cmpuint(status_of(packet(3, "isii", 1, "up", 1, 0)), ==, 2);
    g_assert_cmpuint(status_of(packet(3, "isii", 1, "abs", 1, 0)), ==, 2);
    g_assert_cmpuint(status_of(packet(9, "isii", 1, "up", 4, 0777)), ==, 2);
    g_assert_cmpuint(status_of(packet(13, "is", 1, "../outside")), ==, 2);
    g_assert_cmpint(stat(outside, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 0777, !=, 0777);
}

static void
directories_list_and_end(void)
{
    g_assert_cmpuint(status_of(packet(14, "isi", 1, "d", 0)), ==, 0);
    g_assert_cmpuint(status_of(packet(14, "isi", 1, "d/e", 0)), ==, 0);
    g_assert_cmpuint(ask(packet(11, "is", 1, "/d")), ==, 102);
    g_autofree char *handle = g_strndup((char *) out->data + 13, word(9));
    g_assert_cmpuint(ask(packet(12, "is", 1, handle)), ==, 104);
    g_assert_cmpuint(word(9), ==, 3); /* ".", "..", "e" */
    g_assert_cmpuint(status_of(packet(12, "is", 1, handle)), ==, 1);
    g_assert_cmpuint(status_of(packet(4, "is", 1, handle)), ==, 0);
    g_assert_cmpuint(status_of(packet(15, "is", 1, "d")), ==, 4);
    g_assert_cmpuint(status_of(packet(15, "is", 1, "d/e")), ==, 0);
}

static void
rename_does_not_replace_but_posix_rename_does(void)
{
    g_assert_true(g_file_set_contents("root/a", "a", -1, NULL));
    g_assert_true(g_file_set_contents("root/b", "b", -1, NULL));
    g_assert_cmpuint(status_of(packet(18, "iss", 1, "a", "b")), ==, 4);
    g_assert_cmpuint(status_of(packet(200, "isss", 1, "posix-rename@openssh.com", "a", "b")), ==,
                     0);
}

static void
links_are_made_target_first(void)
{
    char target[64] = "";

    g_assert_cmpuint(status_of(packet(20, "iss", 1, "to/there", "lnk")), ==, 0);
    g_assert_cmpint(readlinkat(root, "lnk", target, sizeof(target) - 1), ==, 8);
    g_assert_cmpstr(target, ==, "to/there");
    g_assert_cmpuint(ask(packet(19, "is", 1, "lnk")), ==, 104);
    g_assert_cmpmem(out->data + 17, 8, "to/there", 8);
}

static void
short_messages_are_answered_not_followed(void)
{
    g_assert_cmpuint(status_of(packet(3, "is", 1, "x")), ==, 5);
    g_assert_cmpuint(status_of(packet(6, "i", 1)), ==, 5);
    g_assert_cmpuint(status_of(packet(99, "i", 1)), ==, 8);
    g_assert_cmpuint(status_of(packet(200, "is", 1, "none@such")), ==, 8);
    g_assert_false(sftp_packet(sftp, (const guint8 *) "\x03", 1, out));
}

static void
handles_are_bounded(void)
{
    guint8 type = 102;

    for (int i = 0; i < 2000 && type == 102; i++) {
        type = ask(packet(3, "isii", 1, "note", 1, 0));
    }
    g_assert_cmpuint(type, ==, 101);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    top = g_dir_make_tmp("sftp-XXXXXX", NULL);
    g_assert_cmpint(chdir(top), ==, 0);
    g_assert_cmpint(mkdir("root", 0755), ==, 0);
    root = open("root", O_PATH | O_DIRECTORY | O_CLOEXEC);
    sftp = sftp_new(root, NULL);
    g_assert_cmpuint(ask(packet(1, "i", 3)), ==, 2);

    g_test_add_func("/sftp/what-is-written-is-read-back", what_is_written_is_read_back);
    g_test_add_func("/sftp/no-name-leads-out-of-the-root", no_name_leads_out_of_the_root);
    g_test_add_func("/sftp/directories-list-and-end", directories_list_and_end);
    g_test_add_func("/sftp/rename-does-not-replace-but-posix-rename-does",
                    rename_does_not_replace_but_posix_rename_does);
    g_test_add_func("/sftp/links-are-made-target-first", links_are_made_target_first);
    g_test_add_func("/sftp/short-messages-are-answered-not-followed",
                    short_messages_are_answered_not_followed);
    g_test_add_func("/sftp/handles-are-bounded", handles_are_bounded);
    int status = g_test_run();
    sftp_free(sftp);
    sftpwire_free(out);
    fd_remove_tree(top, NULL);
    g_free(top);
    return status;
}
