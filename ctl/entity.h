/* entity.h: the verbs that many nouns share (list get set unset show edit rename delete create),
 * once, driven by a row a noun. Threads: the one thread of the program. */
#pragma once
#include "ctl/command.h"
#include "ctl/json.h"
#include "ctl/rest.h"

struct Entity {
    const char *what;     /* "network", as messages name it */
    const char *url;      /* of one: "/1.0/networks/%s/peers/%s"; one %s a name */
    const char *list_url; /* of all, for list and create: the last name left out */
    int names;            /* how many words name one */
    const char *writable; /* what PUT takes: "config description" */
    const char *shown;    /* what show prints; NULL: all */
    const char *columns;  /* "NAME=name,MANAGED=managed?,USED BY=used_by#": see entity_column() */
    const char *key;      /* where create puts the last name: "name", "listen_address" */
    const char *settings; /* the map that get, set and unset work on; NULL: "config" */
};

bool entity_list(Ctl *ctl, GError **error);
bool entity_show(Ctl *ctl, GError **error);
bool entity_get(Ctl *ctl, GError **error);
bool entity_set(Ctl *ctl, GError **error);
bool entity_unset(Ctl *ctl, GError **error);
bool entity_edit(Ctl *ctl, GError **error);
bool entity_rename(Ctl *ctl, GError **error);
bool entity_delete(Ctl *ctl, GError **error);
bool entity_create(Ctl *ctl, GError **error);

/* One named on the command line: its server, its path, its last name. */
typedef struct {
    Rest *rest; /* borrows */
    char *path; /* owns */
    char *name; /* owns */
    int next;   /* first argument behind the names */
} EntityPick;
bool entity_pick(Ctl *ctl, const Entity *entity, EntityPick *ret_pick, GError **error);
void entity_pick_done(EntityPick *pick);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(EntityPick, entity_pick_done)

/* Reads, lets 'change' edit the object, writes with If-Match; again when somebody was faster.
 * 'change' false with the error set: nothing is written. */
typedef bool (*EntityChange)(json_t *object, void *data, GError **error);
bool entity_update(Ctl *ctl, Rest *rest, const char *path, const char *writable,
                   EntityChange change, void *data, GError **error);
/* The object in $EDITOR (or from a stdin that is no terminal), again after an error, then PUT. */
bool entity_edit_at(Ctl *ctl, Rest *rest, const char *path, const char *what, const char *writable,
                    GError **error);
/* Sets and unsets keys in a map of the object, NULL: in the object itself. An empty value deletes;
 * to unset what is not there is NOT_FOUND. */
bool entity_change(Ctl *ctl, Rest *rest, const char *path, const char *writable, const char *map,
                   json_t *settings, char *const *unset, GError **error);
/* "key=value" words into an object; one "key" "value" pair is taken too, and "key=-" reads the
 * value from stdin. */
bool entity_parse_settings(char *const *words, json_t *into, GError **error);
/* A new object with only the named keys of another ("config description"; NULL: all). */
json_t *entity_fields(const json_t *object, const char *keys);
/* The text of a column: "a.b" goes into a then b; a suffix says how it looks: "?" YES or NO, "#"
 * how many, "^" upper case, "@" a time, "/" the last part of a URL, "*" a list. Caller frees. */
char *entity_column(const json_t *object, const char *spec);
