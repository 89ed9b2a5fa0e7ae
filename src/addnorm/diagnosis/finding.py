"""What is wrong with a model: cause, place, evidence, remedy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Cause = Literal[
    "non-finite values",
    "dropped skip",
    "mis-scaled skip",
    "doubled skip",
    "unused layer",
    "dead gate",
    "mis-scaled branch",
    "missing norm",
    "doubled norm",
    "non-causal mixing",
    "rank collapse",
    "vanishing gradient",
    "exploding gradient",
    "homogenised streams",
    "frozen streams",
    "transposed mixing",
]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One fault.

    Args:
        cause: its name.
        place: dotted name of the sublayer, or of the trunk where it is nowhere in particular.
        site: the sublayer's number on its trunk; None of a whole trunk.
        evidence: what was seen, with its figures.
        remedy: what to do.
    """

    cause: Cause
    place: str
    site: int | None = None
    evidence: str
    remedy: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.cause} at {self.place}: {self.evidence} {self.remedy}"
