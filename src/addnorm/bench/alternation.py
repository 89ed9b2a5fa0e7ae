"""Turns: every arm once, then every arm again, in one process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

from addnorm.bench.ratios import paired_ratio
from addnorm.bench.row import Figure, Goal, OnProgress, Times

Arms = Mapping[str, Callable[[], object]]


def alternate(arms: Arms, rounds: int, progress: OnProgress, warm_up: int = 1) -> dict[str, Times]:
    """Run the arms in turns, A B A B, and take the times of all rounds after the first ones.

    Args:
        arms: what is timed, by name.
        rounds: turns that count.
        progress: is told the share of turns taken.
        warm_up: turns that do not: they compile, fill caches and touch new memory.
    """
    times = {name: Times() for name in arms}
    turns = (warm_up + rounds) * len(arms)
    for turn in range(turns):
        name = list(arms)[turn % len(arms)]
        began = processor_s(), time.perf_counter()
        arms[name]()
        ended = processor_s(), time.perf_counter()
        if turn >= warm_up * len(arms):
            times[name].cpu_s.append(ended[0] - began[0])
            times[name].wall_s.append(ended[1] - began[1])
        progress((turn + 1) / turns)
    return times


def processor_s() -> float:
    """Processor time of this process, and of those it has started that are over."""
    children = os.times()
    return time.process_time() + children.children_user + children.children_system


def ratio(label: str, these: Times, those: Times, goal: Goal | None = None) -> Figure:
    """The time of one arm over that of another, round by round."""
    value, wall = paired_ratio(these.cpu_s, those.cpu_s), paired_ratio(these.wall_s, those.wall_s)
    return Figure(label=label, value=value, wall=wall, goal=goal)


def parts(progress: OnProgress, shares: int) -> list[OnProgress]:
    """Progress of several measurements of about the same length, one after the other."""
    return [lambda share, done=number: progress((done + share) / shares) for number in range(shares)]
