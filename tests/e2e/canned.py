"""canned.py SOCKET FILE: a server that answers every GET with FILE's JSON, as the agent would."""
import http.server
import json
import socketserver
import sys


class Canned(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with open(sys.argv[2], encoding="utf-8") as file:
            body = {"type": "sync", "status": "Success", "status_code": 200, "metadata": json.load(file)}
        text = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


class Server(socketserver.UnixStreamServer):
    def get_request(self):
        return super().get_request()[0], ("local", 0)


Server(sys.argv[1], Canned).serve_forever()
