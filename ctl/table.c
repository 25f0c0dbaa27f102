/* The commands of hawser. One row a command: what parses, what help says, what completion offers and
 * what the manual page lists all come from here, in this order.
 * Rows of the shared verbs name their entity (entity.h). Pure data. */
#include "ctl/cmd.h"
#include "ctl/entity.h"

/* clang-format off */
#define OPT_CONFIG {'c', "config", "<key=value>", "Set a configuration key (may be repeated)"}
#define OPT_DEVICE {'d', "device", "<device,key=value>", "Set keys of a device (may be repeated)"}
#define OPT_EPHEMERAL {'e', "ephemeral", NULL, "Delete the instance when it stops"}
#define OPT_EMPTY {0, "empty", NULL, "Create an instance without an image"}
#define OPT_NETWORK {'n', "network", "<network>", "Connect eth0 to this network"}
#define OPT_NO_PROFILES {0, "no-profiles", NULL, "Use no profiles at all"}
#define OPT_PROFILE {'p', "profile", "<profile>", "Use this profile instead of default (may be repeated)"}
#define OPT_STORAGE {'s', "storage", "<pool>", "Put the root disk in this storage pool"}
#define OPT_TYPE_SIZE {'t', "type", "<instance-size>", "Size of the instance (c2-m4)"}
#define OPT_VM {0, "vm", NULL, "A virtual machine instead of a container"}
#define OPT_TARGET {0, "target", "<member>", "Cluster member"}
#define OPT_CONSOLE {0, "console", "[<console>]", "Attach to the console at once"}
#define OPT_AUTO {0, "auto", NULL, "Set up the server without questions"}
#define OPT_PRESEED {0, "preseed", NULL, "Set up the server from YAML on stdin"}
#define OPT_DUMP {0, "dump", NULL, "Print the configuration of the server as YAML"}
#define OPT_STORAGE_BACKEND {0, "storage-backend", "<driver>", "Driver of the pool that --auto makes", "dir"}
#define OPT_NETWORK_ADDRESS {0, "network-address", "<address>", "Listen on this address (--auto)"}
#define OPT_NETWORK_PORT {0, "network-port", "<port>", "Listen on this port (--auto)", "8443"}
#define OPT_FLOW_NIC {0, "nic", "<nic>", "Only what this NIC sends: [project/]instance/device", NULL}
#define OPT_FLOW_ADDRESS {0, "address", "<address>", "Only with this address at either end", NULL}
#define OPT_FLOW_SOURCE {0, "source", "<address>", "Only from this address", NULL}
#define OPT_FLOW_DESTINATION {0, "destination", "<address>", "Only to this address", NULL}
#define OPT_FLOW_PORT {0, "port", "<port>", "Only with this port at either end", NULL}
#define OPT_FLOW_PROTOCOL {0, "protocol", "<flow-protocol>", "tcp, udp, icmp or icmp6", NULL}
#define OPT_FLOW_STATE {0, "state", "<flow-state>", "half, fast, probing, expired or stale", NULL}
#define OPT_FLOW_LIMIT {0, "limit", "<number>", "How many to show at most", "1000"}
#define OPT_TRACE_SECONDS {0, "seconds", "<seconds>", "How long to look", "10"}
#define OPT_VFS {0, "vfs", "<number>", "How many virtual functions the PF has"}
#define OPT_ESWITCH_MODE {0, "mode", "<eswitch-mode>", "switchdev or legacy", "switchdev"}
#define OPT_ALL {0, "all", NULL, "All instances"}
#define OPT_STATELESS {0, "stateless", NULL, "Without the running state"}
#define OPT_FORCE_STOP {'f', "force", NULL, "Stop at once, without asking the instance"}
#define OPT_STATEFUL {0, "stateful", NULL, "With the running state"}
#define OPT_TIMEOUT {0, "timeout", "<seconds>", "How long the instance may take, -1 for ever", "-1"}
#define OPT_FORCE_DELETE {'f', "force", NULL, "Stop running instances first"}
#define OPT_INTERACTIVE {'i', "interactive", NULL, "Ask before each"}
#define OPT_LIST_COLUMNS {'c', "columns", "<columns>", "What to show", "ns46tS"}
#define OPT_FORMAT {'f', "format", "<format>", "table, compact, csv, json or yaml", "table"}
#define OPT_FAST {0, "fast", NULL, "Columns that are cheap to get (nsacPt)"}
#define OPT_ALL_PROJECTS {0, "all-projects", NULL, "Of all projects"}
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
#define OPT_TRANSFER_MODE {0, "mode", "<transfer-mode>", "pull, push or relay", "pull"}
#define OPT_REFRESH {0, "refresh", NULL, "Bring an existing copy up to date"}
#define OPT_TARGET_PROJECT {0, "target-project", "<project>", "Project of the copy"}
#define OPT_NO_EXPIRY {0, "no-expiry", NULL, "Keep the snapshot for ever"}
#define OPT_REUSE {0, "reuse", NULL, "Replace a snapshot of that name"}
#define OPT_ALIAS {0, "alias", "<image-alias>", "Give the image this alias (may be repeated)"}
#define OPT_COMPRESSION {0, "compression", "<compression>", "gzip, xz, zstd, bzip2, lzma or none"}
#define OPT_EXPIRE {0, "expire", "<time>", "When the image expires (RFC 3339)"}
#define OPT_FORCE_PUBLISH {'f', "force", NULL, "Stop the instance meanwhile if it runs"}
#define OPT_PUBLIC {0, "public", NULL, "Anybody may fetch it"}
#define OPT_OPTIMIZED {0, "optimized-storage", NULL, "In the format of the storage driver"}
#define OPT_EXPANDED {'e', "expanded", NULL, "With what profiles add"}
#define OPT_PROPERTY {'p', "property", NULL, "A property of the object instead of a configuration key"}
#define OPT_NAME {0, "name", "<name>", "Name of the client"}
#define OPT_PROJECTS {0, "projects", "<projects>", "Restrict the client to these projects"}
#define OPT_RESTRICTED {0, "restricted", NULL, "Restrict the client to its projects"}
#define OPT_TRUST_TYPE {0, "type", "<certificate-type>", "client or metrics", "client"}
#define OPT_DESCRIPTION {0, "description", "<text>", "Description"}
#define OPT_NETWORK_TYPE {'t', "type", "<network-type>", "Type of the network (bridge)"}
#define OPT_FORCE_MATCH {0, "force", NULL, "All that match"}
#define OPT_POOL_RESOURCES {0, "resources", NULL, "Show space instead of configuration"}
#define OPT_BYTES {0, "bytes", NULL, "Exact numbers of bytes"}
#define OPT_VOLUME_COLUMNS {'c', "columns", "<columns>", "What to show", "tndcu"}
#define OPT_CONTENT_TYPE {0, "type", "<content-type>", "filesystem or block", "filesystem"}
#define OPT_VOLUME_ONLY {0, "volume-only", NULL, "Without snapshots"}
#define OPT_IMAGE_COLUMNS {'c', "columns", "<columns>", "What to show", "lfpdatsu"}
#define OPT_MIRROR {0, "mirror", "<URL>", "Fetch packages from here"}
#define OPT_INCLUDE {0, "include", "<packages>", "More packages, a comma between"}
#define OPT_MINIMAL {0, "minimal", NULL, "Only what boots and gets an address"}
#define OPT_AUTO_UPDATE {0, "auto-update", NULL, "Keep the copy up to date"}
#define OPT_COPY_ALIASES {0, "copy-aliases", NULL, "Copy its aliases too"}
#define OPT_CREATE_DIRS {'p', "create-dirs", NULL, "Make folders that are missing"}
#define OPT_RECURSIVE {'r', "recursive", NULL, "Whole folders"}
#define OPT_UID {0, "uid", "<uid>", "Owner of the file", "-1"}
#define OPT_GID {0, "gid", "<gid>", "Group of the file", "-1"}
#define OPT_FILE_MODE {0, "mode", "<octal>", "Permissions of the file"}
#define OPT_ACCEPT_CERTIFICATE {0, "accept-certificate", NULL, "Trust the certificate without asking"}
#define OPT_PASSWORD {0, "password", "<secret>", "Trust password or token"}
#define OPT_PROTOCOL {0, "protocol", "<server-protocol>", "lxd or simplestreams", "lxd"}
#define OPT_PUBLIC_SERVER {0, "public", NULL, "A public image server"}
#define OPT_WARNING_COLUMNS {'c', "columns", "<columns>", "What to show", "utSscpLl"}
#define OPT_ALL_WARNINGS {'a', "all", NULL, "Resolved ones too"}
#define OPT_DELETE_ALL {'a', "all", NULL, "All warnings"}
#define OPT_EVENT_TYPE {0, "type", "<event-type>", "logging, operation or lifecycle (may be repeated)"}
#define OPT_MONITOR_FORMAT {'f', "format", "<monitor-format>", "yaml, json or pretty", "yaml"}
#define OPT_PRETTY {0, "pretty", NULL, "Short lines for people"}
#define OPT_REQUEST {'X', "request", "<method>", "Method of the request", "GET"}
#define OPT_DATA {'d', "data", "<JSON>", "Body of the request, '-' for stdin"}
#define OPT_RAW {0, "raw", NULL, "The whole answer"}
#define OPT_WAIT {0, "wait", NULL, "Wait for the operation that it starts"}
#define OPT_WAIT_TIMEOUT {'t', "timeout", "<seconds>", "Give up after this long"}
#define OPT_SHUTDOWN_TIMEOUT {0, "timeout", "<seconds>", "Give up waiting after this long"}
#define OPT_TTL {0, "ttl", "<seconds>", "How long others may keep the entry"}
#define OPT_FORCE_SHUTDOWN {'f', "force", NULL, "Do not wait for operations"}
#define OPTIONS(...) ((const Option[]){__VA_ARGS__, {0}})

static const Entity entity_instance = {"instance", "/1.0/instances/%s", "/1.0/instances", 1,
    "architecture config devices ephemeral profiles stateful description", NULL, NULL, "name", NULL};
static const Entity entity_profile = {"profile", "/1.0/profiles/%s", "/1.0/profiles", 1,
    "config description devices", NULL, "NAME=name,DESCRIPTION=description,USED BY=used_by#", "name", NULL};
static const Entity entity_project = {"project", "/1.0/projects/%s", "/1.0/projects", 1,
    "config description", NULL, NULL, "name", NULL};
static const Entity entity_network = {"network", "/1.0/networks/%s", "/1.0/networks", 1,
    "config description", NULL,
    "NAME=name,TYPE=type,MANAGED=managed?,IPV4=config.ipv4.address,IPV6=config.ipv6.address,"
    "DESCRIPTION=description,USED BY=used_by#,STATE=status^", "name", NULL};
static const Entity entity_acl = {"network ACL", "/1.0/network-acls/%s", "/1.0/network-acls", 1,
    "config description ingress egress", NULL, "NAME=name,DESCRIPTION=description,USED BY=used_by#",
    "name", NULL};
static const Entity entity_forward = {"network forward", "/1.0/networks/%s/forwards/%s",
    "/1.0/networks/%s/forwards", 2, "config description ports", NULL,
    "LISTEN ADDRESS=listen_address,DESCRIPTION=description,DEFAULT TARGET ADDRESS=config.target_address,"
    "PORTS=ports#", "listen_address", NULL};
static const Entity entity_balancer = {"network load balancer", "/1.0/networks/%s/load-balancers/%s",
    "/1.0/networks/%s/load-balancers", 2, "config description backends ports", NULL,
    "LISTEN ADDRESS=listen_address,DESCRIPTION=description,BACKENDS=backends#,PORTS=ports#",
    "listen_address", NULL};
static const Entity entity_peer = {"network peer", "/1.0/networks/%s/peers/%s", "/1.0/networks/%s/peers",
    2, "config description", NULL,
    "NAME=name,DESCRIPTION=description,PROJECT=target_project,NETWORK=target_network,STATE=status^",
    "name", NULL};
static const Entity entity_zone = {"network zone", "/1.0/network-zones/%s", "/1.0/network-zones", 1,
    "config description", NULL, "NAME=name,DESCRIPTION=description,USED BY=used_by#", "name", NULL};
static const Entity entity_record = {"zone record", "/1.0/network-zones/%s/records/%s",
    "/1.0/network-zones/%s/records", 2, "config description entries", NULL,
    "NAME=name,DESCRIPTION=description,ENTRIES=entries#", "name", NULL};
static const Entity entity_pool = {"storage pool", "/1.0/storage-pools/%s", "/1.0/storage-pools", 1,
    "config description", NULL,
    "NAME=name,DRIVER=driver,SOURCE=config.source,DESCRIPTION=description,USED BY=used_by#,STATE=status^",
    "name", NULL};
static const Entity entity_certificate = {"certificate", "/1.0/certificates/%s", "/1.0/certificates", 1,
    "name type restricted projects certificate", NULL, NULL, "name", NULL};
static const Entity entity_operation = {"operation", "/1.0/operations/%s", "/1.0/operations", 1, "", NULL,
    NULL, "id", NULL};
static const Entity entity_warning = {"warning", "/1.0/warnings/%s", "/1.0/warnings", 1, "status", NULL,
    NULL, "uuid", NULL};

const Command command_table[] = {
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
    {.path = "config", .summary = "Configure instances and the server"},
    {.path = "config get", .args = "[<remote>:][<instance>] <key>", .summary = "Show a setting",
     .run = cmd_config_get, .options = OPTIONS(OPT_EXPANDED, OPT_PROPERTY, OPT_TARGET)},
    {.path = "config set", .args = "[<remote>:][<instance>] <key=value>...", .summary = "Change settings",
     .run = cmd_config_set, .options = OPTIONS(OPT_PROPERTY, OPT_TARGET),
     .details = "An empty value unsets; key=- reads the value from stdin. 'key value' is taken too.",
     .examples = "hawser config set web1 limits.cpu=2 limits.memory=1GiB\n"
     "hawser config set core.https_address=:8443\n"
     "hawser config set web1 user.user-data=- < cloud-init.yaml"},
    {.path = "config unset", .args = "[<remote>:][<instance>] <key>", .summary = "Unset a setting",
     .run = cmd_config_unset, .options = OPTIONS(OPT_PROPERTY, OPT_TARGET)},
    {.path = "config show", .args = "[<remote>:][<instance>]", .summary = "Show the configuration",
     .run = cmd_config_show, .options = OPTIONS(OPT_EXPANDED, OPT_TARGET)},
    {.path = "config edit", .args = "[<remote>:][<instance>]", .summary = "Edit the configuration as YAML",
     .run = cmd_config_edit, .options = OPTIONS(OPT_TARGET),
     .details = "In $EDITOR, or from a stdin that is no terminal."},
    {.path = "config device", .summary = "Devices of instances"},
    {.path = "config device add",
     .args = "[<remote>:]<instance> <new-name> <device-type> [<key=value>...]", .summary = "Add a device",
     .run = cmd_device_add, .entity = &entity_instance,
     .examples = "hawser config device add web1 data disk source=/srv path=/srv\n"
     "hawser config device add web1 www proxy listen=tcp:0.0.0.0:80 connect=tcp:127.0.0.1:80"},
    {.path = "config device get", .args = "[<remote>:]<instance> <device> <key>",
     .summary = "Show a setting of a device", .run = cmd_device_get, .entity = &entity_instance},
    {.path = "config device set", .args = "[<remote>:]<instance> <device> <key=value>...",
     .summary = "Change settings of a device", .run = cmd_device_set, .entity = &entity_instance},
    {.path = "config device unset", .args = "[<remote>:]<instance> <device> <key>",
     .summary = "Unset a setting of a device", .run = cmd_device_unset, .entity = &entity_instance},
    {.path = "config device list", .alias = "ls", .args = "[<remote>:]<instance>",
     .summary = "List devices", .run = cmd_device_list, .entity = &entity_instance},
    {.path = "config device show", .args = "[<remote>:]<instance>", .summary = "Show devices in full",
     .run = cmd_device_show, .entity = &entity_instance},
    {.path = "config device remove", .alias = "rm", .args = "[<remote>:]<instance> <device>...",
     .summary = "Remove devices", .run = cmd_device_remove, .entity = &entity_instance},
    {.path = "config device override", .args = "[<remote>:]<instance> <device> [<key=value>...]",
     .summary = "Make a profile's device the instance's own", .run = cmd_device_override,
     .entity = &entity_instance},
    {.path = "config metadata", .summary = "Metadata of instances"},
    {.path = "config metadata show", .args = "[<remote>:]<instance>",
     .summary = "Show the metadata of an instance", .run = cmd_config_metadata_show},
    {.path = "config metadata edit", .args = "[<remote>:]<instance>",
     .summary = "Edit the metadata of an instance", .run = cmd_config_metadata_edit},
    {.path = "config template", .summary = "Templates of instances"},
    {.path = "config template list", .alias = "ls", .args = "[<remote>:]<instance>",
     .summary = "List templates", .run = cmd_config_template_list, .options = OPTIONS(OPT_FORMAT)},
    {.path = "config template show", .args = "[<remote>:]<instance> <template>",
     .summary = "Show a template", .run = cmd_config_template_show},
    {.path = "config template create", .args = "[<remote>:]<instance> <new-name>",
     .summary = "Create a template", .run = cmd_config_template_create},
    {.path = "config template edit", .args = "[<remote>:]<instance> <template>",
     .summary = "Edit a template", .run = cmd_config_template_edit},
    {.path = "config template delete", .alias = "rm", .args = "[<remote>:]<instance> <template>",
     .summary = "Delete a template", .run = cmd_config_template_delete},
    {.path = "config trust", .summary = "Clients that the server trusts"},
    {.path = "config trust add", .args = "[<remote>:] [<file>]",
     .summary = "Trust a certificate, or make a token for a new client", .run = cmd_trust_add,
     .options = OPTIONS(OPT_NAME, OPT_PROJECTS, OPT_RESTRICTED, OPT_TRUST_TYPE),
     .examples = "hawser config trust add --name laptop\n"
     "    Prints a token for: hawser remote add SERVER TOKEN\n"
     "hawser config trust add client.crt"},
    {.path = "config trust list", .alias = "ls", .args = "[<remote>:]", .summary = "List trusted clients",
     .run = cmd_trust_list, .options = OPTIONS(OPT_FORMAT)},
    {.path = "config trust list-tokens", .args = "[<remote>:]",
     .summary = "List tokens that were not used yet", .run = cmd_trust_list_tokens,
     .options = OPTIONS(OPT_FORMAT)},
    {.path = "config trust remove", .alias = "rm", .args = "[<remote>:]<fingerprint> [<fingerprint>]",
     .summary = "Trust a client no more", .run = cmd_trust_remove},
    {.path = "config trust revoke-token", .args = "[<remote>:]<token-name> [<token-name>]",
     .summary = "Take a token back", .run = cmd_trust_revoke_token},
    {.path = "config trust show", .args = "[<remote>:]<fingerprint>", .summary = "Show a trusted client",
     .run = entity_show, .entity = &entity_certificate},
    {.path = "config trust edit", .args = "[<remote>:]<fingerprint>",
     .summary = "Edit a trusted client as YAML", .run = entity_edit, .entity = &entity_certificate},
    {.path = "profile", .summary = "Profiles: settings that instances share"},
    {.path = "profile list", .alias = "ls", .args = "[<remote>:]", .summary = "List profiles",
     .run = entity_list, .entity = &entity_profile, .options = OPTIONS(OPT_FORMAT)},
    {.path = "profile show", .args = "[<remote>:]<profile>", .summary = "Show a profile",
     .run = entity_show, .entity = &entity_profile},
    {.path = "profile get", .args = "[<remote>:]<profile> <key>", .summary = "Show a setting of a profile",
     .run = entity_get, .entity = &entity_profile, .options = OPTIONS(OPT_PROPERTY)},
    {.path = "profile set", .args = "[<remote>:]<profile> <key=value>...",
     .summary = "Change settings of a profile", .run = entity_set, .entity = &entity_profile,
     .options = OPTIONS(OPT_PROPERTY)},
    {.path = "profile unset", .args = "[<remote>:]<profile> <key>",
     .summary = "Unset a setting of a profile", .run = entity_unset, .entity = &entity_profile,
     .options = OPTIONS(OPT_PROPERTY)},
    {.path = "profile edit", .args = "[<remote>:]<profile>", .summary = "Edit a profile as YAML",
     .run = entity_edit, .entity = &entity_profile},
    {.path = "profile rename", .args = "[<remote>:]<profile> <new-name>", .summary = "Rename a profile",
     .run = entity_rename, .entity = &entity_profile},
    {.path = "profile delete", .alias = "rm", .args = "[<remote>:]<profile>",
     .summary = "Delete a profile", .run = entity_delete, .entity = &entity_profile},
    {.path = "profile create", .args = "[<remote>:]<new-name>", .summary = "Create a profile",
     .run = cmd_profile_create, .options = OPTIONS(OPT_DESCRIPTION),
     .details = "A stdin that is a file or a pipe may say config, devices and description as YAML."},
    {.path = "profile add", .args = "[<remote>:]<instance> <profile>",
     .summary = "Add a profile to an instance", .run = cmd_profile_add},
    {.path = "profile remove", .args = "[<remote>:]<instance> <profile>",
     .summary = "Take a profile from an instance", .run = cmd_profile_remove},
    {.path = "profile assign", .alias = "apply", .args = "[<remote>:]<instance> <profiles>",
     .summary = "Set all profiles of an instance", .run = cmd_profile_assign,
     .examples = "hawser profile assign web1 default,big\n"
     "hawser profile assign web1 ''\n"
     "    None at all."},
    {.path = "profile copy", .alias = "cp", .args = "[<remote>:]<profile> [<remote>:]<new-name>",
     .summary = "Copy a profile", .run = cmd_profile_copy, .options = OPTIONS(OPT_TARGET_PROJECT)},
    {.path = "profile device", .summary = "Devices of profiles"},
    {.path = "profile device add",
     .args = "[<remote>:]<profile> <new-name> <device-type> [<key=value>...]", .summary = "Add a device",
     .run = cmd_device_add, .entity = &entity_profile,
     .examples = "hawser profile device add web data disk source=/srv path=/srv\n"
     "hawser profile device add web www proxy listen=tcp:0.0.0.0:80 connect=tcp:127.0.0.1:80"},
    {.path = "profile device get", .args = "[<remote>:]<profile> <device> <key>",
     .summary = "Show a setting of a device", .run = cmd_device_get, .entity = &entity_profile},
    {.path = "profile device set", .args = "[<remote>:]<profile> <device> <key=value>...",
     .summary = "Change settings of a device", .run = cmd_device_set, .entity = &entity_profile},
    {.path = "profile device unset", .args = "[<remote>:]<profile> <device> <key>",
     .summary = "Unset a setting of a device", .run = cmd_device_unset, .entity = &entity_profile},
    {.path = "profile device list", .alias = "ls", .args = "[<remote>:]<profile>",
     .summary = "List devices", .run = cmd_device_list, .entity = &entity_profile},
    {.path = "profile device show", .args = "[<remote>:]<profile>", .summary = "Show devices in full",
     .run = cmd_device_show, .entity = &entity_profile},
    {.path = "profile device remove", .alias = "rm", .args = "[<remote>:]<profile> <device>...",
     .summary = "Remove devices", .run = cmd_device_remove, .entity = &entity_profile},
    {.path = "project", .summary = "Projects: separate sets of instances, images, profiles and more"},
    {.path = "project list", .alias = "ls", .args = "[<remote>:]", .summary = "List projects",
     .run = cmd_project_list, .options = OPTIONS(OPT_FORMAT)},
    {.path = "project create", .args = "[<remote>:]<new-name> [<key=value>...]",
     .summary = "Create a project", .run = entity_create, .entity = &entity_project,
     .options = OPTIONS(OPT_DESCRIPTION, OPT_CONFIG)},
    {.path = "project show", .args = "[<remote>:]<project>", .summary = "Show a project",
     .run = entity_show, .entity = &entity_project},
    {.path = "project get", .args = "[<remote>:]<project> <key>", .summary = "Show a setting of a project",
     .run = entity_get, .entity = &entity_project, .options = OPTIONS(OPT_PROPERTY)},
    {.path = "project set", .args = "[<remote>:]<project> <key=value>...",
     .summary = "Change settings of a project", .run = entity_set, .entity = &entity_project,
     .options = OPTIONS(OPT_PROPERTY)},
    {.path = "project unset", .args = "[<remote>:]<project> <key>",
     .summary = "Unset a setting of a project", .run = entity_unset, .entity = &entity_project,
     .options = OPTIONS(OPT_PROPERTY)},
    {.path = "project edit", .args = "[<remote>:]<project>", .summary = "Edit a project as YAML",
     .run = entity_edit, .entity = &entity_project},
    {.path = "project rename", .args = "[<remote>:]<project> <new-name>", .summary = "Rename a project",
     .run = entity_rename, .entity = &entity_project},
    {.path = "project delete", .alias = "rm", .args = "[<remote>:]<project>",
     .summary = "Delete a project", .run = entity_delete, .entity = &entity_project},
    {.path = "project switch", .args = "[<remote>:]<project>",
     .summary = "Work in this project from now on", .run = cmd_project_switch},
    {.path = "project info", .args = "[<remote>:]<project>",
     .summary = "Show limits and usage of a project", .run = cmd_project_info,
     .options = OPTIONS(OPT_FORMAT)},
    {.path = "dataplane", .summary = "The fast path between instances on OVN networks"},
    {.path = "dataplane flows", .args = "[<remote>:]",
     .summary = "List learned connections, their rates, and why one is slow", .run = cmd_dataplane_flows,
     .options = OPTIONS(OPT_FORMAT, OPT_FLOW_NIC, OPT_FLOW_ADDRESS, OPT_FLOW_SOURCE, OPT_FLOW_DESTINATION, OPT_FLOW_PORT, OPT_FLOW_PROTOCOL, OPT_FLOW_STATE, OPT_FLOW_LIMIT),
     .details = "One row a direction. 'half': the answers were not seen yet; 'fast' and 'probing' are forwarded past the switch, the latter while a copy asks OVN once more; 'expired' and 'stale' are learned anew by their next packet.",
     .examples = "hawser dataplane flows --nic web1 --protocol tcp\n    what web1 sends, and how fast"},
    {.path = "dataplane stats", .args = "[<remote>:]",
     .summary = "Show whether it is on, its ports, and what became of packets", .run = cmd_dataplane_stats,
     .options = OPTIONS(OPT_FORMAT)},
    {.path = "dataplane trace", .args = "[<remote>:]",
     .summary = "Show what becomes of packets as they pass", .run = cmd_dataplane_trace,
     .options = OPTIONS(OPT_TRACE_SECONDS, OPT_FLOW_NIC, OPT_FLOW_ADDRESS, OPT_FLOW_LIMIT)},
    {.path = "dataplane off", .args = "[<remote>:]",
     .summary = "Send everything through the switch, until 'on'", .run = cmd_dataplane_off},
    {.path = "dataplane on", .args = "[<remote>:]", .summary = "Use the fast path again",
     .run = cmd_dataplane_on},
    {.path = "hw", .summary = "Hardware: NICs with an embedded switch, for accelerated networking"},
    {.path = "hw list", .alias = "ls", .args = "[<remote>:]",
     .summary = "List PFs: mode, virtual functions, and why one can't be used",
     .run = cmd_hw_list, .options = OPTIONS(OPT_FORMAT)},
    {.path = "hw show", .args = "[<remote>:][<pf>]", .summary = "Show a PF and its VFs, or everything",
     .run = cmd_hw_show},
    {.path = "hw doctor", .args = "[<remote>:]",
     .summary = "Check kernel, IOMMU, eswitch and offload, with next steps", .run = cmd_hw_doctor,
     .options = OPTIONS(OPT_FORMAT)},
    {.path = "hw prepare", .args = "[<remote>:]<pf>",
     .summary = "Make virtual functions and set the eswitch's mode, now and at each boot",
     .run = cmd_hw_prepare, .options = OPTIONS(OPT_VFS, OPT_ESWITCH_MODE),
     .details = "Nothing else ever changes the number of virtual functions or the eswitch's mode. What is so already is left alone. It is refused while something uses a virtual function that would have to go. --vfs 0 --mode legacy forgets the PF.",
     .examples = "hawser hw prepare ens1f0np0 --vfs 16 --mode switchdev\n    16 VFs with representors, ready for acceleration=sriov and vdpa"},
    {.path = "network", .summary = "Networks"},
    {.path = "network list", .alias = "ls", .args = "[<remote>:]", .summary = "List networks",
     .run = entity_list, .entity = &entity_network, .options = OPTIONS(OPT_FORMAT)},
    {.path = "network create", .args = "[<remote>:]<new-name> [<key=value>...]",
     .summary = "Create a network", .run = entity_create, .entity = &entity_network,
     .options = OPTIONS(OPT_DESCRIPTION, OPT_NETWORK_TYPE, OPT_TARGET)},
    {.path = "network show", .args = "[<remote>:]<network>", .summary = "Show a network",
     .run = entity_show, .entity = &entity_network, .options = OPTIONS(OPT_TARGET)},
    {.path = "network get", .args = "[<remote>:]<network> <key>", .summary = "Show a setting of a network",
     .run = entity_get, .entity = &entity_network, .options = OPTIONS(OPT_PROPERTY, OPT_TARGET)},
    {.path = "network set", .args = "[<remote>:]<network> <key=value>...",
     .summary = "Change settings of a network", .run = entity_set, .entity = &entity_network,
     .options = OPTIONS(OPT_PROPERTY, OPT_TARGET)},
    {.path = "network unset", .args = "[<remote>:]<network> <key>",
     .summary = "Unset a setting of a network", .run = entity_unset, .entity = &entity_network,
     .options = OPTIONS(OPT_PROPERTY, OPT_TARGET)},
    {.path = "network edit", .args = "[<remote>:]<network>", .summary = "Edit a network as YAML",
     .run = entity_edit, .entity = &entity_network, .options = OPTIONS(OPT_TARGET)},
    {.path = "network rename", .args = "[<remote>:]<network> <new-name>", .summary = "Rename a network",
     .run = entity_rename, .entity = &entity_network},
    {.path = "network delete", .alias = "rm", .args = "[<remote>:]<network>",
     .summary = "Delete a network", .run = entity_delete, .entity = &entity_network,
     .options = OPTIONS(OPT_TARGET)},
    {.path = "network info", .args = "[<remote>:]<network>", .summary = "Show the state of a network",
     .run = cmd_network_info, .options = OPTIONS(OPT_TARGET)},
    {.path = "network list-leases", .args = "[<remote>:]<network>", .summary = "List DHCP leases",
     .run = cmd_network_leases, .options = OPTIONS(OPT_FORMAT)},
    {.path = "network ovn", .summary = "The OVN behind the networks"},
    {.path = "network ovn info", .args = "[<remote>:]",
     .summary = "Show which OVN it is, its daemons and connections", .run = cmd_ovn_info},
    {.path = "network ovn diff", .args = "[<remote>:]",
     .summary = "Show where its rows differ from what they ought to be", .run = cmd_ovn_diff,
     .options = OPTIONS(OPT_FORMAT),
     .details = "An empty list is the normal state: differences are mended in the background. Rows of others are not shown."},
    {.path = "network ovn reconcile", .args = "[<remote>:]",
     .summary = "Make its rows what they ought to be, now", .run = cmd_ovn_reconcile},
    {.path = "network attach", .args = "[<remote>:]<network> <instance> [<new-name>] [<interface>]",
     .summary = "Give an instance an interface on a network", .run = cmd_network_attach},
    {.path = "network attach-profile", .args = "[<remote>:]<network> <profile> [<new-name>] [<interface>]",
     .summary = "Give a profile an interface on a network", .run = cmd_network_attach_profile},
    {.path = "network detach", .args = "[<remote>:]<network> <instance> [<device>]",
     .summary = "Take an instance's interface from a network", .run = cmd_network_detach},
    {.path = "network detach-profile", .args = "[<remote>:]<network> <profile> [<device>]",
     .summary = "Take a profile's interface from a network", .run = cmd_network_detach_profile},
    {.path = "network acl", .summary = "Access control lists"},
    {.path = "network acl list", .alias = "ls", .args = "[<remote>:]", .summary = "List network ACLs",
     .run = entity_list, .entity = &entity_acl, .options = OPTIONS(OPT_FORMAT)},
    {.path = "network acl create", .args = "[<remote>:]<new-name> [<key=value>...]",
     .summary = "Create a network ACL", .run = entity_create, .entity = &entity_acl,
     .options = OPTIONS(OPT_DESCRIPTION)},
    {.path = "network acl show", .args = "[<remote>:]<acl>", .summary = "Show a network ACL",
     .run = entity_show, .entity = &entity_acl},
    {.path = "network acl get", .args = "[<remote>:]<acl> <key>",
     .summary = "Show a setting of a network ACL", .run = entity_get, .entity = &entity_acl,
     .options = OPTIONS(OPT_PROPERTY)},
    {.path = "network acl set", .args = "[<remote>:]<acl> <key=value>...",
     .summary = "Change settings of a network ACL", .run = entity_set, .entity = &entity_acl,
     .options = OPTIONS(OPT_PROPERTY)},
    {.path = "network acl unset", .args = "[<remote>:]<acl> <key>",
     .summary = "Unset a setting of a network ACL", .run = entity_unset, .entity = &entity_acl,
     .options = OPTIONS(OPT_PROPERTY)},
    {.path = "network acl edit", .args = "[<remote>:]<acl>", .summary = "Edit a network ACL as YAML",
     .run = entity_edit, .entity = &entity_acl},
    {.path = "network acl rename", .args = "[<remote>:]<acl> <new-name>",
     .summary = "Rename a network ACL", .run = entity_rename, .entity = &entity_acl},
    {.path = "network acl delete", .alias = "rm", .args = "[<remote>:]<acl>",
     .summary = "Delete a network ACL", .run = entity_delete, .entity = &entity_acl},
    {.path = "network acl show-log", .args = "[<remote>:]<acl>",
     .summary = "Show the log of a network ACL", .run = cmd_network_acl_log},
    {.path = "network acl rule", .summary = "Rules of access control lists"},
    {.path = "network acl rule add", .args = "[<remote>:]<acl> <direction> <key=value>...",
     .summary = "Add a rule", .run = cmd_network_acl_rule_add,
     .examples = "hawser network acl rule add web ingress action=allow protocol=tcp destination_port=80,443"},
    {.path = "network acl rule remove", .args = "[<remote>:]<acl> <direction> [<key=value>...]",
     .summary = "Remove a rule", .run = cmd_network_acl_rule_remove, .options = OPTIONS(OPT_FORCE_MATCH)},
    {.path = "network forward", .summary = "Forwards of addresses into networks"},
    {.path = "network forward list", .alias = "ls", .args = "[<remote>:]<network>",
     .summary = "List network forwards", .run = entity_list, .entity = &entity_forward,
     .options = OPTIONS(OPT_FORMAT)},
    {.path = "network forward create", .args = "[<remote>:]<network> <listen-address> [<key=value>...]",
     .summary = "Create a network forward", .run = entity_create, .entity = &entity_forward,
     .options = OPTIONS(OPT_DESCRIPTION, OPT_TARGET)},
    {.path = "network forward show", .args = "[<remote>:]<network> <listen-address>",
     .summary = "Show a network forward", .run = entity_show, .entity = &entity_forward,
     .options = OPTIONS(OPT_TARGET)},
    {.path = "network forward get", .args = "[<remote>:]<network> <listen-address> <key>",
     .summary = "Show a setting of a network forward", .run = entity_get, .entity = &entity_forward,
     .options = OPTIONS(OPT_PROPERTY, OPT_TARGET)},
    {.path = "network forward set", .args = "[<remote>:]<network> <listen-address> <key=value>...",
     .summary = "Change settings of a network forward", .run = entity_set, .entity = &entity_forward,
     .options = OPTIONS(OPT_PROPERTY, OPT_TARGET)},
    {.path = "network forward unset", .args = "[<remote>:]<network> <listen-address> <key>",
     .summary = "Unset a setting of a network forward", .run = entity_unset, .entity = &entity_forward,
     .options = OPTIONS(OPT_PROPERTY, OPT_TARGET)},
    {.path = "network forward edit", .args = "[<remote>:]<network> <listen-address>",
     .summary = "Edit a network forward as YAML", .run = entity_edit, .entity = &entity_forward,
     .options = OPTIONS(OPT_TARGET)},
    {.path = "network forward delete", .alias = "rm", .args = "[<remote>:]<network> <listen-address>",
     .summary = "Delete a network forward", .run = entity_delete, .entity = &entity_forward,
     .options = OPTIONS(OPT_TARGET)},
    {.path = "network forward port", .summary = "Ports of forwards"},
    {.path = "network forward port add",
     .args = "[<remote>:]<network> <listen-address> <protocol> <listen-ports> <target-address> [<target-ports>]",
     .summary = "Add ports to a forward", .run = cmd_network_forward_port_add,
     .options = OPTIONS(OPT_TARGET)},
    {.path = "network forward port remove",
     .args = "[<remote>:]<network> <listen-address> [<protocol>] [<listen-ports>]",
     .summary = "Remove ports from a forward", .run = cmd_network_forward_port_remove,
     .options = OPTIONS(OPT_FORCE_MATCH, OPT_TARGET)},
    {.path = "network load-balancer", .summary = "Load balancers of networks"},
    {.path = "network load-balancer list", .alias = "ls", .args = "[<remote>:]<network>",
     .summary = "List load balancers", .run = entity_list, .entity = &entity_balancer,
     .options = OPTIONS(OPT_FORMAT)},
    {.path = "network load-balancer create",
     .args = "[<remote>:]<network> <balancer-address> [<key=value>...]",
     .summary = "Create a load balancer", .run = entity_create, .entity = &entity_balancer,
     .options = OPTIONS(OPT_DESCRIPTION)},
    {.path = "network load-balancer show", .args = "[<remote>:]<network> <balancer-address>",
     .summary = "Show a load balancer", .run = entity_show, .entity = &entity_balancer},
    {.path = "network load-balancer get", .args = "[<remote>:]<network> <balancer-address> <key>",
     .summary = "Show a setting of a load balancer", .run = entity_get, .entity = &entity_balancer,
     .options = OPTIONS(OPT_PROPERTY)},
    {.path = "network load-balancer set", .args = "[<remote>:]<network> <balancer-address> <key=value>...",
     .summary = "Change settings of a load balancer", .run = entity_set, .entity = &entity_balancer,
     .options = OPTIONS(OPT_PROPERTY)},
    {.path = "network load-balancer unset", .args = "[<remote>:]<network> <balancer-address> <key>",
     .summary = "Unset a setting of a load balancer", .run = entity_unset, .entity = &entity_balancer,
     .options = OPTIONS(OPT_PROPERTY)},
    {.path = "network load-balancer edit", .args = "[<remote>:]<network> <balancer-address>",
     .summary = "Edit a load balancer as YAML", .run = entity_edit, .entity = &entity_balancer},
    {.path = "network load-balancer delete", .alias = "rm",
     .args = "[<remote>:]<network> <balancer-address>", .summary = "Delete a load balancer",
     .run = entity_delete, .entity = &entity_balancer},
    {.path = "network load-balancer backend", .summary = "Backends of load balancers"},
    {.path = "network load-balancer backend add",
     .args = "[<remote>:]<network> <balancer-address> <backend> <target-address> [<target-ports>]",
     .summary = "Add a backend to a load balancer", .run = cmd_network_balancer_backend_add},
    {.path = "network load-balancer backend remove",
     .args = "[<remote>:]<network> <balancer-address> <backend>",
     .summary = "Remove a backend from a load balancer", .run = cmd_network_balancer_backend_remove},
    {.path = "network load-balancer port", .summary = "Ports of load balancers"},
    {.path = "network load-balancer port add",
     .args = "[<remote>:]<network> <balancer-address> <protocol> <listen-ports> <backends>",
     .summary = "Add ports to a load balancer", .run = cmd_network_balancer_port_add,
     .examples = "hawser network load-balancer port add ovn1 192.0.2.9 tcp 80,443 web1,web2"},
    {.path = "network load-balancer port remove",
     .args = "[<remote>:]<network> <balancer-address> [<protocol>] [<listen-ports>]",
     .summary = "Remove ports from a load balancer", .run = cmd_network_balancer_port_remove,
     .options = OPTIONS(OPT_FORCE_MATCH)},
    {.path = "network peer", .summary = "Peerings of networks"},
    {.path = "network peer list", .alias = "ls", .args = "[<remote>:]<network>",
     .summary = "List network peers", .run = entity_list, .entity = &entity_peer,
     .options = OPTIONS(OPT_FORMAT)},
    {.path = "network peer show", .args = "[<remote>:]<network> <peer>", .summary = "Show a network peer",
     .run = entity_show, .entity = &entity_peer},
    {.path = "network peer get", .args = "[<remote>:]<network> <peer> <key>",
     .summary = "Show a setting of a network peer", .run = entity_get, .entity = &entity_peer,
     .options = OPTIONS(OPT_PROPERTY)},
    {.path = "network peer set", .args = "[<remote>:]<network> <peer> <key=value>...",
     .summary = "Change settings of a network peer", .run = entity_set, .entity = &entity_peer,
     .options = OPTIONS(OPT_PROPERTY)},
    {.path = "network peer unset", .args = "[<remote>:]<network> <peer> <key>",
     .summary = "Unset a setting of a network peer", .run = entity_unset, .entity = &entity_peer,
     .options = OPTIONS(OPT_PROPERTY)},
    {.path = "network peer edit", .args = "[<remote>:]<network> <peer>",
     .summary = "Edit a network peer as YAML", .run = entity_edit, .entity = &entity_peer},
    {.path = "network peer delete", .alias = "rm", .args = "[<remote>:]<network> <peer>",
     .summary = "Delete a network peer", .run = entity_delete, .entity = &entity_peer},
    {.path = "network peer create",
     .args = "[<remote>:]<network> <new-name> <target-network> [<key=value>...]",
     .summary = "Create a network peer", .run = cmd_network_peer_create,
     .details = "The target is a network, or project/network."},
    {.path = "network zone", .summary = "DNS zones"},
    {.path = "network zone list", .alias = "ls", .args = "[<remote>:]", .summary = "List network zones",
     .run = entity_list, .entity = &entity_zone, .options = OPTIONS(OPT_FORMAT)},
    {.path = "network zone create", .args = "[<remote>:]<new-name> [<key=value>...]",
     .summary = "Create a network zone", .run = entity_create, .entity = &entity_zone,
     .options = OPTIONS(OPT_DESCRIPTION)},
    {.path = "network zone show", .args = "[<remote>:]<zone>", .summary = "Show a network zone",
     .run = entity_show, .entity = &entity_zone},
    {.path = "network zone get", .args = "[<remote>:]<zone> <key>",
     .summary = "Show a setting of a network zone", .run = entity_get, .entity = &entity_zone,
     .options = OPTIONS(OPT_PROPERTY)},
    {.path = "network zone set", .args = "[<remote>:]<zone> <key=value>...",
     .summary = "Change settings of a network zone", .run = entity_set, .entity = &entity_zone,
     .options = OPTIONS(OPT_PROPERTY)},
    {.path = "network zone unset", .args = "[<remote>:]<zone> <key>",
     .summary = "Unset a setting of a network zone", .run = entity_unset, .entity = &entity_zone,
     .options = OPTIONS(OPT_PROPERTY)},
    {.path = "network zone edit", .args = "[<remote>:]<zone>", .summary = "Edit a network zone as YAML",
     .run = entity_edit, .entity = &entity_zone},
    {.path = "network zone delete", .alias = "rm", .args = "[<remote>:]<zone>",
     .summary = "Delete a network zone", .run = entity_delete, .entity = &entity_zone},
    {.path = "network zone record", .summary = "Records of DNS zones"},
    {.path = "network zone record list", .alias = "ls", .args = "[<remote>:]<zone>",
     .summary = "List zone records", .run = entity_list, .entity = &entity_record,
     .options = OPTIONS(OPT_FORMAT)},
    {.path = "network zone record create", .args = "[<remote>:]<zone> <new-name> [<key=value>...]",
     .summary = "Create a zone record", .run = entity_create, .entity = &entity_record,
     .options = OPTIONS(OPT_DESCRIPTION)},
    {.path = "network zone record show", .args = "[<remote>:]<zone> <record>",
     .summary = "Show a zone record", .run = entity_show, .entity = &entity_record},
    {.path = "network zone record get", .args = "[<remote>:]<zone> <record> <key>",
     .summary = "Show a setting of a zone record", .run = entity_get, .entity = &entity_record,
     .options = OPTIONS(OPT_PROPERTY)},
    {.path = "network zone record set", .args = "[<remote>:]<zone> <record> <key=value>...",
     .summary = "Change settings of a zone record", .run = entity_set, .entity = &entity_record,
     .options = OPTIONS(OPT_PROPERTY)},
    {.path = "network zone record unset", .args = "[<remote>:]<zone> <record> <key>",
     .summary = "Unset a setting of a zone record", .run = entity_unset, .entity = &entity_record,
     .options = OPTIONS(OPT_PROPERTY)},
    {.path = "network zone record edit", .args = "[<remote>:]<zone> <record>",
     .summary = "Edit a zone record as YAML", .run = entity_edit, .entity = &entity_record},
    {.path = "network zone record delete", .alias = "rm", .args = "[<remote>:]<zone> <record>",
     .summary = "Delete a zone record", .run = entity_delete, .entity = &entity_record},
    {.path = "network zone record entry", .summary = "Entries of zone records"},
    {.path = "network zone record entry add", .args = "[<remote>:]<zone> <record> <type> <value>",
     .summary = "Add an entry to a zone record", .run = cmd_network_zone_entry_add,
     .options = OPTIONS(OPT_TTL),
     .examples = "hawser network zone record entry add example.net web TXT '\"hello\"' --ttl 3600"},
    {.path = "network zone record entry remove", .args = "[<remote>:]<zone> <record> <type> <value>",
     .summary = "Remove an entry from a zone record", .run = cmd_network_zone_entry_remove},
    {.path = "storage", .summary = "Storage pools and volumes"},
    {.path = "storage list", .alias = "ls", .args = "[<remote>:]", .summary = "List storage pools",
     .run = entity_list, .entity = &entity_pool, .options = OPTIONS(OPT_FORMAT)},
    {.path = "storage get", .args = "[<remote>:]<pool> <key>",
     .summary = "Show a setting of a storage pool", .run = entity_get, .entity = &entity_pool,
     .options = OPTIONS(OPT_PROPERTY, OPT_TARGET)},
    {.path = "storage set", .args = "[<remote>:]<pool> <key=value>...",
     .summary = "Change settings of a storage pool", .run = entity_set, .entity = &entity_pool,
     .options = OPTIONS(OPT_PROPERTY, OPT_TARGET)},
    {.path = "storage unset", .args = "[<remote>:]<pool> <key>",
     .summary = "Unset a setting of a storage pool", .run = entity_unset, .entity = &entity_pool,
     .options = OPTIONS(OPT_PROPERTY, OPT_TARGET)},
    {.path = "storage edit", .args = "[<remote>:]<pool>", .summary = "Edit a storage pool as YAML",
     .run = entity_edit, .entity = &entity_pool, .options = OPTIONS(OPT_TARGET)},
    {.path = "storage delete", .alias = "rm", .args = "[<remote>:]<pool>",
     .summary = "Delete a storage pool", .run = entity_delete, .entity = &entity_pool,
     .options = OPTIONS(OPT_TARGET)},
    {.path = "storage create", .args = "[<remote>:]<new-name> <driver> [<key=value>...]",
     .summary = "Create a storage pool", .run = cmd_storage_create,
     .options = OPTIONS(OPT_DESCRIPTION, OPT_TARGET),
     .examples = "hawser storage create fast btrfs size=50GiB\n"
     "hawser storage create plain dir source=/srv/hawser"},
    {.path = "storage show", .args = "[<remote>:]<pool>", .summary = "Show a storage pool",
     .run = cmd_storage_show, .entity = &entity_pool, .options = OPTIONS(OPT_POOL_RESOURCES, OPT_TARGET)},
    {.path = "storage info", .args = "[<remote>:]<pool>",
     .summary = "Show space and users of a storage pool", .run = cmd_storage_info,
     .options = OPTIONS(OPT_BYTES, OPT_TARGET)},
    {.path = "storage volume", .summary = "Storage volumes",
     .details = "A volume is a name (of a custom volume) or type/name (container, virtual-machine, image); /snapshot follows where a snapshot is meant."},
    {.path = "storage volume list", .alias = "ls", .args = "[<remote>:]<pool> [<filter>...]",
     .summary = "List volumes", .run = cmd_volume_list,
     .options = OPTIONS(OPT_VOLUME_COLUMNS, OPT_FORMAT, OPT_ALL_PROJECTS, OPT_TARGET),
     .details = "Columns: t type, n name, d description, c content type, u users, L location, e project, p pool."},
    {.path = "storage volume create", .args = "[<remote>:]<pool> <new-name> [<key=value>...]",
     .summary = "Create a volume", .run = cmd_volume_create,
     .options = OPTIONS(OPT_DESCRIPTION, OPT_CONTENT_TYPE, OPT_TARGET)},
    {.path = "storage volume show", .args = "[<remote>:]<pool> <volume>", .summary = "Show a volume",
     .run = cmd_volume_show, .options = OPTIONS(OPT_TARGET)},
    {.path = "storage volume info", .args = "[<remote>:]<pool> <volume>",
     .summary = "Show usage and snapshots of a volume", .run = cmd_volume_info,
     .options = OPTIONS(OPT_TARGET)},
    {.path = "storage volume get", .args = "[<remote>:]<pool> <volume> <key>",
     .summary = "Show a setting of a volume", .run = cmd_volume_get,
     .options = OPTIONS(OPT_PROPERTY, OPT_TARGET)},
    {.path = "storage volume set", .args = "[<remote>:]<pool> <volume> <key=value>...",
     .summary = "Change settings of a volume", .run = cmd_volume_set,
     .options = OPTIONS(OPT_PROPERTY, OPT_TARGET)},
    {.path = "storage volume unset", .args = "[<remote>:]<pool> <volume> <key>",
     .summary = "Unset a setting of a volume", .run = cmd_volume_unset,
     .options = OPTIONS(OPT_PROPERTY, OPT_TARGET)},
    {.path = "storage volume edit", .args = "[<remote>:]<pool> <volume>",
     .summary = "Edit a volume as YAML", .run = cmd_volume_edit, .options = OPTIONS(OPT_TARGET)},
    {.path = "storage volume rename", .args = "[<remote>:]<pool> <volume> <new-name>",
     .summary = "Rename a volume or its snapshot", .run = cmd_volume_rename,
     .options = OPTIONS(OPT_TARGET)},
    {.path = "storage volume delete", .alias = "rm", .args = "[<remote>:]<pool> <volume>",
     .summary = "Delete a volume or its snapshot", .run = cmd_volume_delete,
     .options = OPTIONS(OPT_TARGET)},
    {.path = "storage volume snapshot", .args = "[<remote>:]<pool> <volume> [<new-name>]",
     .summary = "Take a snapshot of a volume", .run = cmd_volume_snapshot,
     .options = OPTIONS(OPT_NO_EXPIRY, OPT_REUSE, OPT_TARGET)},
    {.path = "storage volume restore", .args = "[<remote>:]<pool> <volume> <snapshot>",
     .summary = "Restore a volume from a snapshot", .run = cmd_volume_restore,
     .options = OPTIONS(OPT_TARGET)},
    {.path = "storage volume copy", .alias = "cp",
     .args = "[<remote>:]<pool/volume> [<remote>:]<pool/volume>", .summary = "Copy a volume",
     .run = cmd_volume_copy,
     .options = OPTIONS(OPT_TRANSFER_MODE, OPT_REFRESH, OPT_VOLUME_ONLY, OPT_TARGET, OPT_TARGET_PROJECT)},
    {.path = "storage volume move", .alias = "mv",
     .args = "[<remote>:]<pool/volume> [<remote>:]<pool/volume>",
     .summary = "Move a volume to another pool or project", .run = cmd_volume_move,
     .options = OPTIONS(OPT_TRANSFER_MODE, OPT_TARGET, OPT_TARGET_PROJECT)},
    {.path = "storage volume attach",
     .args = "[<remote>:]<pool> <volume> <instance> [<new-name>] [<path>]",
     .summary = "Attach a volume to an instance", .run = cmd_volume_attach},
    {.path = "storage volume attach-profile",
     .args = "[<remote>:]<pool> <volume> <profile> [<new-name>] [<path>]",
     .summary = "Attach a volume to a profile", .run = cmd_volume_attach_profile},
    {.path = "storage volume detach", .args = "[<remote>:]<pool> <volume> <instance> [<device>]",
     .summary = "Detach a volume from an instance", .run = cmd_volume_detach},
    {.path = "storage volume detach-profile", .args = "[<remote>:]<pool> <volume> <profile> [<device>]",
     .summary = "Detach a volume from a profile", .run = cmd_volume_detach_profile},
    {.path = "storage volume export", .args = "[<remote>:]<pool> <volume> [<file>]",
     .summary = "Save a volume as a backup file", .run = cmd_backup_export_volume,
     .options = OPTIONS(OPT_COMPRESSION, OPT_OPTIMIZED, OPT_VOLUME_ONLY, OPT_TARGET)},
    {.path = "storage volume import", .args = "[<remote>:]<pool> <backup-file> [<new-name>]",
     .summary = "Make a volume from a backup file", .run = cmd_backup_import_volume,
     .options = OPTIONS(OPT_TARGET)},
    {.path = "image", .summary = "Images",
     .details = "An image is its fingerprint, the beginning of it, or an alias."},
    {.path = "image list", .alias = "ls", .args = "[<remote>:] [<filter>...]", .summary = "List images",
     .run = cmd_image_list, .options = OPTIONS(OPT_IMAGE_COLUMNS, OPT_FORMAT),
     .details = "A filter is part of an alias, the beginning of a fingerprint, or a property (os=debian).\n"
     "\n"
     "Columns: l alias, L aliases, f fingerprint, F whole fingerprint, p public, d description, a architecture, t type, s size, u upload time."},
    {.path = "image info", .args = "[<remote>:]<image>", .summary = "Show an image", .run = cmd_image_info,
     .options = OPTIONS(OPT_VM)},
    {.path = "image show", .args = "[<remote>:]<image>", .summary = "Show the properties of an image",
     .run = cmd_image_show, .options = OPTIONS(OPT_VM)},
    {.path = "image edit", .args = "[<remote>:]<image>", .summary = "Edit the properties of an image",
     .run = cmd_image_edit},
    {.path = "image import", .args = "<file> [<file>] [<remote>:] [<key=value>...]",
     .summary = "Import an image from one or two files, or an https URL", .run = cmd_transfer_import,
     .options = OPTIONS(OPT_ALIAS, OPT_PUBLIC, OPT_VM),
     .examples = "hawser image import debian.tar.xz --alias debian/12\n"
     "hawser image import metadata.tar.xz rootfs.squashfs os=debian"},
    {.path = "image export", .args = "[<remote>:]<image> [<file>]",
     .summary = "Save an image as one or two files", .run = cmd_transfer_export,
     .options = OPTIONS(OPT_VM)},
    {.path = "image build", .args = "<distribution> [<remote>:]",
     .summary = "Build an image here and import it", .run = cmd_transfer_build,
     .options = OPTIONS(OPT_ALIAS, OPT_PUBLIC, OPT_MIRROR, OPT_INCLUDE, OPT_MINIMAL),
     .details = "The distributions are debian/11, debian/12, debian/13 (by mmdebstrap, from the mirror that apt uses) and busybox (in a second, for tests). The alias is the name of the distribution unless given; one that exists moves to the new image.",
     .examples = "hawser image build debian/12\n"
     "hawser image build busybox --alias tiny"},
    {.path = "image copy", .alias = "cp", .args = "[<remote>:]<image> <remote>:",
     .summary = "Copy an image to another server", .run = cmd_imagecopy_run,
     .options = OPTIONS(OPT_ALIAS, OPT_AUTO_UPDATE, OPT_COPY_ALIASES, OPT_TRANSFER_MODE, OPT_PUBLIC, OPT_TARGET_PROJECT, OPT_VM)},
    {.path = "image delete", .alias = "rm", .args = "[<remote>:]<image>...", .summary = "Delete images",
     .run = cmd_image_delete},
    {.path = "image refresh", .args = "[<remote>:]<image>...", .summary = "Fetch newer versions of images",
     .run = cmd_image_refresh},
    {.path = "image get-property", .args = "[<remote>:]<image> <key>",
     .summary = "Show a property of an image", .run = cmd_image_get_property},
    {.path = "image set-property", .args = "[<remote>:]<image> <key> <value>",
     .summary = "Change a property of an image", .run = cmd_image_set_property},
    {.path = "image unset-property", .args = "[<remote>:]<image> <key>",
     .summary = "Unset a property of an image", .run = cmd_image_unset_property},
    {.path = "image alias", .summary = "Aliases of images"},
    {.path = "image alias list", .alias = "ls", .args = "[<remote>:] [<filter>...]",
     .summary = "List aliases", .run = cmd_image_alias_list, .options = OPTIONS(OPT_FORMAT)},
    {.path = "image alias create", .args = "[<remote>:]<new-name> <image>", .summary = "Create an alias",
     .run = cmd_image_alias_create, .options = OPTIONS(OPT_DESCRIPTION)},
    {.path = "image alias rename", .alias = "mv", .args = "[<remote>:]<image-alias> <new-name>",
     .summary = "Rename an alias", .run = cmd_image_alias_rename},
    {.path = "image alias delete", .alias = "rm", .args = "[<remote>:]<image-alias>",
     .summary = "Delete an alias", .run = cmd_image_alias_delete},
    {.path = "file", .summary = "Files of instances"},
    {.path = "file pull", .args = "[<remote>:]<instance/path>... <file>",
     .summary = "Copy files out of an instance", .run = cmd_file_pull,
     .options = OPTIONS(OPT_CREATE_DIRS, OPT_RECURSIVE), .examples = "hawser file pull web1/etc/hosts .\n"
     "hawser file pull web1/etc/hosts -\n"
     "    To stdout."},
    {.path = "file push", .args = "<file>... [<remote>:]<instance/path>",
     .summary = "Copy files into an instance", .run = cmd_file_push,
     .options = OPTIONS(OPT_CREATE_DIRS, OPT_RECURSIVE, OPT_UID, OPT_GID, OPT_FILE_MODE),
     .examples = "hawser file push hosts web1/etc/hosts\n"
     "hawser file push -r site web1/srv/"},
    {.path = "file edit", .args = "[<remote>:]<instance/path>", .summary = "Edit a file of an instance",
     .run = cmd_file_edit},
    {.path = "file delete", .alias = "rm", .args = "[<remote>:]<instance/path>...",
     .summary = "Delete files of an instance", .run = cmd_file_delete},
    {.path = "file mount", .args = "[<remote>:]<instance/path> <folder>",
     .summary = "Mount files of an instance here (needs sshfs)", .run = cmd_file_mount},
    {.path = "remote", .summary = "Servers that you know"},
    {.path = "remote add", .args = "[<new-name>] <address>", .summary = "Add a server",
     .run = cmd_remote_add,
     .options = OPTIONS(OPT_ACCEPT_CERTIFICATE, OPT_PASSWORD, OPT_PROTOCOL, OPT_PUBLIC_SERVER),
     .details = "The address is a host, host:port, URL, or a token from 'hawser config trust add' on the server.",
     .examples = "hawser remote add lab 10.0.0.5\n"
     "hawser remote add lab eyJjbGllbnRf…\n"
     "hawser remote add images https://images.example.org --protocol=simplestreams"},
    {.path = "remote list", .alias = "ls", .summary = "List servers", .run = cmd_remote_list,
     .options = OPTIONS(OPT_FORMAT)},
    {.path = "remote remove", .alias = "rm", .args = "<remote-name>", .summary = "Remove a server",
     .run = cmd_remote_remove},
    {.path = "remote rename", .alias = "mv", .args = "<remote-name> <new-name>",
     .summary = "Rename a server", .run = cmd_remote_rename},
    {.path = "remote switch", .alias = "set-default", .args = "<remote-name>",
     .summary = "Make a server the default one", .run = cmd_remote_switch},
    {.path = "remote get-default", .summary = "Show the default server", .run = cmd_remote_get_default},
    {.path = "remote set-url", .args = "<remote-name> <address>",
     .summary = "Change the address of a server", .run = cmd_remote_set_url},
    {.path = "alias", .summary = "Aliases of commands",
     .details = "@ARGS@ in a target stands for the words that follow the alias; without it they come last."},
    {.path = "alias add", .args = "<new-name> <target>", .summary = "Add an alias",
     .run = cmd_remote_alias_add, .examples = "hawser alias add ll 'list -c ns4 --format compact'\n"
     "hawser alias add sh 'exec @ARGS@ -- sh -l'"},
    {.path = "alias list", .alias = "ls", .summary = "List aliases", .run = cmd_remote_alias_list,
     .options = OPTIONS(OPT_FORMAT)},
    {.path = "alias remove", .alias = "rm", .args = "<command-alias>", .summary = "Remove an alias",
     .run = cmd_remote_alias_remove},
    {.path = "alias rename", .alias = "mv", .args = "<command-alias> <new-name>",
     .summary = "Rename an alias", .run = cmd_remote_alias_rename},
    {.path = "operation", .summary = "Work that goes on in the background"},
    {.path = "operation list", .alias = "ls", .args = "[<remote>:]", .summary = "List operations",
     .run = cmd_server_operation_list, .options = OPTIONS(OPT_FORMAT, OPT_ALL_PROJECTS)},
    {.path = "operation show", .args = "[<remote>:]<operation>", .summary = "Show an operation",
     .run = entity_show, .entity = &entity_operation},
    {.path = "operation delete", .alias = "cancel rm", .args = "[<remote>:]<operation>",
     .summary = "Cancel an operation", .run = entity_delete, .entity = &entity_operation},
    {.path = "warning", .summary = "Warnings of the server"},
    {.path = "warning list", .alias = "ls", .args = "[<remote>:]", .summary = "List warnings",
     .run = cmd_server_warning_list, .options = OPTIONS(OPT_WARNING_COLUMNS, OPT_FORMAT, OPT_ALL_WARNINGS),
     .details = "Columns: u UUID, t type, S status, s severity, c count, p project, L location, l last seen, f first seen."},
    {.path = "warning show", .args = "[<remote>:]<warning>", .summary = "Show a warning",
     .run = entity_show, .entity = &entity_warning},
    {.path = "warning acknowledge", .alias = "ack", .args = "[<remote>:]<warning>",
     .summary = "Acknowledge a warning", .run = cmd_server_warning_ack},
    {.path = "warning delete", .alias = "rm", .args = "[<remote>:][<warning>]",
     .summary = "Delete a warning", .run = cmd_server_warning_delete, .options = OPTIONS(OPT_DELETE_ALL)},
    {.path = "monitor", .args = "[<remote>:]", .summary = "Show events as they happen",
     .run = cmd_server_monitor,
     .options = OPTIONS(OPT_EVENT_TYPE, OPT_MONITOR_FORMAT, OPT_PRETTY, OPT_ALL_PROJECTS),
     .examples = "hawser monitor --type=lifecycle --format=json"},
    {.path = "query", .args = "[<remote>:]<api-path>", .summary = "Send a request to the API",
     .run = cmd_server_query, .options = OPTIONS(OPT_REQUEST, OPT_DATA, OPT_RAW, OPT_WAIT),
     .examples = "hawser query /1.0/instances\n"
     "hawser query -X PATCH -d '{\"description\":\"web\"}' /1.0/profiles/web"},
    {.path = "bench", .args = "<bench-command>...", .summary = "Measure an agent, a network or live moves",
     .run = cmd_bench_run, .verbatim = true,
     .details = "Runs hawser-bench: 'network serve' on one host and 'network to ADDRESS' on the other measure what is between them, 'migration' moves an instance there and back, 'compare' holds two results against each other. hawser-bench(1) tells more.",
     .examples = "hawser bench network to 10.0.0.2\n"
     "hawser bench migration vm1 local: other: --ping 10.0.3.5\n"
     "hawser bench compare before.json after.json"},
    {.path = "version", .args = "[<remote>:]", .summary = "Show versions of client and server",
     .run = cmd_server_version},
    {.path = "waitready", .summary = "Wait until hawserd is ready", .run = cmd_server_waitready,
     .options = OPTIONS(OPT_WAIT_TIMEOUT)},
    {.path = "shutdown", .summary = "Stop hawserd and its instances", .run = cmd_server_shutdown,
     .options = OPTIONS(OPT_FORCE_SHUTDOWN, OPT_SHUTDOWN_TIMEOUT)},
    {.path = "completion", .args = "<shell>",
     .summary = "Print the completion script of a shell (bash, zsh or fish)", .run = complete_script,
     .examples = "hawser completion bash > /etc/bash_completion.d/hawser\n"
     "hawser completion zsh > ~/.zfunc/_hawser\n"
     "hawser completion fish > ~/.config/fish/completions/hawser.fish"},
    {.path = "__complete", .args = "[<word>...]", .summary = "Print what may come next",
     .run = complete_run, .verbatim = true, .hidden = true},
    {.path = "__manual", .summary = "Print the manual page", .run = manual_run, .hidden = true},
    {.path = NULL},
};
