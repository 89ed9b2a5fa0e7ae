"""Live progress with the time that is left, on standard error: a bar on a terminal, else a plain line now and then."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from addnorm.cli.console import err
from addnorm.cli.failure import one_line

EVERY_S = 30.0
"""Seconds between two lines, unless the user says otherwise."""
SOONER = 20
"""There is a line too where another such part of the whole is done."""
SOONEST_S = 1.0
"""But no more than one in so many seconds."""


class Lines:
    """Plain lines of progress, for a file or a pipe; the first is due as long after the first word as any other.

    Args:
        every_s: seconds between two; None: `EVERY_S`, sooner where much is done.
    """

    def __init__(self, every_s: float | None = None) -> None:
        self.every_s, self.parts = every_s, 0
        self.at: float | None = None

    def tell(self, what: str, share: float | None, after: str) -> None:
        """Print where it stands, if that is due."""
        now, parts = time.monotonic(), int((share or 0.0) * SOONER + 1e-9)
        if self.at is None:
            self.at = now
        sooner = self.every_s is None and parts > self.parts and now - self.at >= SOONEST_S
        if now - self.at < (self.every_s or EVERY_S) and not sooner:
            return
        self.at, self.parts = now, parts
        done = "" if share is None else f" {share:.0%}"
        print(f"{what}{done}: {one_line(after)}", file=sys.stderr, flush=True)


class Live:
    """Progress while it is entered.

    Args:
        quiet: show nothing.
        every_s: seconds between two lines where standard error is no terminal; see `Lines`.
    """

    def __init__(self, quiet: bool = False, every_s: float | None = None) -> None:
        console = err()
        self.lines = None if quiet or console.is_terminal else Lines(every_s)
        self.bar = Progress(
            TextColumn("{task.description}", table_column=Column(no_wrap=True, min_width=9)),
            BarColumn(bar_width=20, table_column=Column(min_width=20)),
            TextColumn("{task.fields[after]}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
            console=console,
            disable=quiet or not console.is_terminal,
            refresh_per_second=4,  # each drawing takes the training process 2 ms
            transient=True,
        )
        self.task = self.bar.add_task("starting", total=None, after="")

    def __enter__(self) -> Live:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def of_comparison(self, now: Any) -> None:
        """Take in a `studies.runner.StudyProgress`."""
        runs = [f"{run.name} step {run.step}/{run.steps} loss {run.loss:.3f}" for run in now.running if run.steps]
        rate = f"{sum(run.tokens_per_s for run in now.running):,.0f} tokens/s"
        after = _listed(f"{now.done}/{now.total} runs", left(now.eta_s), rate, *runs)
        self._show("comparing", now.done + sum(run.share for run in now.running), now.total, after)
        if now.message and now.urgent:
            self.bar.console.print(f"addnorm: run {one_line(now.message)}", markup=False, soft_wrap=True)

    def of_run(self, now: Any) -> None:
        """Take in a `training.progress.Progress`."""
        rate = f"{now.tokens / now.wall_s:,.0f} tokens/s" if now.wall_s else ""
        after = _listed(f"step {now.step}/{now.steps}", f"loss {now.loss:.3f}", left(now.eta_s), rate)
        self._show("training", now.step, now.steps, after)

    def of_sweep(self, done: int, points: int, loss: float) -> None:
        """Take in the steps of a range test."""
        self._show("sweeping", done, points, f"loss {loss:.3f}")

    def of_tokenizing(self, now: Any) -> None:
        """Take in a `data.tokens.token_store_build.Progress`."""
        self._show("tokenizing", now.share, 1.0, f"{now.tokens:,} tokens")

    def of_claims(self, now: Any) -> None:
        """Take in a `studies.reproduce.Progress`."""
        self._show("testing", now.number - 1 + now.share, now.count, now.claim)

    def of_bench(self, now: Any) -> None:
        """Take in a `bench.measure.Progress`."""
        self._show("measuring", now.number - 1 + now.share, now.count, now.row)

    def _show(self, what: str, done: float | None, total: float, after: str) -> None:
        """Draw the bar or print a line; `done` is None where the end is not known."""
        self.bar.update(self.task, description=what, total=total if done is not None else None, completed=done or 0.0)
        self.bar.update(self.task, after=after)
        if self.lines is not None:
            self.lines.tell(what, done / total if done is not None and total else None, after)

    def doing(self, what: str) -> None:
        """Name a step that has no measure."""
        self.bar.update(self.task, description=what, total=None, after="")


def _listed(*parts: str) -> str:
    return ", ".join(filter(None, parts))


def left(seconds: float | None) -> str:
    """Time that is left, as said.

    >>> left(75.2), left(9), left(7300), left(None)
    ('1 min 15 s left', '9 s left', '2 h 1 min left', '')
    """
    return "" if seconds is None else f"{span(seconds)} left"


def span(seconds: float) -> str:
    """A time as said.

    >>> span(0.25), span(9.4), span(75.2), span(7300)
    ('0.2 s', '9 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 1:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
