"""Correlations of scores: of the values, and of their ranks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float


def pearson(one: Float[np.ndarray, "items"], other: Float[np.ndarray, "items"]) -> float:
    """`sum (x - mean x) (y - mean y) / sqrt(sum (x - mean x)^2 sum (y - mean y)^2)`; nan where either is constant.

    >>> round(pearson(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 6.0])), 4)
    0.9449
    """
    x, y = one - one.mean(), other - other.mean()
    size = math.sqrt((x @ x) * (y @ y))
    return float(x @ y / size) if size else math.nan


def spearman(one: Float[np.ndarray, "items"], other: Float[np.ndarray, "items"]) -> float:
    """Pearson's correlation of the ranks; equal values share the mean of their ranks (Spearman 1904).

    >>> spearman(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 6.0]))
    1.0
    """
    return pearson(ranks(one), ranks(other))


def ranks(values: Float[np.ndarray, "items"]) -> Float[np.ndarray, "items"]:
    """From 1 for the lowest.

    >>> ranks(np.array([5.0, 1.0, 5.0])).tolist()
    [2.5, 1.0, 2.5]
    """
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    return (last - (counts - 1) / 2)[place]
