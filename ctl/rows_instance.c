/* Rows of commands: what is done with instances. Pure data. */
#include "ctl/cmd.h"
#include "ctl/rows.h"

/* clang-format off */
#define OPT_DEVICE {'d', "device", "<device,key=value>", "Set keys of a device (may be repeated)"}
#define OPT_EPHEMERAL {'e', "ephemeral", NULL, "Delete the instance when it stops"}
#define OPT_EMPTY {0, "empty", NULL, "Create an instance without an image"}
#define OPT_NETWORK {'n', "network", "<network>", "Connect eth0 to this network"}
#define OPT_NO_PROFILES {0, "no-profiles", NULL, "Use no profiles at all"}
#define OPT_PROFILE {'p', "profile", "<profile>", "Use this profile instead of default (may be repeated)"}
#define OPT_STORAGE {'s', "storage", "<pool>", "Put the root disk in this storage pool"}
#define OPT_TYPE_SIZE {'t', "type", "<instance-size>", "Size of the instance (c2-m4)"}
#define OPT_CONSOLE {0, "console", "[<console>]", "Attach to the console at once"}
#define OPT_AUTO {0, "auto", NULL, "Set up the server without questions"}
#define OPT_PRESEED {0, "preseed", NULL, "Set up the server from YAML on stdin"}
#define OPT_DUMP {0, "dump", NULL, "Print the configuration of the server as YAML"}
#define OPT_STORAGE_BACKEND {0, "storage-backend", "<driver>", "Driver of the pool that --auto makes", "dir"}
#define OPT_NETWORK_ADDRESS {0, "network-address", "<address>", "Listen on this address (--auto)"}
#define OPT_NETWORK_PORT {0, "network-port", "<port>", "Listen on this port (--auto)", "8443"}
#define OPT_ALL {0, "all", NULL, "All instances"}
#define OPT_STATELESS {0, "stateless", NULL, "Without the running state"}
#define OPT_FORCE_STOP {'f', "force", NULL, "Stop at once, without asking the instance"}
#define OPT_STATEFUL {0, "stateful", NULL, "With the running state"}
#define OPT_TIMEOUT {0, "timeout", "<seconds>", "How long the instance may take, -1 for ever", "-1"}
#define OPT_FORCE_DELETE {'f', "force", NULL, "Stop running instances first"}
#define OPT_INTERACTIVE {'i', "interactive", NULL, "Ask before each"}
#define OPT_LIST_COLUMNS {'c', "columns", "<columns>", "What to show", "ns46tS"}
#define OPT_FAST {0, "fast", NULL, "Columns that are cheap to get (nsacPt)"}
#define OPT_SHOW_LOG {0, "show-log", NULL, "Show the log of the instance too"}
#define OPT_RESOURCES {0, "resources", NULL, "Show the hardware of the server"}
#define OPT_CWD {0, "cwd", "<path>", "Folder to run the command in (/root)"}
#define OPT_ENV {0, "env", "<NAME=value>", "Set an environment variable (may be repeated)"}
#define OPT_USER {0, "user", "<uid>", "User to run the command as", "0"}
#define OPT_GROUP {0, "group", "<gid>", "Group to run the command as", "0"}
#define OPT_MODE {0, "mode", "<mode>", "auto, interactive or non-interactive", "auto"}
#define OPT_FORCE_INTERACTIVE {'t', "force-interactive", NULL, "Always with a terminal"}
#define OPT_FORCE_NONINTERACTIVE {'T', "force-noninteractive", NULL, "Never with a terminal"}
#define OPT_DISABLE_STDIN {'n', "disable-stdin", NULL, "Without stdin"}
#define OPT_SHOW_CONSOLE_LOG {0, "show-log", NULL, "Show what was on the console"}
#define OPT_CONSOLE_TYPE {'t', "type", "<console>", "Kind of console", "console"}
#define OPT_ALLOW_INCONSISTENT {0, "allow-inconsistent", NULL, "Accept files that change while they are copied"}
#define OPT_INSTANCE_ONLY {0, "instance-only", NULL, "Without snapshots"}
#define OPT_EXPIRE {0, "expire", "<time>", "When the image expires (RFC 3339)"}
#define OPT_FORCE_PUBLISH {'f', "force", NULL, "Stop the instance meanwhile if it runs"}

const Command rows_instance[] = {
    {.path = "launch", .args = "[<remote>:]<image> [[<remote>:]<name>]",
     .summary = "Create and start an instance from an image", .run = cmd_instance_launch,
     .options = OPTIONS(OPT_CONFIG, OPT_DEVICE, OPT_EPHEMERAL, OPT_EMPTY, OPT_NETWORK, OPT_NO_PROFILES, OPT_PROFILE, OPT_STORAGE, OPT_TYPE_SIZE, OPT_VM, OPT_TARGET, OPT_CONSOLE),
     .details = "A stdin that is a file or a pipe may say config, devices and profiles as YAML.",
     .examples = "hawser launch debian/12 web1\n"
     "hawser launch debian/12 web1 -c limits.memory=1GiB -d root,size=20GiB\n"
     "hawser launch debian/12 web1 < web1.yaml\n"
     "    With what the file says of config, devices and profiles."},
    {.path = "init", .alias = "create", .args = "[<remote>:][<image>] [[<remote>:]<name>]",
     .summary = "Create an instance from an image, or set up the server (--auto, --preseed, --dump)",
     .run = cmd_init_run,
     .options = OPTIONS(OPT_CONFIG, OPT_DEVICE, OPT_EPHEMERAL, OPT_EMPTY, OPT_NETWORK, OPT_NO_PROFILES, OPT_PROFILE, OPT_STORAGE, OPT_TYPE_SIZE, OPT_VM, OPT_TARGET, OPT_AUTO, OPT_PRESEED, OPT_DUMP, OPT_STORAGE_BACKEND, OPT_NETWORK_ADDRESS, OPT_NETWORK_PORT),
     .details = "With an image: as launch, but the instance is not started.\n"
     "\n"
     "--auto makes a storage pool, a bridge and the default profile where they are missing; --preseed reads YAML from stdin; --dump prints it.",
     .examples = "hawser init debian/12 web1\n"
     "hawser init --auto\n"
     "hawser init --preseed < server.yaml\n"
     "hawser init --dump > server.yaml"},
    {.path = "start", .args = "[[<remote>:]<instance>...]", .summary = "Start instances",
     .run = cmd_instance_start, .options = OPTIONS(OPT_ALL, OPT_CONSOLE, OPT_STATELESS),
     .details = "With --all and without names: every instance that it makes sense for."},
    {.path = "stop", .args = "[[<remote>:]<instance>...]", .summary = "Stop instances",
     .run = cmd_instance_stop,
     .options = OPTIONS(OPT_ALL, OPT_CONSOLE, OPT_FORCE_STOP, OPT_STATEFUL, OPT_TIMEOUT),
     .details = "With --all and without names: every instance that it makes sense for."},
    {.path = "restart", .args = "[[<remote>:]<instance>...]", .summary = "Restart instances",
     .run = cmd_instance_restart, .options = OPTIONS(OPT_ALL, OPT_CONSOLE, OPT_FORCE_STOP, OPT_TIMEOUT),
     .details = "With --all and without names: every instance that it makes sense for."},
    {.path = "pause", .alias = "freeze", .args = "[[<remote>:]<instance>...]",
     .summary = "Pause (freeze) instances", .run = cmd_instance_pause, .options = OPTIONS(OPT_ALL)},
    {.path = "resume", .alias = "unfreeze", .args = "[[<remote>:]<instance>...]",
     .summary = "Let paused instances go on", .run = cmd_instance_resume, .options = OPTIONS(OPT_ALL)},
    {.path = "delete", .alias = "rm", .args = "[<remote>:]<instance>...",
     .summary = "Delete instances and snapshots", .run = cmd_instance_delete,
     .options = OPTIONS(OPT_FORCE_DELETE, OPT_INTERACTIVE), .examples = "hawser delete web1\n"
     "hawser delete web1/snap0\n"
     "hawser delete --force web1 web2"},
    {.path = "rename", .args = "[<remote>:]<instance> <new-name>",
     .summary = "Rename instances and snapshots", .run = cmd_instance_rename,
     .examples = "hawser rename web1 web2\n"
     "hawser rename web1/snap0 web1/before"},
    {.path = "list", .alias = "ls", .args = "[<remote>:] [<filter>...]", .summary = "List instances",
     .run = cmd_list_instances,
     .options = OPTIONS(OPT_LIST_COLUMNS, OPT_FORMAT, OPT_FAST, OPT_ALL_PROJECTS),
     .details = "A filter is the beginning of a name, a regular expression on the name, or key=value:\n"
     "type, status, architecture, location, project, ipv4 and ipv6 (address or network), else a key of the instance's configuration whose parts may be shortened (u.app=web for user.app=web). Several filters must all match.\n"
     "\n"
     "Columns are letters, or keys [config:|devices:]key[:name][:width], a comma between:\n"
     "  4 IPv4 addresses         6 IPv6 addresses      a architecture\n"
     "  b storage pool           c creation time       d description\n"
     "  D disk usage             e project             f image, short\n"
     "  F image                  l last used           L location\n"
     "  m memory usage           M memory usage in %   n name\n"
     "  N processes              p pid                 P profiles\n"
     "  s state                  S snapshots           t type\n"
     "  u CPU seconds", .examples = "hawser list -c ns4,user.app:APP,devices:eth0.network\n"
     "hawser list type=container status=running\n"
     "hawser list ipv4=10.1.2.0/24 --format json"},
    {.path = "info", .args = "[<remote>:][<instance>]",
     .summary = "Show the state of an instance, or the server", .run = cmd_info_show,
     .options = OPTIONS(OPT_SHOW_LOG, OPT_RESOURCES, OPT_TARGET)},
    {.path = "exec", .args = "[<remote>:]<instance> <command>...",
     .summary = "Run a command in an instance", .run = cmd_exec_run,
     .options = OPTIONS(OPT_CWD, OPT_ENV, OPT_USER, OPT_GROUP, OPT_MODE, OPT_FORCE_INTERACTIVE, OPT_FORCE_NONINTERACTIVE, OPT_DISABLE_STDIN),
     .details = "The command is run as it is, without a shell. It gets a terminal of its own when stdin and stdout are terminals. The exit status is the command's.",
     .examples = "hawser exec web1 -- sh -c 'cd /tmp && ls'\n"
     "hawser exec web1 --env A=b --user 1000 -- env", .verbatim = true},
    {.path = "shell", .args = "[<remote>:]<instance>",
     .summary = "Open a login shell of root in an instance", .run = cmd_exec_shell,
     .options = OPTIONS(OPT_FORCE_INTERACTIVE, OPT_FORCE_NONINTERACTIVE)},
    {.path = "console", .args = "[<remote>:]<instance>", .summary = "Attach to an instance's console",
     .run = cmd_exec_console, .options = OPTIONS(OPT_SHOW_CONSOLE_LOG, OPT_CONSOLE_TYPE),
     .details = "Ctrl-A q leaves it."},
    {.path = "copy", .alias = "cp", .args = "[<remote>:]<instance> [[<remote>:]<name>]",
     .summary = "Copy instances on a server or between servers", .run = cmd_copy_instance,
     .options = OPTIONS(OPT_ALLOW_INCONSISTENT, OPT_CONFIG, OPT_DEVICE, OPT_EPHEMERAL, OPT_INSTANCE_ONLY, OPT_TRANSFER_MODE, OPT_NO_PROFILES, OPT_PROFILE, OPT_REFRESH, OPT_STATELESS, OPT_STORAGE, OPT_TARGET, OPT_TARGET_PROJECT),
     .details = "Between servers --mode says who moves the data: pull (the target fetches), push (the source sends) or relay (through this client).",
     .examples = "hawser copy web1 web2\n"
     "hawser copy web1/snap0 web3\n"
     "hawser copy web1 other: --instance-only"},
    {.path = "move", .alias = "mv", .args = "[<remote>:]<instance> [[<remote>:]<name>]",
     .summary = "Move or rename instances", .run = cmd_copy_move,
     .options = OPTIONS(OPT_ALLOW_INCONSISTENT, OPT_CONFIG, OPT_DEVICE, OPT_INSTANCE_ONLY, OPT_TRANSFER_MODE, OPT_NO_PROFILES, OPT_PROFILE, OPT_STATELESS, OPT_STORAGE, OPT_TARGET, OPT_TARGET_PROJECT),
     .examples = "hawser move web1 web2\n"
     "hawser move web1 other:\n"
     "hawser move web1 --storage fast"},
    {.path = "snapshot", .args = "[<remote>:]<instance> [<new-name>]",
     .summary = "Take a snapshot of an instance", .run = cmd_instance_snapshot,
     .options = OPTIONS(OPT_NO_EXPIRY, OPT_REUSE, OPT_STATEFUL)},
    {.path = "restore", .args = "[<remote>:]<instance> <snapshot>",
     .summary = "Restore an instance from a snapshot", .run = cmd_instance_restore,
     .options = OPTIONS(OPT_STATEFUL)},
    {.path = "publish", .args = "[<remote>:]<instance> [<remote>:] [<key=value>...]",
     .summary = "Make an image of an instance or snapshot", .run = cmd_backup_publish,
     .options = OPTIONS(OPT_ALIAS, OPT_COMPRESSION, OPT_EXPIRE, OPT_FORCE_PUBLISH, OPT_PUBLIC)},
    {.path = "export", .args = "[<remote>:]<instance> [<file>]",
     .summary = "Save an instance as a backup file", .run = cmd_backup_export,
     .options = OPTIONS(OPT_COMPRESSION, OPT_INSTANCE_ONLY, OPT_OPTIMIZED),
     .details = "The file is <instance>.tar.gz unless named; '-' is stdout."},
    {.path = "import", .args = "[<remote>:] [<backup-file>] [<new-name>]",
     .summary = "Make an instance from a backup file", .run = cmd_backup_import,
     .options = OPTIONS(OPT_STORAGE)},
    {.path = NULL, .more = rows_config},
};
