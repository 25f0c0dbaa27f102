#!/usr/bin/env python3
"""migrate.py: the measuring half of bench/migrate: one guest, moved by several ways in turns.

total   from the order to move to the guest running at the target
pause   from the guest's stop at the source to its start at the target, by QEMU's own events
gap     the longest silence that the guest itself noticed across the move
CPU     of both sides, all threads but the guest's own vCPUs
shared  for QEMU's migration a file in /dev/shm; for ours one in a tmpfs as the agent makes it
memory  what the guest occupies at the target afterwards
p99     of the pause: the slowest run, where there are fewer than 100; of 20 runs of the guest that writes 50 MB/s
dead    guests that did not answer any more, as QEMU's migration loses pages of guests that write, under TCG. Such a
        move has failed, and what it took is not counted; where all have, the figures beside are theirs

Memory that a machine has to ask its host for, page by page, costs more than all that is measured here: a virtual
machine that gives free memory back (virtio-balloon's free page reporting) does so anew in each run."""
import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "guest"))
from rig import Vm, move_by_pages, move_by_qemu  # noqa: E402

GUESTS = {"idle": (100, 0, 0), "random": (1700, 0, 0), "busy50": (700, 256, 50), "busy200": (700, 256, 200)}
PAUSES = ("busy50", "pages", 20)  # so many runs for its p99; the other figures are of the rounds alone
# name: (memory is a shared file, by hawser-pages, sealed, capabilities)
WAYS = {
    "pages": (True, True, False, []),
    "pages sealed": (True, True, True, []),
    "qemu precopy, shared": (True, False, False, []),
    "qemu multifd, shared": (True, False, False, ["multifd"]),
    "qemu precopy, anonymous": (False, False, False, []),
    "qemu multifd, anonymous": (False, False, False, ["multifd"]),
    "qemu zero-copy, anonymous": (False, False, False, ["multifd", "zero-copy-send"]),
}


def run(options, way, kind, mebibytes):
    shared, by_pages, sealed, names = WAYS[way]
    guest = GUESTS[kind] if not options.quick else tuple(min(value, 200) for value in GUESTS[kind])
    work = tempfile.mkdtemp(prefix="hawser-bench-")
    vms = []
    try:
        for name, incoming in (("source", False), ("target", True)):
            vms.append(Vm(work, name, options.image, mebibytes, shared, guest, incoming, ours=by_pages))
        source, target = vms
        source.expect("ready")
        time.sleep(1)
        source.say("gap", "gap")
        before = source.cpu() + target.cpu()
        source.qmp.forget()
        if by_pages:
            began, cpu, rounds = move_by_pages(options.pages, work, source, target, sealed)
        else:
            began, cpu, rounds = move_by_qemu(work, source, target, names, 30 if options.quick else 90)
        resumed = target.qmp.wait("RESUME")
        stopped = source.qmp.wait("STOP")
        cpu += source.cpu() + target.cpu() - before
        occupied = target.occupied()
        try:
            gap = int(target.say("gap", "gap")["us"])
            bad, lost = int(target.say("check", "checked")["bad"]), 0
        except (OSError, RuntimeError):  # QEMU's own migration breaks busy guests under TCG
            gap, bad, lost = 0, 0, 1
        return {"total_s": resumed - began, "pause_ms": (resumed - stopped) * 1e3, "gap_ms": gap / 1e3, "cpu_s": cpu,
                "target_mib": occupied / 2**20, "rounds": rounds, "bad_pages": bad,
                "lost": lost}
    finally:
        for vm in vms:
            vm.end()
        shutil.rmtree(work)


def measure(options, kind, ways, rounds, mebibytes):
    """{way: [run…]}, in turns, and what only the p99 is of."""
    runs, pauses = {way: [] for way in ways}, []

    def one(way, into):
        try:
            into.append(run(options, way, kind, mebibytes))
        except (OSError, RuntimeError) as why:
            print(f"{kind}, {way}: {why}", file=sys.stderr)
    for turn in range(rounds):
        for way in ways[turn % len(ways):] + ways[:turn % len(ways)]:
            one(way, runs[way])
    while not options.quick and kind == PAUSES[0] and PAUSES[1] in ways and rounds + len(pauses) < PAUSES[2]:
        before = len(pauses)
        one(PAUSES[1], pauses)
        if len(pauses) == before:
            break
    return runs, pauses


def slowest(samples, share):
    """The value that 'share' of the runs do not exceed."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def ratios(results):
    """Ours by QEMU's best, or by what is named, guest by guest: (guest, what, ratio, the most it is to be)."""
    found = {(r["guest"], r["way"]): r for r in results}

    def of(guest, figure, theirs, most, name):
        mine = found.get((guest, "pages"))
        others = [found[guest, way] for way in theirs if (guest, way) in found]
        alive = [other[figure] for other in others if other["lost"] < len(other["runs"])]
        best = min(alive or [other[figure] for other in others], default=0)
        if mine and best > 0:
            yield guest, name + ("" if alive else " (its guests died)"), mine[figure] / best, most
    qemu = [way for way, kind in WAYS.items() if not kind[1]]
    shared = [way for way in qemu if WAYS[way][0]]
    private = [way for way in qemu if not WAYS[way][0]]
    yield from of("idle", "total_s", shared, 1 / 12, "total, by QEMU's best on shared memory")
    yield from of("idle", "total_s", private, 1, "total, by QEMU's best on anonymous memory")
    yield from of("random", "cpu_s", qemu, 0.75, "CPU, by QEMU's best")
    yield from of("random", "total_s", qemu, 0.75, "total, by QEMU's best")
    for guest in ("busy50", "busy200"):
        yield from of(guest, "pause_ms", qemu, 1 / 4, "pause, by QEMU's best")
        yield from of(guest, "total_s", qemu, 1 / 2, "total, by QEMU's best")
        yield from of(guest, "cpu_s", qemu, 1 / 2, "CPU, by QEMU's best")
    if ("random", "pages sealed") in found and ("random", "pages") in found:
        yield ("random", "CPU, sealed by plain",
               found["random", "pages sealed"]["cpu_s"] / found["random", "pages"]["cpu_s"], 2)
    if ("busy50", "pages") in found:
        yield "busy50", "p99 of the pause, ms", found["busy50", "pages"]["pause_p99_ms"], 50


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pages", required=True)
    parser.add_argument("--image", required=True)
    parser.add_argument("--quick", action="store_true", help="a guest of 512 MiB, one round, some minutes in all")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--guest", action="append", choices=GUESTS)
    parser.add_argument("--way", action="append", choices=WAYS)
    parser.add_argument("--json")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # takes its guests along
    rounds = options.rounds or (1 if options.quick else 5)
    mebibytes = 512 if options.quick else 2048
    ways, results = options.way or list(WAYS), []
    for kind in options.guest or list(GUESTS):
        runs, pauses = measure(options, kind, ways, rounds, mebibytes)
        print(f"\n{kind}: {mebibytes} MiB, {rounds} rounds, medians; {platform.release()}, {os.cpu_count()} CPUs, TCG")
        print(f"{'':28}{'total s':>9}{'pause ms':>10}{'gap ms':>9}{'CPU s':>8}{'target MiB':>12}{'rounds':>8}"
              f"{'bad pages':>11}{'dead':>6}{'p99 ms':>9}")
        for way, samples in runs.items():
            if not samples:
                print(f"{way:28}  failed")
                continue
            whole = [s for s in samples if not s["lost"]] or samples
            middle = {key: statistics.median(s[key] for s in whole) for key in samples[0]}
            for key in ("bad_pages", "lost"):
                middle[key] = sum(s[key] for s in samples)
            more = pauses if way == PAUSES[1] else []
            middle["pause_p99_ms"] = slowest([s["pause_ms"] for s in samples + more], 0.99)
            for key in ("bad_pages", "lost"):
                middle[key] += sum(s[key] for s in more)
            results.append({"guest": kind, "way": way, "runs": samples, **middle})
            print(f"{way:28}{middle['total_s']:9.2f}{middle['pause_ms']:10.1f}{middle['gap_ms']:9.1f}"
                  f"{middle['cpu_s']:8.2f}{middle['target_mib']:12.0f}{middle['rounds']:8.0f}{middle['bad_pages']:11d}"
                  f"{middle['lost']:6d}{middle['pause_p99_ms']:9.1f}",
                  flush=True)
    bars = [dict(zip(("guest", "name", "value", "most"), each)) for each in ratios(results)]
    if bars:
        print("\nagainst what it is to reach:")
    for bar in bars:
        print(f"{bar['guest']:10}{bar['name']:44}{bar['value']:8.3f}  at most {bar['most']:.3f}"
              f"{'' if bar['value'] <= bar['most'] else '  NOT REACHED'}")
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"ways": results, "bars": bars}, file, indent=1)
    return 1 if any(r["bad_pages"] or r["lost"] for r in results if r["way"].startswith("pages")) else 0


sys.exit(main())
