#!/usr/bin/env python3
"""rounds.py PAGES-BINARY GUEST-IMAGES ROUNDS [running]: a guest whose disk reads land in its memory by DMA (cache=none,
aio=native) is moved after so many tracking rounds; says "bad=N reads=N rounds=N". With "running" the pages are armed
without stopping the guest: the proof that this test can see a lost page."""
import os
import shutil
import sys
import tempfile
import time

from rig import Vm, move_by_pages

DISK_BYTES = 8192 * 4096


def main():
    pages, image, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
    work = tempfile.mkdtemp(prefix="hawser-rounds-", dir=image)  # a file system that knows direct I/O
    vms = []
    try:
        disk = f"{work}/disk"
        with open(disk, "wb") as file:
            file.truncate(DISK_BYTES)
        for name in ("source", "target"):
            vms.append(Vm(work, name, image, 256, True, (16, 16, 5), name == "target", disk, "guest.direct=96"))
        source, target = vms
        source.expect("ready")
        time.sleep(0.5)
        _, _, done = move_by_pages(pages, work, source, target, False, rounds, "running" not in sys.argv)
        checked = target.say("check", "checked")
        print(f"bad={checked['bad']} reads={checked['reads']} rounds={done}")
    finally:
        for vm in vms:
            vm.end()
        shutil.rmtree(work)


main()
