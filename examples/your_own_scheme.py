"""A scheme of your own, in one file outside the package: Pre-LN whose branches have a learned strength.

addnorm certify examples/your_own_scheme.py
addnorm compare --schemes pre-norm,examples/your_own_scheme.py
addnorm train --scheme "examples/your_own_scheme.py(alpha=0.3)" --out runs/scaled
addnorm evaluate runs/scaled --scheme examples/your_own_scheme.py
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

import addnorm
from addnorm.layers.norm import make_norm


class ScaledConnection(addnorm.Connection):
    """One site: n(x) is read, and what the sublayer makes of it is added `alpha` times."""

    def __init__(self, d_model: int, norm: str, alpha: float) -> None:
        super().__init__()
        self.norm, self.start, self.alpha = make_norm(norm, d_model), alpha, nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Where training begins; a model built without memory is filled by it too."""
        nn.init.constant_(self.alpha, self.start)

    def read(self, state: Tensor) -> tuple[Tensor, Tensor]:
        return self.norm(state), state

    def write(self, skip: Tensor, update: Tensor) -> Tensor:
        return skip + self.alpha * update


@dataclass(frozen=True, kw_only=True)
class Scaled(addnorm.Scheme):
    """Scaled Pre-LN: x <- x + alpha * F(n(x)).

    Args:
        alpha: the strength of each branch at the start.
    """

    alpha: float = 0.5

    def connection(self, d_model: int, site: addnorm.Site) -> ScaledConnection:
        return ScaledConnection(d_model, self.norm, self.alpha)


def main() -> str:
    """Every law on it (half a minute), as a test of yours would: see `addnorm.testing`."""
    from addnorm.testing import check_scheme

    check_scheme(Scaled(alpha=0.3))
    text = addnorm.schemes.format(Scaled(alpha=0.3))
    print(f"{text} holds every law")
    return text


if __name__ == "__main__":
    main()
