#!/usr/bin/env python3
"""vs_lxd.py: the measuring half of vs-lxd: the same requests to two daemons in turns, medians and ratios.

Each round asks both daemons, in alternating order, so that whatever else the machine does meets both.
A step's time is from the request to the end of its operation, as a client sees it."""
import argparse
import concurrent.futures
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import time


class Daemon:
    """One daemon behind its unix socket; keeps one connection."""

    def __init__(self, name, path, pid):
        self.name, self.path, self.pid, self.link = name, path, pid, None

    def connect(self):
        link = http.client.HTTPConnection("lxd", timeout=300)
        link.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        link.sock.connect(self.path)
        return link

    def ask(self, method, path, body=None, link=None, headers=None):
        """The reply's metadata; waits for the operation when there is one."""
        link = link or self.link
        if link is None or link.sock is None:
            link = self.link = self.connect()
        data = body if isinstance(body, bytes) else json.dumps(body) if body is not None else None
        link.request(method, path, data, headers or {"Content-Type": "application/json"})
        reply = link.getresponse()
        text = reply.read()
        if reply.will_close:
            link.close()
        answer = json.loads(text)
        if answer["type"] == "error":
            raise RuntimeError(f"{self.name}: {method} {path}: {answer['error']}")
        if answer["type"] == "async":
            done = self.ask("GET", answer["operation"] + "/wait", link=link)
            if done["status_code"] != 200:
                raise RuntimeError(f"{self.name}: {method} {path}: {done['err']}")
            return done
        return answer["metadata"]

    def hang_up(self):
        if self.link is not None:
            self.link.close()
            self.link = None

    def resident_kib(self):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as status:
            for line in status:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1])
        return 0


def timed(call, *args):
    start = time.monotonic()
    call(*args)
    return (time.monotonic() - start) * 1000


def prepare(daemon, pools, image, bridge, subnet):
    for name, driver in pools:
        config = {"size": "8GiB"} if driver == "btrfs" else {}
        daemon.ask("POST", "/1.0/storage-pools",
                   {"name": name, "driver": driver, "config": config})
    daemon.ask("POST", "/1.0/networks", {"name": bridge, "type": "bridge", "config": {
        "ipv4.address": subnet, "ipv4.nat": "false", "ipv6.address": "none"}})
    with open(image, "rb") as data:
        done = daemon.ask("POST", "/1.0/images", data.read(),
                          headers={"Content-Type": "application/octet-stream"})
    return done["metadata"]["fingerprint"]


def cycle(daemon, name, pool, image, bridge):
    """One container's life; {step: ms}."""
    url = f"/1.0/instances/{name}"

    def create():
        daemon.ask("POST", "/1.0/instances", {
            "name": name, "source": {"type": "image", "fingerprint": image}, "profiles": [],
            "devices": {"root": {"type": "disk", "path": "/", "pool": pool},
                        "eth0": {"type": "nic", "network": bridge, "name": "eth0"}}})

    def state(action):
        daemon.ask("PUT", url + "/state", {"action": action, "force": True, "timeout": 30})

    def launch():
        create()
        state("start")

    return {"launch": timed(launch), "stop --force": timed(state, "stop"),
            "start": timed(state, "start"), "stop again": timed(state, "stop"),
            "delete": timed(daemon.ask, "DELETE", url)}


def lives(first, second, pool_of, images, bridges, rounds, tell):
    """Interleaved cycles on both; [{step: [ms…]}, …] in the order of the arguments."""
    times = [{}, {}]
    for number in range(rounds + 1):
        order = [(0, first), (1, second)]
        if number % 2:
            order.reverse()
        for which, daemon in order:
            steps = cycle(daemon, f"b{number}", pool_of[which], images[which], bridges[which])
            if number == 0:
                continue  # the first one unpacks the image into the pool
            for step, ms in steps.items():
                times[which].setdefault("stop --force" if step == "stop again" else step, []).append(ms)
        tell(f"round {number}")
    return times


def fill(daemon, count):
    """'count' stopped containers without a root file system of their own to speak of."""
    def one(number):
        link = daemon.connect()
        daemon.ask("POST", "/1.0/instances", {
            "name": f"many{number}", "source": {"type": "none"}, "profiles": [],
            "config": {"user.number": str(number)},
            "devices": {"root": {"type": "disk", "path": "/", "pool": "dir"}}}, link=link)
        link.close()

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(count)))


def gets(ask, paths, url, rounds, how="kept"):
    """The median milliseconds of a GET from each of the sockets, asked in turns by http_ask."""
    done = subprocess.run([ask, how, str(rounds), url] + paths, check=True, capture_output=True, text=True)
    return [statistics.median(map(float, line.split())) / 1000 for line in done.stdout.splitlines()]


def root_rows(table, daemons, ask, floor, tell):
    """GET /1.0, over one connection and over a new one each; and what a server that does nothing takes."""
    paths = [daemon.path for daemon in daemons]
    with subprocess.Popen([floor, "floor.socket", "6000"]) as child:
        while not os.path.exists("floor.socket"):
            time.sleep(0.01)
        for how in ("kept", "new"):
            times = gets(ask, paths + ["floor.socket"], "/1.0", 500, how)
            table.add(f"GET /1.0, {how} connection", "ms", times[0], times[1], 1 / 5)
            tell(f"GET /1.0, {how} connection: a server that does nothing takes {times[2]:.3f} ms, "
                 f"{times[2] / times[0]:.2f} of LXD's time")
        child.kill()


class Table:
    def __init__(self):
        self.rows = []

    def add(self, what, unit, lxd, hawser, target):
        self.rows.append({"what": what, "unit": unit, "lxd": lxd, "hawser": hawser,
                          "ratio": hawser / lxd if lxd else 0, "target": target})

    def show(self):
        print(f"{'':44} {'LXD':>10} {'Hawser':>10} {'':4} {'ratio':>7} {'target':>7}")
        for row in self.rows:
            met = "met" if row["ratio"] <= row["target"] else "MISSED"
            print(f"{row['what']:44} {row['lxd']:10.2f} {row['hawser']:10.2f} {row['unit']:4} "
                  f"{row['ratio']:7.3f} {row['target']:7.3f} {met}")


def main():
    parse = argparse.ArgumentParser()
    for name in ("lxd", "hawser", "image", "ask", "floor"):
        parse.add_argument("--" + name, required=True)
    parse.add_argument("--image-name", default="")
    parse.add_argument("--lxd-pid", type=int, required=True)
    parse.add_argument("--hawser-pid", type=int, required=True)
    parse.add_argument("--rounds", type=int, default=0)
    parse.add_argument("--quick", action="store_true")
    parse.add_argument("--json")
    args = parse.parse_args()
    rounds = args.rounds or (5 if args.quick else 11)
    many = 200 if args.quick else 1000
    lxd = Daemon("lxd", args.lxd, args.lxd_pid)
    hawser = Daemon("hawser", args.hawser, args.hawser_pid)
    both = (lxd, hawser)
    table = Table()

    def tell(text):
        print(f"  {text}", file=sys.stderr, flush=True)

    time.sleep(2)
    for daemon in both:
        daemon.ask("GET", "/1.0")
    time.sleep(2)
    idle = [daemon.resident_kib() / 1024 for daemon in both]

    tell("pools, networks, image")
    images = [prepare(lxd, [("dir", "dir"), ("btrfs", "btrfs")], args.image, "bnlxd", "10.95.1.1/24"),
              prepare(hawser, [("dir", "dir"), ("btrfs", "btrfs"), ("overlay", "overlay")], args.image,
                      "bnhaw", "10.95.2.1/24")]
    for ours, theirs, target in (("dir", "dir", 1 / 3), ("btrfs", "btrfs", 1 / 4),
                                 ("overlay", "btrfs", 1 / 4)):
        tell(f"{ours} against {theirs}")
        times = lives(lxd, hawser, (theirs, ours), images, ("bnlxd", "bnhaw"), rounds, tell)
        for step in ("launch", "start", "stop --force", "delete"):
            table.add(f"{step}, {ours} (LXD: {theirs})", "ms", statistics.median(times[0][step]),
                      statistics.median(times[1][step]), target)

    tell(f"{many} stopped containers")
    for daemon in both:
        started = time.monotonic()
        fill(daemon, many)
        tell(f"{daemon.name}: {time.monotonic() - started:.1f} s")
        daemon.hang_up()
    times = gets(args.ask, [lxd.path, hawser.path], "/1.0/instances?recursion=1", 20)
    table.add(f"GET /1.0/instances?recursion=1, {many} containers", "ms", times[0], times[1], 1 / 5)
    root_rows(table, both, args.ask, args.floor, tell)
    table.add("resident memory, idle", "MiB", idle[0], idle[1], 1 / 4)
    table.add(f"resident memory, {many} containers", "MiB",
              *(daemon.resident_kib() / 1024 for daemon in both), 1 / 4)

    print(f"image: {args.image_name}, {os.path.getsize(args.image) / 1048576:.0f} MiB compressed; "
          f"{rounds} rounds; medians")
    table.show()
    if args.json:
        with open(args.json, "w", encoding="utf-8") as out:
            json.dump({"image": args.image_name, "rounds": rounds, "rows": table.rows}, out, indent=2)
            out.write("\n")


if __name__ == "__main__":
    main()
