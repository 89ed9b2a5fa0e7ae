"""The processes that train: each is fed by a thread from one queue, and replaced where it dies."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from addnorm.config import RunConfig
from addnorm.consent import Code
from addnorm.studies.eta import Work

WORKER = (sys.executable, "-m", "addnorm.studies.worker")
# A run that is told to stop saves within one step; a step of the deepest default model takes under a second.
GRACE_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run to train."""

    name: str
    config: RunConfig
    folder: Path
    work: Work
    resume: bool = False
    code: Code = field(default_factory=dict)
    """What the Python files were when the comparison began."""

    def order(self) -> str:
        """The line that a worker reads."""
        order = {"config": asdict(self.config), "folder": str(self.folder), "resume": self.resume, "code": self.code}
        return json.dumps(order) + "\n"


@dataclass(frozen=True, kw_only=True)
class Event:
    """What a worker's thread tells: `started`, `progress`, `warning`, `done`, `failed` of a job, or its own `left`."""

    kind: str
    job: Job | None = None
    details: dict[str, Any] = field(default_factory=dict)


class Worker(threading.Thread):
    """One process and the thread that feeds it."""

    def __init__(self, waiting: deque[Job], events: queue.SimpleQueue[Event], command: Sequence[str]) -> None:
        super().__init__(daemon=True)
        self.waiting, self.events, self.command = waiting, events, command
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 (closed in `wait`)
        self.process: subprocess.Popen[str] | None = None
        self.stopping = False

    def run(self) -> None:
        """Train until nothing waits."""
        try:
            while self.waiting and not self.stopping:
                try:
                    job = self.waiting.popleft()
                except IndexError:  # another worker was faster
                    break
                self.events.put(Event(kind="started", job=job))
                self._train(job)
            self._dismiss()
        finally:
            self.events.put(Event(kind="left"))

    def stop(self) -> None:
        """Ask the process to save and end; it is killed if it does not."""
        self.stopping = True
        process = self.process
        if process is not None and process.poll() is None:
            process.terminate()

    def kill(self) -> None:
        """End the process now."""
        self.stopping = True
        process = self.process
        if process is not None:
            process.kill()

    def wait(self) -> None:
        """Until the process has ended, by itself or by force."""
        process = self.process
        if process is not None:
            try:
                process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.join(GRACE_S)
        self.log.close()

    def _train(self, job: Job) -> None:
        """Hand a job over and pass on what the process says; one that falls silent before the end has died."""
        try:
            process = self._alive()
            if self._listen(process, job):
                return
            error = self._obituary(process.wait())
        except OSError as problem:
            error = f"no training process could be started: {problem}"
        if not self.stopping:
            self.events.put(Event(kind="failed", job=job, details={"error": error}))

    def _listen(self, process: subprocess.Popen[str], job: Job) -> bool:
        """Whether the process came to the job's end."""
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(job.order())
            process.stdin.flush()
            for line in process.stdout:
                details = json.loads(line)
                kind = details.pop("event")
                self.events.put(Event(kind=kind, job=job, details=details))
                if kind in ("done", "failed"):
                    return True
        except (BrokenPipeError, ValueError):  # it died before it read, or while it wrote
            pass
        return False

    def _alive(self) -> subprocess.Popen[str]:
        """The process; a fresh one for the first job and after a death."""
        if self.process is None or self.process.poll() is not None:
            # A session of its own: Ctrl-C at the terminal reaches the parent alone, which then stops all in order.
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.log,
                encoding="utf-8",
                start_new_session=True,
            )
            if self.stopping:
                self.process.terminate()
        return self.process

    def _dismiss(self) -> None:
        """No more jobs: the process ends by itself."""
        if self.process is not None and self.process.stdin is not None:
            with suppress(OSError):
                self.process.stdin.close()

    def _obituary(self, code: int) -> str:
        """How the process ended, with its last words."""
        end = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        self.log.seek(0)
        words = self.log.read().decode(errors="replace").strip().splitlines()
        return f"the training process {end}" + (f": {words[-1]}" if words else "")
