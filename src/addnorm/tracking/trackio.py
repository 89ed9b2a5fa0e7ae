"""A run's curves in trackio, written by a process of their own that reads the run's metrics.jsonl.

trackio keeps one current run a process, prints on standard output, and asks huggingface.co who the user is where a
token is stored. In a process of its own it does none of that to the training, and has neither token nor network.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from addnorm.errors import UserError

CHILD = "addnorm.tracking.trackio_process"
PATIENCE_S = 20.0
"""For the last rows to be written when a run ends."""
KEPT = ("TRACKIO_DIR", "TRACKIO_STORAGE_MODE")
"""What of trackio's settings reaches it: where it stores, and how."""
REMOTE = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "SPACE_ID", "SYSTEM")


class TrackioFailed(RuntimeError):
    """The process that writes to trackio has ended before its time; the text is its last line."""


class Trackio:
    """The process that writes a run to trackio's local database, from its first row on.

    Args:
        run: the run's folder.
        metrics: its rows.
        about: what the run is: trackio's config of it.
    """

    def __init__(self, run: Path, metrics: Path, about: Mapping[str, Any]) -> None:
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed in `close`)
        project, name = names(run.resolve())
        self.process = subprocess.Popen(
            [sys.executable, "-m", CHILD, str(run.resolve()), str(metrics.resolve()), project, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self.errors,
            env=local_environment(),
            start_new_session=True,  # Ctrl-C is for the training, which then ends this one
        )

    def take(self, row: Mapping[str, Any]) -> None:
        """The process reads the row itself; this sees whether there still is one.

        Raises:
            TrackioFailed: there is none.
        """
        if self.process.poll() is not None:
            raise TrackioFailed(self._last_words())

    def close(self) -> None:
        """Let the process write the last rows, and wait for it.

        Raises:
            TrackioFailed: it had ended, does not end, or could not write.
        """
        assert self.process.stdin is not None
        try:
            self.process.stdin.close()
            if self.process.wait(PATIENCE_S) != 0:
                raise TrackioFailed(self._last_words())
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise TrackioFailed(f"the last rows were not written within {PATIENCE_S:.0f} s") from None
        finally:
            self.errors.close()

    def _last_words(self) -> str:
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"its process ended with exit code {self.process.returncode}"


def names(run: Path) -> tuple[str, str]:
    """The project and the run's name in it: those of a comparison are one project.

    >>> names(Path("/tmp/runs/train-1"))
    ('addnorm', 'train-1')
    """
    comparison = run.parents[2] if len(run.parents) > 2 else run
    if (comparison / "spec.json").is_file() and run.parent.parent.name == "runs":
        return re.sub(r"[^\w-]", "-", comparison.name), f"{run.parent.name}/{run.name}"
    return "addnorm", run.name


def local_environment() -> dict[str, str]:
    """The environment without whatever leads trackio to another machine."""
    gone = [name for name in os.environ if name.startswith("TRACKIO_") and name not in KEPT]
    kept = {name: value for name, value in os.environ.items() if name not in (*gone, *REMOTE)}
    return kept | {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def forget(project: str, run_id: str) -> None:
    """Take a run out of trackio's database, for it to be written anew."""
    import trackio

    try:
        found = [run for run in trackio.Api().runs(project) if run.id == run_id]
    except ValueError:  # the project is not there: the database is another one now
        return
    for run in found:
        if not run.delete():
            raise UserError(f"the run {run.name} of project {project} cannot be taken out of trackio's database.")
