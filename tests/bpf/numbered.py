#!/usr/bin/env python3
"""numbered.py send ADDRESS PORT SECONDS | receive PORT: datagrams with numbers, an answer to every hundredth
(so that both directions are in use), and how many were lost, came twice or late."""
import socket
import struct
import sys
import time


def send(address, port, seconds):
    link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    link.connect((address, port))
    link.setblocking(False)
    number, until, began = 0, time.monotonic() + seconds, time.monotonic()
    while time.monotonic() < until:
        # One by one while the flow is learned, then in bursts of twenty: no queue on the way overflows.
        if number < 100:
            time.sleep(0.005)
            began = time.monotonic() - number / 10000
        for _ in range(1 if number < 100 else 20):
            link.send(struct.pack("!Q", number) + b"x" * 56)
            number += 1
        try:
            while True:
                link.recv(64)
        except (BlockingIOError, ConnectionRefusedError):
            pass
        wait = began + number / 10000 - time.monotonic()
        if wait > 0:
            time.sleep(wait)
    for _ in range(5):
        time.sleep(0.1)
        try:
            link.send(struct.pack("!Q", (1 << 63) | number))
        except ConnectionRefusedError:  # it has heard
            return


def receive(port):
    link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    link.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
    link.bind(("", port))
    seen, highest, twice, late = set(), -1, 0, 0
    while True:
        data, peer = link.recvfrom(64)
        number = struct.unpack("!Q", data[:8])[0]
        if number >> 63:
            total = number & ~(1 << 63)
            print(f"sent {total} lost {total - len(seen)} twice {twice} late {late}")
            return
        if number in seen:
            twice += 1
        elif number < highest:
            late += 1
        seen.add(number)
        highest = max(highest, number)
        if number % 100 == 0:
            link.sendto(b"yes", peer)


if sys.argv[1] == "send":
    send(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
else:
    receive(int(sys.argv[2]))
