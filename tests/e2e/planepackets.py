#!/usr/bin/env python3
"""Packets for fastpath.sh, each verb in one namespace:
  echo PORT                       a UDP and TCP echo server, IPv4 and IPv6
  trips ADDRESS PORT COUNT        COUNT UDP round trips from one socket; fails when one is lost
  reach ADDRESS PORT FIRST COUNT ROUNDS  as many flows, by source ports from FIRST on; prints how many are answered each time
  connects ADDRESS PORT FIRST COUNT  TCP from as many source ports: prints those that connect, after 30 round trips by each
  tcp ADDRESS PORT BYTES          sends BYTES of a pattern over TCP and checks what comes back
  gso ADDRESS PORT COUNT          COUNT UDP_SEGMENT sends of 8 x 1000 bytes; each datagram must be echoed, once
  frames GATEWAY-MAC SRC DST COUNT  fixed UDP frames 4000 -> 4001 by AF_PACKET on eth0
  catch COUNT SECONDS             prints frames 4000 -> 4001 that come in on eth0, in hexadecimal
  spoof GATEWAY-MAC SRC DST MAC   200 frames as above from another address or MAC
  watch ADDRESS SECONDS           echo requests each 20 ms; prints times of sending and answer (CLOCK_REALTIME)
  geneve ADDRESS VNI PORT          a tunnel packet of OVN's for that port of that network
"""
import os
import select
import socket
import struct
import sys
import time


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def serve(port):
    udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    udp.bind(("::", port))
    tcp = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=128)
    poll, links = select.poll(), {}
    for link in (udp, tcp):
        poll.register(link, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd == udp.fileno():
                data, peer = udp.recvfrom(65536)
                udp.sendto(data, peer)
            elif fd == tcp.fileno():
                link, _ = tcp.accept()
                links[link.fileno()] = link
                poll.register(link, select.POLLIN)
            else:
                try:
                    data = links[fd].recv(65536)
                    if data:
                        links[fd].sendall(data)
                        continue
                except OSError:
                    pass
                poll.unregister(fd)
                links.pop(fd).close()


def trips(address, port, count):
    link = socket.socket(family(address), socket.SOCK_DGRAM)
    link.connect((address, port))
    link.settimeout(3)
    for i in range(count):
        data = struct.pack("!I", i) * 16
        link.send(data)
        if link.recv(100) != data:
            sys.exit("another answer")


def reach(address, port, first, count, rounds):
    """How many of 'count' flows, by source ports from 'first' on, are answered each time."""
    links, answered = [], [0] * count
    for i in range(count):
        link = socket.socket(family(address), socket.SOCK_DGRAM)
        link.bind(("", first + i))
        link.connect((address, port))
        links.append(link)
    for number in range(rounds):
        data = struct.pack("!I", number) * 16
        for start in range(0, count, 20):  # no queue on the way overflows
            some = range(start, min(start + 20, count))
            for i in some:
                links[i].send(data)
            until = time.monotonic() + 3
            for i in some:
                links[i].settimeout(max(until - time.monotonic(), 0.01))
                try:
                    answered[i] += links[i].recv(100) == data
                except (TimeoutError, ConnectionRefusedError):
                    pass
    print(sum(times == rounds for times in answered))


def connects(address, port, first, count):
    links, there = {}, []
    for i in range(count):
        link = socket.socket(family(address))
        link.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        link.bind(("", first + i))
        link.setblocking(False)
        link.connect_ex((address, port))
        links[i] = link
    until = time.monotonic() + 3  # SYNs are sent again after one second
    waiting = list(links.values())
    while waiting and time.monotonic() < until:
        done = select.select([], waiting, [], max(0, until - time.monotonic()))[1]
        waiting = [link for link in waiting if link not in done]
    for i, link in links.items():
        try:
            link.setblocking(True)
            link.settimeout(5)
            if select.select([], [link], [], 0)[1] and link.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                for number in range(30):
                    link.sendall(struct.pack("!I", number))
                    if link.recv(4, socket.MSG_WAITALL) != struct.pack("!I", number):
                        sys.exit("another answer")
                there.append(i)
        finally:
            link.close()
    print(*there)


def pattern(offset, size):
    return bytes((offset + i) * 7 % 251 for i in range(size))


def tcp(address, port, size):
    link = socket.create_connection((address, port), timeout=10)
    chunk, sent = 16384, 0
    base = pattern(0, 251 * 66)
    while sent < size:
        piece = base[sent % 251 : sent % 251 + min(chunk, size - sent)]
        link.sendall(piece)
        back = b""
        while len(back) < len(piece):
            more = link.recv(len(piece) - len(back))
            if not more:
                sys.exit("closed early")
            back += more
        if back != piece:
            sys.exit(f"wrong bytes at {sent}")
        sent += len(piece)
    link.shutdown(socket.SHUT_WR)
    if link.recv(1):
        sys.exit("more than was sent")


def gso(address, port, count):
    link = socket.socket(family(address), socket.SOCK_DGRAM)
    link.connect((address, port))
    link.settimeout(3)
    link.setsockopt(socket.IPPROTO_UDP, 103, 1000)  # UDP_SEGMENT
    for i in range(count):
        link.send(b"".join(struct.pack("!II", i, k) + b"g" * 992 for k in range(8)))
        seen = sorted(struct.unpack("!II", link.recv(2000)[:8]) for _ in range(8))
        if seen != [(i, k) for k in range(8)]:
            sys.exit(f"{i}: {seen}")


def check(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data)) if len(data) % 2 == 0 else None
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def frame(gateway, mac, src, dst, number, ttl=64):
    payload = struct.pack("!I", number) + bytes(i % 256 for i in range(16 + number % 7 * 64))
    payload += b"\0" * (len(payload) % 2)
    udp = struct.pack("!HHHH", 4000, 4001, 8 + len(payload), 0)
    one = family(src)
    s, d = socket.inet_pton(one, src), socket.inet_pton(one, dst)
    pseudo = s + d + struct.pack("!IHBB", 8 + len(payload), 0, 0, 17)
    udp = udp[:6] + struct.pack("!H", check(pseudo + udp + payload) or 0xFFFF)
    if one == socket.AF_INET:
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 28 + len(payload), number + 1, 0x4000, ttl, 17, 0) + s + d
        ip = ip[:10] + struct.pack("!H", check(ip)) + ip[12:]
        kind = 0x0800
    else:
        ip = struct.pack("!IHBB", 0x60000000 | number + 1, 8 + len(payload), 17, ttl) + s + d
        kind = 0x86DD
    return gateway + mac + struct.pack("!H", kind) + ip + udp + payload


def packet_socket():
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    link.bind(("eth0", 0))
    return link


def octets(mac):
    return bytes.fromhex(mac.replace(":", ""))



def own_mac():
    import fcntl
    link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    return fcntl.ioctl(link, 0x8927, struct.pack("256s", b"eth0"))[18:24]


def frames(gateway, src, dst, count):
    link, mac = packet_socket(), own_mac()
    for i in range(count):
        link.send(frame(octets(gateway), mac, src, dst, i, ttl=64 - i % 8))
        time.sleep(0.02)


def spoof(gateway, src, dst, mac):
    link = packet_socket()
    for i in range(200):
        link.send(frame(octets(gateway), octets(mac), src, dst, i))
        time.sleep(0.002)


def catch(count, seconds):
    link, until, seen = packet_socket(), time.monotonic() + seconds, []
    print("ready", flush=True)
    while len(seen) < count and time.monotonic() < until:
        if not select.select([link], [], [], 0.2)[0]:
            continue
        data, source = link.recvfrom(70000)
        at = 34 if data[12:14] == b"\x08\x00" else 54
        if source[2] != socket.PACKET_OUTGOING and data[at : at + 4] == struct.pack("!HH", 4000, 4001):
            seen.append(data)
    for data in seen:
        print(data.hex())


def watch(address, seconds, quiet=0):
    """Ends before its time when answers came, and then none for 'quiet' seconds."""
    link = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    link.settimeout(0.005)
    me, sent, until, number = os.getpid() & 0xFFFF, {}, time.monotonic() + seconds, 0
    last = None
    print("ready", flush=True)
    while time.monotonic() < until and not (quiet and last and time.monotonic() - last > quiet):
        body = struct.pack("!BBHHH", 8, 0, 0, me, number & 0xFFFF) + struct.pack("!I", number) * 4
        body = body[:2] + struct.pack("!H", check(body)) + body[4:]
        sent[number] = time.time()
        link.sendto(body, (address, 0))
        number += 1
        pause = time.monotonic() + 0.02
        while time.monotonic() < pause:
            try:
                data = link.recv(200)[20:]
            except TimeoutError:
                continue
            if data[0] == 0 and struct.unpack("!H", data[4:6])[0] == me:
                which, last = struct.unpack("!I", data[8:12])[0], time.monotonic()
                print(f"{sent[which]:.6f} {time.time():.6f} {which}", flush=True)


def geneve(address, vni, port):
    link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    head = struct.pack("!BBHIHBBI", 2, 0, 0x6558, vni << 8, 0x0102, 0x80, 1, 1 << 16 | port)
    link.sendto(head + b"\2\0\0\0\0\1\2\0\0\0\0\2\x88\xb5" + bytes(46), (address, 6081))


verb, args = sys.argv[1], sys.argv[2:]
if verb == "echo":
    serve(int(args[0]))
elif verb == "trips":
    trips(args[0], int(args[1]), int(args[2]))
elif verb == "reach":
    reach(args[0], *map(int, args[1:]))
elif verb == "connects":
    connects(args[0], *map(int, args[1:]))
elif verb == "tcp":
    tcp(args[0], int(args[1]), int(args[2]))
elif verb == "gso":
    gso(args[0], int(args[1]), int(args[2]))
elif verb == "frames":
    frames(args[0], args[1], args[2], int(args[3]))
elif verb == "spoof":
    spoof(*args)
elif verb == "catch":
    catch(int(args[0]), float(args[1]))
elif verb == "watch":
    watch(args[0], *map(float, args[1:]))
elif verb == "geneve":
    geneve(args[0], int(args[1]), int(args[2]))
else:
    sys.exit(__doc__)
