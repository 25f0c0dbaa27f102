#!/usr/bin/env python3
"""metrics.py: the measuring half of bench/metrics: scrapes of two daemons in turns, and one daemon's memory.

Resident memory is looked at after 100 scrapes, when what is kept has been made, and again 1,000 later."""
import argparse
import concurrent.futures
import json
import os
import statistics
import sys
import time

import vs_lxd

KEPT_S = 8.2  # both daemons answer from what they have for 8 s


def populate(daemon, pool, image, bridge, many, running):
    """'many' stopped containers without a root file system to speak of, 'running' others that run."""
    vs_lxd.fill(daemon, many - running)

    def one(number):
        link = daemon.connect()
        daemon.ask("POST", "/1.0/instances", {
            "name": f"run{number}", "source": {"type": "image", "fingerprint": image}, "profiles": [],
            "devices": {"root": {"type": "disk", "path": "/", "pool": pool},
                        "eth0": {"type": "nic", "network": bridge, "name": "eth0"}}}, link=link)
        daemon.ask("PUT", f"/1.0/instances/run{number}/state", {"action": "start", "timeout": 60}, link=link)
        link.close()

    with concurrent.futures.ThreadPoolExecutor(2) as pool_of_threads:
        list(pool_of_threads.map(one, range(running)))


def scrape(daemon):
    """The answer's text."""
    link = daemon.connect()
    link.request("GET", "/1.0/metrics")
    text = link.getresponse().read().decode()
    link.close()
    return text


def main():
    parse = argparse.ArgumentParser()
    for name in ("lxd", "hawser", "image"):
        parse.add_argument("--" + name, required=True)
    parse.add_argument("--lxd-pid", type=int, required=True)
    parse.add_argument("--hawser-pid", type=int, required=True)
    parse.add_argument("--many", type=int, default=0)
    parse.add_argument("--running", type=int, default=0)
    parse.add_argument("--rounds", type=int, default=0)
    parse.add_argument("--quick", action="store_true")
    parse.add_argument("--json")
    args = parse.parse_args()
    many = args.many or (100 if args.quick else 1000)
    running = args.running or (10 if args.quick else 100)
    rounds = args.rounds or (3 if args.quick else 7)
    lxd = vs_lxd.Daemon("lxd", args.lxd, args.lxd_pid)
    hawser = vs_lxd.Daemon("hawser", args.hawser, args.hawser_pid)
    table = vs_lxd.Table()

    def tell(text):
        print(f"  {text}", file=sys.stderr, flush=True)

    for daemon, bridge, subnet in ((lxd, "bnlxd", "10.96.0.1/20"), (hawser, "bnhaw", "10.97.0.1/20")):
        image = vs_lxd.prepare(daemon, [("dir", "dir")], args.image, bridge, subnet)
        begun = time.monotonic()
        populate(daemon, "dir", image, bridge, many, running)
        tell(f"{daemon.name}: {many} containers, {running} running, after {time.monotonic() - begun:.0f} s")
        daemon.hang_up()

    times = {"lxd": [], "hawser": []}
    for number in range(rounds):
        time.sleep(KEPT_S)
        for daemon in (lxd, hawser) if number % 2 else (hawser, lxd):
            text = ""

            def once(which=daemon):
                nonlocal text
                text = scrape(which)
            times[daemon.name].append(vs_lxd.timed(once))
            found = text.count("\nlxd_procs_total{")
            if found != running:
                raise RuntimeError(f"{daemon.name}: {found} of {running} containers in the answer")
        tell(f"round {number + 1}: LXD {times['lxd'][-1]:.0f} ms, Hawser {times['hawser'][-1]:.0f} ms")
    table.add(f"scrape, {many} containers, {running} running", "ms", statistics.median(times["lxd"]),
              statistics.median(times["hawser"]), 1 / 5)

    for _ in range(100):
        scrape(hawser)
    before = hawser.resident_kib()
    begun = time.monotonic()
    for _ in range(1000):
        scrape(hawser)
    tell(f"1,000 scrapes in {time.monotonic() - begun:.1f} s")
    # Not LXD's row: the agent before and after; what may not grow is its own.
    table.add("resident memory before and after 1,000 scrapes", "KiB", before, hawser.resident_kib(), 1.01)
    print(f"{rounds} rounds; medians")
    table.show()
    if args.json:
        with open(args.json, "w", encoding="utf-8") as out:
            json.dump({"image": os.path.basename(args.image), "rounds": rounds, "rows": table.rows}, out, indent=2)
            out.write("\n")


if __name__ == "__main__":
    main()
