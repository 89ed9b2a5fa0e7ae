"""What a row of the benchmark is, and what it gives."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Self

from addnorm.bench.ratios import Spread
from addnorm.checks import check_count

OnProgress = Callable[[float], None]
"""Is told what share of the row is measured."""
HOLDS_BACK = "What holds it back:"


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What a figure is to reach, and what it might."""

    target: float
    stretch: float | None = None
    better: Literal["higher", "lower"] = "higher"

    def reached_by(self, value: float) -> bool:
        """Whether a value is as good as the target."""
        return value >= self.target if self.better == "higher" else value <= self.target

    def said(self) -> str:
        """In a table.

        >>> Goal(target=1.08, stretch=1.05, better="lower").said()
        '≤ 1.08 (1.05)'
        """
        sign = "≥" if self.better == "higher" else "≤"
        return f"{sign} {self.target:g}" + (f" ({self.stretch:g})" if self.stretch is not None else "")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number of a row.

    Args:
        label: what is compared, beside which peer, at which size.
        value: by processor time, or the count of what is counted and does not vary.
        wall: the same by wall time; None for counts.
        goal: None for what stands beside and is not judged.
        unit: of the value: "x" for a ratio, "s", or nothing for a share.
    """

    label: str
    value: Spread
    wall: Spread | None = None
    goal: Goal | None = None
    unit: Literal["x", "s", ""] = "x"


@dataclass(frozen=True, kw_only=True)
class Times:
    """What one arm took, in seconds, one number a round."""

    cpu_s: list[float] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a row's measurement gave.

    Args:
        figures: the numbers of the table.
        rounds: every time taken, by arm.
        missing: peers that are not installed; their figures are not there.
    """

    figures: tuple[Figure, ...]
    rounds: Mapping[str, Times]
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Row(ABC):
    """One question about speed or memory, and its measurement; the fields are its size.

    What holds a row back is written in its class's docstring, in a last paragraph that begins with those words.

    Args:
        rounds: how often every arm has its turn, after one turn to warm up.
    """

    rounds: int = 7

    number: ClassVar[int]
    """Its place in the table."""
    title: ClassVar[str]
    measures: ClassVar[str]
    """What is timed or counted, on what, and what the ratio is of."""

    def __post_init__(self) -> None:
        check_count("rounds", self.rounds)

    @abstractmethod
    def measure(self, progress: OnProgress) -> Result:
        """Measure; with as many threads as torch has, which the command sets to one."""

    @classmethod
    @abstractmethod
    def quick(cls) -> Self:
        """The same at a size that takes seconds: says that it runs, not how fast it is."""

    @classmethod
    def holds_back(cls) -> str:
        """Why a target is not reached; empty where nobody has said."""
        _, found, text = (inspect.getdoc(cls) or "").partition(HOLDS_BACK)
        return " ".join(text.split()) if found else ""
