#!/usr/bin/env python3
"""trickle.py: datagrams between two addresses that are answered one by one, a hundred a second, until it is killed.

  trickle.py answer PORT
  trickle.py send FROM FROM-PORT TO PORT"""
import socket
import sys
import time

link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
if sys.argv[1] == "answer":
    link.bind(("0.0.0.0", int(sys.argv[2])))
    while True:
        data, peer = link.recvfrom(2048)
        link.sendto(data, peer)
link.bind((sys.argv[2], int(sys.argv[3])))
link.settimeout(0.2)
for number in range(1 << 30):
    try:
        link.sendto(b"%016d" % number, (sys.argv[4], int(sys.argv[5])))
        link.recv(2048)
    except OSError:
        pass  # lost, or forbidden just now
    time.sleep(0.01)
