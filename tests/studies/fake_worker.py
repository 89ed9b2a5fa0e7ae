"""A worker that trains nothing: it writes a run folder with made-up losses, or fails, or dies, as it is told."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from run_folders import write_run


def main() -> None:
    for line in sys.stdin:
        job = json.loads(line)
        folder, config = Path(job["folder"]), job["config"]
        mode = os.environ.get("FAKE_WORKER", "")
        print(json.dumps({"event": "progress", "share": 0.5, "loss": 3.0}), flush=True)
        if mode == f"warns at {config['scheme']}":
            for text, urgent in (("a checkpoint is damaged", False), ("trackio is lost", True)):
                print(json.dumps({"event": "warning", "text": text, "urgent": urgent}), flush=True)
        if mode == f"dies at {config['scheme']}":
            print("a last word", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if mode == f"fails at {config['scheme']}":
            print(json.dumps({"event": "failed", "error": "the disk is full"}), flush=True)
            continue
        if mode == f"hangs at {config['scheme']}":
            time.sleep(600)
        if mode == f"will not stop at {config['scheme']}":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            (folder.parent.parent.parent / f"worker-{os.getpid()}").touch()
            time.sleep(600)
        write_run(folder, config, losses=[5.0, 3.0, 2.5])
        with open(folder.parent.parent / "order.txt", "a") as file:
            file.write(f"{folder.parent.name}/{folder.name} {os.getpid()}\n")
        print(json.dumps({"event": "done"}), flush=True)


if __name__ == "__main__":
    main()
