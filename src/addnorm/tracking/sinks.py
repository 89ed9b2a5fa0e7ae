"""One way to hand points to TensorBoard's SummaryWriter and to whatever logs a mapping, as trackio and wandb do."""

from __future__ import annotations

from typing import Any, Protocol

from addnorm.tracking.curves import Point


class Points(Protocol):
    """Takes the points of a step, and the time on the clock where it is not now (TensorBoard alone keeps that)."""

    def __call__(self, step: int, points: Point, at: float | None = None) -> None: ...


def points_to(tracker: Any) -> Points | None:
    """A function that hands points to a tracker; None for what is no tracker.

    Args:
        tracker: has `add_scalar(name, value, step)`, or `log(points, step=step)` and is not callable itself.
    """
    if hasattr(tracker, "add_scalar"):
        return lambda step, points, at=None: _each(tracker, step, points, at)
    if hasattr(tracker, "log") and not callable(tracker):
        return lambda step, points, at=None: tracker.log(points, step=step)
    return None


def _each(writer: Any, step: int, points: Point, at: float | None) -> None:
    when = {} if at is None else {"walltime": at}
    for name, value in points.items():
        writer.add_scalar(name, value, step, **when)
