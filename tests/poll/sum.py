#!/usr/bin/env python3
"""Bytes over TCP, counted by who receives them: sum.py receive PORT | send HOST PORT MEGABYTES."""
import socket
import sys
import time

BLOCK = 65536


def receive(port):
    with socket.create_server(("", port)) as server:
        link, _ = server.accept()
        total = 0
        while data := link.recv(BLOCK):
            total += len(data)
        link.send(str(total).encode())


def connect(host, port):
    for _ in range(100):
        try:
            link = socket.create_connection((host, port), 5)
            link.settimeout(40)
            return link
        except ConnectionRefusedError:
            time.sleep(0.1)
    raise SystemExit(f"nobody listens at {host}:{port}")


def send(host, port, megabytes):
    link = connect(host, port)
    blocks = megabytes * 2**20 // BLOCK
    for _ in range(blocks):
        link.sendall(b"x" * BLOCK)
        time.sleep(0.02)
    link.shutdown(socket.SHUT_WR)
    return link.recv(100) == str(blocks * BLOCK).encode()


if sys.argv[1] == "receive":
    receive(int(sys.argv[2]))
else:
    sys.exit(not send(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
