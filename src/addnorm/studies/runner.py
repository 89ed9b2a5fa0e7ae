"""Training many runs on a few processes; one that dies or fails takes nothing else with it."""

from __future__ import annotations

import math
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

from addnorm.studies.crew import WORKER, Event, Job, Worker
from addnorm.studies.eta import RemainingTime
from addnorm.training.interruption import refuse_interrupted


@dataclass(frozen=True, kw_only=True)
class Underway:
    """How far a run is."""

    name: str
    share: float = 0.0
    """Of its work."""
    step: int = 0
    steps: int = 0
    """The run will have; 0 before the first is done."""
    loss: float = math.nan
    """Of the last step."""
    tokens_per_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class StudyProgress:
    """How far a comparison is."""

    done: int
    """Runs that ended, failed ones among them."""
    failed: int
    """Runs that ended with an error or whose process died."""
    total: int
    """Runs to train."""
    running: tuple[Underway, ...]
    """The runs under way."""
    elapsed_s: float
    """Since the first worker was started."""
    eta_s: float | None
    """Seconds to the end; None before a run has moved."""
    message: str | None = None
    """A line worth keeping: a run ended, failed, or warns."""
    urgent: bool = False
    """Whether the line is to be seen at once: a run failed, or has lost what the user watches it by."""


class Signalled(KeyboardInterrupt):
    """Ctrl-C or SIGTERM came while runs were trained."""

    def __init__(self, signal_number: int) -> None:
        super().__init__()
        self.signal_number = signal_number


def train_all(
    jobs: Sequence[Job],
    workers: int,
    on_progress: Callable[[StudyProgress], None] | None = None,
    command: Sequence[str] = WORKER,
) -> dict[str, str]:
    """Train all jobs, `workers` of them at a time, in their order.

    Args:
        jobs: what is to be trained.
        workers: processes at a time.
        on_progress: called in this thread at every event.
        command: starts a worker.

    Returns:
        What went wrong, by the name of the run: the error that training raised, or how its process died.

    Raises:
        Signalled: Ctrl-C or SIGTERM came; the workers have saved and stopped.
    """
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    waiting = deque(jobs)
    crew = [Worker(waiting, events, command) for _ in range(min(workers, len(jobs)))]
    board = _Board(jobs, max(len(crew), 1), on_progress)
    with _signals_raise():
        try:
            _follow(crew, events, board)
        finally:
            waiting.clear()
            _stop(crew)
    return board.failures


def _follow(crew: Sequence[Worker], events: queue.SimpleQueue[Event], board: _Board) -> None:
    """Note the events until every worker has left."""
    for worker in crew:
        worker.start()
    left = 0
    while left < len(crew):
        event = events.get()
        left += event.kind == "left"
        board.note(event)


def _stop(crew: Sequence[Worker]) -> None:
    """Let all workers save and end; a second signal means at once."""
    try:
        for worker in crew:
            worker.stop()
        for worker in crew:
            worker.wait()
    except Signalled:
        for worker in crew:
            worker.kill()
        raise


class _Board:
    """Which runs are under way, which failed, and how long the rest takes."""

    def __init__(self, jobs: Sequence[Job], workers: int, on_progress: Callable[[StudyProgress], None] | None) -> None:
        self.total, self.done = len(jobs), 0
        self.failures: dict[str, str] = {}
        self.remaining = RemainingTime(work={job.name: job.work for job in jobs}, workers=workers)
        self.began = time.monotonic()
        self.started: dict[str, float] = {}
        self.underway: dict[str, Underway] = {}
        self.on_progress = on_progress

    def note(self, event: Event) -> None:
        """Take one event in and tell of it."""
        if event.job is None:
            return
        name, now, message = event.job.name, time.monotonic(), None
        urgent = event.kind == "failed" or bool(event.details.get("urgent"))
        if event.kind == "started":
            self.started[name], self.underway[name] = now, Underway(name=name)
        elif event.kind == "progress":
            told: dict[str, Any] = {**event.details, "loss": float(event.details["loss"])}  # JSON has "nan" for nan
            self.underway[name] = replace(self.underway[name], **told)
            self.remaining.observe(name, told["share"], now - self.started[name])
        elif event.kind == "warning":
            message = f"{name}: {event.details['text']}"
        else:
            self.done += 1
            self.underway.pop(name)
            self.remaining.observe(name, 1.0, now - self.started.pop(name))
            message = f"{name} {event.kind}"
        if event.kind == "failed":
            self.failures[name] = event.details["error"]
            message = f"{name} failed: {event.details['error']}"
        if self.on_progress is not None:
            self.on_progress(self._progress(message, urgent))

    def _progress(self, message: str | None, urgent: bool) -> StudyProgress:
        return StudyProgress(
            done=self.done,
            failed=len(self.failures),
            total=self.total,
            running=tuple(self.underway.values()),
            elapsed_s=time.monotonic() - self.began,
            eta_s=self.remaining.estimate(),
            message=message,
            urgent=urgent,
        )


@contextmanager
def _signals_raise() -> Iterator[None]:
    """Inside, Ctrl-C and SIGTERM raise `Signalled`; Python hands signals to the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    refuse_interrupted()

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Signalled(number)

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
