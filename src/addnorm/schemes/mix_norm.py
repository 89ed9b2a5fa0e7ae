"""Mix-LN."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from addnorm.checks import check_probability
from addnorm.residual import Connection, Scheme, Site
from addnorm.schemes.by_layer import in_first
from addnorm.schemes.post_norm import PostNorm
from addnorm.schemes.pre_norm import PreNorm


@dataclass(frozen=True, kw_only=True)
class MixNorm(Scheme):
    """Mix-LN: Post-LN in the first layers, Pre-LN in all others.

        x <- n(x + F(x))  in layers l < floor(a * L),    x <- x + F(n(x))  in the others;    hidden = n(x)

    It is `by-layer(first=post-norm, share=0.25, rest=pre-norm)`.

    Reference: Li et al. 2024, arXiv:2412.13795.
    Cost: d to 2d parameters a sublayer (the norm); residual traffic 3d a token and sublayer.

    Args:
        share: a, the share of the layers that are Post-LN; with fewer than 1 / a layers there is none.
    """

    share: float = 0.25

    diagram: ClassVar[str] = "fork box:n sublayer add"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_probability("share", self.share)

    def connection(self, d_model: int, site: Site) -> Connection:
        """That of Post-LN or of Pre-LN."""
        return (PostNorm if in_first(self.share, site) else PreNorm)(norm=self.norm).connection(d_model, site)
