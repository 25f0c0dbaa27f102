/* remotes.h: the servers a user knows, their certificates, and the user's aliases.
 * Threads: the one thread of the program. Files: $HAWSER_CONF or ~/.config/hawser, laid out as
 * LXD's client lays out its own: config.yml, client.crt, client.key, servercerts/NAME.crt. */
#pragma once
#include "base/error.h"
#include <jansson.h>

typedef struct Remotes Remotes;
typedef struct {
    const char *name;
    const char *address;  /* "unix://", "unix:///path/unix.socket", "https://host:8443" */
    const char *protocol; /* "lxd" or "simplestreams" */
    const char *project;  /* NULL: the default one */
    bool is_public, is_builtin;
} Remote;

/* 'dir' NULL: the user's own. A file that is not there is an empty one. */
Remotes *remotes_load(const char *dir, GError **error);
void remotes_free(Remotes *remotes);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Remotes, remotes_free)
bool remotes_save(Remotes *remotes, GError **error);

/* Borrowed until the list changes. NOT_FOUND with the next step. */
const Remote *remotes_get(Remotes *remotes, const char *name, GError **error);
/* "remote:name" to both; without a remote, or NULL, the default one. ret_name borrows from arg. */
const Remote *remotes_split(Remotes *remotes, const char *arg, const char **ret_name,
                            GError **error);
/* Names in order, ends with NULL; caller frees with g_strfreev. */
char **remotes_names(Remotes *remotes);
const char *remotes_default(Remotes *remotes);
bool remotes_set_default(Remotes *remotes, const char *name, GError **error);
/* EXISTS when the name is taken, INVALID when it cannot be one. */
bool remotes_add(Remotes *remotes, const Remote *remote, GError **error);
bool remotes_remove(Remotes *remotes, const char *name, GError **error);
bool remotes_rename(Remotes *remotes, const char *from, const char *to, GError **error);
/* key: "addr" or "project". */
bool remotes_set(Remotes *remotes, const char *name, const char *key, const char *value,
                 GError **error);

/* A path below the directory, whose folders are made; caller frees. */
char *remotes_path(Remotes *remotes, const char *below, GError **error);
/* The pinned certificate's file of a remote, whether it is there or not; caller frees. */
char *remotes_pin_path(Remotes *remotes, const char *name);

/* The user's aliases, {"name": "target"}; borrowed, may be changed and saved. */
json_t *remotes_aliases(Remotes *remotes);
/* argv with the longest alias of its first words replaced; "@ARGS@" in the target says where the
 * other words go, else they follow. Caller frees with g_strfreev. */
char **remotes_expand_alias(Remotes *remotes, int argc, char *const *argv);
