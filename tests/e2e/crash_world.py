#!/usr/bin/env python3
"""crash_world.py STATE-DIRECTORY POOL…: do the agent's rows and the host agree? Prints what does not, a line each.

For crash_walk.sh, which asks some thousand times: one process, a few requests. Rows are read by the REST API; volumes,
links, mounts, interfaces, processes and nft tables from where they are."""
import glob
import http.client
import json
import os
import re
import socket
import subprocess
import sys


class Agent(http.client.HTTPConnection):
    """The agent's unix socket, one connection for all requests."""

    def __init__(self, state):
        super().__init__("lxd", timeout=60)
        self.path = os.path.join(state, "unix.socket")

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)

    def get(self, path):
        self.request("GET", path)
        reply = self.getresponse()
        body = reply.read()
        if reply.status != 200:
            sys.exit(f"GET {path}: {reply.status} {body.decode(errors='replace')}")
        return json.loads(body)["metadata"]


def names(*parts):
    try:
        return os.listdir(os.path.join(*parts))
    except FileNotFoundError:
        return []


def below(directory, pattern):
    """What matches PATTERN in DIRECTORY, as names relative to it."""
    return [os.path.relpath(path, directory) for path in glob.glob(os.path.join(directory, pattern))]


def command_lines():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                yield file.read().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            pass


def idle_mounts(state, running):
    """Mounts of containers and snapshots that do not run."""
    wanted = re.compile(r"/containers(-snapshots)?/")
    busy = re.compile(r"/containers/(default_)?(" + "|".join(map(re.escape, running)) + r")(/|$)") if running else None
    with open("/proc/self/mountinfo") as file:
        places = [line.split()[4] for line in file]
    return [place for place in places
            if place.startswith(state + "/") and wanted.search(place) and not (busy and busy.search(place))]


def main():
    state, pools = sys.argv[1], sys.argv[2:]
    agent = Agent(state)
    instances = agent.get("/1.0/instances?recursion=2")
    pool_rows = agent.get("/1.0/storage-pools?recursion=1")
    networks = [row["name"] for row in agent.get("/1.0/networks?recursion=1") if row["managed"]]
    images = [url.rsplit("/", 1)[1] for url in agent.get("/1.0/images")]
    volumes = [row for pool in pools for row in agent.get(f"/1.0/storage-pools/{pool}/volumes?recursion=1")
               if "/" not in row["name"]]
    containers = [row["name"] for row in instances if row["type"] == "container"]
    machines = [row["name"] for row in instances if row["type"] == "virtual-machine"]
    running = [row["name"] for row in instances if row["status"] == "Running"]
    snapshots = [row["name"] + "/" + each["name"].rsplit("/", 1)[-1]
                 for row in instances for each in row["snapshots"] or []]
    lines = list(command_lines())
    links = os.listdir("/sys/class/net")
    bridges = [link for link in links if link.startswith("walkbr")]
    rules = subprocess.run(["nft", "list", "ruleset"], stdout=subprocess.PIPE, text=True, check=True).stdout
    places = [os.path.join(state, "storage-pools", pool) for pool in pools]
    wrong = 0

    def agree(what, left, right):
        nonlocal wrong
        if sorted(left) != sorted(right):
            wrong = 1
            print(f"{what}: {sorted(left)} against {sorted(right)}")

    def volume_rows(kind):
        return [row["name"] for row in volumes if row["type"] == kind]

    def everywhere(*parts):
        return [name for place in places for name in names(place, *parts)]

    agree("instances and their links", containers,
          [name for name in names(state, "containers") if not name.startswith("lxc-monitord")])
    agree("instances and their volumes", containers, everywhere("containers"))
    agree("instances and volume rows", containers, volume_rows("container"))
    agree("virtual machines and their links", machines, names(state, "virtual-machines"))
    agree("virtual machines and their disks", machines,
          [os.path.dirname(path) for place in places for path in below(f"{place}/virtual-machines", "*/root.img")])
    agree("virtual machines and volume rows", machines, volume_rows("virtual-machine"))
    agree("snapshots and their volumes", snapshots,
          [path for place in places for kind in ("containers", "virtual-machines")
           for path in below(f"{place}/{kind}-snapshots", "*/*")])
    agree("custom volumes", ["default_" + name for name in volume_rows("custom")], everywhere("custom"))
    agree("pools and their directories", [row["name"] for row in pool_rows], names(state, "storage-pools"))
    agree("pools and their loop files", [row["name"] + ".img" for row in pool_rows if row["driver"] == "btrfs"],
          names(state, "disks"))
    agree("images and their files", images, [name for name in names(state, "images") if not name.endswith(".rootfs")])
    agree("veths of running containers", ["veth"] * len(running),
          ["veth" for link in links if link.startswith("veth")])
    agree("mounts of instances that do not run", [], idle_mounts(state, running))
    agree("monitors of running containers", ["monitor"] * len(running),
          ["monitor" for line in lines if line.startswith("[lxc monitor]")])
    agree("networks and interfaces", networks, bridges)
    agree("networks and dnsmasq", ["dnsmasq"] * len(networks),
          ["dnsmasq" for line in lines if os.path.basename(line.split(" ")[0]) == "dnsmasq"])
    agree("networks in nft", [], set(re.findall(r"walkbr[0-9]", rules)) - set(bridges))
    return wrong


sys.exit(main())
