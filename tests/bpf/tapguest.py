#!/usr/bin/env python3
"""tapguest.py TAP MAC ADDRESS: plays a virtual machine behind an existing tap device: answers each UDP datagram to
ADDRESS with its own bytes (as long as its checksum is right), until it is killed. Prints 'ready'."""
import fcntl
import os
import socket
import struct
import sys

IFF_TAP, IFF_NO_PI, TUNSETIFF = 2, 0x1000, 0x400454CA


def total(data):
    data += b"\0" * (len(data) % 2)
    value = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while value >> 16:
        value = (value & 0xFFFF) + (value >> 16)
    return value


name, mac, address = sys.argv[1], bytes.fromhex(sys.argv[2].replace(":", "")), socket.inet_aton(sys.argv[3])
tap = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TAP | IFF_NO_PI))
print("ready", flush=True)
while True:
    data = os.read(tap, 65536)
    if data[:6] != mac or data[12:15] != b"\x08\x00\x45" or data[23] != 17 or data[30:34] != address:
        continue
    udp = data[34 : 14 + struct.unpack("!H", data[16:18])[0]]
    pseudo = data[26:34] + struct.pack("!HH", 17, len(udp))
    if total(data[14:34]) != 0xFFFF or total(pseudo + udp) != 0xFFFF:
        print("bad checksum", flush=True)
        continue
    # Ends and ports change places, which no sum minds; a fresh TTL.
    ip = data[14:22] + b"\x40\x11\0\0" + data[30:34] + data[26:30]
    ip = ip[:10] + struct.pack("!H", ~total(ip) & 0xFFFF) + ip[12:]
    os.write(tap, data[6:12] + mac + data[12:14] + ip + udp[2:4] + udp[:2] + udp[4:])
