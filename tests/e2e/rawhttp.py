#!/usr/bin/env python3
"""rawhttp.py SOCKET CASE: bytes that no well-behaved client sends; prints the status that came back.

"closed" stands for a connection that ended without an answer, "silence" for one that neither answered
nor ended within the time of the case."""
import socket
import sys
import time


def talk(path, data, seconds=15, pieces=1, pause=0.0, finish=False):
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    link.settimeout(seconds)
    link.connect(path)
    got = b""
    try:
        size = max(1, len(data) // pieces)
        for at in range(0, len(data), size):
            link.sendall(data[at:at + size])
            if pause:
                time.sleep(pause)
        if finish:
            link.shutdown(socket.SHUT_WR)
    except (BrokenPipeError, ConnectionResetError):
        pass
    try:
        while b"\r\n" not in got:
            more = link.recv(65536)
            if not more:
                break
            got += more
    except socket.timeout:
        return "silence"
    except ConnectionResetError:
        pass
    finally:
        link.close()
    words = got.split(b"\r\n", 1)[0].split()
    return words[1].decode("ascii", "replace") if len(words) > 1 else "closed"


def post(body, length=None, extra=b"", path=b"/1.0/profiles"):
    head = b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + extra
    if length is not None:
        head += b"Content-Length: %d\r\n" % length
    return head + b"\r\n" + body


def deep(size):
    return b"[" * size + b"]" * size


CASES = {
    "noise": (bytes(range(1, 256)) * 4 + b"\r\n\r\n", {}),
    "no-version": (b"GET /1.0\r\n\r\n", {}),
    "bad-version": (b"GET /1.0 HTTP/9.9\r\nHost: x\r\n\r\n", {}),
    "no-host": (b"GET /1.0 HTTP/1.1\r\n\r\n", {}),
    "nul-in-path": (b"GET /1.0/instances/a%00b HTTP/1.1\r\nHost: x\r\n\r\n", {}),
    "bad-percent": (b"GET /1.0/instances/%zz HTTP/1.1\r\nHost: x\r\n\r\n", {}),
    "not-utf8-path": (b"GET /1.0/instances/%ff%fe HTTP/1.1\r\nHost: x\r\n\r\n", {}),
    "long-path": (b"GET /1.0/" + b"a" * 200000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", {}),
    "long-header": (b"GET /1.0 HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 2000000 + b"\r\n\r\n", {}),
    "many-headers": (b"GET /1.0 HTTP/1.1\r\nHost: x\r\n"
                     + b"".join(b"X-%d: y\r\n" % i for i in range(20000)) + b"\r\n", {}),
    "negative-length": (b"POST /1.0/profiles HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\nhello", {}),
    "huge-length": (post(b"{}", 1 << 60), {}),
    "two-lengths": (b"POST /1.0/profiles HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 9\r\n\r\n{}",
                    {"seconds": 5}),
    "oversize-json": (post(b'{"name":"' + b"a" * (3 << 20) + b'"}', (3 << 20) + 11), {}),
    "oversize-chunked": (post(b"".join(b"10000\r\n" + b"a" * 65536 + b"\r\n" for _ in range(48)) + b"0\r\n\r\n",
                              extra=b"Transfer-Encoding: chunked\r\n"), {}),
    "bad-chunk": (post(b"zz\r\nhello\r\n0\r\n\r\n", extra=b"Transfer-Encoding: chunked\r\n"), {"seconds": 5}),
    "cut-body": (post(b'{"na', 100), {"finish": True, "seconds": 5}),
    "deep-json": (post(deep(100000), 200000), {}),
    "nul-in-json": (post(b'{"name":"a\\u0000b"}', 18), {}),
    "not-utf8-json": (post(b'{"name":"\xff\xfe"}', 13), {}),
    "array-for-object": (post(b"[1,2]", 5), {}),
    "number-for-object": (post(b"5", 1), {}),
    "null-for-object": (post(b"null", 4), {}),
    "slow-header": (b"GET /1.0 HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 30 + b"\r\n\r\n",
                    {"pieces": 30, "pause": 0.05}),
    "body-on-get": (b"GET /1.0 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", {}),
}


def main():
    data, how = CASES[sys.argv[2]]
    print(talk(sys.argv[1], data, **how))


main()
