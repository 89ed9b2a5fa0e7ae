"""Loops of an experiment: over lines, places and seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from addnorm.studies.claim import BySeed, Line, OnProgress


def lines_over(
    labels: Mapping[str, str],
    places: Iterable[float],
    seeds: int,
    progress: OnProgress,
    measure: Callable[[str, float, int], float],
) -> dict[str, Line]:
    """`measure(name, place, seed)` for every line, at every place, for every seed.

    Args:
        labels: what each line is called in the figure, by its name.
        places: on the x axis.
        seeds: how many.
        progress: is told what share is done.
        measure: one number.
    """
    places, lines, done = list(places), {}, 0
    for name, label in labels.items():
        points: dict[float, BySeed] = {}
        for place in places:
            points[place] = tuple(measure(name, place, seed) for seed in range(seeds))
            done += 1
            progress(done / (len(labels) * len(places)))
        lines[name] = Line(label=label, points=points)
    return lines


def values_of(line: Line) -> list[float]:
    """All measured values of a line."""
    return [value for values in line.points.values() for value in values]
