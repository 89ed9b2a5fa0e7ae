"""Which norm is taken of a sum: what the reference and the kernels on either processor are told of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class NormOfSum:
    """Which norm.

    Args:
        eps: added to the variance, or to the mean square.
        centred: the mean is taken out first: LayerNorm; otherwise RMSNorm.
        alpha: a factor of the stream in the sum.
    """

    eps: float
    centred: bool
    alpha: float = 1.0
