"""Pre-LN with the initialisation of GPT-2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from addnorm.checks import check_positive
from addnorm.residual import Connection, Exit, Scheme, Site
from addnorm.schemes.pre_norm import PreNormConnection


@dataclass(frozen=True, kw_only=True)
class Gpt2Init(Scheme):
    """GPT-2 init: Pre-LN whose output projections start smaller, by the root of the number of sublayers.

        x <- x + F(n(x)),  W_out <- W_out / sqrt(N) at initialisation;    hidden = n(x)

    The N updates then add up to the variance of one. GPT-2 draws all weights with standard deviation 0.02:
    `init="normal"` of the model. It differs from a runtime factor 1 / sqrt(N): the forward is the same, the gradients
    of W_out are not.

    Reference: Radford et al. 2019 (the GPT-2 report); Child et al. 2019, arXiv:1904.10509 (the same factor).
    Cost: as Pre-LN: d to 2d parameters a sublayer (the norm); residual traffic 3d a token and sublayer.

    Args:
        eps: of the norms.
    """

    eps: float = 1e-5

    diagram: ClassVar[str] = "fork box:n sublayer add"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("eps", self.eps)

    def connection(self, d_model: int, site: Site) -> Connection:
        """That of Pre-LN."""
        return PreNormConnection(d_model, self.norm, self.eps)

    def exit(self, d_model: int) -> Exit:
        """The final norm."""
        return Exit(d_model, self.norm, self.eps)

    @torch.no_grad()
    def init_sublayer_(self, value_path: Sequence[nn.Linear], site: Site) -> None:
        """Scale the output projection."""
        value_path[-1].weight.mul_(site.depth**-0.5)
