"""One process that trains runs one after the other: `python -m addnorm.studies.worker`.

Jobs come as JSON lines on standard input and events go out as JSON lines on standard output, so that torch is imported
once for many runs, and so that a library that prints cannot break the protocol: its output goes to standard error.

    in   {"config": {...}, "folder": "...", "resume": false, "code": {}}
    out  {"event": "progress", "share": 0.25, "loss": 2.9}, {"event": "warning", "text": "...", "urgent": false} ...
         {"event": "done"} or {"event": "failed", "error": "..."}
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from addnorm.config import RunConfig
from addnorm.errors import UserError
from addnorm.files import finite
from addnorm.tracking.tracking import TrackerWarning

PROGRESS_S = 0.25


def main() -> None:
    """Train what comes on standard input until it ends."""
    out = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    _one_thread()
    _choose_kernels()
    for line in sys.stdin:
        _send(out, _answer(json.loads(line), out))


def _choose_kernels() -> None:
    """As for the command that started this process."""
    from addnorm.kernels.choice import VARIABLE, choose

    word = os.environ.get(VARIABLE)
    if word:
        choose(word)


def _one_thread() -> None:
    """Runs stand side by side on the cores, a thread each: more would only wait for one another."""
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
    import torch

    from addnorm.kernels.allocator import keep_freed_memory

    torch.set_num_threads(1)
    keep_freed_memory()


def _answer(job: dict[str, Any], out: TextIO) -> dict[str, Any]:
    """Train one run; whatever goes wrong is the answer."""
    from addnorm.consent import check_unchanged, trusting
    from addnorm.training.interruption import Interrupted
    from addnorm.training.run import train

    warnings.showwarning = _to_parent(out)
    try:
        check_unchanged(job["code"], "this comparison")
        with trusting(*job["code"]):
            train(RunConfig(**job["config"]), Path(job["folder"]), resume=job["resume"], on_progress=_throttled(out))
    except UserError as error:
        return {"event": "failed", "error": str(error)}
    except Interrupted as stop:
        sys.exit(stop.exit_code)
    except Exception as error:
        traceback.print_exc()
        return {"event": "failed", "error": f"{type(error).__name__}: {error}"}
    return {"event": "done"}


def _throttled(out: TextIO) -> Callable[[Any], None]:
    """A callback for `train` that sends its progress a few times a second."""
    last = [0.0]

    def on_progress(progress: Any) -> None:
        now = time.monotonic()
        if now - last[0] >= PROGRESS_S:
            last[0] = now
            share = progress.step / max(progress.steps, 1)
            rate = progress.tokens / progress.wall_s if progress.wall_s else 0.0
            place = {"step": progress.step, "steps": progress.steps}
            _send(out, {"event": "progress", "share": share, "loss": progress.loss, "tokens_per_s": rate, **place})

    return on_progress


def _to_parent(out: TextIO) -> Callable[..., None]:
    """Warnings go to the user: that a checkpoint was damaged, and another one taken."""

    def show(message: Warning | str, *place: Any, **more: Any) -> None:
        urgent = isinstance(message, TrackerWarning)
        _send(out, {"event": "warning", "text": str(message), "urgent": urgent})

    return show


def _send(out: TextIO, event: dict[str, Any]) -> None:
    out.write(json.dumps(finite(event)) + "\n")


if __name__ == "__main__":
    main()
