#!/usr/bin/env python3
"""numbered.py send ADDRESS PORT SECONDS [WINDOW PATIENCE] | receive PORT: datagrams with numbers, an answer to every hundredth
(so that both directions are in use), and how many were lost, came twice or late.

No more than WINDOW are under way, as far as the answers tell: a sender or a receiver that has to wait for its
processor overflows no queue. An answer that is lost holds the sender up for PATIENCE seconds."""
import socket
import struct
import sys
import time

WINDOW, PATIENCE = 300, 0.2


def send(address, port, seconds, window=WINDOW, patience=PATIENCE):
    link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    link.connect((address, port))
    link.setblocking(False)
    number, answered, until = 0, 0, time.monotonic() + seconds
    while time.monotonic() < until:
        # One by one while the flow is learned, then in bursts of twenty.
        single = number < 100
        for _ in range(1 if single else 20):
            link.send(struct.pack("!Q", number) + b"x" * 56)
            number += 1
        time.sleep(0.005 if single else 0.002)
        waits_until = time.monotonic() + patience
        while True:
            try:
                answered = max(answered, struct.unpack("!Q", link.recv(64))[0])
            except ConnectionRefusedError:
                pass
            except BlockingIOError:
                if number - answered <= window:
                    break
                if time.monotonic() > waits_until:
                    answered = number
                    break
                time.sleep(0.001)
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
            link.sendto(data[:8], peer)


if sys.argv[1] == "send":
    limits = [int(sys.argv[5]), float(sys.argv[6])] if len(sys.argv) > 5 else []
    send(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), *limits)
else:
    receive(int(sys.argv[2]))
