"""Live progress with the time that is left, on standard error; nothing where that is not a terminal."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from addnorm.cli.console import err
from addnorm.cli.failure import one_line


class Live:
    """A bar while it is entered.

    Args:
        quiet: show nothing.
    """

    def __init__(self, quiet: bool = False) -> None:
        console = err()
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
        share = now.done + sum(part for _, part in now.running)
        running = ", ".join(name for name, _ in now.running)
        after = f"{now.done}/{now.total} runs  {left(now.eta_s)}  {running}"
        self.bar.update(self.task, description="comparing", total=now.total, completed=share, after=after)
        if now.message and " failed: " in now.message:
            self.bar.console.print(f"addnorm: run {one_line(now.message)}", markup=False, soft_wrap=True)

    def of_run(self, now: Any) -> None:
        """Take in a `training.progress.Progress`."""
        after = f"step {now.step}/{now.steps}  loss {now.loss:.3f}  {left(now.eta_s)}"
        self.bar.update(self.task, description="training", total=now.steps, completed=now.step, after=after)

    def of_sweep(self, done: int, points: int, loss: float) -> None:
        """Take in the steps of a range test."""
        self.bar.update(self.task, description="sweeping", total=points, completed=done, after=f"loss {loss:.3f}")

    def of_tokenizing(self, now: Any) -> None:
        """Take in a `data.token_store_build.Progress`."""
        total = None if now.share is None else 1.0
        after = f"{now.tokens:,} tokens"
        self.bar.update(self.task, description="tokenizing", total=total, completed=now.share or 0.0, after=after)

    def of_claims(self, now: Any) -> None:
        """Take in a `studies.reproduce.Progress`."""
        done = now.number - 1 + now.share
        self.bar.update(self.task, description="testing", total=now.count, completed=done, after=now.claim)

    def of_bench(self, now: Any) -> None:
        """Take in a `bench._run.Progress`."""
        done = now.number - 1 + now.share
        self.bar.update(self.task, description="measuring", total=now.count, completed=done, after=now.row)

    def doing(self, what: str) -> None:
        """Name a step that has no measure."""
        self.bar.update(self.task, description=what, total=None, after="")


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
