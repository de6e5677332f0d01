#!/bin/sh
# LangChain's class for Takeoff servers (TitanTakeoff) takes each server-sent event's data, already without its
# "data:" prefix, and then looks for that prefix in the text itself. So nothing is handed on before the answer
# has ended, and "data:" within an answer is cut out of it. With streaming=True, invoke() also leaves out every
# argument of the call.
#
# Why it matters to a server: its users see a stream that does not stream, answers with holes and limits on tokens
# that are not kept, and each looks like the server's fault. The events on the wire are as they should be.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install langchain-community==0.4.2 takeoff-client==0.7.0
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

from langchain_community.llms import TitanTakeoff

PIECES = ["The", " meta", "data:", " three", " rows"]
asked = []


class Takeoff(BaseHTTPRequestHandler):
    """Answers every request with the same events."""

    def do_POST(self):
        asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for piece in PIECES:
            self.wfile.write(f"data: {piece}\n\n".encode())
            self.wfile.flush()

    def log_message(self, *arguments):
        """Say nothing."""


server = ThreadingHTTPServer(("127.0.0.1", 0), Takeoff)
threading.Thread(target=server.serve_forever, daemon=True).start()
for package in ("langchain-community", "takeoff-client", "sseclient-py"):
    print(package, version(package))

port = server.server_address[1]
chunks = list(TitanTakeoff("http://127.0.0.1", port, port).stream("How many?", max_new_tokens=8))
print(f"guess: {len(PIECES)} events are {len(PIECES)} chunks, and their text is the answer")
print("seen:", chunks)
assert len(chunks) < len(PIECES)
assert "".join(chunks) == "".join(PIECES).replace("data:", "")

llm = TitanTakeoff("http://127.0.0.1", port, port, streaming=True)
llm.invoke("How many?", max_new_tokens=8)
print("guess: invoke(max_new_tokens=8) asks for 8 tokens whether it streams or not")
print("seen: max_new_tokens of stream():", asked[0]["max_new_tokens"], "of invoke():", asked[1].get("max_new_tokens"))
assert asked[0]["max_new_tokens"] == 8
assert asked[1].get("max_new_tokens") is None
PYTHON
