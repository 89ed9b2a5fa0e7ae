"""What a claim is, what its experiment measures, and what is found.

    measured = claim.measure(progress)      # the experiment: numbers by seed
    finding = claim.judge(measured)         # pure: the same numbers give the same verdict

The verdict is a function of the measured numbers alone, so a made-up counter-result shows that it can come out the
other way.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from addnorm.checks import check_at_least
from addnorm.studies.statistics import Estimate, estimate

Verdict = Literal["reproduced", "not reproduced", "not testable at this size"]
VERDICTS: tuple[Verdict, ...] = ("reproduced", "not reproduced", "not testable at this size")
BySeed = tuple[float, ...]
OnProgress = Callable[[float], None]
"""Is told what share of the experiment is done."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One measured quantity at several places, each with one value a seed."""

    label: str
    points: Mapping[float, BySeed]
    """Place on the x axis (a depth, a learning rate, a step) to the values of the seeds."""

    def at(self, x: float) -> Estimate:
        """The mean over seeds at a place, with its interval."""
        return estimate(self.points[x])

    @property
    def first(self) -> Estimate:
        """At the smallest place."""
        return self.at(min(self.points))

    @property
    def last(self) -> Estimate:
        """At the largest place."""
        return self.at(max(self.points))

    def by_seed(self) -> list[list[tuple[float, float]]]:
        """For each seed its places and values, in the order of the places."""
        seeds = min((len(values) for values in self.points.values()), default=0)
        return [[(x, self.points[x][seed]) for x in sorted(self.points)] for seed in range(seeds)]


Measured = Mapping[str, Line]
"""Lines by a short name that `judge` knows."""


@dataclass(frozen=True, kw_only=True)
class Axes:
    """What a claim's figure shows."""

    x: str
    y: str
    log_x: bool = False
    log_y: bool = False
    shows: Literal["all", "end"] = "all"
    """end: the y axis holds what the lines have in their last two thirds, where learning curves differ by little."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What the numbers say."""

    verdict: Verdict
    quantity: str
    """What the figure is, in words."""
    figure: Estimate
    """The number that decides, with its spread over seeds."""
    sentence: str
    """The result with its figures, for a reader who sees nothing else."""
    elsewhere: Mapping[str, Judgement] = field(default_factory=dict)
    """The findings of the same experiment under other circumstances, by these in words."""


@dataclass(frozen=True, kw_only=True)
class Claim(ABC):
    """What a paper says, and an experiment that can contradict it; the fields are the experiment's size.

    Args:
        seeds: how many independent repetitions; intervals need 2 or more.
    """

    seeds: int = 5

    title: ClassVar[str]
    statement: ClassVar[str]
    """What the paper says, in our words."""
    number: ClassVar[str]
    """The paper's own figure."""
    about: ClassVar[tuple[str, ...]]
    """The schemes of the catalogue that the experiment runs."""
    reference: ClassVar[str]
    """Authors, year, arXiv id."""
    experiment: ClassVar[str]
    """What is run here, at what size."""
    embedding: ClassVar[str]
    """The size of what enters the stack, on which figures by depth depend where the entrance has no norm."""
    criterion: ClassVar[str]
    """When the claim counts as reproduced."""
    axes: ClassVar[Axes]

    def __post_init__(self) -> None:
        check_at_least("seeds", self.seeds, 1)

    @abstractmethod
    def measure(self, progress: OnProgress) -> Measured:
        """Run the experiment."""

    def shown(self, measured: Measured) -> Measured:
        """The lines that the claim's figure has; all by default."""
        return measured

    @abstractmethod
    def judge(self, measured: Measured) -> Judgement:
        """What the numbers say; reads nothing but its argument and the claim's size."""


def said(value: Estimate, digits: int = 3) -> str:
    """An estimate in a sentence.

    >>> said(Estimate(mean=0.123456, half_width=0.0211, n=3))
    '0.123 ± 0.021'
    """
    if value.half_width is None:
        return f"{value.mean:.{digits}g}"
    return f"{value.mean:.{digits}g} ± {value.half_width:.2g}"
