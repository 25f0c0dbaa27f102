#!/usr/bin/env python3
"""vmtype.py INSTANCE LINE REGEX [SECONDS]: types a line on the serial console over the API's WebSocket, again each
5 seconds, until what comes back matches. Exit status 1 when it never does. $LXD_DIR is the agent's directory."""
import base64, json, os, re, socket, struct, sys, time


def connect():
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(os.environ["LXD_DIR"] + "/unix.socket")
    return sock


def post(path, body):
    sock, text = connect(), json.dumps(body)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
    sock.sendall(f"{head}Content-Length: {len(text)}\r\n\r\n{text}".encode())
    answer = b"".join(iter(lambda: sock.recv(65536), b""))
    return json.loads(answer[answer.index(b"{"):answer.rindex(b"}") + 1])


def websocket(operation, secret):
    sock = connect()
    key = base64.b64encode(os.urandom(16)).decode()
    sock.sendall(f"GET {operation}/websocket?secret={secret} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
                 f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        more = sock.recv(1)
        if not more:
            sys.exit("no WebSocket: " + answer.decode(errors="replace"))
        answer += more
    return sock


def send(sock, data):
    mask = os.urandom(4)
    masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))
    sock.sendall(struct.pack("!BB", 0x82, 0x80 | len(data)) + mask + masked)


def main():
    instance, line, wanted = sys.argv[1:4]
    until = time.monotonic() + float(sys.argv[4] if len(sys.argv) > 4 else 120)
    reply = post(f"/1.0/instances/{instance}/console", {"type": "console", "width": 80, "height": 25})
    if "fds" not in (reply.get("metadata") or {}).get("metadata", {}):
        sys.exit(json.dumps(reply))
    fds = reply["metadata"]["metadata"]["fds"]
    data = websocket(reply["operation"], fds["0"])
    control = websocket(reply["operation"], fds["control"])
    data.settimeout(5)
    seen, typed = b"", 0.0
    while time.monotonic() < until:
        if time.monotonic() - typed >= 5:
            send(data, line.encode() + b"\n")
            typed = time.monotonic()
        try:
            part = data.recv(65536)
        except socket.timeout:
            continue
        if not part:
            break
        seen += part
        # Frames' headers are in between: an answer is found once it came in one piece.
        if re.search(wanted.encode(), seen.replace(b"\r", b"")):
            control.close()
            data.close()
            return
    sys.stderr.write(seen.decode(errors="replace"))
    sys.exit(1)


main()
