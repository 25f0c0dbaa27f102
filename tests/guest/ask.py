#!/usr/bin/env python3
"""ask.py SOCKET WORD ANSWER [SECONDS]: says WORD to a test guest (init.c) by its console, prints the line that has ANSWER."""
import socket
import sys

link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
link.settimeout(float(sys.argv[4]) if len(sys.argv) > 4 else 60)
try:
    link.connect(sys.argv[1])
    link.sendall(sys.argv[2].encode() + b"\n")
    for line in link.makefile("rb"):
        if sys.argv[3].encode() in line:
            print(line.decode(errors="replace").strip())
            sys.exit(0)
except OSError as why:
    print(why, file=sys.stderr)
sys.exit(1)
