#!/usr/bin/env python3
"""farpackets.py echo PORT            answers UDP datagrams, on IPv4 and IPv6
farpackets.py ask ADDRESS PORT COUNT  sends datagrams from port 4000 to such a one, and counts the answers
farpackets.py set DEVICE SMAC DMAC    sends one frame of each kind, always the same bytes, as the instance would
farpackets.py record DEVICE FILE      the Geneve packets that leave by it, until SIGTERM
farpackets.py show FILE               of a capture: what each of those frames became, one line of hex a kind
farpackets.py check FILE              whether all checksums in a capture of Geneve are right, how many had one outside
farpackets.py forge DEVICE VNI PORTS  sends what looks like an answer of that flow, wrapped otherwise; 4 times"""
import select
import signal
import socket
import struct
import sys
import time


def mac(text):
    return bytes(int(x, 16) for x in text.split(":"))


def total(data):
    if len(data) % 2:
        data += b"\0"
    s = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while s >> 16:
        s = (s & 0xFFFF) + (s >> 16)
    return s


def ip4(src, dst, proto, body, ident=77, ttl=64):
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(body), ident, 0x4000, ttl, proto, 0,
                       socket.inet_aton(src), socket.inet_aton(dst))
    return head[:10] + struct.pack("!H", 0xFFFF ^ total(head)) + head[12:] + body


def ip6(src, dst, proto, body):
    return struct.pack("!IHBB16s16s", 0x60012345, len(body), proto, 64, socket.inet_pton(socket.AF_INET6, src),
                       socket.inet_pton(socket.AF_INET6, dst)) + body


def pseudo(family, src, dst, proto, size):
    return socket.inet_pton(family, src) + socket.inet_pton(family, dst) + struct.pack("!II", size, proto)


def summed(body, at, extra):
    check = 0xFFFF ^ total(extra + body)
    return body[:at] + struct.pack("!H", check or 0xFFFF) + body[at + 2:]


def mark(name):
    return b"<" + name.encode() + b">"


def kinds():
    """Frames' IP packets, from 10.1.0.2 (fd01::2) to 10.2.0.2 (fd02::2)."""
    four, six = (socket.AF_INET, "10.1.0.2", "10.2.0.2"), (socket.AF_INET6, "fd01::2", "fd02::2")
    for name, size in (("one", 1), ("even", 64), ("odd", 333), ("large", 1200)):
        fill = bytes(i * 7 & 0xFF for i in range(size))
        data = mark("udp4-" + name) + fill
        udp = struct.pack("!HHHH", 4000, 7000, 8 + len(data), 0) + data
        yield "udp4-" + name, b"\x08\x00", ip4(*four[1:], 17, summed(udp, 6, pseudo(*four, 17, len(udp))))
        data = mark("udp6-" + name) + fill
        udp = struct.pack("!HHHH", 4000, 7000, 8 + len(data), 0) + data
        yield "udp6-" + name, b"\x86\xdd", ip6(*six[1:], 17, summed(udp, 6, pseudo(*six, 17, len(udp))))
        data = mark("icmp4-" + name) + fill
        echo = struct.pack("!BBHHH", 8, 0, 0, 555, size) + data
        yield "icmp4-" + name, b"\x08\x00", ip4(*four[1:], 1, summed(echo, 2, b""))
        data = mark("icmp6-" + name) + fill
        echo = struct.pack("!BBHHH", 128, 0, 0, 555, size) + data
        yield "icmp6-" + name, b"\x86\xdd", ip6(*six[1:], 58, summed(echo, 2, pseudo(*six, 58, len(echo))))


def send_set(device, smac, dmac):
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    link.bind((device, 0))
    for _, kind, packet in kinds():
        link.send(mac(dmac) + mac(smac) + kind + packet)
        time.sleep(0.01)


def record(device, path):
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 26)
    link.bind((device, 3))
    link.settimeout(0.1)
    ending, quiet = [], 0
    signal.signal(signal.SIGTERM, lambda *_: ending.append(1))
    frames = []
    print("ready", flush=True)
    while True:
        try:
            data, where = link.recvfrom(70000)
            if where[2] == socket.PACKET_OUTGOING and is_geneve(data):
                frames.append(data)
                quiet = 0
        except socket.timeout:  # the switch may be slow
            quiet += 1
            if ending and quiet > 10:
                break
    with open(path, "w") as file:
        file.writelines(data.hex() + "\n" for data in frames)


def capture(path):
    with open(path) as file:
        for line in file:
            yield bytes.fromhex(line)


def is_geneve(frame):
    return len(frame) > 72 and frame[12:14] == b"\x08\x00" and frame[23] == 17 and frame[36:38] == struct.pack("!H", 6081)


def show(path):
    for name, _, packet in kinds():  # errors that quote one are longer
        found = [f for f in capture(path) if is_geneve(f) and mark(name) in f and len(f) == 72 + len(packet)]
        print(name, found[-1].hex() if found else "-")


def inner_right(packet):
    if packet[0] >> 4 == 4:
        size, proto, family, l4 = struct.unpack_from("!H", packet, 2)[0], packet[9], socket.AF_INET, packet[20:]
        if total(packet[:20]) != 0xFFFF or size != len(packet):
            return False
        extra = packet[12:20] + struct.pack("!HH", proto, len(l4))
    else:
        proto, l4 = packet[6], packet[40:]
        extra = packet[8:40] + struct.pack("!II", len(l4), proto)
    return total((b"" if proto == 1 else extra) + l4) == 0xFFFF


def check(path):
    seen = wrong = outside = 0
    for frame in capture(path):
        if not is_geneve(frame) or frame[70:72] not in (b"\x08\x00", b"\x86\xdd"):
            continue
        seen += 1
        udp = frame[34:]
        right = total(frame[14:34]) == 0xFFFF and struct.unpack_from("!H", udp, 4)[0] == len(udp)
        right = right and struct.unpack_from("!H", frame, 16)[0] == len(frame) - 14
        if udp[6:8] != b"\0\0":
            outside += 1
            right = right and total(frame[26:34] + struct.pack("!HH", 17, len(udp)) + udp) == 0xFFFF
        if not (right and inner_right(frame[72:])):
            wrong += 1
            if wrong < 4:
                print(frame.hex(), file=sys.stderr)
    print("seen %d wrong %d outside %d" % (seen, wrong, outside))
    return seen == 0 or wrong > 0


def forge(device, vni, ports):
    data = b"forged"
    udp = struct.pack("!HHHH", 7000, 4000, 8 + len(data), 0) + data
    udp = summed(udp, 6, pseudo(socket.AF_INET, "10.2.0.2", "10.1.0.2", 17, len(udp)))
    inner = mac("02:00:00:00:00:0a") + mac("02:00:00:00:00:fe") + b"\x08\x00" + ip4("10.2.0.2", "10.1.0.2", 17, udp, ttl=63)
    geneve = struct.pack("!BBHI", 2, 0x40, 0x6558, vni << 8) + struct.pack("!HBBI", 0x0102, 0x80, 1, ports)
    outer = struct.pack("!HHHH", 5555, 6081, 8 + len(geneve) + len(inner), 0) + geneve + inner
    frame = mac("02:00:00:00:00:f1") + mac("02:00:00:00:00:f2") + b"\x08\x00" + ip4("192.0.2.2", "192.0.2.1", 17, outer)
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    link.bind((device, 0))
    for _ in range(4):
        link.send(frame)
        time.sleep(0.3)


def echo(port):
    links = []
    for family in (socket.AF_INET, socket.AF_INET6):
        link = socket.socket(family, socket.SOCK_DGRAM)
        if family == socket.AF_INET6:
            link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        link.bind(("" if family == socket.AF_INET else "::", port))
        links.append(link)
    while True:
        for link in select.select(links, [], [])[0]:
            data, peer = link.recvfrom(4096)
            link.sendto(data, peer)


def ask(address, port, count):
    link = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    link.bind(("", 4000))
    link.settimeout(1)
    answers = 0
    for i in range(count):
        link.sendto(b"ask %d %f" % (i, time.time()), (address, port))
        try:
            answers += len(link.recv(4096)) > 0
        except socket.timeout:
            pass
        time.sleep(0.02)
    print(answers)
    return answers < count * 9 // 10


if __name__ == "__main__":
    words = sys.argv[1:]
    verbs = {"echo": lambda: echo(int(words[1])), "ask": lambda: ask(words[1], int(words[2]), int(words[3])),
             "set": lambda: send_set(*words[1:4]), "record": lambda: record(*words[1:3]), "show": lambda: show(words[1]), "check": lambda: check(words[1]),
             "forge": lambda: forge(words[1], int(words[2]), int(words[3], 0))}
    sys.exit(bool(verbs[words[0]]()))
