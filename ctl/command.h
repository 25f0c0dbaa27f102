/* command.h: one run of the command line: the table of commands, and what the user wrote.
 * Threads: the one thread of the program. Everything that a row says is used four times: to parse,
 * for help, for completion and for the manual page. */
#pragma once
#include "base/error.h"
#include <jansson.h>

typedef struct Ctl Ctl;
typedef struct Remotes Remotes;
typedef struct Rest Rest;
typedef struct Entity Entity;

typedef struct {
    char letter;       /* 0: has none */
    const char *name;  /* "format"; NULL ends a list */
    const char *value; /* "<format>"; NULL: a switch; "[<x>]": --name or --name=x */
    const char *help;
    const char *fallback; /* what ctl_option() gives when it was not written; may be NULL */
} Option;

typedef bool (*CommandRun)(Ctl *ctl, GError **error);

/* 'args' is the usage line and the grammar: "<x>" must be there, "[<x>]" may, "<x>..." repeats,
 * "[<remote>:]<x>" may have a remote in front. The word in the brackets is what completion offers. */
typedef struct Command Command;
struct Command {
    const char *path;  /* "network forward list" */
    const char *alias; /* other spellings of its last word, blank between; may be NULL */
    const char *args;
    const char *summary;
    CommandRun run;        /* NULL: a group, whose commands are the rows below its path */
    const Entity *entity;  /* for the verbs that many nouns share; may be NULL */
    const Option *options; /* may be NULL */
    const char *details;   /* paragraphs; may be NULL */
    const char *examples;  /* lines "hawser …", explanations indented; may be NULL */
    bool verbatim;         /* all from the second argument on is the user's, options too */
    bool hidden;           /* for scripts: not in help, manual or completion */
    const Command *more;   /* of a last row, whose path is NULL: where the table goes on (rows.h) */
};

extern const Command *const command_rows; /* the first */
/* The row behind this one; NULL behind the last. */
const Command *command_next(const Command *row);
extern const Option command_global_options[];

/* The row for a path of words, aliases resolved; NULL when there is none. ret_used: words taken. */
const Command *command_find(char *const *words, int *ret_used);
/* Row by exact path; NULL when there is none. */
const Command *command_get(const char *path);
/* Whether 'row' is directly below the group 'path' ("" for the top). */
bool command_is_below(const Command *row, const char *path);
/* The nearest name for a mistyped last word; NULL when nothing is near. */
const char *command_guess(const char *group, const char *word);

typedef struct {
    char *kind; /* "instance"; "remote" for a bare "[<remote>:]" */
    bool optional, many, remote;
} CommandArg;
/* The grammar of row->args; caller frees the array (elements are owned by it). */
GArray *command_args(const Command *row);

/* Parses argv (argv[0] not used). INVALID with the next step for what does not fit. A run that only
 * asks for help gives a Ctl whose row is NULL or whose ctl_wants_help() is true. */
Ctl *ctl_new(Remotes *remotes, int argc, char *const *argv, GError **error);
void ctl_free(Ctl *ctl);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Ctl, ctl_free)

const Command *ctl_row(const Ctl *ctl); /* borrow; NULL: none was named */
bool ctl_wants_help(const Ctl *ctl);
Remotes *ctl_remotes(const Ctl *ctl); /* borrow */
int ctl_arg_count(const Ctl *ctl);
const char *ctl_arg(const Ctl *ctl, int index); /* borrow; NULL behind the last */
char *const *ctl_args_from(const Ctl *ctl, int index);
/* The last value written, else the row's fallback; NULL when there is neither. */
const char *ctl_option(const Ctl *ctl, const char *name);
bool ctl_flag(const Ctl *ctl, const char *name);
/* All values in order, ends with NULL; never NULL itself. */
char *const *ctl_option_all(const Ctl *ctl, const char *name);

/* Splits "remote:name" of an argument (NULL: the default remote and no name), opens that server
 * with the project and target of this run. Connections are kept until the end of the run; the
 * result is borrowed. ret_name (may be NULL) borrows from 'arg' and is never NULL. */
Rest *ctl_server(Ctl *ctl, const char *arg, const char **ret_name, GError **error);
/* For commands that begin with an optional "[<remote>:]": true when argument 0 is one, which then
 * does not count as a name. */
bool ctl_leads_with_remote(const Ctl *ctl);
/* Whether people look at stdout / whether progress may be drawn on stderr. */
bool ctl_draws_progress(const Ctl *ctl);
