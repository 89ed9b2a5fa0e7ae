"""KEEL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from addnorm.checks import check_positive
from addnorm.residual import Connection, Exit, Scheme, Site
from addnorm.schemes.pre_post_norm import PrePostNormConnection


@dataclass(frozen=True, kw_only=True)
class Keel(Scheme):
    """KEEL: Post-LN with a skip so heavy that the norms hardly shrink it, and a norm on what the sublayer reads.

        x <- m(alpha * x + F(n(x))),  alpha = N, the number of sublayers;    hidden = x

    Each norm shrinks the skip by `(1 + 1/alpha^2)^(-1/2)` where stream and update have unit variance; all N together by
    `(1 + 1/N^2)^(-N/2)`, 0.98 at N = 24, where Post-LN has `2^(-N/2)`, 0.0002.

    Reference: Chen and Wei 2026, arXiv:2601.19895.
    Cost: 2d to 4d parameters a sublayer (two norms); residual traffic 5d a token and sublayer.
    Deviation: which norm n and m are in the paper's models, whether they have gains, and whether its first sublayer is
    treated apart, could not be found; here all sublayers are alike, and both are LayerNorms with gain and shift where
    no other `norm` is asked for. Articles that print `LN(alpha * x + (1 - alpha) * F)`
    describe something else.

    Args:
        alpha: factor on the skip; None = the number of sublayers in the stack.
    """

    alpha: float | None = None

    diagram: ClassVar[str] = "fork skip:α box:n sublayer add box:m"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha is not None:
            check_positive("alpha", self.alpha)

    def connection(self, d_model: int, site: Site) -> Connection:
        """Two norms, no other parameter."""
        alpha = float(site.depth) if self.alpha is None else self.alpha
        return PrePostNormConnection(d_model, self.norm, alpha)

    def exit(self, d_model: int) -> Exit:
        """The stream is normalised already."""
        return Exit(d_model, "none")
