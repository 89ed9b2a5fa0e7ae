#!/usr/bin/env bash
# trackio 0.43.0: a run that is logged to the local disk alone sends the stored Hugging Face token to the hub.
#
# Expected: `trackio.init(project)` without space_id and server_url is local: "metrics logged to" a folder, no network.
# Observed: every run looks its user's name up for its config (`_Username`): where a token is stored or HF_TOKEN is set,
# init sends it to HF_ENDPOINT/api/whoami-v2 and waits for the answer. HF_HUB_OFFLINE=1 stops it.
# Exits with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet trackio==0.43.0
cat >"$folder/run.py" <<'PYTHON'
import trackio

run = trackio.init("local", embed=False, auto_log_gpu=False, auto_log_cpu=False)
run.log({"loss": 1.0})
run.finish()
PYTHON
HOME="$folder" "$folder/venv/bin/python" - "$folder/run.py" <<'PYTHON'
import http.server
import json
import os
import subprocess
import sys
import threading

seen = []


class Hub(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        seen.append((self.path, self.headers.get("authorization")))
        body = json.dumps({"name": "somebody", "type": "user", "orgs": []}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


server = http.server.HTTPServer(("127.0.0.1", 0), Hub)
threading.Thread(target=server.serve_forever, daemon=True).start()
settings = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_TOKEN": "hf_secret"}
gone = ("HF_HUB_OFFLINE", "TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")
plain = {name: value for name, value in os.environ.items() if name not in gone}
for offline in ({}, {"HF_HUB_OFFLINE": "1"}):
    seen.clear()
    done = subprocess.run([sys.executable, sys.argv[1]], env=plain | settings | offline, capture_output=True, text=True)
    print(f"{offline or 'as it is'}: the hub was asked {seen}")
    asked = ("/api/whoami-v2", "Bearer hf_secret") in seen
    assert done.returncode == 0 and asked == (not offline), "the behaviour has changed"
PYTHON
