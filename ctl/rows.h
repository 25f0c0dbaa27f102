/* rows.h: the table of commands in parts, one a file, chained by the 'more' of each part's last row,
 * and what more than one part names. What parses, what help says, what completion offers and what the
 * manual page lists all come from these rows, in this order. Rows of the shared verbs name their
 * entity (entity.h).
 * Threads: constant data. */
#pragma once
#include "ctl/command.h"
#include "ctl/entity.h"

extern const Command rows_instance[]; /* the first part */
extern const Command rows_config[];
extern const Command rows_network[];
extern const Command rows_storage[];
extern const Command rows_server[];

/* clang-format off */
#define OPT_CONFIG {'c', "config", "<key=value>", "Set a configuration key (may be repeated)"}
#define OPT_VM {0, "vm", NULL, "A virtual machine instead of a container"}
#define OPT_TARGET {0, "target", "<member>", "Cluster member"}
#define OPT_FORMAT {'f', "format", "<format>", "table, compact, csv, json or yaml", "table"}
#define OPT_ALL_PROJECTS {0, "all-projects", NULL, "Of all projects"}
#define OPT_TRANSFER_MODE {0, "mode", "<transfer-mode>", "pull, push or relay", "pull"}
#define OPT_REFRESH {0, "refresh", NULL, "Bring an existing copy up to date"}
#define OPT_TARGET_PROJECT {0, "target-project", "<project>", "Project of the copy"}
#define OPT_NO_EXPIRY {0, "no-expiry", NULL, "Keep the snapshot for ever"}
#define OPT_REUSE {0, "reuse", NULL, "Replace a snapshot of that name"}
#define OPT_ALIAS {0, "alias", "<image-alias>", "Give the image this alias (may be repeated)"}
#define OPT_COMPRESSION {0, "compression", "<compression>", "gzip, xz, zstd, bzip2, lzma or none"}
#define OPT_PUBLIC {0, "public", NULL, "Anybody may fetch it"}
#define OPT_OPTIMIZED {0, "optimized-storage", NULL, "In the format of the storage driver"}
#define OPT_PROPERTY {'p', "property", NULL, "A property of the object instead of a configuration key"}
#define OPT_DESCRIPTION {0, "description", "<text>", "Description"}
#define OPTIONS(...) ((const Option[]){__VA_ARGS__, {0}})
/* clang-format on */
