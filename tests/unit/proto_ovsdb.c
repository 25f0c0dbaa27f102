/* OVSDB sessions against a real ovsdb-server: values, indexes, transactions and their errors, expectations,
 * connections that end, TLS, clusters. Skipped where there is no ovsdb-server. */
#include "proto/ovsdb.h"

#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "proto/x509.h"
#include "tests/fakes/in_fiber.h"
#include "tests/fakes/ovsdb_testdb.h"

/* ---- claims ---- */

static void
values_round_trip(void *unused)
{
    struct ovsdb_server server;
    g_autoptr(GError) error = NULL;
    server_start(&server, NULL);
    g_autoptr(Ovsdb) db = open_ready(&server);
    g_autoptr(OvsdbTxn) txn = ovsdb_txn_new(db);
    json_t *row =
        json_pack("{s:s, s:i, s:[s, s, s], s:b, s:f, s:[{s:s}], s:{s:{s:s}}, s:{s:s}}", "name",
                  "one", "number", 5, "words", "b", "a", "b", "on", 1, "ratio", 0.5, "children",
                  "ref", "c1", "queues", "7", "ref", "c1", "external_ids", "k", "v");
    ovsdb_txn_insert(txn, "Child", "c1", json_pack("{s:s, s:s}", "name", "kid", "kind", "b"));
    guint op = ovsdb_txn_insert(txn, "Parent", NULL, row);
    ovsdb_txn_commit(txn, &error);
    g_assert_no_error(error);

    /* O4: the replica has it already. */
    const OvsdbRow *found = ovsdb_get(db, "Parent", ovsdb_txn_uuid(txn, op));
    g_assert_nonnull(found);
    const OvsdbRow *kid = ovsdb_find(db, "Child", "name", "kid");
    json_t *wanted =
        json_pack("{s:s, s:[i], s:[s, s], s:b, s:f, s:[s], s:{s:s}, s:{s:s}}", "name", "one",
                  "number", 5, "words", "a", "b", "on", 1, "ratio", 0.5, "children", kid->uuid,
                  "queues", "7", kid->uuid, "external_ids", "k", "v");
    g_assert_true(json_equal(found->columns, wanted));
    json_decref(wanted);
    g_assert_cmpint(ovsdb_int(found, "number"), ==, 5);
    g_assert_true(ovsdb_has(found, "words", "b"));
    g_assert_cmpstr(ovsdb_map_text(found, "external_ids", "k"), ==, "v");
    g_assert_cmpstr(ovsdb_ref_table(db, "Parent", "queues"), ==, "Child");
    g_assert_true(ovsdb_is_root(db, "Parent") && !ovsdb_is_root(db, "Child"));
    g_assert_false(ovsdb_has_column(db, "Absent", "x"));
    ovsdb_server_end(&server);
}

static void
changes_reach_rows_and_indexes(void *unused)
{
    struct ovsdb_server server;
    g_autoptr(GError) error = NULL;
    server_start(&server, NULL);
    g_autoptr(Ovsdb) db = open_ready(&server);
    g_autoptr(Ovsdb) other = open_ready(&server);
    insert_parent(db, "one");
    insert_parent(db, "two");
    const OvsdbRow *one = ovsdb_find(db, "Parent", "external_ids:key", "one");
    g_assert_cmpstr(ovsdb_text(one, "name"), ==, "one");

    g_autofree char *uuid = g_strdup(one->uuid);
    g_autoptr(OvsdbTxn) txn = ovsdb_txn_new(other);
    ovsdb_txn_update(txn, "Parent", uuid, json_pack("{s:s, s:n}", "name", "uno", "number"));
    ovsdb_txn_mutate(txn, "Parent", uuid, "words", "insert", json_pack("[s, s]", "y", "x"));
    ovsdb_txn_mutate(txn, "Parent", uuid, "external_ids", "delete", json_pack("[s]", "key"));
    ovsdb_txn_mutate(txn, "Parent", uuid, "external_ids", "insert", json_pack("{s:s}", "k2", "w"));
    ovsdb_txn_commit(txn, &error);
    g_assert_no_error(error);
    g_assert_cmpint(ovsdb_txn_count(txn, 0), ==, 1);

    while (ovsdb_find(db, "Parent", "name", "uno") == NULL) {
        g_assert_true(fiber_signal_wait(ovsdb_changed(db), 5000, NULL, NULL));
    }
    g_assert_null(ovsdb_find(db, "Parent", "external_ids:key", "one"));
    one = ovsdb_find(db, "Parent", "external_ids:k2", "w");
    g_assert_cmpstr(one->uuid, ==, uuid);
    g_assert_true(ovsdb_has(one, "words", "x") && ovsdb_has(one, "words", "y"));

    g_autoptr(OvsdbTxn) removal = ovsdb_txn_new(db);
    ovsdb_txn_delete(removal, "Parent", uuid);
    ovsdb_txn_commit(removal, &error);
    g_assert_no_error(error);
    g_assert_null(ovsdb_get(db, "Parent", uuid));
    g_autoptr(GPtrArray) left = ovsdb_list(db, "Parent", NULL, NULL);
    g_assert_cmpuint(left->len, ==, 1);
    ovsdb_server_end(&server);
}

static void
errors_name_the_row(void *unused)
{
    struct ovsdb_server server;
    g_autoptr(GError) error = NULL;
    server_start(&server, NULL);
    g_autoptr(Ovsdb) db = open_ready(&server);
    insert_parent(db, "one");

    g_autoptr(OvsdbTxn) twice = ovsdb_txn_new(db);
    ovsdb_txn_insert(twice, "Parent", NULL, json_pack("{s:s}", "name", "one"));
    g_assert_false(ovsdb_txn_commit(twice, &error));
    g_assert_cmpint(haw_code(error), ==, HAW_EXISTS);
    g_assert_nonnull(strstr(error->message, "Parent"));
    g_clear_error(&error);

    g_autoptr(OvsdbTxn) wrong = ovsdb_txn_new(db);
    ovsdb_txn_insert(wrong, "Child", NULL, json_pack("{s:s, s:s}", "name", "kid", "kind", "z"));
    g_assert_false(ovsdb_txn_commit(wrong, &error));
    g_assert_cmpint(haw_code(error), ==, HAW_INVALID);
    g_assert_nonnull(strstr(error->message, "test database: insert Child 'kid': constraint"));
    g_clear_error(&error);

    g_autoptr(OvsdbTxn) typed = ovsdb_txn_new(db);
    ovsdb_txn_insert(typed, "Parent", NULL, json_pack("{s:i}", "name", 5));
    g_assert_false(ovsdb_txn_commit(typed, &error));
    g_assert_cmpint(haw_code(error), ==, HAW_INVALID);
    g_clear_error(&error);

    g_autoptr(OvsdbTxn) unknown = ovsdb_txn_new(db);
    ovsdb_txn_insert(unknown, "Parent", NULL, json_pack("{s:s}", "nam", "x"));
    g_assert_false(ovsdb_txn_commit(unknown, &error));
    g_assert_nonnull(strstr(error->message, "no column 'nam'"));
    ovsdb_server_end(&server);
}

static void
expectations_guard(void *unused)
{
    struct ovsdb_server server;
    g_autoptr(GError) error = NULL;
    server_start(&server, NULL);
    g_autoptr(Ovsdb) db = open_ready(&server);
    insert_parent(db, "one");
    g_autofree char *uuid = g_strdup(ovsdb_find(db, "Parent", "name", "one")->uuid);

    g_autoptr(OvsdbTxn) held = ovsdb_txn_new(db);
    ovsdb_txn_expect(held, "Parent", uuid, json_object());
    ovsdb_txn_expect(held, "Parent", uuid, json_pack("{s:s, s:[]}", "name", "one", "words"));
    ovsdb_txn_expect_none(held, "Parent", "external_ids", json_pack("{s:s}", "key", "two"));
    ovsdb_txn_mutate(held, "Parent", uuid, "number", "insert", json_integer(7));
    guint op = ovsdb_txn_select(held, "Parent", uuid, "number");
    ovsdb_txn_comment(held, "a test");
    ovsdb_txn_commit(held, &error);
    g_assert_no_error(error);
    g_assert_cmpint(ovsdb_txn_int(held, op), ==, 7);

    g_autoptr(OvsdbTxn) gone = ovsdb_txn_new(db);
    ovsdb_txn_expect(gone, "Parent", "00000000-0000-0000-0000-000000000001", json_object());
    g_assert_false(ovsdb_txn_commit(gone, &error));
    g_assert_cmpint(haw_code(error), ==, HAW_CONFLICT);
    g_clear_error(&error);

    g_autoptr(OvsdbTxn) there = ovsdb_txn_new(db);
    ovsdb_txn_expect_none(there, "Parent", "external_ids", json_pack("{s:s}", "key", "one"));
    ovsdb_txn_insert(there, "Parent", NULL, json_pack("{s:s}", "name", "other"));
    g_assert_false(ovsdb_txn_commit(there, &error));
    g_assert_cmpint(haw_code(error), ==, HAW_CONFLICT);
    g_assert_null(ovsdb_find(db, "Parent", "name", "other"));
    ovsdb_server_end(&server);
}

static guint seen_rows;

static void
count_row(Ovsdb *db, const OvsdbRow *before, const OvsdbRow *after, void *data)
{
    seen_rows++;
}

static void
a_killed_server_is_found_again(void *unused)
{
    struct ovsdb_server server;
    g_autoptr(GError) error = NULL;
    server_start(&server, NULL);
    g_autoptr(Ovsdb) db = open_ready(&server);
    insert_parent(db, "one");
    ovsdb_on_row(db, count_row, NULL);
    seen_rows = 0;
    guint64 epoch = ovsdb_epoch(db);

    ovsdb_server_kill(&server);
    while (ovsdb_ready(db)) {
        g_assert_true(fiber_signal_wait(ovsdb_changed(db), 5000, NULL, NULL));
    }
    g_assert_nonnull(ovsdb_trouble(db));
    g_assert_nonnull(ovsdb_find(db, "Parent", "name", "one")); /* what was last known */
    g_autoptr(OvsdbTxn) lost = ovsdb_txn_new(db);
    ovsdb_txn_insert(lost, "Parent", NULL, json_pack("{s:s}", "name", "lost"));
    g_assert_false(ovsdb_wait_ready(db, 50, &error));
    g_assert_cmpint(haw_code(error), ==, HAW_UNAVAILABLE);
    g_assert_nonnull(strstr(error->message, "test database (unix:"));
    g_clear_error(&error);

    ovsdb_server_spawn(&server, NULL);
    ovsdb_wait_ready(db, 10000, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(ovsdb_epoch(db), ==, epoch + 1);
    g_assert_cmpuint(seen_rows, ==, 0);
    insert_parent(db, "two");
    g_assert_cmpuint(seen_rows, ==, 1);
    ovsdb_server_end(&server);
}

static void
silence_ends_a_connection(void *unused)
{
    struct ovsdb_server server;
    g_autoptr(GError) error = NULL;
    server_start(&server, NULL);
    g_autofree char *remote = g_strdup_printf("unix:%s", server.sock);
    OvsdbOptions options = {.name = "test database",
                            .remotes = remote,
                            .database = "Test",
                            .tables = tables,
                            .probe_ms = 100};
    g_autoptr(Ovsdb) db = ovsdb_open(&options);
    ovsdb_wait_ready(db, 10000, &error);
    g_assert_no_error(error);
    fiber_sleep_ms(350, NULL, NULL); /* echoes keep it */
    g_assert_true(ovsdb_ready(db));
    kill(server.pid, SIGSTOP);
    gint64 began = g_get_monotonic_time();
    while (ovsdb_ready(db)) {
        g_assert_true(fiber_signal_wait(ovsdb_changed(db), 5000, NULL, NULL));
    }
    g_assert_cmpint(g_get_monotonic_time() - began, <, 2 * G_USEC_PER_SEC);
    kill(server.pid, SIGCONT);
    ovsdb_wait_ready(db, 10000, &error);
    g_assert_no_error(error);
    ovsdb_server_end(&server);
}

static void
a_closed_session_ends_waits(void *unused)
{
    Ovsdb *db = open_remote("unix:/nonexistent/sock", false);
    g_autoptr(GError) error = NULL;
    g_assert_false(ovsdb_wait_ready(db, 300, &error));
    g_assert_nonnull(strstr(error->message, "No such file"));
    ovsdb_close(db);
}

/* ---- TLS ---- */

static void
write_text(const char *dir, const char *name, const char *text)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

static guint16
free_port(void)
{
    return (guint16) (20000 + (getpid() * 7 + g_random_int_range(0, 5000)) % 20000);
}

/* Certificates of a server and of a client, each the other's authority. */
struct papers {
    char *dir, *own, *private, *ca; /* the server's directory and arguments */
    char *cert, *key, *client_cert, *client_key;
};

static void
papers_make(struct papers *papers)
{
    g_autoptr(GError) error = NULL;
    g_assert_true(x509_make("root@db", "127.0.0.1", true, &papers->cert, &papers->key, &error));
    g_assert_true(x509_make("root@us", "127.0.0.1", false, &papers->client_cert,
                            &papers->client_key, &error));
    papers->dir = g_dir_make_tmp("ovsdb-XXXXXX", NULL);
    write_text(papers->dir, "cert", papers->cert);
    write_text(papers->dir, "key", papers->key);
    write_text(papers->dir, "ca", papers->client_cert);
    papers->own = g_strdup_printf("--certificate=%s/cert", papers->dir);
    papers->private = g_strdup_printf("--private-key=%s/key", papers->dir);
    papers->ca = g_strdup_printf("--ca-cert=%s/ca", papers->dir);
}

static void
papers_done(struct papers *papers)
{
    fd_remove_tree(papers->dir, NULL);
    char *texts[] = {papers->dir,  papers->own, papers->private,     papers->ca,
                     papers->cert, papers->key, papers->client_cert, papers->client_key};
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_free(texts[i]);
    }
}

static void
tls_trusts_its_ca_only(void *unused)
{
    struct ovsdb_server server;
    struct papers papers;
    g_autoptr(GError) error = NULL;
    papers_make(&papers);
    g_autofree char *remote = g_strdup_printf("ssl:127.0.0.1:%u", free_port());
    g_autofree char *listen =
        g_strdup_printf("--remote=pssl:%s:127.0.0.1", strrchr(remote, ':') + 1);
    server_start(&server, (const char *[]){listen, papers.own, papers.private, papers.ca, NULL});

    OvsdbOptions options = {.name = "test database",
                            .remotes = remote,
                            .database = "Test",
                            .tables = tables,
                            .ca_pem = papers.cert,
                            .cert_pem = papers.client_cert,
                            .key_pem = papers.client_key};
    Ovsdb *db = ovsdb_open(&options);
    ovsdb_wait_ready(db, 10000, &error);
    g_assert_no_error(error);
    insert_parent(db, "one");
    ovsdb_close(db);

    options.ca_pem = papers.client_cert;
    db = ovsdb_open(&options);
    g_assert_false(ovsdb_wait_ready(db, 1000, &error));
    g_assert_nonnull(strstr(error->message, "CA"));
    g_clear_error(&error);
    ovsdb_close(db);

    options.ca_pem = NULL;
    db = ovsdb_open(&options);
    g_assert_false(ovsdb_wait_ready(db, 500, &error));
    g_assert_nonnull(strstr(error->message, "network.ovn.ca_cert"));
    ovsdb_close(db);
    ovsdb_server_end(&server);
    papers_done(&papers);
}

/* ---- an old server ---- */

/* One that does not know monitor_cond: a real one behind a relay that misspells the word. */
struct old_server {
    char *real, *sock; /* owned */
    int listener;
    guint source;
    int ends[2]; /* the client's, the real server's */
    guint sources[2];
    guint misspelt;
};

static gboolean
pass(gint fd, GIOCondition condition, gpointer data)
{
    struct old_server *old = data;
    char bytes[65536];
    bool from_client = fd == old->ends[0];
    ssize_t got = read(fd, bytes, sizeof bytes);
    if (got <= 0) {
        shutdown(old->ends[from_client], SHUT_RDWR);
        old->sources[!from_client] = 0;
        return G_SOURCE_REMOVE;
    }
    char *word = from_client ? memmem(bytes, (size_t) got, "\"monitor_cond\"", 14) : NULL;
    if (word != NULL) {
        memcpy(word, "\"monitor_what\"", 14);
        old->misspelt++;
    }
    g_assert_cmpint(write(old->ends[from_client], bytes, (size_t) got), ==, got);
    return G_SOURCE_CONTINUE;
}

static int
unix_socket(const char *path, bool listens)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_strlcpy(address.sun_path, path, sizeof address.sun_path);
    g_assert_cmpint(listens ? bind(fd, (struct sockaddr *) &address, sizeof address)
                            : connect(fd, (struct sockaddr *) &address, sizeof address),
                    ==, 0);
    g_assert_true(!listens || listen(fd, 1) == 0);
    return fd;
}

static gboolean
on_client(gint fd, GIOCondition condition, gpointer data)
{
    struct old_server *old = data;
    old->ends[0] = accept(fd, NULL, NULL);
    old->ends[1] = unix_socket(old->real, false);
    for (int i = 0; i < 2; i++) {
        old->sources[i] = g_unix_fd_add(old->ends[i], G_IO_IN | G_IO_HUP, pass, old);
    }
    old->source = 0;
    return G_SOURCE_REMOVE;
}

static void
an_old_server_is_monitored_plainly(void *unused)
{
    struct ovsdb_server server;
    struct old_server old = {.ends = {-1, -1}};
    g_autoptr(GError) error = NULL;
    server_start(&server, NULL);
    g_autoptr(Ovsdb) other = open_ready(&server);
    insert_parent(other, "before");
    old.real = g_strdup(server.sock);
    old.sock = g_strdup_printf("%s.old", server.sock);
    old.listener = unix_socket(old.sock, true);
    old.source = g_unix_fd_add(old.listener, G_IO_IN, on_client, &old);
    g_autofree char *remote = g_strdup_printf("unix:%s", old.sock);
    g_autoptr(Ovsdb) db = open_remote(remote, false);
    ovsdb_wait_ready(db, 10000, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(old.misspelt, >=, 1);
    g_assert_nonnull(ovsdb_find(db, "Parent", "name", "before"));

    insert_parent(db, "mine");
    g_assert_nonnull(ovsdb_find(db, "Parent", "name", "mine"));
    insert_parent(other, "theirs");
    const OvsdbRow *theirs;
    while ((theirs = ovsdb_find(db, "Parent", "external_ids:key", "theirs")) == NULL) {
        g_assert_true(fiber_signal_wait(ovsdb_changed(db), 5000, NULL, NULL));
    }
    g_autofree char *uuid = g_strdup(theirs->uuid);
    g_autoptr(OvsdbTxn) txn = ovsdb_txn_new(other);
    ovsdb_txn_update(txn, "Parent", uuid, json_pack("{s:i}", "number", 7));
    ovsdb_txn_commit(txn, &error);
    g_assert_no_error(error);
    while (ovsdb_int(ovsdb_get(db, "Parent", uuid), "number") != 7) {
        g_assert_true(fiber_signal_wait(ovsdb_changed(db), 5000, NULL, NULL));
    }
    g_assert_cmpstr(ovsdb_text(ovsdb_get(db, "Parent", uuid), "name"), ==, "theirs");
    g_autoptr(OvsdbTxn) end = ovsdb_txn_new(other);
    ovsdb_txn_delete(end, "Parent", uuid);
    ovsdb_txn_commit(end, &error);
    g_assert_no_error(error);
    while (ovsdb_get(db, "Parent", uuid) != NULL) {
        g_assert_true(fiber_signal_wait(ovsdb_changed(db), 5000, NULL, NULL));
    }
    for (int i = 0; i < 2; i++) {
        if (old.sources[i] != 0) {
            g_source_remove(old.sources[i]);
        }
        close(old.ends[i]);
    }
    close(old.listener);
    g_free(old.real);
    g_free(old.sock);
    ovsdb_server_end(&server);
}

/* ---- clusters ---- */

/* Three members; their remotes, by commas. Caller frees. */
static char *
cluster_start(struct ovsdb_server members[3], const struct papers *papers, bool tls)
{
    guint16 port = free_port();
    g_autoptr(GString) remotes = g_string_new(NULL);
    g_autofree char *first = g_strdup_printf("tcp:127.0.0.1:%u", port);
    for (int i = 0; i < 3; i++) {
        struct ovsdb_server *server = &members[i];
        g_autofree char *local = g_strdup_printf("tcp:127.0.0.1:%u", port + i);
        g_autofree char *listen = g_strdup_printf("--remote=pssl:%u:127.0.0.1", port + 10 + i);
        server->dir = g_dir_make_tmp("ovsdb-XXXXXX", NULL);
        server->file = g_build_filename(server->dir, "test.db", NULL);
        server->sock = g_build_filename(server->dir, "sock", NULL);
        g_autofree char *schema = g_build_filename(server->dir, "schema", NULL);
        write_text(server->dir, "schema", schema_text);
        if (i == 0) {
            ovsdb_server_tool((const char *[]){"ovsdb-tool", "create-cluster", server->file, schema,
                                               local, NULL});
        } else {
            ovsdb_server_tool((const char *[]){"ovsdb-tool", "join-cluster", server->file, "Test",
                                               local, first, NULL});
        }
        ovsdb_server_spawn(
            server, (const char *[]){listen, papers->own, papers->private, papers->ca, NULL});
        g_autofree char *remote = tls ? g_strdup_printf("ssl:127.0.0.1:%u", port + 10 + i)
                                      : g_strdup_printf("unix:%s", server->sock);
        g_string_append_printf(remotes, "%s%s", i > 0 ? "," : "", remote);
    }
    return g_string_free(g_steal_pointer(&remotes), FALSE);
}

static void
follow_leader(bool tls)
{
    struct ovsdb_server members[3] = {0};
    struct papers papers;
    g_autoptr(GError) error = NULL;
    papers_make(&papers);
    g_autofree char *remotes = cluster_start(members, &papers, tls);
    g_auto(GStrv) each = g_strsplit(remotes, ",", -1);
    OvsdbOptions options = {.name = "test database",
                            .remotes = remotes,
                            .database = "Test",
                            .tables = tables,
                            .leader_only = true,
                            .ca_pem = papers.cert,
                            .cert_pem = papers.client_cert,
                            .key_pem = papers.client_key};
    g_autoptr(Ovsdb) db = ovsdb_open(&options);
    ovsdb_wait_ready(db, 20000, &error);
    g_assert_no_error(error);
    insert_parent(db, "one");
    /* Whoever leads goes; the rest elects another one, where the row is. */
    guint64 epoch = ovsdb_epoch(db);
    for (int i = 0; i < 3; i++) {
        if (g_strcmp0(each[i], ovsdb_remote(db)) == 0) {
            fiber_sleep_ms(1000, NULL, NULL); /* the joined ones have the log */
            ovsdb_server_kill(&members[i]);
        }
    }
    gint64 end_us = g_get_monotonic_time() + 30 * G_USEC_PER_SEC;
    while (ovsdb_epoch(db) == epoch && g_get_monotonic_time() < end_us) {
        fiber_signal_wait(ovsdb_changed(db), 1000, NULL, NULL);
    }
    ovsdb_wait_ready(db, 20000, &error);
    g_assert_no_error(error);
    g_assert_nonnull(ovsdb_find(db, "Parent", "name", "one"));
    insert_parent(db, "two");
    for (int i = 0; i < 3; i++) {
        ovsdb_server_end(&members[i]);
    }
    papers_done(&papers);
}

static void
the_leader_is_followed(void *unused)
{
    follow_leader(false);
}

static void
the_leader_is_followed_over_tls(void *unused)
{
    follow_leader(true);
}

/* ---- frame ---- */

int
main(int argc, char **argv)
{
    static const struct fiber_claim claims[] = {
        {"/ovsdb/values-round-trip", values_round_trip},
        {"/ovsdb/changes-reach-rows-and-indexes", changes_reach_rows_and_indexes},
        {"/ovsdb/errors-name-the-row", errors_name_the_row},
        {"/ovsdb/expectations-guard-a-transaction", expectations_guard},
        {"/ovsdb/a-killed-server-is-found-again", a_killed_server_is_found_again},
        {"/ovsdb/silence-ends-a-connection", silence_ends_a_connection},
        {"/ovsdb/a-closed-session-ends-waits", a_closed_session_ends_waits},
        {"/ovsdb/tls-trusts-its-ca-only", tls_trusts_its_ca_only},
        {"/ovsdb/an-old-server-is-monitored-plainly", an_old_server_is_monitored_plainly},
        {"/ovsdb/the-leader-of-a-cluster-is-followed", the_leader_is_followed},
        {"/ovsdb/the-leader-of-a-cluster-is-followed-over-tls", the_leader_is_followed_over_tls},
    };
    g_test_init(&argc, &argv, NULL);
    g_autofree char *program = g_find_program_in_path("ovsdb-server");
    if (program == NULL) {
        g_print("1..0 # SKIP ovsdb-server is not installed\n");
        return 77;
    }
    fiber_claims_add(claims, G_N_ELEMENTS(claims));
    return g_test_run();
}
