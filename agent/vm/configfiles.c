/* Units and scripts that bring hawser-guest into a guest. The paths in the guest are LXD's: what an image
 * has installed for LXD's agent starts ours. Data only. */
#include "agent/vm/configfiles.h"

#include <stddef.h>

static const char agent_service[] =
    "[Unit]\n"
    "Description=Hawser - guest agent\n"
    "Before=multi-user.target cloud-init.target cloud-init.service cloud-init-local.service\n"
    "DefaultDependencies=no\n"
    "\n"
    "[Service]\n"
    "Type=notify\n"
    "WorkingDirectory=-/run/lxd_agent\n"
    "ExecStartPre=/lib/systemd/lxd-agent-setup\n"
    "ExecStart=/run/lxd_agent/lxd-agent --wait-s 20\n"
    "Restart=on-failure\n"
    "RestartSec=5s\n"
    "StartLimitInterval=60\n"
    "StartLimitBurst=10\n";

static const char agent_setup[] =
    "#!/bin/sh\n"
    "# Copies the share \"config\" to /run/lxd_agent, and lets go of it.\n"
    "set -eu\n"
    "PREFIX=/run/lxd_agent\n"
    "fail() {\n"
    "    umount -l \"$PREFIX\" >/dev/null 2>&1 || true\n"
    "    rmdir \"$PREFIX\" >/dev/null 2>&1 || true\n"
    "    echo \"$1\"\n"
    "    exit 1\n"
    "}\n"
    "mount_9p() {\n"
    "    modprobe 9pnet_virtio >/dev/null 2>&1 || true\n"
    "    mount -t 9p config \"$PREFIX/.mnt\" -o ro,access=0,trans=virtio,version=9p2000.L "
    ">/dev/null "
    "2>&1\n"
    "}\n"
    "mount_disc() {\n"
    "    for disc in /dev/disk/by-label/config /dev/sr0 /dev/sr1; do\n"
    "        [ -b \"$disc\" ] && mount -t iso9660 -o ro \"$disc\" \"$PREFIX/.mnt\" >/dev/null 2>&1 "
    "|| "
    "continue\n"
    "        [ -e \"$PREFIX/.mnt/lxd-agent\" ] && return 0\n"
    "        umount \"$PREFIX/.mnt\"\n"
    "    done\n"
    "    return 1\n"
    "}\n"
    "umount -l \"$PREFIX\" >/dev/null 2>&1 || true\n"
    "mkdir -p \"$PREFIX\"\n"
    "mount -t tmpfs tmpfs \"$PREFIX\" -o mode=0700,size=50M\n"
    "mkdir -p \"$PREFIX/.mnt\"\n"
    "mount -t virtiofs config \"$PREFIX/.mnt\" -o ro >/dev/null 2>&1 || mount_9p || mount_disc ||\n"
    "    fail \"Couldn't mount the share 'config' by virtiofs or 9p, nor a disc with it.\"\n"
    "cp -R \"$PREFIX/.mnt/\"* \"$PREFIX\"\n"
    "umount \"$PREFIX/.mnt\"\n"
    "rmdir \"$PREFIX/.mnt\"\n"
    "chown -R root:root \"$PREFIX\"\n"
    "chmod 0500 \"$PREFIX/lxd-agent\"\n";

static const char agent_rules[] =
    "ACTION==\"add\", SYMLINK==\"virtio-ports/org.linuxcontainers.lxd\", TAG+=\"systemd\", "
    "ENV{SYSTEMD_WANTS}+=\"lxd-agent.service\"\n";

static const char install_script[] =
    "#!/bin/sh\n"
    "# Installs the agent's units; run it from within the mounted share, as root.\n"
    "set -e\n"
    "if [ ! -e systemd ] || [ ! -e lxd-agent ]; then\n"
    "    echo 'This script must be run from within the mounted share' >&2\n"
    "    exit 1\n"
    "fi\n"
    "if [ ! -e /lib/systemd/system ]; then\n"
    "    echo 'Without systemd: copy hawser-guest to /usr/local/sbin and start it at boot, as "
    "root' >&2\n"
    "    exit 1\n"
    "fi\n"
    "rm -f /lib/systemd/system/lxd-agent-9p.service "
    "/lib/systemd/system/lxd-agent-virtiofs.service\n"
    "rm -f /etc/systemd/system/multi-user.target.wants/lxd-agent-9p.service \\\n"
    "    /etc/systemd/system/multi-user.target.wants/lxd-agent-virtiofs.service\n"
    "cp udev/99-lxd-agent.rules /lib/udev/rules.d/\n"
    "cp systemd/lxd-agent.service /lib/systemd/system/\n"
    "cp systemd/lxd-agent-setup /lib/systemd/\n"
    "chmod 0755 /lib/systemd/lxd-agent-setup\n"
    "systemctl daemon-reload\n"
    "echo 'The agent is installed; it starts with the next boot.'\n"
    "echo 'To start it now, unmount this file system and run: systemctl start lxd-agent'\n";

const ConfigFile config_files[] = {
    {"install.sh", install_script},
    {"systemd/lxd-agent.service", agent_service},
    {"systemd/lxd-agent-setup", agent_setup},
    {"udev/99-lxd-agent.rules", agent_rules},
    {NULL, NULL},
};
