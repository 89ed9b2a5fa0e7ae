"""Static hyper-connections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from addnorm.kernels.precision import wide
from addnorm.kernels.streams import add_update
from addnorm.layers.norm import NormKind, make_norm
from addnorm.residual import Connection, Scheme, Site
from addnorm.schemes._streams import StreamScheme, one_hot_read, read_and_mix

if TYPE_CHECKING:
    from jaxtyping import Float


class StaticHyperConnection(Connection):
    """`A_r^T X + B^T F(n(A_m^T X))`; `static` holds `[A_m | A_r | B]`."""

    def __init__(self, d_model: int, norm: NormKind, streams: int, home: int) -> None:
        super().__init__()
        self.home = home
        self.norm = make_norm(norm, d_model)
        self.static = nn.Parameter(torch.empty(streams, streams + 2))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """One residual stream."""
        self.static.copy_(one_hot_read(len(self.static), self.home))

    def read(self, state: Float[Tensor, "*tokens n d_model"]) -> tuple[Tensor, Tensor]:
        """`n(A_m^T X)`; the skip is `A_r^T X`."""
        coefficients = wide(self.static)[:, :-1]
        read, mixed = read_and_mix(state, coefficients.expand(*state.shape[:-2], *coefficients.shape))
        return self.norm(read), mixed

    def write(self, skip: Tensor, update: Tensor) -> Tensor:
        """`A_r^T X + B^T y`."""
        return add_update(skip, update, wide(self.static)[:, -1])


@dataclass(frozen=True, kw_only=True)
class StaticHyperConnections(StreamScheme):
    """Static HC: n residual streams that every token reads, mixes and writes with the same learned weights.

        X <- A_r^T X + B^T F(n(A_m^T X)),  X in R^{n x d};    hidden = n(sum_i X_i)
        A_m = e_{i mod n},  A_r = I,  B = 1_n  before training

    Reference: Zhu et al. 2024, arXiv:2409.19606 (ICLR 2025), equations 1 to 5 and 14.
    Cost: n^2 + 2n parameters a sublayer beside the norm; residual traffic about 6nd a token and sublayer.
    Deviation: no rescaling of the output projections by sqrt(n); see `hyper-connections`, which has it as a field.
    """

    diagram: ClassVar[str] = "streams:4 fork skip:A_r mix:A_m box:n sublayer scale:B add"

    def connection(self, d_model: int, site: Site) -> Connection:
        """A norm and n^2 + 2n numbers."""
        return StaticHyperConnection(d_model, self.norm, self.streams, site.index % self.streams)

    def starts_as(self) -> Scheme | None:
        """Pre-LN: each sublayer reads one stream, and all streams are equal."""
        return self.pre_norm_of_equal_streams()
